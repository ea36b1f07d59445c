// What the contract's functions run: packing, tiles, slots, sums. Included by an ISA file after
// head-inl.h; includes nothing.

template <typename Real>
SENSORSEQ_INLINE Real* Zeroed(Real* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = Real(0);
  return values;
}

SENSORSEQ_INLINE TileRows RowsOfTile(const LstmShape& s, const int64_t* lengths, int64_t tile) {
  const int64_t first = TileBegin(tile, s.n_windows);
  return OrderRows(s, lengths, first, TileBegin(tile + 1, s.n_windows) - first);
}

// Every model and direction, as ForwardPackTask lays them in the workspace.
template <typename Real>
inline void Pack(const LstmShape& s, const LstmInputs<Real>& in, Real* packed) {
  const int64_t stride = LayoutForward(s).packed_stride;
  for (int64_t i = 0; i < s.n_models * s.n_directions; ++i) {
    PackForward(s, in, i, packed + i * stride);
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
  const int64_t n_tiles = TileCount(s.n_windows), P = PooledSize(s), K = s.n_classes;
  const int64_t model = index / n_tiles, first = TileBegin(index % n_tiles, s.n_windows);
  const TileRows rows = RowsOfTile(s, args.in.lengths, index % n_tiles);
  Real* workspace = static_cast<Real*>(args.workspace);
  const void* kept = args.packed;
  const Real* packed = kept == nullptr ? workspace : static_cast<const Real*>(PackedWeights(kept));
  for (int64_t direction = 0; direction < s.n_directions; ++direction) {
    const int64_t model_direction = model * s.n_directions + direction;
    Real* saved = args.saved == nullptr
                      ? nullptr
                      : args.saved + (model_direction * s.n_windows + first) * SavedSize(s);
    ForwardDirection(args, model, direction, rows, packed + model_direction * layout.packed_stride,
                     saved, workspace + layout.scratch_offset + index * layout.scratch_stride);
  }
  for (int64_t r = 0; r < rows.n && K > 0; ++r) {
    const int64_t row = model * s.n_windows + first + r;
    HeadForward(args.pooled + row * P, args.in.weight_out + model * K * P,
                args.bias_out + model * K, P, K, args.logits + row * K);
  }
}

template <typename Real>
inline void Forward(const LstmForward<Real>& args) {
  void* context = const_cast<LstmForward<Real>*>(&args);
  const LstmShape& s = args.shape;
  if (args.packed == nullptr) {
    RunTasks(args.parallel, s.n_models * s.n_directions, &ForwardPackTask<Real>, context,
             kSubnormalsOf<Real>);
  }
  RunTasks(args.parallel, s.n_models * TileCount(s.n_windows), &ForwardTileTask<Real>, context,
           kSubnormalsOf<Real>);
}

template <typename Real>
inline void BackwardPackTask(void* context, int64_t model_direction) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const BackwardLayout layout = LayoutBackward(args.shape);
  PackBackward(args.shape, args.in, model_direction, args.grad_x != nullptr,
               static_cast<Real*>(args.workspace) + model_direction * layout.packed_stride);
}

// Squared norm of a slot's share of the gradients of one direction, the bias counted twice.
template <typename Real>
inline double SlotSquare(const LstmShape& s, const Real* slot) {
  constexpr int64_t V = kLanes<Real>;
  const int64_t width = s.hidden_size + s.n_channels + 1;
  double of_lanes[V] = {};
  for (int64_t block = 0; block < UnitBlocks<Real>(s.hidden_size); ++block) {
    for (int64_t k = 0; k < width; ++k) {
      const double times = k + 1 == width ? 2.0 : 1.0;
      for (int gate = 0; gate < kGates; ++gate, slot += V) {
        for (int64_t lane = 0; lane < V; ++lane) {
          const double value = static_cast<double>(slot[lane]);
          of_lanes[lane] += times * value * value;
        }
      }
    }
  }
  double sum = 0;
  for (int64_t lane = 0; lane < V; ++lane) sum += of_lanes[lane];
  return sum;
}

// Adds how many gate values of a tile lie near their bounds; padded units never do.
template <typename Real>
inline void CountSaturated(const LstmShape& s, const TileRows& rows, const Real* saved_memory,
                           int64_t* counts) {
  constexpr int64_t V = kLanes<Real>;
  const SavedTile<Real> saved(s, const_cast<Real*>(saved_memory), rows.n);
  for (int gate = 0; gate < kGates; ++gate) {
    const Vec<Real> low = Broadcast(gate == kCellGate ? Real(-0.9) : Real(0.05));
    const Vec<Real> high = Broadcast(gate == kCellGate ? Real(0.9) : Real(0.95));
    VecBits<Real> of_lanes{};
    for (int64_t step = 0; step < rows.n_steps; ++step) {
      const int64_t alive = rows.Alive(step);
      for (int64_t block = 0; block < UnitBlocks<Real>(s.hidden_size); ++block) {
        for (int64_t r = 0; r < alive; ++r) {
          const Vec<Real> value = Load(saved.At(step, block, r) + gate * V);
          of_lanes -= (value < low) | (value > high);
        }
      }
    }
    for (int64_t lane = 0; lane < V; ++lane) counts[gate] += of_lanes[lane];
  }
}

