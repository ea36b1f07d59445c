// The forward body. Included by an ISA file after activations-inl.h; includes nothing.
//
// A task is one model and one tile of at most kTileRows windows; it takes its rows through all of
// time in each direction, then pools and applies the head. Weights are packed once per call as
// [unit block][k][gate][lane], k running over h, x, 1 (the bias): one contiguous line group per k.
// Padded units have zero weights and bias, so they stay exactly 0 and no hot loop needs a mask.

template <typename Real>
constexpr int64_t UnitBlocks(int64_t hidden_size) {
  return (hidden_size + kLanes<Real> - 1) / kLanes<Real>;
}

// Offset of one (model, window, direction) row in an (M, N, D, H) array.
SENSORSEQ_INLINE int64_t StateOffset(const LstmShape& s, int64_t model, int64_t window,
                                     int64_t direction) {
  return ((model * s.n_windows + window) * s.n_directions + direction) * s.hidden_size;
}

SENSORSEQ_INLINE int64_t RowLength(const LstmShape& s, const int64_t* lengths, int64_t window) {
  return lengths == nullptr ? s.n_timesteps : lengths[window];
}

// The timestep that a direction reaches at its `step`-th step.
SENSORSEQ_INLINE int64_t TimestepAt(int64_t step, int64_t length, int64_t direction) {
  return direction == 0 ? step : length - 1 - step;
}

template <typename Real>
SENSORSEQ_INLINE const Real* XRow(const LstmShape& s, const Real* x, int64_t model, int64_t window,
                                  int64_t timestep) {
  const int64_t x_model = s.n_x_models == 1 ? 0 : model;
  return x + ((x_model * s.n_windows + window) * s.n_timesteps + timestep) * s.n_channels;
}

template <typename Real>
SENSORSEQ_INLINE Real* SavedStep(const LstmShape& s, Real* saved, int64_t model, int64_t direction,
                                 int64_t window, int64_t timestep) {
  const int64_t row = (model * s.n_directions + direction) * s.n_windows + window;
  return saved + (row * s.n_timesteps + timestep) * kSavedRows * Padded(s.hidden_size);
}

// n values from `from` (null: zeros), then zeros up to `padded`.
template <typename Real>
inline void CopyPadded(const Real* from, int64_t n, int64_t padded, Real* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = from == nullptr ? Real(0) : from[i];
  for (int64_t i = n; i < padded; ++i) to[i] = Real(0);
}

template <typename Real>
inline void PackForward(const LstmShape& s, const LstmInputs<Real>& in, int64_t model_direction,
                        Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, C = s.n_channels, K = H + C + 1;
  const Real* weight_hh = in.weight_hh + model_direction * kGates * H * H;
  const Real* weight_ih = in.weight_ih + model_direction * kGates * H * C;
  const Real* bias = in.bias + model_direction * kGates * H;
  for (int64_t block = 0; block < UnitBlocks<Real>(H); ++block) {
    for (int64_t k = 0; k < K; ++k) {
      for (int64_t gate = 0; gate < kGates; ++gate) {
        Real* lanes = packed + ((block * K + k) * kGates + gate) * V;
        for (int64_t lane = 0; lane < V; ++lane) {
          const int64_t unit = block * V + lane;
          const int64_t row = gate * H + unit;
          if (unit >= H) {
            lanes[lane] = Real(0);
          } else if (k < H) {
            lanes[lane] = weight_hh[row * H + k];
          } else if (k < H + C) {
            lanes[lane] = weight_ih[row * C + (k - H)];
          } else {
            lanes[lane] = bias[row];
          }
        }
      }
    }
  }
}

