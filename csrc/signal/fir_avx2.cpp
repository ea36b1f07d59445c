// Filters on vectors of 32 bytes with fused multiply-add: AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/target.h"
#include "signal/fir.h"

#define SENSORSEQ_ISA_NAME "avx2"
#define SENSORSEQ_VECTOR_BYTES 32

namespace sensorseq {
namespace signal {
namespace avx2 {

bool IsSupported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

SENSORSEQ_BEGIN_TARGET("avx2,fma")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}

constexpr bool kWantsAlignment = false;
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t) { return Load(p); }

#include "signal/fir-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace avx2

extern const FirKernels kAvx2FirKernels;
const FirKernels kAvx2FirKernels = avx2::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
#endif