// One slot of one model: its pieces of the workspace.
template <typename Real>
struct Slot {
  int64_t model, slot, first_tile, end_tile;
  Real* packed;   // of the model's first direction
  Real* weights;  // of the first direction
  Real* head;
  int64_t* saturated;  // null: not wanted
  BackwardTile<Real> tile;

  Slot(const LstmBackward<Real>& args, const BackwardLayout& layout, int64_t index) {
    const LstmShape& s = args.shape;
    const int64_t n_slots = SlotCount(s.n_windows);
    Real* workspace = static_cast<Real*>(args.workspace);
    model = index / n_slots;
    slot = index % n_slots;
    first_tile = SlotBegin(slot, s.n_windows);
    end_tile = SlotBegin(slot + 1, s.n_windows);
    packed = workspace + model * s.n_directions * layout.packed_stride;
    weights = Zeroed(workspace + layout.slots_offset + index * s.n_directions * layout.slot_stride,
                     s.n_directions * layout.slot_stride);
    head = Zeroed(workspace + layout.heads_offset + index * layout.head_stride, layout.head_stride);
    saturated = args.slot_saturated == nullptr ? nullptr : args.slot_saturated + index * kGates;
    for (int gate = 0; gate < kGates && saturated != nullptr; ++gate) saturated[gate] = 0;
    tile = CarveBackward(s, workspace + layout.scratch_offset + index * layout.scratch_stride);
  }

  void Backward(const LstmBackward<Real>& args, const BackwardLayout& layout, const TileRows& rows,
                int64_t direction, const Real* saved) {
    if (saturated != nullptr) CountSaturated(args.shape, rows, saved, saturated);
    BackwardDirection(args, model, direction, rows, packed + direction * layout.packed_stride,
                      saved, tile, weights + direction * layout.slot_stride);
  }

  void MeasureSquares(const LstmBackward<Real>& args, const BackwardLayout& layout) const {
    if (args.slot_squares == nullptr) return;
    double sum = 0;
    for (int64_t direction = 0; direction < args.shape.n_directions; ++direction) {
      sum += SlotSquare(args.shape, weights + direction * layout.slot_stride);
    }
    args.slot_squares[model * SlotCount(args.shape.n_windows) + slot] = sum;
  }
};

template <typename Real>
inline void BackwardSlotTask(void* context, int64_t index) {
  LstmBackward<Real> args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  Slot<Real> slot(args, layout, index);
  const int64_t model = slot.model, P = PooledSize(s), K = s.n_classes;
  Real* grad_pooled = static_cast<Real*>(args.workspace) + layout.grad_pooled_offset;
  const Real* outer = args.grad_pooled;
  if (K > 0) args.grad_pooled = grad_pooled;
  for (int64_t t = slot.first_tile; t < slot.end_tile; ++t) {
    const int64_t first = TileBegin(t, s.n_windows);
    const TileRows rows = RowsOfTile(s, args.in.lengths, t);
    for (int64_t r = 0; r < rows.n && K > 0; ++r) {
      const int64_t row = model * s.n_windows + first + r;
      Real* to = grad_pooled + row * P;
      for (int64_t p = 0; p < P; ++p) to[p] = outer == nullptr ? Real(0) : outer[row * P + p];
      HeadBackward(args.grad_logits + row * K, args.pooled + row * P,
                   args.in.weight_out + model * K * P, P, K, to, slot.head, slot.head + K * P);
    }
    for (int64_t direction = 0; direction < s.n_directions; ++direction) {
      const int64_t model_direction = model * s.n_directions + direction;
      slot.Backward(args, layout, rows, direction,
                    args.saved + (model_direction * s.n_windows + first) * SavedSize(s));
    }
  }
  slot.MeasureSquares(args, layout);
}

