// The backward body. Included by an ISA file after lstm_forward-inl.h; includes nothing.
//
// A task is one model and one slot, a run of tiles. Each tile goes back through time; the gate
// gradients of kBlockSteps steps and the rows that entered those gates are kept side by side, then
// added to the slot's weight gradients by one product without transposes. tanh(c) is neither kept
// nor recomputed: with h = o tanh(c), o (1 - tanh(c)^2) = o - h^2 / o.

// Weights for grad_h = grad_gates @ weight_hh and grad_x = grad_gates @ weight_ih, packed as panels
// of up to 4 vectors of columns, [panel][k][vector][lane], k in gate-major order. Columns are the
// hidden units, padded to whole vectors, then the channels, likewise.
template <typename Real>
SENSORSEQ_INLINE int64_t BackwardVectors(const LstmShape& s, bool with_x) {
  return UnitBlocks<Real>(s.hidden_size) + (with_x ? UnitBlocks<Real>(s.n_channels) : 0);
}

// Widest panel that still fits: 4, 2 or 1 vectors.
SENSORSEQ_INLINE int64_t PanelWidth(int64_t vectors_left) {
  return vectors_left >= 4 ? 4 : (vectors_left >= 2 ? 2 : 1);
}

template <typename Real>
inline void PackBackward(const LstmShape& s, const LstmInputs<Real>& in, int64_t model_direction,
                         bool with_x, Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, C = s.n_channels;
  const int64_t n_vectors = BackwardVectors<Real>(s, with_x), unit_blocks = UnitBlocks<Real>(H);
  const Real* weight_hh = in.weight_hh + model_direction * kGates * H * H;
  const Real* weight_ih = in.weight_ih + model_direction * kGates * H * C;
  for (int64_t first = 0; first < n_vectors;) {
    const int64_t width = PanelWidth(n_vectors - first);
    for (int64_t k = 0; k < kGates * H; ++k) {
      for (int64_t j = first; j < first + width; ++j, packed += V) {
        const bool is_unit = j < unit_blocks;
        const Real* row = is_unit ? weight_hh + k * H : weight_ih + k * C;
        const int64_t column = (is_unit ? j : j - unit_blocks) * V, n = is_unit ? H : C;
        for (int64_t lane = 0; lane < V; ++lane) {
          packed[lane] = column + lane < n ? row[column + lane] : Real(0);
        }
      }
    }
    first += width;
  }
}

// out[r][0 .. width) = grad_gates[r] @ panel; gates of a row lie `gate_stride` apart. One sum for
// each gate, then their sum: a single chain of 4H products had up to 3 times torch's error.
template <typename Real, int kRows, int kWidth>
inline void PanelProduct(const Real* panel, int64_t H, const Real* grad_gates, int64_t gate_stride,
                         Real* out, int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t gate = 0; gate < kGates; ++gate) {
    Vec<Real> sums[kRows][kWidth];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) sums[r][j] = Vec<Real>{};
    }
    const Real* a = grad_gates + gate * gate_stride;
    for (int64_t k = 0; k < H; ++k, panel += kWidth * V) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec<Real> factor = Broadcast(a[r * kGates * gate_stride + k]);
#pragma GCC unroll 4
        for (int j = 0; j < kWidth; ++j) {
          sums[r][j] = MulAdd(factor, Load(panel + j * V), sums[r][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int j = 0; j < kWidth; ++j) {
        Real* to = out + r * out_stride + j * V;
        Store(to, gate == 0 ? sums[r][j] : Load(to) + sums[r][j]);
      }
    }
  }
}

template <typename Real, int kRows>
inline void PanelsForRows(const Real* packed, int64_t n_vectors, int64_t H, const Real* grad_gates,
                          int64_t gate_stride, Real* out, int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t first = 0; first < n_vectors;) {
    const int64_t width = PanelWidth(n_vectors - first);
    Real* to = out + first * V;
    if (width == 4) {
      PanelProduct<Real, kRows, 4>(packed, H, grad_gates, gate_stride, to, out_stride);
    } else if (width == 2) {
      PanelProduct<Real, kRows, 2>(packed, H, grad_gates, gate_stride, to, out_stride);
    } else {
      PanelProduct<Real, kRows, 1>(packed, H, grad_gates, gate_stride, to, out_stride);
    }
    packed += kGates * H * width * V;
    first += width;
  }
}

