// PolyphaseFilter and TableFilter as Python classes.
#include <pybind11/stl.h>

#include <cmath>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "bindings_signal.h"
#include "signal/resample.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using signal::Edge;

constexpr int64_t kMaxTerm = int64_t{1} << 20;
constexpr int64_t kMostDelay = int64_t{1} << 24;
// as of a polyphase filter; below 2^-32, places would be no 64-bit integers
constexpr double kMinRatio = 0x1p-32, kMaxRatio = static_cast<double>(kMaxTerm);

Edge EdgeOf(const std::string& name) {
  if (name == "mirror") return Edge::kMirror;
  if (name == "hold") return Edge::kHold;
  if (name == "odd") return Edge::kOdd;
  Raise("ArgumentError", "edge is '" + name + "'; known: mirror, hold, odd.");
}

Rows<double> CheckedTaps(const Rows<double>& taps) {
  if (taps.ndim() != 1 || taps.size() == 0) {
    Raise("ArgumentError", "taps have " + std::to_string(taps.ndim()) + " dimension(s) and " +
                               std::to_string(taps.size()) +
                               " entries; expected (n_taps,), one or more.");
  }
  for (int64_t i = 0; i < taps.size(); ++i) {
    if (!std::isfinite(taps.data()[i])) {
      Raise("ArgumentError", "tap " + std::to_string(i) + " is not finite.");
    }
  }
  return taps;
}

void CheckRange(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    Raise("ArgumentError", std::string(name) + " is " + std::to_string(value) + "; expected " +
                               std::to_string(low) + " to " + std::to_string(high) + ".");
  }
}

[[noreturn]] void RaiseDtype(const py::array& x) {
  Raise("SignalError", "x has dtype " + std::string(py::str(py::dtype(x.dtype()))) +
                           "; expected float32 or float64.");
}

// One filter of Python: calls from several threads take turns.
template <typename Filter>
class Bound {
 public:
  template <typename Taps>
  Bound(Taps taps, int64_t n_channels, Edge edge, const signal::FirKernels& kernels)
      : filter_(std::move(taps), n_channels, edge, kernels) {}

  py::array Push(const py::array& x) { return Take(x, false); }
  py::array PushLast(const py::array& x) { return Take(x, true); }

  py::array Flush() {
    const Turn turn(mutex_);
    return is_float_ ? FlushOf<float>() : FlushOf<double>();
  }

  void Reset() {
    const Turn turn(mutex_);
    filter_.Reset();
  }

  const Filter& filter() const { return filter_; }

 private:
  py::array Take(const py::array& x, bool is_last) {
    if (x.ndim() != 2 || x.shape(1) != filter_.n_channels()) {
      Raise("SignalError", "x has shape " + std::string(py::str(x.attr("shape"))) +
                               "; expected (n, " + std::to_string(filter_.n_channels()) + ").");
    }
    if (py::isinstance<py::array_t<float>>(x)) return TakeOf<float>(Rows<float>(x), is_last);
    if (py::isinstance<py::array_t<double>>(x)) return TakeOf<double>(Rows<double>(x), is_last);
    RaiseDtype(x);
  }

  template <typename Real>
  py::array TakeOf(const Rows<Real>& x, bool is_last) {
    const Turn turn(mutex_);
    is_float_ = sizeof(Real) == sizeof(float);
    const int64_t n = x.shape(0), n_outputs = filter_.n_outputs_of_push(n);
    const int64_t n_all = is_last ? filter_.n_outputs_of_end(n) : n_outputs;
    py::array_t<Real> y({n_all, filter_.n_channels()});
    const Real* from = x.data();
    Real* to = y.mutable_data();
    {
      const py::gil_scoped_release release;
      filter_.Push(from, n, to);
      if (is_last) filter_.Flush(to + n_outputs * filter_.n_channels());
    }
    return std::move(y);
  }

  template <typename Real>
  py::array FlushOf() {
    py::array_t<Real> y({filter_.n_outputs_of_end(0), filter_.n_channels()});
    Real* to = y.mutable_data();
    {
      const py::gil_scoped_release release;
      filter_.Flush(to);
    }
    return std::move(y);
  }

  Filter filter_;
  std::mutex mutex_;
  bool is_float_ = false;  // as the last chunk
};

using BoundPolyphase = Bound<signal::PolyphaseFilter>;
using BoundTable = Bound<signal::TableFilter>;

