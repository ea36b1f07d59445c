// The epoch engine runs the steps of each model one after the other, with the kernels of
// lstm_linear.h. The layers run without the fused head, because norm and dropout come between
// pooling and the head.
#include "lstm/train_epoch.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "base/carver.h"
#include "base/counter_random.h"
#include "cpu/dispatch.h"
#include "cpu/train_head.h"
#include "lstm/gates.h"
#include "lstm/train_loss.h"
#include "lstm/train_step.h"

namespace sensorseq {
namespace {

constexpr double kNormEps = 1e-5;         // eps of both norms, as in torch
constexpr double kRunningMomentum = 0.1;  // torch's BatchNorm1d

// Offsets of a model's parameters in its flat buffer.

int64_t LayerInputs(const TrainShape& s, int64_t layer) {
  return layer == 0 ? s.n_channels : s.n_directions * s.hidden_size;
}
int64_t DirectionSize(const TrainShape& s, int64_t layer) {
  return kGates * s.hidden_size * (LayerInputs(s, layer) + s.hidden_size + 2);
}
int64_t LayerOffset(const TrainShape& s, int64_t layer) {
  int64_t offset = 0;
  for (int64_t l = 0; l < layer; ++l) offset += s.n_directions * DirectionSize(s, l);
  return offset;
}
int64_t PooledWidth(const TrainShape& s) {
  return s.n_directions * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
}
int64_t NormOffset(const TrainShape& s) { return LayerOffset(s, s.n_layers); }
int64_t HeadOffset(const TrainShape& s) {
  return NormOffset(s) + (s.head_norm == HeadNorm::kNone ? 0 : 2 * PooledWidth(s));
}

LstmShape KernelShape(const TrainShape& s, int64_t layer, int64_t n_windows) {
  LstmShape k;
  k.n_windows = n_windows;
  k.n_timesteps = s.n_timesteps;
  k.n_channels = LayerInputs(s, layer);
  k.hidden_size = s.hidden_size;
  k.n_directions = s.n_directions;
  k.pooling = layer + 1 == s.n_layers ? s.pooling : Pooling::kNone;
  return k;
}

// Whether a layer's passes run as one fused step. With batch norm, the passes are not fused,
// because the norm between them needs all windows.
bool IsFused(const TrainShape& s, int64_t layer) {
  return layer + 1 == s.n_layers && s.head_norm != HeadNorm::kBatch;
}

// The arrays of one lane for a step, carved out of the lane's part of the workspace.
template <typename Real>
struct Lane {
  Real* x;           // (B, T, C)
  int64_t* lengths;  // (B)
  // Weights and biases of each layer, in the kernels' layout.
  Real *weight_ih[kMaxLayers], *weight_hh[kMaxLayers], *bias[kMaxLayers];
  Real *grad_weight_ih[kMaxLayers], *grad_weight_hh[kMaxLayers], *grad_bias[kMaxLayers];
  Real* recurrent_mask[kMaxLayers];    // (B, D, H)
  Real* saved[kMaxLayers];             // for all layers except a top layer whose passes are fused
  Real* hidden[kMaxLayers];            // (B, T, D*H)  of all layers except the top one
  Real* grad_hidden[2];                // (B, T, D*H)  the two are used alternately
  Real *h_n, *c_n;                     // (B, D, H)
  Real* pooled;                        // (B, P)
  Real* normed;                        // (B, P)  (pooled - mean) / deviation
  Real* features;                      // (B, P)  inputs of the head
  Real* grad_features;                 // (B, P)
  Real* logits;                        // (B, K)
  Real* grad_logits;                   // (slots, K)
  Real* grads;                         // (Q)
  Real* shares;                        // (slots, norm and head parameters) gradients by slot
  double* inverse_deviation;           // (P or B)
  double *losses, *log_p, *grad_loss;  // (B), (slots, K), (slots, K)
  void* kernel_workspace;
};

template <typename Real>
size_t CarveLane(const TrainShape& s, void* block, Lane<Real>* lane) {
  const int64_t B = s.max_batch, D = s.n_directions, H = s.hidden_size, P = PooledWidth(s);
  const int64_t sequence = B * s.n_timesteps * D * H;
  Carver carver(block);
  size_t kernel_bytes = 0;
  lane->x = carver.Take<Real>(B * s.n_timesteps * s.n_channels);
  lane->lengths = carver.Take<int64_t>(B);
  for (int64_t l = 0; l < s.n_layers; ++l) {
    // With one direction, the flat buffers are used directly.
    const int64_t of_hidden = D == 1 ? 0 : D * kGates * H * H;
    const int64_t of_inputs = D == 1 ? 0 : D * kGates * H * LayerInputs(s, l);
    lane->weight_ih[l] = carver.Take<Real>(of_inputs);
    lane->weight_hh[l] = carver.Take<Real>(of_hidden);
    lane->bias[l] = carver.Take<Real>(D * kGates * H);
    lane->grad_weight_ih[l] = carver.Take<Real>(of_inputs);
    lane->grad_weight_hh[l] = carver.Take<Real>(of_hidden);
    lane->grad_bias[l] = carver.Take<Real>(D * kGates * H);
    lane->recurrent_mask[l] = carver.Take<Real>(B * D * H);
    const int64_t saved = D * B * SavedRows(s.n_timesteps) * Padded(H);
    lane->saved[l] = carver.Take<Real>(IsFused(s, l) ? 0 : saved);
    lane->hidden[l] = carver.Take<Real>(l + 1 < s.n_layers ? sequence : 0);
    const LstmShape shape = KernelShape(s, l, B);
    for (size_t bytes : {lstm_forward_workspace_bytes(shape, sizeof(Real)),
                         lstm_backward_workspace_bytes(shape, sizeof(Real)),
                         IsFused(s, l) ? lstm_step_workspace_bytes(shape, sizeof(Real)) : 0}) {
      if (bytes > kernel_bytes) kernel_bytes = bytes;
    }
  }
  lane->grad_hidden[0] = carver.Take<Real>(s.n_layers > 1 ? sequence : 0);
  lane->grad_hidden[1] = carver.Take<Real>(s.n_layers > 2 ? sequence : 0);
  lane->h_n = carver.Take<Real>(B * D * H);
  lane->c_n = carver.Take<Real>(B * D * H);
  lane->pooled = carver.Take<Real>(B * P);
  lane->normed = carver.Take<Real>(B * P);
  lane->features = carver.Take<Real>(B * P);
  lane->grad_features = carver.Take<Real>(B * P);
  lane->logits = carver.Take<Real>(B * s.n_classes);
  lane->grad_logits = carver.Take<Real>(kMaxSlots * s.n_classes);
  lane->grads = carver.Take<Real>(ParameterCount(s));
  lane->shares = carver.Take<Real>(kMaxSlots * (ParameterCount(s) - NormOffset(s)));
  lane->inverse_deviation = carver.Take<double>(B > P ? B : P);
  lane->losses = carver.Take<double>(B);
  lane->log_p = carver.Take<double>(kMaxSlots * s.n_classes);
  lane->grad_loss = carver.Take<double>(kMaxSlots * s.n_classes);
  lane->kernel_workspace = carver.Take<char>(static_cast<int64_t>(kernel_bytes));
  return carver.used();
}

template <typename Real>
void Copy(const Real* from, int64_t n, Real* to) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n) * sizeof(Real));
}

