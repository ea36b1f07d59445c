// The operators for torch: their schemas, and their implementation on the CPU. Only this
// file, ops_cuda.cpp and their headers include torch. They use only torch's stable ABI, so a binary
// works with the torch version it was built with, with every later one, and with every Python
// version.
#include <atomic>
#include <optional>
#include <string>
#include <tuple>

#include "base/block_pool.h"
#include "base/thread_pool.h"
#include "bind/ops_train.h"
#include "cpu/dispatch.h"
#include "lstm/calls.h"
#include "lstm/lstm_linear_loss.h"
#include "lstm/train_epoch.h"

namespace sensorseq {
namespace {

// Makes the tensor for the saved state of a forward pass, with memory from the pool. This tensor is
// the largest of a training step.
Tensor EmptySaved(const Tensor& like, const Sizes& sizes) {
  const ScalarType dtype = like.scalar_type();
  Sizes strides(sizes.size());
  int64_t n = 1;
  for (size_t i = sizes.size(); i-- > 0; n *= sizes[i]) strides[i] = n;
  if (n == 0) return Empty(like, sizes);
  const size_t real_bytes = dtype == ScalarType::Double ? sizeof(double) : sizeof(float);
  void* block = BlockPool::Instance().Take(static_cast<size_t>(n) * real_bytes);
  if (block == nullptr) {
    Fail("sensorseq: no memory for the saved state of " + Text(sizes) + ".");
  }
  return torch::stable::from_blob(block, IntHeaderOnlyArrayRef(sizes.data(), sizes.size()),
                                  IntHeaderOnlyArrayRef(strides.data(), strides.size()),
                                  like.device(), dtype,
                                  [](void* data) { BlockPool::Instance().Give(data); });
}

void* Workspace(size_t bytes) {
  void* const block = ThreadWorkspace(bytes);
  if (block == nullptr && bytes > 0) {
    Fail("sensorseq: no memory for a workspace of " + std::to_string(bytes) + " bytes.");
  }
  return block;
}

// Runs the tasks on as many threads as torch would use now, but not on torch's own threads, because
// those spin for milliseconds after each parallel region and do not survive a fork.
void RunParallel(void*, int64_t n_tasks, Parallel::Task task, void* context) {
  ThreadPool::Instance().Run(torch::stable::get_num_threads(), n_tasks, task, context);
}

// Runs the tasks of calls from autograd on torch's threads. Torch's operators run between these
// calls, and torch's threads spin for milliseconds after each operator. Threads of our own would
// have to share the cores with torch's threads.
void RunOnTorch(void*, int64_t n_tasks, Parallel::Task task, void* context) {
  if (is_forked_child) return RunParallel(nullptr, n_tasks, task, context);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, n_tasks, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1)) < n_tasks;) task(context, i);
  });
}

Parallel ParallelFor(const LstmShape& s, bool is_autograd = false) {
  if (IsSerial(s)) return Parallel{};
  return Parallel{is_autograd ? &RunOnTorch : &RunParallel, nullptr,
                  torch::stable::get_num_threads()};
}

void Raise(Status status) {
  if (status == Status::kOk) return;
  if (status == Status::kUnknownIsa || status == Status::kIsaNotSupported) {
    Fail(AllKernels().Refusal(status));
  }
  Fail(std::string("sensorseq: ") + StatusText(status) + ".");
}

Sizes SavedSizes(const LstmShape& s, bool save_state) {
  if (!save_state) return {0};
  return {s.n_models, s.n_directions, s.n_windows, SavedRows(s.n_timesteps), Padded(s.hidden_size)};
}

// Calls f with a null pointer to the C++ type that corresponds to the tensor's dtype.
template <typename F>
void ForDtype(const Tensor& tensor, F f) {
  if (tensor.scalar_type() == ScalarType::Float) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<double*>(nullptr));
  }
}

void RefusePrecision(const std::string& precision) {
  if (precision.empty()) return;
  Fail("sensorseq: precision is for GPUs; the CPU computes in the dtype of x.");
}

