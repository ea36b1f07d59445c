// Random convolutions of windows, and how often their outputs exceed the biases: MiniRocket
// (Dempster, Schmidt, Webb, "MiniRocket: a very fast (almost) deterministic transform for time
// series classification", KDD 2021).
//
// A kernel has 9 taps that are `dilation` steps apart: three (a, b and c) with weight 2 and six
// with weight -1. The output of a kernel at step t is the sum, over the kernel's channels in order,
// of (((-x[t] - x[t-4d] - x[t-3d] - .. - x[t+4d]) + 3 x[t+(a-4)d]) + 3 x[t+(b-4)d]) + 3 x[t+(c-4)d]
// in float, added from left to right, where x is 0 before its first and after its last valid step.
// The bits of an output therefore do not depend on the instruction set, the batch or the thread.
#pragma once

#include <cstdint>
#include <vector>

#include "signal/pass.h"

namespace sensorseq::signal {

// The kernels of every dilation. A combination of a dilation and a kernel has the index (index of
// the dilation) * 84 + kernel.
struct ConvolutionPlan {
  int64_t n_dilations, n_channels;
  const int32_t* dilations;       // (n_dilations)       at least 1
  const int32_t* n_biases;        // (n_dilations)       biases for each kernel, 0 or more
  const int32_t* channel_counts;  // (n_dilations * 84)  channels of each combination, 1 or more
  const int32_t* channels;        // concatenated, each in [0, n_channels)
  const float* biases;            // concatenated, by combination
};

// The maximum number of steps and the maximum dilation. Counts up to this number are exact in
// float.
constexpr int64_t kMaxConvolvedSteps = int64_t{1} << 24;

// Returns null if a plan is valid with these numbers of channel indices and biases, and otherwise a
// description of the problem.
const char* PlanError(const ConvolutionPlan& plan, int64_t n_channel_indices, int64_t n_all_biases);

// Rounds in which the same kernels compete in groups of 7: Hydra (Dempster, Schmidt, Webb, "Hydra:
// competing convolutional kernels for fast and accurate time series classification", DMKD 2023). A
// round has a dilation, and reads a window or the differences between its adjacent steps.
struct CompetitionPlan {
  int64_t n_rounds, n_channels;
  const int32_t* dilations;       // (n_rounds)      at least 1
  const int32_t* is_difference;   // (n_rounds)      0 for the first rounds, 1 for the others
  const int32_t* kernels;         // (n_rounds, 84) by group: k, or -1 - k for the negative of k
  const int32_t* channel_counts;  // (n_rounds, 12)  channels of each group, 1 or more
  const int32_t* channels;        // concatenated, each in [0, n_channels)
};

const char* PlanError(const CompetitionPlan& plan, int64_t n_channel_indices);

// Dense windows (N, T, C). Steps at and beyond a window's length are not read.
struct ConvolvedWindows {
  int64_t n_windows, n_timesteps, n_channels;
  const float* x;
  const int64_t* lengths;  // (N)  each in [0, T]; null: all T

  int64_t length(int64_t n) const { return lengths == nullptr ? n_timesteps : lengths[n]; }
};

// Writes, for each window and bias, the fraction of a kernel's outputs that exceed the bias. If the
// sum of the dilation's index and the kernel's index is even, the fraction is taken over all valid
// steps. Otherwise, the fraction is taken over the steps whose 9 taps are all valid, or over all
// valid steps if there are no such steps. A window without steps gets zeros.
//
// `out` is (N, total number of biases). Windows are distributed among n_threads threads, including
// this one. Returns the position in x of the first valid value that is NaN or infinite, or -1. If x
// has a valid value that is not finite, `out` is unusable. Throws std::bad_alloc.
int64_t ShareAboveBiases(const PassKernels& kernels, const ConvolutionPlan& plan,
                         const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes, for each group of each round, the wins of its 7 kernels, then their losses. At each valid
// step of the window or of its differences, the kernel with the largest output in its group wins,
// and the kernel with the smallest output loses; in a tie, the first of the tied kernels wins or
// loses. The wins of a kernel are the sum of its outputs where it won, and its losses are the
// number of steps where it lost. Wins and losses are divided by the number of steps, and the square
// roots of the quotients are written (0 for a negative sum). Sums are in float. Step t belongs to
// partial sum t % 16, and the 16 partial sums are added in halves, so that the bits do not depend
// on the instruction set. If a round has no steps to read, zeros are written for it.
//
// `out` is (N, n_rounds * 168). Everything else is as in ShareAboveBiases.
int64_t ShareWins(const PassKernels& kernels, const CompetitionPlan& plan,
                  const ConvolvedWindows& windows, int64_t n_threads, float* out);

// Writes the outputs of the 84 kernels of one dilation. Kernel k is applied at all valid steps of
// window rows[k]. `plan` has only this dilation, and the biases of `plan` are not read. `out` is
// (84, T); row k is written up to the length of window rows[k]. Throws std::bad_alloc.
void ConvolveWindows(const PassKernels& kernels, const ConvolutionPlan& plan,
                     const ConvolvedWindows& windows, const int64_t* rows, float* out);

}  // namespace sensorseq::signal
