// Vectors of 32 bytes with fused multiply-add: AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "avx2"
#define SENSORSEQ_VECTOR_BYTES 32
#define SENSORSEQ_REGISTER_ROWS 3  // 12 sums, 3 factors and a weight in 16 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace sensorseq {
namespace avx2 {

bool IsSupported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

SENSORSEQ_BEGIN_TARGET("avx2,fma")

#include "cpu/vector-inl.h"

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

#include "cpu/kernels-inl.h"

SENSORSEQ_END_TARGET

}  // namespace avx2

extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels = avx2::kKernels;

}  // namespace sensorseq
#endif
