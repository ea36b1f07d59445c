// The mean, variance and extremes of each channel, in one pass over blocks of windows.
#pragma once

#include <cstdint>
#include <vector>

#include "signal/pass.h"

namespace sensorseq::signal {

// Steps are processed in groups of a fixed size, counted from the first step ever added. A group
// stays in the cache for two passes, after which its moments are merged into the total (Chan,
// Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
// 1979). The bits therefore depend on the steps and their order, not on their division into blocks.
// All arithmetic is in double, on values minus the channel's first value, so a large offset loses
// no digits.
//
// Allocates only in the constructor. Only one thread at a time may use an object.
class Moments {
 public:
  static constexpr int64_t kGroup = 512;  // steps; one channel of a group takes 4 KiB

  Moments(const PassKernels& kernels, int64_t n_channels);

  // Adds the valid steps of a block x (N, T, C), where C = n_channels. `lengths` (N) has entries in
  // [0, T]; if it is null, all lengths are T. Real is float or double. Returns the position in x of
  // the first valid value that is NaN or infinite, or -1. If x has a valid value that is not
  // finite, the object must no longer be used.
  template <typename Real>
  int64_t Add(const Real* x, int64_t n_windows, int64_t n_timesteps, const int64_t* lengths);

  // Writes the moments of all steps added so far, and returns the number of steps. mean, m2 (the
  // sum of squared deviations from the mean), low and high have C entries each, which are zeros if
  // there was no step.
  int64_t Summarize(double* mean, double* m2, double* low, double* high) const;

  int64_t n_channels() const { return n_channels_; }

 private:
  static void Merge(Reduced* total, int64_t n_total, const Reduced& part, int64_t n_part);

  template <typename Real>
  bool Take(const Real* x, int64_t n_steps);

  const PassKernels* kernels_;
  int64_t n_channels_;
  int64_t n_reduced_ = 0;        // steps in total_
  int64_t n_pending_ = 0;        // steps in pending_, fewer than kGroup
  std::vector<double> shift_;    // (C)
  std::vector<Reduced> total_;   // (C)
  std::vector<double> pending_;  // (C, kGroup)
};

}  // namespace sensorseq::signal
