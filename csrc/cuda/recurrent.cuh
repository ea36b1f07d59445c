// The code that the forward and the backward pass of one direction of a tile share: a lane's
// position, its two rows, and a warp's weights.
#pragma once

#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/params.h"

namespace sensorseq::cuda {

template <typename M, typename V>
class Recurrent {
 protected:
  using F = typename M::F;
  using I = typename M::I;
  using U = typename M::U;
  using L = typename M::L;
  using B = typename M::B;
  static constexpr bool kIsExact = V::kPlanes == 2;

  SENSORSEQ_BODY Recurrent(M& machine, const Sizes& sizes)
      : m(machine),
        s(sizes),
        lane(machine.Lane()),
        warp(machine.Warp()),
        rank(machine.Rank()),
        model(machine.Model()),
        direction(machine.Direction()),
        tile(machine.Tile()) {}

  // StateAt is an offset in arrays with a value for each row and unit. HiddenAt is the offset of
  // step 0 in arrays with a value for each row, timestep and unit.
  SENSORSEQ_BODY L StateAt(const U& unit, int r) {
    return ((L(window[r]) + model * s.n_windows) * s.n_directions + direction) * s.hidden_size +
           L(unit);
  }
  SENSORSEQ_BODY L HiddenAt(const U& unit, int r) {
    const L time = direction == 0 ? L{} : L(length[r]) - 1;
    return (((L(window[r]) + model * s.n_windows) * s.n_timesteps + time) * s.n_directions +
            direction) *
               s.hidden_size +
           L(unit);
  }

  SENSORSEQ_BODY int64_t HiddenStride() const {  // distance from one step to the next
    return int64_t{s.n_directions} * s.hidden_size * (direction == 0 ? 1 : -1);
  }
  SENSORSEQ_BODY int64_t OfModel() const { return model * s.n_directions + direction; }
  SENSORSEQ_BODY int64_t SavedOfTile() const {
    return (OfModel() * TileCount(s.n_windows) + tile) * SavedTileFloats(s.n_timesteps, V::kHidden);
  }
  SENSORSEQ_BODY static uint32_t BarrierOf(int buffer) { return kBarriers + 8 * buffer; }

  // Loads the warp's fragments, which begin at fragment `of_warp` of the model and direction. As
  // many fragments as fit go into registers, the others into shared memory.
  SENSORSEQ_BODY void LoadFragments(const void* packed, int64_t of_warp, uint32_t shared) {
    const int64_t first = OfModel() * PackedFragments(V::kPlanes, V::kHidden) + of_warp;
    SENSORSEQ_UNROLL
    for (int f = 0; f < V::kInRegisters; ++f) {
      m.LoadGlobalQuad(weights[f], packed, L(lane) + (first + f) * kLanes);
    }
    own_weights = shared + warp * V::kInShared * kFragmentBytes;
    for (int f = 0; f < V::kInShared; ++f) {
      U word[kTileWords];
      m.LoadGlobalQuad(word, packed, L(lane) + (first + V::kInRegisters + f) * kLanes);
      m.StoreSharedQuad(lane * 16 + (own_weights + f * kFragmentBytes), word);
    }
  }
  SENSORSEQ_BODY void Fragment(int index, U word[kTileWords]) {
    if (index < V::kInRegisters) {
      SENSORSEQ_UNROLL
      for (int w = 0; w < kTileWords; ++w)
        word[w] = weights[index < V::kInRegisters ? index : 0][w];
    } else {
      m.LoadSharedQuad(lane * 16 + (own_weights + (index - V::kInRegisters) * kFragmentBytes),
                       word);
    }
  }

  SENSORSEQ_BODY F LoadOr(const float* array, const L& at, const B& has, float otherwise) {
    if (array == nullptr) return F{} + otherwise;
    return m.Select(has, m.LoadGlobalIf(has, array, at), F{} + otherwise);
  }

  M& m;
  const Sizes& s;
  const U lane;
  const int warp, rank;
  const int64_t model;
  const int direction;
  const int64_t tile;
  int n_steps;
  I window[2], length[2];
  F poison[2];
  L hidden_at[2];
  int64_t hidden_stride;
  U weights[V::kInRegisters][kTileWords];
  uint32_t own_weights, own_ring;
};

}  // namespace sensorseq::cuda
