// PolyphaseFilter and TableFilter as Python classes.
#include <pybind11/stl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "bind/signal.h"
#include "c_api/make_filters.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

const Rows<double>& CheckedTaps(const Rows<double>& taps) {
  if (taps.ndim() != 1 || taps.size() == 0) {
    Raise("ArgumentError", "taps have " + std::to_string(taps.ndim()) + " dimension(s) and " +
                               std::to_string(taps.size()) +
                               " entries; expected (n_taps,), one or more.");
  }
  return taps;
}

[[noreturn]] void RaiseDtype(const py::array& x) {
  Raise("SignalError", "x has dtype " + std::string(py::str(py::dtype(x.dtype()))) +
                           "; expected float32 or float64.");
}

// A filter for Python: calls from several threads take turns.
template <typename Filter>
class Bound {
 public:
  explicit Bound(Filter filter) : filter_(std::move(filter)) {}

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
  bool is_float_ = false;  // whether the last chunk was float32
};

using BoundPolyphase = Bound<signal::PolyphaseFilter>;
using BoundTable = Bound<signal::TableFilter>;

std::unique_ptr<BoundPolyphase> MakePolyphase(const Rows<double>& given, int64_t up, int64_t down,
                                              int64_t n_channels, const std::string& edge,
                                              std::optional<int64_t> delay) {
  const Rows<double>& taps = CheckedTaps(given);
  return std::make_unique<BoundPolyphase>(signal::MakePolyphase(
      taps.data(), taps.size(), up, down, n_channels, edge, delay, ServingKernels().fir));
}

std::unique_ptr<BoundTable> MakeTable(const Rows<double>& given, int64_t n_phases, double ratio,
                                      int64_t n_channels, const std::string& edge) {
  const Rows<double>& taps = CheckedTaps(given);
  return std::make_unique<BoundTable>(signal::MakeTable(taps.data(), taps.size(), n_phases, ratio,
                                                        n_channels, edge, ServingKernels().fir));
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
