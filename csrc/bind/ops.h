// Code that the operators of all devices share: it checks tensors, puts their pointers into the
// structs of lstm_linear.h, makes the returned tensors, and converts Status to exceptions.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/status.h"
#include "lstm/calls.h"
#include "lstm/gates.h"
#include "lstm/lstm_linear.h"

namespace sensorseq {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

[[noreturn]] inline void Fail(const std::string& sentence) { throw std::runtime_error(sentence); }

inline std::string Text(IntHeaderOnlyArrayRef sizes) {
  std::ostringstream out;
  out << "(";
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  out << ")";
  return out.str();
}

inline std::string Text(const Sizes& sizes) {
  return Text(IntHeaderOnlyArrayRef(sizes.data(), sizes.size()));
}

inline void CheckCountable(int64_t n_windows, int64_t n_timesteps, int64_t n_channels,
                           int64_t hidden_size, double n_layers) {
  const std::string problem =
      CountProblem(n_windows, n_timesteps, n_channels, hidden_size, n_layers);
  if (!problem.empty()) Fail(problem);
}

// The CPU's device number. A GPU's device number is its index.
constexpr int32_t kCpu = -1;

inline int32_t DeviceOf(const Tensor& tensor) {
  return tensor.is_cpu() ? kCpu : tensor.get_device_index();
}

// Raises an error unless the tensor has this shape and dtype, is contiguous, and is on `device`,
// the device of x.
inline void CheckTensor(const Tensor& tensor, const char* name, const Sizes& sizes,
                        ScalarType dtype, int32_t device = kCpu) {
  const IntHeaderOnlyArrayRef actual = tensor.sizes();
  if (actual.size() != sizes.size() || !std::equal(sizes.begin(), sizes.end(), actual.begin())) {
    Fail(std::string("sensorseq: ") + name + " has shape " + Text(actual) + "; expected " +
         Text(sizes) + ".");
  }
  if (tensor.scalar_type() != dtype) {
    const char* wanted = dtype == ScalarType::Long       ? "int64"
                         : dtype == ScalarType::Double   ? "float64"
                         : dtype == ScalarType::Half     ? "float16"
                         : dtype == ScalarType::BFloat16 ? "bfloat16"
                                                         : "float32";
    Fail(std::string("sensorseq: ") + name + " has another dtype; expected " + wanted + ".");
  }
  if (DeviceOf(tensor) != device) {
    Fail(std::string("sensorseq: ") + name + " is not on " +
         (device == kCpu ? "the CPU" : "cuda:" + std::to_string(device)) + ", but x is.");
  }
  if (!tensor.is_contiguous()) Fail(std::string("sensorseq: ") + name + " is not contiguous.");
}

inline void CheckMaybe(const MaybeTensor& tensor, const char* name, const Sizes& sizes,
                       ScalarType dtype, int32_t device = kCpu) {
  if (tensor) CheckTensor(*tensor, name, sizes, dtype, device);
}

inline Pooling PoolingNamed(const std::string& name) {
  if (name == "last") return Pooling::kLast;
  if (name == "mean") return Pooling::kMean;
  if (name == "max") return Pooling::kMax;
  if (name == "meanmax") return Pooling::kMeanMax;
  Fail("sensorseq: pooling '" + name + "' is not known. Known: last, mean, max, meanmax.");
}

template <typename Real>
const Real* Data(const Tensor& tensor) {
  return static_cast<const Real*>(tensor.data_ptr());
}
template <typename Real>
const Real* Data(const MaybeTensor& tensor) {
  return tensor ? Data<Real>(*tensor) : nullptr;
}
template <typename Real>
Real* MutableData(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr : static_cast<Real*>(tensor.data_ptr());
}

// The input tensors that the forward and backward ops share. The struct keeps the tensors alive and
// checks them.
struct Arguments {
  Tensor x;
  MaybeTensor lengths;
  Tensor weight_ih, weight_hh, bias;
  MaybeTensor weight_out, bias_out, h_0, c_0, recurrent_mask;

  // Whether x is the input's contribution to the gates, including the bias. The shape of x is then
  // (M, N, T, D * 4H), with the four gates of each unit side by side. This form of x needs a GPU
  // and a weight_ih without columns.
  bool IsProjected() const {
    return x.dim() == 4 && weight_ih.dim() == 4 && weight_ih.size(3) == 0 && x.size(3) != 0;
  }

