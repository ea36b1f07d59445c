// What the bridge test needs on a GPU: return codes, memory, facts about the device, and JSON.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#define CHECK(call) measure::Check((call), #call, __FILE__, __LINE__)

namespace measure {

inline void Check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, cudaGetErrorString(status));
  std::exit(1);
}

// Call this after a launch. It checks the launch, waits for the kernel, and checks the kernel.
inline void CheckKernel(const char* name, const char* file, int line) {
  Check(cudaGetLastError(), name, file, line);
  Check(cudaDeviceSynchronize(), name, file, line);
}
#define CHECK_KERNEL(name) measure::CheckKernel(name, __FILE__, __LINE__)

// Device memory that is freed at the end of its scope. It is filled with a pattern that no result
// has.
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t size) : size_(size) {
    CHECK(cudaMalloc(&data_, size * sizeof(T)));
    CHECK(cudaMemset(data_, 0xA5, size * sizeof(T)));
  }
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) {
    CHECK(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

inline std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",\n  ") + part;
  return text;
}

// Chooses the device and describes it; ends the program if there is no suitable GPU.
inline std::string DeviceJson() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    std::fprintf(stderr, "no GPU: %s\n", cudaGetErrorString(status));
    std::exit(4);
  }
  CHECK(cudaSetDevice(0));
  cudaDeviceProp prop;
  CHECK(cudaGetDeviceProperties(&prop, 0));
  if (prop.major != 9 || prop.minor != 0) {
    std::fprintf(stderr, "compute capability 9.0 is needed, this is %d.%d\n", prop.major,
                 prop.minor);
    std::exit(4);
  }
  int driver = 0, runtime = 0, khz = 0;
  CHECK(cudaDriverGetVersion(&driver));
  CHECK(cudaRuntimeGetVersion(&runtime));
  CHECK(cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, 0));
  return std::string("{\"device\": \"") + prop.name +
         "\", \"n_multiprocessors\": " + std::to_string(prop.multiProcessorCount) +
         ", \"highest_clock_mhz\": " + std::to_string(khz / 1000) +
         ", \"driver\": " + std::to_string(driver) + ", \"runtime\": " + std::to_string(runtime) +
         "}";
}

inline uint64_t FreshSeed() {
  std::random_device source;
  return (static_cast<uint64_t>(source()) << 32) | source();
}

inline void Print(const char* name, const std::string& device, uint64_t seed, bool right,
                  const std::vector<std::string>& rows) {
  std::printf(
      "{\"measurement\": \"%s\", \"right\": %s, \"seed\": \"%llu\",\n \"device\": %s,\n"
      " \"rows\": [\n  %s\n ]}\n",
      name, right ? "true" : "false", static_cast<unsigned long long>(seed), device.c_str(),
      Join(rows).c_str());
}

}  // namespace measure
