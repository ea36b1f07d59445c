// The preprocessing loops on every instruction set.
#include "signal/signal_kernels.h"

#include "isa/target.h"

namespace sensorseq::signal {

using Row = SignalKernels;
#define SENSORSEQ_BODIES "signal/signal_kernels-inl.h"
#include "isa/each-inl.h"

namespace {

constexpr const SignalKernels* kRows[] = {
#define SENSORSEQ_TABLE
#include "isa/each-inl.h"
};

}  // namespace

IsaTable<SignalKernels> AllSignalKernels() { return {kRows, sizeof(kRows) / sizeof(kRows[0])}; }

}  // namespace sensorseq::signal