template <typename Real>
inline void PanelsForSomeRows(int64_t n_rows, const Real* packed, int64_t n_vectors, int64_t H,
                              const Real* grad_gates, int64_t gate_stride, Real* out,
                              int64_t out_stride) {
  switch (n_rows) {
    case 1:
      return PanelsForRows<Real, 1>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
    case 2:
      return PanelsForRows<Real, 2>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
#if SENSORSEQ_REGISTER_ROWS > 2
    case 3:
      return PanelsForRows<Real, 3>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
#endif
#if SENSORSEQ_REGISTER_ROWS > 3
    case 4:
      return PanelsForRows<Real, 4>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
    case 5:
      return PanelsForRows<Real, 5>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
    case 6:
      return PanelsForRows<Real, 6>(packed, n_vectors, H, grad_gates, gate_stride, out, out_stride);
#endif
  }
}

// grad_weights[block][k][gate][lane] += sum over entries of inputs[entry][k] * grad_gates[entry],
// for kColumns neighbouring k of one block of units.
template <typename Real, int kColumns>
inline void WeightProduct(const Real* inputs, int64_t input_stride, const Real* grad_gates,
                          int64_t gate_stride, int64_t n_entries, Real* grad_weights) {
  constexpr int64_t V = kLanes<Real>;
  Vec<Real> sums[kColumns][kGates];
#pragma GCC unroll 8
  for (int k = 0; k < kColumns; ++k) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) sums[k][gate] = Vec<Real>{};
  }
  for (int64_t entry = 0; entry < n_entries; ++entry) {
    const Real* a = inputs + entry * input_stride;
    const Real* b = grad_gates + entry * kGates * gate_stride;
#pragma GCC unroll 8
    for (int k = 0; k < kColumns; ++k) {
      const Vec<Real> factor = Broadcast(a[k]);
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) {
        sums[k][gate] = MulAdd(factor, Load(b + gate * gate_stride), sums[k][gate]);
      }
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < kColumns; ++k) {
#pragma GCC unroll 4
    for (int gate = 0; gate < kGates; ++gate) {
      Real* to = grad_weights + (k * kGates + gate) * V;
      Store(to, Load(to) + sums[k][gate]);
    }
  }
}

// Products summed in registers before they are added to memory. Short runs keep the rounding error
// of long sums at that of a pairwise sum: with runs of 192 it was 2 to 3 times torch's.
constexpr int64_t kRunEntries = 24;

template <typename Real>
inline void AddWeightGradients(const LstmShape& s, const Real* inputs, const Real* grad_gates,
                               int64_t gate_stride, int64_t n_entries, Real* grad_weights) {
  constexpr int64_t V = kLanes<Real>;
  constexpr int kColumns = SENSORSEQ_REGISTER_ROWS;
  const int64_t K = s.hidden_size + s.n_channels + 1;
  for (int64_t block = 0; block < UnitBlocks<Real>(s.hidden_size); ++block) {
    const Real* gates = grad_gates + block * V;
    Real* to = grad_weights + block * K * kGates * V;
    for (int64_t entry = 0; entry < n_entries; entry += kRunEntries) {
      const int64_t left = n_entries - entry, n = left < kRunEntries ? left : kRunEntries;
      const Real* a = inputs + entry * K;
      const Real* b = gates + entry * kGates * gate_stride;
      int64_t k = 0;
      for (; k + kColumns <= K; k += kColumns) {
        WeightProduct<Real, kColumns>(a + k, K, b, gate_stride, n, to + k * kGates * V);
      }
      for (; k < K; ++k) {
        WeightProduct<Real, 1>(a + k, K, b, gate_stride, n, to + k * kGates * V);
      }
    }
  }
}

// Where a tile keeps its running gradients; rows are Padded(H) wide unless said otherwise.
template <typename Real>
struct BackwardTile {
  Real* product;  // (rows, product_stride)  grad_gates @ [weight_hh | weight_ih] of the step
  Real* grad_h;   // what flows into h from the step after, masked
  Real* grad_c;
  Real* mask;
  Real* c_0;
  Real* h_0;
  int64_t* largest_at;  // earliest timestep that attains the pooled maximum
  Real* grad_pooled;    // (rows, P)
  Real* grad_gates;     // (kBlockSteps * rows, 4, Padded(H))
  Real* inputs;         // (kBlockSteps * rows, H + C + 1)   h_in | x | 1
  int64_t stride;
  int64_t product_stride;
};