// Pre-activations of one block of units for kRows rows: sums over h, then x, then the bias.
template <typename Real, int kRows>
SENSORSEQ_INLINE void GateSums(const Real* packed, int64_t H, int64_t C, const Real* h,
                               int64_t h_stride, const Real* const* x_rows,
                               Vec<Real> (&sums)[kRows][kGates]) {
  constexpr int64_t V = kLanes<Real>;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) sums[r][gate] = Vec<Real>{};
  }
  for (int64_t k = 0; k < H; ++k, packed += kGates * V) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<Real> a = Broadcast(h[r * h_stride + k]);
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        sums[r][gate] = MulAdd(a, Load(packed + gate * V), sums[r][gate]);
      }
    }
  }
  for (int64_t k = 0; k < C; ++k, packed += kGates * V) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<Real> a = Broadcast(x_rows[r][k]);
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        sums[r][gate] = MulAdd(a, Load(packed + gate * V), sums[r][gate]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      sums[r][gate] = sums[r][gate] + Load(packed + gate * V);
    }
  }
}

// State of one tile in one direction; every row is Padded(H) wide.
template <typename Real>
struct ForwardTile {
  Real* h_in;  // h as it enters the gates, masked
  Real* h;     // h after the row's latest step
  Real* c;
  Real* mask;  // recurrent mask; unused without one
  Real* sum;   // over the steps so far
  Real* largest;
  int64_t stride;  // Padded(H)
  const Real* x_rows[kTileRows];
  Real* saved_rows[kTileRows];  // null: not saved
  bool alive[kTileRows];
};

// One timestep for rows [first, first + kRows) of the tile.
template <typename Real, int kRows>
inline void ForwardRows(const Real* packed, int64_t H, int64_t C, ForwardTile<Real>& tile,
                        int64_t first) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t stride = tile.stride;
  for (int64_t block = 0; block < UnitBlocks<Real>(H); ++block) {
    Vec<Real> sums[kRows][kGates];
    GateSums<Real, kRows>(packed + block * (H + C + 1) * kGates * V, H, C,
                          tile.h_in + first * stride, stride, tile.x_rows + first, sums);
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r;
      if (!tile.alive[row]) continue;
      const int64_t at = row * stride + block * V;
      const Vec<Real> i = Sigmoid(sums[r][kInputGate]);
      const Vec<Real> f = Sigmoid(sums[r][kForgetGate]);
      const Vec<Real> g = Tanh(sums[r][kCellGate]);
      const Vec<Real> o = Sigmoid(sums[r][kOutputGate]);
      const Vec<Real> c = MulAdd(f, Load(tile.c + at), i * g);
      const Vec<Real> h = o * Tanh(c);
      Store(tile.c + at, c);
      Store(tile.h + at, h);
      Store(tile.sum + at, Load(tile.sum + at) + h);
      const Vec<Real> largest = Load(tile.largest + at);
      // a NaN is larger than everything, as in torch
      Store(tile.largest + at, ((h > largest) | (h != h)) ? h : largest);
      if (tile.saved_rows[row] != nullptr) {
        Real* saved = tile.saved_rows[row] + block * V;
        Store(saved + kInputGate * stride, i);
        Store(saved + kForgetGate * stride, f);
        Store(saved + kCellGate * stride, g);
        Store(saved + kOutputGate * stride, o);
        Store(saved + kSavedCell * stride, c);
        Store(saved + kSavedHidden * stride, h);
      }
    }
  }
}

template <typename Real>
inline void ForwardSomeRows(const Real* packed, int64_t H, int64_t C, ForwardTile<Real>& tile,
                            int64_t first, int64_t n_rows) {
  switch (n_rows) {
    case 1:
      return ForwardRows<Real, 1>(packed, H, C, tile, first);
    case 2:
      return ForwardRows<Real, 2>(packed, H, C, tile, first);
#if SENSORSEQ_REGISTER_ROWS > 2
    case 3:
      return ForwardRows<Real, 3>(packed, H, C, tile, first);
#endif
#if SENSORSEQ_REGISTER_ROWS > 3
    case 4:
      return ForwardRows<Real, 4>(packed, H, C, tile, first);
    case 5:
      return ForwardRows<Real, 5>(packed, H, C, tile, first);
    case 6:
      return ForwardRows<Real, 6>(packed, H, C, tile, first);
#endif
  }
}

