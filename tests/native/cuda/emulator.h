// A host machine for the kernels of csrc/cuda. The kernels' bodies compile against this machine
// unchanged, but each value is 32 numbers, one for each lane. Warps run as fibers that yield at
// random, and messages between CTAs arrive late and out of order. The machine checks for behavior
// that hardware leaves undefined:
//
//   - races on shared memory: between warps, between a message and a warp, and between lanes of a
//     warp without a __syncwarp in between
//   - reads of global memory written by another warp of the cluster, if the read is not ordered
//     after the write or comes from a cache that may be stale
//   - reads of shared memory before it is written or before the wait for a copy into it, and writes
//     to a copy's source during the copy
//   - deadlock, over-arrival at a barrier, use of a barrier before it exists, and phases that are
//     passed twice or lapped
//   - stores to a CTA that has left, or that may have left
//
// The machine is stricter than hardware in three ways: a warp that waits at an mbarrier must wait
// for each of the mbarrier's phases in turn, __syncthreads waits forever for a warp that has left,
// and an mbarrier that messages use needs a fence.
//
// The operands of an MMA follow the PTX manual's fragments. The machine assumes that an MMA sums
// exactly and then truncates, which is still to be tested on hardware.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cluster.h"
#include "cuda/layout.cuh"
#include "halves.h"
#include "lanes.h"

namespace emulator {

// One warp: the machine on which the bodies in csrc/cuda run.
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

  static U Lane();
  int Warp() const { return warp_; }
  int Rank() const { return rank_; }
  int64_t Tile() const { return tile_; }
  int Direction() const { return direction_; }
  int64_t Model() const { return model_; }

  // The same bits as another type, and choice.
  static F AsFloat(const U& x) { return x.Bits<float>(); }
  static F AsFloat(const I& x) { return x.Bits<float>(); }
  static I AsInt(const F& x) { return x.Bits<int32_t>(); }
  static U AsUnsigned(const F& x) { return x.Bits<uint32_t>(); }
  static B And(const B& x, const B& y) { return x & y; }
  static B Or(const B& x, const B& y) { return x | y; }
  template <typename T>
  static Lanes<T> Select(const B& c, const Lanes<T>& x, const Lanes<T>& y) {
    return Choose(c, x, y);
  }

  // Arithmetic.
  static F Fma(const F& a, const F& b, const F& c);
  static F Exp2(const F& x);
  static F Reciprocal(const F& x) { return 1.0f / x; }
  static F Abs(const F& x);
  static F Max(const F& x, const F& y);
  static F MinOrNan(const F& x, const F& y) { return Choose(x <= y, x, Choose(x != x, x, y)); }
  // accurate to eleven bits, as the manual specifies for tanh.approx
  static F TanhApprox(const F& x);
  // A power of two that scales x to [2^exponent, 2^(exponent + 1)), and its inverse.
  static void ScaleTo(const F& x, int exponent, F* scale, F* back) {
    for (int l = 0; l < kLanes; ++l) {
      const int e = sensorseq::cuda::ScaleExponent(AsUnsigned(x)[l], exponent);
      (*scale)[l] = std::ldexp(1.0f, e);
      (*back)[l] = std::ldexp(1.0f, -e);
    }
  }
  static U Opaque(const U& x) { return x; }
  static int Opaque(int x) { return x; }
  static bool Opaque(bool x) { return x; }
  static U PackHalves(const F& low, const F& high);
  static F LowHalf(const U& x);
  static F HighHalf(const U& x) { return LowHalf(x >> 16); }

  // Between lanes.
  template <typename T>
  static T ShuffleXor(const T& x, int distance) {
    T r;
    for (int l = 0; l < kLanes; ++l) r[l] = x[l ^ distance];
    return r;
  }
  static I Shuffle(const I& x, const I& from);
  static F ShuffleInFour(const F& x, int of);
  static int64_t Largest(const I& x);
  // D = A B + D, with every sum exact and then truncated.
  static void Mma(F d[4], const U a[4], const U& b0, const U& b1);
  // Lane l gets word l of the 8 x 8 matrix whose transpose is in the lanes.
  static U TransposeMatrix(const U& x);

