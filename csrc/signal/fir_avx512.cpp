// Filters on vectors of 64 bytes: AVX-512 foundation.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/target.h"
#include "signal/fir.h"

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64

namespace sensorseq {
namespace signal {
namespace avx512 {

bool IsSupported() { return __builtin_cpu_supports("avx512f"); }

SENSORSEQ_BEGIN_TARGET("avx512f,avx2,fma")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

// The first n lanes, zero in the others; reads nothing beyond them.
constexpr bool kWantsAlignment = true;  // every load that is not aligned is in two cache lines
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t n) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(0xff >> (kFirBlock - n)), p);
}

#include "signal/fir-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace avx512

extern const FirKernels kAvx512FirKernels;
const FirKernels kAvx512FirKernels = avx512::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
#endif
