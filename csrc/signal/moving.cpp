#include "signal/moving.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sensorseq::signal {
namespace {

// What a statistic keeps of a stretch of samples. Append takes the stretch that follows.

// The mean, relative to the first sample: a large offset costs no digits.
struct Centre {
  double n, first, mean;
  explicit Centre(double x) : n(1), first(x), mean(0) {}
  double DistanceTo(const Centre& later) const {
    return (later.first - first) + (later.mean - mean);
  }
  void Append(const Centre& later) {
    const double distance = DistanceTo(later);
    n += later.n;
    mean += distance * (later.n / n);
  }
};

struct Mean : Centre {
  using Centre::Centre;
  double Value() const { return first + mean; }
};

// T. F. Chan, G. H. Golub, R. J. LeVeque 1979: squares about the mean of two stretches together.
struct Std : Centre {
  double squares = 0;
  using Centre::Centre;
  void Append(const Std& later) {
    const double distance = DistanceTo(later);
    squares += later.squares + distance * distance * (n * later.n / (n + later.n));
    Centre::Append(later);
  }
  double Value() const { return std::sqrt(squares / n); }
};

struct LineResidual : Centre {
  double last;
  double products = 0;  // of time and value about their means
  explicit LineResidual(double x) : Centre(x), last(x) {}
  void Append(const LineResidual& later) {
    // the mean times of neighbouring stretches are half their common length apart
    products += later.products + n * later.n * DistanceTo(later) / 2;
    last = later.last;
    Centre::Append(later);
  }
  double Value() const {
    if (n < 3) return 0;  // a line goes through one sample, and through two
    const double slope = 12 * products / (n * (n * n - 1));
    return (last - first) - mean - slope * ((n - 1) / 2);
  }
};

struct Rms {
  double n, total;
  explicit Rms(double x) : n(1), total(x * x) {}
  void Append(const Rms& later) { n += later.n, total += later.total; }
  double Value() const { return std::sqrt(total / n); }
};

struct MeanAbsolute {
  double n, total;
  explicit MeanAbsolute(double x) : n(1), total(std::fabs(x)) {}
  void Append(const MeanAbsolute& later) { n += later.n, total += later.total; }
  double Value() const { return total / n; }
};

struct Min {
  double low;
  explicit Min(double x) : low(x) {}
  void Append(const Min& later) { low = std::min(low, later.low); }
  double Value() const { return low; }
};

struct Max {
  double high;
  explicit Max(double x) : high(x) {}
  void Append(const Max& later) { high = std::max(high, later.high); }
  double Value() const { return high; }
};

struct Range {
  Min min;
  Max max;
  explicit Range(double x) : min(x), max(x) {}
  void Append(const Range& later) { min.Append(later.min), max.Append(later.max); }
  double Value() const { return max.high - min.low; }
};

// One channel's last whole block and the block that is being filled.
template <typename Summary>
class Blocks {
 public:
  void Add(double x, int64_t window) {
    if (static_cast<int64_t>(block_.size()) == window) {
      previous_.clear();
      EndsOfBlock(&previous_);
      block_.clear();
    }
    if (block_.empty()) {
      so_far_.assign(1, Summary(x));
    } else {
      so_far_[0].Append(Summary(x));
    }
    block_.push_back(x);
  }

  // Of the last n samples, 1 <= n, reaching at most to the beginning of the block before.
  double Last(int64_t n) const {
    const int64_t here = static_cast<int64_t>(block_.size());
    if (n == here) return so_far_[0].Value();
    if (n < here) return ends_[n - 1].Value();
    Summary summary = previous_[n - here - 1];
    summary.Append(so_far_[0]);
    return summary.Value();
  }

  // Before Last is asked for less than the whole block.
  void Finish() { EndsOfBlock(&ends_); }

 private:
  // Summaries of the block's last sample, its last two, and so on.
  void EndsOfBlock(std::vector<Summary>* ends) const {
    ends->reserve(block_.size());
    for (auto x = block_.rbegin(); x != block_.rend(); ++x) {
      Summary summary(*x);
      if (!ends->empty()) summary.Append(ends->back());
      ends->push_back(summary);
    }
  }

