// Makes filters from a caller's arguments, which are checked here for all bindings.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "c_api/c_api_status.h"
#include "signal/moving.h"
#include "signal/resample.h"
#include "signal/sections.h"

namespace sensorseq::signal {

inline void RequireArgument(bool is_right, const std::string& sentence) {
  if (!is_right) throw Refusal{SENSORSEQ_BAD_ARGUMENT, sentence};
}

inline void RequireRange(const char* name, int64_t value, int64_t low, int64_t high) {
  RequireArgument(value >= low && value <= high,
                  std::string(name) + " is " + std::to_string(value) + "; expected " +
                      std::to_string(low) + " to " + std::to_string(high) + ".");
}

inline Edge EdgeOf(const std::string& name) {
  if (name == "mirror") return Edge::kMirror;
  if (name == "hold") return Edge::kHold;
  RequireArgument(name == "odd", "edge is '" + name + "'; known: mirror, hold, odd.");
  return Edge::kOdd;
}

inline void RequireTaps(const double* taps, int64_t n_taps) {
  RequireArgument(n_taps > 0, "taps have no entries; expected (n_taps,), one or more.");
  for (int64_t i = 0; i < n_taps; ++i) {
    RequireArgument(std::isfinite(taps[i]), "tap " + std::to_string(i) + " is not finite.");
  }
}

constexpr int64_t kMaxTerm = int64_t{1} << 20;

inline PolyphaseFilter MakePolyphase(const double* taps, int64_t n_taps, int64_t up, int64_t down,
                                     int64_t n_channels, const std::string& edge_name,
                                     std::optional<int64_t> delay, const FirKernels& kernels) {
  constexpr int64_t kMostDelay = int64_t{1} << 24;
  RequireTaps(taps, n_taps);
  const Edge edge = EdgeOf(edge_name);
  RequireRange("up", up, 1, kMaxTerm);
  RequireRange("down", down, 1, kMaxTerm);
  RequireRange("n_channels", n_channels, 1, kMaxTerm);
  RequireArgument(
      delay.has_value() || n_taps % 2 == 1,
      std::to_string(n_taps) + " taps have no centre; give an odd number of them, or a delay.");
  const int64_t at = delay.value_or(n_taps / 2);
  RequireRange("delay", at, 0, kMostDelay);
  PolyphaseTaps phases(taps, n_taps, up, down, at, kernels);
  RequireArgument(edge == Edge::kHold || phases.looks_ahead_as_far_as_back(),
                  "a delay of " + std::to_string(at) + " looks back further than ahead, so edge '" +
                      edge_name + "' would need samples that have not arrived; use edge 'hold'.");
  return PolyphaseFilter(std::move(phases), n_channels, edge, kernels);
}

inline TableFilter MakeTable(const double* taps, int64_t n_taps, int64_t n_phases, double ratio,
                             int64_t n_channels, const std::string& edge_name,
                             const FirKernels& kernels) {
  // The upper bound is that of a polyphase filter. With a ratio below 2^-32, positions would exceed
  // 64-bit integers.
  constexpr double kMinRatio = 0x1p-32, kMaxRatio = static_cast<double>(kMaxTerm);
  RequireTaps(taps, n_taps);
  const Edge edge = EdgeOf(edge_name);
  RequireRange("n_phases", n_phases, 1, kMaxTerm);
  RequireRange("n_channels", n_channels, 1, kMaxTerm);
  RequireArgument(
      n_taps % 2 == 1 && n_taps >= 2 * n_phases - 1,
      std::to_string(n_taps) + " taps; expected an odd number of at least 2 * n_phases - 1.");
  RequireArgument(ratio >= kMinRatio && ratio <= kMaxRatio,
                  "ratio is " + std::to_string(ratio) + "; expected one from 2^-32 to 2^20.");
  return TableFilter(TableTaps(taps, n_taps, n_phases, ratio, kernels), n_channels, edge, kernels);
}

inline MovingWindow MakeMoving(const std::string& statistic, int64_t window_samples,
                               int64_t n_channels, int64_t ahead_samples) {
  constexpr int64_t kMostValues = int64_t{1} << 27;  // need 7 GB for some statistics
  static const std::map<std::string, MovingStatistic> kStatistics = {
      {"mean", MovingStatistic::kMean},
      {"std", MovingStatistic::kStd},
      {"rms", MovingStatistic::kRms},
      {"min", MovingStatistic::kMin},
      {"max", MovingStatistic::kMax},
      {"range", MovingStatistic::kRange},
      {"mean_absolute", MovingStatistic::kMeanAbsolute},
      {"line_residual", MovingStatistic::kLineResidual},
  };
  const auto found = kStatistics.find(statistic);
  Require(found != kStatistics.end(), ("statistic='" + statistic + "' is not known.").c_str());
  Require(window_samples >= 1 && ahead_samples >= 0 && ahead_samples < window_samples &&
              n_channels >= 1,
          ("window_samples=" + std::to_string(window_samples) + ", ahead_samples=" +
           std::to_string(ahead_samples) + ", n_channels=" + std::to_string(n_channels) +
           "; expected one or more samples and channels, and ahead_samples from 0 to "
           "window_samples - 1.")
              .c_str());
  Require(
      window_samples <= kMostValues / n_channels,
      ("window_samples=" + std::to_string(window_samples) + " of " + std::to_string(n_channels) +
       " channel(s) are more than 2^27 values; take a shorter window.")
          .c_str());
  return MovingWindow(found->second, window_samples, ahead_samples, n_channels);
}

inline SectionFilter MakeSections(const double* sections, int64_t n_sections, int64_t n_channels) {
  Require(n_sections >= 1 && n_channels >= 1,
          ("sections must have the shape (n, 6), n >= 1; n_channels=" + std::to_string(n_channels) +
           " must be at least 1.")
              .c_str());
  constexpr int64_t kMostStates = int64_t{1} << 27;  // 2 GB
  Require(n_channels <= kMostStates / n_sections,
          ("n_channels=" + std::to_string(n_channels) + " is too large for " +
           std::to_string(n_sections) + " sections.")
              .c_str());
  for (int64_t i = 0; i < n_sections; ++i) {
    Require(sections[6 * i + 3] == 1, "sections[:, 3] must be 1.");
  }
  return SectionFilter(std::vector<double>(sections, sections + 6 * n_sections), n_channels);
}

}  // namespace sensorseq::signal