struct Cpu {
  static ForwardResult Forward(const Arguments& a, const std::string& pooling, bool save_state,
                               const std::string& precision) {
    RefusePrecision(precision);
    const LstmShape s = a.Check(pooling);
    const ForwardResult out = EmptyForward(a, s, EmptySaved(a.x, SavedSizes(s, save_state)));
    ForDtype(a.x, [&](auto* type) {
      using Real = std::remove_pointer_t<decltype(type)>;
      LstmForward<Real> args = ForwardCall<Real>(a, s, out, save_state);
      args.workspace = Workspace(lstm_forward_workspace_bytes(s, sizeof(Real)));
      args.parallel = ParallelFor(s, save_state);
      Raise(lstm_forward(args));
    });
    return out;
  }

  static BackwardResult Backward(const Arguments& a, const std::string& pooling,
                                 const BackwardInputs& in, bool needs_grad_x,
                                 const std::string& precision) {
    RefusePrecision(precision);
    const LstmShape s = a.Check(pooling);
    in.Check(a, s, SavedSizes(s, true));
    const BackwardResult grad = EmptyGradients(a, s, needs_grad_x);
    ForDtype(a.x, [&](auto* type) {
      using Real = std::remove_pointer_t<decltype(type)>;
      LstmBackward<Real> args = BackwardCall<Real>(a, s, in, grad, needs_grad_x);
      args.workspace = Workspace(lstm_backward_workspace_bytes(s, sizeof(Real)));
      args.parallel = ParallelFor(s, true);
      Raise(lstm_backward(args));
    });
    return grad;
  }
};

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
  CheckCountable(0, 0, s.n_channels, H, 1.0 * M * D);
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

// Runs one layer of one model and direction on packed weights, and updates h and c in place. The op
// has few arguments and one output, because passing arguments and outputs costs more than the
// arithmetic of one step of one window.
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
    args.parallel = ParallelFor(s, needs_grad);
    Raise(lstm_linear_loss(args));
  });
  return {mean_loss, logits,          grad.x,        grad.weight_ih, grad.weight_hh,
          grad.bias, grad.weight_out, grad.bias_out, grad.h_0,       grad.c_0};
}

struct CpuTraining {
  static void Run(const TrainTensors& t, int64_t n_lanes, const std::string& precision) {
    RefusePrecision(precision);
    const TrainShape s = t.Check();
    const double* columns = Data<double>(t.hyper);
    for (int64_t m = 0; m < s.n_models && !t.seeds; ++m, columns += kHyperColumns) {
      if (columns[kDropout] != 0.0 || columns[kRecurrentDropout] != 0.0) {
        Fail("sensorseq: seeds is missing; dropout and recurrent_dropout need it.");
      }
    }
    if (n_lanes < 1 || n_lanes > s.n_models) Raise(Status::kInvalidShape);
    ForDtype(t.x, [&](auto* type) {
      using Real = std::remove_pointer_t<decltype(type)>;
      const auto bytes =
          static_cast<int64_t>(train_epoch_workspace_bytes(s, n_lanes, sizeof(Real)));
      if (t.workspace.scalar_type() != ScalarType::Byte || !t.workspace.is_cpu() ||
          !t.workspace.is_contiguous() || t.workspace.numel() < bytes ||
          reinterpret_cast<uintptr_t>(t.workspace.data_ptr()) % 64 != 0) {
        Fail("sensorseq: workspace must be " + std::to_string(bytes) +
             " bytes (uint8), aligned to 64.");
      }
      TrainEpoch<Real> args = t.Call<Real>(s);
      args.n_lanes = n_lanes;
      args.workspace = t.workspace.data_ptr();
      LstmShape of_step;
      of_step.n_models = n_lanes;
      of_step.n_windows = s.max_batch;
      of_step.n_timesteps = s.n_timesteps;
      of_step.n_channels = s.n_channels;
      of_step.hidden_size = s.hidden_size;
      of_step.n_directions = s.n_directions;
      args.parallel = n_lanes > 1 ? Parallel{&RunParallel} : ParallelFor(of_step);
      Raise(train_epoch(args));
    });
  }
};

