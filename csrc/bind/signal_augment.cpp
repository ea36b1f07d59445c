// Passes numpy arrays to signal/augment.h; numpy's own C library draws the normally distributed
// numbers.
#include <numpy/random/distributions.h>
#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <string>

#include "bind/signal.h"
#include "signal/augment.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using Integers = Rows<int64_t>;
using Doubles = Rows<double>;

signal::Philox& PhiloxOf(void* state) { return *static_cast<signal::Philox*>(state); }

void FillNormal(signal::Philox& random, int64_t n, double* out) {
  bitgen_t numpy_random = {
      &random,
      [](void* state) { return PhiloxOf(state).Next64(); },
      [](void* state) { return PhiloxOf(state).Next32(); },
      [](void* state) { return PhiloxOf(state).NextDouble(); },
      [](void* state) { return PhiloxOf(state).Next64(); },
  };
  random_standard_normal_fill(&numpy_random, n, out);
}

void Require(bool ok, const char* what) {
  if (!ok) throw py::value_error(what);
}

template <typename Real>
Real* DenseWindows(py::array& x) {
  Require(x.ndim() == 3 && (x.flags() & py::array::c_style) && x.writeable(),
          "x needs the shape (N, T, C), dense and writeable");
  return static_cast<Real*>(x.mutable_data());
}

const int64_t* OnePerWindow(const Integers& values, const py::array& x) {
  Require(values.ndim() == 1 && values.shape(0) == x.shape(0), "one number is needed per window");
  return values.data();
}

int64_t Augment(py::array x, const Integers& lengths, const Integers& indices,
                const Integers& copies, int64_t seed, const std::map<std::string, double>& strength,
                const Doubles& spline, const std::optional<Integers>& mirror_order,
                const std::optional<Doubles>& mirror_sign, const Integers& axes,
                const std::optional<Doubles>& channel_sd, int64_t n_threads) {
  Require(x.ndim() == 3, "x needs the shape (N, T, C)");
  const int64_t C = x.shape(2);
  const auto per_channel = [&](const auto& values) {
    Require(!values || (values->ndim() == 1 && values->shape(0) == C), "one number per channel");
    return values ? values->data() : nullptr;
  };
  Require(spline.ndim() == 3 && spline.shape(0) == 4 && spline.shape(2) >= 2 &&
              spline.shape(1) == spline.shape(2) - 1,
          "spline needs the shape (4, K - 1, K)");
  signal::Augmentation how = {};
  how.jitter = strength.at("jitter");
  how.scaling = strength.at("scaling");
  how.time_warp = strength.at("time_warp");
  how.magnitude_warp = strength.at("magnitude_warp");
  how.window_shift = strength.at("window_shift");
  how.offset = strength.at("offset");
  Require(how.window_shift >= 0 && how.window_shift < 1, "window_shift lies in [0, 1)");
  how.n_spline_knots = spline.shape(2);
  how.spline = spline.data();
  how.mirror_order = per_channel(mirror_order);
  how.mirror_sign = per_channel(mirror_sign);
  Require((how.mirror_order == nullptr) == (how.mirror_sign == nullptr),
          "order and sign are given together");
  for (int64_t c = 0; how.mirror_order != nullptr && c < C; ++c) {
    Require(how.mirror_order[c] >= 0 && how.mirror_order[c] < C, "no such channel");
  }
  how.rotation_deg = strength.at("rotation_deg");
  Require(axes.ndim() == 2 && axes.shape(1) == 3, "axes need the shape (n, 3)");
  how.n_axes = axes.shape(0);
  how.axes = axes.data();
  for (int64_t i = 0; i < axes.size(); ++i) {
    Require(how.axes[i] >= 0 && how.axes[i] < C, "no such channel");
  }
  signal::AugmentWindows windows = {};
  windows.n_windows = x.shape(0);
  windows.n_timesteps = x.shape(1);
  windows.n_channels = C;
  windows.lengths = OnePerWindow(lengths, x);
  for (int64_t n = 0; n < windows.n_windows; ++n) {
    Require(windows.lengths[n] >= 0 && windows.lengths[n] <= windows.n_timesteps,
            "a length does not lie in 0..T");
  }
  windows.indices = OnePerWindow(indices, x);
  windows.copies = OnePerWindow(copies, x);
  windows.seed = seed;
  windows.channel_sd = per_channel(channel_sd);
  windows.fill_normal = &FillNormal;
  const auto run = [&](auto* values) {
    py::gil_scoped_release released;
    return signal::Augment(how, windows, n_threads, values);
  };
  if (py::isinstance<py::array_t<float>>(x)) return run(DenseWindows<float>(x));
  Require(py::isinstance<py::array_t<double>>(x), "x needs float32 or float64");
  return run(DenseWindows<double>(x));
}

}  // namespace

void BindAugment(py::module_& m) {
  m.def("augment", &Augment, py::arg("x").noconvert(), py::arg("lengths"), py::arg("indices"),
        py::arg("copies"), py::arg("seed"), py::arg("strength"), py::arg("spline"),
        py::arg("mirror_order"), py::arg("mirror_sign"), py::arg("axes"), py::arg("channel_sd"),
        py::arg("n_threads"));
}

}  // namespace sensorseq
