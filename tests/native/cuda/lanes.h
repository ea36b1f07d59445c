// A value for each lane of a warp: 32 numbers that are used like a single number.
#pragma once

#include <cstdint>

namespace emulator {

constexpr int kLanes = 32;

// Operations are compiled once, in emulator.cpp, because the bodies would take minutes to compile
// if the operations were inlined.
template <typename T>
struct Lanes {
  T of[kLanes] = {};

  Lanes() = default;
  Lanes(T value);  // the same for all lanes, as in device code
  template <typename From>
  explicit Lanes(const Lanes<From>& x) : Lanes(x.template As<T>()) {}
  T& operator[](int lane) { return of[lane]; }
  const T& operator[](int lane) const { return of[lane]; }

  template <typename To>
  Lanes<To> As() const;  // converted
  template <typename To>
  Lanes<To> Bits() const;  // the same bits

#define EMULATED_OPERATOR(Result, op, Name)                  \
  static Lanes<Result> Name(const Lanes& a, const Lanes& b); \
  friend Lanes<Result> operator op(const Lanes& a, const Lanes& b) { return Name(a, b); }
  EMULATED_OPERATOR(T, +, Plus)
  EMULATED_OPERATOR(T, -, Minus)
  EMULATED_OPERATOR(T, *, Times)
  EMULATED_OPERATOR(T, /, Over)
  EMULATED_OPERATOR(T, &, Both)
  EMULATED_OPERATOR(T, |, Either)
  EMULATED_OPERATOR(T, <<, Left)
  EMULATED_OPERATOR(T, >>, Right)
  EMULATED_OPERATOR(bool, <, Less)
  EMULATED_OPERATOR(bool, >, Greater)
  EMULATED_OPERATOR(bool, ==, Equal)
  EMULATED_OPERATOR(bool, !=, Unequal)
  EMULATED_OPERATOR(bool, <=, NotGreater)
  EMULATED_OPERATOR(bool, >=, NotLess)
#undef EMULATED_OPERATOR
};

using F = Lanes<float>;
using I = Lanes<int32_t>;
using U = Lanes<uint32_t>;
using L = Lanes<int64_t>;
using B = Lanes<bool>;

inline B operator!(const B& a) { return a == B(false); }

template <typename T>
Lanes<T> Choose(const B& c, const Lanes<T>& x, const Lanes<T>& y);

}  // namespace emulator
