// Arranges weights as fragments for the recurrent kernels: a lane of this kernel writes the four
// words that a lane of a recurrent kernel loads together.
#pragma once

#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/params.h"

namespace sensorseq::cuda {

// Scales a weight for its conversion to a half. The result is NaN if the weight is out of range.
template <typename M>
SENSORSEQ_BODY typename M::F ScaledWeight(M& m, const typename M::F& weight) {
  using F = typename M::F;
  const F scaled = weight * kWeightScale;
  return m.Select(m.Abs(scaled) > F{} + kHalfLimit, F{} + __builtin_nanf(""), scaled);
}

// Uses one warp for each forward fragment, each backward fragment and each group's input weights.
template <int kPlanes>
struct Pack {
  using Params = PackParams;

  SENSORSEQ_HD static int Fragments(const Sizes& s) {
    return static_cast<int>(PackedFragments(kPlanes, s.padded_hidden));
  }
  SENSORSEQ_HD static int Warps(const Sizes& s) {
    return 2 * Fragments(s) + s.padded_hidden / kGroupUnits;
  }
  SENSORSEQ_HD static int64_t Slots(const Sizes&) { return 1; }
  SENSORSEQ_HD static int64_t Models(const Sizes& s) { return s.n_models * s.n_directions; }

  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const PackParams& p, int64_t of_model, int64_t, int task) {
    const int n_fragments = Fragments(p.sizes);
    if (task < n_fragments) {
      if (p.forward != nullptr) ForwardTask(m, p, of_model, task);
    } else if (task < 2 * n_fragments) {
      if (p.backward != nullptr) BackwardTask(m, p, of_model, task - n_fragments);
    } else if (p.input != nullptr) {
      InputTask(m, p, of_model, task - 2 * n_fragments);
    }
  }

 private:
  // weight_hh[gate][to][from], zero outside the layer
  template <typename M, typename I = typename M::I>
  SENSORSEQ_BODY static typename M::F Weight(M& m, const PackParams& p, int64_t of_model,
                                             const I& gate, const I& to, const I& from) {
    using F = typename M::F;
    using L = typename M::L;
    const int64_t H = p.sizes.hidden_size;
    const auto inside = m.And(to < I{} + p.sizes.hidden_size, from < I{} + p.sizes.hidden_size);
    const L at = (L(gate) * H + L(to)) * H + L(from);
    const float* weight_hh = p.weight_hh.Of(of_model, p.sizes.n_directions);
    return ScaledWeight(
        m, m.Select(inside, m.LoadGlobalIf(inside, weight_hh, m.Select(inside, at, L{})), F{}));
  }

  template <typename M>
  SENSORSEQ_BODY static void Store(M& m, const Sizes& s, void* packed, int64_t of_model,
                                   int fragment, int plane,
                                   const typename M::F halves[kTileWords][2]) {
    using L = typename M::L;
    typename M::U words[kTileWords];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      typename M::U planes[kPlanes];
      SplitHalves<kPlanes>(m, halves[w][0], halves[w][1], planes);
      words[w] = plane == 0 ? planes[0] : planes[kPlanes - 1];
    }
    m.StoreGlobalQuad(packed, L(m.Lane()) + (of_model * Fragments(s) + fragment) * kLanes, words);
  }

  // Writes fragments in the order of ForwardFragment and ForwardIndex.
  template <typename M>
  SENSORSEQ_BODY static void ForwardTask(M& m, const PackParams& p, int64_t of_model, int task) {
    using I = typename M::I;
    const I lane = I(m.Lane());
    const int k_steps = p.sizes.padded_hidden / 16, of_group = kPlanes * k_steps * 2;
    const int group = task / of_group, index = task % of_group;
    const int tile = index % 2, k_step = index / 2 % k_steps, plane = index / (2 * k_steps);
    typename M::F halves[kTileWords][2];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      const I to = UnitOfLane(lane) + group * kGroupUnits;
      SENSORSEQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const I from = FragmentK(lane, w, half) + k_step * 16;
        halves[w][half] = Weight(m, p, of_model, I{} + GateOfWord(tile, w), to, from);
      }
    }
    Store(m, p.sizes, p.forward, of_model, task, plane, halves);
  }

  // Writes fragments in the order of BackwardFragment and BackwardIndex.
  template <typename M>
  SENSORSEQ_BODY static void BackwardTask(M& m, const PackParams& p, int64_t of_model, int task) {
    using I = typename M::I;
    const I lane = I(m.Lane());
    const BackwardSpread v(kPlanes, p.sizes.padded_hidden);
    const int index = task % v.fragments, warp = task / v.fragments % v.warps;
    const int rank = task / v.fragments / v.warps;
    const int k_step = index % v.k_steps, plane = index / v.k_steps / v.tiles_per_warp;
    const int tile = warp * v.tiles_per_warp + index / v.k_steps % v.tiles_per_warp;
    const int group = rank * v.groups + GroupOfKStep(k_step);
    typename M::F halves[kTileWords][2];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      const I out = FragmentRow(lane, w) + tile * 16;  // transposed: the unit that gradients go to
      SENSORSEQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const I of = (FragmentK(lane, w, half) & 7) + group * kGroupUnits;
        halves[w][half] = Weight(m, p, of_model, I{} + GateOfKStep(k_step, w), of, out);
      }
    }
    Store(m, p.sizes, p.backward, of_model, task, plane, halves);
  }

  template <typename M>
  SENSORSEQ_BODY static void InputTask(M& m, const PackParams& p, int64_t of_model, int group) {
    using B = typename M::B;
    using I = typename M::I;
    using L = typename M::L;
    const Sizes& s = p.sizes;
    const I lane = I(m.Lane());
    const int64_t n = InputWeightFloats(s.n_channels);
    for (int64_t first = 0; first < n; first += kLanes) {
      // Writes 32 values at a time: [8 units][4 gates] of one channel or of the bias.
      const int channel = static_cast<int>(first / kLanes);
      const I unit = (lane >> 2) + group * kGroupUnits, gate = lane & 3;
      const auto inside = unit < I{} + s.hidden_size;
      const L row = m.Select(inside, L(gate) * s.hidden_size + L(unit), L{});
      const bool is_bias = channel == s.n_channels;
      const PerDirection& from = is_bias ? p.bias : p.weight_ih;
      typename M::F value = m.LoadGlobalIf(inside, from.Of(of_model, s.n_directions),
                                           is_bias ? row : row * s.n_channels + channel);
      if (is_bias && p.second_bias.data != nullptr) {
        value = value + m.LoadGlobalIf(inside, p.second_bias.Of(of_model, s.n_directions), row);
      }
      const int64_t of_group = of_model * (s.padded_hidden / kGroupUnits) + group;
      m.StoreGlobalIf(B(true), p.input, L(lane) + (of_group * n + first), value);
    }
  }
};

}  // namespace sensorseq::cuda
