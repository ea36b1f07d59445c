// The implementation of PassKernels::convolve on Vec<float>. Included inside the namespace and
// target region of an instruction set's file, after vector-inl.h and CountAbove; includes nothing.

constexpr int kCountLanes = static_cast<int>(kLanes<float>);  // biases counted at a time

// For each kernel, the 3 of the 9 taps that have the weight 2. Kernels are in lexicographic order.
struct FixedTaps {
  int8_t taps[kFixedKernels][3];
};
constexpr FixedTaps MakeFixedTaps() {
  FixedTaps all{};
  int64_t kernel = 0;
  for (int8_t a = 0; a < 9; ++a) {
    for (int8_t b = static_cast<int8_t>(a + 1); b < 9; ++b) {
      for (int8_t c = static_cast<int8_t>(b + 1); c < 9; ++c) {
        all.taps[kernel][0] = a;
        all.taps[kernel][1] = b;
        all.taps[kernel][2] = c;
        ++kernel;
      }
    }
  }
  return all;
}
constexpr FixedTaps kFixedTaps = MakeFixedTaps();

template <int... kLane>
SENSORSEQ_INLINE VecBits<float> LaneNumbers(Lanes<kLane...>) {
  return VecBits<float>{kLane...};
}

// Keeps the first n lanes of v and sets the others to minus infinity, which exceeds no bias.
SENSORSEQ_INLINE Vec<float> KeepFirst(Vec<float> v, int64_t n) {
  const int32_t count = static_cast<int32_t>(n);
  const VecBits<float> keep = LaneNumbers(AllLanes<kCountLanes>()) < (count - VecBits<float>{});
  const VecBits<float> low = static_cast<int32_t>(0xff800000u) - VecBits<float>{};
  return (Vec<float>)((keep & (VecBits<float>)v) | (~keep & low));
}

// Writes, for each step, minus the sum of the nine samples at the taps.
SENSORSEQ_INLINE void SumTaps(const DilatedKernels& args, int64_t channel, float* minus) {
  const float* x = args.x + channel * args.row_stride;
  const int64_t d = args.dilation;
  for (int64_t t = 0; t < args.n_steps; t += kLanes<float>) {
    Vec<float> sum = -Load(x + t);
#pragma GCC unroll 4
    for (int tap = -4; tap < 0; ++tap) sum -= Load(x + t + tap * d);
#pragma GCC unroll 4
    for (int tap = 1; tap <= 4; ++tap) sum -= Load(x + t + tap * d);
    Store(minus + t, sum);
  }
}

// Writes the outputs of one channel at n steps to `out`, or adds them to `out` if kAdds. `minus`
// contains the results of SumTaps, beginning with the first of these steps.
template <bool kAdds>
SENSORSEQ_INLINE void AddChannel(const float* minus, const float* a, const float* b, const float* c,
                                 int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes<float> <= n; i += kLanes<float>) {
    const Vec<float> one = Load(minus + i) + Load(a + i) + Load(b + i) + Load(c + i);
    Store(out + i, kAdds ? Load(out + i) + one : one);
  }
  if (i < n) {
    const Vec<float> one = Load(minus + i) + Load(a + i) + Load(b + i) + Load(c + i);
    Store(out + i, kAdds ? Load(out + i) + one : KeepFirst(one, n - i));
  }
}

// Sums the lanes of each of 2 * kStep vectors: first the two halves are added, then their quarters,
// and so on. In the end, lane i of rows[0] is the sum of the lanes of rows[i].
template <int kStep>
SENSORSEQ_INLINE void AddLanes(VecBits<float>* rows) {
  if constexpr (kStep > 0) {
#pragma GCC unroll 8
    for (int row = 0; row < kStep; ++row) {
      Vec<float> a = (Vec<float>)rows[row], b = (Vec<float>)rows[row + kStep];
      MergeHalves<float, kStep>(a, b, AllLanes<kCountLanes>());
      rows[row] = (VecBits<float>)a + (VecBits<float>)b;
    }
    AddLanes<kStep / 2>(rows);
  }
}