// Raises the same errors as train_epoch for these arrays, before they are copied to a GPU. Checks
// all steps listed in `offsets`.
void TrainEpochCheck(MaybeTensor lengths, Tensor class_index, Tensor rows, Tensor offsets,
                     MaybeTensor crop_starts, int64_t n_data_timesteps, int64_t n_timesteps,
                     int64_t n_classes, int64_t max_batch) {
  const ScalarType whole = ScalarType::Long;
  for (const Tensor* tensor : {&class_index, &rows, &offsets}) {
    if (tensor->dim() != 2 || tensor->size(tensor == &offsets ? 1 : 0) < 1) {
      Fail("sensorseq: class_index, rows and offsets need 2 dimensions, and offsets an entry.");
    }
  }
  const int64_t Mc = class_index.size(0), N = class_index.size(1), Mr = rows.size(0);
  TrainEpoch<float> args{};
  args.shape.n_windows = N;
  args.shape.n_data_timesteps = n_data_timesteps;
  args.shape.n_timesteps = n_timesteps;
  args.shape.n_classes = n_classes;
  args.shape.n_rows = rows.size(1);
  args.shape.n_steps = args.n_steps = offsets.size(1) - 1;
  args.shape.max_batch = max_batch;
  CheckMaybe(lengths, "lengths", {N}, whole);
  CheckTensor(class_index, "class_index", {Mc, N}, whole);
  CheckTensor(rows, "rows", {Mr, args.shape.n_rows}, whole);
  CheckTensor(offsets, "offsets", {Mr, args.n_steps + 1}, whole);
  CheckMaybe(crop_starts, "crop_starts", {Mr, args.shape.n_rows}, whole);
  args.n_class_models = Mc;
  args.n_row_models = Mr;
  args.lengths = Data<int64_t>(lengths);
  args.class_index = Data<int64_t>(class_index);
  args.rows = Data<int64_t>(rows);
  args.offsets = Data<int64_t>(offsets);
  args.crop_starts = Data<int64_t>(crop_starts);
  Raise(CheckValues(args));
}

constexpr int64_t kMostLanes = 1 << 20;  // more models than anyone trains at a time

int64_t TrainEpochWorkspaceBytes(int64_t n_channels, int64_t n_timesteps, int64_t hidden_size,
                                 int64_t n_layers, int64_t n_directions, int64_t n_classes,
                                 std::string pooling, std::string head_norm, int64_t max_batch,
                                 int64_t n_lanes, int64_t real_bytes) {
  TrainShape s =
      NetworkShape(n_channels, hidden_size, n_layers, n_directions, n_classes, pooling, head_norm);
  s.n_timesteps = n_timesteps;
  s.max_batch = max_batch;
  if (n_lanes < 1 || n_lanes > kMostLanes || (real_bytes != 4 && real_bytes != 8)) {
    Raise(Status::kInvalidShape);
  }
  CheckCountable(max_batch, n_timesteps, n_channels, hidden_size,
                 1.0 * n_layers * n_directions * n_lanes);
  return static_cast<int64_t>(
      train_epoch_workspace_bytes(s, n_lanes, static_cast<size_t>(real_bytes)));
}

// Names of the columns of `hyper` or of `statistics`, separated by commas.
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

// Every instruction set of this build that this processor supports, best first, separated by
// commas.
std::string CpuIsas() {
  std::string names;
  const KernelTable table = AllKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    if (!table.rows[i]->is_supported()) continue;
    names += (names.empty() ? "" : ",") + std::string(table.rows[i]->name);
  }
  return names;
}

// Runs chains of multiply-adds, with `repeats` rounds in each of `n_tasks` parallel tasks. Returns
// the number of floating-point operations.
int64_t MultiplyAddFlops(int64_t repeats, int64_t n_tasks) {
  Status status;
  const Kernels* kernels = ActiveKernels(&status);
  Raise(status);
  if (repeats < 0 || n_tasks < 1) {
    Fail("sensorseq: repeats is " + std::to_string(repeats) + " and n_tasks " +
         std::to_string(n_tasks) + "; expected 0 or more and 1 or more.");
  }
  struct Work {
    const Kernels* kernels;
    int64_t repeats;
    std::atomic<int64_t> flops;
  } work{kernels, repeats, {0}};
  const auto task = [](void* context, int64_t) {
    Work& work = *static_cast<Work*>(context);
    work.flops += work.kernels->multiply_add_flops(work.repeats);
  };
  RunParallel(nullptr, n_tasks, task, &work);
  return work.flops;
}

}  // namespace
}  // namespace sensorseq

