// Computes the loss of a batch and its gradients. With gradients, runs the fused step of
// lstm_linear.h, with the head and the loss between its passes; without gradients, runs only a
// forward pass.
#include "lstm/lstm_linear_loss.h"

#include "base/carver.h"
#include "cpu/dispatch.h"
#include "cpu/train_head.h"
#include "lstm/train_loss.h"

namespace sensorseq {
namespace {

template <typename Real>
struct Buffers {
  Real *h_n, *c_n;             // (M, N, D, H)
  Real *pooled, *grad_pooled;  // (M, N, P)
  Real* shares;                // (tasks, share_stride)  gradients of the head by slot
  Real* grad_logits;           // (tasks, class_stride)
  double *log_p, *grad_loss;   // (tasks, class_stride)
  double* losses;              // (M, N)
  void* kernel_workspace;
  int64_t share_stride, class_stride;  // rounded up to cache lines, because tasks run in parallel
};

// The number of tasks of a call: one for each slot of each model, but at least one, so that a
// forward pass has scratch memory.
int64_t TaskCount(const LstmShape& s) {
  const int64_t n = s.n_models * SlotCount(s);
  return n < 1 ? 1 : n;
}

// The layer's shape for the fused step, which has no head.
LstmShape Headless(LstmShape shape) {
  shape.n_classes = 0;
  return shape;
}

template <typename Real>
size_t Carve(const LstmShape& s, bool needs_gradients, void* block, Buffers<Real>* b) {
  const int64_t rows = s.n_models * s.n_windows, state = rows * s.n_directions * s.hidden_size;
  const int64_t P = PooledSize(s), K = s.n_classes, n_tasks = TaskCount(s);
  Carver carver(block);
  b->share_stride = Aligned(K * (P + 1));
  b->class_stride = Aligned(K);
  b->h_n = carver.Take<Real>(state);
  b->c_n = carver.Take<Real>(state);
  b->pooled = carver.Take<Real>(rows * P);
  b->grad_pooled = carver.Take<Real>(needs_gradients ? rows * P : 0);
  b->shares = carver.Take<Real>(needs_gradients ? n_tasks * b->share_stride : 0);
  b->grad_logits = carver.Take<Real>(n_tasks * b->class_stride);
  b->log_p = carver.Take<double>(n_tasks * b->class_stride);
  b->grad_loss = carver.Take<double>(n_tasks * b->class_stride);
  b->losses = carver.Take<double>(rows);
  const size_t bytes = needs_gradients ? lstm_step_workspace_bytes(Headless(s), sizeof(Real))
                                       : lstm_forward_workspace_bytes(s, sizeof(Real));
  b->kernel_workspace = carver.Take<char>(static_cast<int64_t>(bytes));
  return carver.used();
}

template <typename Real>
class Call {
 public:
  Call(const LstmLinearLoss<Real>& args, const Kernels& kernels)
      : a_(args),
        s_(args.shape),
        P_(PooledSize(args.shape)),
        kernels_(KernelsFor(kernels, Real())) {
    Carve(s_, args.needs_gradients, args.workspace, &b_);
  }

  Status Run() {
    RunTasks(Parallel{}, 1, &Call::Task, this, kSubnormalsOf<Real>);
    return status_;
  }

 private:
  static void Task(void* context, int64_t) { static_cast<Call*>(context)->RunPasses(); }

  void RunPasses() {
    status_ = a_.needs_gradients ? RunStep() : RunForward();
    if (status_ != Status::kOk) return;
    const int64_t N = s_.n_windows;
    for (int64_t model = 0; model < s_.n_models; ++model) {
      const double* losses = b_.losses + model * N;
      a_.mean_loss[model] =
          static_cast<Real>(Sum(N, [=](int64_t i) { return losses[i]; }) / static_cast<double>(N));
    }
  }

  int64_t ClassOf(int64_t model, int64_t window) const {
    return a_.class_index[(a_.n_class_models == 1 ? 0 : model) * s_.n_windows + window];
  }
  double WeightOf(int64_t model, int64_t window) const {
    if (a_.weight == nullptr) return 1.0;
    const int64_t of_model = a_.n_weight_models == 1 ? 0 : model;
    return static_cast<double>(a_.weight[of_model * s_.n_windows + window]);
  }

  LstmForward<Real> ForwardArgs() const {
    LstmForward<Real> args{};
    args.shape = s_;
    args.in = a_.in;
    args.bias_out = a_.bias_out;
    args.h_n = b_.h_n;
    args.c_n = b_.c_n;
    args.pooled = b_.pooled;
    args.logits = a_.logits;
    args.workspace = b_.kernel_workspace;
    args.parallel = a_.parallel;
    return args;
  }

  Status RunForward() {
    const Status status = lstm_forward(ForwardArgs());
    if (status != Status::kOk) return status;
    const int64_t N = s_.n_windows, K = s_.n_classes;
    for (int64_t model = 0; model < s_.n_models; ++model) {
      for (int64_t i = 0; i < N; ++i) {
        const int64_t row = model * N + i;
        b_.losses[row] =
            WeightOf(model, i) * LossAndGradient(a_.loss, a_.label_smoothing, K, ClassOf(model, i),
                                                 a_.logits + row * K, b_.log_p, b_.grad_loss);
      }
    }
    return Status::kOk;
  }

