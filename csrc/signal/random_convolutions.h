// Random convolutions of windows, and how often each exceeds its biases: MiniRocket (Dempster,
// Schmidt, Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series
// Classification", KDD 2021).
//
// A kernel has 9 taps, dilation steps apart: three of weight 2 and six of weight -1. Its output at
// step t, over the channels of its combination in their order, is the sum of
//   (((-x[t] - x[t-4d] - x[t-3d] - .. - x[t+4d]) + 3 x[t+(a-4)d]) + 3 x[t+(b-4)d]) + 3 x[t+(c-4)d]
// in float, added from left to right, where x is 0 before its first and after its last valid step.
// So the bits of an output depend on neither instruction set nor batch nor thread.
#pragma once

#include <cstdint>
#include <vector>

#include "signal/pass.h"

namespace sensorseq::signal {

// The kernels of every dilation. A combination is a dilation and a kernel, at dilation * 84 +
// kernel.
struct ConvolutionPlan {
  int64_t n_dilations, n_channels;
  const int32_t* dilations;       // (n_dilations)       at least 1
  const int32_t* n_biases;        // (n_dilations)       biases for each kernel, 0 or more
  const int32_t* channel_counts;  // (n_dilations * 84)  channels of each combination, 1 or more
  const int32_t* channels;        // one after the other, each in [0, n_channels)
  const float* biases;            // one after the other, by combination
};

// No window has more steps, and no dilation is larger: up to here counts are exact in float.
constexpr int64_t kMaxConvolvedSteps = int64_t{1} << 24;

// Null if a plan can be used with so many channel indices and biases, else what is wrong with it.
const char* PlanError(const ConvolutionPlan& plan, int64_t n_channel_indices, int64_t n_all_biases);

// (N, T, C) dense; steps at and beyond a window's length are not read.
struct ConvolvedWindows {
  int64_t n_windows, n_timesteps, n_channels;
  const float* x;
  const int64_t* lengths;  // (N)  each in [0, T]; null: all T

  int64_t length(int64_t n) const { return lengths == nullptr ? n_timesteps : lengths[n]; }
};

// Writes, for each window and bias, the share of a kernel's outputs that lie above the bias: over
// all valid steps where dilation index + kernel is even, else over those whose 9 taps are all valid
// steps, or over all when there are none of those. A window of no steps gets zeros.
//
// out: (N, biases in all). Windows are dealt to n_threads threads, this one among them.
// Returns the position in x of the first valid value that is NaN or infinite, else -1; then out
// holds nothing of use. Throws std::bad_alloc.
int64_t ShareAboveBiases(const PassKernels& kernels, const ConvolutionPlan& plan,
                         const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes the outputs of the 84 kernels of one dilation, kernel k on window rows[k], at all its
// valid steps. `plan` has that one dilation; its biases are not read. out: (84, T), of which row k
// is written up to the length of its window. Throws std::bad_alloc.
void ConvolveWindows(const PassKernels& kernels, const ConvolutionPlan& plan,
                     const ConvolvedWindows& windows, const int64_t* rows, float* out);

}  // namespace sensorseq::signal
