// The interface of lstm_linear.h for GPUs, with the same structs, shapes and letters. Every pointer
// in the structs points to memory of the current device; the structs themselves are on the host.
// Real is float, and in the forward pass of Precision::kFp32 also Float16 or Bfloat16, with `saved`
// null. Nothing here waits for the device: a call queues kernels on the stream and returns, so it
// can be captured in a CUDA graph. Neither framework types nor CUDA types appear here; a stream is
// passed as a void pointer.
//
// Bits: the values of one row are accumulated in an order that depends only on the kernel variant
// for H, C and the precision. Weight gradients are summed in slots determined by N and T, and the
// slots are then added in order. All results are therefore exactly reproducible, and the values of
// one row do not depend on the batch, on M, or on the division of time into chunks.
//
// A value is invalid if it is a length outside 0..T or a weight beyond the range of the products'
// factors. If the device finds an invalid value, the results of the row or the model become NaN.
// Nothing is read or written out of bounds, and no wrong result looks right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "lstm/lstm_linear.h"

namespace sensorseq::cuda {

// The precision of the products with weight_hh and h inside the layer. Everything else, including
// sums, is float in both precisions.
enum class Precision : int32_t {
  kFp16x3 = 0,  // weights and h are sums of two halves, with three products; as accurate as float
  kFp16 = 1,    // weights and h are one half each; as accurate as TF32, with an error of 2^-11
  // Float multiply-adds without tensor cores, on compute capability 7.5 and later: the portable
  // kernels, for up to 96 units.
  kFp32 = 2,
};

// Elements of arrays in half precision. The portable kernels read and write them directly.
struct Float16 {
  uint16_t bits;
};
struct Bfloat16 {
  uint16_t bits;
};

struct Options {
  Precision precision = Precision::kFp16x3;
  // Whether the caller has computed the input's contribution to the gates, x W_ih^T + bias, and
  // passes it as x. The shape of x is then (M, N, T, D, H, 4) instead of (Mx, N, T, C), n_channels
  // is 0, and weight_ih and bias are not read. The gradients of the gates are written to grad_x,
  // which has the shape of x. The caller computes the gradients of weight_ih and bias.
  bool is_projected = false;
  void* stream = nullptr;  // a cudaStream_t
};

// The maximum number of channels that a kernel multiplies by W_ih. With more channels, the caller
// must project x.
constexpr int64_t kMaxChannels = 16;

// Returns kOk if kernels exist for a shape, and otherwise the reason why they do not. A pure
// function of the shape, the precision and is_projected; it needs no GPU.
Status IsServed(const LstmShape& shape, const Options& options);

// The number of floats in LstmForward::saved and LstmBackward::saved, which the kernels arrange in
// their own order and which are aligned to 64 bytes.
int64_t SavedFloats(const LstmShape& shape, const Options& options);

size_t forward_workspace_bytes(const LstmShape& shape, const Options& options);
size_t backward_workspace_bytes(const LstmShape& shape, const Options& options);

// `parallel` and `packed` are not read. With a head, pooled, logits and bias_out must all be given;
// `hidden` may be null. In half precision, `pooled` is rounded before the head reads it.
template <typename Real>
Status lstm_forward(const LstmForward<Real>& args, const Options& options);

// grad_x is written only if is_projected.
Status lstm_backward(const LstmBackward<float>& args, const Options& options);

// Information about CUDA in this build and on this machine. Loading the library makes no CUDA call;
// only these functions and the passes make CUDA calls.
struct Device {
  int32_t major = 0, minor = 0;  // compute capability
  int32_t n_multiprocessors = 0;
  int32_t driver_version = 0, runtime_version = 0;  // encoded as by cudaDriverGetVersion
};
// The number of devices that the driver reports; 0 without a driver.
int32_t DeviceCount();
// The versions are written even if the device does not exist. Without a driver, driver_version is
// 0.
Status DeviceFacts(int32_t index, Device* device);

// CUDA's error text for this thread's last Status::kCudaError; empty if there was none.
const char* ErrorText();

}  // namespace sensorseq::cuda
