// Computes the gradients of the layer's weights after the backward pass. Each gradient is a sum
// over windows and steps of products of gate gradients with inputs of the gates. The sums are split
// into slots, which SumSlots adds up.
//
// The saved words are already laid out as fragments. For two steps, a lane's i and f are one A
// fragment, its g and o are another, and its group's h is a B fragment. Nothing is transposed, and
// no lane needs another lane's words.
#pragma once

#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/params.h"

namespace sensorseq::cuda {

constexpr int kGradExponent = 12;  // exponent of a call's largest gate gradient after scaling
constexpr int kColumnGroups = 4;   // column groups per warp

// The lengths and windows of a lane's two rows of a tile, and the number of steps of the tile's
// longest row.
template <typename M>
struct TileSteps {
  typename M::I length[2];
  typename M::L window[2];
  int64_t n_steps;

  SENSORSEQ_BODY TileSteps(M& m, const Sizes& s, const int64_t* lengths, int64_t tile) {
    using I = typename M::I;
    using L = typename M::L;
    I longest = I{};
    SENSORSEQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const L row = L(RowOfLane(I(m.Lane())) + r) + tile * kTileRows;
      const auto exists = row < L{} + s.n_windows;
      typename M::F poison;
      window[r] = m.Select(exists, row, L{});
      Bounds(m, lengths, window[r], exists, s.n_timesteps, &length[r], &poison);
      longest = m.Select(length[r] > longest, length[r], longest);
    }
    n_steps = m.Largest(longest);
  }
};

// The tiles and steps of a slot. If there are too few windows for all slots, some slots
// are empty.
struct Slot {
  int64_t first_tile, last_tile, first_step, last_step;
  SENSORSEQ_HD Slot(const Sizes& s, int64_t n_windows, int64_t slot) {
    const int64_t time_slots = TimeSlots(s.n_timesteps), tile_slots = TileSlots(n_windows);
    const int64_t of_tiles = slot / time_slots, of_time = slot % time_slots;
    const bool exists = of_tiles < tile_slots;
    first_tile = SlotBegin(of_tiles, tile_slots, TileCount(n_windows));
    last_tile = exists ? SlotBegin(of_tiles + 1, tile_slots, TileCount(n_windows)) : first_tile;
    first_step = TimeSlotBegin(of_time, time_slots, s.n_timesteps);
    last_step = TimeSlotBegin(of_time + 1, time_slots, s.n_timesteps);
  }
};
SENSORSEQ_HD int64_t WindowsOf(const WeightGradParams& p, int64_t model) {
  return p.n_windows == nullptr ? p.sizes.n_windows : p.n_windows[model];
}
SENSORSEQ_HD int64_t SlotCount(const Sizes& s) {
  return TileSlots(s.n_windows) * TimeSlots(s.n_timesteps);
}

// Gradients of weight_hh. A warp computes a block of 32 rows (the gates of one group) by 8 *
// kColumnGroups units.
template <int kPlanes>
struct HiddenGrad {
  using Params = WeightGradParams;

  SENSORSEQ_HD static int Groups(const Sizes& s) { return s.padded_hidden / kGroupUnits; }
  SENSORSEQ_HD static int Warps(const Sizes& s) { return Groups(s) * Groups(s) / kColumnGroups; }
  SENSORSEQ_HD static int64_t Slots(const Sizes& s) { return SlotCount(s); }
  SENSORSEQ_HD static int64_t Models(const Sizes& s) { return s.n_models * s.n_directions; }

