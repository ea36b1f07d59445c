// The rows that are processed together, and the inputs and outputs of one step. Included by
// kernels-inl.h after pack-inl.h; includes nothing.
//
// The rows of a tile are ordered by length, longest first, so that a step works only on the leading
// rows, which have not ended yet.

// Offset of one (model, window, direction) row in an (M, N, D, H) array.
SENSORSEQ_INLINE int64_t StateOffset(const LstmShape& s, int64_t model, int64_t window,
                                     int64_t direction) {
  return ((model * s.n_windows + window) * s.n_directions + direction) * s.hidden_size;
}

// The timestep that a direction processes in step `step`.
SENSORSEQ_INLINE int64_t TimestepAt(int64_t step, int64_t length, int64_t direction) {
  return direction == 0 ? step : length - 1 - step;
}

template <typename Real>
SENSORSEQ_INLINE const Real* XRow(const LstmShape& s, const Real* x, int64_t model, int64_t window,
                                  int64_t timestep) {
  const int64_t x_model = s.n_x_models == 1 ? 0 : model;
  return x + ((x_model * s.n_windows + window) * s.n_timesteps + timestep) * s.n_channels;
}

struct TileRows {
  int64_t n, n_steps;
  int64_t window[kTileRows], length[kTileRows];
  // the number of rows that have not ended before step `step`
  int64_t Alive(int64_t step) const {
    int64_t alive = n;
    while (alive > 0 && length[alive - 1] <= step) --alive;
    return alive;
  }
};

inline TileRows OrderRows(const LstmShape& s, const int64_t* lengths, int64_t first, int64_t n) {
  TileRows rows;
  rows.n = n;
  for (int64_t r = 0; r < n; ++r) {
    const int64_t length = lengths == nullptr ? s.n_timesteps : lengths[first + r];
    int64_t at = r;
    for (; at > 0 && rows.length[at - 1] < length; --at) {
      rows.length[at] = rows.length[at - 1];
      rows.window[at] = rows.window[at - 1];
    }
    rows.length[at] = length;
    rows.window[at] = first + r;
  }
  rows.n_steps = n > 0 ? rows.length[0] : 0;
  return rows;
}

// The number of blocks that are computed at a time if there are few rows. A thread's share in a
// team is a multiple of this number.
constexpr int64_t kShareBlocks = 2;
template <typename Real>
SENSORSEQ_INLINE int64_t ShareCount(int64_t hidden_size) {
  return (UnitBlocks<Real>(hidden_size) + kShareBlocks - 1) / kShareBlocks;
}

// Calls some(first, n) for groups of rows whose sums all fit in registers. The sizes of the groups
// differ by at most one row.
template <typename F>
SENSORSEQ_INLINE void ForRegisterRows(int64_t n_rows, F some) {
  int64_t n_groups = (n_rows + SENSORSEQ_REGISTER_ROWS - 1) / SENSORSEQ_REGISTER_ROWS;
  for (int64_t first = 0; n_groups > 0; --n_groups) {
    const int64_t n = (n_rows - first + n_groups - 1) / n_groups;
    some(first, n);
    first += n;
  }
}

// The blocks of units that a member computes.
template <typename Real>
SENSORSEQ_INLINE Blocks ShareOf(const Team::Member& member, int64_t hidden_size) {
  const int64_t n_blocks = UnitBlocks<Real>(hidden_size);
  Blocks share = PartOf(ShareCount<Real>(hidden_size), member.index, member.n_members);
  share.begin *= kShareBlocks;
  share.end = share.end * kShareBlocks < n_blocks ? share.end * kShareBlocks : n_blocks;
  return share;
}

// The number of steps until the longest row of some tiles ends.
template <typename Tile>
SENSORSEQ_INLINE int64_t StepCount(const Tile* tiles, int64_t n_tiles) {
  int64_t n_steps = 0;
  for (int64_t t = 0; t < n_tiles; ++t) {
    if (tiles[t].rows.n_steps > n_steps) n_steps = tiles[t].rows.n_steps;
  }
  return n_steps;
}