  // Without `takes_halves`, x must be float32 or float64.
  LstmShape Check(const std::string& pooling, bool is_projected = false,
                  bool takes_halves = false) const;

  template <typename Real>
  LstmInputs<Real> Inputs() const {
    LstmInputs<Real> in;
    in.x = Data<Real>(x);
    in.lengths = Data<int64_t>(lengths);
    in.weight_ih = Data<Real>(weight_ih);
    in.weight_hh = Data<Real>(weight_hh);
    in.bias = Data<Real>(bias);
    in.h_0 = Data<Real>(h_0);
    in.c_0 = Data<Real>(c_0);
    in.recurrent_mask = Data<Real>(recurrent_mask);
    in.weight_out = Data<Real>(weight_out);
    return in;
  }
};

inline LstmShape Arguments::Check(const std::string& pooling, bool is_projected,
                                  bool takes_halves) const {
  if (x.dim() != 4 || weight_hh.dim() != 4) {
    Fail(
        "sensorseq: x needs 4 dimensions (models, windows, timesteps, channels) and weight_hh 4"
        " (models, directions, 4 * hidden_size, hidden_size); they have " +
        std::to_string(x.dim()) + " and " + std::to_string(weight_hh.dim()) + ".");
  }
  const ScalarType dtype = x.scalar_type();
  const bool is_half = dtype == ScalarType::Half || dtype == ScalarType::BFloat16;
  if (dtype != ScalarType::Float && dtype != ScalarType::Double && !(is_half && takes_halves)) {
    Fail("sensorseq: x must be float32 or float64.");
  }
  LstmShape s;
  s.n_models = weight_hh.size(0);
  s.n_x_models = x.size(0);
  s.n_windows = x.size(1);
  s.n_timesteps = x.size(2);
  s.n_channels = is_projected ? 0 : x.size(3);
  s.hidden_size = weight_hh.size(3);
  s.n_directions = weight_hh.size(1);
  const int64_t M = s.n_models, D = s.n_directions, H = s.hidden_size;
  if (s.n_x_models != M && (s.n_x_models != 1 || is_projected)) {
    Fail("sensorseq: x holds " + std::to_string(s.n_x_models) + " models; expected " +
         (is_projected ? "" : "1 or ") + std::to_string(M) + ".");
  }
  if (D < 1 || D > 2) Fail("sensorseq: weight_hh has " + std::to_string(D) + " directions.");
  CheckCountable(s.n_windows, s.n_timesteps, s.n_channels, H, 1.0 * M * D);
  const int32_t device = DeviceOf(x);
  const int64_t x_width = is_projected ? D * kGates * H : s.n_channels;
  CheckTensor(x, "x", {s.n_x_models, s.n_windows, s.n_timesteps, x_width}, dtype, device);
  CheckTensor(weight_hh, "weight_hh", {M, D, kGates * H, H}, dtype, device);
  CheckTensor(weight_ih, "weight_ih", {M, D, kGates * H, s.n_channels}, dtype, device);
  CheckTensor(bias, "bias", {M, D, kGates * H}, dtype, device);
  CheckMaybe(lengths, "lengths", {s.n_windows}, ScalarType::Long, device);
  const Sizes state = {M, s.n_windows, D, H};
  CheckMaybe(h_0, "h_0", state, dtype, device);
  CheckMaybe(c_0, "c_0", state, dtype, device);
  CheckMaybe(recurrent_mask, "recurrent_mask", state, dtype, device);
  if (weight_out) {
    s.pooling = PoolingNamed(pooling);
    s.n_classes = weight_out->size(1);
    CheckTensor(*weight_out, "weight_out", {M, s.n_classes, PooledSize(s)}, dtype, device);
    CheckMaybe(bias_out, "bias_out", {M, s.n_classes}, dtype, device);
  }
  return s;
}

inline Sizes StateSizes(const LstmShape& s) {
  return {s.n_models, s.n_windows, s.n_directions, s.hidden_size};
}

// Allocates a tensor on the device of `like`. The dispatcher would take several times as long as
// this direct call of torch's shim, and each op allocates several outputs.
inline Tensor Empty(const Tensor& like, const Sizes& sizes, int32_t dtype) {
  Sizes strides(sizes.size());
  uint64_t stride = 1;  // may overflow for an empty tensor, whose strides do not matter
  for (size_t i = sizes.size(); i-- > 0; stride *= std::max<uint64_t>(sizes[i], 1)) {
    strides[i] = static_cast<int64_t>(stride);
  }
  int32_t type, index;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(),
                                                  strides.data(), dtype, type, index, &handle));
  return Tensor(handle);
}

