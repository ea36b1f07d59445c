// Vectors of 32 bytes with fused multiply-add: AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "avx2"
#define SENSORSEQ_VECTOR_BYTES 32
#define SENSORSEQ_REGISTER_ROWS 2  // 8 sums, 4 weights and a factor in 16 registers

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

#include "cpu/kernels-inl.h"

SENSORSEQ_END_TARGET

}  // namespace avx2

extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels = avx2::kKernels;

}  // namespace sensorseq
#endif
