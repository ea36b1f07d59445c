// In place of the GPU, for a bridge test without one: the emulator again, of which tests plant
// faults in a copy. Compiled with -Demulator=device, as that copy is, to stand beside the true one.
#include "bridge_emulated.h"

namespace bridge {

std::vector<uint32_t> OnDevice(const Launch& launch, uint32_t seed) {
  return emulator::RunProbe(launch, kDevicePoison, seed);
}

}  // namespace bridge
