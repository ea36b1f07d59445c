// The sums of the gates in Real: their packed weights, and the products. Included by an ISA file
// after tile-inl.h; includes nothing.

// [unit block][h, x, 1][gate][lane], one contiguous line group per product: a column of
// weight_hh per hidden unit, then one of weight_ih per channel, then the bias.
// Padded units have zero weights and bias, so they stay exactly 0 and no hot loop needs a mask.
template <typename Real>
SENSORSEQ_INLINE int64_t PackedBlockSize(int64_t H, int64_t C) {
  return (1 + H + C) * kGates * kLanes<Real>;
}

template <typename Real>
inline void PackForward(const LstmShape& s, const LstmInputs<Real>& in, int64_t model_direction,
                        Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, C = s.n_channels;
  const Real* weight_hh = in.weight_hh + model_direction * kGates * H * H;
  const Real* weight_ih = in.weight_ih + model_direction * kGates * H * C;
  const Real* bias = in.bias + model_direction * kGates * H;
  for (int64_t unit = 0; unit < H; unit += V, packed += PackedBlockSize<Real>(H, C)) {
    const int64_t n_units = H - unit < V ? H - unit : V;
    for (int gate = 0; gate < kGates; ++gate) {
      const int64_t row = gate * H + unit;
      Real* to = packed + gate * V;
      PackColumns(weight_hh + row * H, H, n_units, H, to);
      PackColumns(weight_ih + row * C, C, n_units, C, to + H * kGates * V);
      Store(to + (H + C) * kGates * V, LoadSome(bias + row, n_units));
    }
  }
}

// Nothing to do: products take h and x as they are.
template <typename Real>
SENSORSEQ_INLINE void PrepareFactors(const ForwardStep<Real>&, int64_t) {}

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
SENSORSEQ_INLINE const Real* AddGateProducts(const Real* packed, const ForwardStep<Real>& step,
                                             int64_t first,
                                             Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
  constexpr int64_t kGroup = kGates * kLanes<Real>;
  const int64_t H = step.H, C = step.C, block_size = PackedBlockSize<Real>(H, C);
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
