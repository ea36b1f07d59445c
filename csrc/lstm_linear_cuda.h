// The contract of lstm_linear.h on the GPU, with the same structs, shapes and letters. Every
// pointer in the structs points to memory of the current device; the structs themselves are on the
// host. Only float is supported. Nothing here waits for the device: a call queues kernels on the
// stream and returns, so it can be captured in a CUDA graph. No framework type appears here, and no
// CUDA type either: a stream is passed as its pointer.
//
// Bits: the values of one row are accumulated in an order that depends only on the variant that
// serves H and C; weight gradients are summed in slots determined by N and T, which are then added
// in order. Results therefore repeat bit for bit, and do not depend on the batch, on M, or on the
// division of time into chunks.
//
// If the device finds a value that the host would have refused (a length outside 0..T, a weight
// beyond the range of the products' factors), the row or the model becomes NaN: nothing is read or
// written out of bounds, and no wrong result looks right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lstm_linear.h"
#include "status.h"

namespace sensorseq::cuda {

// The precision of the products with h inside the layer. Everything else, sums included, is float
// in both.
enum class Precision : int32_t {
  kFp16x3 = 0,  // weights and h are sums of two halves, in three products: float's error
  kFp16 = 1,    // each is one half: the error of TF32, 2^-11
};

struct Options {
  Precision precision = Precision::kFp16x3;
  // x is not (Mx, N, T, C) but the input's share of the gates, x W_ih^T + bias, computed by the
  // caller: (M, N, T, D, H, 4), the gates innermost. n_channels is then 0, weight_ih and bias are
  // not read, and grad_x, of the same shape, receives the gradients of the gates; the caller
  // computes the gradients of weight_ih and bias.
  bool is_projected = false;
  void* stream = nullptr;  // a cudaStream_t
};

// The maximum number of channels that a kernel multiplies itself; with more, the caller projects x.
constexpr int64_t kMaxChannels = 16;

// Whether kernels exist for a shape: returns kOk, or the reason why not. A pure function of H, C,
// D, K, the precision and is_projected, with or without a GPU.
Status IsServed(const LstmShape& shape, const Options& options);

// Floats of LstmForward::saved and LstmBackward::saved, in the GPU's own order; 64-byte aligned.
int64_t SavedFloats(const LstmShape& shape, const Options& options);

size_t forward_workspace_bytes(const LstmShape& shape, const Options& options);
size_t backward_workspace_bytes(const LstmShape& shape, const Options& options);

// `parallel` and `packed` are not read; with a head, all of pooled, logits and
// bias_out are needed. hidden may be null.
Status lstm_forward(const LstmForward<float>& args, const Options& options);

// grad_x is written only where is_projected.
Status lstm_backward(const LstmBackward<float>& args, const Options& options);

// CUDA facts of this build and machine; no CUDA call is made before the first call of one of these
// functions.
struct Device {
  int32_t major = 0, minor = 0;  // compute capability
  int32_t n_multiprocessors = 0;
  int32_t driver_version = 0, runtime_version = 0;  // encoded as by cudaDriverGetVersion
};
// The number of devices that the driver shows; 0 without a driver.
int32_t DeviceCount();
// The versions are written even if the device does not exist; the driver's is 0 without a driver.
Status DeviceFacts(int32_t index, Device* device);

// CUDA's error text for this thread's last Status::kCudaError; empty before the first.
const char* ErrorText();

}  // namespace sensorseq::cuda
