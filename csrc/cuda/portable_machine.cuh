// The machine on which the portable kernels run: a thread of a GPU of compute capability 7.5 or
// later. The machine's functions wrap the GPU's instructions. The tests' emulator has the same
// functions for 32 lanes at a time, and it defines in plain C++ what each function must do.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/layout.cuh"
#include "cuda/math.cuh"

namespace sensorseq::cuda {

// The functions that all GPUs share.
class CommonMachine {
 public:
  using F = float;
  using I = int32_t;
  using U = uint32_t;
  using L = int64_t;
  using B = bool;

  SENSORSEQ_BODY static U Lane() { return threadIdx.x % kLanes; }
  // The warp's number. The shuffle lets the compiler see that all lanes have the same number.
  SENSORSEQ_BODY static int Warp() {
    return __shfl_sync(kAll, static_cast<int>(threadIdx.x / kLanes), 0);
  }

  // The same bits as another type, and choice.
  SENSORSEQ_BODY static F AsFloat(U x) { return __uint_as_float(x); }
  SENSORSEQ_BODY static U AsUnsigned(F x) { return __float_as_uint(x); }
  // Both sides are computed: with && and ||, the compiler may add branches.
  SENSORSEQ_BODY static B And(bool x, bool y) { return x && y; }
  SENSORSEQ_BODY static B Or(bool x, bool y) { return x || y; }
  template <typename T>
  SENSORSEQ_BODY static T Select(bool c, T x, T y) {
    return c ? x : y;
  }

  // Arithmetic.
  SENSORSEQ_BODY static F Fma(F a, F b, F c) { return __fmaf_rn(a, b, c); }
  SENSORSEQ_BODY static F Exp2(F x) {
    F y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  SENSORSEQ_BODY static F Reciprocal(F x) {
    F y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  SENSORSEQ_BODY static F MinOrNan(F x, F y) {
#if __CUDA_ARCH__ >= 800
    F z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
#else
    return x > y || y != y ? y : x;
#endif
  }
  SENSORSEQ_BODY static F LowHalf(U x) {
    F y;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}" : "=f"(y) : "r"(x));
    return y;
  }
  // The same number, of which the compiler knows nothing: it neither recomputes the number nor
  // draws conclusions from it.
  SENSORSEQ_BODY static U Opaque(U x) {
    asm volatile("shfl.sync.bfly.b32 %0, %0, 0, 0x1f, 0xffffffff;" : "+r"(x));
    return x;
  }
  SENSORSEQ_BODY static bool Opaque(bool x) { return __any_sync(kAll, x) != 0; }
  SENSORSEQ_BODY static int Opaque(int x) { return static_cast<int>(Opaque(static_cast<U>(x))); }

  // Between lanes.
  template <typename T>
  SENSORSEQ_BODY static T ShuffleXor(T x, int distance) {
    return __shfl_xor_sync(kAll, x, distance);
  }
  // The number that lane `of` of the same four lanes has.
  SENSORSEQ_BODY static F ShuffleInFour(F x, int of) { return __shfl_sync(kAll, x, of, 4); }

  // Global memory.
  SENSORSEQ_BODY static F LoadGlobalIf(bool on, const float* base, L at) {
    return on ? base[at] : 0.0f;
  }
  SENSORSEQ_BODY static F LoadFreshIf(bool on, const float* base, L at) {
    return on ? __ldcg(base + at) : 0.0f;  // read from L2, because other CTAs wrote the value
  }
  SENSORSEQ_BODY static void StoreGlobalIf(bool on, float* base, L at, F value) {
    if (on) base[at] = value;
  }
  SENSORSEQ_BODY static int64_t UniformLong(const int64_t* base, int64_t at) { return base[at]; }
  SENSORSEQ_BODY static void LoadGlobalFloatsIf(bool on, const float* base, L at, F r[4]) {
    const float4 v = on ? *reinterpret_cast<const float4*>(base + at) : make_float4(0, 0, 0, 0);
    r[0] = v.x, r[1] = v.y, r[2] = v.z, r[3] = v.w;
  }
  // Arrays in half precision. A load returns bits, so that their conversion can wait.
  SENSORSEQ_BODY static U LoadHalfIf(bool on, const void* base, L at) {
    return on ? static_cast<const uint16_t*>(base)[at] : 0u;
  }
  SENSORSEQ_BODY static U LoadFreshHalfIf(bool on, const void* base, L at) {
    return on ? __ldcg(static_cast<const unsigned short*>(base) + at) : 0u;
  }
  SENSORSEQ_BODY static F Widened(U bits, bool is_bfloat) {
    return is_bfloat ? AsFloat(bits << 16) : LowHalf(bits);
  }
  SENSORSEQ_BODY static void StoreHalfIf(bool on, void* base, L at, F value, bool is_bfloat) {
    if (on) static_cast<uint16_t*>(base)[at] = is_bfloat ? BfloatOf(value) : HalfOf(value);
  }

  SENSORSEQ_BODY static void SyncCta() { __syncthreads(); }

 protected:
  static constexpr unsigned kAll = 0xffffffffu;

  // Returns whether this CTA is the last of n CTAs to arrive. The last CTA resets the count. `flag`
  // is an address in shared memory.
  SENSORSEQ_BODY static bool IsLast(int32_t* arrived, int64_t at, int n, uint32_t flag) {
    if (threadIdx.x == 0) {
      __threadfence();
      const bool is_last = atomicAdd(arrived + at, 1) == n - 1;
      if (is_last) {
        arrived[at] = 0;
        __threadfence();
      }
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(flag), "r"(is_last ? 1u : 0u) : "memory");
    }
    __syncthreads();
    uint32_t is_last;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(is_last) : "r"(flag) : "memory");
    return is_last != 0;
  }

