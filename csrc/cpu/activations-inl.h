// sigmoid and tanh on Vec. Included by an ISA file after vector-inl.h and MulAdd; includes nothing.
//
// float: e^x by Cody-Waite reduction to |f| <= ln(2)/2 and the Taylor polynomial of degree 7, whose
// remainder there is below 5e-9 relative, under a tenth of a rounding error. Error over the whole
// float range, found by a dense sweep against double and held by a test: sigmoid 9e-8 absolute and
// 2.2 ulp above -87 (it stops at 1.6e-38 below), tanh 2.3 ulp with exact sign and zero. NaN stays
// NaN; infinities saturate.
// double: the C library's exp and tanh lane by lane; it is the precision of gradient checks.

// e^x = 2^n * (1 + p): n as the exponent of a float, p = e^f - 1. |x| <= 87 or NaN.
struct ReducedExp {
  Vec<float> power_of_two;
  Vec<float> p;
};

SENSORSEQ_INLINE ReducedExp ReduceExp(Vec<float> x) {
  const Vec<float> log2_e = Broadcast(1.44269504f);
  const Vec<float> ln2_high = Broadcast(0.693359375f);  // 9 bits: n times it is exact
  const Vec<float> ln2_low = Broadcast(-2.12194440e-4f);
  const Vec<float> magic = Broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> shifted = MulAdd(x, log2_e, magic);
  const Vec<float> n = shifted - magic;
  Vec<float> f = MulAdd(-n, ln2_high, x);
  f = MulAdd(-n, ln2_low, f);
  Vec<float> q = Broadcast(1.0f / 5040.0f);
  q = MulAdd(q, f, Broadcast(1.0f / 720.0f));
  q = MulAdd(q, f, Broadcast(1.0f / 120.0f));
  q = MulAdd(q, f, Broadcast(1.0f / 24.0f));
  q = MulAdd(q, f, Broadcast(1.0f / 6.0f));
  q = MulAdd(q, f, Broadcast(0.5f));
  const Vec<float> p = MulAdd(q * f, f, f);
  VecBits<float> bits;
  __builtin_memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127) << 23;  // the low bits of `shifted` are n; the magic part is shifted out
  Vec<float> power_of_two;
  __builtin_memcpy(&power_of_two, &bits, sizeof(bits));
  return {power_of_two, p};
}

SENSORSEQ_INLINE Vec<float> Sigmoid(Vec<float> x) {
  const Vec<float> limit = Broadcast(87.0f);
  Vec<float> y = -x;
  y = y > limit ? limit : y;
  y = y < -limit ? -limit : y;
  const ReducedExp e = ReduceExp(y);
  const Vec<float> one = Broadcast(1.0f);
  return one / (one + MulAdd(e.power_of_two, e.p, e.power_of_two));
}

SENSORSEQ_INLINE Vec<float> Tanh(Vec<float> x) {
  VecBits<float> bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const VecBits<float> sign = bits & INT32_MIN;
  bits = bits ^ sign;
  Vec<float> twice;
  __builtin_memcpy(&twice, &bits, sizeof(bits));
  twice = twice + twice;
  const Vec<float> limit = Broadcast(40.0f);  // tanh(20) rounds to 1
  twice = twice > limit ? limit : twice;
  const ReducedExp e = ReduceExp(twice);
  // e^2|x| - 1 without cancellation: small x keeps its relative accuracy
  const Vec<float> m = MulAdd(e.power_of_two, e.p, e.power_of_two - Broadcast(1.0f));
  const Vec<float> t = m / (m + Broadcast(2.0f));
  __builtin_memcpy(&bits, &t, sizeof(bits));
  bits = bits | sign;
  Vec<float> result;
  __builtin_memcpy(&result, &bits, sizeof(bits));
  return result;
}

SENSORSEQ_INLINE Vec<double> Sigmoid(Vec<double> x) {
  Vec<double> y{};
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) {
    y[lane] = 1.0 / (1.0 + __builtin_exp(-x[lane]));
  }
  return y;
}

SENSORSEQ_INLINE Vec<double> Tanh(Vec<double> x) {
  Vec<double> y{};
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) y[lane] = __builtin_tanh(x[lane]);
  return y;
}

inline void SigmoidArray(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const Vec<float> v = Sigmoid(LoadSome(x + i, n - i));
    for (int64_t lane = 0; lane < kLanes<float> && i + lane < n; ++lane) y[i + lane] = v[lane];
  }
}

inline void TanhArray(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    const Vec<float> v = Tanh(LoadSome(x + i, n - i));
    for (int64_t lane = 0; lane < kLanes<float> && i + lane < n; ++lane) y[i + lane] = v[lane];
  }
}
