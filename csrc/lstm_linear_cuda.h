// The contract of lstm_linear.h on the GPU. The same structs, shapes and letters; every pointer in
// them is to device memory of the device that is current, but for the structs themselves. float
// only. Nothing here waits for the device: a call queues kernels on the stream and returns, so that
// it can be captured in a CUDA graph. No framework type appears here, and no CUDA type either: a
// stream is its pointer.
//
// Bits: what belongs to one row is accumulated in an order that depends on nothing but the variant
// that serves H and C; weight gradients in slots decided by N and T, then in slot order. So the
// same bits twice, whatever the batch, M, and the chunking in time.
//
// Where the device finds what the host would have refused (a length outside 0..T, a weight beyond
// the range of the products' factors), the row or the model becomes NaN: nothing is read or written
// out of bounds, and nothing wrong looks right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lstm_linear.h"
#include "status.h"

namespace sensorseq::cuda {

// What multiplies h inside the layer. All else, sums included, is float in both.
enum class Precision : int32_t {
  kFp16x3 = 0,  // weights and h each as the sum of two halves, three products: the error of float
  kFp16 = 1,    // each as one half: the error of TF32, 2^-11
};

struct Options {
  Precision precision = Precision::kFp16x3;
  // x is not (Mx, N, T, C) but what the input sends into the gates, x W_ih^T + bias, computed by
  // the caller: (M, N, T, D, H, 4), the gates innermost. n_channels is 0 then, weight_ih and bias
  // are not read, and grad_x, of the same shape, gets the gradients of the gates; the gradients of
  // weight_ih and bias are the caller's.
  bool is_projected = false;
  void* stream = nullptr;  // a cudaStream_t
};

// The most channels a kernel multiplies itself; with more, the caller projects.
constexpr int64_t kMaxChannels = 16;

// Whether kernels exist for a shape; kOk, or why not. Pure: the same wherever it is asked, with or
// without a GPU. It looks at H, C, D, K, the precision and whether x is projected.
Status IsServed(const LstmShape& shape, const Options& options);

// Floats of LstmForward::saved and LstmBackward::saved, in an order of its own; 64-byte aligned.
int64_t SavedFloats(const LstmShape& shape, const Options& options);

size_t forward_workspace_bytes(const LstmShape& shape, const Options& options);
size_t backward_workspace_bytes(const LstmShape& shape, const Options& options);

// `parallel` and `packed` are not read; with a head, all of pooled, logits and
// bias_out are needed. hidden may be null.
Status lstm_forward(const LstmForward<float>& args, const Options& options);

// grad_x is written only where is_projected.
Status lstm_backward(const LstmBackward<float>& args, const Options& options);

// What this build and this machine have; no CUDA call is made before one of these.
struct Device {
  int32_t major = 0, minor = 0;  // compute capability
  int32_t n_multiprocessors = 0;
  int32_t driver_version = 0, runtime_version = 0;  // as cudaDriverGetVersion writes them
};
// How many devices the driver shows; 0 without a driver.
int32_t DeviceCount();
// The versions are written even where there is no such device; the driver's is 0 without one.
Status DeviceFacts(int32_t index, Device* device);

// What CUDA said when this thread last got Status::kCudaError; empty before.
const char* ErrorText();

}  // namespace sensorseq::cuda