// Zeros what no step wrote of one row's saved state, so that every output is defined.
template <typename Real>
inline void ClearUnwritten(const LstmShape& s, int64_t length, Real* saved) {
  const int64_t stride = Padded(s.hidden_size);
  const int64_t written = UnitBlocks<Real>(s.hidden_size) * kLanes<Real>;
  for (int64_t row = 0; row < s.n_timesteps * kSavedRows; ++row) {
    const int64_t begin = row < length * kSavedRows ? written : 0;
    for (int64_t i = begin; i < stride; ++i) saved[row * stride + i] = Real(0);
  }
}

template <typename Real>
inline void ForwardDirection(const LstmForward<Real>& args, int64_t model, int64_t direction,
                             int64_t first_window, int64_t n_rows, const Real* packed,
                             Real* scratch) {
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, C = s.n_channels, stride = Padded(H);
  ForwardTile<Real> tile;
  tile.stride = stride;
  tile.h_in = scratch;
  tile.h = tile.h_in + kTileRows * stride;
  tile.c = tile.h + kTileRows * stride;
  tile.mask = tile.c + kTileRows * stride;
  tile.sum = tile.mask + kTileRows * stride;
  tile.largest = tile.sum + kTileRows * stride;
  Real* zeros = tile.largest + kTileRows * stride;  // an x row for windows that have ended
  for (int64_t k = 0; k < C; ++k) zeros[k] = Real(0);

  int64_t n_steps = 0;
  int64_t length[kTileRows];
  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t window = first_window + r;
    const int64_t state = StateOffset(s, model, window, direction);
    length[r] = RowLength(s, args.in.lengths, window);
    if (length[r] > n_steps) n_steps = length[r];
    CopyPadded(args.in.h_0 == nullptr ? nullptr : args.in.h_0 + state, H, stride,
               tile.h + r * stride);
    CopyPadded(args.in.c_0 == nullptr ? nullptr : args.in.c_0 + state, H, stride,
               tile.c + r * stride);
    if (args.in.recurrent_mask != nullptr) {
      CopyPadded(args.in.recurrent_mask + state, H, stride, tile.mask + r * stride);
    }
    for (int64_t i = 0; i < stride; ++i) {
      tile.sum[r * stride + i] = Real(0);
      tile.largest[r * stride + i] = -__builtin_huge_val();
    }
  }

  for (int64_t step = 0; step < n_steps; ++step) {
    for (int64_t r = 0; r < n_rows; ++r) {
      tile.alive[r] = step < length[r];
      const int64_t t = TimestepAt(step, length[r], direction);
      tile.x_rows[r] = tile.alive[r] ? XRow(s, args.in.x, model, first_window + r, t) : zeros;
      tile.saved_rows[r] = tile.alive[r] && args.saved != nullptr
                               ? SavedStep(s, args.saved, model, direction, first_window + r, t)
                               : nullptr;
      for (int64_t i = r * stride; i < (r + 1) * stride; ++i) {
        tile.h_in[i] = args.in.recurrent_mask == nullptr ? tile.h[i] : tile.h[i] * tile.mask[i];
      }
    }
    for (int64_t first = 0; first < n_rows; first += SENSORSEQ_REGISTER_ROWS) {
      const int64_t left = n_rows - first;
      ForwardSomeRows(packed, H, C, tile, first,
                      left < SENSORSEQ_REGISTER_ROWS ? left : SENSORSEQ_REGISTER_ROWS);
    }
    if (args.hidden != nullptr) {
      for (int64_t r = 0; r < n_rows; ++r) {
        if (!tile.alive[r]) continue;
        const int64_t t = TimestepAt(step, length[r], direction);
        const int64_t row = (model * s.n_windows + first_window + r) * s.n_timesteps + t;
        Real* out = args.hidden + (row * s.n_directions + direction) * H;
        for (int64_t j = 0; j < H; ++j) out[j] = tile.h[r * stride + j];
      }
    }
  }

  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t window = first_window + r;
    const int64_t state = StateOffset(s, model, window, direction);
    if (args.saved != nullptr) {
      ClearUnwritten(s, length[r], SavedStep(s, args.saved, model, direction, window, 0));
    }
    for (int64_t j = 0; j < H; ++j) {
      args.h_n[state + j] = tile.h[r * stride + j];
      args.c_n[state + j] = tile.c[r * stride + j];
    }
    if (args.hidden != nullptr) {
      for (int64_t t = length[r]; t < s.n_timesteps; ++t) {
        const int64_t row = (model * s.n_windows + window) * s.n_timesteps + t;
        Real* out = args.hidden + (row * s.n_directions + direction) * H;
        for (int64_t j = 0; j < H; ++j) out[j] = Real(0);
      }
    }
    if (s.pooling == Pooling::kNone) continue;
    const int64_t P = PooledSize(s);
    Real* pooled = args.pooled + (model * s.n_windows + window) * P + direction * H;
    const bool some = length[r] > 0;
    for (int64_t j = 0; j < H; ++j) {
      const int64_t at = r * stride + j;
      const Real mean = some ? tile.sum[at] / static_cast<Real>(length[r]) : Real(0);
      const Real largest = some ? tile.largest[at] : Real(0);
      switch (s.pooling) {
        case Pooling::kLast:
          pooled[j] = some ? tile.h[at] : Real(0);
          break;
        case Pooling::kMean:
          pooled[j] = mean;
          break;
        case Pooling::kMax:
          pooled[j] = largest;
          break;
        case Pooling::kMeanMax:
          pooled[j] = mean;
          pooled[s.n_directions * H + j] = largest;
          break;
        case Pooling::kNone:
          break;
      }
    }
  }
}

