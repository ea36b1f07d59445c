// The portable kernels, for arrays of every type.
#include "emulated_calls.h"
#include "emulated_queue.h"

namespace emulated {

template <typename Real>
void ForwardPortable(const LstmForward<Real>& args, const cuda::Options& options,
                     const emulator::Options& schedule) {
  emulator::Queue queue(schedule);
  cuda::QueuePortable(queue, args, options);
}
template void ForwardPortable(const LstmForward<float>&, const cuda::Options&,
                              const emulator::Options&);
template void ForwardPortable(const LstmForward<cuda::Float16>&, const cuda::Options&,
                              const emulator::Options&);
template void ForwardPortable(const LstmForward<cuda::Bfloat16>&, const cuda::Options&,
                              const emulator::Options&);

}  // namespace emulated
