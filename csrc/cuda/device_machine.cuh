// The machine on which all but the portable recurrent kernels run: a thread of a GPU of compute
// capability 9.0. The kernels of tasks.cu call only those functions that every GPU has.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/portable_machine.cuh"

namespace sensorseq::cuda {

// kCtas is the number of CTAs in a cluster, which processes one tile.
template <int kCtas>
class DeviceMachine : public CommonMachine {
 public:
  SENSORSEQ_BODY DeviceMachine() {
    extern __shared__ __align__(128) char shared_memory[];
    base_ = static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory));
    asm volatile("" : "+r"(base_));  // otherwise the compiler recomputes the address in every step
  }

  SENSORSEQ_BODY static int Rank() { return kCtas == 1 ? 0 : static_cast<int>(blockIdx.x % kCtas); }
  SENSORSEQ_BODY static int64_t Tile() { return blockIdx.x / kCtas; }
  SENSORSEQ_BODY static int Direction() { return static_cast<int>(blockIdx.y); }
  SENSORSEQ_BODY static int64_t Model() { return blockIdx.z; }

  // The same bits as another type.
  using CommonMachine::AsFloat;
  SENSORSEQ_BODY static F AsFloat(I x) { return __int_as_float(x); }
  SENSORSEQ_BODY static I AsInt(F x) { return __float_as_int(x); }

  // Arithmetic.
  SENSORSEQ_BODY static F Abs(F x) { return fabsf(x); }
  SENSORSEQ_BODY static F Max(F x, F y) { return fmaxf(x, y); }
  SENSORSEQ_BODY static F TanhApprox(F x) {
    F y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  SENSORSEQ_BODY static void ScaleTo(F x, int exponent, F* scale, F* back) {
    const int e = ScaleExponent(__float_as_uint(x), exponent);
    *scale = __int_as_float((127 + e) << 23);
    *back = __int_as_float((127 - e) << 23);
  }
  SENSORSEQ_BODY static U PackHalves(F low, F high) {
    U word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
  }
  SENSORSEQ_BODY static F HighHalf(U x) {
    F y;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high;}" : "=f"(y) : "r"(x));
    return y;
  }

  // Between lanes.
  SENSORSEQ_BODY static I Shuffle(I x, I from) { return __shfl_sync(kAll, x, from); }
  SENSORSEQ_BODY static int64_t Largest(I x) { return __reduce_max_sync(kAll, x); }
  SENSORSEQ_BODY static void Mma(F d[4], const U a[4], U b0, U b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
        " {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  SENSORSEQ_BODY static U TransposeMatrix(U x) {
    U y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
  }

  // Functions that run each lane's own work, given the lane's index, and functions that sum one or
  // two numbers over all lanes. Every lane gets the same sum.
  template <typename G>
  SENSORSEQ_BODY static auto PerLane(const G& g) {
    return g(static_cast<int64_t>(Lane()));
  }
  template <typename G>
  SENSORSEQ_BODY static void ForLanes(const G& g) {
    g(static_cast<int64_t>(Lane()));
  }
  template <typename G>
  SENSORSEQ_BODY static void Once(const G& g) {
    if (Lane() == 0) g();
  }
  SENSORSEQ_BODY static double LaneSum(double x) {
    for (int distance = kLanes / 2; distance > 0; distance /= 2) x += ShuffleXor(x, distance);
    return x;
  }
  template <typename T>
  SENSORSEQ_BODY static T LaneSum(T x) {
    x.first = LaneSum(x.first);
    x.second = LaneSum(x.second);
    return x;
  }

  // Global memory.
  SENSORSEQ_BODY static L LoadGlobalLongIf(bool on, const int64_t* base, L at) {
    return on ? base[at] : 0;
  }
  SENSORSEQ_BODY static F Uniform(const float* base, int64_t at) { return base[at]; }
  SENSORSEQ_BODY static F UniformBits(const uint32_t* base, int64_t at) {
    return __uint_as_float(base[at]);
  }
  SENSORSEQ_BODY static void LoadGlobalFloats(const float* base, L at, F r[4]) {
    const float4 v = *reinterpret_cast<const float4*>(base + at);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  }
  SENSORSEQ_BODY static void LoadGlobalPair(const float* base, L at, F* x, F* y) {
    const float2 v = *reinterpret_cast<const float2*>(base + at);
    *x = v.x, *y = v.y;
  }
  SENSORSEQ_BODY static void StoreGlobalFloatsIf(bool on, float* base, L at, const F v[4]) {
    if (on) *reinterpret_cast<float4*>(base + at) = make_float4(v[0], v[1], v[2], v[3]);
  }
  SENSORSEQ_BODY static void StoreGlobalFloats(float* base, L at, const F v[4]) {
    StoreGlobalFloatsIf(true, base, at, v);
  }
  SENSORSEQ_BODY static void StoreGlobalPair(float* base, L at, F x, F y) {
    *reinterpret_cast<float2*>(base + at) = make_float2(x, y);
  }
  SENSORSEQ_BODY static void LoadGlobalQuadIf(bool on, U r[4], const void* base, L at) {
    const uint4 v = on ? __ldg(static_cast<const uint4*>(base) + at) : make_uint4(0, 0, 0, 0);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  }
  SENSORSEQ_BODY static void LoadGlobalQuad(U r[4], const void* base, L at) {
    LoadGlobalQuadIf(true, r, base, at);
  }
  SENSORSEQ_BODY static void StoreGlobalQuad(void* base, L at, const U v[4]) {
    static_cast<uint4*>(base)[at] = make_uint4(v[0], v[1], v[2], v[3]);
  }
  SENSORSEQ_BODY static void AtomicMaxBits(uint32_t* base, int64_t at, F x) {
    if (threadIdx.x % kLanes == 0) atomicMax(base + at, __float_as_uint(x));
  }

  // Shared memory of the CTA. Addresses are in bytes from its start.
  SENSORSEQ_BODY F LoadSharedFloat(U at) const {
    F x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(base_ + at) : "memory");
    return x;
  }
  SENSORSEQ_BODY void LoadSharedPair(U at, F* x, F* y) const {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(*x), "=f"(*y)
                 : "r"(base_ + at)
                 : "memory");
  }
  SENSORSEQ_BODY void LoadSharedQuad(U at, U r[4]) const {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(base_ + at)
                 : "memory");
  }
  SENSORSEQ_BODY void LoadSharedFloats(U at, F r[4]) const {
    U words[4];
    LoadSharedQuad(at, words);
    for (int i = 0; i < 4; ++i) r[i] = AsFloat(words[i]);
  }
  SENSORSEQ_BODY void StoreSharedQuadIf(bool on, U at, const U v[4]) const {
    if (on) {
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(base_ + at), "r"(v[0]),
                   "r"(v[1]), "r"(v[2]), "r"(v[3])
                   : "memory");
    }
  }
  SENSORSEQ_BODY void StoreSharedQuad(U at, const U v[4]) const { StoreSharedQuadIf(true, at, v); }
  SENSORSEQ_BODY void StoreSharedPairIf(bool on, U at, F x, F y) const {
    if (on) {
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(base_ + at), "f"(x), "f"(y) : "memory");
    }
  }
  SENSORSEQ_BODY void LoadMatrices(uint32_t at, U r[4]) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(base_ + at + Lane() * 16)
                 : "memory");
  }
  SENSORSEQ_BODY void StoreMatrix(uint32_t at, U x) const {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(
                     base_ + at + Lane() % 8 * 16),
                 "r"(x)
                 : "memory");
  }
  SENSORSEQ_BODY void StoreMatrices(uint32_t at, const U x[4]) const {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     base_ + at + Lane() * 16),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
  }

  // Asynchronous copies to shared memory. A copy whose `valid` is false writes zeros.
  SENSORSEQ_BODY void CopyAsyncQuad(U to, const float* base, L at, bool valid) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(base_ + to),
                 "l"(__cvta_generic_to_global(base + at)), "r"(valid ? 16 : 0)
                 : "memory");
  }
  SENSORSEQ_BODY void CopyAsyncPair(U to, const float* base, L at) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(base_ + to),
                 "l"(__cvta_generic_to_global(base + at))
                 : "memory");
  }
  SENSORSEQ_BODY void CopyAsyncWord(U to, const float* base, L at, bool valid) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(base_ + to),
                 "l"(__cvta_generic_to_global(base + at)), "r"(valid ? 4 : 0)
                 : "memory");
  }
  SENSORSEQ_BODY static void CommitAsync() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int kLeft>
  SENSORSEQ_BODY static void WaitAsync() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
  }

  // Synchronization.
  SENSORSEQ_BODY static void SyncWarp() { __syncwarp(); }
  SENSORSEQ_BODY static void SyncCluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
  }
  SENSORSEQ_BODY void InitBarrier(uint32_t at, int count) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(base_ + at), "r"(count)
                   : "memory");
    }
  }
  SENSORSEQ_BODY static void FenceBarrierInit() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  SENSORSEQ_BODY void ArmBarrier(uint32_t at, uint32_t bytes) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(base_ + at),
                   "r"(bytes)
                   : "memory");
    }
  }
  SENSORSEQ_BODY void Arrive(uint32_t at) const {
    if (Lane() == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(base_ + at) : "memory");
    }
  }
  // Waits with relaxed ordering, then fences only shared memory, because a full acquire would empty
  // the L1 cache in every step.
  SENSORSEQ_BODY void WaitBarrier(uint32_t at, uint32_t parity) const {
    uint32_t done;
    do {
      asm volatile(
          "{.reg .pred p; mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 p, [%1], %2;"
          " selp.u32 %0, 1, 0, p;}"
          : "=r"(done)
          : "r"(base_ + at), "r"(parity)
          : "memory");
    } while (done == 0);
    // lanes may leave the loop one by one, and the next instruction needs the entire warp
    __syncwarp();
    asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
  }
  SENSORSEQ_BODY void SendWord(U at, U value, int to, uint32_t barrier) const {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
                     Remote(at, to)),
                 "r"(value), "r"(Remote(barrier, to))
                 : "memory");
  }
  SENSORSEQ_BODY void SendPair(U at, F x, F y, int to, uint32_t barrier) const {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(
            Remote(at, to)),
        "r"(__float_as_uint(x)), "r"(__float_as_uint(y)), "r"(Remote(barrier, to))
        : "memory");
  }
  SENSORSEQ_BODY bool IsLastOfCtas(int32_t* arrived, int64_t at, int n, uint32_t flag) const {
    return IsLast(arrived, at, n, base_ + flag);
  }

 private:
  SENSORSEQ_BODY uint32_t Remote(uint32_t at, int rank) const {
    // Only the start address is mapped, so that one register per CTA suffices for everything sent
    // to that CTA.
    uint32_t start;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(start) : "r"(base_), "r"(rank));
    return start + at;
  }

  uint32_t base_;
};

}  // namespace sensorseq::cuda
