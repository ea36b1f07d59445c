#include "signal/ends.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace sensorseq::signal {
namespace {

double Median(std::vector<double> values) {
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

int64_t CountWithin(const double* x, int64_t n, double low, double high) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += (x[i] >= low) & (x[i] <= high);
  return count;
}

}  // namespace

// If an end is apart, its distance from any other value is more than `spreads` times the spread of
// the others. Nearly 90 % of the others are then within this distance, divided by `spreads`, of any
// value inside the spread, such as the median.
bool MayHaveEndsApart(const double* x, int64_t n, double low, double high, double spreads,
                      int64_t n_drawn) {
  const int64_t step = std::max<int64_t>(n / n_drawn, 1);
  std::vector<double> some;
  for (int64_t i = 0; i < n; i += step) some.push_back(x[i]);
  const double inside = Median(some);
  int64_t n_below = 0;
  for (int64_t i = 0; i < n; ++i) n_below += x[i] < inside;
  for (const double end : {low, high}) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const double value : some) {
      const double distance = std::abs(value - end);
      if (distance > 0) nearest = std::min(nearest, distance);
    }
    const double reach = nearest / spreads;
    const int64_t n_end = CountWithin(x, n, end, end);
    const int64_t n_others = n - n_end, n_less = n_below - (end < inside ? n_end : 0);
    const bool is_inside = 0.06 * n_others < n_less && n_less < 0.94 * n_others && end != inside;
    if (!is_inside || CountWithin(x, n, inside - reach, inside + reach) > 0.85 * n_others) {
      return true;
    }
  }
  return false;
}

}  // namespace sensorseq::signal
