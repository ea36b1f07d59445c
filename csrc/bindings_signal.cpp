// sensorseq._signal: the preprocessing loops on numpy arrays. They run without the GIL.
#include "bindings_signal.h"

PYBIND11_MODULE(_signal, m) {
  m.doc() = "The preprocessing loops; see the stubs beside it.";
  sensorseq::BindMoving(m);
  sensorseq::BindResample(m);
  sensorseq::BindWindow(m);
}
