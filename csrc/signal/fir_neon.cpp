// Filters on vectors of 16 bytes with fused multiply-add: Advanced SIMD.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "cpu/target.h"
#include "signal/fir.h"

#define SENSORSEQ_ISA_NAME "neon"
#define SENSORSEQ_VECTOR_BYTES 16

namespace sensorseq {
namespace signal {
namespace neon {

bool IsSupported() { return true; }

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}

constexpr bool kWantsAlignment = false;
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t) { return Load(p); }

#include "signal/fir-inl.h"
// clang-format on

}  // namespace neon

extern const FirKernels kNeonFirKernels;
const FirKernels kNeonFirKernels = neon::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
#endif
