// A machine for the kernels of csrc/cuda on the host: the bodies compile against it unchanged, with
// 32 numbers for every value of a lane. Warps run as fibers that give way at random, messages
// between CTAs arrive late and out of order. It checks what hardware leaves undefined:
//
//   - races on shared memory: between warps, between a message and a warp, and between lanes of a
//     warp without a __syncwarp in between; global memory read that another warp of the cluster
//     wrote, out of order or from a cache that may be stale
//   - shared memory read before it was written, or before a copy has been waited for; a copy's
//     source written under way
//   - deadlock, over-arrival at a barrier, a barrier used before it exists, a phase passed twice or
//     lapped
//   - stores to a CTA that has left, or that may have
//
// Stricter than the hardware: a warp that waits at an mbarrier waits for each of its phases in
// turn; one that has left is waited for in vain by __syncthreads; an mbarrier that messages use
// needs its fence.
//
// What an MMA does is taken from the PTX manual's fragments; that it sums exactly and then
// truncates is an assumption that stands in research, to be measured on hardware.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cluster.h"
#include "halves.h"
#include "lanes.h"

namespace emulator {

// One warp: what csrc/cuda's bodies call their machine.
class Machine {
 public:
  using F = emulator::F;
  using I = emulator::I;
  using U = emulator::U;
  using L = emulator::L;
  using B = emulator::B;

  Machine(Cluster& cluster, int rank, int warp, int64_t tile, int direction, int64_t model)
      : cluster_(cluster),
        cta_(cluster.cta(rank)),
        rank_(rank),
        warp_(warp),
        tile_(tile),
        direction_(direction),
        model_(model),
        component_(rank * cluster.n_warps() + warp),
        own_(static_cast<size_t>(component_)),
        clock_(cluster.n_components()) {
    Tick();
  }
  ~Machine() { Join(cta_.left, clock_); }
  Machine(const Machine&) = delete;

  static U Lane() {
    U lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = static_cast<uint32_t>(l);
    return lane;
  }
  int Warp() const { return warp_; }
  int Rank() const { return rank_; }
  int64_t Tile() const { return tile_; }
  int Direction() const { return direction_; }
  int64_t Model() const { return model_; }

  // Conversions and choice.
  template <typename T>
  static I ToInt(const Lanes<T>& x) {
    return x.template As<int32_t>();
  }
  static U ToUnsigned(const I& x) { return x.As<uint32_t>(); }
  template <typename T>
  static L ToLong(const Lanes<T>& x) {
    return x.template As<int64_t>();
  }
  static F ToFloat(const I& x) { return x.As<float>(); }
  static F AsFloat(const U& x) { return x.Bits<float>(); }
  static F AsFloat(const I& x) { return x.Bits<float>(); }
  static I AsInt(const F& x) { return x.Bits<int32_t>(); }
  static U AsUnsigned(const F& x) { return x.Bits<uint32_t>(); }
  static B True() { return B(true); }
  static B And(const B& x, const B& y) { return x & y; }
  static B Or(const B& x, const B& y) { return x | y; }
  static B Not(const B& x) { return x == B(false); }
  static B AndUniform(const B& x, bool y) { return x & B(y); }
  template <typename T>
  static Lanes<T> Select(const B& c, const Lanes<T>& x, const Lanes<T>& y) {
    return Choose(c, x, y);
  }

