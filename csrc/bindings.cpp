// The operators as torch sees them: schemas, checks of tensors, Status to exception. The only file
// that includes torch, and of torch only its stable ABI, so that one binary serves every later
// version and every Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/dispatch.h"
#include "gates.h"
#include "lstm_linear.h"

namespace sensorseq {
namespace {

using torch::headeronly::IntHeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

// Below this many multiplications a call runs on the calling thread: waking the others costs more.
constexpr int64_t kSerialWork = 1 << 16;

[[noreturn]] void Fail(const std::string& sentence) { throw std::runtime_error(sentence); }

std::string Text(IntHeaderOnlyArrayRef sizes) {
  std::ostringstream out;
  out << "(";
  for (size_t i = 0; i < sizes.size(); ++i) out << (i ? ", " : "") << sizes[i];
  out << ")";
  return out.str();
}

void CheckTensor(const Tensor& tensor, const char* name, const Sizes& sizes, ScalarType dtype) {
  const IntHeaderOnlyArrayRef actual = tensor.sizes();
  if (actual.size() != sizes.size() || !std::equal(sizes.begin(), sizes.end(), actual.begin())) {
    Fail(std::string("sensorseq: ") + name + " has shape " + Text(actual) + "; expected " +
         Text(IntHeaderOnlyArrayRef(sizes.data(), sizes.size())) + ".");
  }
  if (tensor.scalar_type() != dtype) {
    Fail(std::string("sensorseq: ") + name + " has another dtype than x (lengths: int64).");
  }
  if (!tensor.is_cpu()) Fail(std::string("sensorseq: ") + name + " is not on the CPU, x is.");
  if (!tensor.is_contiguous()) Fail(std::string("sensorseq: ") + name + " is not contiguous.");
}

Pooling PoolingNamed(const std::string& name) {
  if (name == "last") return Pooling::kLast;
  if (name == "mean") return Pooling::kMean;
  if (name == "max") return Pooling::kMax;
  if (name == "meanmax") return Pooling::kMeanMax;
  Fail("sensorseq: pooling '" + name + "' is not known. Known: last, mean, max, meanmax.");
}

// The tensors both ops and both directions take, kept alive and checked.
struct Arguments {
  Tensor x;
  MaybeTensor lengths;
  Tensor weight_ih, weight_hh, bias;
  MaybeTensor weight_out, bias_out, h_0, c_0, recurrent_mask;

  LstmShape Check(const std::string& pooling) const {
    if (x.dim() != 4 || weight_hh.dim() != 4) {
      Fail(
          "sensorseq: x needs 4 dimensions (models, windows, timesteps, channels) and weight_hh 4"
          " (models, directions, 4 * hidden_size, hidden_size); they have " +
          std::to_string(x.dim()) + " and " + std::to_string(weight_hh.dim()) + ".");
    }
    const ScalarType dtype = x.scalar_type();
    if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
      Fail("sensorseq: x must be float32 or float64.");
    }
    LstmShape s;
    s.n_models = weight_hh.size(0);
    s.n_x_models = x.size(0);
    s.n_windows = x.size(1);
    s.n_timesteps = x.size(2);
    s.n_channels = x.size(3);
    s.hidden_size = weight_hh.size(3);
    s.n_directions = weight_hh.size(1);
    const int64_t M = s.n_models, D = s.n_directions, H = s.hidden_size;
    if (s.n_x_models != 1 && s.n_x_models != M) {
      Fail("sensorseq: x holds " + std::to_string(s.n_x_models) + " models; expected 1 or " +
           std::to_string(M) + ".");
    }
    if (D < 1 || D > 2) Fail("sensorseq: weight_hh has " + std::to_string(D) + " directions.");
    CheckTensor(x, "x", {s.n_x_models, s.n_windows, s.n_timesteps, s.n_channels}, dtype);
    CheckTensor(weight_hh, "weight_hh", {M, D, kGates * H, H}, dtype);
    CheckTensor(weight_ih, "weight_ih", {M, D, kGates * H, s.n_channels}, dtype);
    CheckTensor(bias, "bias", {M, D, kGates * H}, dtype);
    if (lengths) CheckTensor(*lengths, "lengths", {s.n_windows}, ScalarType::Long);
    const Sizes state = {M, s.n_windows, D, H};
    if (h_0) CheckTensor(*h_0, "h_0", state, dtype);
    if (c_0) CheckTensor(*c_0, "c_0", state, dtype);
    if (recurrent_mask) CheckTensor(*recurrent_mask, "recurrent_mask", state, dtype);
    if (weight_out) {
      s.pooling = PoolingNamed(pooling);
      s.n_classes = weight_out->size(1);
      CheckTensor(*weight_out, "weight_out", {M, s.n_classes, PooledSize(s)}, dtype);
      if (bias_out) CheckTensor(*bias_out, "bias_out", {M, s.n_classes}, dtype);
    }
    return s;
  }

