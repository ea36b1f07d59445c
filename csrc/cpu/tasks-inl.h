// The tasks that the functions of lstm_linear.h run: packing weights, processing tiles and summing
// slots. Included by kernels-inl.h after head-inl.h; includes nothing.

template <typename Real>
SENSORSEQ_INLINE Real* Zeroed(Real* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) values[i] = Real(0);
  return values;
}

SENSORSEQ_INLINE TileRows RowsOfTile(const LstmShape& s, const int64_t* lengths, int64_t tile) {
  const int64_t first = TileBegin(tile, s.n_windows);
  return OrderRows(s, lengths, first, TileBegin(tile + 1, s.n_windows) - first);
}

// Packs the weights of every model and direction, in the layout that ForwardPackTask writes.
template <typename Real>
inline void Pack(const LstmShape& s, const LstmInputs<Real>& in, Real* packed) {
  const int64_t stride = LayoutForward(s).packed_stride;
  for (int64_t i = 0; i < s.n_models * s.n_directions; ++i) {
    PackForward(s, in, i, {0, UnitBlocks<Real>(s.hidden_size)}, packed + i * stride);
  }
}

template <typename Real>
inline void PackForwardPart(const LstmShape& s, const LstmInputs<Real>& in, int64_t index,
                            Real* packed) {
  const int64_t n_parts = PackParts(s), model_direction = index / n_parts;
  const Blocks blocks = PartOf(UnitBlocks<Real>(s.hidden_size), index % n_parts, n_parts);
  PackForward(s, in, model_direction, blocks,
              packed + model_direction * LayoutForward(s).packed_stride);
}

template <typename Real>
inline void ForwardPackTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmForward<Real>*>(context);
  PackForwardPart(args.shape, args.in, index, static_cast<Real*>(args.workspace));
}

// Offset of a tile's saved state in an (M, D, N, SavedRows(T), Padded(H)) array.
SENSORSEQ_INLINE int64_t SavedOffset(const LstmShape& s, int64_t model, int64_t direction,
                                     int64_t tile) {
  const int64_t row = (model * s.n_directions + direction) * s.n_windows;
  return (row + TileBegin(tile, s.n_windows)) * SavedSize(s);
}

// Computes one member's share of a model's tiles [first, end), which are processed side by side.
// Returns whether the member stays in its team. Tile t uses the scratch at (t - first) *
// scratch_stride, and saved_of(t, direction) is its saved state.
template <typename Real, typename SavedOf>
inline bool ForwardSome(const LstmForward<Real>& args, int64_t model, int64_t first, int64_t end,
                        const Real* packed, int64_t packed_stride, Real* scratch,
                        int64_t scratch_stride, SavedOf saved_of, Team::Member& member) {
  const LstmShape& s = args.shape;
  ForwardTile<Real> tiles[kGroupTiles];
  for (int64_t direction = 0; direction < s.n_directions; ++direction) {
    const Blocks blocks = ShareOf<Real>(member, s.hidden_size);
    for (int64_t t = first; t < end; ++t) {
      tiles[t - first].Begin(args, model, direction, RowsOfTile(s, args.in.lengths, t), blocks,
                             saved_of(t, direction), scratch + (t - first) * scratch_stride);
    }
    const Real* weights = packed + (model * s.n_directions + direction) * packed_stride;
    if (!ForwardTiles(tiles, end - first, weights, s.hidden_size, member)) return false;
  }
  return true;
}

template <typename Real>
inline bool ForwardGroup(const LstmForward<Real>& args, int64_t model, int64_t first, int64_t end,
                         Team::Member& member) {
  const LstmShape& s = args.shape;
  const ForwardLayout layout = LayoutForward(s);
  const int64_t n_tiles = TileCount(s.n_windows), P = PooledSize(s), K = s.n_classes;
  Real* workspace = static_cast<Real*>(args.workspace);
  const void* kept = args.packed;
  const Real* packed = kept == nullptr ? workspace : static_cast<const Real*>(PackedWeights(kept));
  auto SavedOf = [&](int64_t t, int64_t direction) -> Real* {
    return args.saved == nullptr ? nullptr : args.saved + SavedOffset(s, model, direction, t);
  };
  Real* scratch =
      workspace + layout.scratch_offset + (model * n_tiles + first) * layout.scratch_stride;
  if (!ForwardSome(args, model, first, end, packed, layout.packed_stride, scratch,
                   layout.scratch_stride, SavedOf, member)) {
    return false;
  }
  for (int64_t n = TileBegin(first, s.n_windows); n < TileBegin(end, s.n_windows) && K > 0; ++n) {
    const int64_t row = model * s.n_windows + n;
    if (n % member.n_members != member.index) continue;
    HeadForward(args.pooled + row * P, args.in.weight_out + model * K * P,
                args.bias_out + model * K, P, K, args.logits + row * K);
  }
  return true;
}

