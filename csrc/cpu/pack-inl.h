// Converts weights to the layout of the kernels, and weight gradients back to torch's layout.
// Included by kernels-inl.h after activations-inl.h; includes nothing.

template <typename Real>
SENSORSEQ_INLINE int64_t UnitBlocks(int64_t hidden_size) {
  return (hidden_size + kLanes<Real> - 1) / kLanes<Real>;
}

// A range [begin, end), for example of blocks of units, of columns or of vectors.
struct Blocks {
  int64_t begin, end;
};

// The range of blocks that belongs to part `index` if n blocks are divided into n_parts parts.
SENSORSEQ_INLINE Blocks PartOf(int64_t n, int64_t index, int64_t n_parts) {
  return {index * n / n_parts, (index + 1) * n / n_parts};
}

// Packs columns [0, n) of kLanes rows that are `row_stride` apart; only the first n_rows rows
// exist. Column k goes to packed + k * kGates * kLanes.
template <typename Real>
inline void PackColumns(const Real* rows, int64_t row_stride, int64_t n_rows, int64_t n,
                        Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t k = 0; k < n; k += V) {
    Vec<Real> square[V];
    for (int64_t r = 0; r < V; ++r) {
      square[r] = r < n_rows ? LoadSome(rows + r * row_stride + k, n - k) : Vec<Real>{};
    }
    Transpose<Real>(square);
    for (int64_t j = 0; j < V && k + j < n; ++j) Store(packed + (k + j) * kGates * V, square[j]);
  }
}

// The weights of the backward product grad_gates @ [weight_hh | weight_ih] are packed in panels of
// up to kPanelVectors vectors of columns: [panel][unit block][gate][unit][vector][lane]. The
// columns are the hidden units, then the channels, both padded to full vectors.
constexpr int64_t kPanelVectors = 4;

template <typename Real>
SENSORSEQ_INLINE int64_t BackwardVectors(const LstmShape& s, bool with_x) {
  return UnitBlocks<Real>(s.hidden_size) + (with_x ? UnitBlocks<Real>(s.n_channels) : 0);
}

template <typename Real>
inline void PackBackward(const LstmShape& s, const LstmInputs<Real>& in, int64_t model_direction,
                         bool with_x, const Blocks& panels, Real* packed) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t H = s.hidden_size, C = s.n_channels;
  const int64_t n_vectors = BackwardVectors<Real>(s, with_x), unit_blocks = UnitBlocks<Real>(H);
  const Real* weight_hh = in.weight_hh + model_direction * kGates * H * H;
  const Real* weight_ih = in.weight_ih + model_direction * kGates * H * C;
  packed += kGates * H * panels.begin * kPanelVectors * V;
  for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
    const int64_t first = panel * kPanelVectors;
    const int64_t end = first + kPanelVectors < n_vectors ? first + kPanelVectors : n_vectors;
    for (int64_t unit = 0; unit < H; unit += V) {
      const int64_t n_units = H - unit < V ? H - unit : V;
      for (int64_t gate = 0; gate < kGates; ++gate) {
        for (int64_t row = gate * H + unit; row < gate * H + unit + n_units; ++row) {
          for (int64_t j = first; j < end; ++j, packed += V) {
            const bool is_unit = j < unit_blocks;
            const int64_t column = (is_unit ? j : j - unit_blocks) * V;
            Store(packed, is_unit ? LoadSome(weight_hh + row * H + column, H - column)
                                  : LoadSome(weight_ih + row * C + column, C - column));
          }
        }
      }
    }
  }
}

// Weight gradients of a slot: [unit block][h, x, 1][gate][lane].
template <typename Real>
SENSORSEQ_INLINE int64_t GradientBlockSize(int64_t H, int64_t C) {
  return (H + C + 1) * kGates * kLanes<Real>;
}

// The counterpart of PackColumns for one gate of a block of units. Sums columns [0, n) over n_slots
// slots that are `slot_stride` apart, and writes the sums to n_rows rows that are `row_stride`
// apart.
template <typename Real>
inline void SumColumns(const Real* slots, int64_t n_slots, int64_t slot_stride, int64_t n,
                       int64_t n_rows, int64_t row_stride, Real* rows) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t k = 0; k < n; k += V) {
    Vec<Real> square[V];
    for (int64_t j = 0; j < V; ++j) {
      Vec<Real> sum{};
      if (k + j < n && n_slots > 0) {
        const Real* from = slots + (k + j) * kGates * V;
        sum = Load(from);
        for (int64_t slot = 1; slot < n_slots; ++slot) sum += Load(from + slot * slot_stride);
      }
      square[j] = sum;
    }
    Transpose<Real>(square);
    for (int64_t r = 0; r < n_rows; ++r) StoreSome(rows + r * row_stride + k, square[r], n - k);
  }
}
