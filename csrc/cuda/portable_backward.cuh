// The backward pass of one window in one direction by one CTA, from the last step to the first, in
// float32 multiply-adds. Like the forward pass, it runs on every GPU from compute capability 7.5
// on.
//
// Lane q of a unit's four lanes computes the gradient of gate q and stores it in shared memory as
// [unit][gate]. A half-warp sums dh of its own four units over the gates of all units: lane l of
// the half-warp takes units 16 j + l. Accumulator s of a lane is for unit s xor (the lane's unit)
// of the four, so five shuffles without selections leave the complete dh of a unit in the unit's
// own lanes. There is one barrier per step, because the gate gradients have two buffers.
//
// What depends only on saved values is computed a step ahead, from values that were loaded two
// steps ahead. From dh to the gate gradients there are then three multiply-adds.
#pragma once

#include "cuda/portable_window.cuh"

namespace sensorseq::cuda {

// The layout of shared memory, in bytes from its start: two buffers of gate gradients.
template <typename V>
struct PortableBackwardShared {
  static constexpr uint32_t kGrads = 0, kGradBytes = V::kHidden * kGates * 4;
  static constexpr uint32_t kTotal = kGrads + 2 * kGradBytes;
};

// kHasSequences: true if grad_hidden is read, grad_gates is written, or both.
template <typename M, typename V, bool kHasSequences>
class PortableBackward : PortableWindow<M> {
  using Base = PortableWindow<M>;
  using Base::m, Base::s, Base::thread, Base::unit, Base::q, Base::has_unit;
  using Base::model, Base::state_at, Base::direction, Base::n_steps, Base::poison;
  using typename Base::B, typename Base::F, typename Base::L, typename Base::U;
  using Shared = PortableBackwardShared<V>;
  static constexpr int kHalfWarp = kLanes / 2, kUnits = kHalfWarp / kGates;  // of a half-warp
  // quads of gate gradients that are loaded before the saved values are prepared
  static constexpr int kEarly = V::kQuads < 6 ? V::kQuads : 2;

 public:
  SENSORSEQ_BODY PortableBackward(M& machine, const BackwardParams& params)
      : Base(machine, params.sizes), p(params) {}

  SENSORSEQ_BODY void Run() {
    this->PlaceLane();
    LoadWeights();
    this->PlaceWindow(p.lengths);
    Start();
    Fetch(n_steps - 1);
    Prepare(n_steps - 1);
    Fetch(n_steps - 2);
    // Values that the compiler does not see through stay in registers; otherwise it recomputes them
    // in every step.
    forth = Shared::kGradBytes;
    load_at = m.Opaque(m.Address((thread & (kHalfWarp - 1u)) * 16u + Shared::kGrads));
    store_at = m.Opaque(m.Address(thread * 4u + Shared::kGrads));
    int step = m.Opaque(n_steps - 1);
    SENSORSEQ_UNROLL_BY_1
    for (; step >= 0; --step) {
      Cell();
      m.SyncCta();
      LoadGrads();
      Prepare(step - 1);
      Fetch(step - 2);
      Store(step);
      Product();
    }
    Finish();
  }

