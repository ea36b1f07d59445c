// In a bridge test without a GPU, a copy of the emulator, in which tests plant faults, takes the
// GPU's place. This file and the copy are compiled with -Demulator=device, so that they can be
// linked with the original emulator.
#include "bridge_emulated.h"

namespace bridge {

std::vector<uint32_t> OnDevice(const Launch& launch, uint32_t seed) {
  return emulator::RunProbe(launch, kDevicePoison, seed);
}

}  // namespace bridge
