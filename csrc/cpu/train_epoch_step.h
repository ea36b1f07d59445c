// One step of one model in the epoch engine, on the arrays of one lane, with the kernels of
// lstm_linear.h. The kernels' own head is not used, because norm and dropout come between pooling
// and the head.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/counter_random.h"
#include "cpu/dispatch.h"
#include "cpu/train_epoch_layout.h"
#include "cpu/train_head.h"
#include "lstm/gates.h"
#include "lstm/train_epoch.h"
#include "lstm/train_loss.h"
#include "lstm/train_step.h"

namespace sensorseq {

constexpr double kNormEps = 1e-5;         // eps of both norms, as in torch
constexpr double kRunningMomentum = 0.1;  // torch's BatchNorm1d

template <typename Real>
void Copy(const Real* from, int64_t n, Real* to) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n) * sizeof(Real));
}

struct Moments {
  double inverse_deviation, mean, variance;
};

// Normalizes n values that are `stride` apart and writes them to `normed`.
template <typename Real>
Moments Normalize(const Real* values, int64_t n, int64_t stride, Real* normed) {
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

// Backpropagates a gradient through Normalize in place, from the normalized values to the original
// ones.
template <typename Real>
void BackNormalize(const Real* normed, int64_t n, int64_t stride, double inverse_deviation,
                   Real* grad) {
  auto Grad = [&](int64_t i) { return static_cast<double>(grad[i * stride]); };
  auto At = [&](int64_t i) { return static_cast<double>(normed[i * stride]); };
  const double mean = Sum(n, Grad) / static_cast<double>(n);
  const double along = Sum(n, [&](int64_t i) { return Grad(i) * At(i); }) / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    grad[i * stride] = static_cast<Real>(inverse_deviation * (Grad(i) - mean - At(i) * along));
  }
}