// One step of one model.
template <typename Real>
class Step {
 public:
  Step(const TrainEpoch<Real>& args, int64_t model, int64_t step, const Lane<Real>& lane,
       const Parallel& parallel, const TrainKernels<Real>& kernels)
      : a_(args),
        s_(args.shape),
        lane_(lane),
        parallel_(parallel),
        model_(model),
        P_(PooledWidth(args.shape)),
        Q_(ParameterCount(args.shape)),
        hyper_(args.hyper + model * kHyperColumns),
        parameters_(args.parameters + model * Q_),
        step_count_(args.step_count[model]),
        statistics_(args.statistics + (model * s_.n_steps + step) * kStatisticColumns),
        kernels_(kernels) {
    const int64_t of_rows = args.n_row_models == 1 ? 0 : model;
    const int64_t* offsets = args.offsets + of_rows * (s_.n_steps + 1) + step;
    first_row_ = offsets[0];
    B_ = offsets[1] - offsets[0];
    of_slots_ = KernelShape(s_, 0, B_);
    rows_ = args.rows + of_rows * s_.n_rows + first_row_;
    crop_starts_ =
        args.crop_starts == nullptr ? nullptr : args.crop_starts + of_rows * s_.n_rows + first_row_;
    learning_rate_ = args.learning_rate[(args.n_rate_models == 1 ? 0 : model) * s_.n_steps + step];
    class_index_ = args.class_index + (args.n_class_models == 1 ? 0 : model) * s_.n_windows;
    weight_ = args.weight == nullptr
                  ? nullptr
                  : args.weight + (args.n_weight_models == 1 ? 0 : model) * s_.n_windows;
    has_lengths_ = args.lengths != nullptr;
  }

