// Vectors of 64 bytes: AVX-512 foundation.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 6 factors and a weight in 32 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace sensorseq {
namespace avx512 {

bool IsSupported() { return __builtin_cpu_supports("avx512f"); }

SENSORSEQ_BEGIN_TARGET("avx512f,avx2,fma")

#include "cpu/vector-inl.h"

SENSORSEQ_INLINE Vec<float> MulAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

// All lanes, by the masked form: GCC takes the plain one's undefined source for an uninitialized
// use.
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

#include "cpu/kernels-inl.h"

SENSORSEQ_END_TARGET

}  // namespace avx512

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = avx512::kKernels;

}  // namespace sensorseq
#endif
