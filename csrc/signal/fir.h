// The inner loops of a filter over planar rows of doubles, one row for each channel.
#pragma once

#include <cstdint>

namespace sensorseq {
namespace signal {

// Taps are stored in blocks of the widest vector's size and aligned to this size.
constexpr int64_t kFirBlock = 8;
constexpr int64_t kFirAlignment = 64;  // bytes

// One output: the dot product of n_taps taps, in order of time, and as many samples of a row. The
// taps end at `taps_end`, and the samples end before entry `end`. Only n_last entries of the last
// block are read, because later samples may not have arrived. If another output has more taps, the
// same number of taps and samples may be read for this output; the additional taps are 0.
struct FirOutput {
  const double* taps_end;  // end of n_taps taps, aligned to kFirAlignment
  int64_t end;             // a multiple of kFirBlock if n_last < kFirBlock
  int64_t n_taps;          // a positive multiple of kFirBlock
  int64_t n_last;          // 1 to kFirBlock; the taps after the last sample are 0
};

// sums[m * n_channels + c] = sum over i of taps_end[i] * rows[c * row_stride + end + i], i < 0.
//
// The order of each sum depends only on its FirOutput, not on the other outputs and channels.
struct FirDots {
  int64_t n_outputs, n_channels;
  const FirOutput* outputs;  // (n_outputs); faster if neighbors have the same taps
  const double* rows;        // (n_channels, row_stride), aligned to kFirAlignment
  int64_t row_stride;        // in doubles, a multiple of kFirBlock
  double* sums;              // (n_outputs, n_channels)  written; overlaps nothing
};

// Successive outputs at `up` times the rate of the samples. Output m has phase (phase + m) % up and
// uses n_taps samples of a row, beginning with entry first + (phase + m) / up.
//
// sums[m * n_channels + c] = sum over i of taps[phase of m * n_taps + i] * row c[first entry of m +
// i], in the order of i.
struct FirInterpolation {
  int64_t n_outputs, n_channels, up, n_taps;
  const double* taps;  // (up, n_taps)
  int64_t phase;       // of output 0
  int64_t first;       // first entry of output 0, minus phase / up
  const double* rows;  // (n_channels, row_stride); up to kInterpolationReach more entries are read
  int64_t row_stride;  // in doubles
  double* sums;        // (n_outputs, n_channels)  written; overlaps nothing
};
constexpr int64_t kInterpolationReach = 7;  // number of lanes of the widest vector, minus one
constexpr int64_t kInterpolationTile = 32;  // in samples; only full tiles use all lanes

// A row of taps interpolated between two rows: blended[i] = low[i] + weight * (high[i] - low[i]),
// with zeros on both sides.
struct FirBlended {
  const double* low;   // (n_taps), aligned to kFirAlignment
  const double* high;  // (n_taps), aligned to kFirAlignment
  double weight;
  // The number of zeros after the row, 0 to kFirBlock - 1; kFirBlock - n_beyond zeros precede it.
  int64_t n_beyond;
  double* row;  // (n_taps + kFirBlock)  written, aligned to kFirAlignment; overlaps nothing
};
struct FirBlend {
  int64_t n_outputs;
  int64_t n_taps;             // a multiple of kFirBlock
  const FirBlended* outputs;  // (n_outputs)
};

// planar[c * row_stride + t] = x[t * n_channels + c]
template <typename Real>
struct Deinterleave {
  int64_t n_samples, n_channels;
  const Real* x;       // (n_samples, n_channels)
  double* planar;      // (n_channels, row_stride), n_samples of each row written
  int64_t row_stride;  // in doubles
};

struct FirKernels {
  const char* name;  // name of the instruction set
  // Whether unaligned loads are so slow that it is better to store the taps in kFirBlock shifted
  // copies, which need no such loads. n_last may be below kFirBlock only if wants_alignment is
  // true.
  bool wants_alignment;
  void (*dots)(const FirDots&);
  void (*interpolate)(const FirInterpolation&);
  void (*blend)(const FirBlend&);
  bool (*all_finite_f32)(const float* x, int64_t n);
  bool (*all_finite_f64)(const double* x, int64_t n);
  void (*deinterleave_f32)(const Deinterleave<float>&);
  void (*deinterleave_f64)(const Deinterleave<double>&);
};

}  // namespace signal
}  // namespace sensorseq
