// Random changes to copies of windows, and the inputs of these changes.
#pragma once

#include <cstdint>

#include "signal/philox.h"

namespace sensorseq::signal {

// Writes n numbers of the standard normal distribution.
using FillNormal = void (*)(Philox& random, int64_t n, double* out);

// The kinds of change. The value of a kind is the second word of the counter, so each kind has its
// own random numbers.
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

// The fields of sensorseq.preprocessing.windowing.augment.Augmentation, with channels given as
// indices.
struct Augmentation {
  double jitter, scaling, time_warp, magnitude_warp, window_shift, offset;
  // A cubic spline through K values at evenly spaced knots from 0 to 1. For the spline that is 1 at
  // knot k and 0 at the other knots, spline[(p * (K - 1) + i) * K + k] is the coefficient of power
  // 3 - p of x on piece i, where x is measured from the first knot of the piece.
  int64_t n_spline_knots;  // K
  const double* spline;    // (4, K - 1, K)
  // Channel c of a mirror image is channel mirror_order[c] times mirror_sign[c]. Null: no mirror
  // images.
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
  const int64_t* lengths;                      // (N) numbers of valid steps, in [0, T]
  // The random numbers of a window depend only on its index, the number of its copy, the seed and
  // the kind of change.
  const int64_t* indices;  // (N)
  const int64_t* copies;   // (N)
  int64_t seed;
  // (C) Standard deviations that jitter and offset refer to. Null: the standard deviations of each
  // window.
  const double* channel_sd;
  FillNormal fill_normal;
};

// Changes the valid steps of x (N, T, C) in place, on n_threads threads including this one.
// Computes in double. Returns the position in x of the first valid value that is not finite, or -1.
// If there is such a value, x may be partly changed and must no longer be used.
template <typename Real>
int64_t Augment(const Augmentation& how, const AugmentWindows& windows, int64_t n_threads, Real* x);

}  // namespace sensorseq::signal
