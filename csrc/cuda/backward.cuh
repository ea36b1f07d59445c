// The backward pass of one direction of a tile of 8 windows, from the last step to the first. The
// transposed weights stay in registers and shared memory.
//
// In each step, a warp goes through three phases.
//   Cells: the warp computes the gate gradients of its own units from dh and dc.
//   Exchange: the warp writes these gate gradients as halves to the CTA's shared memory, then waits
//     at a barrier of the CTA.
//   Product: the warp computes dh of the step before. If one CTA has the entire layer, the warp
//     computes dh of its own units. In a cluster, the warp computes what the CTA's own gates
//     contribute to 16 * kTilesPerWarp units and sends the contributions to the owners of the
//     units, which add the contributions of all ranks in rank order.
//
// The gradients of one group and row are scaled by a common power of two, so that the largest of
// them lies in [1024, 2048). The scaling is undone when the products of the group's 32 gradients
// are added to the sum. A half has enough range for the values of one step, but not for the values
// of hundreds of steps.
//
// Two buffers of gate gradients and two of partial sums suffice. A single buffer of gradients would
// not suffice, because the other warps of a CTA do not wait for a warp whose outputs belong to
// other CTAs, and could overwrite gradients that this warp still reads.
#pragma once

#include "cuda/recurrent.cuh"

namespace sensorseq::cuda {

constexpr int kSavedRing = 4;  // number of steps in the ring of saved state
constexpr int kLargestExponent = 10;

template <typename V>
struct BackwardShared {
  uint32_t grads, scales, partials, weights, ring, total;
  // Bytes in the ring for one step and group. Each lane has 8 gates, 2 cells and 2 gradients of h.
  static constexpr uint32_t kGroupSlot = kLanes * kSavedWords * 4;
  static constexpr uint32_t kSlot = V::kGroupsPerWarp * kGroupSlot;
  SENSORSEQ_HD constexpr BackwardShared()
      : grads(kBarriersEnd), scales(0), partials(0), weights(0), ring(0), total(0) {
    scales = grads + GradBytes(V::kGroups, V::kPlanes);
    partials = scales + 2 * V::kGroups * kTileRows * 4;
    weights = partials + (V::kCtas == 1 ? 0 : 2 * V::kCtas * V::kGroups * kLanes * 8);
    ring = weights + V::kWarps * V::kInShared * kFragmentBytes;
    total = ring + V::kWarps * kSavedRing * kSlot;
  }
};

// kHasSequences: true if grad_hidden is read, grad_gates is written, or both.
template <typename M, typename V, bool kHasSequences>
class Backward : Recurrent<M, V> {
  using Base = Recurrent<M, V>;
  using Base::hidden_stride, Base::own_ring, Base::BarrierOf, Base::Fragment, Base::LoadOr;
  using Base::m, Base::s, Base::lane, Base::warp, Base::rank, Base::model, Base::direction;
  using Base::StateAt, Base::kIsExact;
  using Base::tile, Base::n_steps, Base::window, Base::length, Base::poison, Base::hidden_at;
  using typename Base::B, typename Base::F, typename Base::I, typename Base::L, typename Base::U;
  static constexpr int kOwn = V::kGroupsPerWarp;

 public:
  SENSORSEQ_BODY Backward(M& machine, const BackwardParams& params)
      : Base(machine, params.sizes), p(params) {}

  SENSORSEQ_BODY void Run() {
    Place();
    this->LoadFragments(p.packed, BackwardFragment<V>(rank, warp, 0), shared.weights);
    m.SyncWarp();
    StartState();
    if constexpr (V::kCtas > 1) {
      if (warp == 0) {
        SENSORSEQ_UNROLL
        for (int b = 0; b < 2; ++b) m.InitBarrier(BarrierOf(b), 1);
        m.FenceBarrierInit();
        SENSORSEQ_UNROLL
        for (int b = 0; b < 2; ++b) m.ArmBarrier(BarrierOf(b), PartialArrivals<V>());
      }
      m.SyncCluster();
    }
    for (int n = 0; n < kSavedRing - 1; ++n) Prefetch(n);
    // `n` counts the steps from the last one backwards; `step` counts them as in the forward pass.
    for (int n = 0; n < n_steps; ++n) {
      const int step = n_steps - 1 - n;
      const int buffer = n & 1;
      if (V::kCtas > 1 && n > 0) Receive(buffer, n, BarrierOf(buffer));
      // Waits for this step's state and for c of the step before.
      m.template WaitAsync<kSavedRing - 3>();
      Cells(step, n, buffer);
      m.SyncCta();
      Prefetch(n + kSavedRing - 1);
      Product(step, buffer, BarrierOf(buffer ^ 1));
    }
    if (V::kCtas > 1 && n_steps > 0) {
      const int buffer = n_steps & 1;
      Receive(buffer, n_steps, BarrierOf(buffer));
    }
    Finish();
  }

