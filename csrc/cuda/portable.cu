// The portable recurrent kernels, compiled for every architecture of the build.
#include "cuda/launch.h"
#include "cuda/portable_backward.cuh"
#include "cuda/portable_forward.cuh"
#include "cuda/portable_machine.cuh"
#include "lstm/lstm_linear_cuda.h"

namespace sensorseq::cuda {
namespace {

// The number of CTAs that must fit on a multiprocessor, which bounds the registers of a thread.
// With more than 8 channels, the weights of 64 units fit only into the registers of one CTA.
template <typename V, int kBlocks>
constexpr int kLeastCtas = V::kHidden == 32                   ? 4
                           : V::kHidden == 64 && kBlocks <= 2 ? 2
                                                              : 1;

template <typename V, int kBlocks, bool kSaves>
__global__ void __launch_bounds__(V::kThreads, (kLeastCtas<V, kBlocks>))
    PortableForwardKernel(const PortableParams p) {
  PortableMachine machine;
  PortableForward<PortableMachine, V, kBlocks, kSaves>(machine, p).Run();
}

template <typename V, bool kHasSequences>
__global__ void __launch_bounds__(V::kThreads, (kLeastCtas<V, 0>))
    PortableBackwardKernel(const BackwardParams p) {
  PortableMachine machine;
  PortableBackward<PortableMachine, V, kHasSequences>(machine, p).Run();
}

template <typename V, typename Params>
cudaError_t Launch(void (*kernel)(Params), const Params& p, uint32_t shared_bytes,
                   cudaStream_t stream) {
  const cudaError_t error = Ready(reinterpret_cast<const void*>(kernel), 1, V::kThreads, 0);
  if (error != cudaSuccess) return error;
  const Sizes& s = p.sizes;
  const dim3 grid(static_cast<unsigned>(s.n_windows), static_cast<unsigned>(s.n_directions),
                  static_cast<unsigned>(s.n_models));
  kernel<<<grid, V::kThreads, shared_bytes, stream>>>(p);
  return cudaGetLastError();
}

template <typename V, int kBlocks>
cudaError_t LaunchBlocks(const PortableParams& p, cudaStream_t stream) {
  const auto kernel = p.saved == nullptr ? &PortableForwardKernel<V, kBlocks, false>
                                         : &PortableForwardKernel<V, kBlocks, true>;
  return Launch<V>(kernel, p, PortableShared<V, kBlocks>::kTotal, stream);
}

}  // namespace

template <int kHidden>
cudaError_t LaunchPortable(const PortableParams& p, cudaStream_t stream) {
  using V = PortableVariant<kHidden>;
  if (p.sizes.is_projected) return LaunchBlocks<V, 0>(p, stream);
  if (p.sizes.n_channels <= 4) return LaunchBlocks<V, 1>(p, stream);
  if (p.sizes.n_channels <= 8) return LaunchBlocks<V, 2>(p, stream);
  static_assert(kMaxChannels == 16);
  return LaunchBlocks<V, 4>(p, stream);
}

template <int kHidden>
cudaError_t LaunchPortable(const BackwardParams& p, cudaStream_t stream) {
  using V = PortableVariant<kHidden>;
  const auto kernel =
      HasSequences(p) ? &PortableBackwardKernel<V, true> : &PortableBackwardKernel<V, false>;
  return Launch<V>(kernel, p, PortableBackwardShared<V>::kTotal, stream);
}

template cudaError_t LaunchPortable<32>(const PortableParams&, cudaStream_t);
template cudaError_t LaunchPortable<64>(const PortableParams&, cudaStream_t);
template cudaError_t LaunchPortable<96>(const PortableParams&, cudaStream_t);
template cudaError_t LaunchPortable<32>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchPortable<64>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchPortable<96>(const BackwardParams&, cudaStream_t);

}  // namespace sensorseq::cuda
