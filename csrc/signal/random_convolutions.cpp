#include "signal/random_convolutions.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "base/cache_lines.h"
#include "signal/threads.h"

namespace sensorseq::signal {
namespace {

// The buffers of one thread: rows of a window with zeros around them, and the outputs of the loop.
class Workspace {
 public:
  // `n_rows` is the number of rows of outputs.
  Workspace(const int32_t* dilations, int64_t n_dilations, int64_t n_rows,
            const ConvolvedWindows& windows)
      : n_channels_(windows.n_channels) {
    int64_t reach = 0;
    for (int64_t j = 0; j < n_dilations; ++j) {
      reach = std::max<int64_t>(reach, 4 * int64_t{dilations[j]});
    }
    before_ = Whole(reach);
    row_ = Whole(before_ + windows.n_timesteps + reach + kConvolutionMargin);
    const int64_t minus = Whole(n_channels_ * (windows.n_timesteps + kConvolutionMargin));
    const int64_t outputs = Whole(n_rows * (windows.n_timesteps + kConvolutionMargin));
    const int64_t n_floats = 2 * n_channels_ * row_ + minus + outputs;
    const size_t bytes = static_cast<size_t>(n_floats) * sizeof(float);
    block_.reset(static_cast<float*>(AllocateLines(bytes)));
    if (block_ == nullptr) throw std::bad_alloc();
    // The outputs are also cleared, because values beyond the last step are compared before they
    // are dropped.
    std::fill_n(block_.get(), n_floats, 0.0f);
    minus_ = block_.get() + 2 * n_channels_ * row_;
    outputs_ = minus_ + minus;
  }

  // Copies the n differences between adjacent steps of a window of n + 1 steps.
  void TakeDifferences(const float* window, int64_t n) {
    Place(n, [&](int64_t t, int64_t c) {
      return window[(t + 1) * n_channels_ + c] - window[t * n_channels_ + c];
    });
  }

  // Copies a window of n steps; returns the position of its first value that is not finite, or -1.
  int64_t Take(const float* window, int64_t n) {
    const bool is_finite =
        Place(n, [&](int64_t t, int64_t c) { return window[t * n_channels_ + c]; });
    for (int64_t i = 0; !is_finite && i < n * n_channels_; ++i) {
      if (window[i] - window[i] != 0.0f) return i;
    }
    return -1;
  }

  // The arguments for all kernels of a dilation, except channels, biases and shares.
  DilatedKernels Args(int64_t dilation) const {
    DilatedKernels args{};
    args.n_steps = n_taken_;
    args.dilation = dilation;
    args.n_channels = n_channels_;
    args.x = block_.get() + before_;
    args.tripled = args.x + n_channels_ * row_;
    args.row_stride = row_;
    args.minus = minus_;
    args.n_kernels = kFixedKernels;
    args.outputs = outputs_;
    return args;
  }

 private:
  // Returns whether all n steps are finite.
  template <typename ValueAt>
  bool Place(int64_t n, ValueAt value_at) {
    bool is_finite = true;
    for (int64_t c = 0; c < n_channels_; ++c) {
      float* x = block_.get() + c * row_ + before_;
      float* tripled = x + n_channels_ * row_;
      for (int64_t t = 0; t < n; ++t) {
        const float value = value_at(t, c);
        is_finite &= value - value == 0.0f;
        x[t] = value;
        tripled[t] = 3.0f * value;
      }
      // the previous window may have been longer
      if (n < n_taken_) std::fill(x + n, x + n_taken_, 0.0f);
      if (n < n_taken_) std::fill(tripled + n, tripled + n_taken_, 0.0f);
    }
    n_taken_ = n;
    return is_finite;
  }

  static int64_t Whole(int64_t n) {
    constexpr int64_t kFloats = static_cast<int64_t>(kCacheLine / sizeof(float));
    return (n + kFloats - 1) / kFloats * kFloats;
  }