 private:
  SENSORSEQ_BODY int GroupOfCta(int own) const { return warp * kOwn + own; }

  SENSORSEQ_BODY void Place() {
    const I first = RowOfLane(I(lane));
    I longest = I{};
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const L row = L(first + r) + int64_t{tile} * kTileRows;
      const auto exists = row < L{} + s.n_windows;
      window[r] = I(m.Select(exists, row, L{}));
      // Calls with sequences have one list of lengths for all models, and there is no register to
      // spare for a list per model.
      const int64_t* lengths = kHasSequences ? p.lengths : LengthsOf(p.lengths, s, model);
      Bounds(m, lengths, L(window[r]), exists, s.n_timesteps, &length[r], &poison[r]);
      longest = m.Select(length[r] > longest, length[r], longest);
      SENSORSEQ_UNROLL
      for (int own = 0; own < kOwn; ++own) {
        owns[own][r] = m.And(exists, L(Unit(own)) < L{} + int64_t{s.hidden_size});
      }
      hidden_at[r] = this->HiddenAt(Unit(0), r);
    }
    n_steps = static_cast<int>(m.Largest(longest));
    hidden_stride = this->HiddenStride();
    saved = p.saved + this->SavedOfTile();
    grads = p.grads + this->SavedOfTile();
    own_ring = shared.ring + warp * kSavedRing * BackwardShared<V>::kSlot;
  }
  SENSORSEQ_BODY int Group(int own) const { return rank * V::kGroups + GroupOfCta(own); }
  SENSORSEQ_BODY U Unit(int own) { return UnitOfLane(lane) + Group(own) * kGroupUnits; }
  // hidden_at is the offset for the warp's first group; the next group is 8 elements further on.
  SENSORSEQ_BODY L HiddenOf(int step, int own, int r) {
    return hidden_at[r] + (step * hidden_stride + own * kGroupUnits);
  }

