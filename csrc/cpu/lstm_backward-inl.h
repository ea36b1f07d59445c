// The backward body: one tile of windows back through time in one direction. Included by an ISA
// file after lstm_forward-inl.h; includes nothing.
//
// The gate gradients of up to kBlockEntries rows of timesteps, and the rows that entered those
// gates, are kept side by side, then added to the slot's weight gradients by one product without
// transposes. tanh(c) is neither kept nor recomputed: with h = o tanh(c), o (1 - tanh(c)^2) = o -
// h^2 / o.

// Gate gradients of one block of units: [entry][gate][lane]. The padding keeps the blocks' equal
// lines out of each other's cache sets.
template <typename Real>
constexpr int64_t kGateBlock = kBlockEntries * kGates * kLanes<Real> + 6 * kVectorPadding;

// Units whose products are summed in registers before they are added to memory, so that a chain
// has about 128 products: one chain of all 4H had up to 3 times torch's error.
template <typename Real>
constexpr int64_t kChainBlocks = 32 / kLanes<Real> > 0 ? 32 / kLanes<Real> : 1;

// out[r][0 .. kWidth vectors) = grad_gates[r] @ panel, rows of grad_gates side by side.
template <typename Real, int kRows, int kWidth>
inline void PanelProduct(const Real* panel, int64_t H, const Real* grad_gates, Real* out,
                         int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t n_blocks = UnitBlocks<Real>(H);
  for (int64_t chain = 0; chain < n_blocks; chain += kChainBlocks<Real>) {
    const int64_t end =
        chain + kChainBlocks<Real> < n_blocks ? chain + kChainBlocks<Real> : n_blocks;
    Vec<Real> sums[kRows][kWidth];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) sums[r][j] = Vec<Real>{};
    }
    for (int64_t block = chain; block < end; ++block) {
      const int64_t n_units = H - block * V < V ? H - block * V : V;
      for (int64_t gate = 0; gate < kGates; ++gate) {
        const Real* a = grad_gates + block * kGateBlock<Real> + gate * V;
#pragma GCC unroll 4
        for (int64_t k = 0; k < n_units; ++k, panel += kWidth * V) {
          Vec<Real> factors[kRows];
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) factors[r] = Broadcast(a[r * kGates * V + k]);
#pragma GCC unroll 4
          for (int j = 0; j < kWidth; ++j) {
            const Vec<Real> weight = Load(panel + j * V);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) sums[r][j] = MulAdd(factors[r], weight, sums[r][j]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) {
        Real* to = out + r * out_stride + j * V;
        Store(to, chain == 0 ? sums[r][j] : Load(to) + sums[r][j]);
      }
    }
  }
}

template <typename Real, int kRows>
inline void PanelsForRows(const Real* packed, int64_t n_vectors, int64_t H, const Real* grad_gates,
                          Real* out, int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t first = 0; first < n_vectors; first += kPanelVectors) {
    Real* to = out + first * V;
    switch (n_vectors - first) {
      case 1:
        PanelProduct<Real, kRows, 1>(packed, H, grad_gates, to, out_stride);
        break;
      case 2:
        PanelProduct<Real, kRows, 2>(packed, H, grad_gates, to, out_stride);
        break;
      case 3:
        PanelProduct<Real, kRows, 3>(packed, H, grad_gates, to, out_stride);
        break;
      default:
        PanelProduct<Real, kRows, 4>(packed, H, grad_gates, to, out_stride);
    }
    packed += kGates * H * kPanelVectors * V;
  }
}

template <typename Real, int kRows = SENSORSEQ_REGISTER_ROWS>
inline void PanelsForSomeRows(int64_t n_rows, const Real* packed, int64_t n_vectors, int64_t H,
                              const Real* grad_gates, Real* out, int64_t out_stride) {
  if (n_rows == kRows) {
    PanelsForRows<Real, kRows>(packed, n_vectors, H, grad_gates, out, out_stride);
  } else if constexpr (kRows > 1) {
    PanelsForSomeRows<Real, kRows - 1>(n_rows, packed, n_vectors, H, grad_gates, out, out_stride);
  }
}

// grad_weights[k][gate][lane] += sum over entries of inputs[entry][k] * grad_gates[entry], for
// kColumns neighbouring k of one block of units.
template <typename Real, int kColumns>
inline void WeightProduct(const Real* inputs, int64_t input_stride, const Real* grad_gates,
                          int64_t n_entries, Real* grad_weights) {
  constexpr int64_t kGroup = kGates * kLanes<Real>;
  Vec<Real> sums[kColumns][kGates];
#pragma GCC unroll 8
  for (int k = 0; k < kColumns; ++k) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) sums[k][gate] = Vec<Real>{};
  }
