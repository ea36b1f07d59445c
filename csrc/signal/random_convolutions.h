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

// Rounds of the same kernels that compete in groups of 7: Hydra (Dempster, Schmidt, Webb, "Hydra:
// competing convolutional kernels for fast and accurate time series classification", DMKD 2023). A
// round has a dilation, and takes a window or the differences between its steps.
struct CompetitionPlan {
  int64_t n_rounds, n_channels;
  const int32_t* dilations;       // (n_rounds)      at least 1
  const int32_t* is_difference;   // (n_rounds)      0 of the first rounds, 1 of the others
  const int32_t* kernels;         // (n_rounds, 84)  group by group: k, or -1 - k for its negative
  const int32_t* channel_counts;  // (n_rounds, 12)  channels of each group, 1 or more
  const int32_t* channels;        // one after the other, each in [0, n_channels)
};

const char* PlanError(const CompetitionPlan& plan, int64_t n_channel_indices);

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

// Writes, for each group of each round, the wins of its 7 kernels, then their losses. At each valid
// step of the window or of its differences, the kernel with the largest output of its group wins,
// and the one with the smallest loses; the first one in a tie. Its wins are the sum of its outputs
// where it won, its losses the number of steps where it lost; both are divided by the number of
// steps, and the square root is taken (0 of a negative sum). Sums are of float, step t in the sum
// numbered t % 16; these are added in halves, so that their bits depend on no instruction set. A
// series of no steps gets zeros.
//
// out: (N, n_rounds * 168); the rest as for ShareAboveBiases.
int64_t ShareWins(const PassKernels& kernels, const CompetitionPlan& plan,
                  const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes the outputs of the 84 kernels of one dilation, kernel k on window rows[k], at all its
// valid steps. `plan` has that one dilation; its biases are not read. out: (84, T), of which row k
// is written up to the length of its window. Throws std::bad_alloc.
void ConvolveWindows(const PassKernels& kernels, const ConvolutionPlan& plan,
                     const ConvolvedWindows& windows, const int64_t* rows, float* out);

}  // namespace sensorseq::signal
