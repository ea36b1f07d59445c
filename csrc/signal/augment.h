// Random changes to copies of windows, and the inputs of these changes.
#pragma once

#include <cstdint>

#include "signal/philox.h"

namespace sensorseq::signal {

// Writes n numbers of the standard normal distribution.
using FillNormal = void (*)(Philox& random, int64_t n, double* out);

// The kinds of change, each with its own random numbers: its value is the second word of the
// counter.
enum class Change : uint64_t {
  kWindowShift = 0,
  kTimeWarp,
  kMagnitudeWarp,
  kScaling,
  kJitter,
  kOffset,
  kMirror,
  kRotation,
};

// The fields of sensorseq.preprocessing.windows.augment.Augmentation, with channels as indices.
struct Augmentation {
  double jitter, scaling, time_warp, magnitude_warp, window_shift, offset;
  // A cubic spline through K values at evenly spaced knots from 0 to 1. On piece i, for a value of
  // 1 at knot k and 0 at the others, spline[(p * (K - 1) + i) * K + k] is the coefficient of power
  // 3 - p of x, measured from the piece's first knot.
  int64_t n_spline_knots;  // K
  const double* spline;    // (4, K - 1, K)
  // Each channel of a mirror image: this channel times this sign. Null: no mirror images.
  const int64_t* mirror_order;  // (C)
  const double* mirror_sign;    // (C)
  // The largest angle of a rotation, and the channels x, y, z of each vector; all vectors are
  // rotated together.
  double rotation_deg;
  int64_t n_axes;
  const int64_t* axes;  // (n_axes, 3)
};

struct AugmentWindows {
  int64_t n_windows, n_timesteps, n_channels;  // N, T, C
  const int64_t* lengths;                      // (N), each in [0, T]: valid steps
  // A window's random numbers are a function of these three and the kind of change.
  const int64_t* indices;  // (N)
  const int64_t* copies;   // (N)
  int64_t seed;
  // (C) standard deviation that jitter and offset refer to; null: the window's own
  const double* channel_sd;
  // (N, B, C) samples right before and after each window, or null; if any channel is not finite,
  // the first or last sample of the window is held
  const double* before;
  const double* after;
  int64_t n_before, n_after;
  FillNormal fill_normal;
};

// Changes the valid steps of x (N, T, C) in place, on n_threads threads including this one.
// Computes in double. Returns the position in x of the first valid value that is not finite, or -1;
// if there is one, x must not be used any more.
template <typename Real>
int64_t Augment(const Augmentation& how, const AugmentWindows& windows, int64_t n_threads, Real* x);

}  // namespace sensorseq::signal
