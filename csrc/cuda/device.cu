// What this machine has, and what went wrong on it.
#include <cuda_runtime_api.h>

#include "cuda/error.h"
#include "lstm_linear_cuda.h"

namespace sensorseq::cuda {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

Status ToStatus(cudaError_t code) {
  if (code == cudaSuccess) return Status::kOk;
  (void)cudaGetLastError();  // or the next launch would report it again
  last_error = code;
  return Status::kCudaError;
}

const char* ErrorText() { return last_error == cudaSuccess ? "" : cudaGetErrorString(last_error); }

int32_t DeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver, or one too old, is no error of a later call
  return 0;
}

Status DeviceFacts(int32_t index, Device* device) {
  const auto Attribute = [index](int32_t* value, cudaDeviceAttr attribute) {
    return cudaDeviceGetAttribute(value, attribute, index);
  };
  const cudaError_t codes[] = {
      cudaRuntimeGetVersion(&device->runtime_version),
      cudaDriverGetVersion(&device->driver_version),
      Attribute(&device->major, cudaDevAttrComputeCapabilityMajor),
      Attribute(&device->minor, cudaDevAttrComputeCapabilityMinor),
      Attribute(&device->n_multiprocessors, cudaDevAttrMultiProcessorCount),
  };
  for (const cudaError_t code : codes) {
    if (code == cudaSuccess) continue;
    cudaGetLastError();
    return ToStatus(code);
  }
  return Status::kOk;
}

}  // namespace sensorseq::cuda