template <typename Real>
inline BackwardTile<Real> TileScratch(const LstmShape& s, Real* scratch) {
  const int64_t rows = kTileRows, stride = Padded(s.hidden_size);
  BackwardTile<Real> tile;
  tile.stride = stride;
  tile.product_stride = stride + Padded(s.n_channels);
  tile.grad_gates = scratch;
  tile.product = tile.grad_gates + kBlockSteps * rows * kGates * stride;
  tile.grad_h = tile.product + rows * tile.product_stride;
  tile.grad_c = tile.grad_h + rows * stride;
  tile.mask = tile.grad_c + rows * stride;
  tile.c_0 = tile.mask + rows * stride;
  tile.h_0 = tile.c_0 + rows * stride;
  tile.largest_at = reinterpret_cast<int64_t*>(tile.h_0 + rows * stride);
  tile.grad_pooled = tile.h_0 + rows * stride * (1 + sizeof(int64_t) / sizeof(Real));
  tile.inputs = tile.grad_pooled + Aligned(rows * PooledSize(s));
  return tile;
}

template <typename Real>
inline void FindLargest(const LstmBackward<Real>& args, int64_t model, int64_t direction,
                        int64_t window, int64_t length, int64_t* largest_at) {
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, P = PooledSize(s);
  const Real* largest = args.pooled + (model * s.n_windows + window) * P + direction * H +
                        (s.pooling == Pooling::kMeanMax ? s.n_directions * H : 0);
  for (int64_t j = 0; j < H; ++j) largest_at[j] = -1;
  for (int64_t t = 0; t < length; ++t) {
    const Real* h =
        SavedStep(s, args.saved, model, direction, window, t) + kSavedHidden * Padded(H);
    for (int64_t j = 0; j < H; ++j) {
      const bool is_nan = h[j] != h[j] && largest[j] != largest[j];
      if (largest_at[j] < 0 && (h[j] == largest[j] || is_nan)) largest_at[j] = t;
    }
  }
}

// Gradient that reaches h of one row at timestep t from outside the recurrence, lanes
// [column, column + V) of the hidden units.
template <typename Real>
SENSORSEQ_INLINE Vec<Real> OuterGradient(const LstmBackward<Real>& args, const Real* grad_pooled,
                                         const int64_t* largest_at, int64_t model,
                                         int64_t direction, int64_t window, int64_t t,
                                         int64_t length, bool is_last_step, int64_t column) {
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, left = H - column;
  Vec<Real> grad{};
  if (args.grad_hidden != nullptr) {
    const int64_t row = (model * s.n_windows + window) * s.n_timesteps + t;
    grad += LoadSome(args.grad_hidden + (row * s.n_directions + direction) * H + column, left);
  }
  if (is_last_step && args.grad_h_n != nullptr) {
    grad += LoadSome(args.grad_h_n + StateOffset(s, model, window, direction) + column, left);
  }
  const Real* pooled = grad_pooled + direction * H + column;
  const Real* pooled_largest = pooled;
  switch (s.pooling) {
    case Pooling::kNone:
      break;
    case Pooling::kLast:
      if (is_last_step) grad += LoadSome(pooled, left);
      break;
    case Pooling::kMeanMax:
      pooled_largest = pooled + s.n_directions * H;
      grad += LoadSome(pooled, left) / Broadcast(static_cast<Real>(length));
      [[fallthrough]];
    case Pooling::kMax:
      for (int64_t lane = 0; lane < kLanes<Real> && lane < left; ++lane) {
        if (largest_at[column + lane] == t) grad[lane] += pooled_largest[lane];
      }
      break;
    case Pooling::kMean:
      grad += LoadSome(pooled, left) / Broadcast(static_cast<Real>(length));
      break;
  }
  return grad;
}

