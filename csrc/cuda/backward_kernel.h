// The backward kernel, for the files that instantiate it.
#pragma once

#include "backward-inl.h"
#include "device_machine.h"
#include "launch.h"

namespace sensorseq::cuda {

template <typename V, bool kHasSequences>
__global__ void __launch_bounds__(V::kThreads, 1) BackwardKernel(const BackwardParams p) {
  DeviceMachine<V::kCtas> machine;
  Backward<DeviceMachine<V::kCtas>, V, kHasSequences>(machine, p).Run();
}

template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream) {
  using V = BackwardVariant<kPlanes, kHidden>;
  static_assert(BackwardShared<V>().total <= kMaxSharedBytes);
  const auto kernel = HasSequences(p) ? &BackwardKernel<V, true> : &BackwardKernel<V, false>;
  return LaunchClusters<V::kCtas>(kernel, p, V::kThreads, BackwardShared<V>().total, stream);
}

}  // namespace sensorseq::cuda
