// Launches of the kernels, and what becomes of their errors.
#pragma once

#include <cuda_runtime.h>

#include "params.h"
#include "status.h"

namespace sensorseq::cuda {

// kOk for cudaSuccess; kNoCluster where Ready found none; else kCudaError, and ErrorText says for
// this thread what the code means.
Status ToStatus(cudaError_t code);

template <int kPlanes, int kHidden>
cudaError_t LaunchForward(const ForwardParams& p, cudaStream_t stream);
template <int kPlanes, int kHidden>
cudaError_t LaunchBackward(const BackwardParams& p, cudaStream_t stream);

// Readies a kernel for the current device, before its first launch there: loads it, allows it
// `shared_bytes` of shared memory, and asks whether a cluster of so many CTAs fits; if not, the
// error is cudaErrorInvalidClusterSize, and no error of CUDA's.
//
// CUDA loads a kernel when it is first used. Inside a stream's capture that first use may be a
// launch, to which the loading is a forbidden call; so it is done here, where the thread may call
// what it likes, as torch's allocator does.
cudaError_t Ready(const void* kernel, int n_ctas, int threads, uint32_t shared_bytes);

}  // namespace sensorseq::cuda
