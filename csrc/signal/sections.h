// A recursive filter of second-order sections, in the transposed direct form II.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace sensorseq::signal {

// Keeps its state between calls, so a signal pushed in pieces gives the same bits as the complete
// signal. Calls on one object must not overlap.
class SectionFilter {
 public:
  // `sections` has the 6 numbers b0 b1 b2 1 a1 a2 of each section; n_channels >= 1.
  SectionFilter(std::vector<double> sections, int64_t n_channels)
      : sections_(std::move(sections)),
        n_channels_(n_channels),
        state_(sections_.size() / 6 * 2 * static_cast<size_t>(n_channels)) {}

  int64_t n_channels() const { return n_channels_; }

  // x, y: (n_samples, n_channels); may be the same array.
  void Push(const double* x, int64_t n_samples, double* y) {
    double* state = state_.data();
    for (size_t at = 0; at < sections_.size(); at += 6, state += 2 * n_channels_) {
      const double* s = &sections_[at];
      const double b0 = s[0], b1 = s[1], b2 = s[2], a1 = s[4], a2 = s[5];
      double *z0 = state, *z1 = state + n_channels_;
      const double* from = at == 0 ? x : y;
      for (int64_t i = 0; i < n_samples * n_channels_; i += n_channels_) {
        for (int64_t c = 0; c < n_channels_; ++c) {
          const double in = from[i + c], out = b0 * in + z0[c];
          z0[c] = b1 * in - a1 * out + z1[c];
          z1[c] = b2 * in - a2 * out;
          y[i + c] = out;
        }
      }
    }
  }

 private:
  std::vector<double> sections_;
  int64_t n_channels_;
  std::vector<double> state_;  // (n, 2, n_channels)
};

}  // namespace sensorseq::signal
