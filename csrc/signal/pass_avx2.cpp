// The loops on vectors of 32 bytes: AVX2.
#if defined(__x86_64__)
#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "avx2"
#define SENSORSEQ_VECTOR_BYTES 32

namespace sensorseq::signal {
namespace pass_avx2 {

bool IsSupported() { return __builtin_cpu_supports("avx2"); }

SENSORSEQ_BEGIN_TARGET("avx2")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  return counts - (v > bias);  // true is -1
}

#include "signal/convolve-inl.h"
#include "signal/pass-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace pass_avx2

extern const PassKernels kAvx2PassKernels;
const PassKernels kAvx2PassKernels = pass_avx2::kPassKernels;

}  // namespace sensorseq::signal
#endif
