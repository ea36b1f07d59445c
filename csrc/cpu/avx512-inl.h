// What vector-inl.h leaves to an instruction set, for AVX-512. Included by an ISA file after it;
// includes nothing.

SENSORSEQ_INLINE Vec<float> MulAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SENSORSEQ_INLINE Vec<double> MulAdd(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

// All lanes, by the masked form: GCC takes the plain one's undefined source for an uninitialized
// use.
constexpr __mmask16 kAll = 0xffff;

SENSORSEQ_INLINE Vec<float> Min(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_min_ps(kAll, (__m512)a, (__m512)b);
}
SENSORSEQ_INLINE Vec<float> Max(Vec<float> a, Vec<float> b) {
  return (Vec<float>)_mm512_maskz_max_ps(kAll, (__m512)a, (__m512)b);
}
SENSORSEQ_INLINE Vec<double> Max(Vec<double> a, Vec<double> b) {
  return (Vec<double>)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
}
SENSORSEQ_INLINE Vec<float> RoundToInt(Vec<float> x) {
  return (Vec<float>)_mm512_maskz_roundscale_ps(kAll, (__m512)x,
                                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
SENSORSEQ_INLINE Vec<float> ScaleByPowerOfTwo(Vec<float> x, Vec<float> n) {
  return (Vec<float>)_mm512_maskz_scalef_ps(kAll, (__m512)x, (__m512)n);
}
