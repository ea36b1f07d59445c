#include "signal/moments.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sensorseq::signal {
namespace {

constexpr int64_t kLanes = 8;  // independent sums, so that they can be formed side by side

// Added up in one order, whatever the compiler makes of the loops.
double Fold(const double* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Spreads the steps over (C, kGroup); kChannels is 0 where C is known only at run time. Whether all
// values are finite.
template <int64_t kChannels, typename Real>
bool Spread(const Real* __restrict__ x, int64_t n_channels, int64_t n_steps, int64_t stride,
            double* __restrict__ out) {
  const int64_t C = kChannels > 0 ? kChannels : n_channels;
  uint64_t not_finite = 0;
  for (int64_t c = 0; c < C; ++c) {
    const Real* __restrict__ from = x + c;
    double* __restrict__ to = out + c * stride;
    for (int64_t t = 0; t < n_steps; ++t) {
      const double value = static_cast<double>(from[t * C]);
      to[t] = value;
      const double difference = value - value;  // +0, or NaN
      uint64_t bits;
      std::memcpy(&bits, &difference, sizeof bits);
      not_finite |= bits;
    }
  }
  return not_finite == 0;
}

}  // namespace

Moments::Moments(int64_t n_channels)
    : n_channels_(n_channels),
      shift_(n_channels),
      total_(n_channels),
      pending_(n_channels * kGroup) {}

Moments::Part Moments::Reduce(const double* x, double shift, int64_t n) {
  double sum[kLanes] = {}, low[kLanes], high[kLanes];
  std::fill(low, low + kLanes, x[0]);
  std::fill(high, high + kLanes, x[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = x[i + lane];
      sum[lane] += value - shift;
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
    }
  }
  for (int64_t lane = 0; i + lane < n; ++lane) {
    const double value = x[i + lane];
    sum[lane] += value - shift;
    low[lane] = value < low[lane] ? value : low[lane];
    high[lane] = value > high[lane] ? value : high[lane];
  }
  const double mean = Fold(sum) / static_cast<double>(n);
  // The mean is rounded; what the deviations from it add up to takes that out again.
  double deviation[kLanes] = {}, square[kLanes] = {};
  i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double d = (x[i + lane] - shift) - mean;
      deviation[lane] += d;
      square[lane] += d * d;
    }
  }
  for (int64_t lane = 0; i + lane < n; ++lane) {
    const double d = (x[i + lane] - shift) - mean;
    deviation[lane] += d;
    square[lane] += d * d;
  }
  const double rest = Fold(deviation);
  const double m2 = Fold(square) - rest * rest / static_cast<double>(n);
  return {mean, std::max(m2, 0.0), *std::min_element(low, low + kLanes),
          *std::max_element(high, high + kLanes)};
}

void Moments::Merge(Part* total, int64_t n_total, const Part& part, int64_t n_part) {
  if (n_total == 0) {
    *total = part;
    return;
  }
  const double share = static_cast<double>(n_part) / static_cast<double>(n_total + n_part);
  const double delta = part.mean - total->mean;
  total->mean += delta * share;
  total->m2 += part.m2 + delta * delta * (static_cast<double>(n_total) * share);
  total->low = std::min(total->low, part.low);
  total->high = std::max(total->high, part.high);
}

template <typename Real>
bool Moments::Take(const Real* x, int64_t n_steps) {
  const int64_t C = n_channels_;
  if (n_steps > 0 && n_reduced_ == 0 && n_pending_ == 0) {
    for (int64_t c = 0; c < C; ++c) shift_[c] = static_cast<double>(x[c]);
  }
  bool all_finite = true;
  while (n_steps > 0) {
    const int64_t count = std::min(n_steps, kGroup - n_pending_);
    double* out = pending_.data() + n_pending_;
    const bool finite = C == 1   ? Spread<1>(x, C, count, kGroup, out)
                        : C == 3 ? Spread<3>(x, C, count, kGroup, out)
                        : C == 6 ? Spread<6>(x, C, count, kGroup, out)
                                 : Spread<0>(x, C, count, kGroup, out);
    all_finite = all_finite && finite;
    x += count * C;
    n_steps -= count;
    n_pending_ += count;
    if (n_pending_ < kGroup) break;
    for (int64_t c = 0; c < C; ++c) {
      Merge(&total_[c], n_reduced_, Reduce(&pending_[c * kGroup], shift_[c], kGroup), kGroup);
    }
    n_reduced_ += kGroup;
    n_pending_ = 0;
  }
  return all_finite;
}

template <typename Real>
int64_t Moments::Add(const Real* x, int64_t n_windows, int64_t n_timesteps,
                     const int64_t* lengths) {
  bool all_finite = true;
  if (lengths == nullptr) {  // the windows lie one behind the other: one run of steps
    all_finite = Take(x, n_windows * n_timesteps);
  } else {
    for (int64_t n = 0; n < n_windows; ++n) {
      const bool finite = Take(x + n * n_timesteps * n_channels_, lengths[n]);
      all_finite = all_finite && finite;
    }
  }
  if (all_finite) return -1;
  for (int64_t n = 0; n < n_windows; ++n) {
    const int64_t first = n * n_timesteps * n_channels_;
    const int64_t valid = (lengths == nullptr ? n_timesteps : lengths[n]) * n_channels_;
    for (int64_t i = first; i < first + valid; ++i) {
      if (!std::isfinite(x[i])) return i;
    }
  }
  return -1;
}

int64_t Moments::Summarize(double* mean, double* m2, double* low, double* high) const {
  for (int64_t c = 0; c < n_channels_; ++c) {
    Part part = total_[c];
    if (n_pending_ > 0) {
      Merge(&part, n_reduced_, Reduce(&pending_[c * kGroup], shift_[c], n_pending_), n_pending_);
    }
    mean[c] = shift_[c] + part.mean;
    m2[c] = part.m2;
    low[c] = part.low;
    high[c] = part.high;
  }
  return n_reduced_ + n_pending_;
}

template int64_t Moments::Add(const float*, int64_t, int64_t, const int64_t*);
template int64_t Moments::Add(const double*, int64_t, int64_t, const int64_t*);

}  // namespace sensorseq::signal
