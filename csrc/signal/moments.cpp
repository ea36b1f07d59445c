#include "signal/moments.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace sensorseq::signal {
Moments::Moments(const PassKernels& kernels, int64_t n_channels)
    : kernels_(&kernels),
      n_channels_(n_channels),
      shift_(n_channels),
      total_(n_channels),
      pending_(n_channels * kGroup) {}

void Moments::Merge(Reduced* total, int64_t n_total, const Reduced& part, int64_t n_part) {
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
    bool finite;
    if constexpr (std::is_same_v<Real, float>) {
      finite = kernels_->spread_f(x, C, count, kGroup, out);
    } else {
      finite = kernels_->spread_d(x, C, count, kGroup, out);
    }
    all_finite = all_finite && finite;
    x += count * C;
    n_steps -= count;
    n_pending_ += count;
    if (n_pending_ < kGroup) break;
    for (int64_t c = 0; c < C; ++c) {
      const Reduced group = kernels_->reduce(&pending_[c * kGroup], shift_[c], kGroup);
      Merge(&total_[c], n_reduced_, group, kGroup);
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
  if (lengths == nullptr) {  // the windows are contiguous: one run of steps
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
    Reduced part = total_[c];
    if (n_pending_ > 0) {
      const Reduced rest = kernels_->reduce(&pending_[c * kGroup], shift_[c], n_pending_);
      Merge(&part, n_reduced_, rest, n_pending_);
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
