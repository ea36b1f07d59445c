// The implementations of FirKernels on Vec<double>. Included inside the namespace and target region
// of an instruction set's file, after vector-inl.h, MulAdd, LoadLast and kWantsAlignment; includes
// nothing.

constexpr int kSize = static_cast<int>(kLanes<double>);
constexpr int kTile = 8;  // enough sums to hide the latency of fused multiply-adds on two ports

// Sums the lanes of each of 2 * kStep vectors in the order of SumOfLanes: first the two halves are
// added, then their quarters, and so on. In the end, lane i of rows[0] is the sum of the lanes of
// rows[i].
template <int kStep>
SENSORSEQ_INLINE void AddHalves(Vec<double>* rows) {
  if constexpr (kStep > 0) {
#pragma GCC unroll 4
    for (int row = 0; row < kStep; ++row) {
      MergeHalves<double, kStep>(rows[row], rows[row + kStep], AllLanes<kSize>());
      rows[row] += rows[row + kStep];
    }
    AddHalves<kStep / 2>(rows);
  }
}

// Sums the lanes of each of kTile vectors in the order of SumOfLanes.
SENSORSEQ_INLINE void SumTile(Vec<double> (&sums)[kTile], double* out) {
#pragma GCC unroll 4
  for (int group = 0; group < kTile; group += kSize) {
    AddHalves<kSize / 2>(sums + group);
    Store(out + group, sums[group]);
  }
}

// Computes kOutputs outputs of kChannels channels, with one vector of sums for each output and
// channel.
template <int kChannels, int kOutputs, bool kOneFilter>
SENSORSEQ_INLINE void DotTile(const FirDots& args, int64_t output, int64_t channel) {
  const double* taps[kOutputs];
  const double* data[kOutputs];
  int64_t n_taps = 0;
#pragma GCC unroll 8
  for (int m = 0; m < kOutputs; ++m) {
    const FirOutput& one = args.outputs[output + m];
    taps[m] = one.taps_end;
    data[m] = args.rows + channel * args.row_stride + one.end;
    n_taps = n_taps > one.n_taps ? n_taps : one.n_taps;
  }
  Vec<double> sums[kTile];
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) sums[i] = Vec<double>{};
  for (int64_t i = -n_taps; i < -kFirBlock; i += kSize) {
    Vec<double> tap = Load(taps[0] + i);
#pragma GCC unroll 8
    for (int m = 0; m < kOutputs; ++m) {
      if (!kOneFilter && m > 0) tap = Load(taps[m] + i);
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) {
        Vec<double>& sum = sums[m * kChannels + c];
        sum = MulAdd(tap, Load(data[m] + c * args.row_stride + i), sum);
      }
    }
  }
#pragma GCC unroll 4
  for (int64_t i = -kFirBlock; i < 0; i += kSize) {
#pragma GCC unroll 8
    for (int m = 0; m < kOutputs; ++m) {
      const Vec<double> tap = Load(taps[m] + i);
      const int64_t n_last = args.outputs[output + m].n_last - (kFirBlock + i);
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) {
        Vec<double>& sum = sums[m * kChannels + c];
        sum = MulAdd(tap, LoadLast(data[m] + c * args.row_stride + i, n_last), sum);
      }
    }
  }
  double* out = args.sums + output * args.n_channels + channel;
  if constexpr (kChannels * kOutputs == kTile) {
    double tile[kTile];
    SumTile(sums, tile);
#pragma GCC unroll 8
    for (int m = 0; m < kOutputs; ++m) {
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) out[m * args.n_channels + c] = tile[m * kChannels + c];
    }
  } else {
#pragma GCC unroll 8
    for (int m = 0; m < kOutputs; ++m) {
#pragma GCC unroll 4
      for (int c = 0; c < kChannels; ++c) {
        out[m * args.n_channels + c] = SumOfLanes<double>(sums[m * kChannels + c]);
      }
    }
  }
}

