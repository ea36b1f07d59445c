// The forward body: one tile of windows through all of time in one direction. Included by an ISA
// file after gate_sums-inl.h or gate_sums_bf16-inl.h; includes nothing.

// [unit block][groups of h, groups of x, 1][gate][lane], one contiguous line group per product; the
// last is the bias, in Real. Padded units have zero weights and bias, so they stay exactly 0 and no
// hot loop needs a mask.
template <typename Real>
SENSORSEQ_INLINE int64_t PackedBlockSize(int64_t H, int64_t C) {
  return (Groups(H) + Groups(C) + 1) * kGates * kLanes<Real>;
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
      PackGroups(weight_hh + row * H, H, n_units, H, to);
      PackGroups(weight_ih + row * C, C, n_units, C, to + Groups(H) * kGates * V);
      Store(to + (Groups(H) + Groups(C)) * kGates * V, LoadSome(bias + row, n_units));
    }
  }
}

// Sums of the gates of kBlocks blocks of units: the products, then the bias, which is often the
// largest term and would cost every later sum its last digits.
template <typename Real, int kRows, int kBlocks>
SENSORSEQ_INLINE void GateSums(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                               Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) sums[b][r][gate] = Vec<Real>{};
    }
  }
  const int64_t block_size = PackedBlockSize<Real>(step.H, step.C);
  const Real* bias = AddGateProducts<Real, kRows, kBlocks>(packed, block_size, step, first, sums);
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        sums[b][r][gate] += Load(bias + b * block_size + gate * kLanes<Real>);
      }
    }
  }
}

template <typename Real>
SENSORSEQ_INLINE void Pool(const ForwardStep<Real>& step, int64_t row, int64_t at, Vec<Real> h) {
  if (step.sum != nullptr) Store(step.sum + at, Load(step.sum + at) + h);
  if (step.largest == nullptr) return;
  const Vec<Real> largest = Load(step.largest + at);
  // The earliest timestep wins, which a reversed direction meets last; a NaN is larger than
  // everything, as in torch.
  const VecBits<Real> is_larger = step.is_reversed
                                      ? (h >= largest) | (h != h)
                                      : (h > largest) | ((h != h) & (largest == largest));
  Store(step.largest + at, is_larger ? h : largest);
  if (step.largest_at == nullptr) return;
  const VecBits<Real> timestep = step.timestep[row] - VecBits<Real>{};
  StoreBits<Real>(step.largest_at + at,
                  is_larger ? timestep : LoadBits<Real>(step.largest_at + at));
}

// One timestep of kBlocks blocks of units for rows [first, first + kRows) of the tile.
template <typename Real, int kRows, int kBlocks>
inline void ForwardBlocks(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                          int64_t block) {
  constexpr int64_t V = kLanes<Real>;
  Vec<Real> sums[kBlocks][kRows][kGates];
  GateSums<Real, kRows, kBlocks>(packed + block * PackedBlockSize<Real>(step.H, step.C), step,
                                 first, sums);
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t column = (block + b) * V;
    Real* saved = nullptr;
    if (step.saved != nullptr) {
      saved = step.saved + ((block + b) * step.saved_rows + first) * kSavedValues * V;
    }
    // in two passes, so that the chains of one row hide those of another
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      Real* c = step.c + (first + r) * step.stride + column;
      const Vec<Real> i = Sigmoid(sums[b][r][kInputGate]);
      const Vec<Real> f = Sigmoid(sums[b][r][kForgetGate]);
      const Vec<Real> g = Tanh(sums[b][r][kCellGate]);
      const Vec<Real> o = Sigmoid(sums[b][r][kOutputGate]);
      const Vec<Real> c_next = MulAdd(f, Load(c), i * g);
      Store(c, c_next);
      if (saved != nullptr) {
        Real* to = saved + r * kSavedValues * V;
        Store(to + kInputGate * V, i);
        Store(to + kForgetGate * V, f);
        Store(to + kCellGate * V, g);
        Store(to + kOutputGate * V, o);
        Store(to + kSavedCell * V, c_next);
      }
      sums[b][r][0] = c_next;
      sums[b][r][1] = o;
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = (first + r) * step.stride + column;
      const Vec<Real> h = sums[b][r][1] * Tanh(sums[b][r][0]);
      Store(step.h_plain + at, h);
      if (step.mask != nullptr) Store(step.h_next + at, h * Load(step.mask + at));
      if (saved != nullptr) Store(saved + (r * kSavedValues + kSavedHidden) * V, h);
      Pool(step, first + r, at, h);
    }
  }
}

