// The forward pass of one window in one direction by one CTA, in float32 multiply-adds. It needs no
// tensor cores, no clusters and no asynchronous copies, so it runs on every GPU from compute
// capability 7.5 on.
//
// Lane q of a unit's four lanes sums a quarter of h_{t-1}, k = 16 j + 4 q + (0..3), for all four
// gates. Accumulator s of lane q is for gate s xor q, so three shuffles without selections leave
// the complete sum of gate q in lane q, which applies one activation. Four more shuffles bring the
// gates back together. All four lanes keep c and h. There is one barrier per step, because h has
// two buffers.
//
// While a lane waits, it works off the critical path: it records the previous step while h is
// loaded, and computes the next step's input while the activations are computed.
#pragma once

#include "cuda/portable_window.cuh"

namespace sensorseq::cuda {

constexpr int kFetchedSteps = 8;  // steps of x that are fetched together

// The layout of shared memory, in bytes from its start. kBlocks is as in PortableForward.
template <typename V, int kBlocks>
struct PortableShared {
  static constexpr uint32_t kFlag = 0, kState = 128;
  static constexpr uint32_t kStateBytes = V::kHidden * 4;                // of a buffer
  static constexpr uint32_t kInputBytes = kFetchedSteps * kBlocks * 16;  // of a buffer
  static constexpr uint32_t kInput = kState + 2 * kStateBytes;
  static constexpr uint32_t kTotal = kInput + 2 * kInputBytes;
};

// kBlocks is the number of blocks of four channels with which the kernel has room for x; 0: x is
// already multiplied by W_ih. kSaves: whether the pass saves the state of each step.
template <typename M, typename V, int kBlocks, bool kSaves>
class PortableForward : PortableWindow<M> {
  using Base = PortableWindow<M>;
  using Base::direction, Base::n_steps, Base::stride, Base::poison, Base::HasMaximum;
  using Base::m, Base::s, Base::thread, Base::unit, Base::q, Base::has_unit;
  using Base::row, Base::model, Base::of_row, Base::state_at, Base::hidden_at;
  using typename Base::B, typename Base::F, typename Base::L, typename Base::U;
  using Shared = PortableShared<V, kBlocks>;
  static constexpr bool kIsProjected = kBlocks == 0;
  static constexpr int kChannels = kIsProjected ? 1 : 4 * kBlocks;
  // Quads of h that are loaded before the record of the previous step; as many as registers allow.
  static constexpr int kEarly = V::kQuads > 4 ? 2 : kSaves && V::kQuads == 4 ? 3 : V::kQuads;

 public:
  SENSORSEQ_BODY PortableForward(M& machine, const PortableParams& params)
      : Base(machine, params.sizes), p(params) {}

  SENSORSEQ_BODY void Run() {
    this->PlaceLane();
    LoadWeights();
    Place();
    Start();
    m.SyncCta();
    // Values that the compiler does not see through stay in registers; otherwise it recomputes them
    // in every step.
    forth = Shared::kStateBytes;
    load_at = m.Opaque(m.Address(q * 16u + Shared::kState));
    store_at = m.Opaque(m.Address(unit * 4u + (Shared::kState + Shared::kStateBytes)));
    input_at = m.Opaque(m.Address(thread * 0u + Shared::kInput));
    const bool records = m.Opaque(kSaves || HasMaximum() || p.hidden != nullptr);
    int step = m.Opaque(0);
    const int end = m.Opaque(n_steps);
    if (kIsProjected) {
      projected_at = (L(unit) + hidden_at) * 4 + L(q);
      ahead[0] = Projected(0);
      ahead[1] = Projected(1);
    }
    Input(0);
    SENSORSEQ_UNROLL_BY_1
    for (; step < end; ++step) {
      LoadState();
      // One branch for everything that not every step or call does.
      if (kSaves || records || (step & (kFetchedSteps / 2 - 1)) == 0) {
        if (step > 0) Record(step - 1);
        if (!kIsProjected) FetchInput(step);
      }
      Product(step);
      Cell(step);
      m.SyncCta();
    }
    if (n_steps > 0) {
      sum = sum + h;
      Record(n_steps - 1);
    }
    Finish();
  }

