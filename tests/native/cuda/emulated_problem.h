// One forward and one backward call in the emulator, on arrays that end where their allocation
// ends, and the results of both calls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "emulated_calls.h"
#include "harness.h"
#include "lstm_problem.h"
#include "reference.h"

namespace emulated {

using namespace lstm_problem;
using emulator::Fault;
using emulator::Order;
using Schedule = emulator::Options;

// An array that is 16-byte aligned, like the device's allocations, and ends where the allocation
// ends.
class Device {
 public:
  explicit Device(size_t n, float fill = NAN) : n_(n), block_(Allocate(n), &std::free) {
    std::fill(data(), data() + n, fill);
  }
  explicit Device(const Array& values) : Device(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) data()[i] = static_cast<float>(values[i]);
  }
  float* data() { return static_cast<float*>(block_.get()); }
  // also null if the array is empty, as in torch
  float* or_null(bool wanted) { return wanted && n_ > 0 ? data() : nullptr; }
  size_t size() const { return n_; }

 private:
  static void* Allocate(size_t n) {
    void* block = nullptr;
    if (posix_memalign(&block, 16, n * sizeof(float)) != 0) std::abort();
    return block;
  }
  size_t n_;
  std::unique_ptr<void, decltype(&std::free)> block_;
};

// The options of a caller.
struct Asks {
  bool hidden = true, gradients = true, grad_h_0 = true;
  bool projected = false;  // x contains the input's contribution to the gates
  bool in_place = false;   // h_n and c_n overwrite h_0 and c_0, and there are no gradients
};

struct CallOutputs {
  Device hidden, h_n, c_n, pooled, logits, saved;
  Device grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h_0, grad_c_0, grad_weight_out,
      grad_bias_out;
  CallOutputs(const LstmShape& s, cuda::Precision precision, bool is_projected)
      : hidden(Rows(s) * s.n_timesteps * s.n_directions * s.hidden_size),
        h_n(Rows(s) * s.n_directions * s.hidden_size),
        c_n(h_n.size()),
        pooled(Rows(s) * PooledSize(s)),
        logits(Rows(s) * s.n_classes),
        saved(emulated::SavedFloats(s, OptionsOf(precision, is_projected))),
        grad_x(is_projected ? hidden.size() * 4 : 0),
        grad_weight_ih(Gates(s) * s.n_channels),
        grad_weight_hh(Gates(s) * s.hidden_size),
        grad_bias(Gates(s)),
        grad_h_0(h_n.size()),
        grad_c_0(h_n.size()),
        grad_weight_out(s.n_models * s.n_classes * PooledSize(s)),
        grad_bias_out(s.n_models * s.n_classes) {}
  // Calls f(name, array) for each output except `saved`.
  template <typename G>
  void ForEach(G f) {
    f("hidden", hidden);
    f("h_n", h_n);
    f("c_n", c_n);
    f("pooled", pooled);
    f("logits", logits);
    f("grad_x", grad_x);
    f("grad_weight_ih", grad_weight_ih);
    f("grad_weight_hh", grad_weight_hh);
    f("grad_bias", grad_bias);
    f("grad_h_0", grad_h_0);
    f("grad_c_0", grad_c_0);
    f("grad_weight_out", grad_weight_out);
    f("grad_bias_out", grad_bias_out);
  }

 private:
  static cuda::Options OptionsOf(cuda::Precision precision, bool is_projected) {
    cuda::Options options;
    options.precision = precision;
    options.is_projected = is_projected;
    return options;
  }
  static int64_t Rows(const LstmShape& s) { return s.n_models * s.n_windows; }
  static int64_t Gates(const LstmShape& s) {
    return s.n_models * s.n_directions * 4 * s.hidden_size;
  }
};

