// Vectors of 64 bytes: AVX-512 foundation.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 4 weights and a factor in 32 registers

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

#include "cpu/kernels-inl.h"

SENSORSEQ_END_TARGET

}  // namespace avx512

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = avx512::kKernels;

}  // namespace sensorseq
#endif
