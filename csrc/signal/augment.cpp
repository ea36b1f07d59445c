#include "signal/augment.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "signal/threads.h"

namespace sensorseq::signal {
namespace {

// Changes one window at a time, in buffers sized for the longest window.
class Augmenter {
 public:
  Augmenter(const Augmentation& how, const AugmentWindows& windows)
      : how_(how),
        windows_(windows),
        C_(windows.n_channels),
        x_(windows.n_timesteps * C_),
        other_(x_.size()),
        times_(windows.n_timesteps),
        noise_sd_(C_),
        normals_(std::max<int64_t>({windows.n_timesteps, how.n_spline_knots, 1}) * C_ +
                 how.n_spline_knots),
        pieces_(4 * how.n_spline_knots) {}

  double* x() { return x_.data(); }

  void Change(int64_t row, int64_t n_steps) {
    row_ = row;
    n_steps_ = n_steps;
    FindNoiseSd();
    Shift();
    if (how_.time_warp > 0 && n_steps > 2) WarpTime();
    if (how_.mirror_order != nullptr) Mirror();
    if (how_.rotation_deg > 0) Rotate();
    if (how_.magnitude_warp > 0) WarpMagnitude();
    if (how_.scaling > 0) Scale();
    if (how_.offset > 0) Offset();
    if (how_.jitter > 0) Jitter();
  }

 private:
  Philox Random(signal::Change kind) const {
    return Philox(static_cast<uint64_t>(windows_.seed),
                  static_cast<uint64_t>(windows_.indices[row_]), static_cast<uint64_t>(kind),
                  static_cast<uint64_t>(windows_.copies[row_]));
  }
  void DrawNormals(signal::Change kind, int64_t n) {
    Philox random = Random(kind);
    windows_.fill_normal(random, n, normals_.data());
  }
  void FindNoiseSd() {
    if (windows_.channel_sd != nullptr) {
      std::copy_n(windows_.channel_sd, C_, noise_sd_.data());
      return;
    }
    const double n = static_cast<double>(n_steps_);
    for (int64_t c = 0; c < C_; ++c) {
      double mean = 0, squares = 0;
      for (int64_t t = 0; t < n_steps_; ++t) mean += x_[t * C_ + c];
      mean /= n;
      for (int64_t t = 0; t < n_steps_; ++t) {
        const double deviation = x_[t * C_ + c] - mean;
        squares += deviation * deviation;
      }
      noise_sd_[c] = std::sqrt(squares / n);
    }
  }

  // Returns the sample at step t, or the nearest one if t lies outside the window.
  const double* SampleAt(int64_t t) const {
    return x_.data() + std::clamp<int64_t>(t, 0, n_steps_ - 1) * C_;
  }
  void Shift() {
    const auto most = static_cast<int64_t>(how_.window_shift * static_cast<double>(n_steps_));
    if (most == 0) return;
    Philox random = Random(signal::Change::kWindowShift);
    const int64_t shift = random.NextUpTo(static_cast<uint32_t>(2 * most)) - most;
    for (int64_t t = 0; t < n_steps_; ++t) {
      std::copy_n(SampleAt(t + shift), C_, &other_[t * C_]);
    }
    x_.swap(other_);
  }

