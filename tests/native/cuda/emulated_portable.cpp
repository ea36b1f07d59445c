// The portable kernels, for arrays of every type.
#include "emulated_calls.h"
#include "emulated_queue.h"

namespace emulated {

using Queue = emulator::QueueOf<emulator::kPortable>;

template <typename Real>
void ForwardPortable(const LstmForward<Real>& args, const cuda::Options& options,
                     const emulator::Options& schedule) {
  Queue queue(schedule);
  emulator::Require(cuda::QueueForward(queue, args, options));
}
template void ForwardPortable(const LstmForward<float>&, const cuda::Options&,
                              const emulator::Options&);
template void ForwardPortable(const LstmForward<cuda::Float16>&, const cuda::Options&,
                              const emulator::Options&);
template void ForwardPortable(const LstmForward<cuda::Bfloat16>&, const cuda::Options&,
                              const emulator::Options&);

void BackwardPortable(const LstmBackward<float>& args, const cuda::Options& options,
                      const emulator::Options& schedule) {
  Queue queue(schedule);
  emulator::Require(cuda::QueueBackward(queue, args, options));
}

}  // namespace emulated
