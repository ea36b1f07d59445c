// The inner loops of window.h, moments.h and random_convolutions.h. The loops give the same bits on
// every instruction set, because no operations are fused and sums have a fixed order.
#pragma once

#include <cstdint>

namespace sensorseq::signal {

// The mapping of a value, and its index in PassKernels.
enum class Map { kAsIs = 0, kForward = 1, kInverse = 2 };  // x; (x - a) / b; x * b + a

// Maps n values. Value i has center[i % period] and scale[i % period]. Arithmetic is in double, and
// the result is rounded once. Returns whether all values written are finite. `in` and `out` have n
// values and do not overlap.
template <typename Real, typename Out>
using MapLoop = bool (*)(const Real* in, const double* center, const double* scale, int64_t period,
                         int64_t n, Out* out);

// Writes x (n_steps, n_channels) as rows of doubles, channel c at out + c * stride. Returns
// whether every value is finite.
template <typename Real>
using SpreadLoop = bool (*)(const Real* x, int64_t n_channels, int64_t n_steps, int64_t stride,
                            double* out);

// Moments of n >= 1 values minus `shift`: the mean, and the sum m2 of the squared deviations from
// the mean.
struct Reduced {
  double mean, m2, low, high;  // low and high are those of the unshifted values
};

constexpr int64_t kFixedKernels = 84;       // the number of ways to choose 3 of 9 taps
constexpr int64_t kConvolutionMargin = 16;  // floats that may be read beyond a row: one vector

// Some of the 84 kernels on one window with one dilation; see random_convolutions.h.
struct DilatedKernels {
  int64_t n_steps, dilation, n_channels;  // n_steps is 1 or more
  // x and tripled are (n_channels, row_stride) and point to step 0 of the first row. Each row has 4
  // * dilation zeros before its first step and after its last step; kConvolutionMargin more floats
  // can be read beyond the trailing zeros.
  const float* x;
  const float* tripled;  // 3 * x
  int64_t row_stride;
  float* minus;  // (n_channels, n_steps + kConvolutionMargin) scratch of the loop
  int64_t first_kernel, n_kernels;
  int64_t parity;                 // kernel k covers all steps if parity + k is even
  const int32_t* channel_counts;  // (n_kernels)
  const int32_t* channels;        // of each kernel, concatenated
  int64_t n_biases;               // of each kernel
  const float* biases;            // (n_kernels, n_biases)
  float* shares;                  // (n_kernels, n_biases)  written
  // (n_steps + kConvolutionMargin) written: the outputs of the last kernel. If kernels compete,
  // each of the kRivals rivals has such a row.
  float* outputs;
};

constexpr int64_t kRivals = 7;  // kernels that compete
constexpr int64_t kGroups = kFixedKernels / kRivals;
constexpr int64_t kWins = 2 * kRivals;  // features of a group

struct PassKernels {
  MapLoop<float, float> map_ff[3];  // from float to float, indexed by Map
  MapLoop<float, double> map_fd[3];
  MapLoop<double, float> map_df[3];
  MapLoop<double, double> map_dd[3];
  SpreadLoop<float> spread_f;
  SpreadLoop<double> spread_d;
  Reduced (*reduce)(const double* x, double shift, int64_t n);
  void (*convolve)(const DilatedKernels& args);
  // Lets all kernels compete in groups. channel_counts is (kGroups), shares is (kGroups, kWins),
  // and biases are not read. `kernels` (kFixedKernels) contains k for kernel k, or -1 - k for the
  // negative of kernel k.
  void (*compete)(const DilatedKernels& args, const int32_t* kernels);
};

}  // namespace sensorseq::signal
