// Vectors of 64 bytes: AVX-512 foundation.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cmath>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 6 factors and a weight in 32 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace sensorseq {
namespace avx512 {

bool IsSupported() { return __builtin_cpu_supports("avx512f"); }

SENSORSEQ_BEGIN_TARGET("avx512f,avx2,fma")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"
#include "cpu/avx512-inl.h"
#include "cpu/kernels-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace avx512

extern const Kernels kAvx512Kernels;
const Kernels kAvx512Kernels = avx512::kKernels;

}  // namespace sensorseq
#endif
