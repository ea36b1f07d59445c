// The operators as torch sees them: schemas, checks of tensors, Status to exception. The only file
// that includes torch, and of torch only its stable ABI, so that one binary serves every later
// version and every Python.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "block_pool.h"
#include "cpu/dispatch.h"
#include "gates.h"
#include "lstm_linear.h"
#include "lstm_linear_loss.h"
#include "train_epoch.h"

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
    const char* wanted = dtype == ScalarType::Long     ? "int64"
                         : dtype == ScalarType::Double ? "float64"
                                                       : "float32";
    Fail(std::string("sensorseq: ") + name + " has another dtype; expected " + wanted + ".");
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

// The shim's own function: the dispatcher takes several times as long, and a call has five outputs.
Tensor Empty(const Tensor& like, const Sizes& sizes) {
  Sizes strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i] > 0 ? sizes[i] : 1) strides[i] = stride;
  int32_t dtype;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  AtenTensorHandle handle;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()),
                                                         sizes.data(), strides.data(), dtype,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// The same for what a forward pass saves, the largest tensor of a training step, from the pool.
Tensor EmptySaved(const Tensor& like, const Sizes& sizes) {
  const ScalarType dtype = like.scalar_type();
  Sizes strides(sizes.size());
  int64_t n = 1;
  for (size_t i = sizes.size(); i-- > 0; n *= sizes[i]) strides[i] = n;
  if (n == 0) return Empty(like, sizes);
  const size_t real_bytes = dtype == ScalarType::Double ? sizeof(double) : sizeof(float);
  void* block = BlockPool::Instance().Take(static_cast<size_t>(n) * real_bytes);
  if (block == nullptr) {
    Fail("sensorseq: no memory for the saved state of " +
         Text(IntHeaderOnlyArrayRef(sizes.data(), sizes.size())) + ".");
  }
  return torch::stable::from_blob(block, IntHeaderOnlyArrayRef(sizes.data(), sizes.size()),
                                  IntHeaderOnlyArrayRef(strides.data(), strides.size()),
                                  like.device(), dtype,
                                  [](void* data) { BlockPool::Instance().Give(data); });
}

// Memory of the calling thread, kept for its next call and grown when that needs more: at training
// sizes the pages of a fresh block cost as much as the arithmetic.
void* Workspace(size_t bytes) {
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  thread_local std::unique_ptr<void, Free> block;
  thread_local size_t size = 0;
  if (bytes > size) {
    block.reset();  // before the larger one, not beside it
    size = 0;
    block.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (block == nullptr) {
      Fail("sensorseq: no memory for a workspace of " + std::to_string(bytes) + " bytes.");
    }
    size = bytes;
  }
  return block.get();
}

// Tasks go to whichever thread is free: rows of unequal length make unequal slots.
void RunParallel(void*, int64_t n_tasks, Parallel::Task task, void* context) {
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, n_tasks, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1)) < n_tasks;) task(context, i);
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
  return {s.n_models, s.n_directions, s.n_windows, SavedRows(s.n_timesteps), Padded(s.hidden_size)};
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

ForwardResult RunForward(const Arguments& a, const std::string& pooling, bool save_state,
                         bool low_precision) {
  const LstmShape s = a.Check(pooling);
  const bool has_head = s.pooling != Pooling::kNone;
  const Sizes state = {s.n_models, s.n_windows, s.n_directions, s.hidden_size};
  ForwardResult out;
  out.h_n = Empty(a.x, state);
  out.c_n = Empty(a.x, state);
  out.saved = EmptySaved(a.x, SavedSizes(s, save_state));
  if (has_head) {
    out.pooled = Empty(a.x, {s.n_models, s.n_windows, PooledSize(s)});
    out.logits = Empty(a.x, {s.n_models, s.n_windows, s.n_classes});
  } else {
    out.hidden =
        Empty(a.x, {s.n_models, s.n_windows, s.n_timesteps, s.n_directions * s.hidden_size});
  }
  ForDtype(a.x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
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
    args.workspace = Workspace(lstm_forward_workspace_bytes(s, sizeof(Real)));
    args.parallel = ParallelFor(s);
    args.bfloat16 = low_precision;
    Raise(lstm_forward(args));
  });
  return out;
}

struct BackwardResult {
  Tensor x, weight_ih, weight_hh, bias, weight_out, bias_out, h_0, c_0;
};

