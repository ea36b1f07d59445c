// The sums of the gates in Real: their packed weights, and the products. Included by an ISA file
// after tile-inl.h; includes nothing.

template <typename Real, int kRows>
SENSORSEQ_INLINE void AddProducts(const Vec<Real> (&factors)[kRows], const Real* weights,
                                  Vec<Real> (&sums)[kRows][kGates]) {
#pragma GCC unroll 4
  for (int gate = 0; gate < kGates; ++gate) {
    const Vec<Real> weight = Load(weights + gate * kLanes<Real>);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r][gate] = MulAdd(factors[r], weight, sums[r][gate]);
  }
}

// Adds the products of kBlocks blocks of units, over h, then over x; returns the bias behind the
// first block's weights.
template <typename Real, int kRows, int kBlocks>
SENSORSEQ_INLINE const Real* AddGateProducts(const Real* packed, int64_t block_size,
                                             const ForwardStep<Real>& step, int64_t first,
                                             Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
  constexpr int64_t kGroup = kGates * kLanes<Real>;
  const int64_t H = step.H, C = step.C;
  const Real* h = step.h + first * step.stride;
  const int64_t stride = step.stride;
#pragma GCC unroll 4
  for (int64_t k = 0; k < H; ++k, packed += kGroup) {
    Vec<Real> factors[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) factors[r] = Broadcast(h[r * stride + k]);
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) AddProducts(factors, packed + b * block_size, sums[b]);
  }
  const Real* const* x = step.x + first;
  for (int64_t k = 0; k < C; ++k, packed += kGroup) {
    Vec<Real> factors[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) factors[r] = Broadcast(x[r][k]);
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) AddProducts(factors, packed + b * block_size, sums[b]);
  }
  return packed;
}
