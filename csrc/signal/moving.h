// A statistic of a window that moves over the samples of a stream, sample by sample.
//
// Time is cut into blocks as long as the window, from the first sample on. A window is then the end
// of one block and the beginning of the next: two summaries, each made by adding samples, are put
// together (van Herk 1992; Gil and Werman 1993 for minima). Nothing is ever subtracted again, so no
// rounding drifts along, and a result does not depend on how the stream came in pieces.
#pragma once

#include <cstdint>
#include <memory>

namespace sensorseq::signal {

enum class MovingStatistic {
  kMean,
  kStd,  // divided by the number of samples
  kRms,
  kMin,
  kMax,
  kRange,  // max - min
  kMeanAbsolute,
  kLineResidual,  // the window's last sample less the least-squares line through the window there
};

// The window of time t holds the samples t + ahead - window + 1 .. t + ahead, as far as they exist:
// it shrinks at both ends of the stream. Calls on one object must not overlap.
class MovingWindow {
 public:
  // window_samples >= 1, 0 <= ahead_samples < window_samples, n_channels >= 1. Memory grows with
  // the samples seen, up to about six doubles for each sample of a window.
  MovingWindow(MovingStatistic statistic, int64_t window_samples, int64_t ahead_samples,
               int64_t n_channels);
  ~MovingWindow();
  MovingWindow(MovingWindow&&) noexcept;

  int64_t n_channels() const;
  // Rows that a Push of n_samples would write now.
  int64_t n_ready(int64_t n_samples) const;
  // x: (n_samples, n_channels), finite. y: (n_ready(n_samples), n_channels), written.
  void Push(const double* x, int64_t n_samples, double* y);
  // Rows that Flush writes: those whose windows the stream's end cuts short.
  int64_t n_left() const;
  // y: (n_left(), n_channels), written. Nothing may be pushed afterwards.
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
