// Shared by the native tests of lstm_linear.h: random arguments, and a forward and a backward call
// on arrays that end where their allocation ends.
#pragma once

#include <atomic>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/dispatch.h"
#include "harness.h"
#include "reference.h"

namespace lstm_problem {

using namespace sensorseq;
using namespace harness;
using reference::Array;
using reference::Problem;
using reference::Result;

using Ints = std::vector<int64_t>;

inline Ints Range(int64_t begin, int64_t end) {
  Ints range(end - begin);
  std::iota(range.begin(), range.end(), begin);
  return range;
}

// Returns the given entries along the middle axis of an (n_outer, n, ...) array.
inline Array Take(const Array& from, int64_t n_outer, int64_t n, const Ints& entries) {
  Array taken;
  if (from.empty()) return taken;
  const int64_t inner = static_cast<int64_t>(from.size()) / (n_outer * n);
  for (int64_t outer = 0; outer < n_outer; ++outer) {
    for (int64_t entry : entries) {
      const auto at = from.begin() + (outer * n + entry) * inner;
      taken.insert(taken.end(), at, at + inner);
    }
  }
  return taken;
}

// The same problem with only some models and some windows, in the given order.
inline Problem Part(const Problem& p, const Ints& models, const Ints& windows) {
  const LstmShape& s = p.shape;
  const auto n_models = static_cast<int64_t>(models.size());
  const bool is_shared = s.n_x_models == 1;
  Problem part = p;
  part.shape.n_models = n_models;
  part.shape.n_x_models = is_shared ? 1 : n_models;
  part.shape.n_windows = static_cast<int64_t>(windows.size());
  part.x = Take(is_shared ? p.x : Take(p.x, 1, s.n_models, models), part.shape.n_x_models,
                s.n_windows, windows);
  for (Array Problem::* array :
       {&Problem::h_0, &Problem::c_0, &Problem::mask, &Problem::grad_hidden, &Problem::grad_h_n,
        &Problem::grad_c_n, &Problem::grad_logits, &Problem::grad_pooled}) {
    part.*array = Take(Take(p.*array, 1, s.n_models, models), n_models, s.n_windows, windows);
  }
  for (Array Problem::* array : {&Problem::weight_ih, &Problem::weight_hh, &Problem::bias,
                                 &Problem::weight_out, &Problem::bias_out}) {
    part.*array = Take(p.*array, 1, s.n_models, models);
  }
  part.lengths.clear();
  for (int64_t window : windows) {
    if (p.has_lengths) part.lengths.push_back(p.lengths[window]);
  }
  return part;
}

// Which optional outputs a caller requests, whether both passes run as one fused step without the
// head, and whether the forward pass gets only packed weights.
struct Wanted {
  bool hidden = true, grad_x = true, gradients = true, fused = false, packed = false;
};

template <typename Real>
struct Outputs {
  Exact<Real> hidden, h_n, c_n, pooled, logits, saved;
  Exact<Real> grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h_0, grad_c_0,
      grad_weight_out, grad_bias_out;

  explicit Outputs(const LstmShape& s)
      : hidden(Rows(s) * s.n_timesteps * s.n_directions * s.hidden_size),
        h_n(Rows(s) * s.n_directions * s.hidden_size),
        c_n(h_n.size()),
        pooled(Rows(s) * PooledSize(s)),
        logits(Rows(s) * s.n_classes),
        saved(Rows(s) * s.n_directions * SavedRows(s.n_timesteps) * Padded(s.hidden_size)),
        grad_x(Rows(s) * s.n_timesteps * s.n_channels),
        grad_weight_ih(Gates(s) * s.n_channels),
        grad_weight_hh(Gates(s) * s.hidden_size),
        grad_bias(Gates(s)),
        grad_h_0(h_n.size()),
        grad_c_0(h_n.size()),
        grad_weight_out(s.n_models * s.n_classes * PooledSize(s)),
        grad_bias_out(s.n_models * s.n_classes) {}

 private:
  static int64_t Rows(const LstmShape& s) { return s.n_models * s.n_windows; }
  static int64_t Gates(const LstmShape& s) {
    return s.n_models * s.n_directions * kGates * s.hidden_size;
  }
};

// The head's backward pass, which the caller of a fused step computes.
template <typename Real>
struct Between {
  const Problem& p;
  Real* grad_pooled;
  std::atomic<int64_t> n_windows{0};
  std::atomic<bool> in_slot{true};  // every window belongs to its stated slot

