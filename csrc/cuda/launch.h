// Launches of the kernels, one function each; defined beside the kernel. The error is the launch's.
#pragma once

#include <cuda_runtime.h>

#include "params.h"
#include "train_params.h"

namespace sensorseq::cuda {

// Tasks of warps that need no others: CTAs of this many threads.
constexpr int kTaskThreads = 128;

template <int kPlanes, int kHidden>
cudaError_t LaunchPack(const PackParams& p, int64_t of_models, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchHiddenGrad(const WeightGradParams& p, int64_t of_models, int64_t n_slots,
                             cudaStream_t stream);
template <int kChannels>
cudaError_t LaunchInputGrad(const WeightGradParams& p, int hidden, int64_t of_models,
                            int64_t n_slots, cudaStream_t stream);
cudaError_t LaunchSumSlots(const SumSlotsParams& p, int64_t n, cudaStream_t stream);
cudaError_t LaunchPooledGrad(const HeadGradParams& p, int64_t n, cudaStream_t stream);
cudaError_t LaunchHeadWeightGrad(const HeadGradParams& p, int64_t n_slots, int64_t n,
                                 cudaStream_t stream);

// Of the bodies of train-inl.h.
template <typename Body>
cudaError_t LaunchTrain(const TrainParams& p, cudaStream_t stream);

// Launches `kernel` as clusters of kCtas CTAs. What it may use at most, most_bytes, is set for the
// device, not for the launch: so it must be the same for every launch of the kernel.
template <int kCtas, typename Params>
cudaError_t LaunchClusters(void (*kernel)(Params), const Params& params, int threads,
                           uint32_t shared_bytes, uint32_t most_bytes, cudaStream_t stream) {
  cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(most_bytes));
  if (error == cudaSuccess && kCtas > 8) {
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  }
  if (error != cudaSuccess) return error;
  const Sizes& s = params.sizes;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kCtas;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((s.n_windows + 7) / 8 * kCtas),
                        static_cast<unsigned>(s.n_directions), static_cast<unsigned>(s.n_models));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = kCtas > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, params);
}

}  // namespace sensorseq::cuda