// Calls group(model, first, end) for each group of tiles in turn, until a call returns false.
template <typename F>
SENSORSEQ_INLINE void ForGroups(const LstmShape& s, int64_t n_together, F group) {
  const int64_t n_tiles = TileCount(s.n_windows);
  for (int64_t model = 0; model < s.n_models; ++model) {
    for (int64_t first = 0; first < n_tiles; first += n_together) {
      const int64_t end = first + n_together < n_tiles ? first + n_together : n_tiles;
      if (!group(model, first, end)) return;
    }
  }
}

template <typename Real>
inline void ForwardTileTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmForward<Real>*>(context);
  const int64_t n_tiles = TileCount(args.shape.n_windows), tile = index % n_tiles;
  Team::Member alone{0, 1, nullptr};
  ForwardGroup(args, index / n_tiles, tile, tile + 1, alone);
}

template <typename Real>
inline void ForwardTeamTask(void* context, Team::Member& member) {
  const auto& args = *static_cast<const LstmForward<Real>*>(context);
  ForGroups(args.shape, kGroupTiles, [&](int64_t model, int64_t first, int64_t end) {
    return ForwardGroup(args, model, first, end, member);
  });
}

// Processes all tiles, either in a team or in n_tasks tasks.
template <typename Real>
inline void RunTiles(const Parallel& parallel, const LstmShape& s, Team::Task team_task,
                     int64_t n_tasks, Parallel::Task task, void* context) {
  if (IsTogether(s, parallel)) {
    Team::Run(parallel, ShareCount<Real>(s.hidden_size), team_task, context, kSubnormalsOf<Real>);
  } else {
    RunTasks(parallel, n_tasks, task, context, kSubnormalsOf<Real>);
  }
}

template <typename Real>
inline void Forward(const LstmForward<Real>& args) {
  void* context = const_cast<LstmForward<Real>*>(&args);
  const LstmShape& s = args.shape;
  if (args.packed == nullptr) {
    RunTasks(args.parallel, s.n_models * s.n_directions * PackParts(s), &ForwardPackTask<Real>,
             context, kSubnormalsOf<Real>);
  }
  RunTiles<Real>(args.parallel, s, &ForwardTeamTask<Real>, s.n_models * TileCount(s.n_windows),
                 &ForwardTileTask<Real>, context);
}

template <typename Real>
inline void BackwardPackTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const bool with_x = args.grad_x != nullptr;
  const int64_t n_parts = PackParts(s), model_direction = index / n_parts;
  const int64_t n_panels = (BackwardVectors<Real>(s, with_x) + kPanelVectors - 1) / kPanelVectors;
  PackBackward(
      s, args.in, model_direction, with_x, PartOf(n_panels, index % n_parts, n_parts),
      static_cast<Real*>(args.workspace) + model_direction * LayoutBackward(s).packed_stride);
}

// The pieces of the workspace that belong to one slot of one model.
template <typename Real>
struct Slot {
  int64_t index;  // over all models
  Real* weights;  // of the first direction
  Real* head;

  Slot(const LstmBackward<Real>& args, const BackwardLayout& layout, int64_t model, int64_t tile) {
    const LstmShape& s = args.shape;
    Real* workspace = static_cast<Real*>(args.workspace);
    index = model * SlotCount(s) + SlotOf(tile, s);
    weights = workspace + layout.slots_offset + index * s.n_directions * layout.slot_stride;
    head = workspace + layout.heads_offset + index * layout.head_stride;
  }
};

