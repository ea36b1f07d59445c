// Includes the kernels, and defines the row of one instruction set in the kernel table. Included
// once for each instruction set, through SENSORSEQ_BODIES of kernels.cpp.

// clang-format off: each file uses the files above it
#include "cpu/activations-inl.h"
#include "cpu/pack-inl.h"
#include "cpu/tile-inl.h"
#include "cpu/lstm_forward-inl.h"
#include "cpu/lstm_backward-inl.h"
#include "cpu/head-inl.h"
#include "cpu/tasks-inl.h"
#include "lstm/update-inl.h"
#include "cpu/optimizer-inl.h"
#include "cpu/peak-inl.h"
// clang-format on

// constexpr, so that no code for this instruction set runs when the library is loaded
constexpr Row kRow = {
    SENSORSEQ_ISA_NAME,
    &IsSupported,
    &Pack<float>,
    &Pack<double>,
    &Forward<float>,
    &Forward<double>,
    &Backward<float>,
    &Backward<double>,
    &Step<float>,
    &Step<double>,
    {&HeadForward<float>, &HeadBackward<float>, &SumOfSquares<float>, &Update<float>,
     &MoveAverage<float>},
    {&HeadForward<double>, &HeadBackward<double>, &SumOfSquares<double>, &Update<double>,
     &MoveAverage<double>},
    &SigmoidArray,
    &TanhArray,
    &MultiplyAddFlops,
};