 private:
  SENSORSEQ_BODY void Place() {
    this->PlaceWindow(p.lengths);
    const int64_t x_row = s.n_x_models == 1 ? row : of_row;
    x_at = (x_row * s.n_timesteps + this->FirstTime()) * s.n_channels;
    // exponent of the lane's activation, and the numbers that make a sigmoid or a tanh of it
    const auto is_tanh = q == U{} + static_cast<uint32_t>(kCellGate);
    factor = m.Select(is_tanh, F{} - 2 * kLog2E, F{} - kLog2E);
    sign = m.Select(is_tanh, F{} - 1.0f, F{});
    near_limit = m.Select(is_tanh, F{} + 0.25f, F{} - 1.0f);
  }

  SENSORSEQ_BODY void LoadWeights() {
    this->Locate();
    const int64_t first = p.weight_hh.Begin(model, direction);
    // of the direction's first weight, if it is a float
    const auto address =
        reinterpret_cast<uintptr_t>(p.weight_hh.data) + 4 * static_cast<uintptr_t>(first);
    const bool is_aligned = address % 16 == 0;
    if (p.element != Element::kFloat32) {
      LoadRecurrent<false, false>(first);
    } else if (s.hidden_size % 4 == 0 && is_aligned) {
      LoadRecurrent<true, true>(first);
    } else {
      LoadRecurrent<true, false>(first);
    }
    if (kIsProjected) return;
    if (p.element == Element::kFloat32) {
      LoadInputWeights<true>();
    } else {
      LoadInputWeights<false>();
    }
  }
  template <bool kIsFloat, bool kIsQuad>
  SENSORSEQ_BODY void LoadRecurrent(int64_t first) {
    const U H = U{} + static_cast<uint32_t>(s.hidden_size);
    L from[kGates];  // the lane's first weights of gates q xor 0..3
    SENSORSEQ_UNROLL
    for (int slot = 0; slot < kGates; ++slot) {
      from[slot] = L((Xor(q, slot) * H + unit) * H + q * 4u) + first;
    }
    SENSORSEQ_UNROLL
    for (int i = 0; i < V::kQuads * (kIsQuad ? 1 : 4); ++i) {
      const int j = kIsQuad ? i : i / 4, e = kIsQuad ? 0 : i % 4, k = 16 * j + e;
      const auto on = m.And(has_unit, q * 4u + static_cast<uint32_t>(k) < H);
      SENSORSEQ_UNROLL
      for (int slot = 0; slot < kGates; ++slot) {
        const L at = from[slot] + int64_t{k};
        if (kIsQuad) {
          m.LoadGlobalFloatsIf(on, static_cast<const float*>(p.weight_hh.data), at,
                               weight[slot][j]);
        } else {
          weight[slot][j][e] = LoadAs<kIsFloat>(on, p.weight_hh.data, at);
        }
      }
    }
  }
  template <bool kIsFloat>
  SENSORSEQ_BODY void LoadInputWeights() {
    this->Locate();
    const L row = L(q) * int64_t{s.hidden_size} + L(unit);
    const L from = row * int64_t{s.n_channels} + p.weight_ih.Begin(model, direction);
    SENSORSEQ_UNROLL
    for (int c = 0; c < kChannels; ++c) {
      const auto on = m.And(has_unit, B(c < s.n_channels));
      w_in[c] = LoadAs<kIsFloat>(on, p.weight_ih.data, from + c);
    }
    bias = LoadAs<kIsFloat>(has_unit, p.bias.data, row + p.bias.Begin(model, direction));
    if (p.second_bias.data == nullptr) return;
    const L second = row + p.second_bias.Begin(model, direction);
    bias = bias + LoadAs<kIsFloat>(has_unit, p.second_bias.data, second);
  }
  SENSORSEQ_BODY static U Xor(const U& x, int y) {
    const U other = U{} + static_cast<uint32_t>(y);
    return (x | other) - (x & other);
  }

