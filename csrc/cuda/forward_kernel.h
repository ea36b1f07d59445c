// The forward kernel, for the files that instantiate it.
#pragma once

#include "device_machine.h"
#include "forward-inl.h"
#include "launch.h"
#include "lstm_linear_cuda.h"

namespace sensorseq::cuda {

template <typename V, bool kIsProjected>
__global__ void __launch_bounds__(V::kThreads, 1) ForwardKernel(const ForwardParams p) {
  DeviceMachine<V::kCtas> machine;
  Forward<DeviceMachine<V::kCtas>, V, kIsProjected>(machine, p).Run();
}

template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream) {
  using V = ForwardVariant<kPlanes, kHidden>;
  static_assert(ForwardShared<V>(kMaxChannels, false).total <= kMaxSharedBytes &&
                ForwardShared<V>(0, true).total <= kMaxSharedBytes);
  const ForwardShared<V> shared(p.sizes.n_channels, p.sizes.is_projected);
  const auto kernel = p.sizes.is_projected ? &ForwardKernel<V, true> : &ForwardKernel<V, false>;
  return LaunchClusters<V::kCtas>(kernel, p, V::kThreads, shared.total, stream);
}

}  // namespace sensorseq::cuda
