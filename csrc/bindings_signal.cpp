// sensorseq._signal: the preprocessing loops on numpy arrays. They run without the GIL.
#include "bindings_signal.h"

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
  m.doc() = "The preprocessing loops; see the stubs beside it.";
  sensorseq::BindAugment(m);
  sensorseq::BindConvolutions(m);
  sensorseq::BindCsv(m);
  sensorseq::BindMoving(m);
  sensorseq::BindResample(m);
  sensorseq::BindSections(m);
  sensorseq::BindWindow(m);
}