BackwardResult EmptyGradients(const Arguments& a, const LstmShape& s, bool needs_grad_x) {
  const Sizes nothing = {0}, state = {s.n_models, s.n_windows, s.n_directions, s.hidden_size};
  BackwardResult grad;
  grad.x = Empty(
      a.x, needs_grad_x ? Sizes{s.n_models, s.n_windows, s.n_timesteps, s.n_channels} : nothing);
  grad.weight_ih = torch::stable::empty_like(a.weight_ih);
  grad.weight_hh = torch::stable::empty_like(a.weight_hh);
  grad.bias = torch::stable::empty_like(a.bias);
  grad.h_0 = Empty(a.x, a.h_0 ? state : nothing);
  grad.c_0 = Empty(a.x, a.c_0 ? state : nothing);
  if (s.pooling != Pooling::kNone) {
    grad.weight_out = torch::stable::empty_like(*a.weight_out);
    grad.bias_out = Empty(a.x, {s.n_models, s.n_classes});
  }
  return grad;
}

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

  const BackwardResult grad = EmptyGradients(a, s, needs_grad_x);
  ForDtype(a.x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
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
    args.workspace = Workspace(lstm_backward_workspace_bytes(s, sizeof(Real)));
    args.parallel = ParallelFor(s);
    Raise(lstm_backward(args));
  });
  return grad;
}

Tensor LstmPack(Tensor weight_ih, Tensor weight_hh, Tensor bias) {
  const ScalarType dtype = weight_hh.scalar_type();
  if (weight_ih.dim() != 4 || weight_hh.dim() != 4) {
    Fail("sensorseq: weight_ih and weight_hh need 4 dimensions; they have " +
         std::to_string(weight_ih.dim()) + " and " + std::to_string(weight_hh.dim()) + ".");
  }
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    Fail("sensorseq: weight_hh must be float32 or float64.");
  }
  LstmShape s;
  s.n_models = weight_hh.size(0);
  s.n_directions = weight_hh.size(1);
  s.hidden_size = weight_hh.size(3);
  s.n_channels = weight_ih.size(3);
  const int64_t M = s.n_models, D = s.n_directions, H = s.hidden_size;
  CheckTensor(weight_hh, "weight_hh", {M, D, kGates * H, H}, dtype);
  CheckTensor(weight_ih, "weight_ih", {M, D, kGates * H, s.n_channels}, dtype);
  CheckTensor(bias, "bias", {M, D, kGates * H}, dtype);
  const size_t real_bytes = dtype == ScalarType::Float ? sizeof(float) : sizeof(double);
  Tensor packed = torch::stable::new_empty(
      bias, {static_cast<int64_t>(lstm_packed_bytes(s, real_bytes))}, ScalarType::Byte);
  ForDtype(weight_hh, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    LstmInputs<Real> in{};
    in.weight_ih = Data<Real>(weight_ih);
    in.weight_hh = Data<Real>(weight_hh);
    in.bias = Data<Real>(bias);
    Raise(lstm_pack(s, in, packed.data_ptr()));
  });
  return packed;
}