  // The warps of a CTA process different rows of the same block of columns, whose h they all read.
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const WeightGradParams& p, int64_t of_model,
                                 int64_t slot_index, int warp) {
    using F = typename M::F;
    using L = typename M::L;
    using U = typename M::U;
    const Sizes& s = p.sizes;
    const L lane = L(m.Lane());
    const int64_t step_floats = SavedStepFloats(s.padded_hidden);
    const int64_t model = of_model / s.n_directions;
    const int group = warp % Groups(s), columns = warp / Groups(s) * kColumnGroups;
    const Slot slot(s, WindowsOf(p, model), slot_index);
    const int64_t* lengths = LengthsOf(p.lengths, s, model);
    F scale, back;
    m.ScaleTo(m.UniformBits(p.largest, of_model), kGradExponent, &scale, &back);
    F total[kColumnGroups][2][4] = {};
    for (int64_t tile = slot.first_tile; tile < slot.last_tile; ++tile) {
      const TileSteps<M> steps(m, s, lengths, tile);
      const int64_t of_tile = (of_model * TileCount(s.n_windows) + tile) *
                              SavedTileFloats(s.n_timesteps, s.padded_hidden);
      const int64_t last = steps.n_steps < slot.last_step ? steps.n_steps : slot.last_step;
      const float* grads = p.grads + of_tile + slot.first_step * step_floats;
      const float* saved = p.saved + of_tile + slot.first_step * step_floats;
      SENSORSEQ_UNROLL_BY_2
      for (int64_t step = slot.first_step; step < last;
           step += 2, grads += 2 * step_floats, saved += 2 * step_floats) {
        U a[2][kPlanes][kTileWords];      // A fragments of the two tiles
        U b[kColumnGroups][kPlanes * 4];  // planes are four words apart, as Accumulate needs them
        SENSORSEQ_UNROLL
        for (int later = 0; later < 2; ++later) {
          const bool there = step + later < last;
          const int64_t of_step = there ? later * step_floats : 0;
          SENSORSEQ_UNROLL
          for (int t = 0; t < 2; ++t) {
            F grad[4];  // gradients of two gates, for two rows each
            m.LoadGlobalFloats(grads, SavedOfLane(lane, group) + kSavedPart * t + of_step, grad);
            SENSORSEQ_UNROLL
            for (int gate = 0; gate < 2; ++gate) {
              U words[kPlanes];
              const F factor = there ? scale : F{};
              SplitHalves<kPlanes>(m, grad[2 * gate] * factor, grad[2 * gate + 1] * factor, words);
              SENSORSEQ_UNROLL
              for (int plane = 0; plane < kPlanes; ++plane) {
                a[t][plane][2 * later + gate] = words[plane];
              }
            }
          }
          SENSORSEQ_UNROLL
          for (int column = 0; column < kColumnGroups; ++column) {
            F words[2];
            m.LoadGlobalPair(saved,
                             SavedOfLane(lane, columns + column) + (kSavedCell + 2) + of_step,
                             &words[0], &words[1]);
            SENSORSEQ_UNROLL
            for (int plane = 0; plane < kPlanes; ++plane) {
              b[column][4 * plane + later] = m.AsUnsigned(words[plane]);
            }
          }
        }
        SENSORSEQ_UNROLL
        for (int column = 0; column < kColumnGroups; ++column) {
          SENSORSEQ_UNROLL
          for (int t = 0; t < 2; ++t) Accumulate<kPlanes>(m, a[t], b[column], total[column][t]);
        }
      }
    }
    const int64_t n_rows = s.n_models * s.n_directions * kGates * s.hidden_size;
    const L size = L{} + int64_t{s.hidden_size};
    const L unit = (lane >> 2) + group * kGroupUnits;
    SENSORSEQ_UNROLL
    for (int column = 0; column < kColumnGroups; ++column) {
      SENSORSEQ_UNROLL
      for (int t = 0; t < 2; ++t) {
        SENSORSEQ_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int gate = GateOfTileRow(t, (i >> 1) * 8);
          const L from = ((lane & 3) << 1) + ((columns + column) * kGroupUnits + (i & 1));
          const L row = unit + ((of_model * kGates + gate) * s.hidden_size + slot_index * n_rows);
          m.StoreGlobalIf(m.And(unit < size, from < size), p.slots, row * s.hidden_size + from,
                          total[column][t][i] * back * (1.0f / kStateScale));
        }
      }
    }
  }
};

// Gradients of weight_ih and the bias, in float. A warp computes the sums of one group's gates for
// one block of channels. The warps of a group are neighbors because they read the same gradients.
struct InputGrad {
  using Params = WeightGradParams;
  static constexpr int kBlock = 4;  // channels

  SENSORSEQ_HD static int Blocks(const Sizes& s) {
    return s.n_channels > kBlock ? (s.n_channels + kBlock - 1) / kBlock : 1;
  }
  SENSORSEQ_HD static int Warps(const Sizes& s) {
    return s.padded_hidden / kGroupUnits * Blocks(s);
  }
  SENSORSEQ_HD static int64_t Slots(const Sizes& s) { return SlotCount(s); }
  SENSORSEQ_HD static int64_t Models(const Sizes& s) { return s.n_models * s.n_directions; }

