// Kernels with independent warps, for the files that instantiate them: packing, gradients of
// weights, sums, and the parts of a training step other than the layer.
#pragma once

#include "cuda/device_machine.cuh"
#include "cuda/launch.h"
#include "cuda/train.cuh"
#include "cuda/weight_grad.cuh"

namespace sensorseq::cuda {

constexpr int kTaskThreads = 128, kWarps = kTaskThreads / kLanes;

// The minimum number of CTAs on a multiprocessor; 0: left to the compiler.
template <typename Body>
constexpr int kLeastCtas = 0;
// By default, the compiler either uses so many registers that one CTA fewer fits, or spills
// registers so that one CTA more fits.
template <int kPlanes>
constexpr int kLeastCtas<HiddenGrad<kPlanes>> = kPlanes == 1 ? 4 : 3;
template <>
constexpr int kLeastCtas<SumGradients> = 4;
template <>
constexpr int kLeastCtas<MoveParameters> = 8;

template <typename Body>
__global__ void __launch_bounds__(kTaskThreads, kLeastCtas<Body>)
    TaskKernel(const typename Body::Params p) {
  DeviceMachine<1> m;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + m.Warp();
  if (warp < Body::Warps(p)) Body::Run(m, p, warp);
}

template <typename Body>
__global__ void __launch_bounds__(kTaskThreads, kLeastCtas<Body>)
    SlotKernel(const typename Body::Params p) {
  DeviceMachine<1> m;
  const int warp = static_cast<int>(blockIdx.x) * kWarps + m.Warp();
  if (warp < Body::Warps(p.sizes)) Body::Run(m, p, blockIdx.z, blockIdx.y, warp);
}

template <typename Params>
cudaError_t LaunchWarps(void (*kernel)(Params), const Params& p, int64_t n_warps, int64_t n_slots,
                        int64_t of_models, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((n_warps + kWarps - 1) / kWarps),
                  static_cast<unsigned>(n_slots), static_cast<unsigned>(of_models));
  if (n_warps * n_slots * of_models == 0) return cudaSuccess;
  const cudaError_t error = Ready(reinterpret_cast<const void*>(kernel), 1, kTaskThreads, 0);
  if (error != cudaSuccess) return error;
  kernel<<<grid, kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <typename Body>
cudaError_t LaunchTasks(const typename Body::Params& p, cudaStream_t stream) {
  return LaunchWarps(&TaskKernel<Body>, p, Body::Warps(p), 1, 1, stream);
}
template <typename Body>
cudaError_t LaunchSlots(const typename Body::Params& p, cudaStream_t stream) {
#ifdef SENSORSEQ_NO_HOPPER  // a build for other GPUs only
  (void)p, (void)stream;
  return cudaErrorNoKernelImageForDevice;
#else
  const Sizes& s = p.sizes;
  return LaunchWarps(&SlotKernel<Body>, p, Body::Warps(s), Body::Slots(s), Body::Models(s), stream);
#endif
}

}  // namespace sensorseq::cuda