 private:
  // Quad (j, gate) of a lane has the weights from gate `gate` of unit 16 j + l to the half-warp's
  // four units.
  SENSORSEQ_BODY void LoadWeights() {
    this->Locate();
    const float* weights = p.weight_hh.data + p.weight_hh.Begin(model, direction);
    const bool is_aligned = reinterpret_cast<uintptr_t>(weights) % 16 == 0;
    if (s.hidden_size % 4 == 0 && is_aligned) {
      LoadRows<true>(weights);
    } else {
      LoadRows<false>(weights);
    }
  }
  template <bool kIsQuad>
  SENSORSEQ_BODY void LoadRows(const float* weights) {
    const U H = U{} + static_cast<uint32_t>(s.hidden_size);
    const U own = unit & (kUnits - 1u), first = unit - own;
    const auto is_odd = (own & 1u) == U{} + 1u, is_high = (own & 2u) == U{} + 2u;
    SENSORSEQ_UNROLL
    for (int j = 0; j < V::kQuads; ++j) {
      const U from = (thread & (kHalfWarp - 1u)) + static_cast<uint32_t>(kHalfWarp * j);
      SENSORSEQ_UNROLL
      for (int gate = 0; gate < kGates; ++gate) {
        const L at = L((H * static_cast<uint32_t>(gate) + from) * H + first);
        F v[kUnits];
        if (kIsQuad) {
          m.LoadGlobalFloatsIf(m.And(from < H, first < H), weights, at, v);
        } else {
          SENSORSEQ_UNROLL
          for (int e = 0; e < kUnits; ++e) {
            const auto on = m.And(from < H, first + static_cast<uint32_t>(e) < H);
            v[e] = m.LoadGlobalIf(on, weights, at + int64_t{e});
          }
        }
        SENSORSEQ_UNROLL
        for (int e = 0; e < kUnits; ++e) {
          const F low = m.Select(is_odd, v[e ^ 1], v[e]),
                  high = m.Select(is_odd, v[e ^ 3], v[e ^ 2]);
          weight[j][gate][e] = m.Select(is_high, high, low);
        }
      }
    }
  }
  SENSORSEQ_BODY F LoadOr(const float* array, const L& at, float otherwise) {
    if (array == nullptr) return F{} + otherwise;
    return m.Select(has_unit, m.LoadGlobalIf(has_unit, array, at), F{} + otherwise);
  }

  SENSORSEQ_BODY void Start() {
    const L state = L(unit) + state_at;
    dh = LoadOr(p.grad_h_n, state, 0.0f) + poison;
    dc = LoadOr(p.grad_c_n, state, 0.0f) + poison;
    mask = LoadOr(p.recurrent_mask, state, 1.0f);
    c_0 = LoadOr(p.c_0, state, 0.0f);
    d_mean = d_max = F{};
    argmax = U{} - 1u;
    const int64_t of_window = this->SavedOfWindow(V::kHidden);
    saved_at = L(unit * uint32_t{kUnitFloats}) + of_window;
    if (p.grad_pooled == nullptr || s.pooling == Pooling::kNone || n_steps == 0) return;
    const L pooled = L(unit) + this->PooledAt();
    const F first = LoadOr(p.grad_pooled, pooled, 0.0f);
    if (s.pooling == Pooling::kLast) dh = dh + first;
    if (this->HasMean()) d_mean = first / static_cast<float>(n_steps);
    if (!this->HasMaximum()) return;
    d_max = s.pooling == Pooling::kMax ? first
                                       : LoadOr(p.grad_pooled, pooled + this->PooledStride(), 0.0f);
    const int64_t steps = s.n_timesteps * PortableStepFloats(V::kHidden);
    argmax = m.AsUnsigned(m.LoadGlobalIf(B(true), p.saved, L(unit) + (of_window + steps)));
  }

  // Loads what Prepare needs of a step.
  SENSORSEQ_BODY void Fetch(int step) {
    if (step < 0) return;
    constexpr int64_t kStep = PortableStepFloats(V::kHidden);
    const L at = saved_at + int64_t{step} * kStep;
    m.LoadGlobalFloatsIf(B(true), p.saved, at, gates);
    tanh_c = m.LoadGlobalIf(B(true), p.saved, at + int64_t{kUnitTanh});
    c_before = c_0;
    if (step > 0) c_before = m.LoadGlobalIf(B(true), p.saved, at + (kUnitCell - kStep));
    if (kHasSequences && p.grad_hidden != nullptr) {
      from_above = m.LoadGlobalIf(has_unit, p.grad_hidden, L(unit) + this->HiddenAt(step));
    }
  }
  // Computes the factors with which dh and dc become the gradients of c and of the lane's gate.
  SENSORSEQ_BODY void Prepare(int step) {
    const F i = gates[kInputGate], f = gates[kForgetGate], g = gates[kCellGate],
            o = gates[kOutputGate];
    const auto is_i = q == U{} + uint32_t{kInputGate}, is_f = q == U{} + uint32_t{kForgetGate},
               is_g = q == U{} + uint32_t{kCellGate}, is_o = q == U{} + uint32_t{kOutputGate};
    const F own = m.Select(is_i, i, m.Select(is_f, f, m.Select(is_g, g, o)));
    const F slope = m.Fma(own * -1.0f, own, m.Select(is_g, F{} + 1.0f, own));
    const F other = m.Select(is_i, g, m.Select(is_f, c_before, m.Select(is_g, i, tanh_c)));
    const F factor = slope * other;
    of_dc = m.Select(is_o, F{}, factor);
    of_dh = m.Select(is_o, factor, F{});
    of_c = o * m.Fma(tanh_c * -1.0f, tanh_c, F{} + 1.0f);
    forget = f;
    above = d_mean + m.Select(argmax == U{} + static_cast<uint32_t>(step), d_max, F{});
    if (kHasSequences) above = above + from_above;
  }

