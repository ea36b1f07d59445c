// Arranges weights as fragments for the recurrent kernels: a lane of this kernel makes the four
// words that a lane of those loads at once.
#pragma once

#include "layout.h"
#include "math-inl.h"
#include "params.h"

namespace sensorseq::cuda {

// Half of a weight: NaN where it is out of range.
template <typename M>
SENSORSEQ_BODY typename M::F ScaledWeight(M& m, const typename M::F& weight) {
  using F = typename M::F;
  const F scaled = weight * kWeightScale;
  return m.Select(m.Abs(scaled) > F{} + kHalfLimit, F{} + __builtin_nanf(""), scaled);
}

template <typename M, int kPlanes, int kHidden>
class Pack {
  using F = typename M::F;
  using I = typename M::I;
  using U = typename M::U;
  using L = typename M::L;
  using Fwd = ForwardVariant<kPlanes, kHidden>;
  using Bwd = BackwardVariant<kPlanes, kHidden>;

 public:
  SENSORSEQ_BODY Pack(M& machine, const PackParams& params)
      : m(machine), p(params), s(params.sizes), lane(machine.ToInt(machine.Lane())) {}

  // A warp for every fragment of both kinds and every group's input weights.
  static constexpr int64_t kTasks = 2 * PackedFragments(kPlanes, kHidden) + kHidden / kGroupUnits;

  SENSORSEQ_BODY void Run(int64_t of_model, int64_t task) {
    constexpr int64_t kFragments = PackedFragments(kPlanes, kHidden);
    if (task < kFragments) {
      if (p.forward != nullptr) ForwardTask(of_model, task);
    } else if (task < 2 * kFragments) {
      if (p.backward != nullptr) BackwardTask(of_model, task - kFragments);
    } else if (task < kTasks) {
      if (p.input != nullptr) InputTask(of_model, static_cast<int>(task - 2 * kFragments));
    }
  }

 private:
  // weight_hh[gate][to][from], zero outside the layer
  SENSORSEQ_BODY F Weight(int64_t of_model, const I& gate, const I& to, const I& from) {
    const I size = I{} + s.hidden_size;
    const auto inside = m.And(to < size, from < size);
    const L at = (m.ToLong(gate) * s.hidden_size + m.ToLong(to)) * s.hidden_size + m.ToLong(from);
    const float* weight_hh = p.weight_hh.Of(of_model, s.n_directions);
    return ScaledWeight(
        m, m.Select(inside, m.LoadGlobalIf(inside, weight_hh, m.Select(inside, at, L{})), F{}));
  }

  SENSORSEQ_BODY void Store(void* packed, int64_t of_model, int64_t fragment, int plane,
                            const F halves[kTileWords][2]) {
    U words[kTileWords];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      U planes[kPlanes];
      SplitHalves<kPlanes>(m, halves[w][0], halves[w][1], planes);
      words[w] = plane == 0 ? planes[0] : planes[kPlanes - 1];
    }
    m.StoreGlobalQuad(
        packed, m.ToLong(lane) + (of_model * PackedFragments(kPlanes, kHidden) + fragment) * kLanes,
        words);
  }

  SENSORSEQ_BODY void ForwardTask(int64_t of_model, int64_t task) {
    const int group = static_cast<int>(task / Fwd::kFragments);
    const int index = static_cast<int>(task % Fwd::kFragments);
    const int tile = index % 2, k_step = index / 2 % Fwd::kKSteps;
    const int plane = index / (2 * Fwd::kKSteps);
    F halves[kTileWords][2];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      const I to = UnitOfLane(lane) + group * kGroupUnits;
      SENSORSEQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const I from = FragmentK(lane, w, half) + k_step * 16;
        halves[w][half] = Weight(of_model, I{} + GateOfWord(tile, w), to, from);
      }
    }
    Store(p.forward, of_model, ForwardFragment<Fwd>(group, index), plane, halves);
  }

  SENSORSEQ_BODY void BackwardTask(int64_t of_model, int64_t task) {
    const int index = static_cast<int>(task % Bwd::kFragments);
    const int warp = static_cast<int>(task / Bwd::kFragments % Bwd::kWarps);
    const int rank = static_cast<int>(task / (Bwd::kFragments * Bwd::kWarps));
    const int k_step = index % Bwd::kKSteps;
    const int tile = warp * Bwd::kTilesPerWarp + index / Bwd::kKSteps % Bwd::kTilesPerWarp;
    const int plane = index / (Bwd::kKSteps * Bwd::kTilesPerWarp);
    const int group = rank * Bwd::kGroups + GroupOfKStep(k_step);
    F halves[kTileWords][2];
    SENSORSEQ_UNROLL
    for (int w = 0; w < kTileWords; ++w) {
      const I out = FragmentRow(lane, w) + tile * 16;  // transposed: the unit gradients go to
      SENSORSEQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const I of = (FragmentK(lane, w, half) & 7) + group * kGroupUnits;
        halves[w][half] = Weight(of_model, I{} + GateOfKStep(k_step, w), of, out);
      }
    }
    Store(p.backward, of_model, BackwardFragment<Bwd>(rank, warp, index), plane, halves);
  }

  SENSORSEQ_BODY void InputTask(int64_t of_model, int group) {
    const int64_t n = InputWeightFloats(s.n_channels);
    for (int64_t first = 0; first < n; first += kLanes) {
      // 32 at a time: [8 units][4 gates] of one channel, or of the bias
      const int channel = static_cast<int>(first / kLanes);
      const I unit = (lane >> 2) + group * kGroupUnits, gate = lane & 3;
      const auto inside = unit < I{} + s.hidden_size;
      const L row = m.Select(inside, m.ToLong(gate) * s.hidden_size + m.ToLong(unit), L{});
      const bool is_bias = channel == s.n_channels;
      const PerDirection& from = is_bias ? p.bias : p.weight_ih;
      F value = m.LoadGlobalIf(inside, from.Of(of_model, s.n_directions),
                               is_bias ? row : row * s.n_channels + channel);
      if (is_bias && p.second_bias.data != nullptr) {
        value = value + m.LoadGlobalIf(inside, p.second_bias.Of(of_model, s.n_directions), row);
      }
      m.StoreGlobalIf(m.True(), p.input,
                      m.ToLong(lane) + ((of_model * (kHidden / kGroupUnits) + group) * n + first),
                      value);
    }
  }

  M& m;
  const PackParams& p;
  const Sizes& s;
  const I lane;
};

}  // namespace sensorseq::cuda
