// The forward pass of one direction of a tile of 8 windows, by one CTA or a cluster. The weights
// stay in registers and shared memory as the A operand of the tensor cores, and the CTAs exchange h
// in every step.
//
// In each step, a warp goes through six phases.
//   Input: the warp reads z = x_t W_ih + bias of its cells, two per lane, from the ring before h
//     arrives.
//   Wait: the warp waits until all of h_{t-1} has arrived in buffer t mod 2.
//   Product: the warp adds h_{t-1} W_hh to z.
//   Cells: the warp computes c_t and h_t of its group's units for 8 rows.
//   Send: the warp sends h_t to buffer (t + 1) mod 2 of every CTA of the cluster.
//   Record: the warp stores the values that only later kernels read.
//
// A warp's ring contains the input's contribution to the gates of the warp's own cells for a block
// of 8 or 4 steps. Projected input is fetched into the ring one step at a time. Otherwise, the warp
// multiplies x by W_ih for an entire block, because the 32 independent sums of 4 steps hide
// latencies that the sums of a single step would not hide.
//
// Two buffers suffice. A warp that writes to a buffer in step t has waited for all of h_{t-1}, and
// every warp of every CTA sends its part of h_{t-1} only after its product has read that buffer.
// For the same reason, a barrier's parity is unambiguous: a warp that has not passed a phase has
// not sent the data that the next phase needs. Both statements hold only if every warp sends to
// every CTA in every step, so rows that have ended send their last values. The h of the last step
// is not sent, so nothing is written to a CTA that has exited.
#pragma once

#include "cuda/recurrent.cuh"

namespace sensorseq::cuda {

// The layout of shared memory, in bytes from its start.
template <typename V>
struct ForwardShared {
  uint32_t state, weights, input_weights, x, of_warp, ring, total;
  SENSORSEQ_HD constexpr ForwardShared(int n_channels, bool is_projected)
      : state(kBarriersEnd), weights(0), input_weights(0), x(0), of_warp(0), ring(0), total(0) {
    weights = state + StateBytes(V::kHidden, V::kPlanes);
    input_weights = weights + V::kWarps * V::kInShared * kFragmentBytes;
    x = input_weights;
    if (!is_projected) {
      x += V::kWarps * static_cast<uint32_t>(InputWeightFloats(n_channels)) * 4;
      of_warp = static_cast<uint32_t>(InputRowFloats(V::kInputBlock, n_channels)) * kTileRows * 4;
    }
    ring = x + V::kWarps * of_warp;
    total = ring + V::kWarps * V::kInputBlock * kRingSlotBytes;
  }
};

// kIsProjected: whether x is already multiplied by W_ih.
template <typename M, typename V, bool kIsProjected>
class Forward : Recurrent<M, V> {
  using Base = Recurrent<M, V>;
  using Base::hidden_stride, Base::own_ring, Base::BarrierOf, Base::Fragment, Base::LoadOr;
  using Base::m, Base::s, Base::lane, Base::warp, Base::rank, Base::model, Base::direction;
  using Base::StateAt, Base::kIsExact;
  using Base::tile, Base::n_steps, Base::window, Base::length, Base::poison, Base::hidden_at;
  using typename Base::B, typename Base::F, typename Base::I, typename Base::L, typename Base::U;

 public:
  SENSORSEQ_BODY Forward(M& machine, const ForwardParams& params)
      : Base(machine, params.sizes), p(params), shared(s.n_channels, kIsProjected) {}