  int64_t n_channels_, before_, row_;
  int64_t n_taken_ = 0;
  std::unique_ptr<float, FreeLines> block_;
  float* minus_;
  float* outputs_;
};

int64_t CountBiases(const ConvolutionPlan& plan) {
  int64_t n = 0;
  for (int64_t j = 0; j < plan.n_dilations; ++j) n += kFixedKernels * plan.n_biases[j];
  return n;
}

void ShareOfWindow(const PassKernels& kernels, const ConvolutionPlan& plan,
                   const Workspace& workspace, float* out) {
  const int32_t* counts = plan.channel_counts;
  const int32_t* channels = plan.channels;
  const float* biases = plan.biases;
  for (int64_t j = 0; j < plan.n_dilations; ++j) {
    DilatedKernels args = workspace.Args(plan.dilations[j]);
    args.parity = j;
    args.channel_counts = counts;
    args.channels = channels;
    args.n_biases = plan.n_biases[j];
    args.biases = biases;
    args.shares = out;
    kernels.convolve(args);
    for (int64_t k = 0; k < kFixedKernels; ++k) channels += counts[k];
    counts += kFixedKernels;
    biases += kFixedKernels * plan.n_biases[j];
    out += kFixedKernels * plan.n_biases[j];
  }
}

// Distributes the windows among threads. `describe(workspace, window, n, to)` writes the features
// of a window of n steps and returns the position of its first value that is not finite, or -1.
template <typename MakeWorkspace, typename Describe>
int64_t DescribeWindows(const ConvolvedWindows& windows, int64_t n_threads, int64_t n_features,
                        MakeWorkspace make, Describe describe, float* out) {
  const int64_t window_size = windows.n_timesteps * windows.n_channels;
  const int64_t n_workers = std::max<int64_t>(1, std::min(n_threads, windows.n_windows));
  std::vector<Workspace> workspaces;
  for (int64_t i = 0; i < n_workers; ++i) workspaces.push_back(make());
  std::atomic<int64_t> next{0}, first_bad{-1};
  RunInThreads(n_workers, [&](int64_t worker) {
    for (int64_t n = next++; n < windows.n_windows; n = next++) {
      float* to = out + n * n_features;
      const int64_t n_steps = windows.length(n);
      if (n_steps == 0) {
        std::fill_n(to, n_features, 0.0f);
        continue;
      }
      const int64_t bad = describe(&workspaces[worker], windows.x + n * window_size, n_steps, to);
      if (bad < 0) continue;
      const int64_t position = n * window_size + bad;
      int64_t known = first_bad;
      while ((known < 0 || position < known) && !first_bad.compare_exchange_weak(known, position)) {
      }
    }
  });
  return first_bad;
}

void ShareWinsOfWindow(const PassKernels& kernels, const CompetitionPlan& plan, const float* window,
                       int64_t n, Workspace* workspace, float* out) {
  const int32_t* channels = plan.channels;
  bool is_difference = false;
  for (int64_t r = 0; r < plan.n_rounds; ++r) {
    const int32_t* counts = plan.channel_counts + r * kGroups;
    if (plan.is_difference[r] != 0 && !is_difference) {
      if (n == 1) {
        std::fill_n(out, (plan.n_rounds - r) * kGroups * kWins, 0.0f);
        return;
      }
      workspace->TakeDifferences(window, n - 1);
      is_difference = true;
    }
    DilatedKernels args = workspace->Args(plan.dilations[r]);
    args.channel_counts = counts;
    args.channels = channels;
    args.shares = out;
    kernels.compete(args, plan.kernels + r * kFixedKernels);
    for (int64_t g = 0; g < kGroups; ++g) channels += counts[g];
    out += kGroups * kWins;
  }
}

const char* DilationError(const int32_t* dilations, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    if (dilations[j] < 1 || dilations[j] > kMaxConvolvedSteps) {
      return "a dilation is below 1 or too large";
    }
  }
  return nullptr;
}

// Checks the channels of combinations. Combination i has counts[i] channels, and `n_indices` is the
// total number of channel indices.
const char* ChannelError(const int32_t* counts, int64_t n_combinations, const int32_t* channels,
                         int64_t n_indices, int64_t n_channels) {
  int64_t n = 0;
  for (int64_t i = 0; i < n_combinations; ++i) {
    if (counts[i] < 1) return "a combination has no channel";
    n += counts[i];
  }
  if (n != n_indices) return "channel indices and their counts disagree";
  for (int64_t i = 0; i < n; ++i) {
    if (channels[i] < 0 || channels[i] >= n_channels) return "a channel index does not exist";
  }
  return nullptr;
}

}  // namespace

