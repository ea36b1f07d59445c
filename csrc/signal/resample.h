// Filters that convert a stream of samples to a different rate. The outputs do not depend on how
// the stream is divided into chunks. A complete signal can be a single chunk, followed by Flush.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "signal/fir.h"

namespace sensorseq {
namespace signal {

// The values assumed before the first sample and after the last.
enum class Edge : int32_t {
  kMirror,  // x[-k] = x[k]; beyond its length, the signal is mirrored again
  kHold,    // x[-k] = x[0]
  kOdd,     // x[-k] = 2 x[0] - x[k], which continues a straight line
};

// An array of zeros aligned to kFirAlignment; null if it has no elements.
class AlignedDoubles {
 public:
  explicit AlignedDoubles(int64_t n);
  AlignedDoubles(AlignedDoubles&&) = default;  // the block keeps its address
  AlignedDoubles(const AlignedDoubles&) = delete;
  double* data() const { return data_; }

 private:
  std::vector<double> block_;
  double* data_;
};

// A filter whose taps are given at `up` times the input's rate. Every `down`-th output is kept. The
// time of output m is m * down / up input samples. The value of output m is the sum over k of
// taps[k] * u[m * down + delay - k], where u[i * up] = x[i] and all other values of u are 0.
class PolyphaseTaps {
 public:
  // taps (n_taps): finite, n_taps >= 1; up, down in [1, 2^20]; delay >= 0, in samples of u.
  PolyphaseTaps(const double* taps, int64_t n_taps, int64_t up, int64_t down, int64_t delay,
                const FirKernels& kernels);

  // Whether the samples that output 0 needs before the signal's first sample are mirror images of
  // samples that have arrived when output 0 is computed.
  bool looks_ahead_as_far_as_back() const { return n_before() <= newest_of(0); }
  double latency_samples() const { return static_cast<double>(delay_) / static_cast<double>(up_); }
  int64_t n_taps() const { return n_padded_; }  // maximum number of taps per output, in full blocks
  int64_t n_before() const { return n_before_; }        // samples needed before sample 0
  int64_t n_after() const { return delay_ / up_ + 1; }  // samples needed after the last, at most
  int64_t newest_of(int64_t output) const { return (output * down_ + delay_) / up_; }
  int64_t n_outputs_within(int64_t n_samples) const;  // outputs that need no later sample
  int64_t n_outputs_of(int64_t n_samples) const;      // outputs of a signal of n_samples

  static constexpr int64_t kBatch = 512;   // outputs interpolated together
  static constexpr int64_t kMaxDots = 64;  // outputs computed together without interpolation
  static constexpr bool kHasTotals = false;
  // The number of outputs from `first` on that are best computed together, at most kBatch.
  int64_t n_together(int64_t first) const;
  // Computes n <= kBatch outputs from `first` on. Entry 0 of each row is sample `base`, a multiple
  // of kFirBlock. sums[i * n_channels + c] belongs to channel c and to output first + i if Compute
  // returns true, or to output first + place[i] if Compute returns false. `place` is set only if
  // Compute returns false.
  bool Compute(const FirKernels& kernels, int64_t first, int64_t n, int64_t base,
               const double* rows, int64_t row_stride, int64_t n_channels, double* sums,
               int64_t* place, double* totals) const;

 private:
  bool is_interpolation() const { return natural_.data() != nullptr; }
  void Fill(int64_t first, int64_t n, int64_t base, FirOutput* outputs, int64_t* place) const;

  int64_t up_, down_, delay_;
  int64_t n_phase_taps_;  // maximum number of taps of one phase
  int64_t n_shifts_;      // number of possible positions of the newest sample in its block
  int64_t n_padded_, n_before_;
  int64_t period_;       // outputs until phase and shift repeat, or 1 if that is kMaxDots or more
  AlignedDoubles rows_;  // (up, n_shifts, n_padded), each phase's taps from the last to the first
  std::vector<FirOutput> outputs_;  // (up, n_shifts) outputs whose newest sample is sample 0
  AlignedDoubles natural_;  // (up, n_phase_taps), the taps without padding; only for interpolation
};

// A filter whose taps are given at `n_phases` times the input's rate, with linear interpolation
// between taps. The time of output m is m / ratio input samples, which need not be an integer. Each
// output is divided by the sum of its taps, so that a constant passes unchanged.
class TableTaps {
 public:
  // taps (n_taps): finite, n_taps odd and >= 2 * n_phases - 1, with time 0 at the center; ratio >
  // 0.
  TableTaps(const double* taps, int64_t n_taps, int64_t n_phases, double ratio,
            const FirKernels& kernels);

