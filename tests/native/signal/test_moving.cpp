// Compares moving statistics with their definition, which is computed in long double from the
// samples of each window alone. Tests chunks of any size, the edges of blocks, and streams shorter
// than a window. Every array ends where its allocation ends.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "harness.h"
#include "signal/moving.h"

namespace {

using namespace harness;
using sensorseq::signal::MovingStatistic;
using sensorseq::signal::MovingWindow;

struct Case {
  MovingStatistic statistic;
  int64_t window, ahead, n_samples, n_channels;
  Array x;  // (n_samples, n_channels)
};

std::string Name(const Case& c) {
  return "statistic " + std::to_string(static_cast<int>(c.statistic)) +
         " window=" + std::to_string(c.window) + " ahead=" + std::to_string(c.ahead) +
         " n=" + std::to_string(c.n_samples) + " channels=" + std::to_string(c.n_channels);
}

long double ByDefinition(const Case& c, int64_t t, int64_t channel) {
  const int64_t begin = std::max<int64_t>(0, t + c.ahead - c.window + 1);
  const int64_t end = std::min(c.n_samples, t + c.ahead + 1);
  std::vector<long double> seen;
  for (int64_t i = begin; i < end; ++i) seen.push_back(c.x[i * c.n_channels + channel]);
  const long double n = static_cast<long double>(seen.size());
  long double mean = 0, squares = 0, absolute = 0;
  for (long double v : seen) mean += v / n, squares += v * v / n, absolute += std::fabs(v) / n;
  const auto extremes = std::minmax_element(seen.begin(), seen.end());
  switch (c.statistic) {
    case MovingStatistic::kMean:
      return mean;
    case MovingStatistic::kRms:
      return std::sqrt(squares);
    case MovingStatistic::kMeanAbsolute:
      return absolute;
    case MovingStatistic::kMin:
      return *extremes.first;
    case MovingStatistic::kMax:
      return *extremes.second;
    case MovingStatistic::kRange:
      return *extremes.second - *extremes.first;
    default:
      break;
  }
  long double about_mean = 0, products = 0, times = 0;
  for (size_t i = 0; i < seen.size(); ++i) {
    const long double time = static_cast<long double>(i) - (n - 1) / 2;
    about_mean += (seen[i] - mean) * (seen[i] - mean);
    products += time * (seen[i] - mean);
    times += time * time;
  }
  if (c.statistic == MovingStatistic::kStd) return std::sqrt(about_mean / n);
  return n < 3 ? 0 : seen.back() - mean - products / times * (n - 1) / 2;
}

// The rows of all pushes and of the flush; `chunk` returns the size of the next push.
template <typename F>
Array Run(const Case& c, F chunk) {
  MovingWindow window(c.statistic, c.window, c.ahead, c.n_channels);
  Array all;
  const auto take = [&](Exact<double>& y) {
    Check(y.sentinel_intact(), Name(c) + ": written before the beginning");
    all.insert(all.end(), y.data(), y.data() + y.size());
  };
  for (int64_t at = 0; at < c.n_samples;) {
    const int64_t n = std::min(chunk(), c.n_samples - at);
    Exact<double> x(Array(c.x.begin() + at * c.n_channels, c.x.begin() + (at + n) * c.n_channels));
    Exact<double> y(static_cast<size_t>(window.n_ready(n) * c.n_channels));
    window.Push(x.data(), n, y.data());
    take(y);
    at += n;
    Check(static_cast<int64_t>(all.size()) == std::max<int64_t>(0, at - c.ahead) * c.n_channels,
          Name(c) + ": rows after " + std::to_string(at) + " samples");
  }
  Exact<double> y(static_cast<size_t>(window.n_left() * c.n_channels));
  window.Flush(y.data());
  take(y);
  Check(window.n_left() == 0, Name(c) + ": something is left");
  return all;
}

void CheckCase(const Case& c, std::mt19937& random) {
  const Array whole = Run(c, [&] { return c.n_samples; });
  Check(whole.size() == c.x.size(), Name(c) + ": number of rows");
  double largest = 0;
  for (double v : c.x) largest = std::max(largest, std::fabs(v));
  for (int64_t i = 0; i < static_cast<int64_t>(whole.size()); ++i) {
    const long double expected = ByDefinition(c, i / c.n_channels, i % c.n_channels);
    const double error = static_cast<double>(std::fabs(whole[i] - expected));
    // a few rounding errors of the samples' magnitude, which do not accumulate over the window
    Check(error <= 2e-15 * (largest + 1), Name(c) + ": row " + std::to_string(i / c.n_channels) +
                                              " is off by " + std::to_string(error));
  }
  for (int64_t most : {1, 3, 20}) {
    std::uniform_int_distribution<int64_t> draw(0, most);
    Check(Run(c, [&] { return draw(random); }) == whole,
          Name(c) + ": chunks of up to " + std::to_string(most) + " give other bits");
  }
}

// A channel has the same bits alone and together with others.
void CheckChannels(Case c) {
  const Array whole = Run(c, [&] { return c.n_samples; });
  for (int64_t channel = 0; channel < c.n_channels; ++channel) {
    Case alone = c;
    alone.n_channels = 1;
    alone.x.clear();
    Array expected;
    for (int64_t i = channel; i < static_cast<int64_t>(c.x.size()); i += c.n_channels) {
      alone.x.push_back(c.x[i]);
      expected.push_back(whole[i]);
    }
    Check(Run(alone, [&] { return c.n_samples; }) == expected, Name(c) + ": a channel alone");
  }
}

}  // namespace

int main() {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  for (int statistic = 0; statistic <= static_cast<int>(MovingStatistic::kLineResidual);
       ++statistic) {
    for (int64_t window : {1, 2, 3, 8, 33}) {
      for (int64_t ahead : {int64_t(0), window / 2, window - 1}) {
        const bool is_residual = statistic == static_cast<int>(MovingStatistic::kLineResidual);
        for (int64_t n : {int64_t(0), int64_t(1), int64_t(2), window - 1, window, window + 1,
                          2 * window, 2 * window + 1, 5 * window + 2}) {
          for (int64_t n_channels : {1, 3}) {
            Case c{static_cast<MovingStatistic>(statistic), window, ahead, n, n_channels, {}};
            for (int64_t i = 0; i < n * n_channels; ++i) c.x.push_back(3 + 2 * normal(random));
            // the last sample of a truncated window is not sample t + ahead, so t has no residual
            if (is_residual && ahead > 0) continue;
            CheckCase(c, random);
            CheckChannels(c);
          }
        }
      }
    }
  }
  return Finish();
}