inline Tensor Empty(const Tensor& like, const Sizes& sizes) {
  int32_t dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  return Empty(like, sizes, dtype);
}

struct ForwardResult {
  Tensor hidden, h_n, c_n, pooled, logits, saved;
};

inline ForwardResult EmptyForward(const Arguments& a, const LstmShape& s, Tensor saved) {
  ForwardResult out;
  out.h_n = Empty(a.x, StateSizes(s));
  out.c_n = Empty(a.x, StateSizes(s));
  out.saved = std::move(saved);
  if (s.pooling != Pooling::kNone) {
    out.pooled = Empty(a.x, {s.n_models, s.n_windows, PooledSize(s)});
    out.logits = Empty(a.x, {s.n_models, s.n_windows, s.n_classes});
  } else {
    out.hidden =
        Empty(a.x, {s.n_models, s.n_windows, s.n_timesteps, s.n_directions * s.hidden_size});
  }
  return out;
}

// The arguments of the forward pass, without the workspace and the device-specific members.
template <typename Real>
LstmForward<Real> ForwardCall(const Arguments& a, const LstmShape& s, const ForwardResult& out,
                              bool save_state) {
  const bool has_head = s.pooling != Pooling::kNone;
  LstmForward<Real> args;
  args.shape = s;
  args.in = a.Inputs<Real>();
  args.bias_out = Data<Real>(a.bias_out);
  args.hidden = has_head ? nullptr : MutableData<Real>(out.hidden);
  args.h_n = MutableData<Real>(out.h_n);
  args.c_n = MutableData<Real>(out.c_n);
  args.pooled = has_head ? MutableData<Real>(out.pooled) : nullptr;
  args.logits = has_head ? MutableData<Real>(out.logits) : nullptr;
  args.saved = save_state ? MutableData<Real>(out.saved) : nullptr;
  return args;
}

struct BackwardResult {
  Tensor x, weight_ih, weight_hh, bias, weight_out, bias_out, h_0, c_0;
};

inline BackwardResult EmptyGradients(const Arguments& a, const LstmShape& s, bool needs_grad_x) {
  const Sizes nothing = {0};
  const Sizes of_x = {s.n_models, s.n_windows, s.n_timesteps, a.x.size(3)};
  BackwardResult grad;
  grad.x = Empty(a.x, needs_grad_x ? of_x : nothing);
  grad.weight_ih = torch::stable::empty_like(a.weight_ih);
  grad.weight_hh = torch::stable::empty_like(a.weight_hh);
  grad.bias = torch::stable::empty_like(a.bias);
  grad.h_0 = Empty(a.x, a.h_0 ? StateSizes(s) : nothing);
  grad.c_0 = Empty(a.x, a.c_0 ? StateSizes(s) : nothing);
  if (s.pooling != Pooling::kNone) {
    grad.weight_out = torch::stable::empty_like(*a.weight_out);
    grad.bias_out = Empty(a.x, {s.n_models, s.n_classes});
  }
  return grad;
}

// The gradients that arrive from the later layers, and the saved values of the forward pass.
struct BackwardInputs {
  Tensor saved;
  MaybeTensor pooled, grad_hidden, grad_logits, grad_h_n, grad_c_n;

  void Check(const Arguments& a, const LstmShape& s, const Sizes& saved_sizes) const {
    const ScalarType dtype = a.x.scalar_type();
    const int32_t device = DeviceOf(a.x);
    const int64_t M = s.n_models, N = s.n_windows, D = s.n_directions, H = s.hidden_size;
    CheckTensor(saved, "saved", saved_sizes, dtype, device);
    CheckMaybe(pooled, "pooled", {M, N, PooledSize(s)}, dtype, device);
    CheckMaybe(grad_hidden, "grad_hidden", {M, N, s.n_timesteps, D * H}, dtype, device);
    CheckMaybe(grad_logits, "grad_logits", {M, N, s.n_classes}, dtype, device);
    CheckMaybe(grad_h_n, "grad_h_n", StateSizes(s), dtype, device);
    CheckMaybe(grad_c_n, "grad_c_n", StateSizes(s), dtype, device);
  }
};