  // Computes the coefficients of the spline through K values that are `stride` apart.
  void FitPieces(const double* values, int64_t stride) {
    const int64_t K = how_.n_spline_knots;
    for (int64_t i = 0; i < 4 * (K - 1); ++i) {
      double sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += how_.spline[i * K + k] * values[k * stride];
      pieces_[i] = sum;
    }
  }
  // Calls visit(t, value of the spline) for evenly spaced times from the first knot to the last.
  template <typename Visit>
  void VisitSpline(Visit visit) {
    const int64_t n_pieces = how_.n_spline_knots - 1;
    const double *cube = pieces_.data(), *square = cube + n_pieces, *line = square + n_pieces,
                 *constant = line + n_pieces;
    const double step = n_steps_ > 1 ? 1.0 / static_cast<double>(n_steps_ - 1) : 0.0;
    const double knot_step = 1.0 / static_cast<double>(n_pieces);
    for (int64_t i = 0, t = 0; i < n_pieces; ++i) {
      const double begin = static_cast<double>(i) * knot_step;
      const double end = static_cast<double>(i + 1) * knot_step;
      for (; t < n_steps_ && (i == n_pieces - 1 || static_cast<double>(t) * step < end); ++t) {
        const double at = static_cast<double>(t) * step - begin;
        visit(t, ((cube[i] * at + square[i]) * at + line[i]) * at + constant[i]);
      }
    }
  }
  void WarpTime() {
    const int64_t K = how_.n_spline_knots, last = n_steps_ - 1;
    DrawNormals(signal::Change::kTimeWarp, K);
    for (int64_t k = 0; k < K; ++k) normals_[k] *= how_.time_warp;
    FitPieces(normals_.data(), 1);
    double before = 0;
    VisitSpline([&](int64_t t, double log_speed) {
      const double speed = std::exp(log_speed);
      times_[t] = t == 0 ? 0.0 : times_[t - 1] + (speed + before) / 2;
      before = speed;
    });
    const double stretch = static_cast<double>(last) / times_[last];
    for (int64_t t = 0; t < n_steps_; ++t) {
      // after an infinite speed, the time is NaN; the first step is then used
      const double found = t == last ? static_cast<double>(last) : times_[t] * stretch;
      const double time = found >= 0 ? std::min(found, static_cast<double>(last)) : 0;
      const int64_t left = std::min(static_cast<int64_t>(time), last - 1);
      const double share = time - static_cast<double>(left);
      const double* from = &x_[left * C_];
      for (int64_t c = 0; c < C_; ++c) {
        other_[t * C_ + c] = from[c] * (1 - share) + from[C_ + c] * share;
      }
    }
    x_.swap(other_);
  }

