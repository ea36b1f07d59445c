// Whether the lowest or the highest value of a channel may be apart from the other values, such as
// a mark for missing values.
#pragma once

#include <cstdint>

namespace sensorseq::signal {

// Returns false if both ends, low and high, of x (n >= 1 finite values) are certainly near the
// other values: if the distance from each end to the nearest other value is at most `spreads` times
// the distance from the 5th to the 95th percentile of the other values. Only about `n_drawn` values
// are sorted.
bool MayHaveEndsApart(const double* x, int64_t n, double low, double high, double spreads,
                      int64_t n_drawn);

}  // namespace sensorseq::signal
