// Replaces the GPU in a bridge test without a GPU: the emulator again, as a copy in which tests
// plant faults. Compiled with -Demulator=device, like that copy, so that it can be linked with the
// true emulator.
#include "bridge_emulated.h"

namespace bridge {

std::vector<uint32_t> OnDevice(const Launch& launch, uint32_t seed) {
  return emulator::RunProbe(launch, kDevicePoison, seed);
}

}  // namespace bridge