  // If this compared p.element, the compiler would choose among the three types by a jump table.
  SENSORSEQ_BODY bool IsBfloat() const {
    return (static_cast<int32_t>(p.element) & static_cast<int32_t>(Element::kBfloat16)) != 0;
  }
  // Elements of the caller's arrays, 0 where not `on`.
  template <bool kIsFloat>
  SENSORSEQ_BODY F LoadAs(const B& on, const void* array, const L& at) {
    if (kIsFloat) return m.LoadGlobalIf(on, static_cast<const float*>(array), at);
    return m.Widened(m.LoadHalfIf(on, array, at), IsBfloat());
  }
  SENSORSEQ_BODY F Load(const B& on, const void* array, const L& at) {
    return Converted(LoadBits(on, array, at));
  }
  // Load in two parts: a conversion directly after the load would wait for memory.
  SENSORSEQ_BODY U LoadBits(const B& on, const void* array, const L& at) {
    if (p.element != Element::kFloat32) return m.LoadHalfIf(on, array, at);
    return m.AsUnsigned(m.LoadGlobalIf(on, static_cast<const float*>(array), at));
  }
  SENSORSEQ_BODY F Converted(const U& bits) {
    return p.element == Element::kFloat32 ? m.AsFloat(bits) : m.Widened(bits, IsBfloat());
  }
  SENSORSEQ_BODY void Store(const B& on, void* array, const L& at, const F& value) {
    if (p.element == Element::kFloat32) {
      m.StoreGlobalIf(on, static_cast<float*>(array), at, value);
    } else {
      m.StoreHalfIf(on, array, at, value, IsBfloat());
    }
  }
  SENSORSEQ_BODY F LoadOr(const void* array, float otherwise) {
    if (array == nullptr) return F{} + otherwise;
    const F value = Load(has_unit, array, L(unit) + state_at);
    return m.Select(has_unit, value, F{} + otherwise);
  }

  SENSORSEQ_BODY void Start() {
    h = LoadOr(p.h_0, 0.0f) + poison;
    c = LoadOr(p.c_0, 0.0f) + poison;
    mask = LoadOr(p.recurrent_mask, 1.0f);
    sum = poison;
    largest = F{} - 2.0f;  // |h| <= 1
    m.StoreSharedFloatIf(q == U{}, m.Address(unit * 4u + Shared::kState), h * mask);
    if (kSaves) {
      argmax = U{} - 1u;
      saved = p.saved + this->SavedOfWindow(V::kHidden);
      const auto is_state = m.And(q == U{} + uint32_t{kUnitState - kUnitCell}, B(n_steps > 0));
      m.StoreGlobalIf(is_state, saved + kUnitCell, SavedOfLane(), h * mask);
    }
    if (kIsProjected) return;
    fetched = FetchedAt(0);
    StoreFetched(0);
  }

  // Thread i fetches channel i % kChannels of step `step` + i / kChannels.
  SENSORSEQ_BODY U FetchedAt(int step) {
    const U of = thread / static_cast<uint32_t>(kChannels);
    const U channel = thread - of * static_cast<uint32_t>(kChannels);
    const L time = L(of) + int64_t{step};
    const auto on = m.And(m.And(of < U{} + static_cast<uint32_t>(kFetchedSteps),
                                L(channel) < L{} + int64_t{s.n_channels}),
                          time < L{} + int64_t{n_steps});
    return LoadBits(on, p.x, time * (int64_t{stride} * s.n_channels) + L(channel) + x_at);
  }
  SENSORSEQ_BODY void StoreFetched(int buffer) {
    const auto on = thread < U{} + static_cast<uint32_t>(kChannels * kFetchedSteps);
    const uint32_t to = Shared::kInput + static_cast<uint32_t>(buffer) * Shared::kInputBytes;
    m.StoreSharedFloatIf(on, m.Address(thread * 4u + to), Converted(fetched));
  }
  // Fetches x of the next steps. The values stay in a register for half of the steps of a buffer,
  // so that nothing waits for them.
  SENSORSEQ_BODY void FetchInput(int step) {
    const int phase = step % kFetchedSteps;
    if (phase == 0) fetched = FetchedAt(step + kFetchedSteps);
    if (phase == kFetchedSteps / 2) StoreFetched((step / kFetchedSteps + 1) & 1);
  }

  // Called for each step in turn.
  SENSORSEQ_BODY U Projected(int step) {
    const L at = projected_at;
    projected_at = at + int64_t{4} * stride * s.n_directions * s.hidden_size;
    return LoadBits(m.And(has_unit, B(step < n_steps)), p.x, at);
  }

