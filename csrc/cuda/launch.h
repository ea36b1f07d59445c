// Launches of the kernels, and the handling of their errors.
#pragma once

#include <cuda_runtime.h>

#include "params.h"
#include "status.h"

namespace sensorseq::cuda {

// kOk for cudaSuccess; kNoCluster if Ready found that no cluster fits; otherwise kCudaError, and
// ErrorText describes the code for this thread.
Status ToStatus(cudaError_t code);

template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream);

// Prepares a kernel for the current device before its first launch there: loads it, allows it
// `shared_bytes` of shared memory, and checks that a cluster of n_ctas CTAs fits; if not, it
// returns cudaErrorInvalidClusterSize and leaves no CUDA error pending.
//
// CUDA loads a kernel when it is first used. During a stream's capture, the first use may be a
// launch, in which loading is forbidden; so it is done here, with the thread's capture mode
// relaxed, as in torch's allocator.
cudaError_t Ready(const void* kernel, int n_ctas, int threads, uint32_t shared_bytes);

}  // namespace sensorseq::cuda
