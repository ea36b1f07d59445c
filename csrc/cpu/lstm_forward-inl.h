// The forward kernel: processes a tile of windows step by step in one direction. Included by
// kernels-inl.h after tile-inl.h; includes nothing.

// The packed weights are [unit block][h, x, 1][gate][lane], with one contiguous group of cache
// lines per input; the last group holds the bias. Padded units have zero weights and bias, so they
// stay exactly 0 and no hot loop needs a mask.
template <typename Real>
SENSORSEQ_INLINE int64_t PackedBlockSize(int64_t H, int64_t C) {
  return (H + C + 1) * kGates * kLanes<Real>;
}

template <typename Real>
inline void PackForward(const LstmShape& s, const LstmInputs<Real>& in, int64_t model_direction,
                        const Blocks& blocks, Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, C = s.n_channels;
  const Real* weight_hh = in.weight_hh + model_direction * kGates * H * H;
  const Real* weight_ih = in.weight_ih + model_direction * kGates * H * C;
  const Real* bias = in.bias + model_direction * kGates * H;
  packed += blocks.begin * PackedBlockSize<Real>(H, C);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t unit = block * V;
    const int64_t n_units = H - unit < V ? H - unit : V;
    for (int gate = 0; gate < kGates; ++gate) {
      const int64_t row = gate * H + unit;
      Real* to = packed + gate * V;
      PackColumns(weight_hh + row * H, H, n_units, H, to);
      PackColumns(weight_ih + row * C, C, n_units, C, to + H * kGates * V);
      Store(to + (H + C) * kGates * V, LoadSome(bias + row, n_units));
    }
    packed += PackedBlockSize<Real>(H, C);
  }
}

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

// Adds the products of n inputs to the sums of kBlocks blocks of units; input(r, k) is input k of
// row r.
template <typename Real, int kRows, int kBlocks, typename Input>
SENSORSEQ_INLINE void AddGateProducts(const Real* packed, int64_t block_size, int64_t n,
                                      Input input, Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < n; ++k, packed += kGates * kLanes<Real>) {
    Vec<Real> factors[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) factors[r] = Broadcast(input(r, k));
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) AddProducts(factors, packed + b * block_size, sums[b]);
  }
}

// Calls of(b, r, gate) for every sum of kBlocks blocks.
template <int kRows, int kBlocks, typename F>
SENSORSEQ_INLINE void ForSums(F of) {
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int gate = 0; gate < kGates; ++gate) of(b, r, gate);
    }
  }
}

// Computes the gate sums of kBlocks blocks of units. The bias, often the largest term, is added
// after the products; if it were added first, every later sum would lose its last digits.
template <typename Real, int kRows, int kBlocks>
SENSORSEQ_INLINE void GateSums(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                               Vec<Real> (&sums)[kBlocks][kRows][kGates]) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t block_size = PackedBlockSize<Real>(step.H, step.C), stride = step.stride;
  const Real* h = step.h + first * stride;
  const Real* const* x = step.x + first;
  ForSums<kRows, kBlocks>([&](int b, int r, int gate) { sums[b][r][gate] = Vec<Real>{}; });
  AddGateProducts<Real, kRows, kBlocks>(
      packed, block_size, step.H, [&](int r, int64_t k) { return h[r * stride + k]; }, sums);
  packed += step.H * kGates * V;
  AddGateProducts<Real, kRows, kBlocks>(
      packed, block_size, step.C, [&](int r, int64_t k) { return x[r][k]; }, sums);
  packed += step.C * kGates * V;
  ForSums<kRows, kBlocks>([&](int b, int r, int gate) {
    sums[b][r][gate] += Load(packed + b * block_size + gate * V);
  });
}

