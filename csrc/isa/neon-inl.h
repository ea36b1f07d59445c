// Vectors of 16 bytes with fused multiply-add: Advanced SIMD, which every aarch64 processor has.
#if defined(SENSORSEQ_TABLE)
&neon::kRow,
#elif !defined(__aarch64__)
namespace neon {
constexpr Row kRow = AbsentRow<Row>("neon");
}
#else

#define SENSORSEQ_ISA_NAME "neon"
#define SENSORSEQ_VECTOR_BYTES 16
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 6 factors and a weight in 32 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace neon {

inline bool IsSupported() { return true; }

#if !defined(__clang__)
// If GCC schedules before register allocation, it loads the factors of all rows together and spills
// sums to the stack in the innermost loops.
#pragma GCC push_options
#pragma GCC optimize("no-schedule-insns")
#endif

#include "isa/vector-inl.h"

SENSORSEQ_INLINE Vec<float> MulAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}

// Min (Max) returns a if a is smaller (larger), otherwise b. If either is NaN, the result is
// therefore b, as with minps and maxps on x86.
SENSORSEQ_INLINE Vec<float> Min(Vec<float> a, Vec<float> b) {
  const uint32x4_t smaller = vcltq_f32((float32x4_t)a, (float32x4_t)b);
  return (Vec<float>)vbslq_f32(smaller, (float32x4_t)a, (float32x4_t)b);
}
SENSORSEQ_INLINE Vec<float> Max(Vec<float> a, Vec<float> b) {
  const uint32x4_t larger = vcgtq_f32((float32x4_t)a, (float32x4_t)b);
  return (Vec<float>)vbslq_f32(larger, (float32x4_t)a, (float32x4_t)b);
}
SENSORSEQ_INLINE Vec<double> Min(Vec<double> a, Vec<double> b) {
  const uint64x2_t smaller = vcltq_f64((float64x2_t)a, (float64x2_t)b);
  return (Vec<double>)vbslq_f64(smaller, (float64x2_t)a, (float64x2_t)b);
}
SENSORSEQ_INLINE Vec<double> Max(Vec<double> a, Vec<double> b) {
  const uint64x2_t larger = vcgtq_f64((float64x2_t)a, (float64x2_t)b);
  return (Vec<double>)vbslq_f64(larger, (float64x2_t)a, (float64x2_t)b);
}

// Rounds to the nearest integer. If two integers are equally near, returns the even one.
SENSORSEQ_INLINE Vec<float> RoundToInt(Vec<float> x) {
  return (Vec<float>)vrndnq_f32((float32x4_t)x);
}
// Returns x 2^n for an integer n in [-126, 127]. If n is NaN, returns x.
SENSORSEQ_INLINE Vec<float> ScaleByPowerOfTwo(Vec<float> x, Vec<float> n) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32((float32x4_t)n), vdupq_n_s32(127));
  return x * (Vec<float>)vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  return counts - (v > bias);  // true is -1
}

constexpr bool kWantsAlignment = false;
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t) { return Load(p); }

#include SENSORSEQ_BODIES

#if !defined(__clang__)
#pragma GCC pop_options
#endif

}  // namespace neon

#include "isa/end-inl.h"
#endif