  template <typename Real>
  LstmInputs<Real> Inputs() const;
};

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

template <typename Real>
LstmInputs<Real> Arguments::Inputs() const {
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

Tensor Empty(const Tensor& like, const Sizes& sizes) {
  return torch::stable::new_empty(like, IntHeaderOnlyArrayRef(sizes.data(), sizes.size()));
}

Tensor Workspace(const Tensor& like, size_t bytes) {
  const Sizes sizes = {static_cast<int64_t>(bytes)};
  return torch::stable::new_empty(like, IntHeaderOnlyArrayRef(sizes.data(), 1), ScalarType::Byte);
}

void RunParallel(void*, int64_t n_tasks, Parallel::Task task, void* context) {
  torch::stable::parallel_for(0, n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(context, i);
  });
}

Parallel ParallelFor(const LstmShape& s) {
  const int64_t work = s.n_models * s.n_directions * s.n_windows * s.n_timesteps * s.hidden_size *
                       (s.hidden_size + s.n_channels);
  return work < kSerialWork ? Parallel{} : Parallel{&RunParallel, nullptr};
}

void Raise(Status status) {
  if (status == Status::kOk) return;
  std::string sentence = std::string("sensorseq: ") + StatusText(status);
  if (status == Status::kUnknownIsa || status == Status::kIsaNotSupported) {
    const KernelTable table = AllKernels();
    sentence += ". Known:";
    for (int64_t i = 0; i < table.n_rows; ++i) {
      sentence += std::string(i ? ", " : " ") + table.rows[i]->name +
                  (table.rows[i]->is_supported() ? "" : " (not on this processor)");
    }
  }
  Fail(sentence + ".");
}

Sizes SavedSizes(const LstmShape& s, bool save_state) {
  if (!save_state) return {0};
  return {s.n_models,    s.n_directions, s.n_windows,
          s.n_timesteps, kSavedRows,     Padded(s.hidden_size)};
}

// Calls f with a null pointer of the C++ type behind the tensor's dtype.
template <typename F>
void ForDtype(const Tensor& tensor, F f) {
  if (tensor.scalar_type() == ScalarType::Float) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<double*>(nullptr));
  }
}

struct ForwardResult {
  Tensor hidden, h_n, c_n, pooled, logits, saved;
};

ForwardResult RunForward(const Arguments& a, const std::string& pooling, bool save_state) {
  const LstmShape s = a.Check(pooling);
  const bool has_head = s.pooling != Pooling::kNone;
  const Sizes state = {s.n_models, s.n_windows, s.n_directions, s.hidden_size};
  ForwardResult out;
  out.h_n = Empty(a.x, state);
  out.c_n = Empty(a.x, state);
  out.saved = Empty(a.x, SavedSizes(s, save_state));
  if (has_head) {
    out.pooled = Empty(a.x, {s.n_models, s.n_windows, PooledSize(s)});
    out.logits = Empty(a.x, {s.n_models, s.n_windows, s.n_classes});
  } else {
    out.hidden =
        Empty(a.x, {s.n_models, s.n_windows, s.n_timesteps, s.n_directions * s.hidden_size});
  }
  ForDtype(a.x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    const Tensor workspace = Workspace(a.x, lstm_forward_workspace_bytes(s, sizeof(Real)));
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
    args.workspace = workspace.data_ptr();
    args.parallel = ParallelFor(s);
    Raise(lstm_forward(args));
  });
  return out;
}