// One layer of one model and direction on packed weights, going on from h and c in place. Few
// arguments and one output: at one step of one window they cost more than the arithmetic.
Tensor RunStream(const Tensor& x, const Tensor& packed, const Tensor* weight_out,
                 const Tensor* bias_out, const Tensor& h, const Tensor& c) {
  const int64_t dim = x.dim();
  const ScalarType dtype = x.scalar_type();
  if (dim < 1 || dim > 3 || h.dim() != 2) {
    Fail(
        "sensorseq: x needs the dimensions (windows, timesteps, channels), for one step (windows,"
        " channels) or (channels), and h (windows, hidden_size); they have " +
        std::to_string(dim) + " and " + std::to_string(h.dim()) + ".");
  }
  if (dtype != ScalarType::Float && dtype != ScalarType::Double) {
    Fail("sensorseq: x must be float32 or float64.");
  }
  if (!x.is_cpu()) Fail("sensorseq: x is not on the CPU.");
  LstmShape s;
  s.n_models = 1;
  s.n_windows = dim == 1 ? 1 : x.size(0);
  s.n_timesteps = dim == 3 ? x.size(1) : 1;
  s.n_channels = x.size(dim - 1);
  s.hidden_size = h.size(1);
  const int64_t N = s.n_windows, H = s.hidden_size;
  if (s.n_timesteps < 1) Fail("sensorseq: x has no timestep; it needs one.");
  CheckTensor(h, "h", {N, H}, dtype);
  CheckTensor(c, "c", {N, H}, dtype);
  if (weight_out != nullptr) {
    s.pooling = Pooling::kLast;
    s.n_classes = bias_out->numel();
    CheckTensor(*weight_out, "weight_out", {s.n_classes, H}, dtype);
    CheckTensor(*bias_out, "bias_out", {s.n_classes}, dtype);
  }
  const Tensor dense = x.is_contiguous() ? x : torch::stable::contiguous(x);
  const Tensor out =
      weight_out == nullptr ? Empty(x, {N, s.n_timesteps, H}) : Empty(x, {N, s.n_classes});
  ForDtype(x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    const size_t bytes = lstm_packed_bytes(s, sizeof(Real));
    if (packed.scalar_type() != ScalarType::Byte || !packed.is_cpu() || packed.dim() != 1 ||
        !packed.is_contiguous() || static_cast<size_t>(packed.numel()) != bytes ||
        reinterpret_cast<uintptr_t>(packed.data_ptr()) % 64 != 0) {
      Fail("sensorseq: packed must be what lstm_pack returns for this layer: " +
           std::to_string(bytes) + " bytes (uint8), aligned to 64.");
    }
    const size_t forward_bytes = lstm_forward_workspace_bytes(s, sizeof(Real));
    LstmForward<Real> args{};
    args.shape = s;
    args.in.x = Data<Real>(dense);
    args.in.h_0 = args.h_n = MutableData<Real>(h);
    args.in.c_0 = args.c_n = MutableData<Real>(c);
    args.packed = packed.data_ptr();
    args.workspace =
        Workspace(forward_bytes + static_cast<size_t>(N * PooledSize(s)) * sizeof(Real));
    if (weight_out == nullptr) {
      args.hidden = MutableData<Real>(out);
    } else {
      args.in.weight_out = Data<Real>(*weight_out);
      args.bias_out = Data<Real>(*bias_out);
      args.pooled = reinterpret_cast<Real*>(static_cast<char*>(args.workspace) + forward_bytes);
      args.logits = MutableData<Real>(out);
    }
    args.parallel = ParallelFor(s);
    Raise(lstm_forward(args));
  });
  return out;
}

Tensor LstmStream(Tensor x, Tensor packed, Tensor h, Tensor c) {
  return RunStream(x, packed, nullptr, nullptr, h, c);
}

