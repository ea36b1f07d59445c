// The loops on vectors of 32 bytes: AVX2.
#if defined(__x86_64__)
#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "avx2"

namespace sensorseq::signal {
namespace pass_avx2 {

bool IsSupported() { return __builtin_cpu_supports("avx2"); }

SENSORSEQ_BEGIN_TARGET("avx2")

#include "signal/pass-inl.h"

SENSORSEQ_END_TARGET

}  // namespace pass_avx2

extern const PassKernels kAvx2PassKernels;
const PassKernels kAvx2PassKernels = pass_avx2::kPassKernels;

}  // namespace sensorseq::signal
#endif
