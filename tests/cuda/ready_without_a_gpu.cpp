// Runs csrc/cuda/device.cu over a fake CUDA runtime, to test the calls before a kernel's first
// launch on a device, and the error on a GPU that is too small.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/launch.h"
#include "lstm/lstm_linear_cuda.h"

namespace {

int device = 0, n_loaded = 0, n_asked = 0, n_clusters = 3;
unsigned asked_ctas = 0;
cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
cudaError_t failure = cudaSuccess;

void Demand(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* index) { return *index = device, cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* other) {
  std::swap(mode, *other);
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) {
  Demand(mode == cudaStreamCaptureModeRelaxed, "a kernel is loaded where a capture forbids it");
  ++n_loaded;
  return failure;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveClusters(int* n, const void*, const cudaLaunchConfig_t* config) {
  ++n_asked;
  asked_ctas = config->attrs->val.clusterDim.x;
  *n = n_clusters;
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "a text of CUDA's"; }
cudaError_t cudaGetDeviceCount(int*) { return cudaErrorNoDevice; }
cudaError_t cudaRuntimeGetVersion(int*) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int*) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int) { return cudaSuccess; }
}

int main() {
  using namespace sensorseq;
  using cuda::Ready;
  const char kernels[5] = {};
  Demand(Ready(kernels, 8, 128, 100000) == cudaSuccess, "a cluster that fits");
  Demand(n_loaded == 1 && n_asked == 1 && asked_ctas == 8, "its questions");
  Demand(mode == cudaStreamCaptureModeGlobal, "the thread's mode comes back");
  Demand(Ready(kernels, 8, 128, 100000) == cudaSuccess && n_loaded == 1, "loaded once per device");
  device = 1;
  n_clusters = 0;
  for (int times = 0; times < 2; ++times) {
    const Status status = cuda::ToStatus(Ready(kernels, 8, 128, 100000));
    Demand(status == Status::kNoCluster, "a device that is too small");
    Demand(std::strstr(StatusText(status), "cannot run clusters of as many blocks"), "its words");
  }
  Demand(n_loaded == 2 && n_asked == 2, "the device is queried once");
  Demand(Ready(kernels + 1, 1, 128, 0) == cudaSuccess && n_asked == 2, "no cluster, no query");
  failure = cudaErrorMemoryAllocation;
  Demand(cuda::ToStatus(Ready(kernels + 2, 1, 128, 0)) == Status::kCudaError, "another error");
  Demand(mode == cudaStreamCaptureModeGlobal, "the mode comes back after an error, too");
  failure = cudaSuccess;
  Demand(Ready(kernels + 2, 1, 128, 0) == cudaSuccess, "an error that has passed");
  std::printf("all passed\n");
}
