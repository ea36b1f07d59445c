// The portable kernels, compiled for every architecture of the build.
#include "launch.h"
#include "lstm_linear_cuda.h"
#include "portable_forward.cuh"
#include "portable_machine.cuh"

namespace sensorseq::cuda {
namespace {

// The number of CTAs that must fit on a multiprocessor, which bounds the registers of a thread.
// With more than 8 channels, the weights of 64 units fit only into the registers of one CTA.
template <typename V, int kBlocks>
constexpr int kLeastCtas = V::kHidden == 32                   ? 4
                           : V::kHidden == 64 && kBlocks <= 2 ? 2
                                                              : 1;

template <typename V, int kBlocks>
__global__ void __launch_bounds__(V::kThreads, (kLeastCtas<V, kBlocks>))
    PortableForwardKernel(const PortableParams p) {
  PortableMachine machine;
  PortableForward<PortableMachine, V, kBlocks>(machine, p).Run();
}

template <typename V, int kBlocks>
cudaError_t Launch(const PortableParams& p, cudaStream_t stream) {
  const auto kernel = &PortableForwardKernel<V, kBlocks>;
  constexpr uint32_t kBytes = PortableShared<V, kBlocks>::kTotal;
  const cudaError_t error = Ready(reinterpret_cast<const void*>(kernel), 1, V::kThreads, 0);
  if (error != cudaSuccess) return error;
  const Sizes& s = p.sizes;
  const dim3 grid(static_cast<unsigned>(s.n_windows), static_cast<unsigned>(s.n_directions),
                  static_cast<unsigned>(s.n_models));
  kernel<<<grid, V::kThreads, kBytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

template <int kHidden>
cudaError_t LaunchPortable(const PortableParams& p, cudaStream_t stream) {
  using V = PortableVariant<kHidden>;
  if (p.sizes.is_projected) return Launch<V, 0>(p, stream);
  if (p.sizes.n_channels <= 4) return Launch<V, 1>(p, stream);
  if (p.sizes.n_channels <= 8) return Launch<V, 2>(p, stream);
  static_assert(kMaxChannels == 16);
  return Launch<V, 4>(p, stream);
}

template cudaError_t LaunchPortable<32>(const PortableParams&, cudaStream_t);
template cudaError_t LaunchPortable<64>(const PortableParams&, cudaStream_t);
template cudaError_t LaunchPortable<96>(const PortableParams&, cudaStream_t);

}  // namespace sensorseq::cuda