  std::vector<double> block_;
  std::vector<Summary> so_far_;  // of the block; empty before the first sample
  std::vector<Summary> previous_, ends_;
};

}  // namespace

class MovingWindow::Loop {
 public:
  Loop(int64_t window, int64_t ahead, int64_t n_channels)
      : window_(window), ahead_(ahead), n_channels_(n_channels) {}
  virtual ~Loop() = default;
  virtual void Push(const double* x, int64_t n_samples, double* y) = 0;
  virtual void Flush(double* y) = 0;

  int64_t n_channels() const { return n_channels_; }
  int64_t n_ready(int64_t n_samples) const {
    return std::max<int64_t>(0, n_seen_ + n_samples - ahead_) - n_written_;
  }
  int64_t n_left() const { return n_seen_ - n_written_; }

 protected:
  const int64_t window_, ahead_, n_channels_;
  int64_t n_seen_ = 0, n_written_ = 0;
};

template <typename Summary>
class MovingWindow::LoopOver : public Loop {
 public:
  LoopOver(int64_t window, int64_t ahead, int64_t n_channels)
      : Loop(window, ahead, n_channels), channels_(n_channels) {}

  void Push(const double* x, int64_t n_samples, double* y) override {
    const int64_t n_rows = n_ready(n_samples);
    const int64_t n_skipped = n_samples - n_rows;  // of times whose window is not yet complete
    for (int64_t c = 0; c < n_channels_; ++c) {
      Blocks<Summary>& blocks = channels_[c];
      for (int64_t i = 0; i < n_samples; ++i) {
        blocks.Add(x[i * n_channels_ + c], window_);
        if (i < n_skipped) continue;
        y[(i - n_skipped) * n_channels_ + c] = blocks.Last(std::min(window_, n_seen_ + i + 1));
      }
    }
    n_seen_ += n_samples;
    n_written_ += n_rows;
  }

  void Flush(double* y) override {
    for (int64_t c = 0; c < n_channels_; ++c) {
      channels_[c].Finish();
      for (int64_t t = n_written_; t < n_seen_; ++t) {
        const int64_t begin = std::max<int64_t>(0, t + ahead_ - window_ + 1);
        y[(t - n_written_) * n_channels_ + c] = channels_[c].Last(n_seen_ - begin);
      }
    }
    n_written_ = n_seen_;
  }

 private:
  std::vector<Blocks<Summary>> channels_;
};

template <typename Summary>
std::unique_ptr<MovingWindow::Loop> MovingWindow::Make(int64_t window, int64_t ahead,
                                                       int64_t n_channels) {
  return std::make_unique<LoopOver<Summary>>(window, ahead, n_channels);
}

MovingWindow::MovingWindow(MovingStatistic statistic, int64_t window_samples, int64_t ahead_samples,
                           int64_t n_channels) {
  switch (statistic) {
    case MovingStatistic::kMean:
      loop_ = Make<Mean>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kStd:
      loop_ = Make<Std>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kRms:
      loop_ = Make<Rms>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kMin:
      loop_ = Make<Min>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kMax:
      loop_ = Make<Max>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kRange:
      loop_ = Make<Range>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kMeanAbsolute:
      loop_ = Make<MeanAbsolute>(window_samples, ahead_samples, n_channels);
      break;
    case MovingStatistic::kLineResidual:
      loop_ = Make<LineResidual>(window_samples, ahead_samples, n_channels);
      break;
  }
}

MovingWindow::~MovingWindow() = default;
MovingWindow::MovingWindow(MovingWindow&&) noexcept = default;

int64_t MovingWindow::n_channels() const { return loop_->n_channels(); }
int64_t MovingWindow::n_ready(int64_t n_samples) const { return loop_->n_ready(n_samples); }
void MovingWindow::Push(const double* x, int64_t n_samples, double* y) {
  loop_->Push(x, n_samples, y);
}
int64_t MovingWindow::n_left() const { return loop_->n_left(); }
void MovingWindow::Flush(double* y) { loop_->Flush(y); }

}  // namespace sensorseq::signal
