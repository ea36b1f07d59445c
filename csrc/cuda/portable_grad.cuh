// Computes the gradients of the layer's weights after the portable backward pass: sums over windows
// and steps of products of gate gradients with inputs of the gates, in float32 multiply-adds. The
// sums are split into slots as in weight_grad.cuh.
#pragma once

#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/params.h"
#include "cuda/weight_grad.cuh"

namespace sensorseq::cuda {

// kIsInput: the gradients are those of weight_ih and the bias, whose input counts as 1; otherwise
// those of weight_hh. A warp computes the gates of 16 units for one block of columns. A lane has
// the gates of two units, and every fourth column of the block.
template <bool kIsInput>
struct PortableGrad {
  using Params = WeightGradParams;
  static constexpr int kUnits = 2, kWarpUnits = kUnits * kLanes / 4;
  static constexpr int kColumns = 8;  // of a lane

  SENSORSEQ_HD static int Blocks(const Sizes& s) { return s.padded_hidden / kWarpUnits; }
  SENSORSEQ_HD static int Warps(const Sizes& s) {
    return Blocks(s) * (kIsInput ? 1 : s.padded_hidden / (4 * kColumns));
  }
  SENSORSEQ_HD static int64_t Slots(const Sizes& s) { return SlotCount(s); }
  SENSORSEQ_HD static int64_t Models(const Sizes& s) { return s.n_models * s.n_directions; }

  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const WeightGradParams& p, int64_t of_model, int64_t slot,
                                 int warp) {
    if (!kIsInput) return Sum<kColumns>(m, p, of_model, slot, warp);
    if (p.sizes.n_channels < 8) return Sum<2>(m, p, of_model, slot, warp);
    Sum<5>(m, p, of_model, slot, warp);
  }

 private:
  template <int kOwn, typename M>
  SENSORSEQ_BODY static void Sum(M& m, const WeightGradParams& p, int64_t of_model,
                                 int64_t slot_index, int warp) {
    using B = typename M::B;
    using F = typename M::F;
    using L = typename M::L;
    const Sizes& s = p.sizes;
    const L lane = L(m.Lane());
    const int64_t model = of_model / s.n_directions, direction = of_model % s.n_directions;
    const int64_t x_model = s.n_x_models == 1 ? 0 : model;
    const int64_t n_columns = kIsInput ? s.n_channels + 1 : s.hidden_size;
    const L unit = (lane >> 2) + int64_t{warp % Blocks(s)} * kWarpUnits;
    const L column = (lane & 3) + int64_t{warp / Blocks(s)} * (4 * kColumns);
    const int64_t* lengths = LengthsOf(p.lengths, s, model);
    const Slot slot(s, WindowsOf(p, model), slot_index);
    const int64_t last_window =
        slot.last_tile * kTileRows < s.n_windows ? slot.last_tile * kTileRows : s.n_windows;
    F total[kUnits][kGates][kOwn] = {};
    for (int64_t window = slot.first_tile * kTileRows; window < last_window; ++window) {
      int64_t length = lengths == nullptr ? s.n_timesteps : m.UniformLong(lengths, window);
      if (length > s.n_timesteps) length = s.n_timesteps;
      const int64_t last = length < slot.last_step ? length : slot.last_step;
      const int64_t of_window =
          (of_model * s.n_windows + window) * PortableWindowFloats(s.n_timesteps, s.padded_hidden);
      SENSORSEQ_UNROLL_BY_2
      for (int64_t step = slot.first_step; step < last; ++step) {
        const int64_t of_step = of_window + step * PortableStepFloats(s.padded_hidden);
        F grad[kUnits][kGates], input[kOwn];
        SENSORSEQ_UNROLL
        for (int u = 0; u < kUnits; ++u) {
          m.LoadGlobalFloats(p.grads + of_step,
                             unit * kUnitFloats + kWarpUnits / kUnits * u * kUnitFloats, grad[u]);
        }
        const int64_t time = direction == 0 ? step : length - step - 1;
        const float* x =
            p.x + ((x_model * s.n_windows + window) * s.n_timesteps + time) * s.n_channels;
        SENSORSEQ_UNROLL
        for (int j = 0; j < kOwn; ++j) {
          const L at = column + 4 * j;
          if (kIsInput) {
            const F there = m.LoadGlobalIf(at < L{} + int64_t{s.n_channels}, x, at);
            input[j] = m.Select(at == L{} + int64_t{s.n_channels}, F{} + 1.0f, there);
          } else {
            input[j] = m.LoadGlobalIf(B(true), p.saved + of_step, at * kUnitFloats + kUnitState);
          }
        }
        SENSORSEQ_UNROLL
        for (int u = 0; u < kUnits; ++u) {
          SENSORSEQ_UNROLL
          for (int gate = 0; gate < kGates; ++gate) {
            SENSORSEQ_UNROLL
            for (int j = 0; j < kOwn; ++j) {
              total[u][gate][j] = m.Fma(grad[u][gate], input[j], total[u][gate][j]);
            }
          }
        }
      }
    }
    const int64_t n_rows = s.n_models * s.n_directions * kGates * s.hidden_size;
    SENSORSEQ_UNROLL
    for (int u = 0; u < kUnits; ++u) {
      const L own = unit + kWarpUnits / kUnits * u;
      SENSORSEQ_UNROLL
      for (int gate = 0; gate < kGates; ++gate) {
        const L row = own + ((of_model * kGates + gate) * s.hidden_size + slot_index * n_rows);
        SENSORSEQ_UNROLL
        for (int j = 0; j < kOwn; ++j) {
          const L at = column + 4 * j;
          const auto on = m.And(own < L{} + int64_t{s.hidden_size}, at < L{} + n_columns);
          m.StoreGlobalIf(on, p.slots, row * n_columns + at, total[u][gate][j]);
        }
      }
    }
  }
};

}  // namespace sensorseq::cuda
