// The implementations of PassKernels except convolve and compete, in plain C++ that compilers
// vectorize. Included inside the namespace and target region of an instruction set's file, after
// compete-inl.h; includes nothing.

// Returns 0 for a finite value and another number for NaN and infinity, because x - x is +0 or NaN.
SENSORSEQ_INLINE uint32_t BitsIfNotFinite(float x) {
  const float difference = x - x;
  uint32_t bits;
  __builtin_memcpy(&bits, &difference, sizeof bits);
  return bits;
}
SENSORSEQ_INLINE uint64_t BitsIfNotFinite(double x) {
  const double difference = x - x;
  uint64_t bits;
  __builtin_memcpy(&bits, &difference, sizeof bits);
  return bits;
}

template <Map kMap, typename Real, typename Out>
bool MapValues(const Real* in, const double* center, const double* scale, int64_t period, int64_t n,
               Out* out) {
  decltype(BitsIfNotFinite(Out())) not_finite = 0;
  for (int64_t first = 0; first < n; first += period) {
    const int64_t count = period < n - first ? period : n - first;
    const Real* __restrict__ from = in + first;
    const double* __restrict__ a = center;
    const double* __restrict__ b = scale;
    Out* __restrict__ to = out + first;
    for (int64_t i = 0; i < count; ++i) {
      const double x = static_cast<double>(from[i]);
      const Out mapped = static_cast<Out>(kMap == Map::kAsIs      ? x
                                          : kMap == Map::kForward ? (x - a[i]) / b[i]
                                                                  : x * b[i] + a[i]);
      to[i] = mapped;
      not_finite |= BitsIfNotFinite(mapped);
    }
  }
  return not_finite == 0;
}

// kChannels is 0 if C is known only at run time.
template <int64_t kChannels, typename Real>
SENSORSEQ_INLINE bool SpreadChannels(const Real* x, int64_t n_channels, int64_t n_steps,
                                     int64_t stride, double* out) {
  const int64_t C = kChannels > 0 ? kChannels : n_channels;
  uint64_t not_finite = 0;
  for (int64_t c = 0; c < C; ++c) {
    const Real* __restrict__ from = x + c;
    double* __restrict__ to = out + c * stride;
    for (int64_t t = 0; t < n_steps; ++t) {
      const double value = static_cast<double>(from[t * C]);
      to[t] = value;
      not_finite |= BitsIfNotFinite(value);
    }
  }
  return not_finite == 0;
}

template <typename Real>
bool Spread(const Real* x, int64_t n_channels, int64_t n_steps, int64_t stride, double* out) {
  switch (n_channels) {
    case 1:
      return SpreadChannels<1>(x, n_channels, n_steps, stride, out);
    case 3:
      return SpreadChannels<3>(x, n_channels, n_steps, stride, out);
    case 6:
      return SpreadChannels<6>(x, n_channels, n_steps, stride, out);
    default:
      return SpreadChannels<0>(x, n_channels, n_steps, stride, out);
  }
}

constexpr int64_t kSumLanes = 8;  // independent sums, computed side by side

// Adds the lanes in a fixed order, however the compiler vectorizes the loops.
SENSORSEQ_INLINE double Fold(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

Reduced Reduce(const double* x, double shift, int64_t n) {
  double sum[kSumLanes] = {}, low[kSumLanes], high[kSumLanes];
  for (int64_t lane = 0; lane < kSumLanes; ++lane) low[lane] = high[lane] = x[0];
  const int64_t whole = n / kSumLanes * kSumLanes;
  for (int64_t i = 0; i < whole; i += kSumLanes) {
    for (int64_t lane = 0; lane < kSumLanes; ++lane) {
      const double value = x[i + lane];
      sum[lane] += value - shift;
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
    }
  }
  for (int64_t lane = 0; whole + lane < n; ++lane) {
    const double value = x[whole + lane];
    sum[lane] += value - shift;
    low[lane] = value < low[lane] ? value : low[lane];
    high[lane] = value > high[lane] ? value : high[lane];
  }
  const double mean = Fold(sum) / static_cast<double>(n);
  // The mean is rounded. The sum of the deviations from the mean corrects m2 for the rounding
  // error.
  double deviation[kSumLanes] = {}, square[kSumLanes] = {};
  for (int64_t i = 0; i < whole; i += kSumLanes) {
    for (int64_t lane = 0; lane < kSumLanes; ++lane) {
      const double d = (x[i + lane] - shift) - mean;
      deviation[lane] += d;
      square[lane] += d * d;
    }
  }
  for (int64_t lane = 0; whole + lane < n; ++lane) {
    const double d = (x[whole + lane] - shift) - mean;
    deviation[lane] += d;
    square[lane] += d * d;
  }
  const double rest = Fold(deviation);
  const double m2 = Fold(square) - rest * rest / static_cast<double>(n);
  Reduced found{mean, m2 < 0.0 ? 0.0 : m2, low[0], high[0]};
  for (int64_t lane = 1; lane < kSumLanes; ++lane) {
    found.low = low[lane] < found.low ? low[lane] : found.low;
    found.high = high[lane] > found.high ? high[lane] : found.high;
  }
  return found;
}

constexpr PassKernels kPassKernels = {
    {MapValues<Map::kAsIs, float, float>, MapValues<Map::kForward, float, float>,
     MapValues<Map::kInverse, float, float>},
    {MapValues<Map::kAsIs, float, double>, MapValues<Map::kForward, float, double>,
     MapValues<Map::kInverse, float, double>},
    {MapValues<Map::kAsIs, double, float>, MapValues<Map::kForward, double, float>,
     MapValues<Map::kInverse, double, float>},
    {MapValues<Map::kAsIs, double, double>, MapValues<Map::kForward, double, double>,
     MapValues<Map::kInverse, double, double>},
    Spread<float>,
    Spread<double>,
    Reduce,
    Convolve,
    Compete,
};
