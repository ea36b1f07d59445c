// Filters on vectors of 16 bytes in plain C++, for every processor.
#include "cpu/target.h"
#include "signal/fir.h"

#define SENSORSEQ_ISA_NAME "baseline"
#define SENSORSEQ_VECTOR_BYTES 16

namespace sensorseq {
namespace signal {
namespace baseline {

bool IsSupported() { return true; }

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return a * b + c;  // rounded twice; the build forbids contraction, so everywhere alike
}

constexpr bool kWantsAlignment = false;
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t) { return Load(p); }

#include "signal/fir-inl.h"
// clang-format on

}  // namespace baseline

extern const FirKernels kBaselineFirKernels;
const FirKernels kBaselineFirKernels = baseline::kFirKernels;

}  // namespace signal
}  // namespace sensorseq