const char* PlanError(const ConvolutionPlan& plan, int64_t n_channel_indices,
                      int64_t n_all_biases) {
  if (const char* error = DilationError(plan.dilations, plan.n_dilations)) return error;
  for (int64_t j = 0; j < plan.n_dilations; ++j) {
    if (plan.n_biases[j] < 0) return "a number of features is negative";
  }
  if (const char* error = ChannelError(plan.channel_counts, plan.n_dilations * kFixedKernels,
                                       plan.channels, n_channel_indices, plan.n_channels)) {
    return error;
  }
  return CountBiases(plan) == n_all_biases ? nullptr : "biases and features per dilation disagree";
}

const char* PlanError(const CompetitionPlan& plan, int64_t n_channel_indices) {
  if (const char* error = DilationError(plan.dilations, plan.n_rounds)) return error;
  for (int64_t r = 0; r < plan.n_rounds; ++r) {
    const int32_t before = r == 0 ? 0 : plan.is_difference[r - 1];
    if (plan.is_difference[r] < before || plan.is_difference[r] > 1) {
      return "rounds on differences do not come after the rounds on windows";
    }
  }
  for (int64_t i = 0; i < plan.n_rounds * kFixedKernels; ++i) {
    if (plan.kernels[i] < -kFixedKernels || plan.kernels[i] >= kFixedKernels) {
      return "a kernel does not exist";
    }
  }
  return ChannelError(plan.channel_counts, plan.n_rounds * kGroups, plan.channels,
                      n_channel_indices, plan.n_channels);
}

int64_t ShareAboveBiases(const PassKernels& kernels, const ConvolutionPlan& plan,
                         const ConvolvedWindows& windows, int64_t n_threads, float* out) {
  return DescribeWindows(
      windows, n_threads, CountBiases(plan),
      [&] { return Workspace(plan.dilations, plan.n_dilations, 1, windows); },
      [&](Workspace* workspace, const float* window, int64_t n, float* to) {
        const int64_t bad = workspace->Take(window, n);
        if (bad < 0) ShareOfWindow(kernels, plan, *workspace, to);
        return bad;
      },
      out);
}

int64_t ShareWins(const PassKernels& kernels, const CompetitionPlan& plan,
                  const ConvolvedWindows& windows, int64_t n_threads, float* out) {
  return DescribeWindows(
      windows, n_threads, plan.n_rounds * kGroups * kWins,
      [&] { return Workspace(plan.dilations, plan.n_rounds, kRivals, windows); },
      [&](Workspace* workspace, const float* window, int64_t n, float* to) {
        const int64_t bad = workspace->Take(window, n);
        if (bad < 0) ShareWinsOfWindow(kernels, plan, window, n, workspace, to);
        return bad;
      },
      out);
}

void ConvolveWindows(const PassKernels& kernels, const ConvolutionPlan& plan,
                     const ConvolvedWindows& windows, const int64_t* rows, float* out) {
  Workspace workspace(plan.dilations, 1, 1, windows);
  const int32_t* channels = plan.channels;
  for (int64_t k = 0; k < kFixedKernels; ++k) {
    const int64_t n_steps = windows.length(rows[k]);
    if (n_steps > 0) {
      workspace.Take(windows.x + rows[k] * windows.n_timesteps * plan.n_channels, n_steps);
      DilatedKernels args = workspace.Args(plan.dilations[0]);
      args.first_kernel = args.parity = k;  // parity + k is even, so the kernel covers all steps
      args.n_kernels = 1;
      args.channel_counts = plan.channel_counts + k;
      args.channels = channels;
      kernels.convolve(args);
      std::copy_n(args.outputs, n_steps, out + k * windows.n_timesteps);
    }
    channels += plan.channel_counts[k];
  }
}

}  // namespace sensorseq::signal