template <int kChannels>
inline void DotsOfChannels(const FirDots& args, int64_t channel) {
  constexpr int kOutputs = kTile / kChannels;
  int64_t output = 0;
  for (; output + kOutputs <= args.n_outputs; output += kOutputs) {
    const FirOutput* tile = args.outputs + output;
    bool is_one_filter = true;
    for (int m = 1; m < kOutputs; ++m) is_one_filter &= tile[m].taps_end == tile[0].taps_end;
    if (is_one_filter) {
      DotTile<kChannels, kOutputs, true>(args, output, channel);
    } else {
      DotTile<kChannels, kOutputs, false>(args, output, channel);
    }
  }
  for (; output < args.n_outputs; ++output) DotTile<kChannels, 1, true>(args, output, channel);
}

void Dots(const FirDots& args) {
  int64_t channel = 0;
  for (; channel + 4 <= args.n_channels; channel += 4) DotsOfChannels<4>(args, channel);
  if (channel + 2 <= args.n_channels) {
    DotsOfChannels<2>(args, channel);
    channel += 2;
  }
  if (channel < args.n_channels) DotsOfChannels<1>(args, channel);
}

// Without this function, GCC would load a vector again for every use, and most of these loads would
// span two cache lines.
SENSORSEQ_INLINE void KeepInRegister(Vec<double>& v) {
#if defined(__x86_64__)
  __asm__("" : "+x"(v));
#else
  (void)v;
#endif
}

// Computes kPhases outputs for each sample in kVectors vectors of successive samples. Each lane
// computes the outputs of its own sample.
template <int kVectors, int kPhases>
SENSORSEQ_INLINE void InterpolateTile(const FirInterpolation& args, int64_t channel, int64_t sample,
                                      int64_t phase) {
  const double* data = args.rows + channel * args.row_stride + args.first + sample;
  const double* taps = args.taps + phase * args.n_taps;
  Vec<double> sums[kVectors][kPhases];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 2
    for (int p = 0; p < kPhases; ++p) sums[v][p] = Vec<double>{};
  }
  for (int64_t i = 0; i < args.n_taps; ++i) {
    Vec<double> tap[kPhases];
#pragma GCC unroll 2
    for (int p = 0; p < kPhases; ++p) tap[p] = Broadcast(taps[p * args.n_taps + i]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Vec<double> x = Load(data + v * kSize + i);
      KeepInRegister(x);
#pragma GCC unroll 2
      for (int p = 0; p < kPhases; ++p) sums[v][p] = MulAdd(tap[p], x, sums[v][p]);
    }
  }
  const int64_t first = sample * args.up + phase - args.phase;
  const int64_t last = first + (kVectors * kSize - 1) * args.up + kPhases - 1;
  const bool is_inside = first >= 0 && last < args.n_outputs;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 2
    for (int p = 0; p < kPhases; ++p) {
      double lanes[kSize];
      Store(lanes, sums[v][p]);
      const int64_t output = first + v * kSize * args.up + p;
#pragma GCC unroll 8
      for (int lane = 0; lane < kSize; ++lane) {
        const int64_t m = output + lane * args.up;
        if (is_inside || (m >= 0 && m < args.n_outputs)) {
          args.sums[m * args.n_channels + channel] = lanes[lane];
        }
      }
    }
  }
}

template <int kVectors>
SENSORSEQ_INLINE void InterpolatePhases(const FirInterpolation& args, int64_t channel,
                                        int64_t sample) {
  int64_t phase = 0;
  for (; phase + 2 <= args.up; phase += 2)
    InterpolateTile<kVectors, 2>(args, channel, sample, phase);
  if (phase < args.up) InterpolateTile<kVectors, 1>(args, channel, sample, phase);
}