  Status Run() {
    for (int i = 0; i < kStatisticColumns; ++i) {
      statistics_[i] = std::numeric_limits<double>::quiet_NaN();
    }
    if (B_ == 0) return Status::kOk;
    GatherWeights();
    GatherWindows();
    for (int64_t i = 0; i < SlotCount(of_slots_) * ShareSize(); ++i) lane_.shares[i] = Real(0);
    const Status status = RunLayers();
    if (status != Status::kOk) return status;
    MeasureLoss();
    ScatterGradients();
    SumShares();
    Clip();
    UpdateParameters();
    return Status::kOk;
  }

 private:
  // Calls f(layer, direction, offset), where `offset` is the position of the four parameter blocks
  // in the flat buffer.
  template <typename F>
  void ForEachDirection(F f) const {
    for (int64_t l = 0; l < s_.n_layers; ++l) {
      for (int64_t d = 0; d < s_.n_directions; ++d) {
        f(l, d, LayerOffset(s_, l) + d * DirectionSize(s_, l));
      }
    }
  }

  // With one direction, the flat buffer has the weights in the kernels' layout.
  bool IsFlat() const { return s_.n_directions == 1; }

  void GatherWeights() const {
    ForEachDirection([&](int64_t l, int64_t d, int64_t offset) {
      const int64_t gates = kGates * s_.hidden_size, inputs = LayerInputs(s_, l);
      const int64_t of_inputs = gates * inputs, of_hidden = gates * s_.hidden_size;
      const Real* from = parameters_ + offset;
      if (!IsFlat()) {
        Copy(from, of_inputs, lane_.weight_ih[l] + d * of_inputs);
        Copy(from + of_inputs, of_hidden, lane_.weight_hh[l] + d * of_hidden);
      }
      const Real* biases = from + of_inputs + of_hidden;
      for (int64_t i = 0; i < gates; ++i) {
        lane_.bias[l][d * gates + i] = biases[i] + biases[gates + i];
      }
    });
  }

  void GatherWindows() const {
    const int64_t C = s_.n_channels, T = s_.n_timesteps;
    const Real* x =
        a_.x + (a_.n_x_models == 1 ? 0 : model_) * s_.n_windows * s_.n_data_timesteps * C;
    for (int64_t n = 0; n < B_; ++n) {
      const int64_t start = crop_starts_ == nullptr ? 0 : crop_starts_[n];
      int64_t length = T;
      if (has_lengths_) {
        const int64_t left = a_.lengths[rows_[n]] - start;
        length = left < 0 ? 0 : (left < T ? left : T);
        lane_.lengths[n] = length;
      }
      Copy(x + (rows_[n] * s_.n_data_timesteps + start) * C, length * C, lane_.x + n * T * C);
    }
  }

  CounterRandom Random(uint64_t site) const {
    return CounterRandom(static_cast<uint64_t>(a_.seeds[model_]),
                         static_cast<uint64_t>(step_count_), site);
  }

  // Multiplies `values` by elements [first, first + n) of the dropout mask of the layer's output.
  // The forward and the backward pass draw the same elements.
  void Drop(int64_t layer, int64_t first, int64_t n, Real* values) const {
    const double probability = hyper_[kDropout];
    if (probability == 0.0) return;
    const CounterRandom random = Random(OutputSite(layer));
    for (int64_t i = 0; i < n; ++i) {
      values[i] *=
          static_cast<Real>(DropoutFactor(random, static_cast<uint64_t>(first + i), probability));
    }
  }

