// The backward kernel: processes a tile of windows from the last step to the first in one
// direction. Included by kernels-inl.h after lstm_forward-inl.h; includes nothing.
//
// The kernel collects up to kBlockEntries entries. An entry belongs to one row at one timestep, and
// contains the gradients and the inputs of its gates. One product without transposes then adds the
// contributions of all entries to the slot's weight gradients. tanh(c) is neither saved nor
// recomputed, because h = o tanh(c) implies o (1 - tanh(c)^2) = o - h^2 / o.

// The size of the gate gradients of one block of units, [entry][gate][lane], with padding that puts
// corresponding lines of different blocks into different cache sets.
template <typename Real>
constexpr int64_t kGateBlock = kBlockEntries * kGates * kLanes<Real> + 6 * kVectorPadding;

// The number of blocks of units whose products are summed in registers before the sum is added to
// memory. These blocks form a chain of about 128 products. With a single chain of all 4H products,
// the error was up to 3 times torch's.
template <typename Real>
constexpr int64_t kChainBlocks = 32 / kLanes<Real> > 0 ? 32 / kLanes<Real> : 1;

// Computes what some blocks of units contribute to grad_gates[r] @ panel, for kWidth vectors of a
// panel of `width` vectors, and adds it to out[r]. The blocks form complete chains. The first chain
// of a layer overwrites out[r] instead.
template <typename Real, int kRows, int kWidth>
inline void PanelProduct(const Real* panel, int64_t width, int64_t H, const Blocks& blocks,
                         const Real* grad_gates, Real* out, int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  panel += blocks.begin * V * kGates * width * V;
  for (int64_t chain = blocks.begin; chain < blocks.end; chain += kChainBlocks<Real>) {
    const int64_t end =
        chain + kChainBlocks<Real> < blocks.end ? chain + kChainBlocks<Real> : blocks.end;
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
        auto Add = [&](int64_t n) {
#pragma GCC unroll 4
          for (int64_t k = 0; k < n; ++k, panel += width * V) {
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
        };
        if (n_units == V) {  // so that the compiler sees a constant count
          Add(V);
        } else {
          Add(n_units);
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

// Computes the range `vectors` of the n_vectors vectors of a product.
template <typename Real, int kRows>
inline void PanelsForRows(const Real* packed, int64_t n_vectors, const Blocks& vectors, int64_t H,
                          const Blocks& blocks, const Real* grad_gates, Real* out,
                          int64_t out_stride) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t first = vectors.begin; first < vectors.end;) {
    const int64_t panel = first - first % kPanelVectors, end = panel + kPanelVectors;
    const int64_t width = end < n_vectors ? kPanelVectors : n_vectors - panel;
    const int64_t last = end < vectors.end ? end : vectors.end;
    const Real* weights = packed + kGates * H * panel * V + (first - panel) * V;
    Real* to = out + first * V;
    switch (last - first) {
      case 1:
        PanelProduct<Real, kRows, 1>(weights, width, H, blocks, grad_gates, to, out_stride);
        break;
      case 2:
        PanelProduct<Real, kRows, 2>(weights, width, H, blocks, grad_gates, to, out_stride);
        break;
      case 3:
        PanelProduct<Real, kRows, 3>(weights, width, H, blocks, grad_gates, to, out_stride);
        break;
      default:
        if (width == kPanelVectors) {  // so that the compiler sees a constant count
          PanelProduct<Real, kRows, 4>(weights, kPanelVectors, H, blocks, grad_gates, to,
                                       out_stride);
        }
    }
    first = last;
  }
}

template <typename Real, int kRows = SENSORSEQ_REGISTER_ROWS>
inline void PanelsForSomeRows(int64_t n_rows, const Real* packed, int64_t n_vectors,
                              const Blocks& vectors, int64_t H, const Blocks& blocks,
                              const Real* grad_gates, Real* out, int64_t out_stride) {
  if (n_rows == kRows) {
    PanelsForRows<Real, kRows>(packed, n_vectors, vectors, H, blocks, grad_gates, out, out_stride);
  } else if constexpr (kRows > 1) {
    PanelsForSomeRows<Real, kRows - 1>(n_rows, packed, n_vectors, vectors, H, blocks, grad_gates,
                                       out, out_stride);
  }
}

// grad_weights[k][gate][lane] += sum over entries of inputs[entry][k] * grad_gates[entry], for
// kColumns adjacent k of one block of units.
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

// The number of products that are summed in a register before the sum is added to memory. With 96
// products, the error was up to twice torch's.
constexpr int64_t kRunEntries = SENSORSEQ_RUN_ENTRIES;

// The number of columns of a block's weight gradients that stay in the first-level cache while all
// entries are added.
constexpr int64_t kColumnRun = 48;

// Adds the products of n_entries entries to some of the K columns of one block's weight gradients.
template <typename Real>
inline void AddWeightGradients(int64_t K, const Blocks& columns, const Real* inputs,
                               const Real* grad_gates, int64_t n_entries, Real* grad_weights) {
  constexpr int64_t kColumns = SENSORSEQ_REGISTER_ROWS, kGroup = kGates * kLanes<Real>;
  for (int64_t entry = 0; entry < n_entries; entry += kRunEntries) {
    const int64_t left = n_entries - entry, n = left < kRunEntries ? left : kRunEntries;
    for (int64_t k = columns.begin; k < columns.end; k += kColumns) {
      WeightProductForSome(columns.end - k < kColumns ? columns.end - k : kColumns,
                           inputs + entry * K + k, K, grad_gates + entry * kGroup, n,
                           grad_weights + k * kGroup);
    }
  }
}

// The values from which GateGradients computes the gate gradients of one row and step.
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
  const Vec<Real> tiny = Broadcast(Real(1e-30));  // avoids 0 / 0: if o underflows, so does h
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

// The backward pass of a tile, for a thread that computes the units of `blocks` (all units, or the
// thread's share in a team). Adds the tile's weight gradients to those of the slot. Threads share
// the scratch memory, but a thread reads only two kinds of values from other threads: a step's gate
// gradients and the inputs of a block of entries.
template <typename Real>
class BackwardTile {
 public:
  TileRows rows;

  // Makes this thread compute these blocks from now on.
  void Take(const Blocks& of_blocks, int64_t hidden_size) {
    blocks_ = of_blocks;
    columns_ = ColumnsOf<Real>(blocks_, hidden_size);
    vectors_ = {blocks_.begin,
                blocks_.end == UnitBlocks<Real>(hidden_size) ? n_vectors_ : blocks_.end};
  }

  // `saved_memory` is the tile's saved state as the forward pass wrote it.
  void Begin(const LstmBackward<Real>& call, int64_t of_model, int64_t of_direction,
             const TileRows& of_rows, const Blocks& of_blocks, const Real* saved_memory,
             Real* scratch, Real* of_slot) {
    args_ = &call;
    model_ = of_model;
    direction_ = of_direction;
    rows = of_rows;
    grad_weights_ = of_slot;
    const LstmShape& s = call.shape;
    const int64_t n_blocks = UnitBlocks<Real>(s.hidden_size);
    n_vectors_ = BackwardVectors<Real>(s, call.grad_x != nullptr);
    Take(of_blocks, s.hidden_size);
    saved_ = SavedTile<Real>(s, const_cast<Real*>(saved_memory), rows.n);
    n_entries_ = 0;
    stride_ = Padded(s.hidden_size);
    product_stride_ = stride_ + Padded(s.n_channels);
    const int64_t size = kTileRows * stride_;
    grad_c_ = scratch;
    mask_ = scratch + size;
    c_0_ = scratch + 2 * size;
    h_0_ = scratch + 3 * size;
    steady_ = scratch + 4 * size;
    grad_largest_ = scratch + 5 * size;
    product_ = scratch + kBackwardScratch * size;
    grad_gates_ = product_ + kTileRows * product_stride_;
    inputs_ = grad_gates_ + n_blocks * kGateBlock<Real>;
    for (int64_t r = 0; r < rows.n; ++r) BeginRow(r);
  }

  // Computes the gradients of the gates of a step.
  void Gates(int64_t step) {
    constexpr int64_t V = kLanes<Real>;
    const LstmShape& s = args_->shape;
    const int64_t H = s.hidden_size, C = s.n_channels, input_width = InputWidth();
    alive_ = rows.Alive(step);
    for (int64_t r = 0; r < alive_; ++r) {
      BackwardRow<Real> row;
      row.t = TimestepAt(step, rows.length[r], direction_);
      const int64_t flat = (model_ * s.n_windows + rows.window[r]) * s.n_timesteps + row.t;
      row.grad_hidden = args_->grad_hidden == nullptr
                            ? nullptr
                            : args_->grad_hidden + (flat * s.n_directions + direction_) * H;
      row.steady = HasMean(s) ? steady_ + r * stride_ : nullptr;
      row.grad_largest = HasLargest(s) ? grad_largest_ + r * stride_ : nullptr;
      row.largest_at = saved_.largest_at + r * stride_;
      row.product = product_ + r * product_stride_;
      row.grad_c = grad_c_ + r * stride_;
      Real* inputs = inputs_ + (n_entries_ + r) * input_width;
      for (int64_t block = blocks_.begin; block < blocks_.end; ++block) {
        const int64_t column = block * V;
        const Real* before = step == 0 ? nullptr : saved_.At(step - 1, block, r);
        const Real* c_before = step == 0 ? c_0_ + r * stride_ + column : before + kSavedCell * V;
        const Real* h_before = step == 0 ? h_0_ + r * stride_ + column : before + kSavedHidden * V;
        GateGradients(row, column, H - column, saved_.At(step, block, r), c_before,
                      StepGates() + block * kGateBlock<Real> + r * kGates * V);
        Vec<Real> h_in = Load(h_before);
        if (HasMask()) h_in *= Load(mask_ + r * stride_ + column);
        StoreSome(inputs + column, h_in, H - column);
      }
      if (blocks_.begin > 0) continue;
      const Real* x = XRow(s, args_->in.x, model_, rows.window[r], row.t);
      for (int64_t k = 0; k < C; ++k) inputs[H + k] = x[k];
      inputs[H + C] = Real(1);
    }
  }

  // Computes what the units of some blocks contribute to the gradients of h and x, for some of the
  // thread's vectors.
  void Products(int64_t step, const Real* packed, const Blocks& vectors,
                const Blocks& blocks) const {
    if (step == 0 && args_->grad_x == nullptr && args_->grad_h_0 == nullptr) return;
    ForRegisterRows(alive_, [&](int64_t first, int64_t n_rows) {
      PanelsForSomeRows(n_rows, packed, n_vectors_, vectors, args_->shape.hidden_size, blocks,
                        StepGates() + first * kGates * kLanes<Real>,
                        product_ + first * product_stride_, product_stride_);
    });
  }

  // Called after Products.
  void EndStep(int64_t step) {
    const LstmShape& s = args_->shape;
    const int64_t C = s.n_channels;
    for (int64_t r = 0; r < alive_; ++r) {
      Real* product = product_ + r * product_stride_;
      for (int64_t j = columns_.begin; j < columns_.end && j < s.hidden_size && HasMask(); ++j) {
        product[j] *= mask_[r * stride_ + j];
      }
      if (args_->grad_x == nullptr || vectors_.end != n_vectors_) continue;
      const Real* grad = product + UnitBlocks<Real>(s.hidden_size) * kLanes<Real>;
      Real* to = GradX(r, TimestepAt(step, rows.length[r], direction_));
      for (int64_t k = 0; k < C; ++k) to[k] = direction_ == 0 ? grad[k] : to[k] + grad[k];
    }
    n_entries_ += alive_;
  }

  // Whether there is no room for the entries of another step.
  bool IsFull() const { return n_entries_ + rows.n > kBlockEntries; }
  // Adds the products of the entries collected so far to some columns of a block's weight
  // gradients.
  void AddTo(int64_t block, const Blocks& columns) const {
    const int64_t K = InputWidth();
    AddWeightGradients(K, columns, inputs_, grad_gates_ + block * kGateBlock<Real>, n_entries_,
                       grad_weights_ + block * K * kGates * kLanes<Real>);
  }
  // Called once all threads have added the entries.
  void DropEntries() { n_entries_ = 0; }

  // The number of inputs of a gate: the values of h and x, and the 1 for the bias.
  int64_t InputWidth() const { return args_->shape.hidden_size + args_->shape.n_channels + 1; }
  const Blocks& blocks() const { return blocks_; }
  const Blocks& vectors() const { return vectors_; }

  void End() const {
    const LstmShape& s = args_->shape;
    const int64_t H = s.hidden_size;
    for (int64_t r = 0; r < rows.n; ++r) {
      const int64_t state = StateOffset(s, model_, rows.window[r], direction_);
      if (args_->grad_h_0 != nullptr) {
        CopyRow(product_ + r * product_stride_, H, columns_, args_->grad_h_0 + state);
      }
      if (args_->grad_c_0 != nullptr) {
        CopyRow(grad_c_ + r * stride_, H, columns_, args_->grad_c_0 + state);
      }
      if (args_->grad_x == nullptr || direction_ != 0 || blocks_.begin > 0) continue;
      for (Real* p = GradX(r, rows.length[r]); p < GradX(r, s.n_timesteps); ++p) *p = Real(0);
    }
  }

 private:
  const LstmBackward<Real>* args_;
  int64_t model_, direction_, alive_, n_entries_, n_vectors_, stride_, product_stride_;
  Blocks blocks_, columns_, vectors_;
  SavedTile<Real> saved_;
  // rows are Padded(H) wide unless stated otherwise
  Real* product_;  // (rows, product_stride); gradient of h from the next step, then gradient of x
  Real* grad_c_;
  Real* mask_;
  Real* c_0_;
  Real* h_0_;
  Real* steady_;        // what pooling adds to h's gradient at every step
  Real* grad_largest_;  // what pooling adds to h's gradient at the step of the maximum
  Real* grad_gates_;    // (unit blocks, kGateBlock)
  Real* inputs_;        // (kBlockEntries, H + C + 1); columns: h_in, x, 1
  Real* grad_weights_;

  bool HasMask() const { return args_->in.recurrent_mask != nullptr; }
  Real* StepGates() const { return grad_gates_ + n_entries_ * kGates * kLanes<Real>; }
  Real* GradX(int64_t r, int64_t t) const {
    const LstmShape& s = args_->shape;
    const int64_t row = (model_ * s.n_windows + rows.window[r]) * s.n_timesteps;
    return args_->grad_x + (row + t) * s.n_channels;
  }

  // Initializes the row's gradients of h and c from the gradients of the pooled vector and the
  // final states.
  void BeginRow(int64_t r) const {
    const LstmShape& s = args_->shape;
    const int64_t H = s.hidden_size, P = PooledSize(s), at = r * stride_;
    const int64_t window = rows.window[r], length = rows.length[r];
    const int64_t state = StateOffset(s, model_, window, direction_);
    auto From = [](const Real* array, int64_t offset) {
      return array == nullptr ? nullptr : array + offset;
    };
    Real* product = product_ + r * product_stride_;
    CopyPadded(From(args_->grad_h_n, state), H, columns_, product);
    CopyPadded(From(args_->grad_c_n, state), H, columns_, grad_c_ + at);
    CopyPadded(From(args_->in.h_0, state), H, columns_, h_0_ + at);
    CopyPadded(From(args_->in.c_0, state), H, columns_, c_0_ + at);
    if (HasMask()) CopyPadded(args_->in.recurrent_mask + state, H, columns_, mask_ + at);
    if (s.pooling == Pooling::kNone || length == 0) return;
    const Real* pooled =
        From(args_->grad_pooled, (model_ * s.n_windows + window) * P + direction_ * H);
    for (int64_t j = columns_.begin; j < columns_.end && j < H; ++j) {
      if (s.pooling == Pooling::kLast && pooled != nullptr) product[j] += pooled[j];
    }
    if (HasMean(s)) {
      CopyPadded(pooled, H, columns_, steady_ + at);
      for (int64_t j = columns_.begin; j < columns_.end && j < H; ++j) {
        steady_[at + j] /= static_cast<Real>(length);
      }
    }
    if (HasLargest(s)) {
      const int64_t behind = s.pooling == Pooling::kMeanMax ? s.n_directions * H : 0;
      CopyPadded(From(pooled, behind), H, columns_, grad_largest_ + at);
    }
  }
};

// Adds the entries of all tiles for which is_due(t) is true to the weight gradients of the member's
// blocks. Each range of columns is finished for all tiles before the next range begins.
template <typename Real, typename IsDue>
inline void AddEntries(BackwardTile<Real>* tiles, int64_t n_tiles, IsDue is_due,
                       Team::Member& member) {
  const Blocks& blocks = tiles[0].blocks();
  const int64_t n_columns = tiles[0].InputWidth();
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    for (int64_t k = 0; k < n_columns; k += kColumnRun) {
      const Blocks columns = {k, k + kColumnRun < n_columns ? k + kColumnRun : n_columns};
      for (int64_t t = 0; t < n_tiles; ++t) {
        if (is_due(t)) tiles[t].AddTo(block, columns);
      }
    }
  }
  member.Wait();
  for (int64_t t = 0; t < n_tiles; ++t) {
    if (is_due(t)) tiles[t].DropEntries();
  }
}

// Runs the backward passes of several tiles side by side, after Begin has set up the tiles. If the
// tiles share a slot, all of them add their entries when one tile's block is full. Otherwise, each
// tile adds its own entries when its block is full, so that the number of tiles does not affect the
// bits of the result.
template <typename Real>
inline bool BackwardTiles(BackwardTile<Real>* tiles, int64_t n_tiles, const Real* packed,
                          const LstmShape& s, Team::Member& member) {
  const int64_t H = s.hidden_size, n_blocks = UnitBlocks<Real>(H);
  const bool is_once = IsOneGroup(tiles, n_tiles);
  const int64_t n_together = is_once ? n_blocks : kChainBlocks<Real>;
  int64_t n_members = member.n_members;
  for (int64_t step = StepCount(tiles, n_tiles) - 1; step >= 0; --step) {
    for (int64_t t = 0; t < n_tiles; ++t) tiles[t].Gates(step);
    if (!member.Stay()) return false;
    if (member.n_members != n_members) {
      n_members = member.n_members;
      const Blocks blocks = ShareOf<Real>(member, H);
      for (int64_t t = 0; t < n_tiles; ++t) tiles[t].Take(blocks, H);
    }
    const Blocks vectors = tiles[0].vectors();
    for (int64_t begin = vectors.begin; begin < vectors.end;) {
      int64_t end = is_once ? vectors.end : begin + kPanelVectors - begin % kPanelVectors;
      if (end > vectors.end) end = vectors.end;
      for (int64_t at = 0; at < n_blocks; at += n_together) {
        const Blocks blocks = {at, at + n_together < n_blocks ? at + n_together : n_blocks};
        for (int64_t t = 0; t < n_tiles; ++t) {
          tiles[t].Products(step, packed, {begin, end}, blocks);
        }
      }
      begin = end;
    }
    bool is_any_full = step == 0;
    for (int64_t t = 0; t < n_tiles; ++t) {
      tiles[t].EndStep(step);
      is_any_full |= tiles[t].IsFull();
    }
    if (!is_any_full) continue;
    auto IsDue = [&](int64_t t) { return IsWide(s) || step == 0 || tiles[t].IsFull(); };
    AddEntries(tiles, n_tiles, IsDue, member);
  }
  for (int64_t t = 0; t < n_tiles; ++t) tiles[t].End();
  return true;
}
