// Copies windows from a signal or from existing windows, and maps each value to (x - center) /
// scale, or back, in the same pass over memory.
#pragma once

#include <cstdint>

#include "signal/pass.h"

namespace sensorseq::signal {

// Arrays are dense and row-major; Real and Out are float or double. Arithmetic is in double, and
// the result is rounded once to Out. Steps at or beyond a window's length are not read, and are
// written as 0.
template <typename Real, typename Out>
struct WindowMap {
  int64_t n_samples, n_windows, n_timesteps, n_channels;  // S, N, T, C
  const Real* values;                                     // (S, C)
  const int64_t* starts;   // (N)      first sample; starts[n] in [0, S - length of window n]
  const int64_t* lengths;  // (N)      each in [0, T]; null: all T
  const double* center;    // (C) null: values are not mapped, and scale is not read
  const double* scale;     // (C)      no zeros
  bool inverse;            //          true: x * scale + center
  Out* out;                // (N, T, C) fully written; overlaps no input
};

// Positions in `out` of the first valid value that was not finite in `values`, and of the first
// valid value that left the range of Out; -1 if there is none.
struct NotFinite {
  int64_t given = -1;
  int64_t overflown = -1;
};

// Returns whether every window lies in the signal and every length is in [0, T].
template <typename Real, typename Out>
bool WindowsFit(const WindowMap<Real, Out>& args);

// Allocates nothing and throws nothing. Calls that write to different memory may run at the same
// time. The windows must fit; see WindowsFit.
template <typename Real, typename Out>
NotFinite MapWindows(const PassKernels& kernels, const WindowMap<Real, Out>& args);

}  // namespace sensorseq::signal
