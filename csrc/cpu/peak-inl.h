// The most multiply-adds a core can do, for benchmarks: chains in registers, no memory. Included by
// an ISA file after MulAdd; includes nothing.

// Enough chains to hide the latency of a multiply-add, few enough to stay in 16 registers with the
// two operands.
constexpr int kPeakChains = 14;

inline int64_t MultiplyAddFlops(int64_t repeats) {
  Vec<float> chains[kPeakChains];
  for (int i = 0; i < kPeakChains; ++i) chains[i] = Broadcast(static_cast<float>(i));
  // They tend to 1: neither overflow nor subnormal numbers, which would be slow.
  const Vec<float> factor = Broadcast(0.999f), addend = Broadcast(0.001f);
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 16
    for (int i = 0; i < kPeakChains; ++i) chains[i] = MulAdd(chains[i], factor, addend);
  }
  Vec<float> sum{};
  for (int i = 0; i < kPeakChains; ++i) sum = sum + chains[i];
  volatile float used = 0.0f;  // or the compiler would leave out the loop
  for (int64_t lane = 0; lane < kLanes<float>; ++lane) used = used + sum[lane];
  return repeats * kPeakChains * kLanes<float> * 2;
}