  int64_t InputWeights(int64_t l) const { return kGates * s_.hidden_size * LayerInputs(s_, l); }

  LstmInputs<Real> Inputs(int64_t l) const {
    LstmInputs<Real> in{};
    in.x = l == 0 ? lane_.x : lane_.hidden[l - 1];
    in.lengths = has_lengths_ ? lane_.lengths : nullptr;
    const Real* flat = parameters_ + LayerOffset(s_, l);
    in.weight_ih = IsFlat() ? flat : lane_.weight_ih[l];
    in.weight_hh = IsFlat() ? flat + InputWeights(l) : lane_.weight_hh[l];
    in.bias = lane_.bias[l];
    in.recurrent_mask = hyper_[kRecurrentDropout] > 0.0 ? lane_.recurrent_mask[l] : nullptr;
    return in;
  }

  // Runs the layers forward, computes the loss, and runs the layers backward. The top layer's
  // passes are fused if nothing between them needs the entire batch.
  Status RunLayers() {
    const int64_t top = s_.n_layers - 1, width = s_.n_directions * s_.hidden_size;
    for (int64_t l = 0; l <= top; ++l) DrawRecurrentMask(l);
    for (int64_t l = 0; l < top; ++l) {
      const Status status = lstm_forward(ForwardArgs(l));
      if (status != Status::kOk) return status;
      Drop(l, 0, B_ * s_.n_timesteps * width, lane_.hidden[l]);
    }
    Status status;
    if (IsFused(s_, top)) {
      status = FusedTop();
    } else {
      status = lstm_forward(ForwardArgs(top));
      if (status != Status::kOk) return status;
      ForwardBatchNorm();
      for (int64_t slot = 0; slot < SlotCount(of_slots_); ++slot) {
        const int64_t first = SlotWindow(slot, of_slots_);
        RunHead(slot, first, SlotWindow(slot + 1, of_slots_) - first);
      }
      BackwardBatchNorm();
      status = BackwardLayer(top);
    }
    for (int64_t l = top - 1; l >= 0 && status == Status::kOk; --l) status = BackwardLayer(l);
    return status;
  }

  void DrawRecurrentMask(int64_t l) const {
    if (hyper_[kRecurrentDropout] == 0.0) return;
    const CounterRandom random = Random(RecurrentSite(l));
    for (int64_t i = 0; i < B_ * s_.n_directions * s_.hidden_size; ++i) {
      lane_.recurrent_mask[l][i] = static_cast<Real>(
          DropoutFactor(random, static_cast<uint64_t>(i), hyper_[kRecurrentDropout]));
    }
  }

  LstmForward<Real> ForwardArgs(int64_t l) const {
    const int64_t top = s_.n_layers - 1;
    LstmForward<Real> args{};
    args.shape = KernelShape(s_, l, B_);
    args.in = Inputs(l);
    args.hidden = l < top ? lane_.hidden[l] : nullptr;
    args.h_n = lane_.h_n;
    args.c_n = lane_.c_n;
    args.pooled = l < top ? nullptr : lane_.pooled;
    args.saved = IsFused(s_, l) ? nullptr : lane_.saved[l];
    args.workspace = lane_.kernel_workspace;
    args.parallel = parallel_;
    return args;
  }

  LstmBackward<Real> BackwardArgs(int64_t l) const {
    LstmBackward<Real> args{};
    args.shape = KernelShape(s_, l, B_);
    args.in = Inputs(l);
    args.saved = lane_.saved[l];
    if (l == s_.n_layers - 1) {
      args.pooled = lane_.pooled;
      args.grad_pooled = lane_.grad_features;
    } else {
      args.grad_hidden = lane_.grad_hidden[l % 2];
    }
    args.grad_x = l == 0 ? nullptr : lane_.grad_hidden[(l - 1) % 2];
    Real* flat = lane_.grads + LayerOffset(s_, l);
    args.grad_weight_ih = IsFlat() ? flat : lane_.grad_weight_ih[l];
    args.grad_weight_hh = IsFlat() ? flat + InputWeights(l) : lane_.grad_weight_hh[l];
    args.grad_bias = lane_.grad_bias[l];
    args.workspace = lane_.kernel_workspace;
    args.parallel = parallel_;
    return args;
  }

