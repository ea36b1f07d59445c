#include <map>
#include <string>

#include "bindings_signal.h"
#include "signal/moving.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using signal::MovingStatistic;
using signal::MovingWindow;

const std::map<std::string, MovingStatistic> kStatistics = {
    {"mean", MovingStatistic::kMean},
    {"std", MovingStatistic::kStd},
    {"rms", MovingStatistic::kRms},
    {"min", MovingStatistic::kMin},
    {"max", MovingStatistic::kMax},
    {"range", MovingStatistic::kRange},
    {"mean_absolute", MovingStatistic::kMeanAbsolute},
    {"line_residual", MovingStatistic::kLineResidual},
};

constexpr int64_t kMostValues = int64_t{1} << 27;  // of which some statistics take 7 GB

std::unique_ptr<Shared<MovingWindow>> Make(const std::string& statistic, int64_t window_samples,
                                           int64_t n_channels, int64_t ahead_samples) {
  const auto found = kStatistics.find(statistic);
  if (found == kStatistics.end()) {
    throw py::value_error("statistic='" + statistic + "' is not known.");
  }
  if (window_samples < 1 || ahead_samples < 0 || ahead_samples >= window_samples ||
      n_channels < 1) {
    throw py::value_error(
        "window_samples=" + std::to_string(window_samples) + ", ahead_samples=" +
        std::to_string(ahead_samples) + ", n_channels=" + std::to_string(n_channels) +
        ": a window holds a sample or more of a channel or more, and looks ahead by less than it "
        "holds.");
  }
  if (window_samples > kMostValues / n_channels) {
    throw py::value_error("window_samples=" + std::to_string(window_samples) + " of " +
                          std::to_string(n_channels) +
                          " channel(s) are more than 2^27 values; take a shorter window.");
  }
  return std::make_unique<Shared<MovingWindow>>(
      MovingWindow(found->second, window_samples, ahead_samples, n_channels));
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
