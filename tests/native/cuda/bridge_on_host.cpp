// The bridge test with the emulator on both sides: bridge_on_host [launches]. Prints the test's
// rows as JSON.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "bridge_host.h"

namespace bridge {
std::vector<uint32_t> OnDevice(const Launch& launch, uint32_t seed);
}

int main(int argc, char** argv) {
  const int n_launches = argc > 1 ? std::atoi(argv[1]) : 2;
  const uint32_t seed = std::random_device{}();
  std::fprintf(stderr, "seed %u\n", seed);
  std::mt19937_64 random(seed);
  bridge::Verdict verdict;
  try {
    for (int i = 0; i < n_launches; ++i) {
      const bridge::Launch launch(random);
      const auto emulated = bridge::Emulated(launch, static_cast<uint32_t>(random()));
      verdict.Add(launch, bridge::OnDevice(launch, static_cast<uint32_t>(random())), emulated);
    }
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "fault: %s\n", fault.what());
    return 2;
  }
  const bool right = verdict.Report();
  std::printf("[");
  const char* separator = "";
  for (const std::string& row : verdict.Json()) {
    std::printf("%s%s", separator, row.c_str());
    separator = ",\n ";
  }
  std::printf("]\n");
  return right ? 0 : 1;
}