#pragma GCC unroll 4
  for (int64_t entry = 0; entry < n_entries; ++entry) {
    Vec<Real> factors[kColumns];
#pragma GCC unroll 8
    for (int k = 0; k < kColumns; ++k) factors[k] = Broadcast(inputs[entry * input_stride + k]);
    AddProducts(factors, grad_gates + entry * kGroup, sums);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kColumns; ++k) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      Real* to = grad_weights + k * kGroup + gate * kLanes<Real>;
      Store(to, Load(to) + sums[k][gate]);
    }
  }
}

template <typename Real, int kColumns = SENSORSEQ_REGISTER_ROWS>
inline void WeightProductForSome(int64_t n_columns, const Real* inputs, int64_t input_stride,
                                 const Real* grad_gates, int64_t n_entries, Real* grad_weights) {
  if (n_columns == kColumns) {
    WeightProduct<Real, kColumns>(inputs, input_stride, grad_gates, n_entries, grad_weights);
  } else if constexpr (kColumns > 1) {
    WeightProductForSome<Real, kColumns - 1>(n_columns, inputs, input_stride, grad_gates, n_entries,
                                             grad_weights);
  }
}

// Products that a register sums before it is added to memory: with runs of 96 the error was up to
// twice torch's.
constexpr int64_t kRunEntries = SENSORSEQ_RUN_ENTRIES;

template <typename Real>
inline void AddWeightGradients(const LstmShape& s, const Real* inputs, const Real* grad_gates,
                               int64_t n_entries, Real* grad_weights) {
  constexpr int64_t kColumns = SENSORSEQ_REGISTER_ROWS, kGroup = kGates * kLanes<Real>;
  const int64_t K = s.hidden_size + s.n_channels + 1;
  for (int64_t block = 0; block < UnitBlocks<Real>(s.hidden_size); ++block) {
    const Real* gates = grad_gates + block * kGateBlock<Real>;
    Real* to = grad_weights + block * K * kGroup;
    for (int64_t entry = 0; entry < n_entries; entry += kRunEntries) {
      const int64_t left = n_entries - entry, n = left < kRunEntries ? left : kRunEntries;
      for (int64_t k = 0; k < K; k += kColumns) {
        WeightProductForSome(K - k < kColumns ? K - k : kColumns, inputs + entry * K + k, K,
                             gates + entry * kGroup, n, to + k * kGroup);
      }
    }
  }
}

// Where a tile keeps its running gradients; rows are Padded(H) wide unless said otherwise.
template <typename Real>
struct BackwardTile {
  int64_t stride, product_stride;
  Real* product;  // (rows, product_stride)  what reaches h from the step after, then x's gradient
  Real* grad_c;
  Real* mask;
  Real* c_0;
  Real* h_0;
  Real* steady;        // what pooling adds to h's gradient at every step
  Real* grad_largest;  // what it adds at the step of the maximum
  Real* grad_gates;    // (unit blocks, kGateBlock)
  Real* inputs;        // (kBlockEntries, H + C + 1)   h_in | x | 1
};

template <typename Real>
inline BackwardTile<Real> CarveBackward(const LstmShape& s, Real* scratch) {
  const int64_t stride = Padded(s.hidden_size), size = kTileRows * stride;
  BackwardTile<Real> tile;
  tile.stride = stride;
  tile.product_stride = stride + Padded(s.n_channels);
  tile.grad_c = scratch;
  tile.mask = scratch + size;
  tile.c_0 = scratch + 2 * size;
  tile.h_0 = scratch + 3 * size;
  tile.steady = scratch + 4 * size;
  tile.grad_largest = scratch + 5 * size;
  tile.product = scratch + kBackwardScratch * size;
  tile.grad_gates = tile.product + kTileRows * tile.product_stride;
  tile.inputs = tile.grad_gates + UnitBlocks<Real>(s.hidden_size) * kGateBlock<Real>;
  return tile;
}