  bool looks_ahead_as_far_as_back() const { return true; }
  double latency_samples() const { return static_cast<double>(reach_); }
  int64_t n_taps() const { return n_row_ + kFirBlock; }
  int64_t n_before() const { return reach_ - 1; }
  int64_t n_after() const { return reach_ + 1; }
  int64_t newest_of(int64_t output) const { return PlaceOf(output).whole + reach_; }
  int64_t n_outputs_within(int64_t n_samples) const;
  int64_t n_outputs_of(int64_t n_samples) const;

  static constexpr int64_t kBatch = 16, kMaxDots = 16;
  static constexpr bool kHasTotals = true;  // Compute also sums each output's taps
  int64_t n_together(int64_t) const { return kBatch; }
  bool Compute(const FirKernels& kernels, int64_t first, int64_t n, int64_t base,
               const double* rows, int64_t row_stride, int64_t n_channels, double* sums,
               int64_t* place, double* totals);

 private:
  struct Place {
    int64_t whole, phase;  // the last sample and phase of the table at or before the output
    double weight;         // weight of the next phase's taps
  };
  Place PlaceOf(int64_t output) const;

  int64_t n_phases_;
  int64_t reach_;  // largest distance, in samples, between an output and its inputs
  int64_t n_row_;  // number of taps of one output, rounded up to full blocks
  bool is_aligned_;
  double ratio_;
  AlignedDoubles rows_;       // (n_phases + 1, n_row), each phase's taps from the last to the first
  std::vector<double> sums_;  // (n_phases + 1) sums of these taps
  AlignedDoubles blended_;    // (kBatch, n_row + kFirBlock)
};

// Filters one signal after another. Two threads must not use one filter at the same time.
template <typename Taps>
class StreamFilter {
 public:
  // n_channels >= 1. Edges other than kHold need taps that look ahead as far as they look back.
  StreamFilter(Taps taps, int64_t n_channels, Edge edge, const FirKernels& kernels);

  const Taps& taps() const { return taps_; }
  const FirKernels& kernels() const { return kernels_; }
  int64_t n_channels() const { return n_channels_; }

  // The number of outputs of a Push of n_samples, and the number of outputs of this Push and the
  // following Flush together.
  int64_t n_outputs_of_push(int64_t n_samples) const;
  int64_t n_outputs_of_end(int64_t n_samples) const;

  // x is (n_samples, n_channels) and finite, and may be null if n_samples is 0. Push writes y,
  // which is (n_outputs_of_push, n_channels) and must not overlap x.
  template <typename Real>
  void Push(const Real* x, int64_t n_samples, Real* y);

  // Writes the remaining outputs (n_outputs_of_end(0)), with the edge's values after the last
  // sample. y is as in Push. The next Push begins another signal.
  template <typename Real>
  void Flush(Real* y);

  // Forgets the signal.
  void Reset();

 private:
  double* row(int64_t channel) const { return rows_.data() + channel * row_stride_; }
  void MakeRoom();
  void FillBefore(int64_t n_samples);
  double Beyond(const double* row, int64_t at, int64_t n_samples) const;
  template <typename Real>
  Real* Emit(int64_t until, Real* y);

  Taps taps_;
  int64_t n_channels_;
  Edge edge_;
  const FirKernels& kernels_;
  int64_t n_front_;     // number of entries of a row before sample 0
  int64_t capacity_;    // number of usable entries of a row
  int64_t row_stride_;  // in doubles
  AlignedDoubles rows_;
  std::vector<double> sums_;  // (kBatch, n_channels)
  int64_t base_ = 0;          // number of the sample in entry 0 of a row
  int64_t n_received_ = 0, n_emitted_ = 0;
  bool has_begun_ = false;
};

using PolyphaseFilter = StreamFilter<PolyphaseTaps>;
using TableFilter = StreamFilter<TableTaps>;

}  // namespace signal
}  // namespace sensorseq