// Few rows take several blocks at a time: one alone has too few sums to hide a product's latency.
// The order turns round with every step, so that the weights read last, still in the first cache,
// are read first.
template <typename Real, int kRows>
inline void ForwardRows(const Real* packed, const ForwardStep<Real>& step, int64_t first) {
  constexpr int kBlocks = kRows >= SENSORSEQ_REGISTER_ROWS ? 1 : SENSORSEQ_REGISTER_ROWS / kRows;
  constexpr int kTaken = kBlocks > 2 ? 2 : kBlocks;
  const int64_t n_blocks = UnitBlocks<Real>(step.H), n_groups = n_blocks / kTaken;
  for (int64_t i = 0; i < n_groups; ++i) {
    const int64_t group = step.is_odd ? n_groups - 1 - i : i;
    ForwardBlocks<Real, kRows, kTaken>(packed, step, first, group * kTaken);
  }
  for (int64_t block = n_groups * kTaken; block < n_blocks; ++block) {
    ForwardBlocks<Real, kRows, 1>(packed, step, first, block);
  }
}

template <typename Real, int kRows = SENSORSEQ_REGISTER_ROWS>
inline void ForwardSomeRows(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                            int64_t n_rows) {
  if (n_rows == kRows) return ForwardRows<Real, kRows>(packed, step, first);
  if constexpr (kRows > 1) ForwardSomeRows<Real, kRows - 1>(packed, step, first, n_rows);
}

