// The machine that the kernels' bodies run on: a thread of a GPU of compute capability 9.0, its
// instructions by name. The emulator of the tests has the same functions for 32 lanes at once; what
// each must do is written there in plain C++.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "layout.h"

namespace sensorseq::cuda {

// kCtas: of the cluster, which counts the CTAs of a tile in x.
template <int kCtas>
class DeviceMachine {
 public:
  using F = float;
  using I = int32_t;
  using U = uint32_t;
  using L = int64_t;
  using B = bool;

  __device__ __forceinline__ DeviceMachine() {
    extern __shared__ __align__(128) char shared_memory[];
    base_ = static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory));
  }

  static __device__ __forceinline__ U Lane() { return threadIdx.x % kLanes; }
  // the same for all lanes, and known to be
  static __device__ __forceinline__ int Warp() {
    return __shfl_sync(kAll, static_cast<int>(threadIdx.x / kLanes), 0);
  }
  static __device__ __forceinline__ int Rank() {
    return kCtas == 1 ? 0 : static_cast<int>(blockIdx.x % kCtas);
  }
  static __device__ __forceinline__ int64_t Tile() { return blockIdx.x / kCtas; }
  static __device__ __forceinline__ int Direction() { return static_cast<int>(blockIdx.y); }
  static __device__ __forceinline__ int64_t Model() { return blockIdx.z; }

  // Conversions and choice.
  template <typename T>
  static __device__ __forceinline__ I ToInt(T x) {
    return static_cast<I>(x);
  }
  static __device__ __forceinline__ U ToUnsigned(I x) { return static_cast<U>(x); }
  template <typename T>
  static __device__ __forceinline__ L ToLong(T x) {
    return static_cast<L>(x);
  }
  static __device__ __forceinline__ F ToFloat(I x) { return static_cast<F>(x); }
  static __device__ __forceinline__ F AsFloat(U x) { return __uint_as_float(x); }
  static __device__ __forceinline__ F AsFloat(I x) { return __int_as_float(x); }
  static __device__ __forceinline__ I AsInt(F x) { return __float_as_int(x); }
  static __device__ __forceinline__ U AsUnsigned(F x) { return __float_as_uint(x); }
  static __device__ __forceinline__ B True() { return true; }
  static __device__ __forceinline__ B And(bool x, bool y) { return x && y; }
  static __device__ __forceinline__ B AndUniform(bool x, bool y) { return x && y; }
  static __device__ __forceinline__ B Or(bool x, bool y) { return x || y; }
  static __device__ __forceinline__ B Not(bool x) { return !x; }
  template <typename T>
  static __device__ __forceinline__ T Select(bool c, T x, T y) {
    return c ? x : y;
  }

  // Arithmetic.
  static __device__ __forceinline__ F Fma(F a, F b, F c) { return __fmaf_rn(a, b, c); }
  static __device__ __forceinline__ F Exp2(F x) {
    F y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ F Reciprocal(F x) {
    F y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ F Divide(F x, F y) { return __fdiv_rn(x, y); }
  static __device__ __forceinline__ F Abs(F x) { return fabsf(x); }
  static __device__ __forceinline__ F Max(F x, F y) { return fmaxf(x, y); }
  static __device__ __forceinline__ F MinOrNan(F x, F y) {
    F z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
  }
  static __device__ __forceinline__ F TanhApprox(F x) {
    F y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ void ScaleTo(F x, int exponent, F* scale, F* back) {
    const int e = ScaleExponent(__float_as_uint(x), exponent);
    *scale = __int_as_float((127 + e) << 23);
    *back = __int_as_float((127 - e) << 23);
  }
  static __device__ __forceinline__ U PackHalves(F low, F high) {
    U word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
  }
  static __device__ __forceinline__ F LowHalf(U x) {
    F y;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(y) : "r"(x));
    return y;
  }
  static __device__ __forceinline__ F HighHalf(U x) {
    F y;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high;}" : "=f"(y) : "r"(x));
    return y;
  }

  // Between lanes.
  template <typename T>
  static __device__ __forceinline__ T ShuffleXor(T x, int distance) {
    return __shfl_xor_sync(kAll, x, distance);
  }
  static __device__ __forceinline__ I Shuffle(I x, I from) { return __shfl_sync(kAll, x, from); }
  static __device__ __forceinline__ int64_t Largest(I x) { return __reduce_max_sync(kAll, x); }
  static __device__ __forceinline__ void Mma(F d[4], const U a[4], U b0, U b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
        " {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  static __device__ __forceinline__ U TransposeMatrix(U x) {
    U y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
  }

  // A lane's own work, of its index; sums over lanes, the same in all, of one number or of two.
  template <typename G>
  static __device__ __forceinline__ auto PerLane(const G& g) {
    return g(static_cast<int64_t>(Lane()));
  }
  template <typename G>
  static __device__ __forceinline__ void ForLanes(const G& g) {
    g(static_cast<int64_t>(Lane()));
  }
  template <typename G>
  static __device__ __forceinline__ void Once(const G& g) {
    if (Lane() == 0) g();
  }
  static __device__ __forceinline__ double LaneSum(double x) {
    for (int distance = kLanes / 2; distance > 0; distance /= 2) x += ShuffleXor(x, distance);
    return x;
  }
  template <typename T>
  static __device__ __forceinline__ T LaneSum(T x) {
    x.first = LaneSum(x.first);
    x.second = LaneSum(x.second);
    return x;
  }
  static __device__ __forceinline__ void AtomicAdd(int64_t* base, int64_t at, int64_t x) {
    if (Lane() != 0) return;
    atomicAdd(reinterpret_cast<unsigned long long*>(base + at), static_cast<unsigned long long>(x));
  }

  // Global memory.
  static __device__ __forceinline__ F LoadGlobalIf(bool on, const float* base, L at) {
    return on ? base[at] : 0.0f;
  }
  static __device__ __forceinline__ F LoadFreshIf(bool on, const float* base, L at) {
    return on ? __ldcg(base + at) : 0.0f;  // from L2: other CTAs wrote it
  }
  static __device__ __forceinline__ L LoadGlobalLongIf(bool on, const int64_t* base, L at) {
    return on ? base[at] : 0;
  }
  static __device__ __forceinline__ F Uniform(const float* base, int64_t at) { return base[at]; }
  static __device__ __forceinline__ F UniformBits(const uint32_t* base, int64_t at) {
    return __uint_as_float(base[at]);
  }
  static __device__ __forceinline__ void LoadGlobalFloats(const float* base, L at, F r[4]) {
    const float4 v = *reinterpret_cast<const float4*>(base + at);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  }
  static __device__ __forceinline__ void LoadGlobalPair(const float* base, L at, F* x, F* y) {
    const float2 v = *reinterpret_cast<const float2*>(base + at);
    *x = v.x, *y = v.y;
  }
  static __device__ __forceinline__ void StoreGlobalIf(bool on, float* base, L at, F value) {
    if (on) base[at] = value;
  }
  static __device__ __forceinline__ void StoreGlobalFloatsIf(bool on, float* base, L at,
                                                             const F v[4]) {
    if (on) *reinterpret_cast<float4*>(base + at) = make_float4(v[0], v[1], v[2], v[3]);
  }
  static __device__ __forceinline__ void StoreGlobalFloats(float* base, L at, const F v[4]) {
    StoreGlobalFloatsIf(true, base, at, v);
  }
  static __device__ __forceinline__ void StoreGlobalPair(float* base, L at, F x, F y) {
    *reinterpret_cast<float2*>(base + at) = make_float2(x, y);
  }
  static __device__ __forceinline__ void LoadGlobalQuadIf(bool on, U r[4], const void* base, L at) {
    const uint4 v = on ? __ldg(static_cast<const uint4*>(base) + at) : make_uint4(0, 0, 0, 0);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  }
  static __device__ __forceinline__ void LoadGlobalQuad(U r[4], const void* base, L at) {
    LoadGlobalQuadIf(true, r, base, at);
  }
  static __device__ __forceinline__ void StoreGlobalQuad(void* base, L at, const U v[4]) {
    static_cast<uint4*>(base)[at] = make_uint4(v[0], v[1], v[2], v[3]);
  }
  static __device__ __forceinline__ void AtomicMaxBits(uint32_t* base, int64_t at, F x) {
    if (threadIdx.x % kLanes == 0) atomicMax(base + at, __float_as_uint(x));
  }

  // Shared memory of the CTA; addresses in bytes from its start.
  __device__ __forceinline__ F LoadSharedFloat(U at) const {
    F x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(base_ + at) : "memory");
    return x;
  }
  __device__ __forceinline__ void LoadSharedPair(U at, F* x, F* y) const {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(*x), "=f"(*y)
                 : "r"(base_ + at)
                 : "memory");
  }
  __device__ __forceinline__ void LoadSharedFloats(U at, F r[4]) const {
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(r[0]), "=f"(r[1]), "=f"(r[2]), "=f"(r[3])
                 : "r"(base_ + at)
                 : "memory");
  }
  __device__ __forceinline__ void LoadSharedQuad(U at, U r[4]) const {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(base_ + at)
                 : "memory");
  }
  __device__ __forceinline__ void StoreSharedQuadIf(bool on, U at, const U v[4]) const {
    if (on) {
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(base_ + at), "r"(v[0]),
                   "r"(v[1]), "r"(v[2]), "r"(v[3])
                   : "memory");
    }
  }
  __device__ __forceinline__ void StoreSharedQuad(U at, const U v[4]) const {
    StoreSharedQuadIf(true, at, v);
  }
  __device__ __forceinline__ void StoreSharedPairIf(bool on, U at, F x, F y) const {
    if (on) {
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(base_ + at), "f"(x), "f"(y) : "memory");
    }
  }
  __device__ __forceinline__ void LoadMatrices(uint32_t at, U r[4]) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(base_ + at + Lane() * 16)
                 : "memory");
  }
  __device__ __forceinline__ void StoreMatrix(uint32_t at, U x) const {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(
                     base_ + at + Lane() % 8 * 16),
                 "r"(x)
                 : "memory");
  }
  __device__ __forceinline__ void StoreMatrices(uint32_t at, const U x[4]) const {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     base_ + at + Lane() * 16),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
  }

  // Copies that go on by themselves; where `valid` is false, zeros.
  __device__ __forceinline__ void CopyAsyncQuad(U to, const float* base, L at, bool valid) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(base_ + to),
                 "l"(__cvta_generic_to_global(base + at)), "r"(valid ? 16 : 0)
                 : "memory");
  }
  __device__ __forceinline__ void CopyAsyncPair(U to, const float* base, L at) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(base_ + to),
                 "l"(__cvta_generic_to_global(base + at))
                 : "memory");
  }
  __device__ __forceinline__ void CopyAsyncWord(bool on, U to, const float* base, L at,
                                                bool valid) const {
    if (on) {
      asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(base_ + to),
                   "l"(__cvta_generic_to_global(base + at)), "r"(valid ? 4 : 0)
                   : "memory");
    }
  }
  static __device__ __forceinline__ void CommitAsync() {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  template <int kLeft>
  static __device__ __forceinline__ void WaitAsync() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
  }

  // Order.
  static __device__ __forceinline__ void SyncWarp() { __syncwarp(); }
  static __device__ __forceinline__ void SyncCta() { __syncthreads(); }
  static __device__ __forceinline__ void SyncCluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
  }
  __device__ __forceinline__ void InitBarrier(uint32_t at, int count) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(base_ + at), "r"(count)
                   : "memory");
    }
  }
  static __device__ __forceinline__ void FenceBarrierInit() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __device__ __forceinline__ void ArmBarrier(uint32_t at, uint32_t bytes) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(base_ + at),
                   "r"(bytes)
                   : "memory");
    }
  }
  __device__ __forceinline__ void Arrive(uint32_t at) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(base_ + at) : "memory");
    }
  }
  // Relaxed, then a fence for shared memory alone: an acquire of everything would empty the L1 in
  // every step.
  __device__ __forceinline__ void WaitBarrier(uint32_t at, uint32_t parity) const {
    uint32_t done;
    do {
      asm volatile(
          "{.reg .pred p; mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 p, [%1], %2;"
          " selp.u32 %0, 1, 0, p;}"
          : "=r"(done)
          : "r"(base_ + at), "r"(parity)
          : "memory");
    } while (done == 0);
    asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
  }
  __device__ __forceinline__ void SendWord(U at, U value, int to, uint32_t barrier) const {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     Remote(at, to)),
                 "r"(value), "r"(Remote(barrier, to))
                 : "memory");
  }
  __device__ __forceinline__ void SendPair(U at, F x, F y, int to, uint32_t barrier) const {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(
            Remote(at, to)),
        "r"(__float_as_uint(x)), "r"(__float_as_uint(y)), "r"(Remote(barrier, to))
        : "memory");
  }
  // Whether this CTA is the last of n to get here; the last one sets the count back.
  __device__ __forceinline__ bool IsLastOfCtas(int32_t* arrived, int64_t at, int n,
                                               uint32_t flag) const {
    if (threadIdx.x == 0) {
      __threadfence();
      const bool is_last = atomicAdd(arrived + at, 1) == n - 1;
      if (is_last) {
        arrived[at] = 0;
        __threadfence();
      }
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(base_ + flag), "r"(is_last ? 1u : 0u)
                   : "memory");
    }
    __syncthreads();
    uint32_t is_last;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(is_last) : "r"(base_ + flag) : "memory");
    return is_last != 0;
  }

 private:
  static constexpr unsigned kAll = 0xffffffffu;

  __device__ __forceinline__ uint32_t Remote(uint32_t at, int rank) const {
    // of the start alone: one register for a CTA, whatever is sent to it
    uint32_t start;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(start) : "r"(base_), "r"(rank));
    return start + at;
  }

  uint32_t base_;
};

}  // namespace sensorseq::cuda