  // Arithmetic.
  EMULATED static F Fma(const F& a, const F& b, const F& c) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = std::fma(a[l], b[l], c[l]);
    return r;
  }
  template <typename G>
  static F Map(const F& x, G g) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = g(x[l]);
    return r;
  }
  static F Exp2(const F& x) {
    return Map(x, [](float v) { return std::exp2(v); });
  }
  static F Reciprocal(const F& x) { return 1.0f / x; }
  static F Divide(const F& x, const F& y) { return x / y; }
  static F Abs(const F& x) {
    return Map(x, [](float v) { return std::fabs(v); });
  }
  EMULATED static F Max(const F& x, const F& y) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = std::fmax(x[l], y[l]);
    return r;
  }
  static F MinOrNan(const F& x, const F& y) { return Choose(x > y, y, x); }
  // eleven bits, as the manual says of tanh.approx
  static F TanhApprox(const F& x) {
    return Map(x, [](float v) {
      int exponent;
      const float fraction = std::frexp(std::tanh(v), &exponent);
      return std::ldexp(std::nearbyint(fraction * 2048) / 2048, exponent);
    });
  }
  // A power of two that brings x to [2^exponent, 2^(exponent + 1)), and its inverse.
  EMULATED static void ScaleTo(const F& x, int exponent, F* scale, F* back) {
    for (int l = 0; l < kLanes; ++l) {
      const int e = sensorseq::cuda::ScaleExponent(AsUnsigned(x)[l], exponent);
      (*scale)[l] = std::ldexp(1.0f, e);
      (*back)[l] = std::ldexp(1.0f, -e);
    }
  }
  EMULATED static U PackHalves(const F& low, const F& high) {
    U r;
    for (int l = 0; l < kLanes; ++l) {
      r[l] = HalfOfFloat(low[l]) | (uint32_t{HalfOfFloat(high[l])} << 16);
    }
    return r;
  }
  EMULATED static F LowHalf(const U& x) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = HalfValue(static_cast<uint16_t>(x[l]));
    return r;
  }
  static F HighHalf(const U& x) { return LowHalf(x >> 16); }

  // Between lanes.
  template <typename T>
  EMULATED static T ShuffleXor(const T& x, int distance) {
    T r;
    for (int l = 0; l < kLanes; ++l) r[l] = x[l ^ distance];
    return r;
  }
  EMULATED static I Shuffle(const I& x, const I& from) {
    I r;
    for (int l = 0; l < kLanes; ++l) r[l] = x[from[l] & 31];
    return r;
  }
  static int64_t Largest(const I& x) {
    int32_t most = x[0];
    for (int l = 1; l < kLanes; ++l) most = std::max(most, x[l]);
    return most;
  }
  // D = A B + D, every sum exact, then truncated.
  EMULATED static void Mma(F d[4], const U a[4], const U& b0, const U& b1) {
    double rows[16][16], columns[16][8];
    for (int l = 0; l < kLanes; ++l) {
      const int g = l / 4, q = l % 4;
      for (int half = 0; half < 2; ++half) {
        auto Value = [&](const U& word) {
          return static_cast<double>(HalfValue(static_cast<uint16_t>(word[l] >> (16 * half))));
        };
        rows[g][2 * q + half] = Value(a[0]);
        rows[g + 8][2 * q + half] = Value(a[1]);
        rows[g][2 * q + 8 + half] = Value(a[2]);
        rows[g + 8][2 * q + 8 + half] = Value(a[3]);
        columns[2 * q + half][g] = Value(b0);
        columns[2 * q + 8 + half][g] = Value(b1);
      }
    }
    double sums[16][8] = {};
    for (int i = 0; i < 16; ++i) {
      for (int k = 0; k < 16; ++k) {
        for (int j = 0; j < 8; ++j) sums[i][j] += rows[i][k] * columns[k][j];
      }
    }
    for (int l = 0; l < kLanes; ++l) {
      for (int i = 0; i < 4; ++i) {
        d[i][l] = Truncated(sums[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] +
                            static_cast<double>(d[i][l]));
      }
    }
  }
  // Lane l gets word l of the 8 x 8 matrix whose transpose the lanes hold.
  EMULATED static U TransposeMatrix(const U& x) {
    U r;
    auto Half = [&](int row, int column) {  // of the matrix that x holds by rows
      return (x[row * 4 + column / 2] >> (16 * (column % 2))) & 0xffff;
    };
    for (int l = 0; l < kLanes; ++l) {
      const int row = l / 4, column = 2 * (l % 4);
      r[l] = Half(column, row) | (Half(column + 1, row) << 16);
    }
    return r;
  }

  // Global memory. A load may be from a cache that knows nothing of what other CTAs have written.
  EMULATED F LoadGlobalIf(const B& on, const float* base, const L& at) {
    F r;
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) r[l] = ReadGlobal(base + at[l], l, false);
    }
    return r;
  }
  EMULATED F LoadFreshIf(const B& on, const float* base, const L& at) {
    F r;
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) r[l] = ReadGlobal(base + at[l], l, true);
    }
    return r;
  }
  EMULATED static L LoadGlobalLongIf(const B& on, const int64_t* base, const L& at) {
    L r;
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) r[l] = base[at[l]];
    }
    return r;
  }
  F Uniform(const float* base, int64_t at) { return LoadGlobalIf(Lane() == U{}, base, at)[0]; }
  static F UniformBits(const uint32_t* base, int64_t at) { return AsFloat(U(base[at])); }
  EMULATED void LoadGlobalFloats(const float* base, const L& at, F r[4]) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 16);
      for (int i = 0; i < 4; ++i) r[i][l] = ReadGlobal(base + at[l] + i, l, false);
    }
  }
  EMULATED void LoadGlobalPair(const float* base, const L& at, F* x, F* y) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 8);
      (*x)[l] = ReadGlobal(base + at[l], l, false);
      (*y)[l] = ReadGlobal(base + at[l] + 1, l, false);
    }
  }
  EMULATED void StoreGlobalIf(const B& on, float* base, const L& at, const F& value) {
    cluster_.MaybeYield();
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) WriteGlobal(base + at[l], value[l], l);
    }
  }
  EMULATED void StoreGlobalFloatsIf(const B& on, float* base, const L& at, const F value[4]) {
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      Aligned(base + at[l], 16);
      for (int i = 0; i < 4; ++i) WriteGlobal(base + at[l] + i, value[i][l], l);
    }
  }
  void StoreGlobalFloats(float* base, const L& at, const F value[4]) {
    StoreGlobalFloatsIf(True(), base, at, value);
  }
  EMULATED void StoreGlobalPair(float* base, const L& at, const F& x, const F& y) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 8);
      WriteGlobal(base + at[l], x[l], l);
      WriteGlobal(base + at[l] + 1, y[l], l);
    }
  }
  // Four words at a time; `at` counts quads.
  EMULATED static void LoadGlobalQuadIf(const B& on, U word[4], const void* base, const L& at) {
    for (int w = 0; w < 4; ++w) word[w] = U{};
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      const uint32_t* from = static_cast<const uint32_t*>(base) + at[l] * 4;
      Aligned(from, 16);
      for (int w = 0; w < 4; ++w) word[w][l] = from[w];
    }
  }
  static void LoadGlobalQuad(U word[4], const void* base, const L& at) {
    LoadGlobalQuadIf(True(), word, base, at);
  }
  EMULATED static void StoreGlobalQuad(void* base, const L& at, const U word[4]) {
    for (int l = 0; l < kLanes; ++l) {
      uint32_t* to = static_cast<uint32_t*>(base) + at[l] * 4;
      Aligned(to, 16);
      for (int w = 0; w < 4; ++w) to[w] = word[w][l];
    }
  }
  // The first lane's.
  static void AtomicMaxBits(uint32_t* base, int64_t at, const F& x) {
    base[at] = std::max(base[at], AsUnsigned(x)[0]);
  }

  // Shared memory of the CTA.
  F LoadSharedFloat(const U& at) {
    U words[1];
    ReadWords(at, 1, words);
    return AsFloat(words[0]);
  }
  void LoadSharedPair(const U& at, F* x, F* y) {
    U words[2];
    ReadWords(at, 2, words);
    *x = AsFloat(words[0]);
    *y = AsFloat(words[1]);
  }
  void LoadSharedFloats(const U& at, F r[4]) {
    U words[4];
    ReadWords(at, 4, words);
    for (int w = 0; w < 4; ++w) r[w] = AsFloat(words[w]);
  }
  void LoadSharedQuad(const U& at, U r[4]) { ReadWords(at, 4, r); }
  void StoreSharedQuadIf(const B& on, const U& at, const U word[4]) { WriteWords(on, at, word, 4); }
  void StoreSharedQuad(const U& at, const U word[4]) { WriteWords(True(), at, word, 4); }
  void StoreSharedPairIf(const B& on, const U& at, const F& x, const F& y) {
    const U word[2] = {AsUnsigned(x), AsUnsigned(y)};
    WriteWords(on, at, word, 2);
  }

  // ldmatrix.x4 of 512 bytes in a row.
  EMULATED void LoadMatrices(uint32_t at, U r[4]) {
    cluster_.MaybeYield();
    if (at % 16 != 0) throw Fault("a matrix at a crooked place");
    for (int w = 0; w < 4; ++w) {
      for (int l = 0; l < kLanes; ++l) {
        r[w][l] = Read(at + static_cast<uint32_t>(w * 128 + l * 4), kAllLanes);
      }
    }
  }
  // stmatrix.x1.trans, .x4.trans
  EMULATED void StoreMatrix(uint32_t at, const U& x) {
    cluster_.MaybeYield();
    if (at % 16 != 0) throw Fault("a matrix at a crooked place");
    const U words = TransposeMatrix(x);
    for (int l = 0; l < kLanes; ++l) {
      Write(at + static_cast<uint32_t>(l * 4), words[l], kAllLanes, false);
    }
  }
  void StoreMatrices(uint32_t at, const U x[4]) {
    for (int i = 0; i < 4; ++i) StoreMatrix(at + static_cast<uint32_t>(i) * 128, x[i]);
  }

  // cp.async: lands at any time until it is waited for; nothing may be read there before, and
  // nothing may change where it comes from.
  EMULATED void CopyAsync(const B& on, const U& to, const float* base, const L& at, const B& valid,
                          int n_words) {
    cluster_.MaybeYield();
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      Aligned(base + at[l], static_cast<size_t>(n_words) * 4);
      if (to[l] % static_cast<uint32_t>(4 * n_words) != 0) throw Fault("a copy to a crooked place");
      for (int w = 0; w < n_words; ++w) {
        const float* from = valid[l] ? base + at[l] + w : nullptr;
        const float value = from == nullptr ? 0.0f : ReadGlobal(from, l, false);
        Copy copy{to[l] + static_cast<uint32_t>(4 * w), l, from, 0};
        std::memcpy(&copy.value, &value, 4);
        Write(copy.to, 0, l, true);
        copies_.back().push_back(copy);
      }
    }
  }
  void CopyAsyncQuad(const U& to, const float* base, const L& at, const B& valid) {
    CopyAsync(True(), to, base, at, valid, 4);
  }
  void CopyAsyncPair(const U& to, const float* base, const L& at) {
    CopyAsync(True(), to, base, at, True(), 2);
  }
  void CopyAsyncWord(const B& on, const U& to, const float* base, const L& at, const B& valid) {
    CopyAsync(on, to, base, at, valid, 1);
  }
  void CommitAsync() { copies_.emplace_back(); }
  // Each lane waits for its own copies alone.
  template <int kLeft>
  void WaitAsync() {
    cluster_.MaybeYield();
    while (copies_.size() > kLeft + 1) {
      Land(copies_.front());
      copies_.erase(copies_.begin());
    }
  }

  // Order.
  void SyncWarp() {
    ++epoch_;
    synced_ = clock_.seen[own_];
    Tick();
  }
  EMULATED void SyncCta() {
    SyncWarp();
    Join(cta_.clock, Behind());
    if (++cta_.n_waiting == cluster_.n_warps()) {
      cta_.n_waiting = 0;
      ++cta_.generation;
      cta_.released = cta_.clock;
    } else {
      const uint64_t generation = cta_.generation;
      cluster_.Yield([this, generation] { return cta_.generation != generation; });
    }
    Join(clock_, cta_.released);
  }
  EMULATED void SyncCluster() {
    SyncWarp();
    Clock clock = Behind();
    cluster_.Sync(clock);
    Join(clock_, clock);
  }
  EMULATED void InitBarrier(uint32_t at, int count) {
    if (at % 8 != 0 || at / 8 >= kBarriers) throw Fault("a barrier outside its place");
    Barrier& b = cta_.barriers[at / 8];
    if (b.exists) throw Fault("a barrier is made twice");
    b.exists = true;
    b.count = b.pending = count;
    b.maker = component_;
    b.made_at = clock_.seen[own_];
  }
  void FenceBarrierInit() {
    for (Barrier& b : cta_.barriers) b.is_fenced |= b.exists && b.maker == component_;
  }
  // The first lane alone arrives: it has the other lanes' accesses behind it only after a SyncWarp.
  void ArmBarrier(uint32_t at, uint32_t bytes) { ArriveWith(at, bytes); }
  void Arrive(uint32_t at) { ArriveWith(at, 0); }
  EMULATED void WaitBarrier(uint32_t at, uint32_t parity) {
    Barrier& b = cluster_.At(rank_, at, clock_);
    cluster_.MaybeYield();
    const bool waits = (b.phase & 1) == parity;
    const int64_t target = waits ? b.phase : b.phase - 1;
    int64_t& passed = passed_[at / 8];
    if (target <= passed) throw Fault("a wait passes by a phase that was waited for before");
    if (target > passed + 1) throw Fault("a phase was lapped before it was waited for");
    if (waits) cluster_.Yield([&b, target] { return b.phase > target; });
    if (b.phase != target + 1) throw Fault("a phase was lapped by who waited for it");
    passed = target;
    // of shared memory alone
    Join(clock_.seen, b.complete.seen);
    Join(clock_.done, b.complete.done);
  }
  EMULATED void SendWord(const U& at, const U& value, int to, uint32_t barrier) {
    const U values[2] = {value, U{}};
    SendWords(at, values, 1, to, barrier);
  }
  EMULATED void SendPair(const U& at, const F& x, const F& y, int to, uint32_t barrier) {
    const U values[2] = {AsUnsigned(x), AsUnsigned(y)};
    SendWords(at, values, 2, to, barrier);
  }
  EMULATED bool IsLastOfCtas(int32_t* arrived, int64_t at, int n_ctas, uint32_t flag) {
    if (warp_ == 0) {
      cluster_.MaybeYield();
      Clock& counter = cluster_.Counter(arrived + at);
      Join(counter, Behind());
      const bool is_last = ++arrived[at] == n_ctas;
      if (is_last) {
        arrived[at] = 0;
        Join(clock_, counter);
      }
      Write(flag, is_last, 0, false);
    }
    SyncCta();
    U words[1];
    ReadWords(flag, 1, words);
    return words[0][0] != 0;
  }

 private:
  struct Copy {
    uint32_t to;
    int lane;
    const float* from;  // null: zeros
    uint32_t value;
  };

  static void Aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) throw Fault("a crooked address");
  }

  void Tick() { clock_.seen[own_] = clock_.done[own_] = ++clock_.global[own_]; }
  // What a lane alone may release: the others' accesses since the last SyncWarp are not among it.
  Clock Behind() const {
    Clock clock = clock_;
    clock.seen[own_] = clock.done[own_] = clock.global[own_] = synced_;
    return clock;
  }
  void ArriveWith(uint32_t at, uint32_t bytes) {
    cluster_.MaybeYield();
    cluster_.Arrive(cluster_.At(rank_, at, clock_), bytes, Behind());
  }
  void SendWords(const U& at, const U values[2], int n_words, int to, uint32_t barrier) {
    cluster_.MaybeYield();
    if (to < 0 || to >= cluster_.n_ctas()) throw Fault("a message to nobody");
    const auto clock = std::make_shared<const Clock>(clock_);
    const int component = component_ + cluster_.n_components() / 2;
    for (int l = 0; l < kLanes; ++l) {
      if (at[l] % static_cast<uint32_t>(4 * n_words) != 0) {
        throw Fault("a message to a crooked place");
      }
      cluster_.Send({to,
                     barrier,
                     static_cast<uint32_t>(n_words),
                     at[l],
                     {values[0][l], values[1][l]},
                     clock,
                     component,
                     ++sent_});
    }
    Tick();  // what follows is not behind it
  }
  void Land(const std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
      if (copy.from != nullptr && std::memcmp(copy.from, &copy.value, 4) != 0) {
        throw Fault("a copy's source changed under way");
      }
      Word& word = cta_.words[copy.to / 4];
      std::memcpy(&cta_.shared[copy.to], &copy.value, 4);
      word.arriving = false;
      word.written_at = clock_.seen[own_];
      word.epoch = epoch_;
    }
  }

  float ReadGlobal(const float* from, int lane, bool is_fresh) {
    const auto at = cluster_.global().find(from);
    if (at != cluster_.global().end()) {
      const GlobalWrite& write = at->second;
      if (write.writer == component_) {
        if (write.lane != lane && write.epoch == epoch_) {
          throw Fault("a lane reads what another wrote, with no __syncwarp between");
        }
      } else if (write.written_at > clock_.global[static_cast<size_t>(write.writer)]) {
        throw Fault("a read of global memory races with a write");
      } else if (!is_fresh && write.writer / cluster_.n_warps() != rank_) {
        throw Fault("a read of what another CTA wrote, from a cache that may be stale");
      }
    }
    return *from;
  }
  void WriteGlobal(float* to, float value, int lane) {
    GlobalWrite& write = cluster_.global()[to];
    if (write.writer == component_) {
      if (write.lane != lane && write.epoch == epoch_) {
        throw Fault("two lanes write one place, with no __syncwarp between");
      }
    } else if (write.writer >= 0 &&
               write.written_at > clock_.global[static_cast<size_t>(write.writer)]) {
      throw Fault("a write to global memory races with a write");
    }
    write = {component_, clock_.global[own_], epoch_, static_cast<int8_t>(lane)};
    std::memcpy(to, &value, 4);
  }

  EMULATED void ReadWords(const U& at, int n, U* r) {
    cluster_.MaybeYield();
    for (int l = 0; l < kLanes; ++l) {
      if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a read of a crooked place");
      for (int w = 0; w < n; ++w) r[w][l] = Read(at[l] + static_cast<uint32_t>(4 * w), l);
    }
  }
  EMULATED void WriteWords(const B& on, const U& at, const U* words, int n) {
    cluster_.MaybeYield();
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a write to a crooked place");
      for (int w = 0; w < n; ++w) {
        Write(at[l] + static_cast<uint32_t>(4 * w), words[w][l], l, false);
      }
    }
  }

  static uint32_t Bits(int lane) { return lane == kAllLanes ? 0xffffffffu : 1u << lane; }
  // Whether accesses by these lanes, one of them a write, are by a single one.
  static bool IsOneLane(uint32_t lanes, int lane) {
    return lane != kAllLanes && (lanes & ~Bits(lane)) == 0;
  }

  Word& WordAt(uint32_t address) {
    if (address % 4 != 0 || address + 4 > cta_.shared.size()) {
      throw Fault("an access outside shared memory");
    }
    if (cta_.IsBarrier(address)) throw Fault("an access to a barrier as to data");
    return cta_.words[address / 4];
  }

  uint32_t Read(uint32_t address, int lane) {
    Word& word = WordAt(address);
    if (word.writer < 0) throw Fault("shared memory is read before it was written");
    if (word.arriving) throw Fault("a copy is read before it was waited for");
    if (word.writer == component_) {
      if (word.epoch == epoch_ && (word.lane != lane || lane == kAllLanes)) {
        throw Fault("a lane reads what another wrote, with no __syncwarp between");
      }
    } else if (word.written_at > clock_.seen[static_cast<size_t>(word.writer)]) {
      throw Fault("a read races with a write");
    }
    Word::Read& read = word.reads[static_cast<size_t>(warp_)];
    if (read.epoch != epoch_) read.lanes = 0;
    read.at = clock_.seen[own_];
    read.epoch = epoch_;
    read.lanes |= Bits(lane);
    uint32_t value;
    std::memcpy(&value, &cta_.shared[address], 4);
    return value;
  }

  void Write(uint32_t address, uint32_t value, int lane, bool arriving) {
    Word& word = WordAt(address);
    if (word.arriving) throw Fault("a write races with a copy");
    if (word.writer == component_) {
      if (word.epoch == epoch_ && (word.lane != lane || lane == kAllLanes)) {
        throw Fault("two lanes write one place, with no __syncwarp between");
      }
    } else if (word.writer >= 0 && !cluster_.IsBehind(word.writer, word.written_at, clock_)) {
      throw Fault("a write races with a write");
    }
    for (int warp = 0; warp < cluster_.n_warps(); ++warp) {
      const Word::Read& read = word.reads[static_cast<size_t>(warp)];
      if (warp == warp_) {
        if (read.epoch == epoch_ && read.lanes != 0 && !IsOneLane(read.lanes, lane)) {
          throw Fault("a lane writes what another read, with no __syncwarp between");
        }
      } else if (read.at > clock_.done[static_cast<size_t>(rank_ * cluster_.n_warps() + warp)]) {
        throw Fault("a write overwrites what another warp may still read");
      }
    }
    word.writer = component_;
    word.written_at = clock_.seen[own_];
    word.epoch = epoch_;
    word.lane = static_cast<int8_t>(lane);
    word.arriving = arriving;
    if (!arriving) std::memcpy(&cta_.shared[address], &value, 4);
  }

  Cluster& cluster_;
  Cta& cta_;
  const int rank_, warp_;
  const int64_t tile_;
  const int direction_;
  const int64_t model_;
  const int component_;
  const size_t own_;
  Clock clock_;
  uint32_t sent_ = 0, epoch_ = 1, synced_ = 0;
  int64_t passed_[kBarriers] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  std::vector<std::vector<Copy>> copies_{1};
};

}  // namespace emulator