STABLE_TORCH_LIBRARY(sensorseq, m) {
  m.def(
      "lstm(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, bool save_state,"
      " str precision=\"\")"
      " -> (Tensor hidden, Tensor h_n, Tensor c_n, Tensor saved)");
  m.def(
      "lstm_backward(Tensor? grad_hidden, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? h_0,"
      " Tensor? c_0, Tensor? recurrent_mask, Tensor saved, bool needs_grad_x,"
      " str precision=\"\")"
      " -> (Tensor grad_x, Tensor grad_weight_ih, Tensor grad_weight_hh, Tensor grad_bias,"
      " Tensor grad_h_0, Tensor grad_c_0)");
  m.def(
      "lstm_linear(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor weight_out, Tensor bias_out, Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask,"
      " str pooling, bool save_state, str precision=\"\")"
      " -> (Tensor logits, Tensor h_n, Tensor c_n, Tensor pooled, Tensor saved)");
  m.def(
      "lstm_linear_backward(Tensor grad_logits, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, Tensor pooled, Tensor saved,"
      " str pooling, bool needs_grad_x, str precision=\"\")"
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
      " int n_steps, int n_lanes, str precision=\"\") -> ()");
  m.def(
      "train_epoch_check(Tensor? lengths, Tensor class_index, Tensor rows, Tensor offsets,"
      " Tensor? crop_starts, int n_data_timesteps, int n_timesteps, int n_classes,"
      " int max_batch) -> ()");
  m.def(
      "train_epoch_workspace_bytes(int n_channels, int n_timesteps, int hidden_size,"
      " int n_layers, int n_directions, int n_classes, str pooling, str head_norm, int max_batch,"
      " int n_lanes, int real_bytes) -> int");
  m.def("train_epoch_columns(str tensor) -> str");
  m.def("cpu_isa() -> str");
  m.def("cpu_isas() -> str");
  m.def(
      "cuda_trains(int n_channels, int hidden_size, int n_layers, int n_directions, str head_norm,"
      " str precision) -> str");
  m.def("cuda_facts() -> str");
  m.def(
      "cuda_is_served(int hidden_size, int n_channels, int n_directions, str precision,"
      " bool is_projected) -> str");
  m.def("multiply_add_flops(int repeats, int n_tasks=1) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CPU, m) {
  m.impl("lstm", TORCH_BOX(&sensorseq::Ops<sensorseq::Cpu>::Lstm));
  m.impl("lstm_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Cpu>::LstmBackward));
  m.impl("lstm_linear", TORCH_BOX(&sensorseq::Ops<sensorseq::Cpu>::LstmLinear));
  m.impl("lstm_linear_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Cpu>::LstmLinearBackward));
  m.impl("lstm_linear_loss", TORCH_BOX(&sensorseq::LstmLinearLossOp));
  m.impl("lstm_pack", TORCH_BOX(&sensorseq::LstmPack));
  m.impl("lstm_stream", TORCH_BOX(&sensorseq::LstmStream));
  m.impl("lstm_linear_stream", TORCH_BOX(&sensorseq::LstmLinearStream));
  m.impl("train_epoch", TORCH_BOX(&sensorseq::TrainEpochOp<sensorseq::CpuTraining>));
  m.impl("train_epoch_check", TORCH_BOX(&sensorseq::TrainEpochCheck));
}

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CompositeExplicitAutograd, m) {
  m.impl("train_epoch_workspace_bytes", TORCH_BOX(&sensorseq::TrainEpochWorkspaceBytes));
  m.impl("train_epoch_columns", TORCH_BOX(&sensorseq::TrainEpochColumns));
  m.impl("cpu_isa", TORCH_BOX(&sensorseq::CpuIsa));
  m.impl("cpu_isas", TORCH_BOX(&sensorseq::CpuIsas));
  m.impl("cuda_trains", TORCH_BOX(&sensorseq::CudaTrains));
  m.impl("cuda_facts", TORCH_BOX(&sensorseq::CudaFacts));
  m.impl("cuda_is_served", TORCH_BOX(&sensorseq::CudaIsServed));
  m.impl("multiply_add_flops", TORCH_BOX(&sensorseq::MultiplyAddFlops));
}