// Computes the fraction of outputs above each of kBiases biases, where kBiases is at most
// kCountLanes.
template <int kBiases>
SENSORSEQ_INLINE void ShareTile(const float* outputs, int64_t n, const float* biases,
                                float* shares) {
  VecBits<float> counts[kCountLanes];
  Vec<float> bias[kBiases];
#pragma GCC unroll 16
  for (int i = 0; i < kCountLanes; ++i) counts[i] = VecBits<float>{};
#pragma GCC unroll 16
  for (int i = 0; i < kBiases; ++i) bias[i] = Broadcast(biases[i]);
  for (int64_t t = 0; t < n; t += kLanes<float>) {
    const Vec<float> v = Load(outputs + t);
#pragma GCC unroll 16
    for (int i = 0; i < kBiases; ++i) counts[i] = CountAbove(counts[i], v, bias[i]);
  }
  AddLanes<kCountLanes / 2>(counts);
  const Vec<float> share =
      __builtin_convertvector(counts[0], Vec<float>) / Broadcast(static_cast<float>(n));
  __builtin_memcpy(shares, &share, kBiases * sizeof(float));
}

// Computes the fractions for the n_biases biases that remain after full tiles; n_biases is at most
// kBiases.
template <int kBiases>
SENSORSEQ_INLINE void ShareRest(const float* outputs, int64_t n, const float* biases,
                                int64_t n_biases, float* shares) {
  if constexpr (kBiases > 0) {
    if (n_biases == kBiases) {
      ShareTile<kBiases>(outputs, n, biases, shares);
    } else {
      ShareRest<kBiases - 1>(outputs, n, biases, n_biases, shares);
    }
  }
}

SENSORSEQ_INLINE void SumTapsOfChannels(const DilatedKernels& args) {
  for (int64_t channel = 0; channel < args.n_channels; ++channel) {
    SumTaps(args, channel, args.minus + channel * (args.n_steps + kConvolutionMargin));
  }
}

// Computes the outputs of a kernel on its channels at n steps from `first` on.
SENSORSEQ_INLINE void ConvolveKernel(const DilatedKernels& args, int64_t kernel,
                                     const int32_t* channels, int32_t n_channels, int64_t first,
                                     int64_t n, float* out) {
  const int64_t d = args.dilation, minus_stride = args.n_steps + kConvolutionMargin;
  const int8_t* taps = kFixedTaps.taps[kernel];
  for (int32_t i = 0; i < n_channels; ++i) {
    const float* minus = args.minus + channels[i] * minus_stride + first;
    const float* tripled = args.tripled + channels[i] * args.row_stride + first;
    const float* a = tripled + (taps[0] - 4) * d;
    const float* b = tripled + (taps[1] - 4) * d;
    const float* c = tripled + (taps[2] - 4) * d;
    if (i == 0) {
      AddChannel<false>(minus, a, b, c, n, out);
    } else {
      AddChannel<true>(minus, a, b, c, n, out);
    }
  }
}

void Convolve(const DilatedKernels& args) {
  SumTapsOfChannels(args);
  const int32_t* channels = args.channels;
  const float* biases = args.biases;
  float* shares = args.shares;
  for (int64_t k = 0; k < args.n_kernels; ++k) {
    const int64_t kernel = args.first_kernel + k;
    const bool is_inner = (args.parity + kernel) % 2 != 0 && args.n_steps > 8 * args.dilation;
    const int64_t first = is_inner ? 4 * args.dilation : 0;
    const int64_t n = args.n_steps - 2 * first;
    ConvolveKernel(args, kernel, channels, args.channel_counts[k], first, n, args.outputs);
    channels += args.channel_counts[k];
    int64_t done = 0;
    for (; done + kCountLanes <= args.n_biases; done += kCountLanes) {
      ShareTile<kCountLanes>(args.outputs, n, biases + done, shares + done);
    }
    ShareRest<kCountLanes - 1>(args.outputs, n, biases + done, args.n_biases - done, shares + done);
    biases += args.n_biases;
    shares += args.n_biases;
  }
}
