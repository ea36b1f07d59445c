// The preprocessing loops of an instruction set.
#pragma once

#include "isa/table.h"
#include "signal/fir.h"
#include "signal/pass.h"

namespace sensorseq::signal {

struct SignalKernels {
  const char* name;
  bool (*is_supported)();
  FirKernels fir;
  PassKernels pass;
};

IsaTable<SignalKernels> AllSignalKernels();

}  // namespace sensorseq::signal
