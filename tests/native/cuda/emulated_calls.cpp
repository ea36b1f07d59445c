#include "emulated_calls.h"

#include "cuda/calls.h"

namespace emulated {

size_t ForwardBytes(const LstmShape& shape, const cuda::Options& options) {
  cuda::ForwardSpace space;
  return cuda::CarveForward(shape, options, nullptr, &space);
}
size_t BackwardBytes(const LstmShape& shape, const cuda::Options& options) {
  cuda::BackwardSpace space;
  return cuda::CarveBackward(shape, options, nullptr, &space);
}
int64_t SavedFloats(const LstmShape& shape, const cuda::Options& options) {
  return cuda::SavedFloatsOf(shape, options);
}

void Forward(const LstmForward<float>& args, const cuda::Options& options,
             const emulator::Options& schedule) {
  (cuda::IsPortable(options)    ? ForwardPortable<float>
   : cuda::Planes(options) == 1 ? ForwardIn<1>
                                : ForwardIn<2>)(args, options, schedule);
}
void Backward(const LstmBackward<float>& args, const cuda::Options& options,
              const emulator::Options& schedule) {
  (cuda::IsPortable(options)    ? BackwardPortable
   : cuda::Planes(options) == 1 ? BackwardIn<1>
                                : BackwardIn<2>)(args, options, schedule);
}

}  // namespace emulated