  static void Run(void* context, int64_t model, int64_t slot, int64_t first, int64_t n) {
    auto& self = *static_cast<Between*>(context);
    const LstmShape& s = self.p.shape;
    const int64_t P = PooledSize(s), K = s.n_classes;
    for (int64_t i = first; i < first + n; ++i) {
      if (i < SlotWindow(slot, s) || i >= SlotWindow(slot + 1, s)) {
        self.in_slot = false;
      }
      for (int64_t j = 0; j < P; ++j) {
        const int64_t at = (model * s.n_windows + i) * P + j;
        double sum = self.p.grad_pooled.empty() ? 0 : self.p.grad_pooled[at];
        for (int64_t k = 0; k < K; ++k) {
          sum += self.p.grad_logits[(model * s.n_windows + i) * K + k] *
                 self.p.weight_out[(model * K + k) * P + j];
        }
        self.grad_pooled[at] = static_cast<Real>(sum);
      }
    }
    self.n_windows += n;
  }
};

template <typename Real>
inline void Compute(const Problem& p, const Wanted& wanted, const Parallel& parallel,
                    Outputs<Real>& out) {
  const LstmShape& s = p.shape;
  const bool has_head = s.n_classes > 0;
  Exact<Real> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh), bias(p.bias), h_0(p.h_0),
      c_0(p.c_0), mask(p.mask), weight_out(p.weight_out), bias_out(p.bias_out);
  std::vector<int64_t> lengths = p.lengths;
  LstmInputs<Real> in;
  in.x = x.data();
  in.lengths = p.has_lengths ? lengths.data() : nullptr;
  in.weight_ih = weight_ih.data();
  in.weight_hh = weight_hh.data();
  in.bias = bias.data();
  in.h_0 = h_0.or_null(p.has_h_0);
  in.c_0 = c_0.or_null(p.has_c_0);
  in.recurrent_mask = mask.or_null(p.has_mask);
  in.weight_out = weight_out.or_null(has_head);

  LstmForward<Real> forward;
  forward.shape = s;
  forward.in = in;
  forward.bias_out = bias_out.or_null(has_head);
  forward.hidden = out.hidden.or_null(wanted.hidden);
  forward.h_n = out.h_n.data();
  forward.c_n = out.c_n.data();
  forward.pooled = out.pooled.or_null(s.pooling != Pooling::kNone);
  forward.logits = out.logits.or_null(has_head);
  forward.saved = out.saved.or_null(wanted.gradients);
  forward.parallel = parallel;
  const Workspace forward_space(lstm_forward_workspace_bytes(s, sizeof(Real)));
  forward.workspace = forward_space.data;
  // the contract forbids allocations, except those of the caller's threads
  auto Run = [&](const char* what, auto call) {
    const int64_t before = g_allocations;
    const Status status = call();
    const bool none = g_allocations == before;
    Check(status == Status::kOk, std::string(what) + " status");
    if (parallel.run == nullptr) Check(none, std::string(what) + " allocates nothing");
  };
  const Packed packed(wanted.packed ? lstm_packed_bytes(s, sizeof(Real)) : 0);
  if (wanted.packed) {
    LstmInputs<Real> weights{};
    std::swap(weights.weight_ih, forward.in.weight_ih);
    std::swap(weights.weight_hh, forward.in.weight_hh);
    std::swap(weights.bias, forward.in.bias);
    Run("pack", [&] { return lstm_pack(s, weights, packed.data); });
    forward.packed = packed.data;
  }
  if (!wanted.fused) Run("forward", [&] { return lstm_forward(forward); });
  if (!wanted.gradients) return;

