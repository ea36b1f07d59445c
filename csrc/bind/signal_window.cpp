// Checks numpy arrays and passes them to signal/window.h, signal/moments.h and signal/ends.h, whose
// loops run without the GIL.
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bind/signal.h"
#include "signal/moments.h"
#include "signal/window.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using Integers = Rows<int64_t>;
using Doubles = Rows<double>;
using Positions = std::tuple<int64_t, int64_t>;

void Require(bool ok, const char* what) {
  if (!ok) throw py::value_error(what);
}

template <typename T>
bool IsDense(const py::array& array) {
  return py::isinstance<py::array_t<T>>(array) &&
         (array.flags() & py::array::c_style) == py::array::c_style;
}

// Treats the windows of x, which are (T, C) blocks, as windows of one signal that begin at the
// samples in `starts`. Windows that overlap in memory therefore need no copy if each of them is
// dense.
template <typename Real>
struct Blocks {
  explicit Blocks(const py::array& x) : array(x) {
    const int64_t C = x.shape(2), row = C * static_cast<int64_t>(sizeof(Real));
    const bool dense_rows = x.shape(1) <= 1 || x.strides(1) == row;
    const bool dense_values = C <= 1 || x.strides(2) == static_cast<int64_t>(sizeof(Real));
    int64_t hop = x.shape(1);
    if (row > 0 && dense_rows && dense_values && x.strides(0) >= 0 && x.strides(0) % row == 0) {
      hop = x.strides(0) / row;
    } else {
      array = Rows<Real>(x);
    }
    starts.resize(x.shape(0));
    for (size_t n = 0; n < starts.size(); ++n) starts[n] = static_cast<int64_t>(n) * hop;
    n_samples = starts.empty() ? 0 : starts.back() + x.shape(1);
  }
  py::array array;
  std::vector<int64_t> starts;
  int64_t n_samples;
};

template <typename Real, typename Out>
Positions Map(signal::WindowMap<Real, Out> args) {
  const signal::PassKernels& kernels = ServingKernels().pass;
  py::gil_scoped_release release;
  const bool fit = signal::WindowsFit(args);
  signal::NotFinite found;
  if (fit) found = signal::MapWindows(kernels, args);
  py::gil_scoped_acquire acquire;
  Require(fit, "a window does not lie in the signal, or a length is not in 0..window_samples");
  return {found.given, found.overflown};
}

struct Scales {
  Scales(const std::optional<Doubles>& center, const std::optional<Doubles>& scale, int64_t C) {
    Require(center.has_value() == scale.has_value(), "center and scale must be given together");
    if (!center) return;
    Require(center->ndim() == 1 && center->shape(0) == C, "center must have one value per channel");
    Require(scale->ndim() == 1 && scale->shape(0) == C, "scale must have one value per channel");
    this->center = center->data();
    this->scale = scale->data();
  }
  const double* center = nullptr;
  const double* scale = nullptr;
};

const int64_t* LengthsOf(const std::optional<Integers>& lengths, int64_t n_windows) {
  if (!lengths) return nullptr;
  Require(lengths->ndim() == 1 && lengths->shape(0) == n_windows,
          "lengths must have one entry per window");
  return lengths->data();
}

template <typename Real>
Positions Gather(const py::array& given, const Integers& starts,
                 const std::optional<Integers>& lengths, const std::optional<Doubles>& center,
                 const std::optional<Doubles>& scale, py::array& out) {
  const Rows<Real> values(given);
  const int64_t N = starts.shape(0), C = values.shape(1);
  Require(out.shape(0) == N && out.shape(2) == C,
          "out must have the shape (n_windows, samples, C)");
  const Scales by(center, scale, C);
  return Map<Real, float>({values.shape(0), N, out.shape(1), C, values.data(), starts.data(),
                           LengthsOf(lengths, N), by.center, by.scale, false,
                           static_cast<float*>(out.mutable_data())});
}

Positions GatherWindows(const py::array& values, const Integers& starts,
                        const std::optional<Integers>& lengths,
                        const std::optional<Doubles>& center, const std::optional<Doubles>& scale,
                        py::array& out) {
  Require(values.ndim() == 2 && starts.ndim() == 1,
          "values must have two dimensions, and starts one dimension");
  Require(out.ndim() == 3 && IsDense<float>(out),
          "out must be a contiguous float32 array of three dimensions");
  const bool single = py::isinstance<py::array_t<float>>(values);
  return single ? Gather<float>(values, starts, lengths, center, scale, out)
                : Gather<double>(values, starts, lengths, center, scale, out);
}

