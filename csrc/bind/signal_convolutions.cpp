// Checks numpy arrays and passes them to signal/random_convolutions.h, whose loops run without the
// GIL.
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>

#include "bind/signal.h"
#include "signal/random_convolutions.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using Integers = Rows<int64_t>;
using Indices = Rows<int32_t>;
using Floats = Rows<float>;

void Require(bool ok, const char* what) {
  if (!ok) throw py::value_error(what);
}

signal::ConvolvedWindows WindowsOf(const Floats& x, const std::optional<Integers>& lengths) {
  Require(x.ndim() == 3, "x must have three dimensions");
  const int64_t N = x.shape(0), T = x.shape(1);
  Require(T >= 1 && T <= signal::kMaxConvolvedSteps, "windows must have 1 to 2**24 steps");
  Require(x.shape(2) >= 1, "x has no channels");
  if (lengths) {
    Require(lengths->ndim() == 1 && lengths->shape(0) == N,
            "lengths must have one entry per window");
    for (int64_t n = 0; n < N; ++n) {
      Require(lengths->data()[n] >= 0 && lengths->data()[n] <= T,
              "each length must be from 0 to T");
    }
  }
  return {N, T, x.shape(2), x.data(), lengths ? lengths->data() : nullptr};
}

void CheckPlan(const signal::ConvolutionPlan& plan, int64_t n_channel_indices, int64_t n_biases) {
  const char* error = signal::PlanError(plan, n_channel_indices, n_biases);
  if (error != nullptr) throw py::value_error(error);
}

void CheckConvolutions(const Indices& dilations, const Indices& features_per_dilation,
                       const Indices& channel_counts, const Indices& channel_indices,
                       const Floats& biases, int64_t n_channels) {
  for (const py::array* array :
       {static_cast<const py::array*>(&dilations),
        static_cast<const py::array*>(&features_per_dilation),
        static_cast<const py::array*>(&channel_counts),
        static_cast<const py::array*>(&channel_indices), static_cast<const py::array*>(&biases)}) {
    Require(array->ndim() == 1, "an array has more than one dimension");
  }
  Require(features_per_dilation.shape(0) == dilations.shape(0),
          "features_per_dilation must have one entry per dilation");
  Require(channel_counts.shape(0) == signal::kFixedKernels * dilations.shape(0),
          "channel_counts must have 84 entries per dilation");
  CheckPlan({dilations.shape(0), n_channels, dilations.data(), features_per_dilation.data(),
             channel_counts.data(), channel_indices.data(), biases.data()},
            channel_indices.shape(0), biases.shape(0));
}

signal::CompetitionPlan CheckedCompetition(const Indices& dilations, const Indices& is_difference,
                                           const Indices& kernels, const Indices& channel_counts,
                                           const Indices& channel_indices, int64_t n_channels) {
  for (const py::array* array :
       {static_cast<const py::array*>(&dilations), static_cast<const py::array*>(&is_difference),
        static_cast<const py::array*>(&kernels), static_cast<const py::array*>(&channel_counts),
        static_cast<const py::array*>(&channel_indices)}) {
    Require(array->ndim() == 1, "an array has more than one dimension");
  }
  const int64_t n_rounds = dilations.shape(0);
  Require(is_difference.shape(0) == n_rounds, "is_difference must have one entry per dilation");
  Require(kernels.shape(0) == signal::kFixedKernels * n_rounds,
          "kernels must have 84 entries per round");
  Require(channel_counts.shape(0) == signal::kGroups * n_rounds,
          "channel_counts must have 12 entries per round");
  const signal::CompetitionPlan plan{n_rounds,
                                     n_channels,
                                     dilations.data(),
                                     is_difference.data(),
                                     kernels.data(),
                                     channel_counts.data(),
                                     channel_indices.data()};
  const char* error = signal::PlanError(plan, channel_indices.shape(0));
  if (error != nullptr) throw py::value_error(error);
  return plan;
}

void CheckCompetition(const Indices& dilations, const Indices& is_difference,
                      const Indices& kernels, const Indices& channel_counts,
                      const Indices& channel_indices, int64_t n_channels) {
  CheckedCompetition(dilations, is_difference, kernels, channel_counts, channel_indices,
                     n_channels);
}

