// Vectors of 16 bytes in plain C++, for every processor the compiler targets.
#if defined(SENSORSEQ_TABLE)
&baseline::kRow,
#else

#define SENSORSEQ_ISA_NAME "baseline"
#define SENSORSEQ_VECTOR_BYTES 16
#define SENSORSEQ_REGISTER_ROWS 2  // 8 sums, 4 weights and a factor in 16 registers
#define SENSORSEQ_RUN_ENTRIES 24   // fewer, because each product is also rounded

namespace baseline {

inline bool IsSupported() { return true; }

#include "isa/vector-inl.h"

template <typename V>
SENSORSEQ_INLINE V MulAdd(V a, V b, V c) {
  return a * b + c;  // rounds twice, because the build forbids contraction
}

// the result is b if either operand is NaN, as with minps and maxps on x86
template <typename V>
SENSORSEQ_INLINE V Min(V a, V b) {
  return a < b ? a : b;
}
template <typename V>
SENSORSEQ_INLINE V Max(V a, V b) {
  return a > b ? a : b;
}
// |x| below 2^22
SENSORSEQ_INLINE Vec<float> RoundToInt(Vec<float> x) {
  const Vec<float> magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  return (x + magic) - magic;
}
// n is an integer in [-126, 127]
SENSORSEQ_INLINE Vec<float> ScaleByPowerOfTwo(Vec<float> x, Vec<float> n) {
  const VecBits<float> exponent = __builtin_convertvector(n, VecBits<float>) + 127;
  Vec<float> power;
  const VecBits<float> bits = exponent << 23;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return x * power;
}

SENSORSEQ_INLINE VecBits<float> CountAbove(VecBits<float> counts, Vec<float> v, Vec<float> bias) {
  return counts - (v > bias);  // true is -1
}

constexpr bool kWantsAlignment = false;
SENSORSEQ_INLINE Vec<double> LoadLast(const double* p, int64_t) { return Load(p); }

#include SENSORSEQ_BODIES

}  // namespace baseline

#include "isa/end-inl.h"
#endif
