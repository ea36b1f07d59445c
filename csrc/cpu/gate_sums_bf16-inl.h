// The sums of the gates with factors in bfloat16 and sums in float: what gate_sums-inl.h has, for
// processors that multiply pairs. Included by an ISA file instead of it; includes nothing.

constexpr int64_t kPair = 2;

// A lane holds its unit's weights for a pair, that of an odd last one with a zero.
SENSORSEQ_INLINE int64_t Groups(int64_t n) { return (n + kPair - 1) / kPair; }

// The first n of two vectors of values from p, rounded to bfloat16, then zeros: each lane holds a
// pair, the earlier in its lower half.
SENSORSEQ_INLINE Vec<float> RoundToPairs(const float* p, int64_t n) {
  const int64_t V = kLanes<float>;
  const __m512 low = _mm512_maskz_loadu_ps(n >= V ? kAll : (1 << n) - 1, p);
  if (n <= V) return (Vec<float>)_mm512_cvtne2ps_pbh(_mm512_setzero_ps(), low);
  const __mmask16 of_high = n >= 2 * V ? kAll : (1 << (n - V)) - 1;
  return (Vec<float>)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(of_high, p + V), low);
}

// As PackColumns, a pair of columns at a time.
inline void PackGroups(const float* rows, int64_t row_stride, int64_t n_rows, int64_t n,
                       float* packed) {
  constexpr int64_t V = kLanes<float>;
  for (int64_t k = 0; k < n; k += kPair * V) {
    Vec<float> square[V];
    for (int64_t r = 0; r < V; ++r) {
      square[r] = r < n_rows ? RoundToPairs(rows + r * row_stride + k, n - k) : Vec<float>{};
    }
    Transpose<float>(square);
    for (int64_t j = 0; j < V && k + kPair * j < n; ++j) {
      Store(packed + (k / kPair + j) * kGates * V, square[j]);
    }
  }
}

// Pairs of h, padded to whole vectors of pairs, then of x, likewise, for every row of the tile: of
// some columns of h, which are whole vectors of pairs but for the last; x comes with the first.
template <typename Real>
SENSORSEQ_INLINE void PrepareFactors(const ForwardStep<Real>& step, int64_t n_rows,
                                     const Blocks& columns) {
  constexpr int64_t V = kLanes<Real>;
  auto Round = [](const Real* from, int64_t n, const Blocks& of, Real* to) {
    for (int64_t k = of.begin; k < of.end && k < n; k += kPair * V) {
      Store(to + k / kPair, RoundToPairs(from + k, n - k));
    }
  };
  for (int64_t r = 0; r < n_rows; ++r) {
    Real* to = step.factors + r * FactorsSize(step.H, step.C);
    Round(step.h + r * step.stride, step.H, columns, to);
    if (columns.begin > 0) continue;
    Round(step.x[r], step.C, {0, step.C}, to + Padded(Groups(step.H)));
  }
}
constexpr bool kPreparesFactors = true;

template <typename Real>
SENSORSEQ_INLINE __m512bh BroadcastPair(const Real* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof(pair));
  return (__m512bh)_mm512_set1_epi32(pair);
}

// Adds the products of n pairs of a row of factors; returns what is behind their weights.
template <typename Real, int kRows, int kBlocks>
SENSORSEQ_INLINE const Real* AddPairs(const Real* packed, int64_t block_size, const Real* factors,
                                      int64_t stride, int64_t n,
                                      Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
  constexpr int64_t V = kLanes<Real>;
#pragma GCC unroll 4
  for (int64_t pair = 0; pair < n; ++pair, packed += kGates * V) {
    __m512bh of_rows[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) of_rows[r] = BroadcastPair(factors + r * stride + pair);
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        const __m512bh weights = (__m512bh)Load(packed + b * block_size + gate * V);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          sums[b][r][gate] =
              (Vec<Real>)_mm512_dpbf16_ps((__m512)sums[b][r][gate], of_rows[r], weights);
        }
      }
    }
  }
  return packed;
}

// As in gate_sums-inl.h.
template <typename Real, int kRows, int kBlocks>
SENSORSEQ_INLINE const Real* AddGateProducts(const Real* packed, int64_t block_size,
                                             const ForwardStep<Real>& step, int64_t first,
                                             Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
  const int64_t stride = FactorsSize(step.H, step.C);
  const Real* factors = step.factors + first * stride;
  packed =
      AddPairs<Real, kRows, kBlocks>(packed, block_size, factors, stride, Groups(step.H), sums);
  factors += Padded(Groups(step.H));
  return AddPairs<Real, kRows, kBlocks>(packed, block_size, factors, stride, Groups(step.C), sums);
}