  // Each number of channels has its own loop, which need not check whether a channel exists.
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const WeightGradParams& p, int64_t of_model, int64_t slot,
                                 int warp) {
    const int group = warp / Blocks(p.sizes), first = warp % Blocks(p.sizes) * kBlock;
    switch (p.sizes.n_channels - first) {
      case 0:
        return Sum<0>(m, p, of_model, slot, group, first);
      case 1:
        return Sum<1>(m, p, of_model, slot, group, first);
      case 2:
        return Sum<2>(m, p, of_model, slot, group, first);
      case 3:
        return Sum<3>(m, p, of_model, slot, group, first);
      default:
        return Sum<kBlock>(m, p, of_model, slot, group, first);
    }
  }

 private:
  template <int kChannels, typename M>
  SENSORSEQ_BODY static void Sum(M& m, const WeightGradParams& p, int64_t of_model,
                                 int64_t slot_index, int group, int first) {
    using B = typename M::B;
    using F = typename M::F;
    using I = typename M::I;
    using L = typename M::L;
    const Sizes& s = p.sizes;
    const L lane = L(m.Lane());
    const int64_t model = of_model / s.n_directions, direction = of_model % s.n_directions;
    const Slot slot(s, WindowsOf(p, model), slot_index);
    const int64_t* lengths = LengthsOf(p.lengths, s, model);
    const int64_t x_model = s.n_x_models == 1 ? 0 : model;
    F total[kGates][kChannels + 1] = {};  // the bias last
    for (int64_t tile = slot.first_tile; tile < slot.last_tile; ++tile) {
      const TileSteps<M> steps(m, s, lengths, tile);
      const float* grads = p.grads + (of_model * TileCount(s.n_windows) + tile) *
                                         SavedTileFloats(s.n_timesteps, s.padded_hidden);
      const int64_t last = steps.n_steps < slot.last_step ? steps.n_steps : slot.last_step;
      SENSORSEQ_UNROLL_BY_2
      for (int64_t step = slot.first_step; step < last; ++step) {
        const float* from = grads + step * SavedStepFloats(s.padded_hidden);
        F grad[2][4];
        m.LoadGlobalFloats(from, SavedOfLane(lane, group), grad[0]);
        m.LoadGlobalFloats(from, SavedOfLane(lane, group) + kSavedPart, grad[1]);
        SENSORSEQ_UNROLL
        for (int r = 0; r < 2; ++r) {
          // x beyond a row's length is not read. The first step's x, which always exists, is read
          // instead and ignored.
          const I now = I{} + static_cast<int>(step);
          const auto on = steps.length[r] > now;
          const I time = direction == 0 ? now : steps.length[r] - now - 1;
          const L row = (steps.window[r] + x_model * s.n_windows) * (s.n_timesteps * s.n_channels) +
                        L(m.Select(on, time, I{})) * s.n_channels;
          SENSORSEQ_UNROLL
          for (int channel = 0; channel < kChannels; ++channel) {
            const F there = m.LoadGlobalIf(B(true), p.x, row + (first + channel));
            const F x = m.Select(on, there, F{});
            SENSORSEQ_UNROLL
            for (int gate = 0; gate < kGates; ++gate) {
              total[gate][channel] =
                  m.Fma(grad[gate >> 1][(gate & 1) * 2 + r], x, total[gate][channel]);
            }
          }
          SENSORSEQ_UNROLL
          for (int gate = 0; gate < kGates; ++gate) {
            total[gate][kChannels] = total[gate][kChannels] + grad[gate >> 1][(gate & 1) * 2 + r];
          }
        }
      }
    }
    const int64_t n_rows = s.n_models * s.n_directions * kGates * s.hidden_size;
    const L unit = (lane >> 2) + group * kGroupUnits;
    const auto writes = m.And(unit < L{} + int64_t{s.hidden_size}, (lane & 3) == L{});
    SENSORSEQ_UNROLL
    for (int gate = 0; gate < kGates; ++gate) {
      const L row = unit + ((of_model * kGates + gate) * s.hidden_size + slot_index * n_rows);
      SENSORSEQ_UNROLL
      for (int column = 0; column <= kChannels; ++column) {
        if (column == kChannels && first > 0) continue;  // the bias belongs to the first block
        F sum = total[gate][column];
        for (int distance = 1; distance < 4; distance *= 2) {
          sum = sum + m.ShuffleXor(sum, distance);
        }
        const int64_t at = column == kChannels ? s.n_channels : first + column;
        m.StoreGlobalIf(writes, p.slots, row * (s.n_channels + 1) + at, sum);
      }
    }
  }
};

// Adds up slots in order; each lane computes one element.
struct SumSlots : PerElement<SumSlots, SumSlotsParams> {
  SENSORSEQ_HD static int64_t Elements(const SumSlotsParams& p) {
    return p.n_rows * (p.n_columns + (p.has_bias ? 1 : 0));
  }
  template <typename M, typename L = typename M::L>
  SENSORSEQ_BODY static void Element(M& m, const SumSlotsParams& p, const L& at,
                                     const typename M::B& inside) {
    typename M::F sum = m.LoadGlobalIf(inside, p.slots, at);
    for (int64_t slot = 1; slot < p.n_slots; ++slot) {
      sum = sum + m.LoadGlobalIf(inside, p.slots, at + slot * Elements(p));
    }
    const int64_t width = p.n_columns + (p.has_bias ? 1 : 0);
    const L row = at / width, column = at - row * width;
    const auto is_bias = m.And(inside, column == L{} + p.n_columns);
    m.StoreGlobalIf(m.And(inside, column < L{} + p.n_columns), p.out, row * p.n_columns + column,
                    sum);
    if (p.has_bias) m.StoreGlobalIf(is_bias, p.bias, row, sum);
  }
};

}  // namespace sensorseq::cuda