  Exact<Real> grad_hidden(p.grad_hidden), grad_h_n(p.grad_h_n), grad_c_n(p.grad_c_n),
      grad_logits(p.grad_logits), grad_pooled(p.grad_pooled);
  LstmBackward<Real> backward;
  backward.shape = s;
  backward.in = in;
  backward.pooled = out.pooled.or_null(s.pooling != Pooling::kNone);
  backward.saved = out.saved.data();
  backward.grad_hidden = grad_hidden.or_null(!p.grad_hidden.empty());
  backward.grad_h_n = grad_h_n.or_null(!p.grad_h_n.empty());
  backward.grad_c_n = grad_c_n.or_null(!p.grad_c_n.empty());
  backward.grad_logits = grad_logits.or_null(has_head);
  backward.grad_pooled = grad_pooled.or_null(!p.grad_pooled.empty());
  backward.grad_x = out.grad_x.or_null(wanted.grad_x);
  backward.grad_weight_ih = out.grad_weight_ih.data();
  backward.grad_weight_hh = out.grad_weight_hh.data();
  backward.grad_bias = out.grad_bias.data();
  backward.grad_h_0 = out.grad_h_0.or_null(p.has_h_0);
  backward.grad_c_0 = out.grad_c_0.or_null(p.has_c_0);
  backward.grad_weight_out = out.grad_weight_out.or_null(has_head);
  backward.grad_bias_out = out.grad_bias_out.or_null(has_head);
  backward.parallel = parallel;
  const Workspace backward_space(lstm_backward_workspace_bytes(s, sizeof(Real)));
  backward.workspace = backward_space.data;
  if (!wanted.fused) {
    Run("backward", [&] { return lstm_backward(backward); });
    return;
  }
  const Workspace step_space(lstm_step_workspace_bytes(s, sizeof(Real)));
  Exact<Real> from_between(s.n_models * s.n_windows * PooledSize(s));
  Between<Real> between{p, from_between.data()};
  forward.shape.n_classes = backward.shape.n_classes = 0;
  forward.logits = nullptr;
  forward.saved = nullptr;
  backward.grad_logits = nullptr;
  backward.saved = nullptr;
  backward.grad_pooled = from_between.data();
  backward.workspace = step_space.data;
  const LstmStep<Real> step{forward, backward, &Between<Real>::Run, &between};
  Run("step", [&] { return lstm_step(step); });
  Check(between.n_windows == s.n_models * s.n_windows, "every window between its passes once");
  Check(between.in_slot, "windows between their passes with their slot");
}

enum class Lengths { kNone, kZero, kFull, kMixed };

inline Problem MakeProblem(std::mt19937& random, const LstmShape& shape, Lengths lengths,
                           bool options) {
  std::normal_distribution<double> normal;
  // rounded to float, so that both precisions start from the same numbers
  auto Draw = [&](int64_t n, double scale) {
    Array values(n);
    for (double& value : values) value = static_cast<float>(scale * normal(random));
    return values;
  };
  Problem p;
  p.shape = shape;
  const int64_t M = shape.n_models, N = shape.n_windows, T = shape.n_timesteps;
  const int64_t C = shape.n_channels, H = shape.hidden_size, D = shape.n_directions;
  const int64_t states = M * N * D * H, P = PooledSize(shape), K = shape.n_classes;
  p.x = Draw(shape.n_x_models * N * T * C, 1);
  p.weight_ih = Draw(M * D * 4 * H * C, 0.4);
  p.weight_hh = Draw(M * D * 4 * H * H, 0.4 / std::sqrt(double(H)));
  p.bias = Draw(M * D * 4 * H, 0.4);
  p.weight_out = Draw(M * K * P, 0.5);
  p.bias_out = Draw(M * K, 0.5);
  p.grad_logits = Draw(M * N * K, 1);
  p.has_h_0 = p.has_c_0 = p.has_mask = options;
  if (options) {
    p.h_0 = Draw(states, 0.5);
    p.c_0 = Draw(states, 0.5);
    p.mask = Draw(states, 1);
    p.grad_h_n = Draw(states, 1);
    p.grad_c_n = Draw(states, 1);
    p.grad_pooled = Draw(M * N * P, 1);
  }
  if (shape.pooling == Pooling::kNone || options) p.grad_hidden = Draw(M * N * T * D * H, 1);
  p.has_lengths = lengths != Lengths::kNone;
  for (int64_t n = 0; p.has_lengths && n < N; ++n) {
    // of four rows in a tile, one ends immediately, one after one step, and one after all T steps
    const int64_t mixed[] = {int64_t(random() % (T + 1)), 0, T < 1 ? T : 1, T};
    const int64_t length = lengths == Lengths::kZero   ? 0
                           : lengths == Lengths::kFull ? T
                                                       : mixed[n % 4];
    p.lengths.push_back(length);
    for (int64_t m = 0; m < shape.n_x_models; ++m) {
      for (int64_t i = length * C; i < T * C; ++i) p.x[(m * N + n) * T * C + i] = NAN;
    }
    for (int64_t m = 0; m < M && !p.grad_hidden.empty(); ++m) {
      for (int64_t i = length * D * H; i < T * D * H; ++i) {
        p.grad_hidden[(m * N + n) * T * D * H + i] = NAN;
      }
    }
  }
  return p;
}

}  // namespace lstm_problem