// Whether a step has a single group of rows, so that its weights are read only once.
template <typename Tile>
SENSORSEQ_INLINE bool IsOneGroup(const Tile* tiles, int64_t n_tiles) {
  return n_tiles == 1 && tiles[0].rows.n <= SENSORSEQ_REGISTER_ROWS;
}

// The columns of some blocks; the last block includes the padding.
template <typename Real>
SENSORSEQ_INLINE Blocks ColumnsOf(const Blocks& blocks, int64_t hidden_size) {
  const bool has_last = blocks.end == UnitBlocks<Real>(hidden_size);
  return {blocks.begin * kLanes<Real>, has_last ? Padded(hidden_size) : blocks.end * kLanes<Real>};
}

SENSORSEQ_INLINE bool HasMean(const LstmShape& s) {
  return s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax;
}
SENSORSEQ_INLINE bool HasLargest(const LstmShape& s) {
  return s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
}

// Copies some columns of a row, which is padded to full vectors, to a dense row of n values.
template <typename Real>
SENSORSEQ_INLINE void CopyRow(const Real* from, int64_t n, const Blocks& columns, Real* to) {
  for (int64_t i = columns.begin; i < columns.end && i < n; i += kLanes<Real>) {
    StoreSome(to + i, Load(from + i), n - i);
  }
}

// Fills some columns of a row: the first n columns with the values of `from` (or zeros if `from` is
// null), the other columns with zeros.
template <typename Real>
inline void CopyPadded(const Real* from, int64_t n, const Blocks& columns, Real* to) {
  for (int64_t i = columns.begin; i < columns.end; i += kLanes<Real>) {
    Store(to + i, from == nullptr ? Vec<Real>{} : LoadSome(from + i, n - i));
  }
}

// Saved state of a tile: [step][unit block][row][i, f, g, o, c, h][lane], then, for each row and
// unit, the earliest timestep that attains the maximum.
template <typename Real>
struct SavedTile {
  Real* steps;  // null: not saved
  int64_t n_rows, step_size;
  Bit<Real>* largest_at;

  SavedTile() = default;
  SavedTile(const LstmShape& s, Real* saved, int64_t n_rows)
      : steps(saved),
        n_rows(n_rows),
        step_size(UnitBlocks<Real>(s.hidden_size) * n_rows * kSavedValues * kLanes<Real>),
        largest_at(saved == nullptr ? nullptr
                                    : reinterpret_cast<Bit<Real>*>(
                                          saved + n_rows * s.n_timesteps * kSavedValues *
                                                      Padded(s.hidden_size))) {}
  // Clears the values that no step writes, so that equal inputs give equal tensors if all rows have
  // full length.
  void ClearPadding(const LstmShape& s) const {
    if (steps == nullptr) return;
    Real* end = reinterpret_cast<Real*>(largest_at);
    for (Real* p = steps + s.n_timesteps * step_size; p < end; ++p) *p = Real(0);
    if (HasLargest(s)) return;
    for (int64_t i = 0; i < n_rows * Padded(s.hidden_size); ++i) largest_at[i] = 0;
  }
  Real* At(int64_t step, int64_t block, int64_t row) const {
    return steps + step * step_size + (block * n_rows + row) * kSavedValues * kLanes<Real>;
  }
};

// The inputs and outputs of a step of a tile. Rows are `stride` values apart.
template <typename Real>
struct ForwardStep {
  int64_t H, C, stride;
  const Real* h;  // hidden state as it enters the gates, masked
  const Real* x[kTileRows];
  Real* c;
  Real* h_next;   // hidden state that enters the next step, masked
  Real* h_plain;  // new hidden state, not masked; equals h_next if there is no mask
  const Real* mask;
  Real* sum;      // null: no mean
  Real* largest;  // null: no maximum
  Bit<Real>* largest_at;
  Bit<Real> timestep[kTileRows];
  bool is_reversed, is_odd;
  Real* saved;  // saved state of this step; null: not saved
  int64_t saved_rows;
};
