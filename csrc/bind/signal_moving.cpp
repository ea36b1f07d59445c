#include <memory>
#include <string>

#include "bind/signal.h"
#include "c_api/make_filters.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using signal::MovingWindow;

std::unique_ptr<Shared<MovingWindow>> Make(const std::string& statistic, int64_t window_samples,
                                           int64_t n_channels, int64_t ahead_samples) {
  return std::make_unique<Shared<MovingWindow>>(
      signal::MakeMoving(statistic, window_samples, n_channels, ahead_samples));
}

Rows<double> Push(Shared<MovingWindow>& shared, const Rows<double>& x) {
  MovingWindow& window = shared.object;
  if (x.ndim() != 2 || x.shape(1) != window.n_channels()) {
    throw py::value_error("samples must have the shape (n_samples, " +
                          std::to_string(window.n_channels()) + ").");
  }
  const Turn turn(shared.mutex);
  const int64_t n_samples = x.shape(0);
  Rows<double> y({window.n_ready(n_samples), window.n_channels()});
  const double* from = x.data();
  double* to = y.mutable_data();
  {
    py::gil_scoped_release released;
    window.Push(from, n_samples, to);
  }
  return y;
}

Rows<double> Flush(Shared<MovingWindow>& shared) {
  const Turn turn(shared.mutex);
  MovingWindow& window = shared.object;
  Rows<double> y({window.n_left(), window.n_channels()});
  double* to = y.mutable_data();
  {
    py::gil_scoped_release released;
    window.Flush(to);
  }
  return y;
}

}  // namespace

void BindMoving(py::module_& m) {
  py::class_<Shared<MovingWindow>>(m, "MovingWindow")
      .def(py::init(&Make), py::arg("statistic"), py::arg("window_samples"), py::arg("n_channels"),
           py::arg("ahead_samples") = 0)
      .def("push", &Push, py::arg("samples"))
      .def("flush", &Flush);
}

}  // namespace sensorseq
