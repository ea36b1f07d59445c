// Vectors of 64 bytes: AVX-512.
#if defined(SENSORSEQ_TABLE)
&avx512::kRow,
#elif !defined(__x86_64__)
namespace avx512 {
constexpr Row kRow = AbsentRow<Row>("avx512");
}
#else

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 6 factors and a weight in 32 registers
#define SENSORSEQ_RUN_ENTRIES 48
#if !defined(SENSORSEQ_AVX512_TARGET)  // a file that extends this one may add features
#define SENSORSEQ_AVX512_TARGET "avx512f,avx512dq,avx2,fma"
#endif

namespace avx512 {

inline bool IsSupported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

SENSORSEQ_BEGIN_TARGET(SENSORSEQ_AVX512_TARGET)

#include "isa/vector-inl.h"

SENSORSEQ_INLINE Vec<float> MulAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

// The mask that selects all lanes. Masked forms are used because GCC reports the undefined source
// of the plain forms as uninitialized.
constexpr __mmask16 kAll = 0xffff;

SENSORSEQ_INLINE Vec<float> Min(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_min_ps(kAll, (__m512)a, (__m512)b);
}
SENSORSEQ_INLINE Vec<float> Max(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_max_ps(kAll, (__m512)a, (__m512)b);
}
SENSORSEQ_INLINE Vec<double> Max(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
}
SENSORSEQ_INLINE Vec<float> RoundToInt(Vec<float> x) {
  return (Vec<float>)_mm512_maskz_roundscale_ps(kAll, (__m512)x,
                                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
SENSORSEQ_INLINE Vec<float> ScaleByPowerOfTwo(Vec<float> x, Vec<float> n) {
  return (Vec<float>)_mm512_maskz_scalef_ps(kAll, (__m512)x, (__m512)n);
}

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  const __mmask16 above = _mm512_cmp_ps_mask((__m512)v, (__m512)bias, _CMP_GT_OQ);
  return (VecBits<float>)_mm512_mask_add_epi32((__m512i)counts, above, (__m512i)counts,
                                               _mm512_set1_epi32(1));
}

constexpr bool kWantsAlignment = true;  // every unaligned load spans two cache lines
// Loads the first n lanes and sets the others to zero; reads nothing beyond the n values.
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t n) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(0xff >> (8 - n)), p);
}

#include SENSORSEQ_BODIES

SENSORSEQ_END_TARGET

}  // namespace avx512

#include "isa/end-inl.h"
#endif