template <typename Real>
inline void BackwardDirection(const LstmBackward<Real>& args, int64_t model, int64_t direction,
                              int64_t first_window, int64_t n_rows, const Real* packed,
                              BackwardTile<Real>& tile, Real* grad_weights) {
  constexpr int64_t V = kLanes<Real>;
  const LstmShape& s = args.shape;
  const int64_t H = s.hidden_size, C = s.n_channels, stride = tile.stride;
  const int64_t input_width = H + C + 1;
  const bool with_x = args.grad_x != nullptr;
  const int64_t n_vectors = BackwardVectors<Real>(s, with_x);
  const int64_t x_column = UnitBlocks<Real>(H) * V;
  const bool has_mask = args.in.recurrent_mask != nullptr;
  const bool has_largest = s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  const Vec<Real> one = Broadcast(Real(1));
  const Vec<Real> tiny = Broadcast(Real(1e-30));  // where o underflows, so does h

  int64_t n_steps = 0;
  int64_t length[kTileRows];
  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t window = first_window + r;
    const int64_t state = StateOffset(s, model, window, direction);
    length[r] = RowLength(s, args.in.lengths, window);
    if (length[r] > n_steps) n_steps = length[r];
    CopyPadded<Real>(nullptr, H, stride, tile.grad_h + r * stride);
    CopyPadded(args.grad_c_n == nullptr ? nullptr : args.grad_c_n + state, H, stride,
               tile.grad_c + r * stride);
    CopyPadded(args.in.h_0 == nullptr ? nullptr : args.in.h_0 + state, H, stride,
               tile.h_0 + r * stride);
    CopyPadded(args.in.c_0 == nullptr ? nullptr : args.in.c_0 + state, H, stride,
               tile.c_0 + r * stride);
    if (has_mask) CopyPadded(args.in.recurrent_mask + state, H, stride, tile.mask + r * stride);
    if (has_largest) {
      FindLargest(args, model, direction, window, length[r], tile.largest_at + r * stride);
    }
    if (length[r] == 0 && args.grad_h_n != nullptr) {  // nothing between h_0 and h_n
      CopyPadded(args.grad_h_n + state, H, stride, tile.grad_h + r * stride);
    }
  }

  const int64_t P = PooledSize(s);
  int64_t n_entries = 0;
  for (int64_t step = n_steps - 1; step >= 0; --step) {
    Real* step_gates = tile.grad_gates + n_entries * kGates * stride;
    for (int64_t r = 0; r < n_rows; ++r) {
      Real* grad_gates = step_gates + r * kGates * stride;
      Real* inputs = tile.inputs + (n_entries + r) * input_width;
      if (step >= length[r]) {
        CopyPadded<Real>(nullptr, kGates * stride, kGates * stride, grad_gates);
        CopyPadded<Real>(nullptr, input_width, input_width, inputs);
        continue;
      }
      const int64_t window = first_window + r;
      const int64_t t = TimestepAt(step, length[r], direction);
      const Real* now = SavedStep(s, args.saved, model, direction, window, t);
      const Real* before = step == 0 ? nullptr
                                     : SavedStep(s, args.saved, model, direction, window,
                                                 TimestepAt(step - 1, length[r], direction));
      const Real* c_before = step == 0 ? tile.c_0 + r * stride : before + kSavedCell * stride;
      const Real* h_before = step == 0 ? tile.h_0 + r * stride : before + kSavedHidden * stride;
      for (int64_t column = 0; column < H; column += V) {
        const int64_t at = r * stride + column;
        const Vec<Real> i = Load(now + kInputGate * stride + column);
        const Vec<Real> f = Load(now + kForgetGate * stride + column);
        const Vec<Real> g = Load(now + kCellGate * stride + column);
        const Vec<Real> o = Load(now + kOutputGate * stride + column);
        const Vec<Real> h = Load(now + kSavedHidden * stride + column);
        const Vec<Real> grad_h =
            Load(tile.grad_h + at) +
            OuterGradient(args, tile.grad_pooled + r * P, tile.largest_at + r * stride, model,
                          direction, window, t, length[r], step == length[r] - 1, column);
        const Vec<Real> grad_c =
            Load(tile.grad_c + at) + grad_h * (o - h * h / (o > tiny ? o : tiny));
        Store(grad_gates + kInputGate * stride + column, grad_c * g * i * (one - i));
        Store(grad_gates + kForgetGate * stride + column,
              grad_c * Load(c_before + column) * f * (one - f));
        Store(grad_gates + kCellGate * stride + column, grad_c * i * (one - g * g));
        Store(grad_gates + kOutputGate * stride + column, grad_h * h * (one - o));
        Store(tile.grad_c + at, grad_c * f);
      }
      for (int64_t k = 0; k < H; ++k) {
        inputs[k] = has_mask ? h_before[k] * tile.mask[r * stride + k] : h_before[k];
      }
      const Real* x = XRow(s, args.in.x, model, window, t);
      for (int64_t k = 0; k < C; ++k) inputs[H + k] = x[k];
      inputs[H + C] = Real(1);
    }
    for (int64_t first = 0; first < n_rows; first += SENSORSEQ_REGISTER_ROWS) {
      const int64_t left = n_rows - first;
      PanelsForSomeRows(left < SENSORSEQ_REGISTER_ROWS ? left : SENSORSEQ_REGISTER_ROWS, packed,
                        n_vectors, H, step_gates + first * kGates * stride, stride,
                        tile.product + first * tile.product_stride, tile.product_stride);
    }
    for (int64_t r = 0; r < n_rows; ++r) {
      if (step >= length[r]) continue;
      const Real* product = tile.product + r * tile.product_stride;
      for (int64_t j = 0; j < H; ++j) {
        tile.grad_h[r * stride + j] =
            has_mask ? product[j] * tile.mask[r * stride + j] : product[j];
      }
      if (!with_x) continue;
      const int64_t t = TimestepAt(step, length[r], direction);
      const int64_t row = (model * s.n_windows + first_window + r) * s.n_timesteps + t;
      for (int64_t k = 0; k < C; ++k) {
        Real* to = args.grad_x + row * C + k;
        *to = direction == 0 ? product[x_column + k] : *to + product[x_column + k];
      }
    }
    n_entries += n_rows;
    if (n_entries + n_rows > kBlockSteps * kTileRows || step == 0) {
      AddWeightGradients(s, tile.inputs, tile.grad_gates, stride, n_entries, grad_weights);
      n_entries = 0;
    }
  }

  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t window = first_window + r;
    const int64_t state = StateOffset(s, model, window, direction);
    for (int64_t j = 0; j < H; ++j) {
      if (args.grad_h_0 != nullptr) args.grad_h_0[state + j] = tile.grad_h[r * stride + j];
      if (args.grad_c_0 != nullptr) args.grad_c_0[state + j] = tile.grad_c[r * stride + j];
    }
    if (with_x && direction == 0) {
      const int64_t row = (model * s.n_windows + window) * s.n_timesteps;
      for (int64_t i = (row + length[r]) * C; i < (row + s.n_timesteps) * C; ++i) {
        args.grad_x[i] = Real(0);
      }
    }
  }
}