  // Applies the dropout of the layer's input to the gradient of this input.
  void AfterBackward(int64_t l, const LstmBackward<Real>& args) const {
    if (l > 0) Drop(l - 1, 0, B_ * s_.n_timesteps * args.shape.n_channels, args.grad_x);
  }

  Status BackwardLayer(int64_t l) const {
    const LstmBackward<Real> args = BackwardArgs(l);
    const Status status = lstm_backward(args);
    if (status == Status::kOk) AfterBackward(l, args);
    return status;
  }

  Status FusedTop() {
    const int64_t top = s_.n_layers - 1;
    const auto between = [](void* self, int64_t, int64_t slot, int64_t first, int64_t n) {
      static_cast<Step*>(self)->RunHead(slot, first, n);
    };
    const LstmStep<Real> args{ForwardArgs(top), BackwardArgs(top), between, this};
    const Status status = lstm_step(args);
    if (status == Status::kOk) AfterBackward(top, args.backward);
    return status;
  }

  // Normalizes n values that are `stride` apart and writes them to `normed`. Returns 1 / deviation,
  // mean and variance.
  struct Moments {
    double inverse_deviation, mean, variance;
  };
  static Moments Normalize(const Real* values, int64_t n, int64_t stride, Real* normed) {
    auto At = [&](int64_t i) { return static_cast<double>(values[i * stride]); };
    Moments m;
    m.mean = Sum(n, At) / static_cast<double>(n);
    m.variance = Sum(n, [&](int64_t i) { return (At(i) - m.mean) * (At(i) - m.mean); }) /
                 static_cast<double>(n);
    m.inverse_deviation = 1.0 / std::sqrt(m.variance + kNormEps);
    for (int64_t i = 0; i < n; ++i) {
      normed[i * stride] = static_cast<Real>((At(i) - m.mean) * m.inverse_deviation);
    }
    return m;
  }

