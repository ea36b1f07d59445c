#include <memory>
#include <string>

#include "bind/signal.h"
#include "c_api/make_filters.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

using signal::SectionFilter;

std::unique_ptr<Shared<SectionFilter>> Make(const Rows<double>& sections, int64_t n_channels) {
  const bool fits = sections.ndim() == 2 && sections.shape(1) == 6;
  return std::make_unique<Shared<SectionFilter>>(
      signal::MakeSections(sections.data(), fits ? sections.shape(0) : 0, n_channels));
}

Rows<double> Push(Shared<SectionFilter>& shared, const Rows<double>& x) {
  SectionFilter& filter = shared.object;
  if (x.ndim() != 2 || x.shape(1) != filter.n_channels()) {
    throw py::value_error("samples must have the shape (n_samples, " +
                          std::to_string(filter.n_channels()) + ").");
  }
  const Turn turn(shared.mutex);
  Rows<double> y({x.shape(0), x.shape(1)});
  const double* from = x.data();
  double* to = y.mutable_data();
  {
    py::gil_scoped_release released;
    filter.Push(from, x.shape(0), to);
  }
  return y;
}

}  // namespace

void BindSections(py::module_& m) {
  py::class_<Shared<SectionFilter>>(m, "SectionFilter")
      .def(py::init(&Make), py::arg("sections"), py::arg("n_channels"))
      .def("push", &Push, py::arg("samples"));
}

}  // namespace sensorseq
