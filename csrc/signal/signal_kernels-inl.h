// Includes the kernels, and defines the row of one instruction set in the kernel table. Included
// once for each instruction set, through SENSORSEQ_BODIES of signal_kernels.cpp.

// clang-format off: each file uses files above it
#include "signal/fir-inl.h"
#include "signal/convolve-inl.h"
#include "signal/compete-inl.h"
#include "signal/pass-inl.h"
// clang-format on

constexpr Row kRow = {SENSORSEQ_ISA_NAME, &IsSupported, kFirKernels, kPassKernels};