  // Backpropagates a gradient through Normalize in place, from the normalized values to the
  // original ones.
  static void BackNormalize(const Real* normed, int64_t n, int64_t stride, double inverse_deviation,
                            Real* grad) {
    auto Grad = [&](int64_t i) { return static_cast<double>(grad[i * stride]); };
    auto At = [&](int64_t i) { return static_cast<double>(normed[i * stride]); };
    const double mean = Sum(n, Grad) / static_cast<double>(n);
    const double along =
        Sum(n, [&](int64_t i) { return Grad(i) * At(i); }) / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      grad[i * stride] = static_cast<Real>(inverse_deviation * (Grad(i) - mean - At(i) * along));
    }
  }

  // The parameters of the norm and the head are adjacent, and so are their gradients in each slot.
  int64_t ShareSize() const { return Q_ - NormOffset(s_); }
  Real* NormShare(int64_t slot) const { return lane_.shares + slot * ShareSize(); }
  Real* HeadShare(int64_t slot) const {
    return NormShare(slot) + (HeadOffset(s_) - NormOffset(s_));
  }

  void ForwardBatchNorm() const {
    Real* running_mean = a_.running + model_ * 2 * P_;
    Real* running_variance = running_mean + P_;
    const double unbiased = static_cast<double>(B_) / static_cast<double>(B_ - 1);
    for (int64_t p = 0; p < P_; ++p) {
      const Moments m = Normalize(lane_.pooled + p, B_, P_, lane_.normed + p);
      lane_.inverse_deviation[p] = m.inverse_deviation;
      const double mean = static_cast<double>(running_mean[p]);
      const double variance = static_cast<double>(running_variance[p]);
      running_mean[p] = static_cast<Real>(mean + kRunningMomentum * (m.mean - mean));
      running_variance[p] =
          static_cast<Real>(variance + kRunningMomentum * (m.variance * unbiased - variance));
    }
  }

  void BackwardBatchNorm() const {
    for (int64_t p = 0; p < P_; ++p) {
      BackNormalize(lane_.normed + p, B_, P_, lane_.inverse_deviation[p], lane_.grad_features + p);
    }
  }

  // Computes the loss of windows [first, first + n) of a slot from their pooled vectors, and the
  // gradients of the pooled vectors. Adds the gradients of the norm and the head to the slot's
  // gradients.
  void RunHead(int64_t slot, int64_t first, int64_t n) const {
    const int64_t K = s_.n_classes;
    const Real* norm = parameters_ + NormOffset(s_);
    const Real* weight = parameters_ + HeadOffset(s_);
    const HeadLoss<Real> head_loss{
        kernels_, weight,  weight + K * P_,         P_,
        K,        a_.loss, hyper_[kLabelSmoothing], static_cast<double>(B_)};
    const HeadScratch<Real> scratch{lane_.log_p + slot * K, lane_.grad_loss + slot * K,
                                    lane_.grad_logits + slot * K};
    Real* norm_share = NormShare(slot);
    Real* head_share = HeadShare(slot);
    for (int64_t i = first; i < first + n; ++i) {
      Real* features = lane_.features + i * P_;
      Real* normed = lane_.normed + i * P_;
      const Real* pooled = lane_.pooled + i * P_;
      if (s_.head_norm == HeadNorm::kNone) {
        Copy(pooled, P_, features);
        continue;
      }
      if (s_.head_norm == HeadNorm::kLayer) {
        lane_.inverse_deviation[i] = Normalize(pooled, P_, 1, normed).inverse_deviation;
      }
      for (int64_t p = 0; p < P_; ++p) features[p] = normed[p] * norm[p] + norm[P_ + p];
    }
    Drop(s_.n_layers - 1, first * P_, n * P_, lane_.features + first * P_);
    for (int64_t i = first; i < first + n; ++i) {
      const Real* features = lane_.features + i * P_;
      Real* grad_features = lane_.grad_features + i * P_;
      const int64_t row = rows_[i];
      lane_.losses[i] = head_loss.Step(features, class_index_[row],
                                       weight_ == nullptr ? 1.0 : static_cast<double>(weight_[row]),
                                       scratch, lane_.logits + i * K, grad_features, head_share);
    }
    Drop(s_.n_layers - 1, first * P_, n * P_, lane_.grad_features + first * P_);
    for (int64_t i = first; i < first + n && s_.head_norm != HeadNorm::kNone; ++i) {
      const Real* normed = lane_.normed + i * P_;
      Real* grad = lane_.grad_features + i * P_;
      for (int64_t p = 0; p < P_; ++p) {
        norm_share[p] += grad[p] * normed[p];
        norm_share[P_ + p] += grad[p];
        grad[p] *= norm[p];
      }
      if (s_.head_norm == HeadNorm::kLayer) {
        BackNormalize(normed, P_, 1, lane_.inverse_deviation[i], grad);
      }
    }
  }

  void MeasureLoss() const {
    const int64_t K = s_.n_classes;
    const double n_windows = static_cast<double>(B_);
    int64_t n_correct = 0;
    for (int64_t n = 0; n < B_; ++n) {
      const int64_t class_index = class_index_[rows_[n]];
      const Real* logits = lane_.logits + n * K;
      if (LargestLogit(logits, K) == class_index) ++n_correct;
      if (a_.margins != nullptr) {
        a_.margins[model_ * s_.n_rows + first_row_ + n] = Margin(logits, K, class_index);
      }
    }
    const double loss = Sum(B_, [&](int64_t n) { return lane_.losses[n]; }) / n_windows;
    statistics_[kLoss] = loss;
    statistics_[kLossVariance] =
        Sum(B_, [&](int64_t n) { return (lane_.losses[n] - loss) * (lane_.losses[n] - loss); }) /
        n_windows;
    statistics_[kAccuracy] = static_cast<double>(n_correct) / n_windows;
  }

  void ScatterGradients() const {
    ForEachDirection([&](int64_t l, int64_t d, int64_t offset) {
      const int64_t gates = kGates * s_.hidden_size, inputs = LayerInputs(s_, l);
      const int64_t of_inputs = gates * inputs, of_hidden = gates * s_.hidden_size;
      Real* to = lane_.grads + offset;
      if (!IsFlat()) {
        Copy(lane_.grad_weight_ih[l] + d * of_inputs, of_inputs, to);
        Copy(lane_.grad_weight_hh[l] + d * of_hidden, of_hidden, to + of_inputs);
      }
      Copy(lane_.grad_bias[l] + d * gates, gates, to + of_inputs + of_hidden);
      Copy(lane_.grad_bias[l] + d * gates, gates, to + of_inputs + of_hidden + gates);
    });
  }

  // Sums the gradients of the norm and the head over the slots, in order.
  void SumShares() const {
    const int64_t n = ShareSize();
    Real* grads = lane_.grads + NormOffset(s_);
    Copy(lane_.shares, n, grads);
    for (int64_t slot = 1; slot < SlotCount(of_slots_); ++slot) {
      const Real* share = NormShare(slot);
      for (int64_t i = 0; i < n; ++i) grads[i] += share[i];
    }
  }

  void Clip() const {
    const double norm = std::sqrt(kernels_.sum_of_squares(lane_.grads, Q_));
    statistics_[kGradNorm] = norm;
    if (std::isfinite(hyper_[kMaxGradNorm])) {
      const Real factor = static_cast<Real>(ClipFactor(hyper_[kMaxGradNorm], norm));
      for (int64_t i = 0; i < Q_; ++i) lane_.grads[i] *= factor;
    }
  }

  void UpdateParameters() {
    ++step_count_;
    const int64_t n_state_rows = StateRows(a_.optimizer);
    kernels_.update(a_.optimizer, hyper_, learning_rate_, step_count_, Q_, lane_.grads, parameters_,
                    a_.state + model_ * n_state_rows * Q_);
    a_.step_count[model_] = step_count_;
    if (a_.average != nullptr) {
      const Real fresh = static_cast<Real>(FreshShare(hyper_[kEmaDecay], step_count_));
      Real* average = a_.average + model_ * Q_;
      kernels_.move_average(fresh, Q_, parameters_, average);
    }
  }

  const TrainEpoch<Real>& a_;
  const TrainShape& s_;
  const Lane<Real>& lane_;
  const Parallel parallel_;
  const int64_t model_, P_, Q_;
  const double* hyper_;
  Real* parameters_;
  int64_t step_count_;  // number of updates before this step
  double* statistics_;
  int64_t first_row_, B_;
  LstmShape of_slots_;  // the shape of any layer, because all layers have the same slots
  const int64_t *rows_, *crop_starts_, *class_index_;
  const Real* weight_;
  double learning_rate_;
  bool has_lengths_;
  const TrainKernels<Real>& kernels_;
};