  // Functions that call `g` with the index of each lane, last lane first, and functions that sum
  // over lanes.
  template <typename G>
  static auto PerLane(const G& g) {
    std::array<decltype(g(int64_t{})), kLanes> r;
    for (int l = kLanes - 1; l >= 0; --l) r[l] = g(l);
    return r;
  }
  template <typename G>
  static void ForLanes(const G& g) {
    for (int l = kLanes - 1; l >= 0; --l) g(l);
  }
  template <typename G>
  static void Once(const G& g) {
    g();
  }
  static double LaneSum(std::array<double, kLanes> x) {
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      for (int l = 0; l < distance; ++l) x[l] += x[l + distance];
    }
    return x[0];
  }
  template <typename T>
  static T LaneSum(const std::array<T, kLanes>& x) {
    std::array<double, kLanes> first, second;
    for (int l = 0; l < kLanes; ++l) first[l] = x[l].first, second[l] = x[l].second;
    return {LaneSum(first), LaneSum(second)};
  }

  // Global memory. A load may come from a cache that lacks the writes of other CTAs.
  F LoadGlobalIf(const B& on, const float* base, const L& at);
  F LoadFreshIf(const B& on, const float* base, const L& at);
  static L LoadGlobalLongIf(const B& on, const int64_t* base, const L& at);
  F Uniform(const float* base, int64_t at) { return LoadGlobalIf(Lane() == U{}, base, at)[0]; }
  static int64_t UniformLong(const int64_t* base, int64_t at) { return base[at]; }
  void LoadGlobalFloatsIf(const B& on, const float* base, const L& at, F r[4]);
  U LoadHalfIf(const B& on, const void* base, const L& at);
  U LoadFreshHalfIf(const B& on, const void* base, const L& at);
  static F Widened(const U& bits, bool is_bfloat);
  void StoreHalfIf(const B& on, void* base, const L& at, const F& value, bool is_bfloat);
  static F UniformBits(const uint32_t* base, int64_t at) { return AsFloat(U(base[at])); }
  void LoadGlobalFloats(const float* base, const L& at, F r[4]);
  void LoadGlobalPair(const float* base, const L& at, F* x, F* y);
  void StoreGlobalIf(const B& on, float* base, const L& at, const F& value);
  void StoreGlobalFloatsIf(const B& on, float* base, const L& at, const F value[4]);
  void StoreGlobalFloats(float* base, const L& at, const F value[4]) {
    StoreGlobalFloatsIf(B(true), base, at, value);
  }
  void StoreGlobalPair(float* base, const L& at, const F& x, const F& y);
  // Four words at a time; `at` counts groups of four words.
  static void LoadGlobalQuadIf(const B& on, U word[4], const void* base, const L& at);
  static void LoadGlobalQuad(U word[4], const void* base, const L& at) {
    LoadGlobalQuadIf(B(true), word, base, at);
  }
  static void StoreGlobalQuad(void* base, const L& at, const U word[4]);
  // Uses only the value of the first lane.
  static void AtomicMaxBits(uint32_t* base, int64_t at, const F& x) {
    base[at] = std::max(base[at], AsUnsigned(x)[0]);
  }

  // Shared memory of the CTA.
  static U Address(const U& at) { return at; }
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
  void StoreSharedQuad(const U& at, const U word[4]) { WriteWords(B(true), at, word, 4); }
  void StoreSharedFloatIf(const B& on, const U& at, const F& x) {
    const U word[1] = {AsUnsigned(x)};
    WriteWords(on, at, word, 1);
  }
  void StoreSharedPairIf(const B& on, const U& at, const F& x, const F& y) {
    const U word[2] = {AsUnsigned(x), AsUnsigned(y)};
    WriteWords(on, at, word, 2);
  }

  // ldmatrix.x4 of 512 consecutive bytes.
  void LoadMatrices(uint32_t at, U r[4]);
  // stmatrix.x1.trans, .x4.trans
  void StoreMatrix(uint32_t at, const U& x);
  void StoreMatrices(uint32_t at, const U x[4]) {
    for (int i = 0; i < 4; ++i) StoreMatrix(at + static_cast<uint32_t>(i) * 128, x[i]);
  }

  // cp.async: the data may arrive at any time before the wait for them ends. Until then, the target
  // must not be read, and the source must not change.
  void CopyAsync(const B& on, const U& to, const float* base, const L& at, const B& valid,
                 int n_words);
  void CopyAsyncQuad(const U& to, const float* base, const L& at, const B& valid) {
    CopyAsync(B(true), to, base, at, valid, 4);
  }
  void CopyAsyncPair(const U& to, const float* base, const L& at) {
    CopyAsync(B(true), to, base, at, B(true), 2);
  }
  void CopyAsyncWord(const U& to, const float* base, const L& at, const B& valid) {
    CopyAsync(B(true), to, base, at, valid, 1);
  }
  void CommitAsync() { copies_.emplace_back(); }
  // Each lane waits only for its own copies.
  template <int kLeft>
  void WaitAsync() {
    cluster_.MaybeYield();
    while (copies_.size() > kLeft + 1) {
      Land(copies_.front());
      copies_.erase(copies_.begin());
    }
  }

  // Synchronization.
  void SyncWarp() {
    ++epoch_;
    synced_ = clock_.seen[own_];
    Tick();
  }
  void SyncCta();
  void SyncCluster();
  void InitBarrier(uint32_t at, int count);
  void FenceBarrierInit() {
    for (Barrier& b : cta_.barriers) b.is_fenced |= b.exists && b.maker == component_;
  }
  // Only the first lane arrives. The other lanes' accesses happen before this arrival only if a
  // SyncWarp is in between.
  void ArmBarrier(uint32_t at, uint32_t bytes) { ArriveWith(at, bytes); }
  void Arrive(uint32_t at) { ArriveWith(at, 0); }
  void WaitBarrier(uint32_t at, uint32_t parity);
  void SendWord(const U& at, const U& value, int to, uint32_t barrier);
  void SendPair(const U& at, const F& x, const F& y, int to, uint32_t barrier);
  bool IsLastOfCtas(int32_t* arrived, int64_t at, int n_ctas, uint32_t flag);

 private:
  struct Copy {
    uint32_t to;
    int lane;
    const float* from;  // null: zeros
    uint32_t value;
  };

  static void Aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) throw Fault("a misaligned address");
  }

  void Tick() { clock_.seen[own_] = clock_.done[own_] = ++clock_.global[own_]; }
  // The clock that a single lane may release: it omits the other lanes' accesses since the last
  // SyncWarp.
  Clock Behind() const;
  void ArriveWith(uint32_t at, uint32_t bytes);
  void SendWords(const U& at, const U values[2], int n_words, int to, uint32_t barrier);
  void Land(const std::vector<Copy>& copies);

  template <typename T>
  T ReadGlobal(const T* from, int lane, bool is_fresh);
  template <typename T>
  void WriteGlobal(T* to, T value, int lane);

  void ReadWords(const U& at, int n, U* r);
  void WriteWords(const B& on, const U& at, const U* words, int n);

  static uint32_t Bits(int lane) { return lane == kAllLanes ? 0xffffffffu : 1u << lane; }
  // Returns whether a single lane made all accesses: the earlier ones, by `lanes`, and the new one,
  // by `lane`.
  static bool IsOneLane(uint32_t lanes, int lane) {
    return lane != kAllLanes && (lanes & ~Bits(lane)) == 0;
  }

  Word& WordAt(uint32_t address);

  uint32_t Read(uint32_t address, int lane);

  void Write(uint32_t address, uint32_t value, int lane, bool arriving);

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