std::tuple<Floats, int64_t> ShareWins(const Floats& x, const std::optional<Integers>& lengths,
                                      const Indices& dilations, const Indices& is_difference,
                                      const Indices& kernels, const Indices& channel_counts,
                                      const Indices& channel_indices, int64_t n_threads) {
  const signal::ConvolvedWindows windows = WindowsOf(x, lengths);
  const signal::CompetitionPlan plan = CheckedCompetition(
      dilations, is_difference, kernels, channel_counts, channel_indices, windows.n_channels);
  const signal::PassKernels& loops = ServingKernels().pass;
  Floats out({windows.n_windows, plan.n_rounds * signal::kGroups * signal::kWins});
  float* to = out.mutable_data();
  int64_t bad;
  {
    py::gil_scoped_release release;
    bad = signal::ShareWins(loops, plan, windows, n_threads, to);
  }
  return {out, bad};
}

std::tuple<Floats, int64_t> ShareAboveBiases(
    const Floats& x, const std::optional<Integers>& lengths, const Indices& dilations,
    const Indices& features_per_dilation, const Indices& channel_counts,
    const Indices& channel_indices, const Floats& biases, int64_t n_threads) {
  const signal::ConvolvedWindows windows = WindowsOf(x, lengths);
  CheckConvolutions(dilations, features_per_dilation, channel_counts, channel_indices, biases,
                    windows.n_channels);
  const signal::ConvolutionPlan plan{
      dilations.shape(0),    windows.n_channels,     dilations.data(), features_per_dilation.data(),
      channel_counts.data(), channel_indices.data(), biases.data()};
  const signal::PassKernels& kernels = ServingKernels().pass;
  Floats out({windows.n_windows, static_cast<int64_t>(biases.shape(0))});
  float* to = out.mutable_data();
  int64_t bad;
  {
    py::gil_scoped_release release;
    bad = signal::ShareAboveBiases(kernels, plan, windows, n_threads, to);
  }
  return {out, bad};
}

Floats ConvolveWindows(const Floats& x, const std::optional<Integers>& lengths,
                       const Integers& rows, int32_t dilation, const Indices& channel_counts,
                       const Indices& channel_indices) {
  const signal::ConvolvedWindows windows = WindowsOf(x, lengths);
  Require(rows.ndim() == 1 && rows.shape(0) == signal::kFixedKernels, "rows needs one per kernel");
  for (int64_t k = 0; k < signal::kFixedKernels; ++k) {
    Require(rows.data()[k] >= 0 && rows.data()[k] < windows.n_windows, "a row does not exist");
  }
  Require(channel_counts.ndim() == 1 && channel_counts.shape(0) == signal::kFixedKernels &&
              channel_indices.ndim() == 1,
          "84 combinations are needed");
  const int32_t n_biases = 0;
  const signal::ConvolutionPlan plan{1,         windows.n_channels,    &dilation,
                                     &n_biases, channel_counts.data(), channel_indices.data(),
                                     nullptr};
  CheckPlan(plan, channel_indices.shape(0), 0);
  const signal::PassKernels& kernels = ServingKernels().pass;
  Floats out({signal::kFixedKernels, windows.n_timesteps});
  float* to = out.mutable_data();
  {
    py::gil_scoped_release release;
    signal::ConvolveWindows(kernels, plan, windows, rows.data(), to);
  }
  return out;
}

}  // namespace

void BindConvolutions(py::module_& m) {
  m.def("check_convolutions", &CheckConvolutions, py::arg("dilations"),
        py::arg("features_per_dilation"), py::arg("channel_counts"), py::arg("channel_indices"),
        py::arg("biases"), py::arg("n_channels"));
  m.def("share_above_biases", &ShareAboveBiases, py::arg("x"), py::arg("lengths"),
        py::arg("dilations"), py::arg("features_per_dilation"), py::arg("channel_counts"),
        py::arg("channel_indices"), py::arg("biases"), py::arg("n_threads") = 1);
  m.def("check_competition", &CheckCompetition, py::arg("dilations"), py::arg("is_difference"),
        py::arg("kernels"), py::arg("channel_counts"), py::arg("channel_indices"),
        py::arg("n_channels"));
  m.def("share_wins", &ShareWins, py::arg("x"), py::arg("lengths"), py::arg("dilations"),
        py::arg("is_difference"), py::arg("kernels"), py::arg("channel_counts"),
        py::arg("channel_indices"), py::arg("n_threads") = 1);
  m.def("convolve_windows", &ConvolveWindows, py::arg("x"), py::arg("lengths"), py::arg("rows"),
        py::arg("dilation"), py::arg("channel_counts"), py::arg("channel_indices"));
}

}  // namespace sensorseq