struct BackwardResult {
  Tensor x, weight_ih, weight_hh, bias, weight_out, bias_out, h_0, c_0;
};

BackwardResult RunBackward(const Arguments& a, const std::string& pooling,
                           const MaybeTensor& pooled, const Tensor& saved,
                           const MaybeTensor& grad_hidden, const MaybeTensor& grad_logits,
                           const MaybeTensor& grad_h_n, const MaybeTensor& grad_c_n,
                           bool needs_grad_x) {
  const LstmShape s = a.Check(pooling);
  const bool has_head = s.pooling != Pooling::kNone;
  const ScalarType dtype = a.x.scalar_type();
  const int64_t M = s.n_models, N = s.n_windows, D = s.n_directions, H = s.hidden_size;
  const Sizes state = {M, N, D, H};
  CheckTensor(saved, "saved", SavedSizes(s, true), dtype);
  if (pooled) CheckTensor(*pooled, "pooled", {M, N, PooledSize(s)}, dtype);
  if (grad_hidden) {
    CheckTensor(*grad_hidden, "grad_hidden", {M, N, s.n_timesteps, D * H}, dtype);
  }
  if (grad_logits) CheckTensor(*grad_logits, "grad_logits", {M, N, s.n_classes}, dtype);
  if (grad_h_n) CheckTensor(*grad_h_n, "grad_h_n", state, dtype);
  if (grad_c_n) CheckTensor(*grad_c_n, "grad_c_n", state, dtype);

  const Sizes nothing = {0};
  BackwardResult grad;
  grad.x = Empty(a.x, needs_grad_x ? Sizes{M, N, s.n_timesteps, s.n_channels} : nothing);
  grad.weight_ih = torch::stable::empty_like(a.weight_ih);
  grad.weight_hh = torch::stable::empty_like(a.weight_hh);
  grad.bias = torch::stable::empty_like(a.bias);
  grad.h_0 = Empty(a.x, a.h_0 ? state : nothing);
  grad.c_0 = Empty(a.x, a.c_0 ? state : nothing);
  if (has_head) {
    grad.weight_out = torch::stable::empty_like(*a.weight_out);
    grad.bias_out = Empty(a.x, {M, s.n_classes});
  }
  ForDtype(a.x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    const Tensor workspace = Workspace(a.x, lstm_backward_workspace_bytes(s, sizeof(Real)));
    LstmBackward<Real> args;
    args.shape = s;
    args.in = a.Inputs<Real>();
    args.pooled = Data<Real>(pooled);
    args.saved = Data<Real>(saved);
    args.grad_hidden = Data<Real>(grad_hidden);
    args.grad_h_n = Data<Real>(grad_h_n);
    args.grad_c_n = Data<Real>(grad_c_n);
    args.grad_logits = Data<Real>(grad_logits);
    args.grad_x = needs_grad_x ? MutableData<Real>(grad.x) : nullptr;
    args.grad_weight_ih = MutableData<Real>(grad.weight_ih);
    args.grad_weight_hh = MutableData<Real>(grad.weight_hh);
    args.grad_bias = MutableData<Real>(grad.bias);
    args.grad_h_0 = a.h_0 ? MutableData<Real>(grad.h_0) : nullptr;
    args.grad_c_0 = a.c_0 ? MutableData<Real>(grad.c_0) : nullptr;
    args.grad_weight_out = has_head ? MutableData<Real>(grad.weight_out) : nullptr;
    args.grad_bias_out = has_head ? MutableData<Real>(grad.bias_out) : nullptr;
    args.workspace = workspace.data_ptr();
    args.parallel = ParallelFor(s);
    Raise(lstm_backward(args));
  });
  return grad;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> Lstm(Tensor x, MaybeTensor lengths, Tensor weight_ih,
                                                Tensor weight_hh, Tensor bias, MaybeTensor h_0,
                                                MaybeTensor c_0, MaybeTensor recurrent_mask,
                                                bool save_state) {
  const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
  const ForwardResult out = RunForward(a, "", save_state);
  return {out.hidden, out.h_n, out.c_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> LstmBackwardOp(
    MaybeTensor grad_hidden, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x,
    MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, MaybeTensor h_0,
    MaybeTensor c_0, MaybeTensor recurrent_mask, Tensor saved, bool needs_grad_x) {
  const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
  const BackwardResult g = RunBackward(a, "", std::nullopt, saved, grad_hidden, std::nullopt,
                                       grad_h_n, grad_c_n, needs_grad_x);
  return {g.x, g.weight_ih, g.weight_hh, g.bias, g.h_0, g.c_0};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> LstmLinear(
    Tensor x, MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,
    Tensor weight_out, Tensor bias_out, MaybeTensor h_0, MaybeTensor c_0,
    MaybeTensor recurrent_mask, std::string pooling, bool save_state) {
  const Arguments a{x,          lengths,  weight_ih, weight_hh, bias,
                    weight_out, bias_out, h_0,       c_0,       recurrent_mask};
  const ForwardResult out = RunForward(a, pooling, save_state);
  return {out.logits, out.h_n, out.c_n, out.pooled, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> LstmLinearBackwardOp(
    Tensor grad_logits, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x, MaybeTensor lengths,
    Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out, MaybeTensor h_0,
    MaybeTensor c_0, MaybeTensor recurrent_mask, Tensor pooled, Tensor saved, std::string pooling,
    bool needs_grad_x) {
  const Arguments a{x,          lengths, weight_ih, weight_hh, bias,
                    weight_out, {},      h_0,       c_0,       recurrent_mask};
  const BackwardResult g = RunBackward(a, pooling, pooled, saved, std::nullopt, grad_logits,
                                       grad_h_n, grad_c_n, needs_grad_x);
  return {g.x, g.weight_ih, g.weight_hh, g.bias, g.weight_out, g.bias_out, g.h_0, g.c_0};
}

std::string CpuIsa() {
  Status status;
  const Kernels* kernels = ActiveKernels(&status);
  Raise(status);
  return kernels->name;
}

// Every instruction set of this build that this processor supports, best first, by commas.
std::string CpuIsas() {
  std::string names;
  const KernelTable table = AllKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    if (!table.rows[i]->is_supported()) continue;
    names += (names.empty() ? "" : ",") + std::string(table.rows[i]->name);
  }
  return names;
}

}  // namespace
}  // namespace sensorseq

STABLE_TORCH_LIBRARY(sensorseq, m) {
  m.def(
      "lstm(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, bool save_state)"
      " -> (Tensor hidden, Tensor h_n, Tensor c_n, Tensor saved)");
  m.def(
      "lstm_backward(Tensor? grad_hidden, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? h_0,"
      " Tensor? c_0, Tensor? recurrent_mask, Tensor saved, bool needs_grad_x)"
      " -> (Tensor grad_x, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias,"
      " Tensor grad_h_0, Tensor grad_c_0)");
  m.def(
      "lstm_linear(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor weight_out, Tensor bias_out, Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask,"
      " str pooling, bool save_state)"
      " -> (Tensor logits, Tensor h_n, Tensor c_n, Tensor pooled, Tensor saved)");
  m.def(
      "lstm_linear_backward(Tensor grad_logits, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, Tensor pooled, Tensor saved,"
      " str pooling, bool needs_grad_x)"
      " -> (Tensor grad_x, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias,"
      " Tensor grad_weight_out, Tensor grad_bias_out, Tensor grad_h_0, Tensor grad_c_0)");
  m.def("cpu_isa() -> str");
  m.def("cpu_isas() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CPU, m) {
  m.impl("lstm", TORCH_BOX(&sensorseq::Lstm));
  m.impl("lstm_backward", TORCH_BOX(&sensorseq::LstmBackwardOp));
  m.impl("lstm_linear", TORCH_BOX(&sensorseq::LstmLinear));
  m.impl("lstm_linear_backward", TORCH_BOX(&sensorseq::LstmLinearBackwardOp));
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&sensorseq::CpuIsa));
  m.impl("cpu_isas", TORCH_BOX(&sensorseq::CpuIsas));
}
