// Compares the fused computation of the loss and its gradients with the reference's forward and
// backward pass and a numerically differentiated loss, on every instruction set. Every array ends
// where its allocation ends; elements that must not be read contain NaN.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "harness.h"
#include "lstm/lstm_linear_loss.h"
#include "lstm_problem.h"

namespace {

using namespace sensorseq;
using namespace harness;
using namespace lstm_problem;

struct LossProblem {
  Problem p;
  Loss loss = Loss::kCrossEntropy;
  double smoothing = 0;
  bool is_shared = true, has_weight = false, needs_gradients = true, needs_grad_x = true;
  std::vector<int64_t> class_index;
  Array weight;
};

template <typename Real>
struct Written {
  Exact<Real> mean_loss;
  Outputs<Real> out;
  explicit Written(const LstmShape& s) : mean_loss(s.n_models), out(s) {}
};

template <typename Real>
Status Measure(const LossProblem& q, const Parallel& parallel, Written<Real>& to) {
  const Problem& p = q.p;
  Exact<Real> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh), bias(p.bias), h_0(p.h_0),
      c_0(p.c_0), mask(p.mask), weight_out(p.weight_out), bias_out(p.bias_out), weight(q.weight);
  std::vector<int64_t> lengths = p.lengths, class_index = q.class_index;
  LstmLinearLoss<Real> args{};
  args.shape = p.shape;
  args.in.x = x.data();
  args.in.lengths = p.has_lengths ? lengths.data() : nullptr;
  args.in.weight_ih = weight_ih.data();
  args.in.weight_hh = weight_hh.data();
  args.in.bias = bias.data();
  args.in.h_0 = h_0.or_null(p.has_h_0);
  args.in.c_0 = c_0.or_null(p.has_c_0);
  args.in.recurrent_mask = mask.or_null(p.has_mask);
  args.in.weight_out = weight_out.data();
  args.bias_out = bias_out.data();
  args.loss = q.loss;
  args.label_smoothing = q.smoothing;
  args.n_class_models = args.n_weight_models = q.is_shared ? 1 : p.shape.n_models;
  args.class_index = class_index.data();
  args.weight = weight.or_null(q.has_weight);
  args.mean_loss = to.mean_loss.data();
  args.logits = to.out.logits.data();
  args.needs_gradients = q.needs_gradients;
  if (q.needs_gradients) {
    args.grad_x = to.out.grad_x.or_null(q.needs_grad_x);
    args.grad_weight_ih = to.out.grad_weight_ih.data();
    args.grad_weight_hh = to.out.grad_weight_hh.data();
    args.grad_bias = to.out.grad_bias.data();
    args.grad_weight_out = to.out.grad_weight_out.data();
    args.grad_bias_out = to.out.grad_bias_out.data();
    args.grad_h_0 = to.out.grad_h_0.or_null(p.has_h_0);
    args.grad_c_0 = to.out.grad_c_0.or_null(p.has_c_0);
  }
  const size_t bytes = lstm_linear_loss_workspace_bytes(p.shape, q.needs_gradients, sizeof(Real));
  const Workspace workspace(bytes);
  args.workspace = workspace.data;
  args.parallel = parallel;
  return lstm_linear_loss(args);
}

double LossOf(const LossProblem& q, int64_t class_index, const Array& logits) {
  const double K = double(logits.size());
  double sum = 0, value = 0;
  for (double logit : logits) sum += std::exp(logit);
  for (size_t k = 0; k < logits.size(); ++k) {
    const double p = std::exp(logits[k]) / sum;
    const double target = q.smoothing / K + (int64_t(k) == class_index ? 1 - q.smoothing : 0);
    switch (q.loss) {
      case Loss::kCrossEntropy:
        value -= target * std::log(p);
        break;
      case Loss::kFocal:
        value -= target * (1 - p) * (1 - p) * std::log(p);
        break;
    }
  }
  return value;
}

struct Expected {
  Array mean_loss;
  Result result;
};