// Pooled gradients as the tile's running ones, and those of the final states.
template <typename Real>
inline void StartBackward(const LstmBackward<Real>& args, int64_t model, int64_t direction,
                          const TileRows& rows, const BackwardTile<Real>& tile) {
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, stride = tile.stride, P = PooledSize(s);
  auto From = [](const Real* array, int64_t offset) {
    return array == nullptr ? nullptr : array + offset;
  };
  for (int64_t r = 0; r < rows.n; ++r) {
    const int64_t window = rows.window[r], at = r * stride, length = rows.length[r];
    const int64_t state = StateOffset(s, model, window, direction);
    Real* product = tile.product + r * tile.product_stride;
    CopyPadded(From(args.grad_h_n, state), H, tile.product_stride, product);
    CopyPadded(From(args.grad_c_n, state), H, stride, tile.grad_c + at);
    CopyPadded(From(args.in.h_0, state), H, stride, tile.h_0 + at);
    CopyPadded(From(args.in.c_0, state), H, stride, tile.c_0 + at);
    if (args.in.recurrent_mask != nullptr) {
      CopyPadded(args.in.recurrent_mask + state, H, stride, tile.mask + at);
    }
    if (s.pooling == Pooling::kNone || length == 0) continue;
    const Real* pooled = From(args.grad_pooled, (model * s.n_windows + window) * P + direction * H);
    switch (s.pooling) {
      case Pooling::kNone:
        break;
      case Pooling::kLast:
        for (int64_t j = 0; j < H && pooled != nullptr; ++j) product[j] += pooled[j];
        break;
      case Pooling::kMeanMax:
        CopyPadded(From(pooled, s.n_directions * H), H, stride, tile.grad_largest + at);
        [[fallthrough]];
      case Pooling::kMean:
        CopyPadded(pooled, H, stride, tile.steady + at);
        for (int64_t j = 0; j < H; ++j) tile.steady[at + j] /= static_cast<Real>(length);
        break;
      case Pooling::kMax:
        CopyPadded(pooled, H, stride, tile.grad_largest + at);
        break;
    }
  }
}

// Gate gradients of one row and step, from the gradient of its hidden state.
template <typename Real>
struct BackwardRow {
  int64_t t;
  const Real* grad_hidden;   // null: none
  const Real* steady;        // null: none
  const Real* grad_largest;  // null: none
  const Bit<Real>* largest_at;
  const Real* product;
  Real* grad_c;
};

template <typename Real>
SENSORSEQ_INLINE void GateGradients(const BackwardRow<Real>& row, int64_t column, int64_t left,
                                    const Real* saved, const Real* c_before, Real* grad_gates) {
  constexpr int64_t V = kLanes<Real>;
  const Vec<Real> one = Broadcast(Real(1));
  const Vec<Real> tiny = Broadcast(Real(1e-30));  // where o underflows, so does h
  Vec<Real> grad_h = Load(row.product + column);
  if (row.steady != nullptr) grad_h += Load(row.steady + column);
  if (row.grad_largest != nullptr) {
    const VecBits<Real> at = LoadBits<Real>(row.largest_at + column);
    const VecBits<Real> is_here = at == static_cast<Bit<Real>>(row.t) - VecBits<Real>{};
    grad_h += is_here ? Load(row.grad_largest + column) : Vec<Real>{};
  }
  if (row.grad_hidden != nullptr) grad_h += LoadSome(row.grad_hidden + column, left);
  const Vec<Real> i = Load(saved + kInputGate * V), f = Load(saved + kForgetGate * V);
  const Vec<Real> g = Load(saved + kCellGate * V), o = Load(saved + kOutputGate * V);
  const Vec<Real> h = Load(saved + kSavedHidden * V);
  const Vec<Real> slope = MulAdd(-h / Max(o, tiny), h, o);
  const Vec<Real> grad_c = MulAdd(grad_h, slope, Load(row.grad_c + column));
  Store(grad_gates + kInputGate * V, grad_c * g * (i * (one - i)));
  Store(grad_gates + kForgetGate * V, grad_c * Load(c_before) * (f * (one - f)));
  Store(grad_gates + kCellGate * V, grad_c * i * (one - g * g));
  Store(grad_gates + kOutputGate * V, grad_h * h * (one - o));
  Store(row.grad_c + column, grad_c * f);
}

