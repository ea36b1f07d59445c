// Arithmetic on a lane's values that several kernels share. The machine M is the device or the
// tests' emulator, in which F, I, U, L and B are vectors with one value per lane.
#pragma once

#include "cuda/layout.cuh"

// Kernel functions are always inlined, so that arrays indexed by unrolled loops stay in registers.
#ifdef __CUDACC__
#define SENSORSEQ_BODY __device__ __forceinline__
#define SENSORSEQ_UNROLL _Pragma("unroll")
// Unrolls two iterations, so that the loads of the second are issued before the first is done.
#define SENSORSEQ_UNROLL_BY_2 _Pragma("unroll 2")
#define SENSORSEQ_UNROLL_BY_1 _Pragma("unroll 1")
#else
#define SENSORSEQ_BODY inline
#define SENSORSEQ_UNROLL
#define SENSORSEQ_UNROLL_BY_2
#define SENSORSEQ_UNROLL_BY_1
#endif

namespace sensorseq::cuda {

constexpr float kLog2E = 1.44269504f;
// Powers of 2 are limited to 2^40, because the product of three of them then still fits into a
// float, and 2^-40 is negligible beside 1.
constexpr float kExponentLimit = 40.0f;
// The exponent of the largest argument of Inverse, for a power of 2 that is not multiplied by
// others.
constexpr float kInverseLimit = 126.0f;
// coefficients of tanh(x) / x in powers of x^2, fitted for |x| <= 0.5; relative error 1e-8
constexpr float kTanh3 = -0.333331496f, kTanh5 = 0.133259878f, kTanh7 = -0.0530529395f,
                kTanh9 = 0.0172569714f;

// A kernel in which each lane processes one of Of::Elements(p) elements with Of::Element(m, p, at,
// inside).
template <typename Of, typename Params_>
struct PerElement {
  using Params = Params_;

  SENSORSEQ_HD static int64_t Warps(const Params& p) {
    return (Of::Elements(p) + kLanes - 1) / kLanes;
  }
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const Params& p, int64_t warp) {
    using L = typename M::L;
    const L element = L(m.Lane()) + warp * kLanes;
    const auto inside = element < L{} + Of::Elements(p);
    Of::Element(m, p, m.Select(inside, element, L{}), inside);
  }
};

// Computes a row's length, which is 0 for rows that do not exist. If the length is out of range,
// `poison` becomes NaN.
template <typename M, typename B>
SENSORSEQ_BODY void Bounds(M& m, const int64_t* lengths, const typename M::L& window,
                           const B& exists, int64_t n_timesteps, typename M::I* length,
                           typename M::F* poison) {
  using F = typename M::F;
  using I = typename M::I;
  using L = typename M::L;
  L steps = L{} + n_timesteps;
  *poison = F{};
  if (lengths != nullptr) {
    steps = m.LoadGlobalLongIf(exists, lengths, window);
    const auto below = steps < L{};
    const auto above = steps > L{} + n_timesteps;
    *poison = m.Select(m.And(exists, m.Or(below, above)), F{} + __builtin_nanf(""), F{});
    steps = m.Select(below, L{}, m.Select(above, L{} + n_timesteps, steps));
  }
  *length = I(m.Select(exists, steps, L{}));
}

// Splits two values into words of two halves, one word per plane. The halves of all planes add up
// to the values, except for rounding in the last plane.
template <int kPlanes, typename M>
SENSORSEQ_BODY void SplitHalves(M& m, const typename M::F& low, const typename M::F& high,
                                typename M::U words[kPlanes]) {
  words[0] = m.PackHalves(low, high);
  if (kPlanes == 2) {
    words[kPlanes - 1] = m.PackHalves(low - m.LowHalf(words[0]), high - m.HighHalf(words[0]));
  }
}

// Adds the product A B, a sum over 16 k, to `total`. `b` has two words of each plane; planes are
// four words apart. With two planes, the small products come first and a plain addition adds the
// block to `total`. The MMAs then truncate at the magnitude of the block, not of the total.
template <int kPlanes, typename M>
SENSORSEQ_BODY void Accumulate(M& m, const typename M::U a[kPlanes][kTileWords],
                               const typename M::U* b, typename M::F total[4]) {
  using F = typename M::F;
  if (kPlanes == 1) {
    m.Mma(total, a[0], b[0], b[1]);
    return;
  }
  F block[4] = {};
  m.Mma(block, a[kPlanes - 1], b[0], b[1]);
  m.Mma(block, a[0], b[4 * (kPlanes - 1)], b[4 * (kPlanes - 1) + 1]);
  m.Mma(block, a[0], b[0], b[1]);
  SENSORSEQ_UNROLL
  for (int i = 0; i < 4; ++i) total[i] = total[i] + block[i];
}

