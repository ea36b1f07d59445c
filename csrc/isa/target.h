// Opens and closes a region compiled for one instruction set, in GCC and in Clang. A file
// begins the region after all its other includes. Otherwise, the linker might keep a copy of an
// inline function of the standard library that was compiled inside the region, and that copy would
// fail on an older processor.
#pragma once

#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define SENSORSEQ_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define SENSORSEQ_BEGIN_TARGET(isa) \
  SENSORSEQ_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define SENSORSEQ_END_TARGET SENSORSEQ_PRAGMA(clang attribute pop)
#else
#define SENSORSEQ_BEGIN_TARGET(isa) \
  SENSORSEQ_PRAGMA(GCC push_options) SENSORSEQ_PRAGMA(GCC target(isa))
#define SENSORSEQ_END_TARGET SENSORSEQ_PRAGMA(GCC pop_options)
#endif

namespace sensorseq {
template <int... kLane>
using Lanes = std::integer_sequence<int, kLane...>;
template <int kSize>
using AllLanes = std::make_integer_sequence<int, kSize>;
}  // namespace sensorseq

#define SENSORSEQ_INLINE inline __attribute__((always_inline))