template <typename Real>
SENSORSEQ_INLINE void Pool(const ForwardStep<Real>& step, int64_t row, int64_t at, Vec<Real> h) {
  if (step.sum != nullptr) Store(step.sum + at, Load(step.sum + at) + h);
  if (step.largest == nullptr) return;
  const Vec<Real> largest = Load(step.largest + at);
  // Of equal values, the one at the earliest timestep counts; a reversed direction reaches that
  // timestep last. NaN exceeds every number, as in torch.
  const VecBits<Real> is_larger = step.is_reversed
                                      ? (h >= largest) | (h != h)
                                      : (h > largest) | ((h != h) & (largest == largest));
  Store(step.largest + at, is_larger ? h : largest);
  if (step.largest_at == nullptr) return;
  const VecBits<Real> timestep = step.timestep[row] - VecBits<Real>{};
  StoreBits<Real>(step.largest_at + at,
                  is_larger ? timestep : LoadBits<Real>(step.largest_at + at));
}

// Computes one timestep of kBlocks blocks of units for rows [first, first + kRows) of the tile.
template <typename Real, int kRows, int kBlocks>
inline void ForwardBlocks(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                          int64_t block) {
  constexpr int64_t V = kLanes<Real>;
  Vec<Real> sums[kBlocks][kRows][kGates];
  packed += block * PackedBlockSize<Real>(step.H, step.C);
  GateSums<Real, kRows, kBlocks>(packed, step, first, sums);
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const int64_t column = (block + b) * V;
    Real* saved = nullptr;
    if (step.saved != nullptr) {
      saved = step.saved + ((block + b) * step.saved_rows + first) * kSavedValues * V;
    }
    // One loop computes c and the next loop computes h, so that the work on one row hides the
    // latencies of the other rows.
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

// If there are few rows, two blocks are computed at a time, because one block has too few sums to
// hide a product's latency. Every other step takes the blocks in reverse order, because the weights
// that the previous step read last are still in the first-level cache.
template <typename Real, int kRows>
inline void ForwardRows(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                        const Blocks& blocks) {
  constexpr int kBlocks = kRows >= SENSORSEQ_REGISTER_ROWS ? 1 : SENSORSEQ_REGISTER_ROWS / kRows;
  constexpr int kTaken = kBlocks > 2 ? 2 : kBlocks;
  const int64_t n_groups = (blocks.end - blocks.begin) / kTaken;
  for (int64_t i = 0; i < n_groups; ++i) {
    const int64_t group = step.is_odd ? n_groups - 1 - i : i;
    ForwardBlocks<Real, kRows, kTaken>(packed, step, first, blocks.begin + group * kTaken);
  }
  for (int64_t block = blocks.begin + n_groups * kTaken; block < blocks.end; ++block) {
    ForwardBlocks<Real, kRows, 1>(packed, step, first, block);
  }
}

template <typename Real, int kRows = SENSORSEQ_REGISTER_ROWS>
inline void ForwardSomeRows(const Real* packed, const ForwardStep<Real>& step, int64_t first,
                            int64_t n_rows, const Blocks& blocks) {
  if (n_rows == kRows) return ForwardRows<Real, kRows>(packed, step, first, blocks);
  if constexpr (kRows > 1) {
    ForwardSomeRows<Real, kRows - 1>(packed, step, first, n_rows, blocks);
  }
}

// The forward pass of a tile, for a thread that computes the units of `blocks` (all units, or the
// thread's share in a team). Threads share the scratch memory, but the only value that a thread
// reads from other threads is the previous step's h.
template <typename Real>
class ForwardTile {
 public:
  TileRows rows;

  // Makes this thread compute these blocks from now on.
  void Take(const Blocks& of_blocks, int64_t hidden_size) {
    columns_ = ColumnsOf<Real>(of_blocks, hidden_size);
  }

  // `saved_memory` is the part of the saved state for this tile and direction, or null.
  void Begin(const LstmForward<Real>& call, int64_t of_model, int64_t of_direction,
             const TileRows& of_rows, const Blocks& of_blocks, Real* saved_memory, Real* scratch) {
    args_ = &call;
    model_ = of_model;
    direction_ = of_direction;
    rows = of_rows;
    const LstmShape& s = call.shape;
    const int64_t H = s.hidden_size, stride = Padded(H), size = kTileRows * stride;
    Take(of_blocks, H);
    saved_ = SavedTile<Real>(s, saved_memory, rows.n);
    step_.H = H;
    step_.C = s.n_channels;
    step_.stride = stride;
    // kForwardScratch arrays
    h_[0] = scratch;
    h_[1] = scratch + size;
    step_.h_plain = scratch + 2 * size;
    step_.c = scratch + 3 * size;
    Real* mask = scratch + 4 * size;
    step_.mask = call.in.recurrent_mask != nullptr ? mask : nullptr;
    step_.sum = HasMean(s) ? scratch + 5 * size : nullptr;
    step_.largest = HasLargest(s) ? scratch + 6 * size : nullptr;
    step_.largest_at = HasLargest(s) && saved_.steps != nullptr
                           ? reinterpret_cast<Bit<Real>*>(scratch + 7 * size)
                           : nullptr;
    step_.is_reversed = direction_ == 1;
    step_.saved_rows = rows.n;

    for (int64_t r = 0; r < rows.n; ++r) {
      const int64_t state = StateOffset(s, model_, rows.window[r], direction_), at = r * stride;
      const Real* h_0 = call.in.h_0 == nullptr ? nullptr : call.in.h_0 + state;
      const Real* c_0 = call.in.c_0 == nullptr ? nullptr : call.in.c_0 + state;
      CopyPadded(h_0, H, columns_, h_[0] + at);
      CopyPadded(h_0, H, columns_, step_.h_plain + at);
      CopyPadded(c_0, H, columns_, step_.c + at);
      if (step_.mask != nullptr) {
        CopyPadded(call.in.recurrent_mask + state, H, columns_, mask + at);
        for (int64_t j = columns_.begin; j < columns_.end; ++j) h_[0][at + j] *= mask[at + j];
      }
      for (int64_t j = columns_.begin; j < columns_.end; ++j) {
        if (step_.sum != nullptr) step_.sum[at + j] = Real(0);
        if (step_.largest != nullptr) step_.largest[at + j] = -__builtin_huge_val();
        if (step_.largest_at != nullptr) step_.largest_at[at + j] = 0;
      }
    }
    if (columns_.begin == 0) saved_.ClearPadding(s);
    alive_ = rows.n;
    while (alive_ > 0 && rows.length[alive_ - 1] == 0) EndRow(--alive_, step_.h_plain);
  }

  // Called before Units of step i.
  void BeginStep(int64_t i) {
    const LstmShape& s = args_->shape;
    step_.is_odd = i % 2 != 0;
    step_.h = h_[i % 2];
    step_.h_next = h_[(i + 1) % 2];
    if (step_.mask == nullptr) step_.h_plain = step_.h_next;
    step_.saved = saved_.steps == nullptr ? nullptr : saved_.At(i, 0, 0);
    for (int64_t r = 0; r < alive_; ++r) {
      const int64_t t = TimestepAt(i, rows.length[r], direction_);
      step_.x[r] = XRow(s, args_->in.x, model_, rows.window[r], t);
      step_.timestep[r] = static_cast<Bit<Real>>(t);
    }
  }

  // Computes the step for some of the thread's blocks.
  void Units(const Real* packed, const Blocks& blocks) const {
    ForRegisterRows(alive_, [&](int64_t first, int64_t n_rows) {
      ForwardSomeRows(packed, step_, first, n_rows, blocks);
    });
  }

  // Called after Units of step i.
  void EndStep(int64_t i) {
    for (int64_t r = 0; r < alive_ && args_->hidden != nullptr; ++r) {
      const int64_t t = TimestepAt(i, rows.length[r], direction_);
      CopyRow(step_.h_plain + r * step_.stride, step_.H, columns_, Hidden(r, t));
    }
    while (alive_ > 0 && rows.length[alive_ - 1] == i + 1) EndRow(--alive_, step_.h_plain);
  }

 private:
  const LstmForward<Real>* args_;
  int64_t model_, direction_, alive_;
  Blocks columns_;
  SavedTile<Real> saved_;
  ForwardStep<Real> step_;
  Real* h_[2];

  Real* Hidden(int64_t r, int64_t t) const {
    const LstmShape& s = args_->shape;
    const int64_t row = (model_ * s.n_windows + rows.window[r]) * s.n_timesteps + t;
    return args_->hidden + (row * s.n_directions + direction_) * s.hidden_size;
  }

  void EndRow(int64_t r, const Real* last_h) const {
    const LstmShape& s = args_->shape;
    const int64_t H = s.hidden_size, window = rows.window[r], at = r * step_.stride;
    const int64_t state = StateOffset(s, model_, window, direction_), length = rows.length[r];
    CopyRow(last_h + at, H, columns_, args_->h_n + state);
    CopyRow(step_.c + at, H, columns_, args_->c_n + state);
    for (int64_t j = columns_.begin; j < columns_.end && step_.largest_at != nullptr; ++j) {
      saved_.largest_at[at + j] = step_.largest_at[at + j];
    }
    for (int64_t t = length; t < s.n_timesteps && args_->hidden != nullptr; ++t) {
      Real* out = Hidden(r, t);
      for (int64_t j = columns_.begin; j < columns_.end && j < H; ++j) out[j] = Real(0);
    }
    if (s.pooling == Pooling::kNone) return;
    Real* pooled = args_->pooled + (model_ * s.n_windows + window) * PooledSize(s) + direction_ * H;
    Real* largest = pooled + (s.pooling == Pooling::kMeanMax ? s.n_directions * H : 0);
    const bool is_some = length > 0;
    const Vec<Real> n = Broadcast(static_cast<Real>(is_some ? length : 1));
    for (int64_t column = columns_.begin; column < columns_.end; column += kLanes<Real>) {
      auto Write = [&](const Real* row, Vec<Real> divisor, Real* to) {
        const Vec<Real> value = is_some ? Load(row + at + column) / divisor : Vec<Real>{};
        StoreSome(to + column, value, H - column);
      };
      const Vec<Real> one = Broadcast(Real(1));
      if (s.pooling == Pooling::kLast) Write(last_h, one, pooled);
      if (step_.sum != nullptr) Write(step_.sum, n, pooled);
      if (step_.largest != nullptr) Write(step_.largest, one, largest);
    }
  }
};

// The number of blocks of units in a panel of weights. All rows use a panel before the next panel
// is read.
constexpr int64_t kPanelBlocks = SENSORSEQ_REGISTER_ROWS < 6 ? 1 : kShareBlocks;

// Runs the forward passes of several tiles side by side, after Begin has set up the tiles. In each
// step, all rows use a panel of weights before the next panel is read. Returns whether the member
// stays in its team.
template <typename Real>
inline bool ForwardTiles(ForwardTile<Real>* tiles, int64_t n_tiles, const Real* packed,
                         int64_t hidden_size, Team::Member& member) {
  const int64_t n_steps = StepCount(tiles, n_tiles);
  Blocks blocks = ShareOf<Real>(member, hidden_size);
  int64_t n_members = member.n_members;
  const bool is_once = IsOneGroup(tiles, n_tiles);
  if (!member.Stay()) return false;
  for (int64_t i = 0; i < n_steps; ++i) {
    if (member.n_members != n_members) {
      n_members = member.n_members;
      blocks = ShareOf<Real>(member, hidden_size);
      for (int64_t t = 0; t < n_tiles; ++t) tiles[t].Take(blocks, hidden_size);
    }
    const int64_t width = is_once ? blocks.end - blocks.begin : kPanelBlocks;
    const int64_t n_panels = is_once ? 1 : (blocks.end - blocks.begin + width - 1) / width;
    for (int64_t t = 0; t < n_tiles; ++t) tiles[t].BeginStep(i);
    for (int64_t j = 0; j < n_panels; ++j) {
      const int64_t begin = blocks.begin + (i % 2 != 0 ? n_panels - 1 - j : j) * width;
      const int64_t end = begin + width < blocks.end ? begin + width : blocks.end;
      for (int64_t t = 0; t < n_tiles; ++t) tiles[t].Units(packed, {begin, end});
    }
    for (int64_t t = 0; t < n_tiles; ++t) tiles[t].EndStep(i);
    if (!member.Stay()) return false;
  }
  return true;
}
