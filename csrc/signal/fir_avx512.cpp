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

#include "signal/fir-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace avx512

extern const FirKernels kAvx512FirKernels;
const FirKernels kAvx512FirKernels = avx512::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
#endif
