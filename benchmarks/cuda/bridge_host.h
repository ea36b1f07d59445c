// The host's half of the bridge test: the input numbers, the results expected from the emulator and
// the PTX manual, and the verdict on a device's results.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace bridge {

// The input numbers of one launch.
struct Launch {
  explicit Launch(std::mt19937_64& random);
  std::vector<float> floats;
  std::vector<uint32_t> words;
  std::vector<int64_t> longs;
};

// Memory for results. Device and emulator use different poison values, so unwritten results differ.
std::vector<uint32_t> Poisoned(uint32_t poison);
constexpr uint32_t kDevicePoison = 0xA5A5A5A5, kEmulatorPoison = 0x5A5A5A5A;

// Throws if the emulator finds a fault.
std::vector<uint32_t> Emulated(const Launch& launch, uint32_t seed);

class Verdict {
 public:
  Verdict();
  void Add(const Launch& launch, const std::vector<uint32_t>& device,
           const std::vector<uint32_t>& emulated);
  // Prints a line for each row to stderr, with the first wrong result.
  bool Report() const;
  std::vector<std::string> Json() const;

 private:
  struct Of {
    double beside_emulator = 0, beside_manual = 0;
    std::string first_wrong;
  };
  std::vector<Of> rows_;  // by name
};

}  // namespace bridge
