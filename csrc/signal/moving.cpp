#include "signal/moving.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace sensorseq::signal {
namespace {

// Channels are processed in pairs. If the number of channels is odd, the last channel is processed
// alone. Below, V is Pair or double.
using Pair = double __attribute__((vector_size(16)));

template <typename V>
V Load(const double* p) {
  V v;
  std::memcpy(&v, p, sizeof(V));
  return v;
}
template <typename V>
void Store(double* p, V v) {
  std::memcpy(p, &v, sizeof(V));
}

double Sqrt(double v) { return std::sqrt(v); }
Pair Sqrt(Pair v) { return Pair{std::sqrt(v[0]), std::sqrt(v[1])}; }
template <typename V>
V Lower(V a, V b) {
  return b < a ? b : a;
}
template <typename V>
V Higher(V a, V b) {
  return a < b ? b : a;
}

struct Count {
  double n, inverse;  // the inverse is 0 if n is 0
};
// Looks up inverses, because divisions would take most of the time.
struct Counts {
  const double* inverses;  // inverses of 0, 1, ... samples
  Count operator[](int64_t n) const { return {static_cast<double>(n), inverses[n]}; }
};

// The summary of a span of samples. The span begins or ends at its anchor, which is a sample.
//   Add adds one more sample, which follows the span (side is 1) or precedes it (side is -1).
//   Join appends the next span, whose anchor is `gap` above the anchor of this span. The counts
//   are the numbers of samples of this span, of the next span, and of both spans together.
//   Value returns the statistic, given the last sample.

// Adds samples relative to the anchor, so that a large offset loses no digits.
template <typename V>
struct Center {
  V total = {};
  // Returns n times the distance of the new sample from the mean of the n samples added before it.
  V Add(V x, V anchor, Count before) {
    const V above = x - anchor;
    const V distance = before.n * above - total;
    total += above;
    return distance;
  }
  V DistanceTo(const Center& later, V gap, Count own, Count its) const {
    return gap + (later.total * its.inverse - total * own.inverse);
  }
  void Join(const Center& later, V gap, Count its) { total += later.total + gap * its.n; }
};

template <typename V>
struct Mean : Center<V> {
  void Add(V x, V anchor, Count before, Count, double) { Center<V>::Add(x, anchor, before); }
  void Join(const Mean& later, V gap, Count, Count its, Count) { Center<V>::Join(later, gap, its); }
  V Value(V anchor, V, Count n) const { return anchor + this->total * n.inverse; }
};

// Add follows Youngs and Cramer (1971) and updates the sum of squares about the mean. Join follows
// Chan, Golub and LeVeque (1979).
template <typename V>
struct Std : Center<V> {
  V squares = {};
  void Add(V x, V anchor, Count before, Count after, double) {
    const V distance = Center<V>::Add(x, anchor, before);
    squares += distance * distance * (before.inverse * after.inverse);
  }
  void Join(const Std& later, V gap, Count own, Count its, Count both) {
    const V distance = this->DistanceTo(later, gap, own, its);
    squares += later.squares + distance * distance * (own.n * its.n * both.inverse);
  }
  V Value(V, V, Count n) const { return Sqrt(squares * n.inverse); }
};

template <typename V>
struct LineResidual : Center<V> {
  V products = {};  // sum of products of time and value about their means
  // The mean times of two adjacent spans are half their combined length apart.
  void Add(V x, V anchor, Count before, Count, double side) {
    products += Center<V>::Add(x, anchor, before) * (side / 2);
  }
  void Join(const LineResidual& later, V gap, Count own, Count its, Count) {
    const V distance = this->DistanceTo(later, gap, own, its);
    products += later.products + distance * (own.n * its.n / 2);
    Center<V>::Join(later, gap, its);
  }
  V Value(V anchor, V last, Count n) const {
    if (n.n < 3) return V{};  // a line fits one or two samples exactly
    // The slope is 12 products / (n (n^2 - 1)), and the last time is (n - 1) / 2 after the mean
    // time.
    return (last - anchor) - this->total * n.inverse - products * (6 * n.inverse / (n.n + 1));
  }
};

template <typename V>
struct Rms {
  V total = {};
  void Add(V x, V, Count, Count, double) { total += x * x; }
  void Join(const Rms& later, V, Count, Count, Count) { total += later.total; }
  V Value(V, V, Count n) const { return Sqrt(total / n.n); }
};

template <typename V>
struct MeanAbsolute {
  V total = {};
  void Add(V x, V, Count, Count, double) { total += Higher(x, -x); }
  void Join(const MeanAbsolute& later, V, Count, Count, Count) { total += later.total; }
  V Value(V, V, Count n) const { return total / n.n; }
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename V>
struct Min {
  V low = V{} + kInfinity;
  void Add(V x, V, Count, Count, double) { low = Lower(low, x); }
  void Join(const Min& later, V, Count, Count, Count) { low = Lower(low, later.low); }
  V Value(V, V, Count) const { return low; }
};

template <typename V>
struct Max {
  V high = V{} - kInfinity;
  void Add(V x, V, Count, Count, double) { high = Higher(high, x); }
  void Join(const Max& later, V, Count, Count, Count) { high = Higher(high, later.high); }
  V Value(V, V, Count) const { return high; }
};

template <typename V>
struct Range {
  V low = V{} + kInfinity, high = V{} - kInfinity;
  void Add(V x, V, Count, Count, double) { low = Lower(low, x), high = Higher(high, x); }
  void Join(const Range& later, V, Count, Count, Count) {
    low = Lower(low, later.low), high = Higher(high, later.high);
  }
  V Value(V, V, Count) const { return high - low; }
};

// The last complete block and the current block, for the one or two channels in a V.
template <template <typename> class Statistic, typename V>
class Blocks {
 public:
  using Summary = Statistic<V>;

