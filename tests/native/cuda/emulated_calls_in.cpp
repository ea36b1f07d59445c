// The variants of one precision, EMULATED_PLANES, for the hidden sizes whose sum is
// EMULATED_HIDDEN, or for all sizes if EMULATED_HIDDEN is 0.
#include "emulated_calls.h"
#include "emulated_queue.h"

#ifndef EMULATED_HIDDEN
#define EMULATED_HIDDEN 0
#endif

namespace emulated {

using Queue = emulator::QueueOf<EMULATED_PLANES, EMULATED_HIDDEN>;

template <>
void ForwardIn<EMULATED_PLANES>(const LstmForward<float>& args, const cuda::Options& options,
                                const emulator::Options& schedule) {
  Queue queue(schedule);
  emulator::Require(cuda::QueueForward(queue, args, options));
}
template <>
void BackwardIn<EMULATED_PLANES>(const LstmBackward<float>& args, const cuda::Options& options,
                                 const emulator::Options& schedule) {
  Queue queue(schedule);
  emulator::Require(cuda::QueueBackward(queue, args, options));
}

}  // namespace emulated