Expected Reference(LossProblem q) {
  const LstmShape& s = q.p.shape;
  const int64_t M = s.n_models, N = s.n_windows, K = s.n_classes;
  q.p.grad_logits.assign(M * N * K, 0);
  const Result forward = reference::Run(q.p);
  Expected e;
  e.mean_loss.assign(M, N == 0 ? NAN : 0.0);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      const int64_t at = (q.is_shared ? 0 : m) * N + n;
      const double factor = (q.has_weight ? q.weight[at] : 1.0) / double(N);
      const auto begin = forward.logits.begin() + (m * N + n) * K;
      Array logits(begin, begin + K);
      e.mean_loss[m] += factor * LossOf(q, q.class_index[at], logits);
      for (int64_t k = 0; k < K; ++k) {
        const double step = 1e-5, logit = logits[k];
        logits[k] = logit + step;
        const double above = LossOf(q, q.class_index[at], logits);
        logits[k] = logit - step;
        const double below = LossOf(q, q.class_index[at], logits);
        logits[k] = logit;
        q.p.grad_logits[(m * N + n) * K + k] = factor * (above - below) / (2 * step);
      }
    }
  }
  e.result = reference::Run(q.p);
  return e;
}

template <typename Real>
void Compare(const std::string& name, Exact<Real>& one, Exact<Real>& several,
             const Array& expected) {
  // error of the numerical derivative, and rounding
  const double tolerance = sizeof(Real) == 8 ? 1e-8 : 2e-4;
  Check(one.sentinel_intact(), name + ": written before its beginning");
  double largest = 1e-3;
  for (double value : expected) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < expected.size(); ++i) {
    const Real a = one.data()[i], b = several.data()[i];
    const bool both_nan = std::isnan(a) && std::isnan(b) && std::isnan(expected[i]);
    const std::string at = name + "[" + std::to_string(i) + "]";
    Check(a == b || both_nan, at + ": other bits on other threads");
    if (!(both_nan || std::fabs(a - expected[i]) <= tolerance * largest)) {
      Check(false, at + " = " + std::to_string(a) + ", expected " + std::to_string(expected[i]));
      return;
    }
  }
}

template <typename Real>
void CheckCase(const std::string& name, LossProblem q) {
  const Expected expected = Reference(q);
  const LstmShape& s = q.p.shape;
  Written<Real> one(s), several(s), inferred(s);
  Check(Measure(q, Parallel{}, one) == Status::kOk, name + " status");
  Check(Measure(q, OnThreads(), several) == Status::kOk, name + " status");
  auto Both = [&](const char* what, auto array, const Array& exact) {
    Compare(name + " " + what, array(one), array(several), exact);
  };
  using W = Written<Real>;
  const Result& r = expected.result;
  Both("mean_loss", [](W& w) -> auto& { return w.mean_loss; }, expected.mean_loss);
  Both("logits", [](W& w) -> auto& { return w.out.logits; }, r.logits);
  Both("grad_weight_ih", [](W& w) -> auto& { return w.out.grad_weight_ih; }, r.grad_weight_ih);
  Both("grad_weight_hh", [](W& w) -> auto& { return w.out.grad_weight_hh; }, r.grad_weight_hh);
  Both("grad_bias", [](W& w) -> auto& { return w.out.grad_bias; }, r.grad_bias);
  Both("grad_weight_out", [](W& w) -> auto& { return w.out.grad_weight_out; }, r.grad_weight_out);
  Both("grad_bias_out", [](W& w) -> auto& { return w.out.grad_bias_out; }, r.grad_bias_out);
  if (q.needs_grad_x) Both("grad_x", [](W& w) -> auto& { return w.out.grad_x; }, r.grad_x);
  if (q.p.has_h_0) Both("grad_h_0", [](W& w) -> auto& { return w.out.grad_h_0; }, r.grad_h_0);
  if (q.p.has_c_0) Both("grad_c_0", [](W& w) -> auto& { return w.out.grad_c_0; }, r.grad_c_0);
  q.needs_gradients = false;
  Check(Measure(q, Parallel{}, inferred) == Status::kOk, name + " status without gradients");
  Compare(name + " mean_loss without gradients", one.mean_loss, inferred.mean_loss,
          expected.mean_loss);
  Compare(name + " logits without gradients", one.out.logits, inferred.out.logits, r.logits);
}

