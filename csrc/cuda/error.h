// From CUDA's error codes to the contract's status.
#pragma once

#include <cuda_runtime_api.h>

#include "status.h"

namespace sensorseq::cuda {

// kOk for cudaSuccess; else kCudaError, and ErrorText says for this thread what the code means.
// After a launch: ToStatus(cudaGetLastError()).
Status ToStatus(cudaError_t code);

}  // namespace sensorseq::cuda