 private:
  SENSORSEQ_BODY static uint16_t HalfOf(F x) {
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
  }
  // The instruction for bfloat16 needs compute capability 8.0.
  SENSORSEQ_BODY static uint16_t BfloatOf(F x) {
    const uint32_t bits = __float_as_uint(x);
    return static_cast<uint16_t>(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
};

class PortableMachine : public CommonMachine {
 public:
  SENSORSEQ_BODY PortableMachine() {
    extern __shared__ __align__(128) char shared_memory[];
    base_ = Opaque(static_cast<uint32_t>(__cvta_generic_to_shared(shared_memory)));
  }

  // Volatile, so that the compiler reads the numbers again where a body asks for them again.
  SENSORSEQ_BODY static int64_t Tile() {
    uint32_t x;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(x));
    return x;
  }
  SENSORSEQ_BODY static int Direction() {
    int y;
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(y));
    return y;
  }
  SENSORSEQ_BODY static int64_t Model() {
    uint32_t z;
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(z));
    return z;
  }

  // Shared memory of the CTA. Address(at) is the address of a byte from its start; the other
  // functions take addresses, because the compiler would add the start again in every step. The
  // functions do not tell the compiler that they access memory, so that it can move accesses to
  // global memory across them.
  SENSORSEQ_BODY U Address(U at) const { return base_ + at; }
  SENSORSEQ_BODY static void LoadSharedFloats(U at, F r[4]) {
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(r[0]), "=f"(r[1]), "=f"(r[2]), "=f"(r[3])
                 : "r"(at));
  }
  SENSORSEQ_BODY static void StoreSharedFloatIf(bool on, U at, F x) {
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.shared.f32 [%0], %1;}" ::"r"(at),
                 "f"(x), "r"(static_cast<uint32_t>(on)));
  }
  SENSORSEQ_BODY bool IsLastOfCtas(int32_t* arrived, int64_t at, int n, uint32_t flag) const {
    return IsLast(arrived, at, n, base_ + flag);
  }

 private:
  uint32_t base_;
};

}  // namespace sensorseq::cuda