template <typename Real>
LstmBackward<Real> BackwardCall(const Arguments& a, const LstmShape& s, const BackwardInputs& in,
                                const BackwardResult& grad, bool needs_grad_x) {
  const bool has_head = s.pooling != Pooling::kNone;
  LstmBackward<Real> args;
  args.shape = s;
  args.in = a.Inputs<Real>();
  args.pooled = Data<Real>(in.pooled);
  args.saved = Data<Real>(in.saved);
  args.grad_hidden = Data<Real>(in.grad_hidden);
  args.grad_h_n = Data<Real>(in.grad_h_n);
  args.grad_c_n = Data<Real>(in.grad_c_n);
  args.grad_logits = Data<Real>(in.grad_logits);
  args.grad_x = needs_grad_x ? MutableData<Real>(grad.x) : nullptr;
  args.grad_weight_ih = MutableData<Real>(grad.weight_ih);
  args.grad_weight_hh = MutableData<Real>(grad.weight_hh);
  args.grad_bias = MutableData<Real>(grad.bias);
  args.grad_h_0 = a.h_0 ? MutableData<Real>(grad.h_0) : nullptr;
  args.grad_c_0 = a.c_0 ? MutableData<Real>(grad.c_0) : nullptr;
  args.grad_weight_out = has_head ? MutableData<Real>(grad.weight_out) : nullptr;
  args.grad_bias_out = has_head ? MutableData<Real>(grad.bias_out) : nullptr;
  return args;
}

// The ops themselves, for a type Device that defines
//   static ForwardResult Forward(const Arguments&, const std::string& pooling, bool save_state,
//                                const std::string& precision);
//   static BackwardResult Backward(const Arguments&, const std::string& pooling,
//                                  const BackwardInputs&, bool needs_grad_x, const std::string&
//                                  precision);
template <typename Device>
struct Ops {
  static std::tuple<Tensor, Tensor, Tensor, Tensor> Lstm(Tensor x, MaybeTensor lengths,
                                                         Tensor weight_ih, Tensor weight_hh,
                                                         Tensor bias, MaybeTensor h_0,
                                                         MaybeTensor c_0,
                                                         MaybeTensor recurrent_mask,
                                                         bool save_state, std::string precision) {
    const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
    const ForwardResult out = Device::Forward(a, "", save_state, precision);
    return {out.hidden, out.h_n, out.c_n, out.saved};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> LstmBackward(
      MaybeTensor grad_hidden, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x,
      MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, MaybeTensor h_0,
      MaybeTensor c_0, MaybeTensor recurrent_mask, Tensor saved, bool needs_grad_x,
      std::string precision) {
    const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
    const BackwardInputs in{saved, {}, grad_hidden, {}, grad_h_n, grad_c_n};
    const BackwardResult g = Device::Backward(a, "", in, needs_grad_x, precision);
    return {g.x, g.weight_ih, g.weight_hh, g.bias, g.h_0, g.c_0};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> LstmLinear(
      Tensor x, MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,
      Tensor weight_out, Tensor bias_out, MaybeTensor h_0, MaybeTensor c_0,
      MaybeTensor recurrent_mask, std::string pooling, bool save_state, std::string precision) {
    const Arguments a{x,          lengths,  weight_ih, weight_hh, bias,
                      weight_out, bias_out, h_0,       c_0,       recurrent_mask};
    const ForwardResult out = Device::Forward(a, pooling, save_state, precision);
    return {out.logits, out.h_n, out.c_n, out.pooled, out.saved};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
  LstmLinearBackward(Tensor grad_logits, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x,
                     MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,
                     Tensor weight_out, MaybeTensor h_0, MaybeTensor c_0,
                     MaybeTensor recurrent_mask, Tensor pooled, Tensor saved, std::string pooling,
                     bool needs_grad_x, std::string precision) {
    const Arguments a{x,          lengths, weight_ih, weight_hh, bias,
                      weight_out, {},      h_0,       c_0,       recurrent_mask};
    const BackwardInputs in{saved, pooled, {}, grad_logits, grad_h_n, grad_c_n};
    const BackwardResult g = Device::Backward(a, pooling, in, needs_grad_x, precision);
    return {g.x, g.weight_ih, g.weight_hh, g.bias, g.weight_out, g.bias_out, g.h_0, g.c_0};
  }
};

// CudaFacts describes the CUDA support of the build and the machine as JSON. CudaIsServed returns
// the reason why a shape is not supported, or an empty string if the shape is supported. Both
// functions work in every build.
std::string CudaFacts();
std::string CudaIsServed(int64_t hidden_size, int64_t n_channels, int64_t n_directions,
                         std::string precision, bool is_projected);

}  // namespace sensorseq