  // Computes the input's contribution to the lane's gate.
  SENSORSEQ_BODY void Input(int step) {
    if (kIsProjected) {
      z_in = Converted(ahead[0]);
      ahead[0] = ahead[1];
      ahead[1] = Projected(step + 2);
      return;
    }
    z_in = bias;
    SENSORSEQ_UNROLL
    for (int b = 0; b < kBlocks; ++b) {
      F x[4];
      m.LoadSharedFloats(input_at + static_cast<uint32_t>(b * 16), x);
      SENSORSEQ_UNROLL
      for (int e = 0; e < 4; ++e) z_in = m.Fma(x[e], w_in[(4 * b + e) % kChannels], z_in);
    }
    // the two buffers are adjacent
    const bool wraps = (step & (2 * kFetchedSteps - 1)) == 2 * kFetchedSteps - 1;
    input_at = input_at + (kBlocks * 16u - (wraps ? 2 * Shared::kInputBytes : 0u));
  }

  SENSORSEQ_BODY void LoadState() {
    SENSORSEQ_UNROLL
    for (int j = 0; j < kEarly; ++j) m.LoadSharedFloats(load_at + 64u * j, state[j]);
  }
  SENSORSEQ_BODY void Product(int step) {
    sum = m.Select(B(step > 0), sum + h, sum);  // of the previous step
    F sums[kGates] = {z_in, F{}, F{}, F{}};
    SENSORSEQ_UNROLL
    for (int j = 0; j < V::kQuads; ++j) {
      F now[4];
      SENSORSEQ_UNROLL
      for (int e = 0; e < 4; ++e) now[e] = state[j % kEarly][e];
      if (j + kEarly < V::kQuads) {
        m.LoadSharedFloats(load_at + static_cast<uint32_t>(64 * (j + kEarly)), state[j % kEarly]);
      }
      SENSORSEQ_UNROLL
      for (int e = 0; e < 4; ++e) {
        SENSORSEQ_UNROLL
        for (int slot = 0; slot < kGates; ++slot) {
          sums[slot] = m.Fma(now[e], weight[slot][j][e], sums[slot]);
        }
      }
    }
    const F kept = sums[0] + m.ShuffleXor(sums[2], 2);
    const F sent = sums[1] + m.ShuffleXor(sums[3], 2);
    z = kept + m.ShuffleXor(sent, 1);
  }

  SENSORSEQ_BODY void Cell(int step) {
    Input(step + 1);
    const F e = m.Exp2(m.MinOrNan(z * factor, F{} + kInverseLimit));
    const F elsewhere = m.Fma(e, sign, F{} + 1.0f) * Inverse(m, e + 1.0f);
    const F gate = TanhNearZero(m, z, elsewhere, near_limit);
    if (kSaves) m.StoreGlobalIf(B(true), saved, SavedOfLane(), gate);
    const F i = m.ShuffleInFour(gate, kInputGate), f = m.ShuffleInFour(gate, kForgetGate);
    const F g = m.ShuffleInFour(gate, kCellGate), o = m.ShuffleInFour(gate, kOutputGate);
    c = m.Fma(f, c, i * g);
    tanh_c = TanhOf(c);
    h = o * tanh_c;
    m.StoreSharedFloatIf(q == U{}, store_at, h * mask);
    // the other buffer
    load_at = load_at + forth;
    store_at = store_at - forth;
    forth = 0u - forth;
  }
  SENSORSEQ_BODY F TanhOf(const F& x) {
    const F e = m.Exp2(m.MinOrNan(x * (-2 * kLog2E), F{} + kInverseLimit));
    return TanhNearZero(m, x, (1.0f - e) * Inverse(m, e + 1.0f), F{} + 0.25f);
  }