Tensor LstmLinearStream(Tensor x, Tensor packed, Tensor weight_out, Tensor bias_out, Tensor h,
                        Tensor c) {
  return RunStream(x, packed, &weight_out, &bias_out, h, c);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> Lstm(Tensor x, MaybeTensor lengths, Tensor weight_ih,
                                                Tensor weight_hh, Tensor bias, MaybeTensor h_0,
                                                MaybeTensor c_0, MaybeTensor recurrent_mask,
                                                bool save_state, bool low_precision) {
  const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
  const ForwardResult out = RunForward(a, "", save_state, low_precision);
  return {out.hidden, out.h_n, out.c_n, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> LstmBackwardOp(
    MaybeTensor grad_hidden, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x,
    MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, MaybeTensor h_0,
    MaybeTensor c_0, MaybeTensor recurrent_mask, Tensor saved, bool needs_grad_x,
    bool low_precision) {
  if (low_precision) Raise(Status::kBfloat16Misplaced);
  const Arguments a{x, lengths, weight_ih, weight_hh, bias, {}, {}, h_0, c_0, recurrent_mask};
  const BackwardResult g = RunBackward(a, "", std::nullopt, saved, grad_hidden, std::nullopt,
                                       grad_h_n, grad_c_n, needs_grad_x);
  return {g.x, g.weight_ih, g.weight_hh, g.bias, g.h_0, g.c_0};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> LstmLinear(
    Tensor x, MaybeTensor lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,
    Tensor weight_out, Tensor bias_out, MaybeTensor h_0, MaybeTensor c_0,
    MaybeTensor recurrent_mask, std::string pooling, bool save_state, bool low_precision) {
  const Arguments a{x,          lengths,  weight_ih, weight_hh, bias,
                    weight_out, bias_out, h_0,       c_0,       recurrent_mask};
  const ForwardResult out = RunForward(a, pooling, save_state, low_precision);
  return {out.logits, out.h_n, out.c_n, out.pooled, out.saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> LstmLinearBackwardOp(
    Tensor grad_logits, MaybeTensor grad_h_n, MaybeTensor grad_c_n, Tensor x, MaybeTensor lengths,
    Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out, MaybeTensor h_0,
    MaybeTensor c_0, MaybeTensor recurrent_mask, Tensor pooled, Tensor saved, std::string pooling,
    bool needs_grad_x, bool low_precision) {
  if (low_precision) Raise(Status::kBfloat16Misplaced);
  const Arguments a{x,          lengths, weight_ih, weight_hh, bias,
                    weight_out, {},      h_0,       c_0,       recurrent_mask};
  const BackwardResult g = RunBackward(a, pooling, pooled, saved, std::nullopt, grad_logits,
                                       grad_h_n, grad_c_n, needs_grad_x);
  return {g.x, g.weight_ih, g.weight_hh, g.bias, g.weight_out, g.bias_out, g.h_0, g.c_0};
}

// The value that a name of an option stands for.
template <typename Enum, size_t n>
Enum Named(const char* option, const std::string& name,
           const std::array<std::pair<const char*, Enum>, n>& known) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names += std::string(names.empty() ? "" : ", ") + text;
  }
  Fail(std::string("sensorseq: ") + option + " '" + name + "' is not known. Known: " + names + ".");
}

HeadNorm HeadNormNamed(const std::string& name) {
  return Named<HeadNorm, 3>(
      "head_norm", name,
      {{{"none", HeadNorm::kNone}, {"batch", HeadNorm::kBatch}, {"layer", HeadNorm::kLayer}}});
}

Optimizer OptimizerNamed(const std::string& name) {
  return Named<Optimizer, 4>("optimizer", name,
                             {{{"sgd", Optimizer::kSgd},
                               {"adam", Optimizer::kAdam},
                               {"adamw", Optimizer::kAdamW},
                               {"rmsprop", Optimizer::kRmsprop}}});
}

Loss LossNamed(const std::string& name) {
  return Named<Loss, 3>(
      "loss", name,
      {{{"cross_entropy", Loss::kCrossEntropy}, {"focal", Loss::kFocal}, {"mse", Loss::kMse}}});
}

TrainShape NetworkShape(int64_t n_channels, int64_t hidden_size, int64_t n_layers,
                        int64_t n_directions, int64_t n_classes, const std::string& pooling,
                        const std::string& head_norm) {
  TrainShape s;
  s.n_channels = n_channels;
  s.hidden_size = hidden_size;
  s.n_layers = n_layers;
  s.n_directions = n_directions;
  s.n_classes = n_classes;
  s.pooling = PoolingNamed(pooling);
  s.head_norm = HeadNormNamed(head_norm);
  if (n_layers < 1 || n_layers > kMaxLayers) {
    Fail("sensorseq: n_layers is " + std::to_string(n_layers) + "; expected 1 to " +
         std::to_string(kMaxLayers) + ".");
  }
  if (n_channels < 0 || hidden_size < 1 || n_directions < 1 || n_directions > 2 || n_classes < 1) {
    Raise(Status::kInvalidShape);
  }
  return s;
}

// How many models an argument with a first size of 1 or M holds.
int64_t ModelsOf(const Tensor& tensor, const char* name, int64_t n_models) {
  const int64_t n = tensor.dim() == 0 ? 0 : tensor.size(0);
  if (n != 1 && n != n_models) {
    Fail(std::string("sensorseq: ") + name + " holds " + std::to_string(n) +
         " models; expected 1 or " + std::to_string(n_models) + ".");
  }
  return n;
}

void CheckMaybe(const MaybeTensor& tensor, const char* name, const Sizes& sizes, ScalarType dtype) {
  if (tensor) CheckTensor(*tensor, name, sizes, dtype);
}

using LossResult =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

LossResult LstmLinearLossOp(Tensor x, MaybeTensor lengths, Tensor class_index,
                            MaybeTensor sample_weight, Tensor weight_ih, Tensor weight_hh,
                            Tensor bias, Tensor weight_out, Tensor bias_out, MaybeTensor h_0,
                            MaybeTensor c_0, MaybeTensor recurrent_mask, std::string pooling,
                            std::string loss, double label_smoothing, bool needs_grad,
                            bool needs_grad_x) {
  const Arguments a{x,          lengths,  weight_ih, weight_hh, bias,
                    weight_out, bias_out, h_0,       c_0,       recurrent_mask};
  const LstmShape s = a.Check(pooling);
  const int64_t M = s.n_models, N = s.n_windows;
  const int64_t Mc = ModelsOf(class_index, "class_index", M);
  const int64_t Mw = sample_weight ? ModelsOf(*sample_weight, "sample_weight", M) : 1;
  CheckTensor(class_index, "class_index", {Mc, N}, ScalarType::Long);
  CheckMaybe(sample_weight, "sample_weight", {Mw, N}, x.scalar_type());
  if (s.n_classes < 1) Fail("sensorseq: weight_out has no classes; a loss needs at least one.");
  if (!(label_smoothing >= 0.0 && label_smoothing < 1.0)) {
    Fail("sensorseq: label_smoothing is " + std::to_string(label_smoothing) +
         "; expected 0 or more, and below 1.");
  }
  const Tensor mean_loss = Empty(x, {M}), logits = Empty(x, {M, N, s.n_classes});
  BackwardResult grad;
  if (needs_grad) {
    grad = EmptyGradients(a, s, needs_grad_x);
  } else {
    for (Tensor* tensor : {&grad.x, &grad.weight_ih, &grad.weight_hh, &grad.bias, &grad.weight_out,
                           &grad.bias_out, &grad.h_0, &grad.c_0}) {
      *tensor = Empty(x, {0});
    }
  }
  ForDtype(x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    LstmLinearLoss<Real> args{};
    args.shape = s;
    args.in = a.Inputs<Real>();
    args.bias_out = Data<Real>(bias_out);
    args.loss = LossNamed(loss);
    args.label_smoothing = label_smoothing;
    args.n_class_models = Mc;
    args.n_weight_models = Mw;
    args.class_index = Data<int64_t>(class_index);
    args.weight = Data<Real>(sample_weight);
    args.mean_loss = MutableData<Real>(mean_loss);
    args.logits = MutableData<Real>(logits);
    args.needs_gradients = needs_grad;
    if (needs_grad) {
      args.grad_x = needs_grad_x ? MutableData<Real>(grad.x) : nullptr;
      args.grad_weight_ih = MutableData<Real>(grad.weight_ih);
      args.grad_weight_hh = MutableData<Real>(grad.weight_hh);
      args.grad_bias = MutableData<Real>(grad.bias);
      args.grad_weight_out = MutableData<Real>(grad.weight_out);
      args.grad_bias_out = MutableData<Real>(grad.bias_out);
      args.grad_h_0 = a.h_0 ? MutableData<Real>(grad.h_0) : nullptr;
      args.grad_c_0 = a.c_0 ? MutableData<Real>(grad.c_0) : nullptr;
    }
    args.workspace = Workspace(lstm_linear_loss_workspace_bytes(s, needs_grad, sizeof(Real)));
    args.parallel = ParallelFor(s);
    Raise(lstm_linear_loss(args));
  });
  return {mean_loss, logits,          grad.x,        grad.weight_ih, grad.weight_hh,
          grad.bias, grad.weight_out, grad.bias_out, grad.h_0,       grad.c_0};
}

void TrainEpochOp(Tensor x, MaybeTensor lengths, Tensor class_index, MaybeTensor weight,
                  Tensor rows, Tensor offsets, MaybeTensor crop_starts, Tensor learning_rate,
                  Tensor hyper, MaybeTensor seeds, Tensor parameters, Tensor state,
                  Tensor step_count, MaybeTensor average, MaybeTensor running, Tensor statistics,
                  MaybeTensor margins, Tensor workspace, int64_t n_timesteps, int64_t hidden_size,
                  int64_t n_layers, int64_t n_directions, int64_t n_classes, std::string pooling,
                  std::string head_norm, std::string loss, std::string optimizer, int64_t max_batch,
                  int64_t first_step, int64_t n_steps, int64_t detail_every, int64_t n_lanes) {
  const ScalarType dtype = x.scalar_type(), whole = ScalarType::Long, wide = ScalarType::Double;
  if (x.dim() != 4) {
    Fail("sensorseq: x needs 4 dimensions (models, windows, timesteps, channels); it has " +
         std::to_string(x.dim()) + ".");
  }
  if (dtype != ScalarType::Float && dtype != wide) Fail("sensorseq: x must be float32 or float64.");
  if (parameters.dim() != 2 || rows.dim() != 2 || offsets.dim() != 2 || offsets.size(1) < 1) {
    Fail("sensorseq: parameters, rows and offsets need 2 dimensions, and offsets an entry.");
  }
  TrainShape s =
      NetworkShape(x.size(3), hidden_size, n_layers, n_directions, n_classes, pooling, head_norm);
  s.n_models = parameters.size(0);
  s.n_windows = x.size(1);
  s.n_data_timesteps = x.size(2);
  s.n_timesteps = n_timesteps;
  s.n_rows = rows.size(1);
  s.n_steps = offsets.size(1) - 1;
  s.max_batch = max_batch;
  const int64_t M = s.n_models, N = s.n_windows, S = s.n_steps, Q = ParameterCount(s);
  const Optimizer rule = OptimizerNamed(optimizer);
  const int64_t Mx = ModelsOf(x, "x", M), Mc = ModelsOf(class_index, "class_index", M);
  const int64_t Mr = ModelsOf(rows, "rows", M), Ml = ModelsOf(learning_rate, "learning_rate", M);
  const int64_t Mw = weight ? ModelsOf(*weight, "weight", M) : 1;
  CheckTensor(x, "x", {Mx, N, s.n_data_timesteps, s.n_channels}, dtype);
  CheckMaybe(lengths, "lengths", {N}, whole);
  CheckTensor(class_index, "class_index", {Mc, N}, whole);
  CheckMaybe(weight, "weight", {Mw, N}, dtype);
  CheckTensor(rows, "rows", {Mr, s.n_rows}, whole);
  CheckTensor(offsets, "offsets", {Mr, S + 1}, whole);
  CheckMaybe(crop_starts, "crop_starts", {Mr, s.n_rows}, whole);
  CheckTensor(learning_rate, "learning_rate", {Ml, S}, wide);
  CheckTensor(hyper, "hyper", {M, kHyperColumns}, wide);
  CheckMaybe(seeds, "seeds", {M}, whole);
  CheckTensor(parameters, "parameters", {M, Q}, dtype);
  CheckTensor(state, "state", {M, StateRows(rule), Q}, dtype);
  CheckTensor(step_count, "step_count", {M}, whole);
  CheckMaybe(average, "average", {M, Q}, dtype);
  const int64_t P = n_directions * hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
  CheckMaybe(running, "running", {M, 2, P}, dtype);
  if (s.head_norm == HeadNorm::kBatch && !running) Fail("sensorseq: running is missing.");
  CheckTensor(statistics, "statistics", {M, S, kStatisticColumns}, wide);
  CheckMaybe(margins, "margins", {M, s.n_rows}, dtype);
  const double* columns = Data<double>(hyper);
  for (int64_t m = 0; m < M && !seeds; ++m, columns += kHyperColumns) {
    if (columns[kDropout] != 0.0 || columns[kRecurrentDropout] != 0.0) {
      Fail("sensorseq: seeds is missing; dropout and recurrent_dropout need it.");
    }
  }
  if (n_lanes < 1 || n_lanes > M || max_batch < 0) Raise(Status::kInvalidShape);
  ForDtype(x, [&](auto* type) {
    using Real = std::remove_pointer_t<decltype(type)>;
    const auto bytes = static_cast<int64_t>(train_epoch_workspace_bytes(s, n_lanes, sizeof(Real)));
    if (workspace.scalar_type() != ScalarType::Byte || !workspace.is_cpu() ||
        !workspace.is_contiguous() || workspace.numel() < bytes ||
        reinterpret_cast<uintptr_t>(workspace.data_ptr()) % 64 != 0) {
      Fail("sensorseq: workspace must be " + std::to_string(bytes) +
           " bytes (uint8), aligned to 64.");
    }
    TrainEpoch<Real> args{};
    args.shape = s;
    args.loss = LossNamed(loss);
    args.optimizer = rule;
    args.n_x_models = Mx;
    args.n_class_models = Mc;
    args.n_weight_models = Mw;
    args.n_row_models = Mr;
    args.n_rate_models = Ml;
    args.x = Data<Real>(x);
    args.lengths = Data<int64_t>(lengths);
    args.class_index = Data<int64_t>(class_index);
    args.weight = Data<Real>(weight);
    args.rows = Data<int64_t>(rows);
    args.offsets = Data<int64_t>(offsets);
    args.crop_starts = Data<int64_t>(crop_starts);
    args.learning_rate = Data<double>(learning_rate);
    args.hyper = Data<double>(hyper);
    args.seeds = Data<int64_t>(seeds);
    args.parameters = MutableData<Real>(parameters);
    args.state = MutableData<Real>(state);
    args.step_count = MutableData<int64_t>(step_count);
    args.average = average ? MutableData<Real>(*average) : nullptr;
    args.running = running ? MutableData<Real>(*running) : nullptr;
    args.statistics = MutableData<double>(statistics);
    args.margins = margins ? MutableData<Real>(*margins) : nullptr;
    args.first_step = first_step;
    args.n_steps = n_steps;
    args.detail_every = detail_every;
    args.n_lanes = n_lanes;
    args.workspace = workspace.data_ptr();
    LstmShape of_step;
    of_step.n_models = n_lanes;
    of_step.n_windows = max_batch;
    of_step.n_timesteps = n_timesteps;
    of_step.n_channels = s.n_channels;
    of_step.hidden_size = hidden_size;
    of_step.n_directions = n_directions;
    args.parallel = n_lanes > 1 ? Parallel{&RunParallel, nullptr} : ParallelFor(of_step);
    Raise(train_epoch(args));
  });
}

int64_t TrainEpochWorkspaceBytes(int64_t n_channels, int64_t n_timesteps, int64_t hidden_size,
                                 int64_t n_layers, int64_t n_directions, int64_t n_classes,
                                 std::string pooling, std::string head_norm, int64_t max_batch,
                                 int64_t n_lanes, int64_t real_bytes) {
  TrainShape s =
      NetworkShape(n_channels, hidden_size, n_layers, n_directions, n_classes, pooling, head_norm);
  s.n_timesteps = n_timesteps;
  s.max_batch = max_batch;
  return static_cast<int64_t>(
      train_epoch_workspace_bytes(s, n_lanes, static_cast<size_t>(real_bytes)));
}

// Names of the columns of `hyper` or of `statistics`, by commas.
std::string TrainEpochColumns(std::string tensor) {
  std::string names;
  auto Append = [&](const char* name) { names += (names.empty() ? "" : ",") + std::string(name); };
  if (tensor == "hyper") {
    for (const char* name : kHyperNames) Append(name);
  } else {
    for (const char* name : kStatisticNames) Append(name);
  }
  return names;
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

// Whether the instruction set that serves has products of bfloat16.
bool CpuBfloat16() {
  Status status;
  const bool has = ActiveBfloat16Kernels(&status) != nullptr;
  if (status != Status::kNoBfloat16) Raise(status);
  return has;
}

// Runs chains of multiply-adds, `repeats` turns in each of `n_tasks` tasks on torch's threads.
int64_t MultiplyAddFlops(int64_t repeats, int64_t n_tasks) {
  Status status;
  const Kernels* kernels = ActiveKernels(&status);
  Raise(status);
  if (repeats < 0 || n_tasks < 1) {
    Fail("sensorseq: repeats is " + std::to_string(repeats) + " and n_tasks " +
         std::to_string(n_tasks) + "; expected 0 or more and 1 or more.");
  }
  std::vector<int64_t> flops(static_cast<size_t>(n_tasks));
  torch::stable::parallel_for(0, n_tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      flops[static_cast<size_t>(i)] = kernels->multiply_add_flops(repeats);
    }
  });
  return std::accumulate(flops.begin(), flops.end(), int64_t{0});
}

}  // namespace
}  // namespace sensorseq

