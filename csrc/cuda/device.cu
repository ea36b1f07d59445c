// Describes this machine's GPUs and their errors, and prepares kernels for a device.
#include <cuda_runtime.h>

#include <mutex>
#include <vector>

#include "cuda/launch.h"
#include "lstm/lstm_linear_cuda.h"

namespace sensorseq::cuda {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

struct Readied {
  int device;
  const void* kernel;
  // cudaSuccess or cudaErrorInvalidClusterSize. Other errors are not stored, because they may be
  // temporary.
  cudaError_t error;
};

cudaError_t Load(const void* kernel, int n_ctas, int threads, uint32_t shared_bytes) {
  cudaFuncAttributes loaded;
  cudaError_t error = cudaFuncGetAttributes(&loaded, kernel);
  if (error != cudaSuccess || shared_bytes == 0) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes));
  if (error != cudaSuccess || n_ctas == 1) return error;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(n_ctas), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(n_ctas));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.attrs = &cluster;
  config.numAttrs = 1;
  int n_clusters = 0;
  error = cudaOccupancyMaxActiveClusters(&n_clusters, kernel, &config);
  if (error != cudaSuccess) return error;
  return n_clusters > 0 ? cudaSuccess : cudaErrorInvalidClusterSize;
}

}  // namespace

cudaError_t Ready(const void* kernel, int n_ctas, int threads, uint32_t shared_bytes) {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  // These objects are never destroyed, because a thread may outlive static objects.
  static std::mutex& mutex = *new std::mutex;
  static std::vector<Readied>& readied = *new std::vector<Readied>;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Readied& known : readied) {
    if (known.device == device && known.kernel == kernel) return known.error;
  }
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  error = cudaThreadExchangeStreamCaptureMode(&mode);
  if (error != cudaSuccess) return error;
  error = Load(kernel, n_ctas, threads, shared_bytes);
  const cudaError_t restored = cudaThreadExchangeStreamCaptureMode(&mode);
  if (error == cudaSuccess) error = restored;
  if (error == cudaSuccess || error == cudaErrorInvalidClusterSize) {
    readied.push_back({device, kernel, error});
  }
  return error;
}

Status ToStatus(cudaError_t code) {
  if (code == cudaSuccess) return Status::kOk;
  (void)cudaGetLastError();  // otherwise the next launch would report the error again
  last_error = code;
  return code == cudaErrorInvalidClusterSize ? Status::kNoCluster : Status::kCudaError;
}

const char* ErrorText() { return last_error == cudaSuccess ? "" : cudaGetErrorString(last_error); }

int32_t DeviceCount() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // a missing or outdated driver must not make a later call fail
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
