// The loops in plain C++, for every processor; on AArch64 that is Advanced SIMD, too.
#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "baseline"
#define SENSORSEQ_VECTOR_BYTES 16

namespace sensorseq::signal {
namespace pass_baseline {

bool IsSupported() { return true; }

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  return counts - (v > bias);  // true is -1
}

#include "signal/convolve-inl.h"
#include "signal/pass-inl.h"
// clang-format on

}  // namespace pass_baseline

extern const PassKernels kBaselinePassKernels;
const PassKernels kBaselinePassKernels = pass_baseline::kPassKernels;

}  // namespace sensorseq::signal