LossProblem MakeLossProblem(std::mt19937& random, const LstmShape& shape, int64_t i) {
  LossProblem q;
  const Lengths patterns[] = {Lengths::kNone, Lengths::kZero, Lengths::kFull, Lengths::kMixed};
  q.p = MakeProblem(random, shape, patterns[i % 4], i % 3 == 0);
  q.p.grad_hidden = q.p.grad_h_n = q.p.grad_c_n = q.p.grad_pooled = {};
  q.loss = static_cast<Loss>(i % 2);
  q.smoothing = i % 2 == 0 ? 0.0 : 0.25;
  q.is_shared = i % 5 < 3;
  q.has_weight = i % 7 < 4;
  q.needs_grad_x = i % 4 != 1;
  const int64_t n = (q.is_shared ? 1 : shape.n_models) * shape.n_windows;
  for (int64_t j = 0; j < n; ++j) {
    q.class_index.push_back(int64_t(random() % uint64_t(shape.n_classes)));
    q.weight.push_back(float(random() % 100) / 32);
  }
  return q;
}

template <typename Real>
void CheckCases(const std::string& isa, int64_t lanes) {
  std::mt19937 random(2);
  const int64_t B = kTileRows;
  int64_t i = 0;
  for (int64_t N : {int64_t(0), int64_t(1), B, B + 1, 3 * B, kMaxSlots * B + 1, 17 * B + 1}) {
    for (int64_t H : {int64_t(1), lanes, 2 * lanes + 1}) {
      for (Pooling pooling : {Pooling::kLast, Pooling::kMean, Pooling::kMax, Pooling::kMeanMax}) {
        LstmShape shape;
        shape.n_models = 1 + i % 3;
        shape.n_x_models = i % 2 == 0 ? shape.n_models : 1;
        shape.n_windows = N;
        shape.n_timesteps = i % 6;
        shape.n_channels = 1 + i % 5;
        shape.hidden_size = H;
        shape.n_directions = 1 + (i / 2) % 2;
        shape.pooling = pooling;
        shape.n_classes = 1 + i % 4;
        const std::string name =
            isa + " N" + std::to_string(N) + " H" + std::to_string(H) + " #" + std::to_string(i);
        CheckCase<Real>(name, MakeLossProblem(random, shape, i));
        ++i;
      }
    }
  }
}

void CheckRefusals() {
  std::mt19937 random(3);
  LstmShape shape;
  shape.n_windows = 3;
  shape.n_timesteps = 4;
  shape.n_channels = 2;
  shape.hidden_size = 5;
  shape.pooling = Pooling::kLast;
  shape.n_classes = 3;
  auto Refused = [&](Status wanted, const char* what, auto change) {
    LossProblem q = MakeLossProblem(random, shape, 3);
    change(q);
    Written<float> out(shape), before(shape);
    Check(Measure(q, Parallel{}, out) == wanted, what);
    Check(out.mean_loss.data()[0] == before.mean_loss.data()[0] &&
              out.out.grad_bias.data()[0] == before.out.grad_bias.data()[0],
          "a refusal writes nothing");
  };
  Refused(Status::kClassOutOfRange, "a class above is refused",
          [](LossProblem& q) { q.class_index[2] = 3; });
  Refused(Status::kClassOutOfRange, "a class below is refused",
          [](LossProblem& q) { q.class_index[0] = -1; });
  Refused(Status::kLengthOutOfRange, "a length out of range is refused",
          [](LossProblem& q) { q.p.lengths[1] = 5; });
  Refused(Status::kInvalidShape, "a smoothing of 1 is refused",
          [](LossProblem& q) { q.smoothing = 1; });
  Refused(Status::kInvalidShape, "no pooling is refused",
          [](LossProblem& q) { q.p.shape.pooling = Pooling::kNone; });
}

}  // namespace

int main() {
  ForEachIsa([&](const Kernels& kernels, int64_t bytes) {
    const std::string name = kernels.name;
    CheckCases<float>(name, bytes / 4);
    CheckCases<double>(name, bytes / 8);
  });
  CheckRefusals();
  return Finish();
}
