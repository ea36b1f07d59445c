// Random convolutions of windows, and how often their outputs exceed the biases: MiniRocket
// (Dempster, Schmidt, Webb, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time
// Series Classification", KDD 2021).
//
// A kernel has 9 taps, dilation steps apart: three of weight 2 and six of weight -1. Its output at
// step t, over the channels of its combination in their order, is the sum of
//   (((-x[t] - x[t-4d] - x[t-3d] - .. - x[t+4d]) + 3 x[t+(a-4)d]) + 3 x[t+(b-4)d]) + 3 x[t+(c-4)d]
// in float, added from left to right, where x is 0 before its first and after its last valid step.
// The bits of an output therefore depend on neither the instruction set, the batch nor the thread.
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
  const int32_t* channels;        // concatenated, each in [0, n_channels)
  const float* biases;            // concatenated, by combination
};

// The largest number of steps and the largest dilation: up to here counts are exact in float.
constexpr int64_t kMaxConvolvedSteps = int64_t{1} << 24;

// Returns null if a plan is valid with these numbers of channel indices and biases, and otherwise a
// description of the problem.
const char* PlanError(const ConvolutionPlan& plan, int64_t n_channel_indices, int64_t n_all_biases);

// Rounds of the same kernels that compete in groups of 7: Hydra (Dempster, Schmidt, Webb, "Hydra:
// competing convolutional kernels for fast and accurate time series classification", DMKD 2023). A
// round has a dilation, and reads a window or the differences between its steps.
struct CompetitionPlan {
  int64_t n_rounds, n_channels;
  const int32_t* dilations;       // (n_rounds)      at least 1
  const int32_t* is_difference;   // (n_rounds)      0 for the first rounds, 1 for the others
  const int32_t* kernels;         // (n_rounds, 84)  group by group: k, or -1 - k for its negative
  const int32_t* channel_counts;  // (n_rounds, 12)  channels of each group, 1 or more
  const int32_t* channels;        // concatenated, each in [0, n_channels)
};

const char* PlanError(const CompetitionPlan& plan, int64_t n_channel_indices);

// (N, T, C) dense; steps at and beyond a window's length are not read.
struct ConvolvedWindows {
  int64_t n_windows, n_timesteps, n_channels;
  const float* x;
  const int64_t* lengths;  // (N)  each in [0, T]; null: all T

  int64_t length(int64_t n) const { return lengths == nullptr ? n_timesteps : lengths[n]; }
};

// Writes, for each window and bias, the share of a kernel's outputs that exceed the bias: over all
// valid steps if the sum of the dilation's index and the kernel is even, otherwise over the steps
// whose 9 taps are all valid, or over all steps if there are no such steps. A window without steps
// gets zeros.
//
// out: (N, biases in all). Windows are dealt to n_threads threads including this one. Returns the
// position in x of the first valid value that is NaN or infinite, or -1; if there is one, out is
// unusable. Throws std::bad_alloc.
int64_t ShareAboveBiases(const PassKernels& kernels, const ConvolutionPlan& plan,
                         const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes, for each group of each round, the wins of its 7 kernels, then their losses. At each valid
// step of the window or of its differences, the kernel with the largest output in its group wins,
// and the one with the smallest loses; in a tie, the first one. The wins of a kernel are the sum of
// its outputs where it won, and its losses are the number of steps where it lost; both are divided
// by the number of steps, and the square root is taken (0 for a negative sum). Sums are in float,
// with step t in the sum numbered t % 16; the 16 sums are added in halves, so that the bits do not
// depend on the instruction set. A series without steps gets zeros.
//
// out: (N, n_rounds * 168); the rest as for ShareAboveBiases.
int64_t ShareWins(const PassKernels& kernels, const CompetitionPlan& plan,
                  const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes the outputs of the 84 kernels of one dilation, kernel k on window rows[k], at all its
// valid steps. `plan` has only this dilation; its biases are not read. out: (84, T); row k is
// written up to the length of its window. Throws std::bad_alloc.
void ConvolveWindows(const PassKernels& kernels, const ConvolutionPlan& plan,
                     const ConvolvedWindows& windows, const int64_t* rows, float* out);

}  // namespace sensorseq::signal