  SENSORSEQ_BODY void StartState() {
    const int64_t width = int64_t{s.n_directions} * s.hidden_size;
    const bool is_both = s.pooling == Pooling::kMeanMax;
    const int64_t pooled_width = is_both ? 2 * width : width;
    most = 0.0f + F{};
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      F last_argmax[2], cell[4] = {};
      m.LoadGlobalPair(saved + s.n_timesteps * SavedStepFloats(V::kHidden),
                       L(ArgmaxOfLane(lane, Group(own))), &last_argmax[0], &last_argmax[1]);
      if (n_steps > 0) {
        m.LoadGlobalFloats(saved + (n_steps - 1) * SavedStepFloats(V::kHidden) + kSavedCell,
                           L(SavedOfLane(lane, Group(own))), cell);
      }
      SENSORSEQ_UNROLL
      for (int r = 0; r < 2; ++r) {
        const L state = StateAt(Unit(own), r);
        c[own][r] = cell[r];
        dh[own][r] = LoadOr(p.grad_h_n, state, owns[own][r], 0.0f) + poison[r];
        dc[own][r] = LoadOr(p.grad_c_n, state, owns[own][r], 0.0f) + poison[r];
        mask[own][r] = LoadOr(p.recurrent_mask, state, owns[own][r], 1.0f);
        argmax[own][r] = m.AsInt(last_argmax[r]);
        d_mean[own][r] = d_max[own][r] = F{};
        if (s.pooling == Pooling::kNone || p.grad_pooled == nullptr) continue;
        const auto any = m.And(owns[own][r], length[r] > I{});
        const L pooled_at = (L(window[r]) + model * s.n_windows) * pooled_width +
                            int64_t{direction} * s.hidden_size + L(Unit(own));
        const F first = LoadOr(p.grad_pooled, pooled_at, any, 0.0f);
        if (s.pooling == Pooling::kLast) dh[own][r] = dh[own][r] + first;
        if (s.pooling == Pooling::kMean || is_both) {
          const F steps = F(m.Select(length[r] > I{}, length[r], I{} + 1));
          d_mean[own][r] = first / steps;
        }
        if (s.pooling == Pooling::kMax) d_max[own][r] = first;
        if (is_both) d_max[own][r] = LoadOr(p.grad_pooled, pooled_at + width, any, 0.0f);
      }
    }
  }

  // Fetches the inputs of a step's cells into the lane's own part of the ring, which no other lane
  // reads.
  SENSORSEQ_BODY void Prefetch(int n) {
    const int step = n_steps - 1 - n;
    if (step >= 0) {
      const float* from = saved + step * SavedStepFloats(V::kHidden);
      SENSORSEQ_UNROLL
      for (int own = 0; own < kOwn; ++own) {
        const U slot = Slot(n, own);
        const L at = L(SavedOfLane(lane, Group(own)));
        m.CopyAsyncQuad(slot, from, at, B(true));
        m.CopyAsyncQuad(slot + 16, from, at + kSavedLate, B(true));
        m.CopyAsyncPair(slot + 32, from, at + kSavedCell);
        if constexpr (kHasSequences) PrefetchGrads(step, own, slot);
      }
    }
    m.CommitAsync();
  }
  SENSORSEQ_BODY void PrefetchGrads(int step, int own, const U& slot) {
    if (p.grad_hidden == nullptr) return;
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = m.And(owns[own][r], length[r] > I{} + step);
      m.CopyAsyncWord(slot + (40 + 4 * r), p.grad_hidden, m.Select(on, HiddenOf(step, own, r), L{}),
                      on);
    }
  }
  SENSORSEQ_BODY U Slot(int n, int own) {
    return lane * (kSavedWords * 4) +
           (own_ring + static_cast<uint32_t>(n % kSavedRing) * BackwardShared<V>::kSlot +
            own * BackwardShared<V>::kGroupSlot);
  }

  // Computes the gradients of the gates at one step, beginning with the values that other warps
  // wait for. The warp's groups are processed side by side, so that one group's loads and shuffles
  // overlap with those of the other group.
  SENSORSEQ_BODY void Cells(int step, int n, int buffer) {
    F early[kOwn][4], late[kOwn][4], cell[kOwn][2], from_above[kOwn][2] = {};
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      const U slot = Slot(n, own);
      m.LoadSharedFloats(slot, early[own]);
      m.LoadSharedFloats(slot + 16, late[own]);
      if (step > 0) {
        m.LoadSharedPair(Slot(n + 1, own) + 32, &cell[own][0], &cell[own][1]);
      } else {
        SENSORSEQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          cell[own][r] = LoadOr(p.c_0, StateAt(Unit(own), r), owns[own][r], 0.0f);
        }
      }
      if (kHasSequences && p.grad_hidden != nullptr) {
        m.LoadSharedPair(slot + 40, &from_above[own][0], &from_above[own][1]);
      }
    }
    F d[kOwn][kGates][2], largest[kOwn][2];
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      SENSORSEQ_UNROLL
      for (int r = 0; r < 2; ++r) {
        const auto on = length[r] > I{} + step;
        const F i = early[own][r], f = early[own][2 + r], g = late[own][r], o = late[own][2 + r];
        const F is_max = m.Select(argmax[own][r] == I{} + step, d_max[own][r], F{});
        const F grad = dh[own][r] + (d_mean[own][r] + is_max + from_above[own][r]);
        const F tanh_c = Tanh<kIsExact>(m, c[own][r]);
        const F dc_now = m.Fma(grad * o, 1.0f - tanh_c * tanh_c, dc[own][r]);
        F* of_cell = &d[own][0][r];
        of_cell[2 * kInputGate] = m.Select(on, dc_now * g * (i * (1.0f - i)), F{});
        of_cell[2 * kForgetGate] = m.Select(on, dc_now * cell[own][r] * (f * (1.0f - f)), F{});
        of_cell[2 * kCellGate] = m.Select(on, dc_now * i * (1.0f - g * g), F{});
        of_cell[2 * kOutputGate] = m.Select(on, grad * tanh_c * (o * (1.0f - o)), F{});
        dc[own][r] = m.Select(on, dc_now * f, dc[own][r]);
        c[own][r] = m.Select(on, cell[own][r], c[own][r]);
        largest[own][r] = m.Max(m.Max(m.Abs(of_cell[0]), m.Abs(of_cell[2])),
                                m.Max(m.Abs(of_cell[4]), m.Abs(of_cell[6])));
      }
    }
    // the units of a row are in the lanes with the same q
    SENSORSEQ_UNROLL
    for (int distance = 4; distance < kLanes; distance *= 2) {
      SENSORSEQ_UNROLL
      for (int own = 0; own < kOwn; ++own) {
        SENSORSEQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          largest[own][r] = m.Max(largest[own][r], m.ShuffleXor(largest[own][r], distance));
        }
      }
    }
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) Exchange(own, buffer, d[own], largest[own]);
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) Store(step, own, d[own]);
  }

  SENSORSEQ_BODY void Store(int step, int own, const F d[kGates][2]) {
    float* to = grads + step * SavedStepFloats(V::kHidden);
    const L at = L(SavedOfLane(lane, Group(own)));
    const F early[4] = {d[0][0], d[0][1], d[1][0], d[1][1]};
    const F late[4] = {d[2][0], d[2][1], d[3][0], d[3][1]};
    m.StoreGlobalFloats(to, at, early);
    m.StoreGlobalFloats(to, at + kSavedLate, late);
    if constexpr (kHasSequences) StoreGates(step, own, d);
  }
  SENSORSEQ_BODY void StoreGates(int step, int own, const F d[kGates][2]) {
    if (p.grad_gates == nullptr) return;
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = m.And(owns[own][r], length[r] > I{} + step);
      const F gates[4] = {d[0][r], d[1][r], d[2][r], d[3][r]};
      m.StoreGlobalFloatsIf(on, p.grad_gates, m.Select(on, HiddenOf(step, own, r), L{}) * 4, gates);
    }
  }

  SENSORSEQ_BODY void Exchange(int own, int buffer, const F d[kGates][2], const F largest[2]) {
    F scale[2], back[2];
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      most = m.Max(most, largest[r]);
      m.ScaleTo(largest[r], kLargestExponent, &scale[r], &back[r]);
    }
    SENSORSEQ_UNROLL
    for (int gate = 0; gate < kGates; ++gate) {
      U words[V::kPlanes];
      SplitHalves<V::kPlanes>(m, d[gate][0] * scale[0], d[gate][1] * scale[1], words);
      SENSORSEQ_UNROLL
      for (int plane = 0; plane < V::kPlanes; ++plane) packed[plane][gate] = words[plane];
    }
    SENSORSEQ_UNROLL
    for (int plane = 0; plane < V::kPlanes; ++plane) {
      m.StoreMatrices(
          shared.grads + GradMatrix(V::kGroups, V::kPlanes, buffer, plane, GroupOfCta(own), 0),
          packed[plane]);
    }
    const U at = ScaleAt(buffer, GroupOfCta(own));
    m.StoreSharedPairIf(lane < U{} + 4u, at, back[0] * (1.0f / kWeightScale),
                        back[1] * (1.0f / kWeightScale));
  }
  SENSORSEQ_BODY U ScaleAt(int buffer, int group) {
    return RowOfLane(lane) * 4 + (shared.scales + (buffer * V::kGroups + group) * kTileRows * 4);
  }

  SENSORSEQ_BODY void Product(int step, int buffer, uint32_t barrier) {
    F total[V::kTilesPerWarp][4] = {};
    SENSORSEQ_UNROLL
    for (int group = 0; group < V::kGroups; ++group) {
      U b[V::kPlanes][4];
      F back[2];
      SENSORSEQ_UNROLL
      for (int plane = 0; plane < V::kPlanes; ++plane) {
        m.LoadMatrices(shared.grads + GradMatrix(V::kGroups, V::kPlanes, buffer, plane, group, 0),
                       b[plane]);
      }
      m.LoadSharedPair(ScaleAt(buffer, group), &back[0], &back[1]);
      SENSORSEQ_UNROLL
      for (int t = 0; t < V::kTilesPerWarp; ++t) {
        F block[4] = {};
        SENSORSEQ_UNROLL
        for (int j = 0; j < kKStepsPerGroup; ++j) {
          U a[V::kPlanes][kTileWords];
          SENSORSEQ_UNROLL
          for (int plane = 0; plane < V::kPlanes; ++plane) {
            Fragment(BackwardIndex<V>(plane, t, group * kKStepsPerGroup + j), a[plane]);
          }
          Accumulate<V::kPlanes>(m, a, &b[0][2 * j], block);
        }
        SENSORSEQ_UNROLL
        for (int i = 0; i < 4; ++i) total[t][i] = m.Fma(block[i], back[i & 1], total[t][i]);
      }
    }
    if (kIsExact) {  // otherwise dh would shrink slightly in every step
      SENSORSEQ_UNROLL
      for (int t = 0; t < V::kTilesPerWarp; ++t) {
        SENSORSEQ_UNROLL
        for (int i = 0; i < 4; ++i) {
          total[t][i] = m.Fma(total[t][i], F{} + kTruncation, total[t][i]);
        }
      }
    }
    if constexpr (V::kCtas == 1) {
      F fresh[2][2] = {{total[0][0], total[0][1]}, {total[0][2], total[0][3]}};
      SENSORSEQ_UNROLL
      for (int own = 0; own < kOwn; ++own) Take(step, own, fresh[own]);
    } else {
      // The address from which an owner of the units reads this CTA's partial sums.
      const U at = PartialAt(buffer ^ 1, rank, FirstGroupSent<V>(warp));
      SENSORSEQ_UNROLL
      for (int i = 0; i < 2 * V::kTilesPerWarp; ++i) {
        m.SendPair(at + static_cast<uint32_t>(i % V::kGroups) * kPartialBytes,
                   total[i / 2][2 * (i % 2)], total[i / 2][2 * (i % 2) + 1],
                   FirstOwner<V>(warp) + i / V::kGroups, barrier);
      }
    }
  }
  SENSORSEQ_BODY U PartialAt(int buffer, int from, int group) {
    return lane * 8 + (shared.partials +
                       static_cast<uint32_t>(((buffer * V::kCtas + from) * V::kGroups + group)) *
                           kPartialBytes);
  }

  // Adds the ranks' partial sums of dh in rank order. The partial sums were sent in step n - 1
  // (counted backwards).
  SENSORSEQ_BODY void Receive(int buffer, int n, uint32_t barrier) {
    m.WaitBarrier(barrier, Parity(n));
    if (warp == 0) m.ArmBarrier(barrier, PartialArrivals<V>());
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      F fresh[2] = {};
      SENSORSEQ_UNROLL
      for (int from = 0; from < V::kCtas; ++from) {
        F share[2];
        m.LoadSharedPair(PartialAt(buffer, from, GroupOfCta(own)), &share[0], &share[1]);
        SENSORSEQ_UNROLL
        for (int r = 0; r < 2; ++r) fresh[r] = fresh[r] + share[r];
      }
      Take(n_steps - n, own, fresh);
    }
  }
  // Stores dh of the step before `step`, with the recurrent mask applied.
  SENSORSEQ_BODY void Take(int step, int own, const F fresh[2]) {
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const auto on = length[r] > I{} + step;
      dh[own][r] = m.Select(on, fresh[r] * mask[own][r], dh[own][r]);
    }
  }

  SENSORSEQ_BODY void Finish() {
    SENSORSEQ_UNROLL
    for (int own = 0; own < kOwn; ++own) {
      SENSORSEQ_UNROLL
      for (int r = 0; r < 2; ++r) {
        if (p.grad_h_0 != nullptr) {
          m.StoreGlobalIf(owns[own][r], p.grad_h_0, StateAt(Unit(own), r), dh[own][r]);
        }
        if (p.grad_c_0 != nullptr) {
          m.StoreGlobalIf(owns[own][r], p.grad_c_0, StateAt(Unit(own), r), dc[own][r]);
        }
      }
    }
    for (int distance = 1; distance < 4; distance *= 2) {
      most = m.Max(most, m.ShuffleXor(most, distance));
    }
    m.AtomicMaxBits(p.largest, model * s.n_directions + direction, most);
  }

  const BackwardParams& p;
  const BackwardShared<V> shared;
  const float* saved;
  float* grads;
  I argmax[kOwn][2];
  B owns[kOwn][2];
  F c[kOwn][2], dc[kOwn][2], dh[kOwn][2], mask[kOwn][2], d_mean[kOwn][2], d_max[kOwn][2], most;
  U packed[V::kPlanes][kGates];
};

}  // namespace sensorseq::cuda