std::unique_ptr<BoundPolyphase> MakePolyphase(const Rows<double>& given, int64_t up, int64_t down,
                                              int64_t n_channels, const std::string& edge_name,
                                              std::optional<int64_t> delay) {
  const Rows<double> taps = CheckedTaps(given);
  const Edge edge = EdgeOf(edge_name);
  CheckRange("up", up, 1, kMaxTerm);
  CheckRange("down", down, 1, kMaxTerm);
  CheckRange("n_channels", n_channels, 1, kMaxTerm);
  if (!delay.has_value() && taps.size() % 2 == 0) {
    Raise("ArgumentError", std::to_string(taps.size()) +
                               " taps have no centre; give an odd number of them, or a delay.");
  }
  const int64_t at = delay.value_or(taps.size() / 2);
  CheckRange("delay", at, 0, kMostDelay);
  const signal::FirKernels& kernels = ServingKernels().fir;
  signal::PolyphaseTaps phases(taps.data(), taps.size(), up, down, at, kernels);
  if (edge != Edge::kHold && !phases.looks_ahead_as_far_as_back()) {
    Raise("ArgumentError", "a delay of " + std::to_string(at) +
                               " looks back further than ahead, so"
                               " edge '" +
                               edge_name +
                               "' would need samples that have not arrived;"
                               " use edge 'hold'.");
  }
  return std::make_unique<BoundPolyphase>(std::move(phases), n_channels, edge, kernels);
}

std::unique_ptr<BoundTable> MakeTable(const Rows<double>& given, int64_t n_phases, double ratio,
                                      int64_t n_channels, const std::string& edge_name) {
  const Rows<double> taps = CheckedTaps(given);
  const Edge edge = EdgeOf(edge_name);
  CheckRange("n_phases", n_phases, 1, kMaxTerm);
  CheckRange("n_channels", n_channels, 1, kMaxTerm);
  if (taps.size() % 2 == 0 || taps.size() < 2 * n_phases - 1) {
    Raise("ArgumentError", std::to_string(taps.size()) +
                               " taps; expected an odd number of at least"
                               " 2 * n_phases - 1.");
  }
  if (!(ratio >= kMinRatio && ratio <= kMaxRatio)) {
    Raise("ArgumentError",
          "ratio is " + std::to_string(ratio) + "; expected one from 2^-32 to 2^20.");
  }
  const signal::FirKernels& kernels = ServingKernels().fir;
  signal::TableTaps table(taps.data(), taps.size(), n_phases, ratio, kernels);
  return std::make_unique<BoundTable>(std::move(table), n_channels, edge, kernels);
}

template <typename Real>
bool AllFiniteIn(const Rows<Real>& x, bool (*all_finite)(const Real*, int64_t)) {
  const int64_t n = x.size();
  const Real* from = x.data();
  const py::gil_scoped_release release;
  return all_finite(from, n);
}

bool AllFinite(const py::array& x) {
  const signal::FirKernels& kernels = ServingKernels().fir;
  if (py::isinstance<py::array_t<float>>(x)) {
    return AllFiniteIn<float>(Rows<float>(x), kernels.all_finite_f32);
  }
  if (py::isinstance<py::array_t<double>>(x)) {
    return AllFiniteIn<double>(Rows<double>(x), kernels.all_finite_f64);
  }
  RaiseDtype(x);
}

template <typename Class>
py::class_<Class> BindFilter(py::module_& m, const char* name) {
  py::class_<Class> bound(m, name);
  bound.def("push", &Class::Push, py::arg("x"))
      .def("push_last", &Class::PushLast, py::arg("x"))
      .def("flush", &Class::Flush)
      .def("reset", &Class::Reset)
      .def_property_readonly("n_channels", [](const Class& f) { return f.filter().n_channels(); })
      .def_property_readonly("latency_samples",
                             [](const Class& f) { return f.filter().taps().latency_samples(); })
      .def_property_readonly("isa", [](const Class& f) { return f.filter().kernels().name; });
  return bound;
}

}  // namespace

void BindResample(py::module_& m) {
  BindFilter<BoundPolyphase>(m, "PolyphaseFilter")
      .def(py::init(&MakePolyphase), py::arg("taps"), py::arg("up"), py::arg("down"),
           py::arg("n_channels"), py::arg("edge") = "mirror", py::arg("delay") = py::none());
  BindFilter<BoundTable>(m, "TableFilter")
      .def(py::init(&MakeTable), py::arg("taps"), py::arg("n_phases"), py::arg("ratio"),
           py::arg("n_channels"), py::arg("edge") = "mirror");
  m.def("all_finite", &AllFinite, py::arg("x"));
}

}  // namespace sensorseq
