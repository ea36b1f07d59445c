// The loops on vectors of 64 bytes: AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/target.h"
#include "signal/pass.h"

#define SENSORSEQ_ISA_NAME "avx512"
#define SENSORSEQ_VECTOR_BYTES 64

namespace sensorseq::signal {
namespace pass_avx512 {

bool IsSupported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

SENSORSEQ_BEGIN_TARGET("avx512f,avx512dq")

// clang-format off: each file uses the one before
#include "cpu/vector-inl.h"

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  const __mmask16 above = _mm512_cmp_ps_mask((__m512)v, (__m512)bias, _CMP_GT_OQ);
  return (VecBits<float>)_mm512_mask_add_epi32((__m512i)counts, above, (__m512i)counts,
                                               _mm512_set1_epi32(1));
}

#include "signal/convolve-inl.h"
#include "signal/pass-inl.h"
// clang-format on

SENSORSEQ_END_TARGET

}  // namespace pass_avx512

extern const PassKernels kAvx512PassKernels;
const PassKernels kAvx512PassKernels = pass_avx512::kPassKernels;

}  // namespace sensorseq::signal
#endif