// Takes the rows of a tile back through time in one direction and adds to the slot's weight
// gradients. `saved_memory` as the forward pass wrote it.
template <typename Real>
inline void BackwardDirection(const LstmBackward<Real>& args, int64_t model, int64_t direction,
                              const TileRows& rows, const Real* packed, const Real* saved_memory,
                              const BackwardTile<Real>& tile, Real* grad_weights) {
  constexpr int64_t V = kLanes<Real>;
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, C = s.n_channels, stride = tile.stride;
  const int64_t input_width = H + C + 1, n_blocks = UnitBlocks<Real>(H);
  const bool with_x = args.grad_x != nullptr;
  const int64_t n_vectors = BackwardVectors<Real>(s, with_x), x_column = n_blocks * V;
  const bool has_mask = args.in.recurrent_mask != nullptr;
  const bool has_mean = s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax;
  const bool has_largest = s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  const bool needs_start = with_x || args.grad_h_0 != nullptr;
  const SavedTile<Real> saved(s, const_cast<Real*>(saved_memory), rows.n);
  StartBackward(args, model, direction, rows, tile);

  int64_t n_entries = 0;
  for (int64_t step = rows.n_steps - 1; step >= 0; --step) {
    const int64_t alive = rows.Alive(step);
    Real* step_gates = tile.grad_gates + n_entries * kGates * V;
    for (int64_t r = 0; r < alive; ++r) {
      BackwardRow<Real> row;
      row.t = TimestepAt(step, rows.length[r], direction);
      const int64_t flat = (model * s.n_windows + rows.window[r]) * s.n_timesteps + row.t;
      row.grad_hidden = args.grad_hidden == nullptr
                            ? nullptr
                            : args.grad_hidden + (flat * s.n_directions + direction) * H;
      row.steady = has_mean ? tile.steady + r * stride : nullptr;
      row.grad_largest = has_largest ? tile.grad_largest + r * stride : nullptr;
      row.largest_at = saved.largest_at + r * stride;
      row.product = tile.product + r * tile.product_stride;
      row.grad_c = tile.grad_c + r * stride;
      Real* inputs = tile.inputs + (n_entries + r) * input_width;
      for (int64_t block = 0; block < n_blocks; ++block) {
        const int64_t column = block * V;
        const Real* before = step == 0 ? nullptr : saved.At(step - 1, block, r);
        const Real* c_before = step == 0 ? tile.c_0 + r * stride + column : before + kSavedCell * V;
        const Real* h_before =
            step == 0 ? tile.h_0 + r * stride + column : before + kSavedHidden * V;
        GateGradients(row, column, H - column, saved.At(step, block, r), c_before,
                      step_gates + block * kGateBlock<Real> + r * kGates * V);
        Vec<Real> h_in = Load(h_before);
        if (has_mask) h_in *= Load(tile.mask + r * stride + column);
        StoreSome(inputs + column, h_in, H - column);
      }
      const Real* x = XRow(s, args.in.x, model, rows.window[r], row.t);
      for (int64_t k = 0; k < C; ++k) inputs[H + k] = x[k];
      inputs[H + C] = Real(1);
    }
    if (step > 0 || needs_start) {
      for (int64_t first = 0; first < alive; first += SENSORSEQ_REGISTER_ROWS) {
        const int64_t left = alive - first;
        PanelsForSomeRows(left < SENSORSEQ_REGISTER_ROWS ? left : SENSORSEQ_REGISTER_ROWS, packed,
                          n_vectors, H, step_gates + first * kGates * V,
                          tile.product + first * tile.product_stride, tile.product_stride);
      }
    }
    for (int64_t r = 0; r < alive && has_mask; ++r) {
      Real* product = tile.product + r * tile.product_stride;
      for (int64_t j = 0; j < H; ++j) product[j] *= tile.mask[r * stride + j];
    }
    for (int64_t r = 0; r < alive && with_x; ++r) {
      const Real* product = tile.product + r * tile.product_stride + x_column;
      const int64_t t = TimestepAt(step, rows.length[r], direction);
      Real* to = args.grad_x + ((model * s.n_windows + rows.window[r]) * s.n_timesteps + t) * C;
      for (int64_t k = 0; k < C; ++k) to[k] = direction == 0 ? product[k] : to[k] + product[k];
    }
    n_entries += alive;
    if (n_entries + rows.n > kBlockEntries || step == 0) {
      AddWeightGradients(s, tile.inputs, tile.grad_gates, n_entries, grad_weights);
      n_entries = 0;
    }
  }

  for (int64_t r = 0; r < rows.n; ++r) {
    const int64_t window = rows.window[r], state = StateOffset(s, model, window, direction);
    if (args.grad_h_0 != nullptr) {
      CopyRow(tile.product + r * tile.product_stride, H, args.grad_h_0 + state);
    }
    if (args.grad_c_0 != nullptr) CopyRow(tile.grad_c + r * stride, H, args.grad_c_0 + state);
    if (with_x && direction == 0) {
      const int64_t row = (model * s.n_windows + window) * s.n_timesteps;
      for (int64_t i = (row + rows.length[r]) * C; i < (row + s.n_timesteps) * C; ++i) {
        args.grad_x[i] = Real(0);
      }
    }
  }
}
