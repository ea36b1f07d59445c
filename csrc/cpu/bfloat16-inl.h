// Lists the bodies of the forward pass with factors in bfloat16: SENSORSEQ_BODIES of bfloat16.cpp.

// clang-format off: each file uses the one before
#include "cpu/activations-inl.h"
#include "cpu/pack-inl.h"
#include "cpu/tile-inl.h"
#include "cpu/gate_sums_bf16-inl.h"
#include "cpu/lstm_forward-inl.h"
#include "cpu/lstm_backward-inl.h"
#include "cpu/head-inl.h"
#include "cpu/tasks-inl.h"
// clang-format on

inline bool HasBfloat16() { return __builtin_cpu_supports("avx512bf16"); }

constexpr Row kRow = {SENSORSEQ_ISA_NAME, &HasBfloat16, &Forward<float>};