  SENSORSEQ_BODY void Record(int step) {
    if (HasMaximum()) {
      auto takes = m.Or(h > largest, h != h);  // NaN is kept
      if (kSaves) {
        // of equal maxima, the earliest timestep's
        takes = m.Or(takes, m.And(h == largest, B(direction != 0)));
        argmax = m.Select(takes, U{} + static_cast<uint32_t>(step), argmax);
      }
      largest = m.Select(takes, h, largest);
    }
    if (p.hidden != nullptr) {
      Store(m.And(has_unit, q == U{} + 2u), p.hidden, L(unit) + this->HiddenAt(step), h);
    }
    if (kSaves) Save(step);
  }
  // Saves a step's values except the gates, which Cell saves, and h for the step after it.
  SENSORSEQ_BODY void Save(int step) {
    const auto is_cell = q == U{}, is_state = q == U{} + uint32_t{kUnitState - kUnitCell},
               is_tanh = q == U{} + uint32_t{kUnitTanh - kUnitCell};
    m.StoreGlobalIf(m.Or(is_cell, is_tanh), saved + kUnitCell, SavedOfLane(),
                    m.Select(is_cell, c, tanh_c));
    saved += PortableStepFloats(V::kHidden);
    m.StoreGlobalIf(m.And(is_state, B(step + 1 < n_steps)), saved + kUnitCell, SavedOfLane(),
                    h * mask);
  }
  SENSORSEQ_BODY L SavedOfLane() { return L(unit * uint32_t{kUnitFloats} + q); }

  SENSORSEQ_BODY void Finish() {
    this->Locate();
    const auto owns = m.And(has_unit, q == U{});
    if (kSaves) {
      const int64_t at =
          this->SavedOfWindow(V::kHidden) + s.n_timesteps * PortableStepFloats(V::kHidden);
      m.StoreGlobalIf(q == U{}, p.saved, L(unit) + at, m.AsFloat(argmax));
    }
    Store(owns, p.h_n, L(unit) + state_at, h);
    Store(owns, p.c_n, L(unit) + state_at, c);
    if (s.pooling != Pooling::kNone) Pool(owns);
    if (s.n_classes > 0) Head();
  }
  SENSORSEQ_BODY void Pool(const B& owns) {
    const L at = L(unit) + this->PooledAt();
    // If there are no steps, the sum is still 0, or NaN if the length is out of range.
    F mean = sum, last = sum, most = sum;
    if (n_steps > 0) {
      mean = sum / static_cast<float>(n_steps);
      last = h;
      most = largest;
    }
    if (s.pooling == Pooling::kLast) Store(owns, p.pooled, at, last);
    if (this->HasMean()) Store(owns, p.pooled, at, mean);
    if (s.pooling == Pooling::kMax) Store(owns, p.pooled, at, most);
    if (s.pooling == Pooling::kMeanMax) {
      Store(owns, p.pooled, at + this->PooledStride(), most);
    }
  }

  // The last direction to arrive computes the logits. Each logit is summed in a fixed order.
  SENSORSEQ_BODY void Head() {
    m.SyncCta();
    if (s.n_directions > 1 && !m.IsLastOfCtas(p.arrived, of_row, s.n_directions, Shared::kFlag)) {
      return;
    }
    const int64_t width =
        int64_t{s.n_directions} * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
    const U lane = m.Lane();
    for (int64_t k = m.Warp(); k < s.n_classes; k += V::kWarps) {
      const int64_t of_class = model * s.n_classes + k;
      F total = F{};
      for (int64_t first = 0; first < width; first += kLanes) {
        const L at = L(lane) + first;
        const auto inside = at < L{} + width;
        total = m.Fma(LoadPooled(inside, at + of_row * width),
                      Load(inside, p.weight_out, at + of_class * width), total);
      }
      for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        total = total + m.ShuffleXor(total, distance);
      }
      const auto first_lane = lane == U{};
      Store(first_lane, p.logits, L{} + (of_row * s.n_classes + k),
            total + Load(first_lane, p.bias_out, L{} + of_class));
    }
  }
  SENSORSEQ_BODY F LoadPooled(const B& on, const L& at) {
    if (p.element == Element::kFloat32) {
      return m.LoadFreshIf(on, static_cast<const float*>(p.pooled), at);
    }
    return m.Widened(m.LoadFreshHalfIf(on, p.pooled, at), IsBfloat());
  }

  const PortableParams& p;
  int64_t x_at;
  F factor, sign, near_limit;
  F weight[kGates][V::kQuads][4], w_in[kChannels], bias;
  U ahead[2], fetched;
  F z_in, z, state[kEarly][4];
  U load_at, store_at, input_at;
  uint32_t forth;
  L projected_at;
  F h, c, mask, sum, largest;
  F tanh_c;  // of the last step
  U argmax;
  float* saved;  // the step's
};

}  // namespace sensorseq::cuda
