// What the linear head sends back, and the gradients of its own weights. Small sums, in float, each
// by one lane in a fixed order.
#pragma once

#include "layout.h"
#include "math-inl.h"
#include "params.h"

namespace sensorseq::cuda {

SENSORSEQ_HD int64_t PooledWidth(const Sizes& s) {
  return int64_t{s.n_directions} * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
}

// out[row][p] = grad_pooled[row][p] + sum_k grad_logits[row][k] weight_out[k][p]
template <typename M>
SENSORSEQ_BODY void PooledGrad(M& m, const HeadGradParams& p, int64_t first) {
  using F = typename M::F;
  using L = typename M::L;
  const Sizes& s = p.sizes;
  const int64_t width = PooledWidth(s), n = s.n_models * s.n_windows * width;
  const L element = m.ToLong(m.Lane()) + first;
  const auto inside = element < L{} + n;
  const L at = m.Select(inside, element, L{});
  const L row = at / width, column = at - row * width, model = row / s.n_windows;
  F sum = p.grad_pooled == nullptr ? F{} : m.LoadGlobalIf(inside, p.grad_pooled, at);
  for (int64_t k = 0; k < s.n_classes; ++k) {
    sum = m.Fma(m.LoadGlobalIf(inside, p.grad_logits, row * s.n_classes + k),
                m.LoadGlobalIf(inside, p.weight_out, (model * s.n_classes + k) * width + column),
                sum);
  }
  m.StoreGlobalIf(inside, p.out, at, sum);
}

// slots[slot][m][k][p] = sum over the slot's windows of grad_logits[n][k] pooled[n][p]; p = P: the
// bias, as if pooled were 1 there
template <typename M>
SENSORSEQ_BODY void HeadWeightGrad(M& m, const HeadGradParams& p, int64_t slot, int64_t first) {
  using F = typename M::F;
  using L = typename M::L;
  const Sizes& s = p.sizes;
  const int64_t width = PooledWidth(s), n = s.n_models * s.n_classes * (width + 1);
  const int64_t n_slots = TileSlots(s.n_windows), n_tiles = TileCount(s.n_windows);
  const int64_t begin = SlotBegin(slot, n_slots, n_tiles) * kTileRows;
  const int64_t last = SlotBegin(slot + 1, n_slots, n_tiles) * kTileRows;
  const int64_t end = last < s.n_windows ? last : s.n_windows;
  const L element = m.ToLong(m.Lane()) + first;
  const auto inside = element < L{} + n;
  const L at = m.Select(inside, element, L{});
  const L row = at / (width + 1), column = at - row * (width + 1);
  const L model = row / s.n_classes, k = row - model * s.n_classes;
  const auto is_bias = column == L{} + width;
  const auto reads = m.And(inside, m.Not(is_bias));
  F sum = F{};
  for (int64_t window = begin; window < end; ++window) {
    const L of = model * s.n_windows + window;
    const F factor =
        m.Select(is_bias, F{} + 1.0f,
                 m.LoadGlobalIf(reads, p.pooled, m.Select(is_bias, L{}, of * width + column)));
    sum = m.Fma(m.LoadGlobalIf(inside, p.grad_logits, of * s.n_classes + k), factor, sum);
  }
  m.StoreGlobalIf(inside, p.slots, at + slot * n, sum);
}

}  // namespace sensorseq::cuda