  SENSORSEQ_BODY void Cell() {
    const F grad = dh + above;
    const F dc_now = m.Fma(grad, of_c, dc);
    d = m.Fma(dc_now, of_dc, grad * of_dh);
    dc = dc_now * forget;
    m.StoreSharedFloatIf(B(true), store_at, d);
    store_at = store_at + forth;
  }
  SENSORSEQ_BODY void LoadGrads() {
    SENSORSEQ_UNROLL
    for (int j = 0; j < kEarly; ++j) m.LoadSharedFloats(load_at + 256u * j, from[j]);
  }
  SENSORSEQ_BODY void Product() {
    F sums[kUnits] = {};
    SENSORSEQ_UNROLL
    for (int j = 0; j < V::kQuads; ++j) {
      F now[kGates];
      SENSORSEQ_UNROLL
      for (int gate = 0; gate < kGates; ++gate) now[gate] = from[j % kEarly][gate];
      if (j + kEarly < V::kQuads) {
        m.LoadSharedFloats(load_at + static_cast<uint32_t>(256 * (j + kEarly)), from[j % kEarly]);
      }
      SENSORSEQ_UNROLL
      for (int gate = 0; gate < kGates; ++gate) {
        SENSORSEQ_UNROLL
        for (int e = 0; e < kUnits; ++e) sums[e] = m.Fma(now[gate], weight[j][gate][e], sums[e]);
      }
    }
    // the other buffer
    load_at = load_at + forth;
    forth = 0u - forth;
    const F kept = sums[0] + m.ShuffleXor(sums[2], 8);
    const F sent = sums[1] + m.ShuffleXor(sums[3], 8);
    F total = kept + m.ShuffleXor(sent, 4);
    total = total + m.ShuffleXor(total, 2);
    total = total + m.ShuffleXor(total, 1);
    dh = total * mask;
  }

  SENSORSEQ_BODY void Store(int step) {
    const L at = saved_at + (int64_t{step} * PortableStepFloats(V::kHidden));
    m.StoreGlobalIf(B(true), p.grads, at + L(q), d);
    if (kHasSequences && p.grad_gates != nullptr) {
      const L of_gates = (L(unit) + this->HiddenAt(step)) * int64_t{kGates} + L(q);
      m.StoreGlobalIf(has_unit, p.grad_gates, of_gates, d);
    }
  }

  SENSORSEQ_BODY void Finish() {
    this->Locate();
    const auto owns = m.And(has_unit, q == U{});
    const L at = L(unit) + state_at;
    if (p.grad_h_0 != nullptr) m.StoreGlobalIf(owns, p.grad_h_0, at, dh);
    if (p.grad_c_0 != nullptr) m.StoreGlobalIf(owns, p.grad_c_0, at, dc);
  }

  const BackwardParams& p;
  F weight[V::kQuads][kGates][kUnits];
  F gates[kGates], tanh_c, c_before, from_above{};  // of a step, as loaded
  F of_dc, of_dh, of_c, forget, above;
  F from[kEarly][kGates];
  F dh, dc, d, mask, c_0, d_mean, d_max;
  U argmax, load_at, store_at;
  uint32_t forth;
  L saved_at;
};

}  // namespace sensorseq::cuda
