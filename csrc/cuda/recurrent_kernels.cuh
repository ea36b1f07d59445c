// The recurrent kernels, for the files that instantiate them.
#pragma once

#include "cuda/backward.cuh"
#include "cuda/device_machine.cuh"
#include "cuda/forward.cuh"
#include "cuda/launch.h"
#include "lstm/lstm_linear_cuda.h"

namespace sensorseq::cuda {

#ifdef SENSORSEQ_NO_HOPPER  // a build for other GPUs only

template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams&, cudaStream_t) {
  return cudaErrorNoKernelImageForDevice;
}
template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams&, cudaStream_t) {
  return cudaErrorNoKernelImageForDevice;
}

#else

template <typename V, bool kIsProjected>
__global__ void __launch_bounds__(V::kThreads, 1) ForwardKernel(const ForwardParams p) {
  DeviceMachine<V::kCtas> machine;
  Forward<DeviceMachine<V::kCtas>, V, kIsProjected>(machine, p).Run();
}

template <typename V, bool kHasSequences>
__global__ void __launch_bounds__(V::kThreads, 1) BackwardKernel(const BackwardParams p) {
  DeviceMachine<V::kCtas> machine;
  Backward<DeviceMachine<V::kCtas>, V, kHasSequences>(machine, p).Run();
}

// Launches a cluster for each tile, direction and model. A kernel's shared-memory limit,
// most_bytes, is set for the device, not for the launch, so it must be the same for every launch.
template <typename V, typename Params>
cudaError_t LaunchClusters(void (*kernel)(Params), const Params& params, uint32_t shared_bytes,
                           uint32_t most_bytes, cudaStream_t stream) {
  const cudaError_t error =
      Ready(reinterpret_cast<const void*>(kernel), V::kCtas, V::kThreads, most_bytes);
  if (error != cudaSuccess) return error;
  const Sizes& s = params.sizes;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {V::kCtas, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(TileCount(s.n_windows) * V::kCtas),
                        static_cast<unsigned>(s.n_directions), static_cast<unsigned>(s.n_models));
  config.blockDim = dim3(V::kThreads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = V::kCtas > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream) {
  using V = ForwardVariant<kPlanes, kHidden>;
  constexpr uint32_t kOwn = ForwardShared<V>(kMaxChannels, false).total;
  constexpr uint32_t kProjected = ForwardShared<V>(0, true).total;
  constexpr uint32_t kMost = kOwn > kProjected ? kOwn : kProjected;
  static_assert(kMost <= kMaxSharedBytes);
  const ForwardShared<V> shared(p.sizes.n_channels, p.sizes.is_projected);
  const auto kernel = p.sizes.is_projected ? &ForwardKernel<V, true> : &ForwardKernel<V, false>;
  return LaunchClusters<V>(kernel, p, shared.total, kMost, stream);
}

template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream) {
  using V = BackwardVariant<kPlanes, kHidden>;
  constexpr uint32_t kBytes = BackwardShared<V>().total;
  static_assert(kBytes <= kMaxSharedBytes);
  const auto kernel = HasSequences(p) ? &BackwardKernel<V, true> : &BackwardKernel<V, false>;
  return LaunchClusters<V>(kernel, p, kBytes, kBytes, stream);
}

#endif

}  // namespace sensorseq::cuda
