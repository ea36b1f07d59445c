// Passes the text of CSV files to signal/csv_numbers.h, without the GIL.
#include <pybind11/stl.h>

#include <algorithm>
#include <vector>

#include "bind/signal.h"
#include "signal/csv_numbers.h"

namespace py = pybind11;

namespace sensorseq {
namespace {

py::object ReadNumbers(const py::buffer& text, int64_t start, const std::vector<bool>& wanted) {
  const py::buffer_info info = text.request();
  if (info.ndim != 1 || info.itemsize != 1 || info.strides[0] != 1 || start < 0 ||
      start > info.size) {
    throw py::value_error(
        "text is not a contiguous sequence of bytes, or start lies beyond its end.");
  }
  const char* from = static_cast<const char*>(info.ptr) + start;
  const int64_t n = info.size - start;
  int64_t n_lines, n_rows;
  {
    const py::gil_scoped_release release;
    n_lines = signal::CountLines(from, n);
  }
  const py::ssize_t n_columns = std::count(wanted.begin(), wanted.end(), true);
  py::array_t<double> out({n_columns, static_cast<py::ssize_t>(n_lines)});
  double* to = out.mutable_data();
  {
    const py::gil_scoped_release release;
    n_rows = signal::ReadNumbers(from, n, wanted, n_lines, to);
  }
  if (n_rows < 0) return py::none();
  return out[py::make_tuple(py::ellipsis(), py::slice(0, n_rows, 1))];
}

}  // namespace

void BindCsv(py::module_& m) {
  m.def("read_numbers", &ReadNumbers, py::arg("text"), py::arg("start"), py::arg("wanted"));
}

}  // namespace sensorseq
