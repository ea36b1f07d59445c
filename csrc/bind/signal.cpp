// sensorseq._signal: the preprocessing loops on numpy arrays, which run without the GIL.
#include "bind/signal.h"

#include "c_api/c_api_status.h"

namespace sensorseq {

const signal::SignalKernels& ServingKernels() {
  Status status;
  const signal::SignalKernels* kernels = signal::AllSignalKernels().Active(&status);
  if (kernels == nullptr) {
    Raise("EnvironmentProblemError", signal::AllSignalKernels().Refusal(status));
  }
  return *kernels;
}

}  // namespace sensorseq

PYBIND11_MODULE(_signal, m) {
  m.doc() = "The preprocessing loops. The stub file beside this module documents them.";
  pybind11::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const sensorseq::Refusal& refusal) {
      const bool is_argument = refusal.status == SENSORSEQ_BAD_ARGUMENT;
      pybind11::object type = pybind11::reinterpret_borrow<pybind11::object>(PyExc_ValueError);
      if (is_argument) {
        type = pybind11::module_::import("sensorseq.errors").attr("ArgumentError");
      }
      PyErr_SetString(type.ptr(), refusal.sentence.c_str());
    }
  });
  sensorseq::BindAugment(m);
  sensorseq::BindConvolutions(m);
  sensorseq::BindCsv(m);
  sensorseq::BindMoving(m);
  sensorseq::BindResample(m);
  sensorseq::BindSections(m);
  sensorseq::BindWindow(m);
}