void Interpolate(const FirInterpolation& args) {
  constexpr int kVectors = 4;
  const int64_t n_samples = (args.phase + args.n_outputs + args.up - 1) / args.up;
  for (int64_t channel = 0; channel < args.n_channels; ++channel) {
    int64_t sample = 0;
    for (; sample + kVectors * kSize <= n_samples; sample += kVectors * kSize) {
      InterpolatePhases<kVectors>(args, channel, sample);
    }
    for (; sample < n_samples; sample += kSize) InterpolatePhases<1>(args, channel, sample);
  }
}

void Blend(const FirBlend& args) {
  const int64_t n_taps = args.n_taps;
  for (int64_t m = 0; m < args.n_outputs; ++m) {
    const FirBlended one = args.outputs[m];
    for (int64_t i = 0; i < kFirBlock; i += kSize) {
      Store(one.row + i, Vec<double>{});
      Store(one.row + n_taps + i, Vec<double>{});
    }
    const Vec<double> weight = Broadcast(one.weight);
    double* blended = one.row + kFirBlock - one.n_beyond;
    for (int64_t i = 0; i < n_taps; i += kSize) {
      const Vec<double> low = Load(one.low + i);
      Store(blended + i, MulAdd(weight, Load(one.high + i) - low, low));
    }
  }
}

SENSORSEQ_INLINE Vec<double> LoadAsDoubles(const double* p) { return Load(p); }
SENSORSEQ_INLINE Vec<double> LoadAsDoubles(const float* p) {
  typedef float Half __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES / 2)));
  Half half;
  __builtin_memcpy(&half, p, sizeof(half));
  return __builtin_convertvector(half, Vec<double>);
}

template <typename Real>
void ToPlanar(const Deinterleave<Real>& args) {
  const int64_t n_channels = args.n_channels, n_values = args.n_samples * n_channels;
  for (int64_t channel = 0; channel < n_channels; channel += kSize) {
    const int64_t n_here = n_channels - channel < kSize ? n_channels - channel : kSize;
    double* planar = args.planar + channel * args.row_stride;
    const Real* x = args.x + channel;
    int64_t t = 0;
    for (; n_channels == 1 && t + kSize <= args.n_samples; t += kSize) {
      Store(planar + t, LoadAsDoubles(x + t));
    }
    // Transposes a square of full vectors. Beyond the last channel, the vectors read the next
    // sample, which is still within x.
    for (; n_here > 1 && channel + (t + kSize - 1) * n_channels + kSize <= n_values; t += kSize) {
      Vec<double> rows[kSize];
#pragma GCC unroll 8
      for (int i = 0; i < kSize; ++i) rows[i] = LoadAsDoubles(x + (t + i) * n_channels);
      Transpose<double>(rows);
#pragma GCC unroll 8
      for (int c = 0; c < kSize; ++c) {
        if (c < n_here) Store(planar + c * args.row_stride + t, rows[c]);
      }
    }
    for (; t < args.n_samples; ++t) {
      for (int64_t c = 0; c < n_here; ++c) {
        planar[c * args.row_stride + t] = static_cast<double>(x[t * n_channels + c]);
      }
    }
  }
}

// x - x is 0, or NaN if x is not finite, and a sum keeps the NaN.
template <typename Real>
bool AllFinite(const Real* x, int64_t n) {
  Vec<Real> sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes<Real> <= n; i += 2 * kLanes<Real>) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const Vec<Real> some = Load(x + i + v * kLanes<Real>);
      sums[v] += some - some;
    }
  }
  Real rest = 0;
  for (; i < n; ++i) rest += x[i] - x[i];
  return SumOfLanes<Real>(sums[0] + sums[1]) + rest == 0;
}

constexpr FirKernels kFirKernels = {SENSORSEQ_ISA_NAME, kWantsAlignment,  &Dots,
                                    &Interpolate,       &Blend,           &AllFinite<float>,
                                    &AllFinite<double>, &ToPlanar<float>, &ToPlanar<double>};
