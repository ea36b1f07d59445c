// sensorseq._signal: the preprocessing loops on numpy arrays. They run without the GIL.
#include "bindings_signal.h"

#include <stdexcept>

namespace sensorseq {

const signal::PassKernels& ServingPassKernels() {
  Status status;
  const signal::PassKernels* kernels = signal::ActivePassKernels(&status);
  if (kernels != nullptr) return *kernels;
  std::string sentence = std::string("sensorseq: ") + StatusText(status) + ". Known:";
  const signal::PassKernelTable table = signal::AllPassKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    sentence += std::string(i ? ", " : " ") + table.rows[i]->name +
                (table.rows[i]->is_supported() ? "" : " (not on this processor)");
  }
  throw std::runtime_error(sentence + ".");
}

}  // namespace sensorseq

PYBIND11_MODULE(_signal, m) {
  m.doc() = "The preprocessing loops; see the stubs beside it.";
  sensorseq::BindConvolutions(m);
  sensorseq::BindMoving(m);
  sensorseq::BindResample(m);
  sensorseq::BindWindow(m);
}
