// A plain implementation of the contract of csrc/lstm/lstm_linear.h, in double or in float. It
// computes one row after the other, without packing or tiles, and the gradient of every
// intermediate value.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "lstm/gates.h"
#include "lstm/lstm_linear.h"

namespace reference {

using sensorseq::LstmShape;
using sensorseq::Pooling;
using Array = std::vector<double>;

template <typename Real>
struct ProblemIn {
  using Array = std::vector<Real>;
  LstmShape shape;
  bool has_lengths = false, has_h_0 = false, has_c_0 = false, has_mask = false;
  std::vector<int64_t> lengths;
  Array x, weight_ih, weight_hh, bias, h_0, c_0, mask, weight_out, bias_out;
  Array grad_hidden, grad_h_n, grad_c_n, grad_logits, grad_pooled;

  ProblemIn() = default;
  template <typename Other>
  explicit ProblemIn(const ProblemIn<Other>& other)
      : shape(other.shape),
        has_lengths(other.has_lengths),
        has_h_0(other.has_h_0),
        has_c_0(other.has_c_0),
        has_mask(other.has_mask),
        lengths(other.lengths) {
    auto Copy = [](Array& to, const std::vector<Other>& from) {
      to.assign(from.begin(), from.end());
    };
    Copy(x, other.x);
    Copy(weight_ih, other.weight_ih);
    Copy(weight_hh, other.weight_hh);
    Copy(bias, other.bias);
    Copy(h_0, other.h_0);
    Copy(c_0, other.c_0);
    Copy(mask, other.mask);
    Copy(weight_out, other.weight_out);
    Copy(bias_out, other.bias_out);
    Copy(grad_hidden, other.grad_hidden);
    Copy(grad_h_n, other.grad_h_n);
    Copy(grad_c_n, other.grad_c_n);
    Copy(grad_logits, other.grad_logits);
    Copy(grad_pooled, other.grad_pooled);
  }
};
using Problem = ProblemIn<double>;

template <typename Real>
struct ResultIn {
  using Array = std::vector<Real>;
  Array hidden, h_n, c_n, pooled, logits;
  Array grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h_0, grad_c_0, grad_weight_out,
      grad_bias_out;
};
using Result = ResultIn<double>;

template <typename Real>
inline Real Sigmoid(Real a) {
  return 1 / (1 + std::exp(-a));
}

template <typename Real>
inline ResultIn<Real> RunIn(const Problem& problem) {
  using Array = std::vector<Real>;
  const ProblemIn<Real> p(problem);
  const LstmShape& s = p.shape;
  const int64_t M = s.n_models, N = s.n_windows, T = s.n_timesteps, C = s.n_channels;
  const int64_t H = s.hidden_size, D = s.n_directions, K = s.n_classes, P = PooledSize(s);
  ResultIn<Real> r;
  r.hidden.assign(M * N * T * D * H, 0);
  r.h_n.assign(M * N * D * H, 0);
  r.c_n = r.grad_h_0 = r.grad_c_0 = r.h_n;
  r.pooled.assign(M * N * P, 0);
  r.logits.assign(M * N * K, 0);
  r.grad_x.assign(M * N * T * C, 0);
  r.grad_weight_ih.assign(M * D * 4 * H * C, 0);
  r.grad_weight_hh.assign(M * D * 4 * H * H, 0);
  r.grad_bias.assign(M * D * 4 * H, 0);
  r.grad_weight_out.assign(M * K * P, 0);
  r.grad_bias_out.assign(M * K, 0);

  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < N; ++n) {
      const int64_t length = p.has_lengths ? p.lengths[n] : T;
      const Real* x = p.x.data() + ((s.n_x_models == 1 ? 0 : m) * N + n) * T * C;
      Array gates(D * length * 4 * H), cells(D * (length + 1) * H), states(D * (length + 1) * H);
      auto Time = [&](int64_t d, int64_t step) { return d == 0 ? step : length - 1 - step; };
      auto Mask = [&](int64_t d, int64_t j) {
        return p.has_mask ? p.mask[((m * N + n) * D + d) * H + j] : Real(1);
      };
      for (int64_t d = 0; d < D; ++d) {
        const int64_t state = ((m * N + n) * D + d) * H, md = m * D + d;
        Real* c = &cells[d * (length + 1) * H];
        Real* h = &states[d * (length + 1) * H];
        for (int64_t j = 0; j < H; ++j) {
          h[j] = p.has_h_0 ? p.h_0[state + j] : 0;
          c[j] = p.has_c_0 ? p.c_0[state + j] : 0;
        }
        for (int64_t step = 0; step < length; ++step) {
          const int64_t t = Time(d, step);
          Real* g = &gates[(d * length + step) * 4 * H];
          for (int64_t row = 0; row < 4 * H; ++row) {
            Real a = p.bias[md * 4 * H + row];
            for (int64_t k = 0; k < C; ++k) {
              a += p.weight_ih[(md * 4 * H + row) * C + k] * x[t * C + k];
            }
            for (int64_t k = 0; k < H; ++k) {
              a += p.weight_hh[(md * 4 * H + row) * H + k] * h[step * H + k] * Mask(d, k);
            }
            g[row] = row / H == sensorseq::kCellGate ? std::tanh(a) : Sigmoid(a);
          }
          for (int64_t j = 0; j < H; ++j) {
            c[(step + 1) * H + j] = g[H + j] * c[step * H + j] + g[j] * g[2 * H + j];
            h[(step + 1) * H + j] = g[3 * H + j] * std::tanh(c[(step + 1) * H + j]);
            r.hidden[((m * N + n) * T + t) * D * H + d * H + j] = h[(step + 1) * H + j];
          }
        }
        for (int64_t j = 0; j < H; ++j) {
          r.h_n[state + j] = h[length * H + j];
          r.c_n[state + j] = c[length * H + j];
        }
      }

      // the gradient of every h, by direction and step, from everything that reads h except the
      // next step
      Array grad_h(D * length * H, 0), grad_pooled(P, 0);
      Real* pooled = r.pooled.data() + (m * N + n) * P;
      std::vector<int64_t> largest_at(D * H, -1);
      for (int64_t d = 0; d < D; ++d) {
        for (int64_t j = 0; j < H && length > 0 && P > 0; ++j) {
          Real sum = 0, largest = -std::numeric_limits<Real>::infinity();
          for (int64_t t = 0; t < length; ++t) {
            const Real h = r.hidden[((m * N + n) * T + t) * D * H + d * H + j];
            sum += h;
            if (h > largest) {
              largest = h;
              largest_at[d * H + j] = t;
            }
          }
          const int64_t at = d * H + j;
          if (s.pooling == Pooling::kLast) pooled[at] = states[(d * (length + 1) + length) * H + j];
          if (s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax) {
            pooled[at] = sum / length;
          }
          if (s.pooling == Pooling::kMax) pooled[at] = largest;
          if (s.pooling == Pooling::kMeanMax) pooled[D * H + at] = largest;
        }
      }
      for (int64_t i = 0; i < P && !p.grad_pooled.empty(); ++i) {
        grad_pooled[i] = p.grad_pooled[(m * N + n) * P + i];
      }
      for (int64_t k = 0; k < K; ++k) {
        const Real grad = p.grad_logits[(m * N + n) * K + k];
        Real sum = p.bias_out[m * K + k];
        for (int64_t i = 0; i < P; ++i) {
          sum += p.weight_out[(m * K + k) * P + i] * pooled[i];
          grad_pooled[i] += grad * p.weight_out[(m * K + k) * P + i];
          r.grad_weight_out[(m * K + k) * P + i] += grad * pooled[i];
        }
        r.logits[(m * N + n) * K + k] = sum;
        r.grad_bias_out[m * K + k] += grad;
      }
      for (int64_t d = 0; d < D; ++d) {
        for (int64_t step = 0; step < length; ++step) {
          const int64_t t = Time(d, step);
          for (int64_t j = 0; j < H; ++j) {
            Real& to = grad_h[(d * length + step) * H + j];
            const int64_t at = d * H + j;
            if (!p.grad_hidden.empty()) to += p.grad_hidden[((m * N + n) * T + t) * D * H + at];
            if (s.pooling == Pooling::kLast && step == length - 1) to += grad_pooled[at];
            if (s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax) {
              to += grad_pooled[at] / length;
            }
            if (s.pooling == Pooling::kMax && largest_at[at] == t) to += grad_pooled[at];
            if (s.pooling == Pooling::kMeanMax && largest_at[at] == t) {
              to += grad_pooled[D * H + at];
            }
          }
        }
      }

      for (int64_t d = 0; d < D; ++d) {
        const int64_t state = ((m * N + n) * D + d) * H, md = m * D + d;
        Array dh(H), dc(H), da(4 * H);
        for (int64_t j = 0; j < H; ++j) {
          dh[j] = p.grad_h_n.empty() ? 0 : p.grad_h_n[state + j];
          dc[j] = p.grad_c_n.empty() ? 0 : p.grad_c_n[state + j];
        }
        for (int64_t step = length - 1; step >= 0; --step) {
          const int64_t t = Time(d, step);
          const Real* g = &gates[(d * length + step) * 4 * H];
          const Real* h_before = &states[(d * (length + 1) + step) * H];
          const Real* c_before = &cells[(d * (length + 1) + step) * H];
          for (int64_t j = 0; j < H; ++j) {
            const Real i = g[j], f = g[H + j], z = g[2 * H + j], o = g[3 * H + j];
            const Real tanh_c = std::tanh(cells[(d * (length + 1) + step + 1) * H + j]);
            const Real of_h = dh[j] + grad_h[(d * length + step) * H + j];
            const Real of_c = dc[j] + of_h * o * (1 - tanh_c * tanh_c);
            da[j] = of_c * z * i * (1 - i);
            da[H + j] = of_c * c_before[j] * f * (1 - f);
            da[2 * H + j] = of_c * i * (1 - z * z);
            da[3 * H + j] = of_h * tanh_c * o * (1 - o);
            dc[j] = of_c * f;
          }
          for (int64_t j = 0; j < H; ++j) dh[j] = 0;
          for (int64_t row = 0; row < 4 * H; ++row) {
            r.grad_bias[md * 4 * H + row] += da[row];
            for (int64_t k = 0; k < C; ++k) {
              const int64_t at = (md * 4 * H + row) * C + k;
              r.grad_weight_ih[at] += da[row] * x[t * C + k];
              r.grad_x[((m * N + n) * T + t) * C + k] += da[row] * p.weight_ih[at];
            }
            for (int64_t k = 0; k < H; ++k) {
              const int64_t at = (md * 4 * H + row) * H + k;
              r.grad_weight_hh[at] += da[row] * h_before[k] * Mask(d, k);
              dh[k] += da[row] * p.weight_hh[at] * Mask(d, k);
            }
          }
        }
        for (int64_t j = 0; j < H; ++j) {
          r.grad_h_0[state + j] = dh[j];
          r.grad_c_0[state + j] = dc[j];
        }
      }
    }
  }
  return r;
}
inline Result Run(const Problem& p) { return RunIn<double>(p); }

}  // namespace reference
