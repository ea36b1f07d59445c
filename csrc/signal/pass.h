// The inner loops of window.h and moments.h, which read each value once, and of
// random_convolutions.h. They give the same bits on every instruction set: nothing is fused, and
// sums have a fixed order.
#pragma once

#include <cstdint>

namespace sensorseq::signal {

// What is done to a value, and its place in PassKernels.
enum class Map { kAsIs = 0, kForward = 1, kInverse = 2 };  // x; (x - a) / b; x * b + a

// Maps n values, of which value i has center[i % period] and scale[i % period]; arithmetic is
// double, rounded once. Returns whether everything written is finite. `in` and `out` are of n
// values and overlap nothing.
template <typename Real, typename Out>
using MapLoop = bool (*)(const Real* in, const double* center, const double* scale, int64_t period,
                         int64_t n, Out* out);

// Writes x (n_steps, n_channels) as rows of doubles, channel c from out + c * stride on. Returns
// whether every value is finite.
template <typename Real>
using SpreadLoop = bool (*)(const Real* x, int64_t n_channels, int64_t n_steps, int64_t stride,
                            double* out);

// Sums over n values v less `shift`, at least one; the mean is theirs, m2 about it.
struct Reduced {
  double mean, m2, low, high;  // low and high of the values themselves
};

constexpr int64_t kFixedKernels = 84;       // the choices of 3 taps of 9
constexpr int64_t kConvolutionMargin = 16;  // floats that may be read beyond a row: a vector

// Some of the 84 kernels on one window with one dilation; see random_convolutions.h.
struct DilatedKernels {
  int64_t n_steps, dilation, n_channels;  // n_steps is 1 or more
  // (n_channels, row_stride) each, from step 0 on. Before a row and after its n_steps are zeros,
  // for 4 * dilation steps; after those, kConvolutionMargin more can be read.
  const float* x;
  const float* tripled;  // 3 * x
  int64_t row_stride;
  float* minus;  // (n_channels, n_steps + kConvolutionMargin)  for the loop's own use
  int64_t first_kernel, n_kernels;
  int64_t parity;                 // kernel k is over all steps where parity + k is even
  const int32_t* channel_counts;  // (n_kernels)
  const int32_t* channels;        // theirs, one after the other
  int64_t n_biases;               // of each kernel
  const float* biases;            // (n_kernels, n_biases)
  float* shares;                  // (n_kernels, n_biases)  written
  // (n_steps + kConvolutionMargin)  written: those of the last kernel; of each rival where they
  // compete
  float* outputs;
};

constexpr int64_t kRivals = 7;  // kernels that compete
constexpr int64_t kGroups = kFixedKernels / kRivals;
constexpr int64_t kWins = 2 * kRivals;  // features of a group

struct PassKernels {
  MapLoop<float, float> map_ff[3];  // from float to float, by Map
  MapLoop<float, double> map_fd[3];
  MapLoop<double, float> map_df[3];
  MapLoop<double, double> map_dd[3];
  SpreadLoop<float> spread_f;
  SpreadLoop<double> spread_d;
  Reduced (*reduce)(const double* x, double shift, int64_t n);
  void (*convolve)(const DilatedKernels& args);
  // All kernels, in groups: channel_counts is (kGroups), shares (kGroups, kWins); biases are not
  // read. kernels (kFixedKernels) are numbers k, or -1 - k for the negative.
  void (*compete)(const DilatedKernels& args, const int32_t* kernels);
};

}  // namespace sensorseq::signal
