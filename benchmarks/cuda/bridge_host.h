// The host's half of the bridge test: numbers, what the emulator makes of them, what the PTX manual
// says, and the verdict on what another machine made of them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace bridge {

// Numbers of one launch.
struct Launch {
  explicit Launch(std::mt19937_64& random);
  std::vector<float> floats;
  std::vector<uint32_t> words;
  std::vector<int64_t> longs;
};

// Room for results. The two sides' poisons differ, so that what neither has written is seen.
std::vector<uint32_t> Poisoned(uint32_t poison);
constexpr uint32_t kDevicePoison = 0xA5A5A5A5, kEmulatorPoison = 0x5A5A5A5A;

// Throws what the emulator calls a fault.
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