// Sums the slots of one model's direction and block of units in order, and writes the gradients in
// torch's layout; the head's with the first block.
template <typename Real>
inline void BackwardSumTask(void* context, int64_t index) {
  constexpr int64_t V = kLanes<Real>;
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  const int64_t H = s.hidden_size, C = s.n_channels, n_blocks = UnitBlocks<Real>(H);
  const int64_t n_slots = SlotCount(s.n_windows), model_direction = index / n_blocks;
  const int64_t model = model_direction / s.n_directions;
  const int64_t direction = model_direction % s.n_directions, block = index % n_blocks;
  const int64_t slot_stride = s.n_directions * layout.slot_stride;
  const int64_t n_units = H - block * V < V ? H - block * V : V;
  const Real* workspace = static_cast<const Real*>(args.workspace);
  const Real* slots = workspace + layout.slots_offset + model * n_slots * slot_stride +
                      direction * layout.slot_stride + block * GradientBlockSize<Real>(H, C);
  for (int gate = 0; gate < kGates; ++gate, slots += V) {
    const int64_t row = model_direction * kGates * H + gate * H + block * V;
    SumColumns(slots, n_slots, slot_stride, H, n_units, H, args.grad_weight_hh + row * H);
    const Real* inputs = slots + H * kGates * V;
    SumColumns(inputs, n_slots, slot_stride, C, n_units, C, args.grad_weight_ih + row * C);
    SumColumns(inputs + C * kGates * V, n_slots, slot_stride, 1, n_units, 1, args.grad_bias + row);
  }
  if (s.n_classes == 0 || block != 0 || direction != 0) return;
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
  const int64_t n_packed = s.n_models * s.n_directions;
  RunTasks(args.parallel, n_packed, &BackwardPackTask<Real>, context, kSubnormalsOf<Real>);
  RunTasks(args.parallel, s.n_models * SlotCount(s.n_windows), &BackwardSlotTask<Real>, context,
           kSubnormalsOf<Real>);
  RunTasks(args.parallel, n_packed * UnitBlocks<Real>(s.hidden_size), &BackwardSumTask<Real>,
           context, kSubnormalsOf<Real>);
}

template <typename Real>
inline void StepPackTask(void* context, int64_t index) {
  auto& step = *static_cast<const LstmStep<Real>*>(context);
  const int64_t n_packed = step.forward.shape.n_models * step.forward.shape.n_directions;
  if (index >= n_packed) {
    BackwardPackTask<Real>(const_cast<LstmBackward<Real>*>(&step.backward), index - n_packed);
    return;
  }
  const StepLayout layout = LayoutStep(step.forward.shape);
  PackForward(step.forward.shape, step.forward.in, index,
              static_cast<Real*>(step.backward.workspace) + layout.packed_offset +
                  index * layout.packed_stride);
}

// Each tile of the slot forwards and, while its state is in the cache, backwards.
template <typename Real>
inline void StepSlotTask(void* context, int64_t index) {
  auto& step = *static_cast<const LstmStep<Real>*>(context);
  const LstmShape& s = step.forward.shape;
  const StepLayout layout = LayoutStep(s);
  Slot<Real> slot(step.backward, layout.backward, index);
  Real* workspace = static_cast<Real*>(step.backward.workspace);
  Real* scratch = workspace + layout.scratch_offset + index * layout.scratch_stride;
  Real* saved = workspace + layout.saved_offset + index * layout.saved_stride;
  const int64_t saved_stride = kTileRows * SavedSize(s);
  for (int64_t t = slot.first_tile; t < slot.end_tile; ++t) {
    const TileRows rows = RowsOfTile(s, step.forward.in.lengths, t);
    for (int64_t direction = 0; direction < s.n_directions; ++direction) {
      const int64_t model_direction = slot.model * s.n_directions + direction;
      ForwardDirection(step.forward, slot.model, direction, rows,
                       workspace + layout.packed_offset + model_direction * layout.packed_stride,
                       saved + direction * saved_stride, scratch);
    }
    const int64_t first = TileBegin(t, s.n_windows);
    step.between(step.context, slot.model, slot.slot, first, rows.n);
    for (int64_t direction = 0; direction < s.n_directions; ++direction) {
      slot.Backward(step.backward, layout.backward, rows, direction,
                    saved + direction * saved_stride);
    }
  }
  slot.MeasureSquares(step.backward, layout.backward);
}

template <typename Real>
inline void Step(const LstmStep<Real>& step) {
  void* context = const_cast<LstmStep<Real>*>(&step);
  const LstmShape& s = step.forward.shape;
  const Parallel& parallel = step.backward.parallel;
  const int64_t n_packed = s.n_models * s.n_directions;
  RunTasks(parallel, 2 * n_packed, &StepPackTask<Real>, context, kSubnormalsOf<Real>);
  RunTasks(parallel, s.n_models * SlotCount(s.n_windows), &StepSlotTask<Real>, context,
           kSubnormalsOf<Real>);
  RunTasks(parallel, n_packed * UnitBlocks<Real>(s.hidden_size), &BackwardSumTask<Real>,
           const_cast<LstmBackward<Real>*>(&step.backward), kSubnormalsOf<Real>);
}
