// sigmoid and tanh on Vec. Included first by kernels-inl.h, after vector-inl.h and the ISA file's
// primitives; includes nothing.
//
// For float, e^x = 2^n e^f with n = round(x log2(e)) and f = x - n ln(2), where ln(2) is split into
// two parts (Cody and Waite). e^f = 1 + f + f^2 r(f), where r is the polynomial of degree 4 that
// minimizes the relative error of e^f - 1 (1.7e-8 after rounding to float). The error is at most
// 2.5 ulp for tanh and, above -87, for sigmoid. Below -87, sigmoid stays at 1.6e-38. The sign of
// tanh is exact. A dense comparison with double found these error bounds, and a test checks them.
// NaN stays NaN; infinities saturate. Multiplying the packed weights by log2(e) would save two
// instructions, but then the rounding error of each weight would be the same in every step, and
// gradients through 40 steps had 3 times torch's error. Double, the precision of gradient checks,
// uses the C library's exp and tanh lane by lane.

// e^x as 2^n (1 + p); |x| <= 87 or NaN.
struct SplitExp {
  Vec<float> n, p;
};

SENSORSEQ_INLINE SplitExp Exp(Vec<float> x) {
  const Vec<float> n = RoundToInt(x * Broadcast(1.44269504f));
  // The product is exact, because the constant has only 9 bits.
  Vec<float> f = MulAdd(n, Broadcast(-0.693359375f), x);
  f = MulAdd(n, Broadcast(2.12194440e-4f), f);
  Vec<float> r = Broadcast(0.00138825225f);
  r = MulAdd(r, f, Broadcast(0.008366514f));
  r = MulAdd(r, f, Broadcast(0.0416672006f));
  r = MulAdd(r, f, Broadcast(0.166665435f));
  r = MulAdd(r, f, Broadcast(0.49999997f));
  return {n, MulAdd(r * f, f, f)};
}

SENSORSEQ_INLINE Vec<float> Sigmoid(Vec<float> x) {
  const float limit = 87.0f;
  const SplitExp e = Exp(Max(Broadcast(-limit), Min(Broadcast(limit), -x)));
  const Vec<float> one = Broadcast(1.0f);
  return one / (one + ScaleByPowerOfTwo(one + e.p, e.n));
}

SENSORSEQ_INLINE Vec<float> Tanh(Vec<float> x) {
  VecBits<float> bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const VecBits<float> sign = bits & INT32_MIN;
  bits = bits ^ sign;
  Vec<float> twice;
  __builtin_memcpy(&twice, &bits, sizeof(bits));
  const SplitExp e = Exp(Min(Broadcast(40.0f), twice + twice));  // tanh(20) rounds to 1
  const Vec<float> one = Broadcast(1.0f);
  // e^(2|x|) - 1 without cancellation, so that the relative error is small even if x is small
  const Vec<float> power = ScaleByPowerOfTwo(one, e.n);
  const Vec<float> m = MulAdd(power, e.p, power - one);
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
    StoreSome(y + i, Sigmoid(LoadSome(x + i, n - i)), n - i);
  }
}

inline void TanhArray(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<float>) {
    StoreSome(y + i, Tanh(LoadSome(x + i, n - i)), n - i);
  }
}
