// A value of each lane of a warp: 32 numbers that behave as one.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/layout.h"

namespace emulator {

using sensorseq::cuda::kLanes;

// Operations are called, not inlined: else compilers take minutes over the bodies.
#define EMULATED __attribute__((noinline))

template <typename T>
struct Lanes {
  T of[kLanes] = {};

  Lanes() = default;
  Lanes(T value) {  // the same for all, as device code means it
    for (T& lane : of) lane = value;
  }
  T& operator[](int lane) { return of[lane]; }
  const T& operator[](int lane) const { return of[lane]; }
  template <typename To>
  EMULATED Lanes<To> As() const {
    Lanes<To> r;
    for (int l = 0; l < kLanes; ++l) r.of[l] = static_cast<To>(of[l]);
    return r;
  }
  template <typename To>
  EMULATED Lanes<To> Bits() const {
    static_assert(sizeof(To) == sizeof(T), "");
    Lanes<To> r;
    std::memcpy(r.of, of, sizeof(of));
    return r;
  }

#define EMULATED_OPERATOR(Result, op)                                         \
  friend EMULATED Lanes<Result> operator op(const Lanes& a, const Lanes& b) { \
    Lanes<Result> r;                                                          \
    for (int l = 0; l < kLanes; ++l) r.of[l] = a.of[l] op b.of[l];            \
    return r;                                                                 \
  }
  EMULATED_OPERATOR(T, +)
  EMULATED_OPERATOR(T, -)
  EMULATED_OPERATOR(T, *)
  EMULATED_OPERATOR(T, /)
  EMULATED_OPERATOR(T, &)
  EMULATED_OPERATOR(T, |)
  EMULATED_OPERATOR(T, <<)
  EMULATED_OPERATOR(T, >>)
  EMULATED_OPERATOR(bool, <)
  EMULATED_OPERATOR(bool, >)
  EMULATED_OPERATOR(bool, <=)
  EMULATED_OPERATOR(bool, >=)
  EMULATED_OPERATOR(bool, ==)
  EMULATED_OPERATOR(bool, !=)
#undef EMULATED_OPERATOR
};

using F = Lanes<float>;
using I = Lanes<int32_t>;
using U = Lanes<uint32_t>;
using L = Lanes<int64_t>;
using B = Lanes<bool>;

template <typename T>
EMULATED Lanes<T> Choose(const B& c, const Lanes<T>& x, const Lanes<T>& y) {
  Lanes<T> r;
  for (int l = 0; l < kLanes; ++l) r.of[l] = c.of[l] ? x.of[l] : y.of[l];
  return r;
}

}  // namespace emulator
