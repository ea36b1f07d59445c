// The gradients that the linear head passes back, and the gradients of its own weights. The sums
// are short and in float, and each is computed by one lane in a fixed order.
#pragma once

#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/params.h"

namespace sensorseq::cuda {

SENSORSEQ_HD int64_t PooledWidth(const Sizes& s) {
  return int64_t{s.n_directions} * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
}

// out[row][p] = grad_pooled[row][p] + sum_k grad_logits[row][k] weight_out[k][p]
struct PooledGrad : PerElement<PooledGrad, HeadGradParams> {
  SENSORSEQ_HD static int64_t Elements(const HeadGradParams& p) {
    return p.sizes.n_models * p.sizes.n_windows * PooledWidth(p.sizes);
  }
  template <typename M, typename L = typename M::L>
  SENSORSEQ_BODY static void Element(M& m, const HeadGradParams& p, const L& at,
                                     const typename M::B& inside) {
    using F = typename M::F;
    const Sizes& s = p.sizes;
    const int64_t width = PooledWidth(s);
    const L row = at / width, column = at - row * width, model = row / s.n_windows;
    F sum = p.grad_pooled == nullptr ? F{} : m.LoadGlobalIf(inside, p.grad_pooled, at);
    for (int64_t k = 0; k < s.n_classes; ++k) {
      sum = m.Fma(m.LoadGlobalIf(inside, p.grad_logits, row * s.n_classes + k),
                  m.LoadGlobalIf(inside, p.weight_out, (model * s.n_classes + k) * width + column),
                  sum);
    }
    m.StoreGlobalIf(inside, p.out, at, sum);
  }
};

// First window of a slot.
SENSORSEQ_HD int64_t SlotWindow(int64_t slot, int64_t n_windows) {
  const int64_t at = SlotBegin(slot, TileSlots(n_windows), TileCount(n_windows)) * kTileRows;
  return at < n_windows ? at : n_windows;
}

// slots[slot][m][k][p] = sum over the slot's windows of grad_logits[n][k] pooled[n][p]. The column
// p = P is for the bias, for which pooled counts as 1.
struct HeadWeightGrad {
  using Params = HeadGradParams;

  SENSORSEQ_HD static int64_t OfModel(const Sizes& s) { return s.n_classes * (PooledWidth(s) + 1); }
  SENSORSEQ_HD static int Warps(const Sizes& s) {
    return static_cast<int>((OfModel(s) + kLanes - 1) / kLanes);
  }
  SENSORSEQ_HD static int64_t Slots(const Sizes& s) { return TileSlots(s.n_windows); }
  SENSORSEQ_HD static int64_t Models(const Sizes& s) { return s.n_models; }

  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const HeadGradParams& p, int64_t model, int64_t slot,
                                 int warp) {
    using F = typename M::F;
    using L = typename M::L;
    const Sizes& s = p.sizes;
    const int64_t width = PooledWidth(s), n = OfModel(s);
    const int64_t n_windows = p.n_windows == nullptr ? s.n_windows : p.n_windows[model];
    if (slot >= TileSlots(n_windows)) return;
    const L element = L(m.Lane()) + int64_t{warp} * kLanes;
    const auto inside = element < L{} + n;
    const L at = m.Select(inside, element, L{});
    const L k = at / (width + 1), column = at - k * (width + 1);
    const auto is_bias = column == L{} + width;
    const auto reads = m.And(inside, !is_bias);
    const int64_t of_model = model * s.n_windows, end = of_model + SlotWindow(slot + 1, n_windows);
    F sum = F{};
    for (int64_t of = of_model + SlotWindow(slot, n_windows); of < end; ++of) {
      const F factor =
          m.Select(is_bias, F{} + 1.0f,
                   m.LoadGlobalIf(reads, p.pooled, m.Select(is_bias, L{}, column + of * width)));
      sum = m.Fma(m.LoadGlobalIf(inside, p.grad_logits, k + of * s.n_classes), factor, sum);
    }
    m.StoreGlobalIf(inside, p.slots, at + (slot * s.n_models + model) * n, sum);
  }
};

}  // namespace sensorseq::cuda
