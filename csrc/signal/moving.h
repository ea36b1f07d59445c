// A statistic of a window that moves over the samples of a stream, sample by sample.
//
// Time is divided into blocks as long as the window, starting at the first sample. A window then
// consists of the end of one block and the beginning of the next. The summaries of these two parts,
// each made by adding samples, are joined (van Herk 1992; Gil and Werman 1993 for minima). No
// sample is ever removed from a summary, so rounding errors do not accumulate, and a result does
// not depend on the chunks of the stream.
#pragma once

#include <cstdint>
#include <memory>

namespace sensorseq::signal {

enum class MovingStatistic {
  kMean,
  kStd,  // the divisor of the variance is the number of samples
  kRms,
  kMin,
  kMax,
  kRange,  // max - min
  kMeanAbsolute,
  kLineResidual,  // the last sample minus the least-squares line's value at that sample
};

// The window at time t consists of the samples t + ahead - window + 1 .. t + ahead that exist, so
// it is shorter at both ends of the stream. Calls on one object must not overlap.
class MovingWindow {
 public:
  // window_samples >= 1, 0 <= ahead_samples < window_samples, n_channels >= 1. Memory grows with
  // the samples seen, up to about six doubles for each sample of a window.
  MovingWindow(MovingStatistic statistic, int64_t window_samples, int64_t ahead_samples,
               int64_t n_channels);
  ~MovingWindow();
  MovingWindow(MovingWindow&&) noexcept;

  int64_t n_channels() const;
  // The number of rows that a Push of n_samples would write now.
  int64_t n_ready(int64_t n_samples) const;
  // x is (n_samples, n_channels) and finite; y is (n_ready(n_samples), n_channels) and is written.
  void Push(const double* x, int64_t n_samples, double* y);
  // The number of rows that Flush writes, whose windows are cut short by the end of the stream.
  int64_t n_left() const;
  // y is (n_left(), n_channels) and is written. No samples may be pushed afterwards.
  void Flush(double* y);

 private:
  class Loop;
  template <template <typename> class Statistic>
  class LoopOver;
  template <template <typename> class Statistic>
  static std::unique_ptr<Loop> Make(int64_t window, int64_t ahead, int64_t n_channels);
  std::unique_ptr<Loop> loop_;
};

}  // namespace sensorseq::signal
