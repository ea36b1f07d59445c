// The forward pass in float with factors in bfloat16: AVX512_BF16, beside isa_avx512.cpp.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/dispatch.h"
#include "cpu/target.h"
#include "gates.h"

#define SENSORSEQ_VECTOR_BYTES 64
#define SENSORSEQ_REGISTER_ROWS 6  // 24 sums, 6 factors and a weight in 32 registers
#define SENSORSEQ_RUN_ENTRIES 48

namespace sensorseq {
namespace avx512_bf16 {

bool IsSupported() { return __builtin_cpu_supports("avx512bf16"); }

SENSORSEQ_BEGIN_TARGET("avx512f,avx512bf16,avx2,fma")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"
#include "cpu/avx512-inl.h"
#include "cpu/activations-inl.h"
#include "cpu/pack-inl.h"
#include "cpu/tile-inl.h"
#include "cpu/gate_sums_bf16-inl.h"
#include "cpu/lstm_forward-inl.h"
#include "cpu/lstm_backward-inl.h"
#include "cpu/head-inl.h"
#include "cpu/tasks-inl.h"
// clang-format on

constexpr Bfloat16Kernels kKernels = {"avx512", &IsSupported, &Forward<float>};

SENSORSEQ_END_TARGET

}  // namespace avx512_bf16

extern const Bfloat16Kernels kAvx512Bfloat16Kernels;
const Bfloat16Kernels kAvx512Bfloat16Kernels = avx512_bf16::kKernels;

}  // namespace sensorseq
#endif
