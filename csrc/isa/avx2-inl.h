// Vectors of 32 bytes with fused multiply-add: AVX2 and FMA.
#if defined(SENSORSEQ_TABLE)
&avx2::kRow,
#elif !defined(__x86_64__)
namespace avx2 {
constexpr Row kRow = AbsentRow<Row>("avx2");
}
#else

#define SENSORSEQ_ISA_NAME "avx2"
#define SENSORSEQ_VECTOR_BYTES 32
#define SENSORSEQ_REGISTER_ROWS 3  // 12 sums, 3 factors and a weight in 16 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace avx2 {

inline bool IsSupported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

SENSORSEQ_BEGIN_TARGET("avx2,fma")

#include "isa/vector-inl.h"

SENSORSEQ_INLINE Vec<float> MulAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}

SENSORSEQ_INLINE Vec<float> Min(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm256_min_ps((__m256)a, (__m256)b);
}
SENSORSEQ_INLINE Vec<float> Max(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm256_max_ps((__m256)a, (__m256)b);
}
SENSORSEQ_INLINE Vec<double> Max(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm256_max_pd((__m256d)a, (__m256d)b);
}
SENSORSEQ_INLINE Vec<float> RoundToInt(Vec<float> x) {
  return (Vec<float>)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
SENSORSEQ_INLINE Vec<float> ScaleByPowerOfTwo(Vec<float> x, Vec<float> n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32((__m256)n), _mm256_set1_epi32(127));
  return x * (Vec<float>)_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  return counts - (v > bias);  // true is -1
}

constexpr bool kWantsAlignment = true;  // every second unaligned load spans two cache lines
// Loads the first n lanes (all if n >= 4, none if n <= 0) and sets the others to zero; reads
// nothing beyond the n values.
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t n) {
  constexpr int64_t kSize = kLanes<double>;
  static constexpr int64_t kMasks[2 * kSize] = {-1, -1, -1, -1, 0, 0, 0, 0};
  const int64_t* mask = kMasks + kSize - (n < 0 ? 0 : n > kSize ? kSize : n);
  return (Vec<double>)_mm256_maskload_pd(
      p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask)));
}

#include SENSORSEQ_BODIES

SENSORSEQ_END_TARGET

}  // namespace avx2

#include "isa/end-inl.h"
#endif
