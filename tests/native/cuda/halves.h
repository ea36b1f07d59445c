// IEEE halves, and floats that are rounded as tensor cores are assumed to round them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace emulator {

inline float FloatOfHalf(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half & 0x8000 ? -value : value;
}
// Rounds to nearest, with ties to even; values beyond the largest half become infinity.
inline uint16_t HalfOfFloat(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7fff;
  const double size = std::fabs(static_cast<double>(value));
  if (size >= 65520) return sign | 0x7c00;
  if (size < std::ldexp(1.0, -14)) {
    return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24)));
  }
  int exponent;
  const double fraction = std::frexp(size, &exponent);  // [0.5, 1)
  const auto mantissa = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));
  return sign | static_cast<uint16_t>(((exponent + 14) << 10) + (mantissa - 1024));
}
inline const std::vector<float> kValueOfHalf = [] {
  std::vector<float> values(65536);
  for (int i = 0; i < 65536; ++i) values[i] = FloatOfHalf(static_cast<uint16_t>(i));
  return values;
}();
inline float HalfValue(uint16_t half) { return kValueOfHalf.data()[half]; }
// Rounds like HalfOfFloat, to the upper 16 bits of a float.
inline uint16_t BfloatOfFloat(float value) {
  if (std::isnan(value)) return 0x7fff;
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t below = bits & 0xffff, kept = bits >> 16;
  return static_cast<uint16_t>(kept + (below > 0x8000 || (below == 0x8000 && kept % 2 == 1)));
}
inline float Widened(uint16_t half, bool is_bfloat) {
  if (!is_bfloat) return HalfValue(half);
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
// Rounds toward zero.
inline float Truncated(double value) {
  const float rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) return rounded;
  return std::fabs(static_cast<double>(rounded)) > std::fabs(value) ? std::nextafterf(rounded, 0)
                                                                    : rounded;
}

}  // namespace emulator
