// The kernels whose warps need no others: packing, gradients of weights, sums.
#include "device_machine.h"
#include "head_grad-inl.h"
#include "launch.h"
#include "pack-inl.h"
#include "weight_grad-inl.h"

namespace sensorseq::cuda {
namespace {

using Machine = DeviceMachine<1>;
constexpr int kWarps = kTaskThreads / kLanes;

__device__ __forceinline__ int64_t WarpOfGrid() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + Machine::Warp();
}

unsigned Blocks(int64_t n_warps) { return static_cast<unsigned>((n_warps + kWarps - 1) / kWarps); }
unsigned BlocksOfElements(int64_t n) { return Blocks((n + kLanes - 1) / kLanes); }

template <int kPlanes, int kHidden>
__global__ void __launch_bounds__(kTaskThreads) PackKernel(const PackParams p) {
  Machine m;
  Pack<Machine, kPlanes, kHidden>(m, p).Run(blockIdx.y, WarpOfGrid());
}

template <int kPlanes, int kHidden>
// 3 CTAs of a multiprocessor: left alone, the compiler spills to fit 4
__global__ void __launch_bounds__(kTaskThreads, 3) HiddenGradKernel(const WeightGradParams p) {
  using Grad = HiddenGrad<Machine, kPlanes, kHidden>;
  Machine m;
  const auto task = static_cast<int>(WarpOfGrid());
  // warps of a CTA take rows of one block of columns, which they all read
  Grad(m, p).Run(blockIdx.z, blockIdx.y, task % Grad::kGroups, task / Grad::kGroups);
}

template <int kChannels>
__global__ void __launch_bounds__(kTaskThreads)
    InputGradKernel(const WeightGradParams p, int hidden) {
  Machine m;
  InputGrad<Machine, kChannels>(m, p, hidden)
      .Run(blockIdx.z, blockIdx.y, static_cast<int>(WarpOfGrid()));
}

__global__ void __launch_bounds__(kTaskThreads) SumSlotsKernel(const SumSlotsParams p) {
  Machine m;
  SumSlots(m, p, WarpOfGrid() * kLanes);
}

__global__ void __launch_bounds__(kTaskThreads) PooledGradKernel(const HeadGradParams p) {
  Machine m;
  PooledGrad(m, p, WarpOfGrid() * kLanes);
}

__global__ void __launch_bounds__(kTaskThreads) HeadWeightGradKernel(const HeadGradParams p) {
  Machine m;
  HeadWeightGrad(m, p, blockIdx.y, WarpOfGrid() * kLanes);
}

}  // namespace

template <int kPlanes, int kHidden>
cudaError_t LaunchPack(const PackParams& p, int64_t of_models, cudaStream_t stream) {
  const dim3 grid(Blocks(Pack<Machine, kPlanes, kHidden>::kTasks),
                  static_cast<unsigned>(of_models));
  PackKernel<kPlanes, kHidden><<<grid, kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <int kPlanes, int kHidden>
cudaError_t LaunchHiddenGrad(const WeightGradParams& p, int64_t of_models, int64_t n_slots,
                             cudaStream_t stream) {
  using Grad = HiddenGrad<Machine, kPlanes, kHidden>;
  static_assert(Grad::kGroups * Grad::kColumnBlocks % kWarps == 0, "no warp without a task");
  const dim3 grid(Blocks(Grad::kGroups * Grad::kColumnBlocks), static_cast<unsigned>(n_slots),
                  static_cast<unsigned>(of_models));
  HiddenGradKernel<kPlanes, kHidden><<<grid, kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template <int kChannels>
cudaError_t LaunchInputGrad(const WeightGradParams& p, int hidden, int64_t of_models,
                            int64_t n_slots, cudaStream_t stream) {
  const dim3 grid(Blocks(hidden / kGroupUnits), static_cast<unsigned>(n_slots),
                  static_cast<unsigned>(of_models));
  InputGradKernel<kChannels><<<grid, kTaskThreads, 0, stream>>>(p, hidden);
  return cudaGetLastError();
}

cudaError_t LaunchSumSlots(const SumSlotsParams& p, int64_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  SumSlotsKernel<<<BlocksOfElements(n), kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t LaunchPooledGrad(const HeadGradParams& p, int64_t n, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  PooledGradKernel<<<BlocksOfElements(n), kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t LaunchHeadWeightGrad(const HeadGradParams& p, int64_t n_slots, int64_t n,
                                 cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  const dim3 grid(BlocksOfElements(n), static_cast<unsigned>(n_slots));
  HeadWeightGradKernel<<<grid, kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

#define SENSORSEQ_VARIANT(planes, hidden)                                                          \
  template cudaError_t LaunchPack<planes, hidden>(const PackParams&, int64_t, cudaStream_t);       \
  template cudaError_t LaunchHiddenGrad<planes, hidden>(const WeightGradParams&, int64_t, int64_t, \
                                                        cudaStream_t);
SENSORSEQ_VARIANT(1, 32)
SENSORSEQ_VARIANT(1, 64)
SENSORSEQ_VARIANT(1, 128)
SENSORSEQ_VARIANT(1, 256)
SENSORSEQ_VARIANT(1, 512)
SENSORSEQ_VARIANT(2, 32)
SENSORSEQ_VARIANT(2, 64)
SENSORSEQ_VARIANT(2, 128)
SENSORSEQ_VARIANT(2, 256)
#undef SENSORSEQ_VARIANT

template cudaError_t LaunchInputGrad<1>(const WeightGradParams&, int, int64_t, int64_t,
                                        cudaStream_t);
template cudaError_t LaunchInputGrad<4>(const WeightGradParams&, int, int64_t, int64_t,
                                        cudaStream_t);
template cudaError_t LaunchInputGrad<8>(const WeightGradParams&, int, int64_t, int64_t,
                                        cudaStream_t);
template cudaError_t LaunchInputGrad<16>(const WeightGradParams&, int, int64_t, int64_t,
                                         cudaStream_t);

}  // namespace sensorseq::cuda
