#include "signal/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

namespace sensorseq {
namespace signal {
namespace {

constexpr int64_t kMinRoom = 1024;  // minimum capacity for the samples of a chunk
// The maximum number of doubles for the taps in all shifts: half a level-2 cache.
constexpr int64_t kMaxShifted = 16384;

int64_t CeilDiv(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }
int64_t InBlocks(int64_t n) { return (n + kFirBlock - 1) / kFirBlock * kFirBlock; }

constexpr int64_t kMaxInterpolation = 8;

// Rows that are a power of two apart would compete for the same cache sets.
int64_t RowStride(int64_t capacity) { return InBlocks(capacity) / 64 * 64 + 64 + kFirBlock; }
static_assert(kFirBlock > kInterpolationReach, "what is read beyond a row's samples");

}  // namespace

AlignedDoubles::AlignedDoubles(int64_t n)
    : block_(static_cast<size_t>(
          n == 0 ? 0 : n + kFirAlignment / static_cast<int64_t>(sizeof(double)))),
      data_(nullptr) {
  if (n == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(block_.data());
  const auto beyond = static_cast<int64_t>(address % kFirAlignment);
  const int64_t bytes = beyond == 0 ? 0 : kFirAlignment - beyond;
  data_ = block_.data() + bytes / static_cast<int64_t>(sizeof(double));
}

PolyphaseTaps::PolyphaseTaps(const double* taps, int64_t n_taps, int64_t up, int64_t down,
                             int64_t delay, const FirKernels& kernels)
    : up_(up),
      down_(down),
      delay_(delay),
      n_phase_taps_((n_taps + up - 1) / up),
      n_shifts_(kernels.wants_alignment &&
                        up * kFirBlock * (n_phase_taps_ + kFirBlock) <= kMaxShifted
                    ? kFirBlock
                    : 1),
      n_padded_(InBlocks(n_phase_taps_ + n_shifts_ - 1)),
      n_before_(n_taps - 1 > delay ? (n_taps - 1 - delay) / up : 0),
      period_(1),
      rows_(up * n_shifts_ * n_padded_),
      natural_(down == 1 && up <= kMaxInterpolation ? up * n_phase_taps_ : 0) {
  const int64_t steps = up / std::gcd(up, down), samples = down / std::gcd(up, down);
  const int64_t period = steps * (n_shifts_ / std::gcd(samples, n_shifts_));
  if (period < kMaxDots) period_ = period;
  // Blocks are padded on the side of the older samples, which have arrived for every output.
  for (int64_t k = 0; k < n_taps; ++k) {
    for (int64_t beyond = 0; beyond < n_shifts_; ++beyond) {
      double* row = rows_.data() + (k % up * n_shifts_ + beyond) * n_padded_;
      row[n_padded_ - 1 - beyond - k / up] = taps[k];
    }
    if (is_interpolation()) {
      natural_.data()[(k % up + 1) * n_phase_taps_ - 1 - k / up] = taps[k];
    }
  }
  for (int64_t i = 0; i < up * n_shifts_; ++i) {
    const int64_t beyond = i % n_shifts_;
    outputs_.push_back({rows_.data() + (i + 1) * n_padded_, 1 + beyond,
                        InBlocks(n_phase_taps_ + beyond), kFirBlock - beyond});
  }
}

int64_t PolyphaseTaps::n_outputs_within(int64_t n_samples) const {
  return CeilDiv(n_samples * up_ - delay_, down_);
}

int64_t PolyphaseTaps::n_outputs_of(int64_t n_samples) const {
  return CeilDiv(n_samples * up_, down_);
}

// Describes n outputs from `first` on. Outputs with the same taps become neighbors, so entry i
// belongs to output number `first` + place[i].
void PolyphaseTaps::Fill(int64_t first, int64_t n, int64_t base, FirOutput* outputs,
                         int64_t* place) const {
  int64_t sample = newest_of(first) - base, phase = (first * down_ + delay_) % up_;
  const int64_t whole = down_ / up_, part = down_ % up_;
  const int64_t n_rows = std::min(period_, n), n_samples = period_ * down_ / up_;
  int64_t i = 0;
  for (int64_t m = 0; m < (period_ == 1 ? n : n_rows); ++m) {
    const int64_t beyond = n_shifts_ == 1 ? 0 : kFirBlock - 1 - sample % kFirBlock;
    FirOutput output = outputs_[static_cast<size_t>(phase * n_shifts_ + beyond)];
    output.end += sample;
    outputs[i] = output;
    place[i++] = m;
    for (int64_t later = m + period_; period_ > 1 && later < n; later += period_) {
      output.end += n_samples;
      outputs[i] = output;
      place[i++] = later;
    }
    sample += whole;
    phase += part;
    if (phase >= up_) {
      phase -= up_;
      ++sample;
    }
  }
}

int64_t PolyphaseTaps::n_together(int64_t first) const {
  if (!is_interpolation()) return kMaxDots;
  // The outputs up to the end of the last full tile of samples.
  const int64_t n_samples = kBatch / up_ / kInterpolationTile * kInterpolationTile;
  return n_samples * up_ - (first + delay_) % up_;
}

bool PolyphaseTaps::Compute(const FirKernels& kernels, int64_t first, int64_t n, int64_t base,
                            const double* rows, int64_t row_stride, int64_t n_channels,
                            double* sums, int64_t* place, double*) const {
  if (is_interpolation()) {
    const int64_t oldest = newest_of(first) - n_phase_taps_ + 1 - base;
    kernels.interpolate({n, n_channels, up_, n_phase_taps_, natural_.data(), (first + delay_) % up_,
                         oldest, rows, row_stride, sums});
    return true;
  }
  FirOutput outputs[kMaxDots];
  Fill(first, n, base, outputs, place);
  kernels.dots({n, n_channels, outputs, rows, row_stride, sums});
  return period_ == 1;
}

TableTaps::TableTaps(const double* taps, int64_t n_taps, int64_t n_phases, double ratio,
                     const FirKernels& kernels)
    : n_phases_(n_phases),
      reach_(CeilDiv(n_taps / 2 + 1, n_phases)),
      n_row_(InBlocks(2 * reach_)),
      is_aligned_(kernels.wants_alignment),
      ratio_(ratio),
      rows_((n_phases + 1) * n_row_),
      sums_(static_cast<size_t>(n_phases + 1)),
      blended_(kBatch * (n_row_ + kFirBlock)) {
  // The last entry of a row is the tap of sample `whole` + `reach`, where `whole` is the last
  // sample at or before the output.
  for (int64_t phase = 0; phase <= n_phases; ++phase) {
    for (int64_t j = 0; j < n_row_; ++j) {
      const int64_t tap = n_taps / 2 + phase - (reach_ - (n_row_ - 1 - j)) * n_phases;
      if (tap < 0 || tap >= n_taps) continue;
      rows_.data()[phase * n_row_ + j] = taps[tap];
      sums_[static_cast<size_t>(phase)] += taps[tap];
    }
  }
}

TableTaps::Place TableTaps::PlaceOf(int64_t output) const {
  const double position = static_cast<double>(output) / ratio_;
  const auto whole = static_cast<int64_t>(position);
  const double at = (position - static_cast<double>(whole)) * static_cast<double>(n_phases_);
  const int64_t phase = std::min(static_cast<int64_t>(at), n_phases_ - 1);
  return {whole, phase, at - static_cast<double>(phase)};
}

int64_t TableTaps::n_outputs_within(int64_t n_samples) const {
  const double guess = (static_cast<double>(n_samples) - latency_samples()) * ratio_;
  int64_t n = std::max(int64_t{0}, static_cast<int64_t>(guess));
  while (n > 0 && newest_of(n - 1) >= n_samples) --n;
  while (newest_of(n) < n_samples) ++n;
  return n;
}

int64_t TableTaps::n_outputs_of(int64_t n_samples) const {
  // An output at the time of the first sample after the signal does not count, regardless of
  // rounding.
  const auto n = static_cast<int64_t>(std::ceil(static_cast<double>(n_samples) * ratio_ - 1e-9));
  return n_samples > 0 ? std::max(n, n_outputs_within(n_samples)) : 0;
}

bool TableTaps::Compute(const FirKernels& kernels, int64_t first, int64_t n, int64_t base,
                        const double* rows, int64_t row_stride, int64_t n_channels, double* sums,
                        int64_t*, double* totals) {
  FirBlended blended[kBatch];
  FirOutput outputs[kBatch];
  for (int64_t i = 0; i < n; ++i) {
    const Place at = PlaceOf(first + i);
    const int64_t newest = at.whole + reach_ - base;
    const int64_t beyond = is_aligned_ ? kFirBlock - 1 - newest % kFirBlock : 0;
    const double* low = rows_.data() + at.phase * n_row_;
    double* row = blended_.data() + i * (n_row_ + kFirBlock);
    blended[i] = {low, low + n_row_, at.weight, beyond, row};
    const double* sum = sums_.data() + at.phase;
    totals[i] = sum[0] + at.weight * (sum[1] - sum[0]);
    outputs[i] = {row + n_row_ + kFirBlock, newest + 1 + beyond, InBlocks(2 * reach_ + beyond),
                  kFirBlock - beyond};
  }
  kernels.blend({n, n_row_, blended});
  kernels.dots({n, n_channels, outputs, rows, row_stride, sums});
  return true;
}

template <typename Taps>
StreamFilter<Taps>::StreamFilter(Taps taps, int64_t n_channels, Edge edge,
                                 const FirKernels& kernels)
    : taps_(std::move(taps)),
      n_channels_(n_channels),
      edge_(edge),
      kernels_(kernels),
      n_front_(InBlocks(std::max(int64_t{0}, taps_.n_taps() - taps_.newest_of(0)))),
      capacity_(2 * (taps_.n_taps() + taps_.n_after()) + kMinRoom),
      row_stride_(RowStride(capacity_)),
      rows_(n_channels * row_stride_),
      sums_(static_cast<size_t>(Taps::kBatch * n_channels)),
      base_(-n_front_) {}

template <typename Taps>
void StreamFilter<Taps>::Reset() {
  for (int64_t c = 0; c < n_channels_; ++c) {
    std::memset(row(c), 0, static_cast<size_t>(n_front_) * sizeof(double));
  }
  base_ = -n_front_;
  n_received_ = n_emitted_ = 0;
  has_begun_ = false;
}

template <typename Taps>
int64_t StreamFilter<Taps>::n_outputs_of_push(int64_t n_samples) const {
  return taps_.n_outputs_within(n_received_ + n_samples) - n_emitted_;
}

template <typename Taps>
int64_t StreamFilter<Taps>::n_outputs_of_end(int64_t n_samples) const {
  return taps_.n_outputs_of(n_received_ + n_samples) - n_emitted_;
}

// Keeps only the samples that later outputs need, and moves them to the beginning of the rows.
template <typename Taps>
void StreamFilter<Taps>::MakeRoom() {
  const int64_t oldest = taps_.newest_of(n_emitted_) - taps_.n_taps() + 1;
  const int64_t mirrored = n_received_ - 1 - taps_.n_after();
  // The samples move by a multiple of kFirBlock, so that each sample keeps its position in its
  // block.
  const int64_t n_past = std::max(int64_t{0}, std::min(oldest, mirrored) - base_);
  const int64_t keep_from = base_ + n_past / kFirBlock * kFirBlock;
  const auto n = static_cast<size_t>(n_received_ - keep_from);
  for (int64_t c = 0; c < n_channels_; ++c) {
    std::memmove(row(c), row(c) + (keep_from - base_), n * sizeof(double));
  }
  base_ = keep_from;
}

// Returns sample `at`, which is below 0 or at least n_samples, of a signal of n_samples. A single
// reflection at the start reads no sample at the end, because the last sample may not have arrived.
template <typename Taps>
double StreamFilter<Taps>::Beyond(const double* row, int64_t at, int64_t n_samples) const {
  const auto x = [&](int64_t sample) { return row[sample - base_]; };
  const int64_t last = n_samples - 1;
  if (edge_ == Edge::kHold || last == 0) return x(at < 0 ? 0 : last);
  if (edge_ == Edge::kOdd) {
    if (at < 0 && -at <= last) return 2 * x(0) - x(-at);
    if (at > last && at - last <= last) return 2 * x(last) - x(last - (at - last));
  }
  const int64_t period = 2 * last;
  const int64_t turn = at >= 0 ? at / period : -((period - 1 - at) / period);
  const int64_t inside = at - turn * period;
  if (edge_ == Edge::kMirror) return x(std::min(inside, period - inside));
  const double rise = 2 * static_cast<double>(turn) * (x(last) - x(0));
  return (inside <= last ? x(inside) : 2 * x(last) - x(period - inside)) + rise;
}

template <typename Taps>
void StreamFilter<Taps>::FillBefore(int64_t n_samples) {
  for (int64_t c = 0; c < n_channels_; ++c) {
    for (int64_t k = 1; k <= taps_.n_before(); ++k)
      row(c)[-k - base_] = Beyond(row(c), -k, n_samples);
  }
  has_begun_ = true;
}

template <typename Taps>
template <typename Real>
Real* StreamFilter<Taps>::Emit(int64_t until, Real* y) {
  int64_t place[Taps::kMaxDots] = {};
  double totals[Taps::kBatch];
  while (n_emitted_ < until) {
    const int64_t n = std::min(taps_.n_together(n_emitted_), until - n_emitted_);
    const bool is_in_order = taps_.Compute(kernels_, n_emitted_, n, base_, rows_.data(),
                                           row_stride_, n_channels_, sums_.data(), place, totals);
    if (is_in_order && !Taps::kHasTotals) {
      for (int64_t k = 0; k < n * n_channels_; ++k) y[k] = static_cast<Real>(sums_.data()[k]);
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const double* sum = sums_.data() + i * n_channels_;
        Real* output = y + (is_in_order ? i : place[i]) * n_channels_;
        for (int64_t c = 0; c < n_channels_; ++c) {
          output[c] = static_cast<Real>(Taps::kHasTotals ? sum[c] / totals[i] : sum[c]);
        }
      }
    }
    y += n * n_channels_;
    n_emitted_ += n;
  }
  return y;
}

template <typename Real>
void ToRows(const FirKernels& kernels, const Real* x, int64_t n_samples, int64_t n_channels,
            double* planar, int64_t row_stride) {
  const Deinterleave<Real> args = {n_samples, n_channels, x, planar, row_stride};
  if constexpr (sizeof(Real) == sizeof(float)) {
    kernels.deinterleave_f32(args);
  } else {
    kernels.deinterleave_f64(args);
  }
}

template <typename Taps>
template <typename Real>
void StreamFilter<Taps>::Push(const Real* x, int64_t n_samples, Real* y) {
  while (n_samples > 0) {
    int64_t end = n_received_ - base_;
    if (end == capacity_) {
      MakeRoom();
      end = n_received_ - base_;
    }
    const int64_t n = std::min(n_samples, capacity_ - end);
    ToRows(kernels_, x, n, n_channels_, rows_.data() + end, row_stride_);
    x += n * n_channels_;
    n_samples -= n;
    n_received_ += n;
    const int64_t n_needed = edge_ == Edge::kHold ? 1 : taps_.n_before() + 1;
    if (!has_begun_ && n_received_ >= n_needed) FillBefore(n_received_);
    y = Emit(taps_.n_outputs_within(n_received_), y);
  }
}

template <typename Taps>
template <typename Real>
void StreamFilter<Taps>::Flush(Real* y) {
  const int64_t n_outputs = taps_.n_outputs_of(n_received_);
  if (n_outputs > n_emitted_) {
    if (!has_begun_) FillBefore(n_received_);
    MakeRoom();
    const int64_t n_samples = n_received_, until = taps_.newest_of(n_outputs - 1);
    for (int64_t c = 0; c < n_channels_; ++c) {
      for (int64_t at = n_samples; at <= until; ++at) {
        row(c)[at - base_] = Beyond(row(c), at, n_samples);
      }
    }
    Emit(n_outputs, y);
  }
  Reset();
}

template class StreamFilter<PolyphaseTaps>;
template void PolyphaseFilter::Push(const float*, int64_t, float*);
template void PolyphaseFilter::Push(const double*, int64_t, double*);
template void PolyphaseFilter::Flush(float*);
template void PolyphaseFilter::Flush(double*);
template class StreamFilter<TableTaps>;
template void TableFilter::Push(const float*, int64_t, float*);
template void TableFilter::Push(const double*, int64_t, double*);
template void TableFilter::Flush(float*);
template void TableFilter::Flush(double*);

}  // namespace signal
}  // namespace sensorseq
