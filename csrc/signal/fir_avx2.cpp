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

constexpr bool kWantsAlignment = true;  // every second load that is not is in two cache lines

// The first n lanes (all for 4 and more, none for 0 and less), zero in the others; reads nothing
// beyond them.
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t n) {
  static constexpr int64_t kMasks[2 * kLanes<double>] = {-1, -1, -1, -1, 0, 0, 0, 0};
  const int64_t n_lanes = n < 0 ? 0 : n > kLanes<double> ? kLanes<double> : n;
  const int64_t* mask = kMasks + kLanes<double> - n_lanes;
  return (Vec<double>)_mm256_maskload_pd(
      p, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask)));
}

#include "signal/fir-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace avx2

extern const FirKernels kAvx2FirKernels;
const FirKernels kAvx2FirKernels = avx2::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
#endif
