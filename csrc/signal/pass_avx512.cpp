// The loops on vectors of 64 bytes: AVX-512.
#if defined(__x86_64__)
#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "avx512"

namespace sensorseq::signal {
namespace pass_avx512 {

bool IsSupported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

SENSORSEQ_BEGIN_TARGET("avx512f,avx512dq")

#include "signal/pass-inl.h"

SENSORSEQ_END_TARGET

}  // namespace pass_avx512

extern const PassKernels kAvx512PassKernels;
const PassKernels kAvx512PassKernels = pass_avx512::kPassKernels;

}  // namespace sensorseq::signal
#endif
