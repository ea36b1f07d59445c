// Launches the kernels and handles their errors.
#pragma once

#include <cuda_runtime.h>

#include "base/status.h"
#include "cuda/params.h"

namespace sensorseq::cuda {

// Returns kOk for cudaSuccess, kNoCluster if Ready found that no cluster fits, and otherwise
// kCudaError. After kCudaError, ErrorText describes the error on this thread.
Status ToStatus(cudaError_t code);

template <int kHidden>
cudaError_t LaunchPortable(const PortableParams& p, cudaStream_t stream);
template <int kHidden>
cudaError_t LaunchPortable(const BackwardParams& p, cudaStream_t stream);
// Body::Warps(p) is the number of warps, and Body::Run is the work of one warp.
template <typename Body>
cudaError_t LaunchTasks(const typename Body::Params& p, cudaStream_t stream);
// Like LaunchTasks, but each slot of each model, or of each direction of a model, has
// Body::Warps(sizes) warps. Body::Slots(sizes) is the number of slots, and Body::Models(sizes) is
// the number of models, or of directions of all models.
template <typename Body>
cudaError_t LaunchSlots(const typename Body::Params& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream);

// Prepares a kernel for the current device before its first launch there: loads it, allows it
// `shared_bytes` of shared memory, and checks that a cluster of n_ctas CTAs fits. If the cluster
// does not fit, returns cudaErrorInvalidClusterSize and leaves no CUDA error pending.
//
// CUDA loads a kernel when it is first used. During a stream's capture, the first use may be a
// launch, which must not load the kernel. Ready therefore loads the kernel, with the thread's
// capture mode relaxed as in torch's allocator.
cudaError_t Ready(const void* kernel, int n_ctas, int threads, uint32_t shared_bytes);

}  // namespace sensorseq::cuda