template <typename M>
SENSORSEQ_BODY typename M::F PowerOf2(M& m, const typename M::F& x, float factor) {
  using F = typename M::F;
  return m.Exp2(m.MinOrNan(x * factor, F{} + kExponentLimit));
}

// Returns 1 / x for 1 <= x <= 2^126 with an error of at most half a unit in the last place. The
// instruction alone has an error of up to one unit, which would be the largest rounding error of a
// gate.
template <typename M>
SENSORSEQ_BODY typename M::F Inverse(M& m, const typename M::F& x) {
  using F = typename M::F;
  const F r = m.Reciprocal(x);
  return m.Fma(r, m.Fma(x * -1.0f, r, F{} + 1.0f), r);
}

// Returns tanh(x). `elsewhere` is tanh(x) computed from exponentials. Near zero, where the
// exponentials cancel, the result is the odd polynomial of degree 9 that has the smallest relative
// error. `limit` bounds x^2 there.
template <typename M>
SENSORSEQ_BODY typename M::F TanhNearZero(M& m, const typename M::F& x,
                                          const typename M::F& elsewhere,
                                          const typename M::F& limit) {
  using F = typename M::F;
  const F square = x * x;
  F r = m.Fma(square, F{} + kTanh9, F{} + kTanh7);
  r = m.Fma(r, square, F{} + kTanh5);
  r = m.Fma(r, square, F{} + kTanh3);
  const F near = m.Fma(r * square, x, x);
  return m.Select(square < limit, near, elsewhere);
}
template <typename M>
SENSORSEQ_BODY typename M::F TanhNearZero(M& m, const typename M::F& x,
                                          const typename M::F& elsewhere) {
  using F = typename M::F;
  return TanhNearZero(m, x, elsewhere, F{} + 0.25f);
}

template <bool kIsExact, typename M>
SENSORSEQ_BODY typename M::F Tanh(M& m, const typename M::F& x) {
  using F = typename M::F;
  if (!kIsExact) return m.TanhApprox(x);
  const F e = PowerOf2(m, x, -2 * kLog2E);
  return TanhNearZero(m, x, (1.0f - e) * Inverse(m, 1.0f + e));
}

template <typename M>
SENSORSEQ_BODY typename M::F SigmoidApprox(M& m, const typename M::F& x) {
  using F = typename M::F;
  return m.Fma(m.TanhApprox(x * 0.5f), F{} + 0.5f, F{} + 0.5f);
}

// Updates one cell. The exact form uses five exponentials and two shared reciprocals.
template <bool kIsExact, typename M, typename F>
SENSORSEQ_BODY void Cell(M& m, const F& zi, const F& zf, const F& zg, const F& zo, const F& c, F* i,
                         F* f, F* g, F* o, F* c_new, F* h_new) {
  if (!kIsExact) {
    *i = SigmoidApprox(m, zi);
    *f = SigmoidApprox(m, zf);
    *g = m.TanhApprox(zg);
    *o = SigmoidApprox(m, zo);
    *c_new = m.Fma(*f, c, *i * *g);
    *h_new = *o * m.TanhApprox(*c_new);
    return;
  }
  const F a = PowerOf2(m, zi, -kLog2E) + 1.0f;
  const F b = PowerOf2(m, zf, -kLog2E) + 1.0f;
  const F d = PowerOf2(m, zg, -2 * kLog2E);
  const F r = Inverse(m, a * b * (d + 1.0f));
  *i = r * (b * (d + 1.0f));
  *f = r * (a * (d + 1.0f));
  *g = TanhNearZero(m, zg, (1.0f - d) * (r * (a * b)));
  *c_new = m.Fma(*f, c, *i * *g);
  const F e = PowerOf2(m, zo, -kLog2E) + 1.0f;
  const F q = PowerOf2(m, *c_new, -2 * kLog2E);
  const F s = Inverse(m, e * (q + 1.0f));
  *o = s * (q + 1.0f);
  *h_new = *o * TanhNearZero(m, *c_new, (1.0f - q) * (s * e));
}

}  // namespace sensorseq::cuda