// The counterpart of ForwardSome for the backward pass of tiles [first, end). For each slot, one
// member computes the gradients of the head; if that member has left the team, the first member
// computes them.
template <typename Real, typename SavedOf>
inline bool BackwardSome(const LstmBackward<Real>& call, int64_t model, int64_t first, int64_t end,
                         Real* scratch, SavedOf saved_of, Team::Member& member) {
  LstmBackward<Real> args = call;
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  const int64_t P = PooledSize(s), K = s.n_classes, H = s.hidden_size;
  const Blocks blocks = ShareOf<Real>(member, H);
  Real* workspace = static_cast<Real*>(args.workspace);
  Real* grad_pooled = workspace + layout.grad_pooled_offset;
  const Real* outer = args.grad_pooled;
  if (K > 0) args.grad_pooled = grad_pooled;
  TileRows rows[kGroupTiles];
  for (int64_t t = first; t < end; ++t) {
    const Slot<Real> slot(args, layout, model, t);
    const int64_t size = GradientBlockSize<Real>(H, s.n_channels);
    const bool is_owner = slot.index % member.n_members == member.index;
    rows[t - first] = RowsOfTile(s, args.in.lengths, t);
    if (IsFirstOfSlot(t, s)) {
      for (int64_t direction = 0; direction < s.n_directions; ++direction) {
        Zeroed(slot.weights + direction * layout.slot_stride + blocks.begin * size,
               (blocks.end - blocks.begin) * size);
      }
      if (is_owner) Zeroed(slot.head, layout.head_stride);
    }
    if (!is_owner) continue;
    for (int64_t n = TileBegin(t, s.n_windows); n < TileBegin(t + 1, s.n_windows) && K > 0; ++n) {
      const int64_t row = model * s.n_windows + n;
      Real* to = grad_pooled + row * P;
      for (int64_t p = 0; p < P; ++p) to[p] = outer == nullptr ? Real(0) : outer[row * P + p];
      HeadBackward(args.grad_logits + row * K, args.pooled + row * P,
                   args.in.weight_out + model * K * P, P, K, to, slot.head, slot.head + K * P);
    }
  }
  member.Wait();
  BackwardTile<Real> tiles[kGroupTiles];
  for (int64_t direction = 0; direction < s.n_directions; ++direction) {
    const Blocks share = ShareOf<Real>(member, H);  // all blocks once the team has dissolved
    for (int64_t t = first; t < end; ++t) {
      const Slot<Real> slot(args, layout, model, t);
      tiles[t - first].Begin(args, model, direction, rows[t - first], share, saved_of(t, direction),
                             scratch + (t - first) * layout.scratch_stride,
                             slot.weights + direction * layout.slot_stride);
    }
    const Real* weights = workspace + (model * s.n_directions + direction) * layout.packed_stride;
    if (!BackwardTiles(tiles, end - first, weights, s, member)) return false;
  }
  return true;
}

template <typename Real>
inline bool BackwardGroup(const LstmBackward<Real>& args, int64_t model, int64_t first, int64_t end,
                          int64_t scratch_index, Team::Member& member) {
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  auto SavedOf = [&](int64_t t, int64_t direction) {
    return args.saved + SavedOffset(s, model, direction, t);
  };
  Real* scratch = static_cast<Real*>(args.workspace) + layout.scratch_offset +
                  scratch_index * layout.scratch_stride;
  return BackwardSome(args, model, first, end, scratch, SavedOf, member);
}

// Calls tile(model, t) for the tiles of one slot. `index` counts the slots of all models.
template <typename F>
SENSORSEQ_INLINE void ForTilesOfSlot(const LstmShape& s, int64_t index, F tile) {
  const int64_t n_slots = SlotCount(s), slot = index % n_slots;
  for (int64_t t = SlotBegin(slot, s); t < SlotBegin(slot + 1, s); ++t) {
    tile(index / n_slots, t);
  }
}

template <typename Real>
inline void BackwardSlotTask(void* context, int64_t index) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  ForTilesOfSlot(args.shape, index, [&](int64_t model, int64_t t) {
    Team::Member alone{0, 1, nullptr};
    BackwardGroup(args, model, t, t + 1, index, alone);
  });
}

template <typename Real>
inline void BackwardTeamTask(void* context, Team::Member& member) {
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  ForGroups(args.shape, GroupTiles(args.shape), [&](int64_t model, int64_t first, int64_t end) {
    return BackwardGroup(args, model, first, end, 0, member);
  });
}

