// The inner loops of a filter that runs along planar rows of doubles, one row for each channel:
// one table of them per instruction set.
#pragma once

#include <cstdint>

#include "status.h"

namespace sensorseq {
namespace signal {

// Rows of taps are whole blocks of the widest vector, and begin at a multiple of it.
constexpr int64_t kFirBlock = 8;
constexpr int64_t kFirAlignment = 64;  // bytes

// sums[m * n_channels + c] = sum over i < n_taps of taps[m][i] * rows[c * row_stride + first[m] +
// i]
//
// Each sum has an order of its own, fixed by n_taps: neither n_outputs nor n_channels has a part in
// it.
struct FirDots {
  int64_t n_outputs, n_channels;
  int64_t n_taps;             // a multiple of kFirBlock
  const double* const* taps;  // (n_outputs) of (n_taps), each aligned to kFirAlignment
  bool is_one_filter;         // all of `taps` are the same
  const int64_t* first;       // (n_outputs)
  const double* rows;         // (n_channels, row_stride)
  int64_t row_stride;         // in doubles
  double* sums;               // (n_outputs, n_channels)  written; overlaps nothing
};

// blended[i] = low[i] + weight * (high[i] - low[i]); returns the sum of the blended.
struct FirBlend {
  int64_t n_taps;      // a multiple of kFirBlock
  const double* low;   // (n_taps)
  const double* high;  // (n_taps)
  double weight;
  double* blended;  // (n_taps)  written, aligned to kFirAlignment; overlaps neither
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
  const char* name;
  bool (*is_supported)();
  void (*dots)(const FirDots&);
  double (*blend)(const FirBlend&);
  void (*deinterleave_f32)(const Deinterleave<float>&);
  void (*deinterleave_f64)(const Deinterleave<double>&);
};

struct FirKernelTable {
  const FirKernels* const* rows;
  int64_t n_rows;
};

// Every instruction set of this build, best first.
FirKernelTable AllFirKernels();

// The best that this processor has, or what SENSORSEQ_CPU_ISA names; null, and why in `status`,
// where that is unknown or not supported.
const FirKernels* ActiveFirKernels(Status* status);

}  // namespace signal
}  // namespace sensorseq
