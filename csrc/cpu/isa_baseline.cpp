// Vectors of 16 bytes in plain C++, for every processor the compiler targets.
#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "baseline"
#define SENSORSEQ_VECTOR_BYTES 16
#define SENSORSEQ_REGISTER_ROWS 2  // 8 sums, 4 weights and a factor in 16 registers

namespace sensorseq {
namespace baseline {

bool IsSupported() { return true; }

#include "cpu/vector-inl.h"

template <typename V>
SENSORSEQ_INLINE V MulAdd(V a, V b, V c) {
  return a * b + c;  // rounded twice; the build forbids contraction, so everywhere alike
}

#include "cpu/kernels-inl.h"

}  // namespace baseline

extern const Kernels kBaselineKernels;
const Kernels kBaselineKernels = baseline::kKernels;

}  // namespace sensorseq