  SENSORSEQ_BODY void Run() {
    Place();
    LoadWeights();
    StartState();
    if (V::kCtas > 1 && warp == 0) {
      SENSORSEQ_UNROLL
      for (int b = 0; b < 2; ++b) {
        // The barrier expects one arrival that arms it, and one arrival from each warp of this CTA.
        m.InitBarrier(BarrierOf(b), 1 + V::kWarps);
      }
      m.FenceBarrierInit();
      SENSORSEQ_UNROLL
      for (int b = 0; b < 2; ++b) m.ArmBarrier(BarrierOf(b), StateArrivals<V>());
    }
    if (V::kCtas > 1) {
      m.SyncCluster();
    } else {
      m.SyncCta();
    }
    if (kIsProjected) {
      for (int step = 0; step < V::kInputBlock - 1; ++step) PrefetchGates(step);
    } else {
      PrefetchBlock(0);
    }
    for (int step = 0; step < n_steps; ++step) {
      F z[kGates][2];
      if (kIsProjected) {
        m.template WaitAsync<V::kInputBlock - 2>();
      } else if (step % V::kInputBlock == 0) {
        m.template WaitAsync<0>();
        m.SyncWarp();
        MultiplyBlock();
        m.SyncWarp();
        PrefetchBlock(step + V::kInputBlock);
      }
      Input(step, z);
      if (kIsProjected) PrefetchGates(step + V::kInputBlock - 1);
      const int buffer = step & 1;
      if (V::kCtas > 1 && step > 0) {
        m.WaitBarrier(BarrierOf(buffer), Parity(step));
        if (warp == 0) m.ArmBarrier(BarrierOf(buffer), StateArrivals<V>());
      }
      Product(buffer, z);
      F gates[kGates][2];
      U before[V::kPlanes];
      Cells(step, z, gates, before);
      // First sends the values that others wait for, then records the values that only later
      // kernels read. Without a cluster, sending h of the last step does no harm.
      if (V::kCtas == 1 || step + 1 < n_steps) Send(buffer ^ 1, BarrierOf(buffer ^ 1));
      if (V::kCtas == 1) m.SyncCta();
      Record(step, gates, before);
    }
    Finish();
  }

