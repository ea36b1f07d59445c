// The loops in plain C++, for every processor; on AArch64 that is Advanced SIMD, too.
#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "baseline"

namespace sensorseq::signal {
namespace pass_baseline {

bool IsSupported() { return true; }

#include "signal/pass-inl.h"

}  // namespace pass_baseline

extern const PassKernels kBaselinePassKernels;
const PassKernels kBaselinePassKernels = pass_baseline::kPassKernels;

}  // namespace sensorseq::signal