// Gradient of the pooled vector of one row, and the row's share of the head's own gradients.
template <typename Real>
inline void BackwardHead(const LstmBackward<Real>& args, int64_t model, int64_t window,
                         Real* grad_pooled, Real* grad_weight_out, Real* grad_bias_out) {
  const LstmShape& s = args.shape;
  const int64_t P = PooledSize(s), K = s.n_classes;
  const Real* grad_logits = args.grad_logits + (model * s.n_windows + window) * K;
  const Real* pooled = args.pooled + (model * s.n_windows + window) * P;
  const Real* outer = args.grad_pooled;
  if (outer != nullptr) outer += (model * s.n_windows + window) * P;
  for (int64_t p = 0; p < P; ++p) grad_pooled[p] = outer == nullptr ? Real(0) : outer[p];
  for (int64_t k = 0; k < K; ++k) {
    const Real* weight = args.in.weight_out + (model * K + k) * P;
    for (int64_t p = 0; p < P; ++p) {
      grad_pooled[p] += grad_logits[k] * weight[p];
      grad_weight_out[k * P + p] += grad_logits[k] * pooled[p];
    }
    grad_bias_out[k] += grad_logits[k];
  }
}

template <typename Real>
inline void BackwardPackTask(void* context, int64_t model_direction) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const BackwardLayout layout = LayoutBackward(args.shape);
  PackBackward(args.shape, args.in, model_direction, args.grad_x != nullptr,
               static_cast<Real*>(args.workspace) + model_direction * layout.packed_stride);
}

template <typename Real>
inline void BackwardSlotTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  const int64_t n_slots = SlotCount(s.n_windows);
  const int64_t model = index / n_slots, slot = index % n_slots;
  Real* workspace = static_cast<Real*>(args.workspace);
  BackwardTile<Real> tile =
      TileScratch(s, workspace + layout.scratch_offset + index * layout.scratch_stride);
  Real* slots = workspace + layout.slots_offset + index * s.n_directions * layout.slot_stride;
  Real* head = workspace + layout.heads_offset + index * layout.head_stride;
  for (int64_t i = 0; i < s.n_directions * layout.slot_stride; ++i) slots[i] = Real(0);
  for (int64_t i = 0; i < layout.head_stride; ++i) head[i] = Real(0);
  const int64_t P = PooledSize(s);
  for (int64_t t = SlotBegin(slot, s.n_windows); t < SlotBegin(slot + 1, s.n_windows); ++t) {
    const int64_t first = TileBegin(t, s.n_windows);
    const int64_t n_rows = TileBegin(t + 1, s.n_windows) - first;
    if (s.pooling != Pooling::kNone) {
      for (int64_t r = 0; r < n_rows; ++r) {
        BackwardHead(args, model, first + r, tile.grad_pooled + r * P, head,
                     head + s.n_classes * P);
      }
    }
    for (int64_t direction = 0; direction < s.n_directions; ++direction) {
      const Real* packed = workspace + (model * s.n_directions + direction) * layout.packed_stride;
      BackwardDirection(args, model, direction, first, n_rows, packed, tile,
                        slots + direction * layout.slot_stride);
    }
  }
}