  // Adds samples of one block. Sample i is at x + i * stride, and its output row is at y + (i -
  // n_skipped) * stride.
  void Add(const double* x, int64_t n_samples, int64_t n_skipped, int64_t stride, int64_t window,
           Counts counts, double* y) {
    if (static_cast<int64_t>(block_.size()) == window) {
      EndsOfBlock(counts, &previous_);
      block_.clear();
    }
    int64_t n = static_cast<int64_t>(block_.size());
    block_.resize(n + n_samples);
    Summary so_far = n > 0 ? so_far_ : Summary();  // a local copy can stay in registers
    if (n == 0) block_[0] = Load<V>(x);
    const V anchor = block_[0];
    for (int64_t i = 0; i < n_samples; ++i) {
      const V sample = Load<V>(x + i * stride);
      block_[n] = sample;
      so_far.Add(sample, anchor, counts[n], counts[n + 1], 1);
      ++n;
      if (i < n_skipped) continue;
      const bool is_alone = previous_.empty() || n == window;
      Store(y + (i - n_skipped) * stride, is_alone ? so_far.Value(anchor, sample, counts[n])
                                                   : Joined(so_far, n, sample, window, counts));
    }
    so_far_ = so_far;
  }

  // Called before Last.
  void Finish(Counts counts) { EndsOfBlock(counts, &ends_); }

  // The statistic of the last n >= 1 samples, which reach back at most to the start of the previous
  // block.
  V Last(int64_t n, Counts counts) const {
    const int64_t here = static_cast<int64_t>(block_.size());
    const V last = block_.back();
    if (n <= here) return ends_[n - 1].Value(last, last, counts[n]);
    return Joined(so_far_, here, last, n, counts);
  }

 private:
  // The statistic of `n` samples, the last `here` of which are the first samples of the block.
  V Joined(const Summary& so_far, int64_t here, V last, int64_t n, Counts counts) const {
    const int64_t before = n - here;
    Summary summary = previous_[before - 1];
    summary.Join(so_far, block_[0] - previous_anchor_, counts[before], counts[here], counts[n]);
    return summary.Value(previous_anchor_, last, counts[n]);
  }