// Takes the rows of a tile through time in one direction and pools. `saved` is the tile's and the
// direction's part of the saved state, or null.
template <typename Real>
inline void ForwardDirection(const LstmForward<Real>& args, int64_t model, int64_t direction,
                             const TileRows& rows, const Real* packed, Real* saved_memory,
                             Real* scratch) {
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, stride = Padded(H), size = kTileRows * stride;
  const bool has_mask = args.in.recurrent_mask != nullptr;
  const SavedTile<Real> saved(s, saved_memory, rows.n);
  ForwardStep<Real> step;
  step.H = H;
  step.C = s.n_channels;
  step.stride = stride;
  // kForwardScratch arrays
  Real* h[2] = {scratch, scratch + size};
  step.h_plain = scratch + 2 * size;
  step.c = scratch + 3 * size;
  Real* mask = scratch + 4 * size;
  step.mask = has_mask ? mask : nullptr;
  const bool has_mean = s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax;
  const bool has_largest = s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  step.sum = has_mean ? scratch + 5 * size : nullptr;
  step.largest = has_largest ? scratch + 6 * size : nullptr;
  step.largest_at = has_largest && saved.steps != nullptr
                        ? reinterpret_cast<Bit<Real>*>(scratch + 7 * size)
                        : nullptr;
  step.factors = scratch + kForwardScratch * size;
  step.is_reversed = direction == 1;
  step.saved_rows = rows.n;

  for (int64_t r = 0; r < rows.n; ++r) {
    const int64_t state = StateOffset(s, model, rows.window[r], direction), at = r * stride;
    const Real* h_0 = args.in.h_0 == nullptr ? nullptr : args.in.h_0 + state;
    const Real* c_0 = args.in.c_0 == nullptr ? nullptr : args.in.c_0 + state;
    CopyPadded(h_0, H, stride, h[0] + at);
    CopyPadded(h_0, H, stride, step.h_plain + at);
    CopyPadded(c_0, H, stride, step.c + at);
    if (has_mask) {
      CopyPadded(args.in.recurrent_mask + state, H, stride, mask + at);
      for (int64_t i = at; i < at + stride; ++i) h[0][i] *= mask[i];
    }
    for (int64_t i = at; has_mean && i < at + stride; ++i) step.sum[i] = Real(0);
    for (int64_t i = at; has_largest && i < at + stride; ++i) {
      step.largest[i] = -__builtin_huge_val();
      if (step.largest_at != nullptr) step.largest_at[i] = 0;
    }
  }

  auto Finish = [&](int64_t r, const Real* last_h) {
    const int64_t window = rows.window[r], state = StateOffset(s, model, window, direction);
    const int64_t at = r * stride, length = rows.length[r];
    CopyRow(last_h + at, H, args.h_n + state);
    CopyRow(step.c + at, H, args.c_n + state);
    if (step.largest_at != nullptr) {
      for (int64_t j = 0; j < stride; ++j) saved.largest_at[at + j] = step.largest_at[at + j];
    }
    if (args.hidden != nullptr) {
      for (int64_t t = length; t < s.n_timesteps; ++t) {
        const int64_t row = (model * s.n_windows + window) * s.n_timesteps + t;
        Real* out = args.hidden + (row * s.n_directions + direction) * H;
        for (int64_t j = 0; j < H; ++j) out[j] = Real(0);
      }
    }
    if (s.pooling == Pooling::kNone) return;
    Real* pooled = args.pooled + (model * s.n_windows + window) * PooledSize(s) + direction * H;
    Real* largest = pooled + (s.pooling == Pooling::kMeanMax ? s.n_directions * H : 0);
    const bool is_some = length > 0;
    const Vec<Real> n = Broadcast(static_cast<Real>(is_some ? length : 1));
    for (int64_t column = 0; column < H; column += kLanes<Real>) {
      auto Write = [&](const Real* row, Vec<Real> divisor, Real* to) {
        const Vec<Real> value = is_some ? Load(row + at + column) / divisor : Vec<Real>{};
        StoreSome(to + column, value, H - column);
      };
      const Vec<Real> one = Broadcast(Real(1));
      if (s.pooling == Pooling::kLast) Write(last_h, one, pooled);
      if (has_mean) Write(step.sum, n, pooled);
      if (has_largest) Write(step.largest, one, largest);
    }
  };

  int64_t alive = rows.n;
  while (alive > 0 && rows.length[alive - 1] == 0) Finish(--alive, step.h_plain);
  for (int64_t i = 0; i < rows.n_steps; ++i) {
    step.is_odd = i % 2 != 0;
    step.h = h[i % 2];
    step.h_next = h[(i + 1) % 2];
    if (!has_mask) step.h_plain = step.h_next;
    step.saved = saved.steps == nullptr ? nullptr : saved.At(i, 0, 0);
    for (int64_t r = 0; r < alive; ++r) {
      const int64_t t = TimestepAt(i, rows.length[r], direction);
      step.x[r] = XRow(s, args.in.x, model, rows.window[r], t);
      step.timestep[r] = static_cast<Bit<Real>>(t);
    }
    PrepareFactors(step, alive);
    for (int64_t first = 0; first < alive; first += SENSORSEQ_REGISTER_ROWS) {
      const int64_t left = alive - first;
      ForwardSomeRows(packed, step, first,
                      left < SENSORSEQ_REGISTER_ROWS ? left : SENSORSEQ_REGISTER_ROWS);
    }
    if (args.hidden != nullptr) {
      for (int64_t r = 0; r < alive; ++r) {
        const int64_t t = TimestepAt(i, rows.length[r], direction);
        const int64_t row = (model * s.n_windows + rows.window[r]) * s.n_timesteps + t;
        CopyRow(step.h_plain + r * stride, H, args.hidden + (row * s.n_directions + direction) * H);
      }
    }
    while (alive > 0 && rows.length[alive - 1] == i + 1) Finish(--alive, step.h_plain);
  }
  saved.ClearPadding(s);
}