 private:
  // Finds a lane's unit and rows, the rows' lengths, and the offsets of the lane's elements.
  SENSORSEQ_BODY void Place() {
    group = rank * V::kWarps + warp;
    unit = UnitOfLane(lane) + group * kGroupUnits;
    has_unit = L(unit) < L{} + int64_t{s.hidden_size};
    const I first = RowOfLane(I(lane));
    I longest = I{};
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const L row = L(first + r) + int64_t{tile} * kTileRows;
      const auto exists = row < L{} + s.n_windows;
      window[r] = I(m.Select(exists, row, L{}));
      Bounds(m, LengthsOf(p.lengths, s, model), L(window[r]), exists, s.n_timesteps, &length[r],
             &poison[r]);
      longest = m.Select(length[r] > longest, length[r], longest);
      owns[r] = m.And(exists, has_unit);
    }
    n_steps = static_cast<int>(m.Largest(longest));
    own_ring = shared.ring + warp * V::kInputBlock * kRingSlotBytes;
    tile_saved = p.saved == nullptr ? nullptr : p.saved + this->SavedOfTile();
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) hidden_at[r] = this->HiddenAt(unit, r);
    hidden_stride = this->HiddenStride();
    if (!kIsProjected) PlaceInput();
  }

  SENSORSEQ_BODY void LoadWeights() {
    this->LoadFragments(p.packed, ForwardFragment<V>(group, 0), shared.weights);
    const auto n_floats = static_cast<uint32_t>(InputWeightFloats(s.n_channels));
    own_input = shared.input_weights + warp * n_floats * 4;
    if (!kIsProjected) {
      const int64_t from = (this->OfModel() * (V::kHidden / kGroupUnits) + group) *
                           static_cast<int64_t>(n_floats) / 4;
      for (uint32_t i = 0; i < n_floats / 4; i += kLanes) {
        const U at = lane + i;
        const auto inside = at < U{} + n_floats / 4;
        U word[4];
        m.LoadGlobalQuadIf(inside, word, p.packed_input, L(m.Select(inside, at, U{})) + from);
        m.StoreSharedQuadIf(inside, m.Select(inside, at, U{}) * 16 + own_input, word);
      }
    }
    m.SyncWarp();
  }

  SENSORSEQ_BODY void StartState() {
    // Every CTA needs all of h, so its warps divide all groups among themselves.
    for (int other = warp; other < V::kHidden / kGroupUnits; other += V::kWarps) {
      const U its_unit = UnitOfLane(lane) + other * kGroupUnits;
      F start[2];
      SENSORSEQ_UNROLL
      for (int r = 0; r < 2; ++r) {
        const auto has = m.And(OwnsRow(r), L(its_unit) < L{} + int64_t{s.hidden_size});
        const L at = StateAt(unit, r) + L(its_unit) - L(unit);
        start[r] = InRange(Masked(LoadOr(p.h_0, at, has, 0.0f), at, has));
      }
      U words[V::kPlanes];
      SplitHalves<V::kPlanes>(m, start[0] * kStateScale, start[1] * kStateScale, words);
      SENSORSEQ_UNROLL
      for (int plane = 0; plane < V::kPlanes; ++plane) {
        m.StoreMatrix(shared.state + StateMatrix(V::kHidden, V::kPlanes, 0, plane, other),
                      words[plane]);
      }
    }
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      h[r] = LoadOr(p.h_0, StateAt(unit, r), owns[r], 0.0f) + poison[r];
      c[r] = LoadOr(p.c_0, StateAt(unit, r), owns[r], 0.0f) + poison[r];
      mask[r] = InRange(LoadOr(p.recurrent_mask, StateAt(unit, r), owns[r], 1.0f)) * kStateScale;
      sum[r] = poison[r];
      largest[r] = F{} - 2.0f;  // |h| <= 1
      argmax[r] = I{} - 1;
    }
    PackOwn();
  }

  SENSORSEQ_BODY B OwnsRow(int r) {
    return L(RowOfLane(I(lane)) + r) + int64_t{tile} * kTileRows < L{} + s.n_windows;
  }
  SENSORSEQ_BODY F Masked(const F& value, const L& at, const B& has) {
    return p.recurrent_mask == nullptr ? value : value * LoadOr(p.recurrent_mask, at, has, 1.0f);
  }

  // Returns NaN if the scaled value exceeds the range of a half. Infinity would saturate a gate,
  // and the result would look right. From the second step on, |h| <= 1, so only the mask can exceed
  // the range.
  SENSORSEQ_BODY F InRange(const F& value) {
    return m.Select(m.Abs(value) > F{} + kHalfLimit / kStateScale, F{} + __builtin_nanf(""), value);
  }

  // Packs the lane's h for its two rows as halves: first the rounded values, then the remainders.
  SENSORSEQ_BODY void PackOwn() {
    SplitHalves<V::kPlanes>(m, h[0] * mask[0], h[1] * mask[1], packed_h);
  }

  // The address of the input's contribution to the four gates of a row. Only the lane itself reads
  // the values that it writes to this address.
  SENSORSEQ_BODY U RingAt(int slot, int r) const {
    return lane * 16 +
           (own_ring + static_cast<uint32_t>(slot) * kRingSlotBytes + r * kFragmentBytes);
  }
  SENSORSEQ_BODY void PrefetchGates(int step) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = m.And(has_unit, length[r] > I{} + step);
      m.CopyAsyncQuad(RingAt(step % V::kInputBlock, r), p.x,
                      m.Select(on, hidden_at[r] + int64_t{step} * hidden_stride, L{}) * 4, on);
    }
    m.CommitAsync();
  }
  SENSORSEQ_BODY void Input(int step, F z[kGates][2]) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      F gates[kGates];
      m.LoadSharedFloats(RingAt(step % V::kInputBlock, r), gates);
      SENSORSEQ_UNROLL
      for (int gate = 0; gate < kGates; ++gate) z[gate][r] = gates[gate];
    }
  }

  // Four lanes fetch a row's x. Each lane fetches every fourth word, so that the lanes read
  // adjacent words.
  SENSORSEQ_BODY void PlaceInput() {
    const I row = I(lane >> 2);
    // Lane i (0 to 3) has the lengths of rows 2 i and 2 i + 1 of the tile.
    const I even = m.Shuffle(length[0], row >> 1), odd = m.Shuffle(length[1], row >> 1);
    input_length = m.Select((row & 1) == I{}, even, odd);
    const int64_t x_model = s.n_x_models == 1 ? 0 : model;
    const L its_window = L(row) + (tile * kTileRows + x_model * s.n_windows);
    input_at = its_window * (s.n_timesteps * s.n_channels);
    own_x = shared.x + warp * shared.of_warp;
  }
  // Fetches a block of steps and stores them in processing order, which in direction 1 is the
  // reverse of the order in memory. Reads nothing beyond the row. Offsets are 64-bit, because a row
  // may have more words than an int can count.
  SENSORSEQ_BODY void PrefetchBlock(int step) {
    if (step < n_steps && s.n_channels > 0) {
      const auto C = static_cast<uint32_t>(s.n_channels);
      const uint32_t steps_on = 4 / C, channels_on = 4 % C;
      const I first = direction == 0 ? I{} + step : input_length - (step + V::kInputBlock);
      const U q = lane & 3u;
      U of = q / C, channel = q - of * C;
      const U row_at =
          (lane >> 2) * static_cast<uint32_t>(InputRowFloats(V::kInputBlock, s.n_channels) * 4) +
          own_x;
      for (uint32_t i = 0; i < V::kInputBlock * C; i += 4) {
        const I time = first + I(of);
        const auto on = m.And(time > I{} - 1, time < input_length);
        const U place = direction == 0 ? of : U{} + (V::kInputBlock - 1u) - of;
        m.CopyAsyncWord((channel * V::kInputBlock + place) * 4u + row_at, p.x,
                        m.Select(on, L(time) * C + (input_at + L(channel)), L{}), on);
        const auto wraps = channel + channels_on > U{} + (C - 1u);
        channel = channel + m.Select(wraps, U{} + (channels_on - C), U{} + channels_on);
        of = of + m.Select(wraps, U{} + (steps_on + 1u), U{} + steps_on);
      }
    }
    m.CommitAsync();
  }

  // Writes x W_ih + bias for a block of steps into the ring, 4 steps at a time.
  SENSORSEQ_BODY void MultiplyBlock() {
    const U weights = UnitOfLane(lane) * 16 + own_input;
    const auto row_bytes = static_cast<uint32_t>(InputRowFloats(V::kInputBlock, s.n_channels) * 4);
    SENSORSEQ_UNROLL_BY_1
    for (int part = 0; part < V::kInputBlock / 4; ++part) {
      F z[4][2][kGates];
      F gates[kGates], x[2][4];
      m.LoadSharedFloats(weights + static_cast<uint32_t>(s.n_channels) * 128, gates);
      SENSORSEQ_UNROLL
      for (int step = 0; step < 4; ++step) {
        SENSORSEQ_UNROLL
        for (int gate = 0; gate < kGates; ++gate) z[step][0][gate] = z[step][1][gate] = gates[gate];
      }
      const U values = RowOfLane(lane) * row_bytes + (own_x + 16u * part);
      SENSORSEQ_UNROLL_BY_1
      for (int channel = 0; channel < s.n_channels; ++channel) {
        const auto c = static_cast<uint32_t>(channel);
        m.LoadSharedFloats(weights + c * 128, gates);
        m.LoadSharedFloats(values + c * (V::kInputBlock * 4), x[0]);
        m.LoadSharedFloats(values + (c * (V::kInputBlock * 4) + row_bytes), x[1]);
        SENSORSEQ_UNROLL
        for (int step = 0; step < 4; ++step) {
          SENSORSEQ_UNROLL
          for (int r = 0; r < 2; ++r) {
            SENSORSEQ_UNROLL
            for (int gate = 0; gate < kGates; ++gate) {
              z[step][r][gate] = m.Fma(x[r][step], gates[gate], z[step][r][gate]);
            }
          }
        }
      }
      SENSORSEQ_UNROLL
      for (int step = 0; step < 4; ++step) {
        SENSORSEQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          U words[kGates];
          SENSORSEQ_UNROLL
          for (int gate = 0; gate < kGates; ++gate) words[gate] = m.AsUnsigned(z[step][r][gate]);
          m.StoreSharedQuad(RingAt(4 * part + step, r), words);
        }
      }
    }
  }

  SENSORSEQ_BODY void Product(int buffer, F z[kGates][2]) {
    F total[2][4] = {};
    SENSORSEQ_UNROLL
    for (int k_step = 0; k_step < V::kKSteps; k_step += 2) {
      U b[V::kPlanes][4];
      SENSORSEQ_UNROLL
      for (int plane = 0; plane < V::kPlanes; ++plane) {
        m.LoadMatrices(shared.state + StateMatrix(V::kHidden, V::kPlanes, buffer, plane,
                                                  k_step * kGroupsPerKStep),
                       b[plane]);
      }
      SENSORSEQ_UNROLL
      for (int j = 0; j < 2; ++j) {
        SENSORSEQ_UNROLL
        for (int t = 0; t < 2; ++t) {
          U a[V::kPlanes][kTileWords];
          SENSORSEQ_UNROLL
          for (int plane = 0; plane < V::kPlanes; ++plane) {
            Fragment(ForwardIndex<V>(plane, k_step + j, t), a[plane]);
          }
          Accumulate<V::kPlanes>(m, a, &b[0][2 * j], total[t]);
        }
      }
    }
    SENSORSEQ_UNROLL
    for (int t = 0; t < 2; ++t) {
      SENSORSEQ_UNROLL
      for (int i = 0; i < 4; ++i) {
        F value = total[t][i];
        if (kIsExact) value = m.Fma(value, F{} + kTruncation, value);
        F& gate = z[GateOfTileRow(t, (i >> 1) * 8)][i & 1];
        gate = m.Fma(value, F{} + kForwardUnscale, gate);
      }
    }
  }

  // Updates the cells. Also returns `before`, the words of h before the step.
  SENSORSEQ_BODY void Cells(int step, const F z[kGates][2], F gates[kGates][2],
                            U before[V::kPlanes]) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = length[r] > I{} + step;
      F c_new, h_new;
      Cell<kIsExact>(m, z[kInputGate][r], z[kForgetGate][r], z[kCellGate][r], z[kOutputGate][r],
                     c[r], &gates[0][r], &gates[1][r], &gates[2][r], &gates[3][r], &c_new, &h_new);
      c[r] = m.Select(on, c_new, c[r]);
      h[r] = m.Select(on, h_new, h[r]);
    }
    SENSORSEQ_UNROLL
    for (int plane = 0; plane < V::kPlanes; ++plane) before[plane] = packed_h[plane];
    PackOwn();
  }

  SENSORSEQ_BODY void Record(int step, const F gates[kGates][2], const U before[V::kPlanes]) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      sum[r] = sum[r] + m.Select(length[r] > I{} + step, h[r], F{});
    }
    if (HasMaximum() || p.hidden != nullptr) RecordRare(step);
    if (tile_saved != nullptr) {
      Save(step, gates, before);
    }
  }
  // Records the maximum and the hidden states. The maximum and the hidden states share one
  // condition, because each condition costs about ten cycles per step even if it is false.
  SENSORSEQ_BODY void RecordRare(int step) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = length[r] > I{} + step;
      if (HasMaximum()) {
        // NaN exceeds every number and is kept. Of equal values, the one at the earliest timestep
        // counts.
        const auto ties = m.And(h[r] == largest[r], B(direction != 0));
        const auto takes = m.And(on, m.Or(m.Or(h[r] > largest[r], ties), h[r] != h[r]));
        largest[r] = m.Select(takes, h[r], largest[r]);
        argmax[r] = m.Select(takes, I{} + step, argmax[r]);
      }
      if (p.hidden != nullptr) {
        m.StoreGlobalIf(m.And(on, has_unit), p.hidden, hidden_at[r] + int64_t{step} * hidden_stride,
                        h[r]);
      }
    }
  }
  SENSORSEQ_BODY bool HasMaximum() const {
    return s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  }

  SENSORSEQ_BODY void Save(int step, const F gates[kGates][2], const U before[V::kPlanes]) {
    float* saved = tile_saved + step * SavedStepFloats(V::kHidden);
    const L own = L(SavedOfLane(lane, group));
    const F early[4] = {gates[0][0], gates[0][1], gates[1][0], gates[1][1]};
    const F late[4] = {gates[2][0], gates[2][1], gates[3][0], gates[3][1]};
    const F states[4] = {c[0], c[1], m.AsFloat(before[0]), m.AsFloat(before[V::kPlanes - 1])};
    m.StoreGlobalFloats(saved, own, early);
    m.StoreGlobalFloats(saved, own + kSavedLate, late);
    m.StoreGlobalFloats(saved, own + kSavedCell, states);
  }

  SENSORSEQ_BODY void Send(int buffer, uint32_t barrier) {
    SENSORSEQ_UNROLL
    for (int plane = 0; plane < V::kPlanes; ++plane) {
      const uint32_t matrix =
          shared.state + StateMatrix(V::kHidden, V::kPlanes, buffer, plane, group);
      m.StoreMatrix(matrix, packed_h[plane]);
      if (V::kCtas > 1) {
        const U word = m.TransposeMatrix(packed_h[plane]);
        for (int i = 1; i < V::kCtas; ++i) {
          m.SendWord(WordOfMatrix(lane) + matrix, word, (rank + i) % V::kCtas, barrier);
        }
      }
    }
    if (V::kCtas > 1) {
      m.SyncWarp();
      m.Arrive(barrier);
    }
  }

  SENSORSEQ_BODY void Finish() {
    // Recomputes the row with a shuffle that compilers do not see through, so that no register
    // holds the row during all steps.
    const I first = m.Shuffle(RowOfLane(I(lane)), I(lane));
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const L row = L(first + r) + int64_t{tile} * kTileRows;
      const auto exists = row < L{} + s.n_windows;
      window[r] = I(m.Select(exists, row, L{}));
      owns[r] = m.And(exists, has_unit);
      m.StoreGlobalIf(owns[r], p.h_n, StateAt(unit, r), h[r]);
      m.StoreGlobalIf(owns[r], p.c_n, StateAt(unit, r), c[r]);
    }
    if (p.saved != nullptr) {
      m.StoreGlobalPair(tile_saved + s.n_timesteps * SavedStepFloats(V::kHidden),
                        L(ArgmaxOfLane(lane, group)), m.AsFloat(argmax[0]), m.AsFloat(argmax[1]));
    }
    if (s.pooling != Pooling::kNone) Pool();
    if (s.n_classes > 0) Head();
  }

  SENSORSEQ_BODY void Pool() {
    const int64_t width = int64_t{s.n_directions} * s.hidden_size;
    const bool is_both = s.pooling == Pooling::kMeanMax;
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto any = length[r] > I{};
      const L at = (L(window[r]) + model * s.n_windows) * (is_both ? 2 * width : width) +
                   int64_t{direction} * s.hidden_size + L(unit);
      const F steps = F(m.Select(any, length[r], I{} + 1));
      // If the row has no steps, the sum is still 0, or NaN if the length is out of range.
      const F mean = m.Select(any, sum[r] / steps, sum[r]);
      const F last = m.Select(any, h[r], sum[r]);
      const F most = m.Select(any, largest[r], sum[r]);
      if (s.pooling == Pooling::kLast) m.StoreGlobalIf(owns[r], p.pooled, at, last);
      if (s.pooling == Pooling::kMean || is_both) m.StoreGlobalIf(owns[r], p.pooled, at, mean);
      if (s.pooling == Pooling::kMax) m.StoreGlobalIf(owns[r], p.pooled, at, most);
      if (is_both) m.StoreGlobalIf(owns[r], p.pooled, at + width, most);
    }
  }

  // A tile is processed by one CTA for each rank and direction. The last of these CTAs to arrive
  // computes the logits of the tile's rows. Each logit is summed in a fixed order.
  SENSORSEQ_BODY void Head() {
    m.SyncCta();
    const int64_t tile_of_model = model * TileCount(s.n_windows) + tile;
    if (!m.IsLastOfCtas(p.arrived, tile_of_model, s.n_directions * V::kCtas, BarrierOf(2))) {
      return;
    }
    const int64_t width =
        int64_t{s.n_directions} * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
    for (int64_t i = warp; i < int64_t{kTileRows} * s.n_classes; i += V::kWarps) {
      const int64_t row = tile * int64_t{kTileRows} + i / s.n_classes, k = i % s.n_classes;
      if (row >= s.n_windows) break;
      const int64_t of_row = model * s.n_windows + row, of_class = model * s.n_classes + k;
      F total = F{};
      for (int64_t first = 0; first < width; first += kLanes) {
        const L at = L(lane) + first;
        const auto inside = at < L{} + width;
        const L safe = m.Select(inside, at, L{});
        total = m.Fma(m.LoadFreshIf(inside, p.pooled, safe + of_row * width),
                      m.LoadGlobalIf(inside, p.weight_out, safe + of_class * width), total);
      }
      for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        total = total + m.ShuffleXor(total, distance);
      }
      m.StoreGlobalIf(lane == U{}, p.logits, L{} + (of_row * s.n_classes + k),
                      total + m.Uniform(p.bias_out, of_class));
    }
  }

  const ForwardParams& p;
  const ForwardShared<V> shared;
  int group;
  U unit;
  float* tile_saved;
  L input_at;
  B has_unit, owns[2];
  I argmax[2], input_length;
  F c[2], h[2], mask[2], sum[2], largest[2];
  U packed_h[V::kPlanes];
  uint32_t own_input, own_x;
};

}  // namespace sensorseq::cuda
