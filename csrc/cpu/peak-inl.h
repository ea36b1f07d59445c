// Measures a core's peak rate of multiply-adds for benchmarks, with chains in registers that access
// no memory. Included last by kernels-inl.h; includes nothing.

// Enough chains to hide the latency of a multiply-add, but few enough to fit, with the factor, into
// 16 registers.
constexpr int kPeakChains = 14;

inline int64_t MultiplyAddFlops(int64_t repeats) {
  Vec<float> chains[kPeakChains];
#pragma GCC unroll 16
  for (int i = 0; i < kPeakChains; ++i) chains[i] = Broadcast(static_cast<float>(i + 1));
  // The factor is too small to change a chain, so there is neither overflow nor a subnormal number,
  // which would be slow. Each sum overwrites its addend, as ARM's FMLA does. All products
  // differ, so the compiler has to compute each of them.
  volatile float tiny = 1e-20f;  // volatile, so that the compiler does not know its value
  const Vec<float> factor = Broadcast(static_cast<float>(tiny));
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 16
    for (int i = 0; i < kPeakChains; ++i) {
      chains[i] = MulAdd(chains[(i + 1) % kPeakChains], factor, chains[i]);
    }
  }
  Vec<float> sum{};
#pragma GCC unroll 16
  for (int i = 0; i < kPeakChains; ++i) sum = sum + chains[i];
  volatile float used = 0.0f;  // volatile, so that the compiler keeps the loop
  for (int64_t lane = 0; lane < kLanes<float>; ++lane) used = used + sum[lane];
  return repeats * kPeakChains * kLanes<float> * 2;
}