template <typename Real>
struct Context {
  const TrainEpoch<Real>& args;
  const TrainKernels<Real>& kernels;
  size_t lane_bytes;
  std::atomic<int64_t> next_model{0};
  std::atomic<int32_t> status{0};  // the status of a step that failed, if any
};

// Takes one model after another until none is left, and runs all steps of each model.
template <typename Real>
void LaneTask(void* pointer, int64_t index) {
  auto& context = *static_cast<Context<Real>*>(pointer);
  const TrainEpoch<Real>& a = context.args;
  Lane<Real> lane;
  CarveLane(a.shape,
            static_cast<char*>(a.workspace) + static_cast<size_t>(index) * context.lane_bytes,
            &lane);
  const Parallel parallel = a.n_lanes == 1 ? a.parallel : Parallel{};
  for (int64_t model; (model = context.next_model.fetch_add(1)) < a.shape.n_models;) {
    for (int64_t step = a.first_step; step < a.first_step + a.n_steps; ++step) {
      const Status status = Step<Real>(a, model, step, lane, parallel, context.kernels).Run();
      if (status != Status::kOk) {
        context.status = static_cast<int32_t>(status);
        return;
      }
    }
  }
}

bool IsCount(int64_t n, int64_t n_models) { return n == 1 || n == n_models; }

template <typename Real>
size_t LaneBytes(const TrainShape& shape) {
  Lane<Real> lane;
  return CarveLane(shape, nullptr, &lane);
}

}  // namespace

int64_t ParameterCount(const TrainShape& shape) {
  return HeadOffset(shape) + shape.n_classes * (PooledWidth(shape) + 1);
}