template <typename Real>
inline void ForwardHead(const LstmForward<Real>& args, int64_t model, int64_t window) {
  const int64_t P = PooledSize(args.shape), K = args.shape.n_classes;
  const Real* pooled = args.pooled + (model * args.shape.n_windows + window) * P;
  Real* logits = args.logits + (model * args.shape.n_windows + window) * K;
  for (int64_t k = 0; k < K; ++k) {
    const Real* weight = args.in.weight_out + (model * K + k) * P;
    Real sum = Real(0);
    for (int64_t p = 0; p < P; ++p) sum += pooled[p] * weight[p];
    logits[k] = sum + args.bias_out[model * K + k];
  }
}

template <typename Real>
inline void ForwardPackTask(void* context, int64_t model_direction) {
  const auto& args = *static_cast<const LstmForward<Real>*>(context);
  const ForwardLayout layout = LayoutForward(args.shape);
  PackForward(args.shape, args.in, model_direction,
              static_cast<Real*>(args.workspace) + model_direction * layout.packed_stride);
}

template <typename Real>
inline void ForwardTileTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmForward<Real>*>(context);
  const LstmShape& s = args.shape;
  const ForwardLayout layout = LayoutForward(s);
  const int64_t n_tiles = TileCount(s.n_windows);
  const int64_t model = index / n_tiles, tile = index % n_tiles;
  const int64_t first = TileBegin(tile, s.n_windows);
  const int64_t n_rows = TileBegin(tile + 1, s.n_windows) - first;
  Real* workspace = static_cast<Real*>(args.workspace);
  Real* scratch = workspace + layout.scratch_offset + index * layout.scratch_stride;
  for (int64_t direction = 0; direction < s.n_directions; ++direction) {
    const Real* packed = workspace + (model * s.n_directions + direction) * layout.packed_stride;
    ForwardDirection(args, model, direction, first, n_rows, packed, scratch);
  }
  if (s.pooling == Pooling::kNone) return;
  for (int64_t r = 0; r < n_rows; ++r) ForwardHead(args, model, first + r);
}

template <typename Real>
inline void Forward(const LstmForward<Real>& args) {
  void* context = const_cast<LstmForward<Real>*>(&args);
  const LstmShape& s = args.shape;
  RunTasks(args.parallel, s.n_models * s.n_directions, &ForwardPackTask<Real>, context);
  RunTasks(args.parallel, s.n_models * TileCount(s.n_windows), &ForwardTileTask<Real>, context);
}