// A step, from the gathering of the windows to the update of the parameters.
template <typename Real>
class EpochStep {
 public:
  EpochStep(const TrainEpoch<Real>& args, int64_t model, int64_t step, const Lane<Real>& lane,
            const Parallel& parallel, const TrainKernels<Real>& kernels)
      : a_(args),
        s_(args.shape),
        lane_(lane),
        head_(lane.head),
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
    for (int64_t i = 0; i < SlotCount(of_slots_) * ShareSize(); ++i) head_.shares[i] = Real(0);
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
      const LaneWeights<Real>& to = lane_.layers[l].weights;
      if (!IsFlat()) {
        Copy(from, of_inputs, to.ih + d * of_inputs);
        Copy(from + of_inputs, of_hidden, to.hh + d * of_hidden);
      }
      const Real* biases = from + of_inputs + of_hidden;
      for (int64_t i = 0; i < gates; ++i) {
        to.bias[d * gates + i] = biases[i] + biases[gates + i];
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
    const LaneLayer<Real>& layer = lane_.layers[l];
    LstmInputs<Real> in{};
    in.x = l == 0 ? lane_.x : lane_.layers[l - 1].hidden;
    in.lengths = has_lengths_ ? lane_.lengths : nullptr;
    const Real* flat = parameters_ + LayerOffset(s_, l);
    in.weight_ih = IsFlat() ? flat : layer.weights.ih;
    in.weight_hh = IsFlat() ? flat + InputWeights(l) : layer.weights.hh;
    in.bias = layer.weights.bias;
    in.recurrent_mask = hyper_[kRecurrentDropout] > 0.0 ? layer.recurrent_mask : nullptr;
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
      Drop(l, 0, B_ * s_.n_timesteps * width, lane_.layers[l].hidden);
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
      lane_.layers[l].recurrent_mask[i] = static_cast<Real>(
          DropoutFactor(random, static_cast<uint64_t>(i), hyper_[kRecurrentDropout]));
    }
  }

  LstmForward<Real> ForwardArgs(int64_t l) const {
    const int64_t top = s_.n_layers - 1;
    const LaneLayer<Real>& layer = lane_.layers[l];
    LstmForward<Real> args{};
    args.shape = KernelShape(s_, l, B_);
    args.in = Inputs(l);
    args.hidden = l < top ? layer.hidden : nullptr;
    args.h_n = lane_.h_n;
    args.c_n = lane_.c_n;
    args.pooled = l < top ? nullptr : head_.pooled;
    args.saved = IsFused(s_, l) ? nullptr : layer.saved;
    args.workspace = lane_.kernel_workspace;
    args.parallel = parallel_;
    return args;
  }

  LstmBackward<Real> BackwardArgs(int64_t l) const {
    const LaneLayer<Real>& layer = lane_.layers[l];
    LstmBackward<Real> args{};
    args.shape = KernelShape(s_, l, B_);
    args.in = Inputs(l);
    args.saved = layer.saved;
    if (l == s_.n_layers - 1) {
      args.pooled = head_.pooled;
      args.grad_pooled = head_.grad_features;
    } else {
      args.grad_hidden = lane_.grad_hidden[l % 2];
    }
    args.grad_x = l == 0 ? nullptr : lane_.grad_hidden[(l - 1) % 2];
    Real* flat = lane_.grads + LayerOffset(s_, l);
    args.grad_weight_ih = IsFlat() ? flat : layer.grads.ih;
    args.grad_weight_hh = IsFlat() ? flat + InputWeights(l) : layer.grads.hh;
    args.grad_bias = layer.grads.bias;
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
      static_cast<EpochStep*>(self)->RunHead(slot, first, n);
    };
    const LstmStep<Real> args{ForwardArgs(top), BackwardArgs(top), between, this};
    const Status status = lstm_step(args);
    if (status == Status::kOk) AfterBackward(top, args.backward);
    return status;
  }

  // The parameters of the norm and the head are adjacent, and so are their gradients in each slot.
  int64_t ShareSize() const { return Q_ - NormOffset(s_); }
  Real* NormShare(int64_t slot) const { return head_.shares + slot * ShareSize(); }
  Real* HeadShare(int64_t slot) const {
    return NormShare(slot) + (HeadOffset(s_) - NormOffset(s_));
  }

  void ForwardBatchNorm() const {
    Real* running_mean = a_.running + model_ * 2 * P_;
    Real* running_variance = running_mean + P_;
    const double unbiased = static_cast<double>(B_) / static_cast<double>(B_ - 1);
    for (int64_t p = 0; p < P_; ++p) {
      const Moments m = Normalize(head_.pooled + p, B_, P_, head_.normed + p);
      head_.inverse_deviation[p] = m.inverse_deviation;
      const double mean = static_cast<double>(running_mean[p]);
      const double variance = static_cast<double>(running_variance[p]);
      running_mean[p] = static_cast<Real>(mean + kRunningMomentum * (m.mean - mean));
      running_variance[p] =
          static_cast<Real>(variance + kRunningMomentum * (m.variance * unbiased - variance));
    }
  }

  void BackwardBatchNorm() const {
    for (int64_t p = 0; p < P_; ++p) {
      BackNormalize(head_.normed + p, B_, P_, head_.inverse_deviation[p], head_.grad_features + p);
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
    const HeadScratch<Real> scratch{head_.scratch.log_p + slot * K,
                                    head_.scratch.grad_loss + slot * K,
                                    head_.scratch.grad_logits + slot * K};
    Real* norm_share = NormShare(slot);
    Real* head_share = HeadShare(slot);
    for (int64_t i = first; i < first + n; ++i) {
      Real* features = head_.features + i * P_;
      Real* normed = head_.normed + i * P_;
      const Real* pooled = head_.pooled + i * P_;
      if (s_.head_norm == HeadNorm::kNone) {
        Copy(pooled, P_, features);
        continue;
      }
      if (s_.head_norm == HeadNorm::kLayer) {
        head_.inverse_deviation[i] = Normalize(pooled, P_, 1, normed).inverse_deviation;
      }
      for (int64_t p = 0; p < P_; ++p) features[p] = normed[p] * norm[p] + norm[P_ + p];
    }
    Drop(s_.n_layers - 1, first * P_, n * P_, head_.features + first * P_);
    for (int64_t i = first; i < first + n; ++i) {
      const Real* features = head_.features + i * P_;
      Real* grad_features = head_.grad_features + i * P_;
      const int64_t row = rows_[i];
      head_.losses[i] = head_loss.Step(features, class_index_[row],
                                       weight_ == nullptr ? 1.0 : static_cast<double>(weight_[row]),
                                       scratch, head_.logits + i * K, grad_features, head_share);
    }
    Drop(s_.n_layers - 1, first * P_, n * P_, head_.grad_features + first * P_);
    for (int64_t i = first; i < first + n && s_.head_norm != HeadNorm::kNone; ++i) {
      const Real* normed = head_.normed + i * P_;
      Real* grad = head_.grad_features + i * P_;
      for (int64_t p = 0; p < P_; ++p) {
        norm_share[p] += grad[p] * normed[p];
        norm_share[P_ + p] += grad[p];
        grad[p] *= norm[p];
      }
      if (s_.head_norm == HeadNorm::kLayer) {
        BackNormalize(normed, P_, 1, head_.inverse_deviation[i], grad);
      }
    }
  }

  void MeasureLoss() const {
    const int64_t K = s_.n_classes;
    const double n_windows = static_cast<double>(B_);
    int64_t n_correct = 0;
    for (int64_t n = 0; n < B_; ++n) {
      const int64_t class_index = class_index_[rows_[n]];
      const Real* logits = head_.logits + n * K;
      if (LargestLogit(logits, K) == class_index) ++n_correct;
      if (a_.margins != nullptr) {
        a_.margins[model_ * s_.n_rows + first_row_ + n] = Margin(logits, K, class_index);
      }
    }
    const double loss = Sum(B_, [&](int64_t n) { return head_.losses[n]; }) / n_windows;
    statistics_[kLoss] = loss;
    statistics_[kLossVariance] =
        Sum(B_, [&](int64_t n) { return (head_.losses[n] - loss) * (head_.losses[n] - loss); }) /
        n_windows;
    statistics_[kAccuracy] = static_cast<double>(n_correct) / n_windows;
  }

  void ScatterGradients() const {
    ForEachDirection([&](int64_t l, int64_t d, int64_t offset) {
      const int64_t gates = kGates * s_.hidden_size, inputs = LayerInputs(s_, l);
      const int64_t of_inputs = gates * inputs, of_hidden = gates * s_.hidden_size;
      const LaneWeights<Real>& from = lane_.layers[l].grads;
      Real* to = lane_.grads + offset;
      if (!IsFlat()) {
        Copy(from.ih + d * of_inputs, of_inputs, to);
        Copy(from.hh + d * of_hidden, of_hidden, to + of_inputs);
      }
      Copy(from.bias + d * gates, gates, to + of_inputs + of_hidden);
      Copy(from.bias + d * gates, gates, to + of_inputs + of_hidden + gates);
    });
  }

  // Sums the gradients of the norm and the head over the slots, in order.
  void SumShares() const {
    const int64_t n = ShareSize();
    Real* grads = lane_.grads + NormOffset(s_);
    Copy(head_.shares, n, grads);
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
  const LaneHead<Real>& head_;
  const Parallel parallel_;
  const int64_t model_, P_, Q_;
  const double* hyper_;
  Real* parameters_;
  int64_t step_count_;  // number of updates before this step
  double* statistics_;
  int64_t first_row_, B_;  // B_: the windows of this step, at most max_batch
  LstmShape of_slots_;     // the shape of any layer, because all layers have the same slots
  const int64_t *rows_, *crop_starts_, *class_index_;
  const Real* weight_;
  double learning_rate_;
  bool has_lengths_;
  const TrainKernels<Real>& kernels_;
};

}  // namespace sensorseq