template <typename Real>
Status CheckSizes(const TrainEpoch<Real>& a) {
  const TrainShape& s = a.shape;
  if (s.n_models < 1 || s.n_windows < 0 || s.n_data_timesteps < 0 || s.n_timesteps < 0 ||
      s.n_timesteps > s.n_data_timesteps || s.n_channels < 0 || s.hidden_size < 1 ||
      s.n_directions < 1 || s.n_directions > 2 || s.n_layers < 1 || s.n_layers > kMaxLayers ||
      s.n_classes < 1 || s.pooling == Pooling::kNone || s.n_rows < 0 || s.n_steps < 0 ||
      s.max_batch < 0 || a.first_step < 0 || a.n_steps < 0 ||
      a.n_steps > s.n_steps - a.first_step || a.n_lanes < 1 || a.n_lanes > s.n_models ||
      !IsCount(a.n_x_models, s.n_models) || !IsCount(a.n_class_models, s.n_models) ||
      !IsCount(a.n_weight_models, s.n_models) || !IsCount(a.n_row_models, s.n_models) ||
      !IsCount(a.n_rate_models, s.n_models)) {
    return Status::kInvalidShape;
  }
  return Status::kOk;
}
template Status CheckSizes(const TrainEpoch<float>&);
template Status CheckSizes(const TrainEpoch<double>&);

template <typename Real>
Status CheckValues(const TrainEpoch<Real>& a) {
  const TrainShape& s = a.shape;
  for (int64_t n = 0; a.lengths != nullptr && n < s.n_windows; ++n) {
    if (a.lengths[n] < 0 || a.lengths[n] > s.n_data_timesteps) return Status::kLengthOutOfRange;
  }
  for (int64_t n = 0; n < a.n_class_models * s.n_windows; ++n) {
    if (a.class_index[n] < 0 || a.class_index[n] >= s.n_classes) return Status::kClassOutOfRange;
  }
  for (int64_t model = 0; model < a.n_row_models; ++model) {
    const int64_t* offsets = a.offsets + model * (s.n_steps + 1);
    for (int64_t step = a.first_step; step < a.first_step + a.n_steps; ++step) {
      const int64_t first = offsets[step], last = offsets[step + 1];
      if (first < 0 || last < first || last > s.n_rows || last - first > s.max_batch) {
        return Status::kOffsetsOutOfOrder;
      }
      if (s.head_norm == HeadNorm::kBatch && last - first == 1) return Status::kBatchTooSmall;
      for (int64_t i = model * s.n_rows + first; i < model * s.n_rows + last; ++i) {
        const int64_t start = a.crop_starts == nullptr ? 0 : a.crop_starts[i];
        if (a.rows[i] < 0 || a.rows[i] >= s.n_windows || start < 0 ||
            start > s.n_data_timesteps - s.n_timesteps) {
          return Status::kRowOutOfRange;
        }
      }
    }
  }
  return Status::kOk;
}
template Status CheckValues(const TrainEpoch<float>&);
template Status CheckValues(const TrainEpoch<double>&);

size_t train_epoch_workspace_bytes(const TrainShape& shape, int64_t n_lanes, size_t real_bytes) {
  const size_t bytes =
      real_bytes == sizeof(float) ? LaneBytes<float>(shape) : LaneBytes<double>(shape);
  return static_cast<size_t>(n_lanes) * bytes;
}

template <typename Real>
Status train_epoch(const TrainEpoch<Real>& args) {
  Status status = CheckSizes(args);
  if (status == Status::kOk) status = CheckValues(args);
  if (status != Status::kOk) return status;
  const Kernels* kernels = ActiveKernels(&status);
  if (kernels == nullptr) return status;
  Context<Real> context{args, KernelsFor(*kernels, Real()), LaneBytes<Real>(args.shape)};
  RunTasks(args.parallel, args.n_lanes, &LaneTask<Real>, &context, kSubnormalsOf<Real>);
  return static_cast<Status>(context.status.load());
}
template Status train_epoch(const TrainEpoch<float>&);
template Status train_epoch(const TrainEpoch<double>&);

}  // namespace sensorseq