// Sums the slots, in order, for one block of units in one direction of a model, and writes the
// gradients in torch's layout. The task of a model's first block also writes the head's gradients.
template <typename Real>
inline void BackwardSumTask(void* context, int64_t index) {
  constexpr int64_t V = kLanes<Real>;
  const auto& args = *static_cast<const LstmBackward<Real>*>(context);
  const LstmShape& s = args.shape;
  const BackwardLayout layout = LayoutBackward(s);
  const int64_t H = s.hidden_size, C = s.n_channels, n_blocks = UnitBlocks<Real>(H);
  const int64_t n_slots = SlotCount(s), model_direction = index / n_blocks;
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
  RunTasks(args.parallel, n_packed * PackParts(s), &BackwardPackTask<Real>, context,
           kSubnormalsOf<Real>);
  RunTiles<Real>(args.parallel, s, &BackwardTeamTask<Real>, s.n_models * SlotCount(s),
                 &BackwardSlotTask<Real>, context);
  RunTasks(args.parallel, n_packed * UnitBlocks<Real>(s.hidden_size), &BackwardSumTask<Real>,
           context, kSubnormalsOf<Real>);
}

template <typename Real>
inline void StepPackTask(void* context, int64_t index) {
  auto& step = *static_cast<const LstmStep<Real>*>(context);
  const LstmShape& s = step.forward.shape;
  const int64_t n_tasks = s.n_models * s.n_directions * PackParts(s);
  if (index >= n_tasks) {
    BackwardPackTask<Real>(const_cast<LstmBackward<Real>*>(&step.backward), index - n_tasks);
    return;
  }
  PackForwardPart(s, step.forward.in, index,
                  static_cast<Real*>(step.backward.workspace) + LayoutStep(s).packed_offset);
}

// Runs the forward pass of some tiles and, while their state is in the cache, their backward pass.
template <typename Real>
inline bool StepGroup(const LstmStep<Real>& step, int64_t model, int64_t first, int64_t end,
                      int64_t scratch_index, Team::Member& member) {
  const LstmShape& s = step.forward.shape;
  const StepLayout layout = LayoutStep(s);
  Real* workspace = static_cast<Real*>(step.backward.workspace);
  Real* saved = workspace + layout.saved_offset + scratch_index * layout.saved_stride;
  auto SavedOf = [&](int64_t t, int64_t direction) {
    return saved + (t - first) * layout.saved_stride + direction * kTileRows * SavedSize(s);
  };
  if (!ForwardSome(step.forward, model, first, end, workspace + layout.packed_offset,
                   layout.packed_stride,
                   workspace + layout.scratch_offset + scratch_index * layout.scratch_stride,
                   layout.scratch_stride, SavedOf, member)) {
    return false;
  }
  for (int64_t t = first; t < end; ++t) {
    const int64_t slot = SlotOf(t, s), window = TileBegin(t, s.n_windows);
    if (slot % member.n_members != member.index) continue;
    step.between(step.context, model, slot, window, TileBegin(t + 1, s.n_windows) - window);
  }
  member.Wait();
  Real* scratch =
      workspace + layout.backward.scratch_offset + scratch_index * layout.backward.scratch_stride;
  return BackwardSome(step.backward, model, first, end, scratch, SavedOf, member);
}

template <typename Real>
inline void StepSlotTask(void* context, int64_t index) {
  const auto& step = *static_cast<const LstmStep<Real>*>(context);
  ForTilesOfSlot(step.forward.shape, index, [&](int64_t model, int64_t t) {
    Team::Member alone{0, 1, nullptr};
    StepGroup(step, model, t, t + 1, index, alone);
  });
}

template <typename Real>
inline void StepTeamTask(void* context, Team::Member& member) {
  const auto& step = *static_cast<const LstmStep<Real>*>(context);
  const LstmShape& s = step.forward.shape;
  ForGroups(s, GroupTiles(s), [&](int64_t model, int64_t first, int64_t end) {
    return StepGroup(step, model, first, end, 0, member);
  });
}

template <typename Real>
inline void Step(const LstmStep<Real>& step) {
  void* context = const_cast<LstmStep<Real>*>(&step);
  const LstmShape& s = step.forward.shape;
  const Parallel& parallel = step.backward.parallel;
  const int64_t n_packed = s.n_models * s.n_directions;
  RunTasks(parallel, 2 * n_packed * PackParts(s), &StepPackTask<Real>, context,
           kSubnormalsOf<Real>);
  RunTiles<Real>(parallel, s, &StepTeamTask<Real>, s.n_models * SlotCount(s), &StepSlotTask<Real>,
                 context);
  RunTasks(parallel, n_packed * UnitBlocks<Real>(s.hidden_size), &BackwardSumTask<Real>,
           const_cast<LstmBackward<Real>*>(&step.backward), kSubnormalsOf<Real>);
}
