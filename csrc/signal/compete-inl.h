// The implementation of PassKernels::compete on Vec<float>. Included inside the namespace and
// target region of an instruction set's file, after convolve-inl.h; includes nothing.

constexpr int64_t kSumSteps = 16;  // number of partial sums, the same in every instruction set
constexpr int64_t kSumParts = kSumSteps / kLanes<float>;

SENSORSEQ_INLINE VecBits<float> Choose(VecBits<float> where, VecBits<float> a, VecBits<float> b) {
  return (where & a) | (~where & b);
}

SENSORSEQ_INLINE float RootOfShare(float sum, float n) {
  constexpr float kLargest = 1e30f;  // limit for windows whose sums exceed the range of float32
  const float share = sum / n;
  return share > 0.0f ? __builtin_sqrtf(share < kLargest ? share : kLargest) : 0.0f;
}

// Computes the wins and losses of rivals, whose rows of n outputs are `stride` apart. A negative
// entry of `kernels` (-1 - k) means that the outputs of kernel k are negated first.
SENSORSEQ_INLINE void ShareWins(const float* outputs, int64_t stride, int64_t n,
                                const int32_t* kernels, float* shares) {
  Vec<float> won[kRivals][kSumParts] = {};
  VecBits<float> lost[kRivals][kSumParts] = {}, sign[kRivals];
  const VecBits<float> none = {};
  for (int32_t i = 0; i < kRivals; ++i) {
    sign[i] = (kernels[i] < 0 ? static_cast<int32_t>(0x80000000u) : 0) - none;
  }
  const VecBits<float> lanes = LaneNumbers(AllLanes<kCountLanes>());
  for (int64_t t = 0; t < n; t += kSumSteps) {
    for (int64_t part = 0; part < kSumParts; ++part) {
      const int64_t at = t + part * kLanes<float>;
      const int32_t left = static_cast<int32_t>(n - at < kSumSteps ? n - at : kSumSteps);
      const VecBits<float> valid = lanes < (left - none);
      Vec<float> high = (Vec<float>)((VecBits<float>)Load(outputs + at) ^ sign[0]), low = high;
      VecBits<float> winner = none, loser = none;
#pragma GCC unroll 7
      for (int32_t i = 1; i < kRivals; ++i) {
        const VecBits<float> bits = (VecBits<float>)Load(outputs + i * stride + at) ^ sign[i];
        const Vec<float> v = (Vec<float>)bits;
        const VecBits<float> above = v > high, below = v < low;
        high = (Vec<float>)Choose(above, bits, (VecBits<float>)high);
        low = (Vec<float>)Choose(below, bits, (VecBits<float>)low);
        winner = Choose(above, i - none, winner);
        loser = Choose(below, i - none, loser);
      }
#pragma GCC unroll 7
      for (int32_t i = 0; i < kRivals; ++i) {
        const VecBits<float> wins = (winner == (i - none)) & valid;
        won[i][part] += (Vec<float>)(wins & (VecBits<float>)high);
        lost[i][part] -= (loser == (i - none)) & valid;  // true is -1
      }
    }
  }
  for (int64_t i = 0; i < kRivals; ++i) {
    float sums[kSumSteps];
    int32_t counts[kSumSteps];
    __builtin_memcpy(sums, won[i], sizeof sums);
    __builtin_memcpy(counts, lost[i], sizeof counts);
    for (int64_t half = kSumSteps / 2; half > 0; half /= 2) {
      for (int64_t lane = 0; lane < half; ++lane) {
        sums[lane] += sums[lane + half];
        counts[lane] += counts[lane + half];
      }
    }
    shares[i] = RootOfShare(sums[0], static_cast<float>(n));
    shares[kRivals + i] = RootOfShare(static_cast<float>(counts[0]), static_cast<float>(n));
  }
}

void Compete(const DilatedKernels& args, const int32_t* kernels) {
  SumTapsOfChannels(args);
  const int64_t n = args.n_steps, stride = n + kConvolutionMargin;
  const int32_t* channels = args.channels;
  for (int64_t group = 0; group < kGroups; ++group) {
    const int32_t* own = kernels + group * kRivals;
    const int32_t n_channels = args.channel_counts[group];
    for (int64_t i = 0; i < kRivals; ++i) {
      const int32_t kernel = own[i] < 0 ? -1 - own[i] : own[i];
      ConvolveKernel(args, kernel, channels, n_channels, 0, n, args.outputs + i * stride);
    }
    channels += n_channels;
    ShareWins(args.outputs, stride, n, own, args.shares + group * kWins);
  }
}