template <typename Real, typename Out>
Positions ScaleAs(const py::array& x, const std::optional<Integers>& lengths, const Scales& by,
                  bool inverse, py::array& out) {
  const Blocks<Real> blocks(x);
  const int64_t N = x.shape(0);
  return Map<Real, Out>({blocks.n_samples, N, x.shape(1), x.shape(2),
                         static_cast<const Real*>(blocks.array.data()), blocks.starts.data(),
                         LengthsOf(lengths, N), by.center, by.scale, inverse,
                         static_cast<Out*>(out.mutable_data())});
}

Positions ScaleWindows(const py::array& x, const std::optional<Integers>& lengths,
                       const std::optional<Doubles>& center, const std::optional<Doubles>& scale,
                       bool inverse, py::array& out) {
  Require(x.ndim() == 3 && out.ndim() == 3, "x and out must have three dimensions");
  for (int axis = 0; axis < 3; ++axis) {
    Require(x.shape(axis) == out.shape(axis), "out must have the shape of x");
  }
  const Scales by(center, scale, x.shape(2));
  const bool single = py::isinstance<py::array_t<float>>(x);
  Require(single || py::isinstance<py::array_t<double>>(x), "x must be float32 or float64");
  if (IsDense<float>(out)) {
    return single ? ScaleAs<float, float>(x, lengths, by, inverse, out)
                  : ScaleAs<double, float>(x, lengths, by, inverse, out);
  }
  Require(IsDense<double>(out), "out must be a contiguous array of float32 or float64");
  return single ? ScaleAs<float, double>(x, lengths, by, inverse, out)
                : ScaleAs<double, double>(x, lengths, by, inverse, out);
}

template <typename Real>
int64_t AddAs(Shared<signal::Moments>& moments, const py::array& given, const int64_t* lengths) {
  const Rows<Real> x(given);
  const Turn turn(moments.mutex);
  py::gil_scoped_release release;
  return moments.object.Add(x.data(), x.shape(0), x.shape(1), lengths);
}

int64_t Add(Shared<signal::Moments>& moments, const py::array& x,
            const std::optional<Integers>& lengths) {
  Require(x.ndim() == 3 && x.shape(2) == moments.object.n_channels(),
          "x needs the shape (N, T, C)");
  const int64_t* steps = LengthsOf(lengths, x.shape(0));
  for (int64_t n = 0; steps != nullptr && n < x.shape(0); ++n) {
    Require(steps[n] >= 0 && steps[n] <= x.shape(1), "a length does not lie in 0..T");
  }
  const bool single = py::isinstance<py::array_t<float>>(x);
  return single ? AddAs<float>(moments, x, steps) : AddAs<double>(moments, x, steps);
}

py::tuple Summarize(Shared<signal::Moments>& moments) {
  const int64_t C = moments.object.n_channels();
  py::array_t<double> mean(C), m2(C), low(C), high(C);
  const Turn turn(moments.mutex);
  const int64_t count = moments.object.Summarize(mean.mutable_data(), m2.mutable_data(),
                                                 low.mutable_data(), high.mutable_data());
  return py::make_tuple(count, mean, m2, low, high);
}

}  // namespace

void BindWindow(py::module_& m) {
  m.def("gather_windows", &GatherWindows, py::arg("values"), py::arg("starts"), py::arg("lengths"),
        py::arg("center"), py::arg("scale"), py::arg("out").noconvert());
  m.def("scale_windows", &ScaleWindows, py::arg("x"), py::arg("lengths"), py::arg("center"),
        py::arg("scale"), py::arg("inverse"), py::arg("out").noconvert());
  py::class_<Shared<signal::Moments>>(m, "Moments")
      .def(py::init([](int64_t n_channels) {
             Require(n_channels >= 0, "n_channels is negative");
             return std::make_unique<Shared<signal::Moments>>(
                 signal::Moments(ServingKernels().pass, n_channels));
           }),
           py::arg("n_channels"))
      .def("add", &Add, py::arg("x"), py::arg("lengths") = py::none())
      .def("summarize", &Summarize);
}

}  // namespace sensorseq