// Returns x W_ih^T + bias of shape (M, N, T, D, H, 4), with NaN beyond the lengths.
inline Array Project(const Problem& p) {
  const LstmShape& s = p.shape;
  const int64_t M = s.n_models, N = s.n_windows, T = s.n_timesteps, C = s.n_channels,
                H = s.hidden_size, D = s.n_directions;
  Array out(M * N * T * D * H * 4, NAN);
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t t = 0; t < (p.has_lengths ? p.lengths[n] : T); ++t) {
        const double* x = p.x.data() + (((s.n_x_models == 1 ? 0 : m) * N + n) * T + t) * C;
        for (int64_t row = 0; row < D * 4 * H; ++row) {
          const int64_t d = row / (4 * H), gate = row / H % 4, unit = row % H;
          double a = p.bias[m * D * 4 * H + row];
          for (int64_t k = 0; k < C; ++k) a += p.weight_ih[(m * D * 4 * H + row) * C + k] * x[k];
          out[((((m * N + n) * T + t) * D + d) * H + unit) * 4 + gate] = a;
        }
      }
    }
  }
  return out;
}

// Throws emulator::Fault.
inline void Compute(const Problem& p, cuda::Precision precision, const Asks& asks,
                    const Schedule& schedule, CallOutputs& out) {
  LstmShape s = p.shape;
  cuda::Options options;
  options.precision = precision;
  options.is_projected = asks.projected;
  const bool has_head = s.n_classes > 0, has_pooling = s.pooling != Pooling::kNone;
  Device x(asks.projected ? Project(p) : p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh),
      bias(p.bias), h_0(p.h_0), c_0(p.c_0), mask(p.mask), weight_out(p.weight_out),
      bias_out(p.bias_out);
  if (asks.projected) s.n_channels = 0;
  std::vector<int64_t> lengths = p.lengths;
  LstmInputs<float> in{};
  in.x = x.data();
  in.lengths = p.has_lengths ? lengths.data() : nullptr;
  in.weight_ih = asks.projected ? nullptr : weight_ih.data();
  in.weight_hh = weight_hh.data();
  in.bias = asks.projected ? nullptr : bias.data();
  in.h_0 = h_0.or_null(p.has_h_0);
  in.c_0 = c_0.or_null(p.has_c_0);
  in.recurrent_mask = mask.or_null(p.has_mask);
  in.weight_out = weight_out.or_null(has_head);
  LstmForward<float> f{};
  f.shape = s;
  f.in = in;
  f.bias_out = bias_out.or_null(has_head);
  f.hidden = out.hidden.or_null(asks.hidden);
  f.h_n = asks.in_place ? h_0.data() : out.h_n.data();
  f.c_n = asks.in_place ? c_0.data() : out.c_n.data();
  f.pooled = out.pooled.or_null(has_pooling);
  f.logits = out.logits.or_null(has_head);
  f.saved = out.saved.or_null(asks.gradients);
  const Workspace forward_space(ForwardBytes(s, options));
  f.workspace = forward_space.data;
  Forward(f, options, schedule);
  if (asks.in_place) {
    std::copy(h_0.data(), h_0.data() + h_0.size(), out.h_n.data());
    std::copy(c_0.data(), c_0.data() + c_0.size(), out.c_n.data());
  }
  if (!asks.gradients) return;

  Device grad_hidden(p.grad_hidden), grad_h_n(p.grad_h_n), grad_c_n(p.grad_c_n),
      grad_logits(p.grad_logits), grad_pooled(p.grad_pooled);
  LstmBackward<float> b{};
  b.shape = s;
  b.in = in;
  b.pooled = out.pooled.or_null(has_pooling);
  b.saved = out.saved.data();
  b.grad_hidden = grad_hidden.or_null(true);
  b.grad_h_n = grad_h_n.or_null(true);
  b.grad_c_n = grad_c_n.or_null(true);
  b.grad_logits = grad_logits.or_null(has_head);
  b.grad_pooled = grad_pooled.or_null(has_pooling);
  b.grad_x = out.grad_x.or_null(asks.projected);
  b.grad_weight_ih = out.grad_weight_ih.or_null(!asks.projected);
  b.grad_weight_hh = out.grad_weight_hh.data();
  b.grad_bias = out.grad_bias.or_null(!asks.projected);
  b.grad_h_0 = out.grad_h_0.or_null(asks.grad_h_0);
  b.grad_c_0 = out.grad_c_0.or_null(asks.grad_h_0);
  b.grad_weight_out = out.grad_weight_out.or_null(has_head);
  b.grad_bias_out = out.grad_bias_out.or_null(has_head);
  const Workspace backward_space(BackwardBytes(s, options));
  b.workspace = backward_space.data;
  Backward(b, options, schedule);
}

}  // namespace emulated