  // Computes the summaries of the block's last sample, of its last two samples, and so on.
  void EndsOfBlock(Counts counts, std::vector<Summary>* ends) {
    const int64_t size = static_cast<int64_t>(block_.size());
    ends->resize(size);
    if (size == 0) return;
    const V anchor = block_[size - 1];
    Summary summary;
    for (int64_t n = 0; n < size; ++n) {
      summary.Add(block_[size - 1 - n], anchor, counts[n], counts[n + 1], -1);
      (*ends)[n] = summary;
    }
    if (ends == &previous_) previous_anchor_ = anchor;
  }

  std::vector<V> block_;
  Summary so_far_;  // of the block
  // In previous_, entry n - 1 is the summary of the last n samples of the previous block. After
  // Finish, ends_ contains the same summaries of the last block.
  std::vector<Summary> previous_, ends_;
  V previous_anchor_ = {};
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
    return std::max<int64_t>(0, n_seen_ + n_samples - ahead_ - n_written_);
  }
  int64_t n_left() const { return n_seen_ - n_written_; }

 protected:
  const int64_t window_, ahead_, n_channels_;
  int64_t n_seen_ = 0, n_written_ = 0;
};

template <template <typename> class Statistic>
class MovingWindow::LoopOver : public Loop {
 public:
  LoopOver(int64_t window, int64_t ahead, int64_t n_channels)
      : Loop(window, ahead, n_channels), pairs_(n_channels / 2), singles_(n_channels % 2) {}

  void Push(const double* x, int64_t n_samples, double* y) override {
    const int64_t n_rows = n_ready(n_samples);
    const int64_t n_skipped = n_samples - n_rows;  // the first samples, which complete no window
    while (static_cast<int64_t>(inverses_.size()) <= std::min(window_, n_seen_ + n_samples)) {
      inverses_.push_back(1.0 / static_cast<double>(inverses_.size()));
    }
    const Counts counts{inverses_.data()};
    for (int64_t i = 0; i < n_samples;) {
      const int64_t n = std::min(window_ - (n_seen_ + i) % window_, n_samples - i);
      const int64_t n_skipped_here = std::clamp<int64_t>(n_skipped - i, 0, n);
      const double* from = x + i * n_channels_;
      double* to = y + std::max<int64_t>(0, i - n_skipped) * n_channels_;
      ForChannels([&](auto& blocks, int64_t c) {
        blocks.Add(from + c, n, n_skipped_here, n_channels_, window_, counts, to + c);
      });
      i += n;
    }
    n_seen_ += n_samples;
    n_written_ += n_rows;
  }

  void Flush(double* y) override {
    if (n_left() == 0) return;
    const Counts counts{inverses_.data()};
    ForChannels([&](auto& blocks, int64_t c) {
      blocks.Finish(counts);
      for (int64_t t = n_written_; t < n_seen_; ++t) {
        const int64_t begin = std::max<int64_t>(0, t + ahead_ - window_ + 1);
        Store(y + (t - n_written_) * n_channels_ + c, blocks.Last(n_seen_ - begin, counts));
      }
    });
    n_written_ = n_seen_;
  }

 private:
  // Calls f(blocks, c) for all blocks, where c is their first channel.
  template <typename F>
  void ForChannels(F f) {
    int64_t c = 0;
    for (auto& pair : pairs_) f(pair, c), c += 2;
    for (auto& single : singles_) f(single, c), c += 1;
  }

  std::vector<double> inverses_{0.0};  // for Counts
  std::vector<Blocks<Statistic, Pair>> pairs_;
  std::vector<Blocks<Statistic, double>> singles_;
};

template <template <typename> class Statistic>
std::unique_ptr<MovingWindow::Loop> MovingWindow::Make(int64_t window, int64_t ahead,
                                                       int64_t n_channels) {
  return std::make_unique<LoopOver<Statistic>>(window, ahead, n_channels);
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