STABLE_TORCH_LIBRARY(sensorseq, m) {
  m.def(
      "lstm(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, bool save_state, bool "
      "low_precision=False)"
      " -> (Tensor hidden, Tensor h_n, Tensor c_n, Tensor saved)");
  m.def(
      "lstm_backward(Tensor? grad_hidden, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? h_0,"
      " Tensor? c_0, Tensor? recurrent_mask, Tensor saved, bool needs_grad_x,"
      " bool low_precision=False)"
      " -> (Tensor grad_x, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias,"
      " Tensor grad_h_0, Tensor grad_c_0)");
  m.def(
      "lstm_linear(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor weight_out, Tensor bias_out, Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask,"
      " str pooling, bool save_state, bool low_precision=False)"
      " -> (Tensor logits, Tensor h_n, Tensor c_n, Tensor pooled, Tensor saved)");
  m.def(
      "lstm_linear_backward(Tensor grad_logits, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, Tensor pooled, Tensor saved,"
      " str pooling, bool needs_grad_x, bool low_precision=False)"
      " -> (Tensor grad_x, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias,"
      " Tensor grad_weight_out, Tensor grad_bias_out, Tensor grad_h_0, Tensor grad_c_0)");
  m.def("lstm_pack(Tensor weight_ih, Tensor weight_hh, Tensor bias) -> Tensor packed");
  m.def("lstm_stream(Tensor x, Tensor packed, Tensor(a!) h, Tensor(b!) c) -> Tensor hidden");
  m.def(
      "lstm_linear_stream(Tensor x, Tensor packed, Tensor weight_out, Tensor bias_out,"
      " Tensor(a!) h, Tensor(b!) c) -> Tensor logits");
  m.def(
      "lstm_linear_loss(Tensor x, Tensor? lengths, Tensor class_index, Tensor? sample_weight,"
      " Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out, Tensor bias_out,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, str pooling, str loss,"
      " float label_smoothing, bool needs_grad, bool needs_grad_x)"
      " -> (Tensor mean_loss, Tensor logits, Tensor grad_x, Tensor grad_weight_ih,"
      " Tensor grad_weight_hh, Tensor grad_bias, Tensor grad_weight_out, Tensor grad_bias_out,"
      " Tensor grad_h_0, Tensor grad_c_0)");
  m.def(
      "train_epoch(Tensor x, Tensor? lengths, Tensor class_index, Tensor? weight, Tensor rows,"
      " Tensor offsets, Tensor? crop_starts, Tensor learning_rate, Tensor hyper, Tensor? seeds,"
      " Tensor(a!) parameters, Tensor(b!) state, Tensor(c!) step_count, Tensor(d!)? average,"
      " Tensor(e!)? running, Tensor(f!) statistics, Tensor(g!)? margins, Tensor(h!) workspace,"
      " int n_timesteps, int hidden_size, int n_layers, int n_directions, int n_classes,"
      " str pooling, str head_norm, str loss, str optimizer, int max_batch, int first_step,"
      " int n_steps, int detail_every, int n_lanes) -> ()");
  m.def(
      "train_epoch_workspace_bytes(int n_channels, int n_timesteps, int hidden_size,"
      " int n_layers, int n_directions, int n_classes, str pooling, str head_norm, int max_batch,"
      " int n_lanes, int real_bytes) -> int");
  m.def("train_epoch_columns(str tensor) -> str");
  m.def("cpu_isa() -> str");
  m.def("cpu_isas() -> str");
  m.def("cpu_bfloat16() -> bool");
  m.def("multiply_add_flops(int repeats, int n_tasks=1) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CPU, m) {
  m.impl("lstm", TORCH_BOX(&sensorseq::Lstm));
  m.impl("lstm_backward", TORCH_BOX(&sensorseq::LstmBackwardOp));
  m.impl("lstm_linear", TORCH_BOX(&sensorseq::LstmLinear));
  m.impl("lstm_linear_backward", TORCH_BOX(&sensorseq::LstmLinearBackwardOp));
  m.impl("lstm_linear_loss", TORCH_BOX(&sensorseq::LstmLinearLossOp));
  m.impl("lstm_pack", TORCH_BOX(&sensorseq::LstmPack));
  m.impl("lstm_stream", TORCH_BOX(&sensorseq::LstmStream));
  m.impl("lstm_linear_stream", TORCH_BOX(&sensorseq::LstmLinearStream));
  m.impl("train_epoch", TORCH_BOX(&sensorseq::TrainEpochOp));
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CompositeExplicitAutograd, m) {
  m.impl("train_epoch_workspace_bytes", TORCH_BOX(&sensorseq::TrainEpochWorkspaceBytes));
  m.impl("train_epoch_columns", TORCH_BOX(&sensorseq::TrainEpochColumns));
  m.impl("cpu_isa", TORCH_BOX(&sensorseq::CpuIsa));
  m.impl("cpu_isas", TORCH_BOX(&sensorseq::CpuIsas));
  m.impl("cpu_bfloat16", TORCH_BOX(&sensorseq::CpuBfloat16));
  m.impl("multiply_add_flops", TORCH_BOX(&sensorseq::MultiplyAddFlops));
}
