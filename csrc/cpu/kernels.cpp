// The CPU kernels on every instruction set.
#include <cmath>

#include "cpu/dispatch.h"
#include "isa/target.h"
#include "lstm/gates.h"

namespace sensorseq {

using Row = Kernels;
#define SENSORSEQ_BODIES "cpu/kernels-inl.h"
#include "isa/each-inl.h"

namespace {

constexpr const Kernels* kRows[] = {
#define SENSORSEQ_TABLE
#include "isa/each-inl.h"
};

}  // namespace

KernelTable AllKernels() { return {kRows, sizeof(kRows) / sizeof(kRows[0])}; }

}  // namespace sensorseq