// Squared norm of one slot's share of the gradients of one direction, the bias counted twice.
template <typename Real>
inline double SlotSquare(const LstmShape& s, const Real* slot) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, width = H + s.n_channels + 1;
  double sum = 0;
  for (int64_t unit = 0; unit < H; ++unit) {
    for (int64_t k = 0; k < width; ++k) {
      for (int64_t gate = 0; gate < kGates; ++gate) {
        const double value =
            static_cast<double>(slot[((unit / V * width + k) * kGates + gate) * V + unit % V]);
        sum += (k + 1 == width ? 2.0 : 1.0) * value * value;
      }
    }
  }
  return sum;
}

// Sums the slots of one model in order and writes the gradients in torch's layout.
template <typename Real>
inline void BackwardSumTask(void* context, int64_t model) {
  constexpr int64_t V = kLanes<Real>;
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  const int64_t H = s.hidden_size, C = s.n_channels, width = H + C + 1;
  const int64_t n_slots = SlotCount(s.n_windows);
  const Real* workspace = static_cast<const Real*>(args.workspace);
  double* squares = args.slot_squares;
  if (squares != nullptr) squares += model * n_slots;
  for (int64_t slot = 0; squares != nullptr && slot < n_slots; ++slot) squares[slot] = 0;
  for (int64_t direction = 0; direction < s.n_directions; ++direction) {
    const int64_t model_direction = model * s.n_directions + direction;
    const int64_t step = s.n_directions * layout.slot_stride;
    const Real* slots =
        workspace + layout.slots_offset + model * n_slots * step + direction * layout.slot_stride;
    for (int64_t slot = 0; squares != nullptr && slot < n_slots; ++slot) {
      squares[slot] += SlotSquare(s, slots + slot * step);
    }
    for (int64_t gate = 0; gate < kGates; ++gate) {
      for (int64_t unit = 0; unit < H; ++unit) {
        const int64_t row = model_direction * kGates * H + gate * H + unit;
        for (int64_t k = 0; k < width; ++k) {
          const int64_t at = ((unit / V * width + k) * kGates + gate) * V + unit % V;
          Real sum = Real(0);
          for (int64_t slot = 0; slot < n_slots; ++slot) sum += slots[slot * step + at];
          if (k < H) {
            args.grad_weight_hh[row * H + k] = sum;
          } else if (k < H + C) {
            args.grad_weight_ih[row * C + (k - H)] = sum;
          } else {
            args.grad_bias[row] = sum;
          }
        }
      }
    }
  }
  if (s.pooling == Pooling::kNone) return;
  const int64_t P = PooledSize(s), K = s.n_classes;
  const Real* heads = workspace + layout.heads_offset + model * n_slots * layout.head_stride;
  for (int64_t i = 0; i < K * P + K; ++i) {
    Real sum = Real(0);
    for (int64_t slot = 0; slot < n_slots; ++slot) sum += heads[slot * layout.head_stride + i];
    if (i < K * P) {
      args.grad_weight_out[model * K * P + i] = sum;
    } else {
      args.grad_bias_out[model * K + i - K * P] = sum;
    }
  }
}

template <typename Real>
inline void Backward(const LstmBackward<Real>& args) {
  void* context = const_cast<LstmBackward<Real>*>(&args);
  const LstmShape& s = args.shape;
  RunTasks(args.parallel, s.n_models * s.n_directions, &BackwardPackTask<Real>, context);
  RunTasks(args.parallel, s.n_models * SlotCount(s.n_windows), &BackwardSlotTask<Real>, context);
  RunTasks(args.parallel, s.n_models, &BackwardSumTask<Real>, context);
}
