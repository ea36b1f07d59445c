// The forward pass in float with factors in bfloat16: AVX512_BF16, which extends AVX-512.
#include "cpu/dispatch.h"
#include "gates.h"
#include "isa/target.h"

namespace sensorseq {
namespace bfloat16 {

using Row = Bfloat16Kernels;
#define SENSORSEQ_AVX512_TARGET "avx512f,avx512bf16,avx512dq,avx2,fma"
#define SENSORSEQ_BODIES "cpu/bfloat16-inl.h"
#include "isa/avx512-inl.h"

}  // namespace bfloat16

const Bfloat16Kernels& kBfloat16Kernels = bfloat16::avx512::kRow;

}  // namespace sensorseq