  Status RunStep() {
    LstmStep<Real> step{ForwardArgs(), {}, &Call::Between, this};
    step.forward.shape = Headless(s_);
    step.forward.logits = nullptr;
    LstmBackward<Real>& backward = step.backward;
    backward.shape = step.forward.shape;
    backward.in = a_.in;
    backward.pooled = b_.pooled;
    backward.grad_pooled = b_.grad_pooled;
    backward.grad_x = a_.grad_x;
    backward.grad_weight_ih = a_.grad_weight_ih;
    backward.grad_weight_hh = a_.grad_weight_hh;
    backward.grad_bias = a_.grad_bias;
    backward.grad_h_0 = a_.grad_h_0;
    backward.grad_c_0 = a_.grad_c_0;
    backward.workspace = b_.kernel_workspace;
    backward.parallel = a_.parallel;
    const Status status = lstm_step(step);
    if (status == Status::kOk) SumShares();
    return status;
  }

  static void Between(void* context, int64_t model, int64_t slot, int64_t first, int64_t n) {
    static_cast<const Call*>(context)->RunHead(model, slot, first, n);
  }

  void RunHead(int64_t model, int64_t slot, int64_t first, int64_t n) const {
    const int64_t N = s_.n_windows, K = s_.n_classes, task = model * SlotCount(s_) + slot;
    const int64_t of_classes = task * b_.class_stride;
    const HeadLoss<Real> head_loss{kernels_,
                                   a_.in.weight_out + model * K * P_,
                                   a_.bias_out + model * K,
                                   P_,
                                   K,
                                   a_.loss,
                                   a_.label_smoothing,
                                   static_cast<double>(N)};
    const HeadScratch<Real> scratch{b_.log_p + of_classes, b_.grad_loss + of_classes,
                                    b_.grad_logits + of_classes};
    Real* share = b_.shares + task * b_.share_stride;
    if (first == SlotWindow(slot, s_)) {
      for (int64_t i = 0; i < K * (P_ + 1); ++i) share[i] = Real(0);
    }
    for (int64_t i = first; i < first + n; ++i) {
      const int64_t row = model * N + i;
      b_.losses[row] =
          head_loss.Step(b_.pooled + row * P_, ClassOf(model, i), WeightOf(model, i), scratch,
                         a_.logits + row * K, b_.grad_pooled + row * P_, share);
    }
  }

  // Sums the head's gradients over the slots, in order.
  void SumShares() const {
    const int64_t K = s_.n_classes, n_slots = SlotCount(s_);
    for (int64_t model = 0; model < s_.n_models; ++model) {
      const Real* shares = b_.shares + model * n_slots * b_.share_stride;
      auto Total = [&](int64_t i) {
        Real sum = Real(0);
        for (int64_t slot = 0; slot < n_slots; ++slot) sum += shares[slot * b_.share_stride + i];
        return sum;
      };
      for (int64_t i = 0; i < K * P_; ++i) a_.grad_weight_out[model * K * P_ + i] = Total(i);
      for (int64_t k = 0; k < K; ++k) a_.grad_bias_out[model * K + k] = Total(K * P_ + k);
    }
  }

  const LstmLinearLoss<Real>& a_;
  const LstmShape& s_;
  const int64_t P_;
  const TrainKernels<Real>& kernels_;
  Buffers<Real> b_;
  Status status_ = Status::kOk;
};

bool IsCount(int64_t n, int64_t n_models) { return n == 1 || n == n_models; }

}  // namespace

size_t lstm_linear_loss_workspace_bytes(const LstmShape& shape, bool needs_gradients,
                                        size_t real_bytes) {
  Buffers<float> single;
  Buffers<double> wide;
  return real_bytes == sizeof(float) ? Carve(shape, needs_gradients, nullptr, &single)
                                     : Carve(shape, needs_gradients, nullptr, &wide);
}

template <typename Real>
Status lstm_linear_loss(const LstmLinearLoss<Real>& args) {
  const LstmShape& s = args.shape;
  if (s.pooling == Pooling::kNone || s.n_classes < 1 || !IsCount(args.n_class_models, s.n_models) ||
      !IsCount(args.n_weight_models, s.n_models) ||
      !(args.label_smoothing >= 0.0 && args.label_smoothing < 1.0)) {
    return Status::kInvalidShape;
  }
  for (int64_t i = 0; i < args.n_class_models * s.n_windows; ++i) {
    if (args.class_index[i] < 0 || args.class_index[i] >= s.n_classes) {
      return Status::kClassOutOfRange;
    }
  }
  Status status;
  const Kernels* kernels = ActiveKernels(&status);
  return kernels == nullptr ? status : Call<Real>(args, *kernels).Run();
}
template Status lstm_linear_loss(const LstmLinearLoss<float>&);
template Status lstm_linear_loss(const LstmLinearLoss<double>&);

}  // namespace sensorseq