  void Mirror() {
    if (!(Random(signal::Change::kMirror).NextDouble() < 0.5)) return;
    std::vector<double>& image = times_;  // mirror image of one step, in the buffer of times_
    if (static_cast<int64_t>(image.size()) < C_) image.resize(C_);
    for (int64_t t = 0; t < n_steps_; ++t) {
      double* step = &x_[t * C_];
      for (int64_t c = 0; c < C_; ++c) image[c] = step[how_.mirror_order[c]] * how_.mirror_sign[c];
      std::copy_n(image.data(), C_, step);
    }
    if (windows_.channel_sd != nullptr) return;  // each channel keeps its standard deviation
    for (int64_t c = 0; c < C_; ++c) image[c] = noise_sd_[how_.mirror_order[c]];
    std::copy_n(image.data(), C_, noise_sd_.data());
  }
  // Rotates by a random angle about a random axis, both uniformly distributed (Rodrigues' formula).
  void Rotate() {
    constexpr double kPi = 3.14159265358979323846;
    Philox random = Random(signal::Change::kRotation);
    const double height = 2 * random.NextDouble() - 1, turn = 2 * kPi * random.NextDouble();
    const double angle = how_.rotation_deg * (kPi / 180) * random.NextDouble();
    const double radius = std::sqrt(1 - height * height);
    const double n[3] = {radius * std::cos(turn), radius * std::sin(turn), height};
    const double cosine = std::cos(angle), sine = std::sin(angle);
    const double cross[3][3] = {{0, -n[2], n[1]}, {n[2], 0, -n[0]}, {-n[1], n[0], 0}};
    double R[3][3];
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        R[i][j] = (i == j) * cosine + sine * cross[i][j] + (1 - cosine) * n[i] * n[j];
      }
    }
    for (int64_t t = 0; t < n_steps_; ++t) {
      for (const int64_t* of = how_.axes; of != how_.axes + 3 * how_.n_axes; of += 3) {
        double *step = &x_[t * C_], v[3] = {step[of[0]], step[of[1]], step[of[2]]};
        for (int i = 0; i < 3; ++i) {
          step[of[i]] = R[i][0] * v[0] + R[i][1] * v[1] + R[i][2] * v[2];
        }
      }
    }
  }
  void WarpMagnitude() {
    const int64_t n = how_.n_spline_knots * C_;
    DrawNormals(signal::Change::kMagnitudeWarp, n);
    for (int64_t i = 0; i < n; ++i) normals_[i] = 1 + how_.magnitude_warp * normals_[i];
    for (int64_t c = 0; c < C_; ++c) {
      FitPieces(&normals_[c], C_);
      VisitSpline([&](int64_t t, double gain) { x_[t * C_ + c] *= gain; });
    }
  }
  void Scale() {
    DrawNormals(signal::Change::kScaling, C_);
    for (int64_t c = 0; c < C_; ++c) normals_[c] = 1 + how_.scaling * normals_[c];
    ForEach([&](int64_t, int64_t c, double value) { return value * normals_[c]; });
  }
  void Offset() {
    DrawNormals(signal::Change::kOffset, C_);
    for (int64_t c = 0; c < C_; ++c) normals_[c] *= how_.offset * noise_sd_[c];
    ForEach([&](int64_t, int64_t c, double value) { return value + normals_[c]; });
  }
  void Jitter() {
    DrawNormals(signal::Change::kJitter, n_steps_ * C_);
    for (int64_t c = 0; c < C_; ++c) noise_sd_[c] *= how_.jitter;
    ForEach([&](int64_t i, int64_t c, double value) { return value + noise_sd_[c] * normals_[i]; });
  }
  template <typename Make>
  void ForEach(Make make) {
    for (int64_t t = 0, i = 0; t < n_steps_; ++t) {
      for (int64_t c = 0; c < C_; ++c, ++i) x_[i] = make(i, c, x_[i]);
    }
  }

  const Augmentation& how_;
  const AugmentWindows& windows_;
  const int64_t C_;
  int64_t row_ = 0, n_steps_ = 0;
  std::vector<double> x_, other_;  // (T, C)
  std::vector<double> times_, noise_sd_, normals_, pieces_;
};

}  // namespace

template <typename Real>
int64_t Augment(const Augmentation& how, const AugmentWindows& windows, int64_t n_threads,
                Real* x) {
  const int64_t n_workers = std::max<int64_t>(1, std::min(n_threads, windows.n_windows));
  std::vector<Augmenter> augmenters(n_workers, Augmenter(how, windows));
  std::atomic<int64_t> next{0}, first_bad{-1};
  RunInThreads(n_workers, [&](int64_t worker) {
    Augmenter& augmenter = augmenters[worker];
    for (int64_t row = next++; row < windows.n_windows; row = next++) {
      Real* window = x + row * windows.n_timesteps * windows.n_channels;
      const int64_t n_steps = windows.lengths[row], n_values = n_steps * windows.n_channels;
      const Real* bad =
          std::find_if(window, window + n_values, [](Real v) { return !std::isfinite(v); });
      if (bad != window + n_values) {
        int64_t known = first_bad;
        while ((known < 0 || bad - x < known) && !first_bad.compare_exchange_weak(known, bad - x)) {
        }
      } else if (n_values > 0) {
        std::copy_n(window, n_values, augmenter.x());
        augmenter.Change(row, n_steps);
        std::transform(augmenter.x(), augmenter.x() + n_values, window,
                       [](double v) { return static_cast<Real>(v); });
      }
    }
  });
  return first_bad;
}

template int64_t Augment(const Augmentation&, const AugmentWindows&, int64_t, float*);
template int64_t Augment(const Augmentation&, const AugmentWindows&, int64_t, double*);

}  // namespace sensorseq::signal
