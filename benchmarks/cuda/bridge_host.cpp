// Runs the probe in the emulator, computes the expected results from the PTX manual, and compares.
#include "bridge_host.h"

#include <cfloat>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "bridge_emulated.h"
#include "bridge_probe.h"

namespace bridge {
namespace {

constexpr double kWrong = std::numeric_limits<double>::infinity();

template <typename To, typename From>
To Bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}
float AsFloat(uint32_t bits) { return Bits<float>(bits); }
uint32_t AsBits(float x) { return Bits<uint32_t>(x); }
// The upper half of the float, rounded to nearest with ties to even.
uint32_t NearestBfloat(float x) {
  if (x != x) return 0x7fff;
  const uint32_t bits = AsBits(x), kept = bits & 0xffff0000, below = bits & 0xffff;
  return (kept >> 16) + (below + (kept >> 16 & 1) > 0x8000);
}

// ---- the numbers

float Extreme(std::mt19937_64& random) {
  static const float kSpecial[] = {
      0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, -NAN, FLT_MIN, -FLT_MIN, FLT_MAX,
      -FLT_MAX, 1e-45f, -1e-45f, 1e-39f, -1e-39f,
      // limits of ex2
      127.0f, 128.0f, 129.0f, -125.0f, -126.0f, -127.0f, -149.0f, -150.0f, 40.0f,
      // limits of halves, and ties when rounding to half
      65504.0f, 65519.0f, 65520.0f, -65520.0f, 65536.0f, 0x1p-14f, 0x1.ffcp-15f, 0x1p-24f, 0x1p-25f,
      0x1.8p-24f, 0x1.000002p-25f, 0x1.002p0f, 0x1.006p0f, -0x1.002p0f,
      // limits of the scale factors
      0x1p-90f, 0x1p-91f, 0x1p120f};
  const uint64_t draw = random();
  if (draw % 2 == 0) return kSpecial[(draw >> 8) % (sizeof(kSpecial) / sizeof(*kSpecial))];
  // any sign and fraction, with an exponent from -20 to 19 or any exponent
  const auto fraction = static_cast<uint32_t>(draw >> 32) & 0x807fffffu;
  const auto exponent =
      static_cast<uint32_t>(draw % 4 == 1 ? 107 + (draw >> 8) % 40 : (draw >> 8) % 256);
  // NaNs are always quiet because the kernels do not depend on the treatment of signaling NaNs
  return AsFloat(fraction | (exponent << 23) | (exponent == 255 && fraction != 0 ? 1u << 22 : 0));
}

// ---- results according to the manual

struct Wanted {
  uint32_t bits = 0;
  double scale = 0.0;  // for kOfSum
};

double ValueOfHalf(uint32_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  double size =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  if (exponent == 31) size = fraction != 0 ? std::nan("") : HUGE_VAL;
  return (half & 0x8000) != 0 ? -size : size;
}

// Rounds to nearest, ties to even, using the bits of the float.
uint32_t NearestHalf(float x) {
  const uint32_t bits = AsBits(x), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
  const int exponent = static_cast<int>(size >> 23) - 127;
  if (exponent > 15) return sign | 0x7c00;
  if (exponent < -25) return sign;
  const uint32_t fraction = (size & 0x7fffff) | 0x800000;
  const int cut = exponent >= -14 ? 13 : 13 - 14 - exponent;
  uint32_t kept = fraction >> cut;
  const uint32_t rest = fraction & ((1u << cut) - 1), tie = 1u << (cut - 1);
  kept += rest > tie || (rest == tie && (kept & 1) != 0);
  // the leading 1 bit of the fraction adds 1 to the exponent
  return sign | ((exponent >= -14 ? static_cast<uint32_t>(exponent + 14) << 10 : 0) + kept);
}

float LargerNumber(float x, float y) {  // max: NaN only if both are NaN
  return std::isnan(x) ? y : std::isnan(y) ? x : x > y ? x : y;
}
float SmallerOrNan(float x, float y) {
  return std::isnan(x) || std::isnan(y) ? NAN : x < y ? x : y;
}

class Manual {
 public:
  explicit Manual(const Launch& launch)
      : launch_(launch), wanted_(static_cast<size_t>(kAllWarps) * kRows * kLanes) {
    for (warp_ = 0; warp_ < kAllWarps; ++warp_) {
      for (int lane = 0; lane < kLanes; ++lane) OfLane(lane);
      OfWarp();
    }
  }
  const std::vector<Wanted>& wanted() const { return wanted_; }

 private:
  float Float(int warp, int line, int lane) const {
    return launch_.floats[static_cast<size_t>((warp * kFloatLines + line) * kLanes + lane)];
  }
  uint32_t Word(int warp, int line, int lane) const {
    return AsBits(Float(warp, kAny + line, lane));
  }
  void Want(int row, int lane, uint32_t bits, double scale = 0.0) {
    wanted_[static_cast<size_t>((warp_ * kRows + row) * kLanes + lane)] = {bits, scale};
  }
  void WantFloat(int row, int lane, double x, double scale = 0.0) {
    Want(row, lane, AsBits(static_cast<float>(x)), scale);
  }
  void WantInt(int row, int lane, int64_t x) { Want(row, lane, static_cast<uint32_t>(x)); }
  void WantDouble(int row, double x) {
    const auto bits = Bits<uint64_t>(x);
    for (int lane = 0; lane < kLanes; ++lane) {
      Want(row, lane, static_cast<uint32_t>(bits));
      Want(row + 1, lane, static_cast<uint32_t>(bits >> 32));
    }
  }
  void WantScale(int row, int lane, float x, int exponent) {
    // The scale is the power of two, at most 2^100, that moves x into [2^exponent, 2^(exponent +
    // 1)); it is 1 for denormals and zero. Infinity and NaN are treated as if their exponent were
    // 128.
    int e = 0;
    if (!std::isfinite(x)) {
      e = exponent - 128;
    } else if (std::fabs(x) >= FLT_MIN) {
      e = std::min(exponent - std::ilogb(x), 100);
    }
    WantFloat(row, lane, std::ldexp(1.0, e));
    WantFloat(row + 1, lane, std::ldexp(1.0, -e));
  }

  // Elements (row, k) of A and (k, column) of B in the register layout of mma.m16n8k16.
  double OfA(const uint32_t (&words)[4][kLanes], int row, int k) const {
    const int lane = row % 8 * 4 + k % 8 / 2;
    const int half = k % 2 + (row >= 8 ? 2 : 0) + (k >= 8 ? 4 : 0);
    return ValueOfHalf((words[half / 2][lane] >> (half % 2 * 16)) & 0xffff);
  }
  double OfB(const uint32_t (&words)[2][kLanes], int k, int column) const {
    const int lane = column * 4 + k % 8 / 2;
    return ValueOfHalf((words[k >= 8][lane] >> (k % 2 * 16)) & 0xffff);
  }
  void WantMma(int row, float factor, bool adds) {
    uint32_t a[4][kLanes], b[2][kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int w = 0; w < 4; ++w) {
        a[w][lane] = NearestHalf(Float(warp_, 2 * w, lane) * factor) |
                     NearestHalf(Float(warp_, 2 * w + 1, lane) * factor) << 16;
      }
      for (int w = 0; w < 2; ++w) {
        b[w][lane] = NearestHalf(Float(warp_, 8 + 2 * w, lane)) |
                     NearestHalf(Float(warp_, 9 + 2 * w, lane)) << 16;
      }
    }
    for (int i = 0; i < 4; ++i) {
      for (int lane = 0; lane < kLanes; ++lane) {
        double sum = adds ? Float(warp_, 12 + i, lane) : 0.0, size = std::fabs(sum);
        for (int k = 0; k < 16; ++k) {
          const double product =
              OfA(a, lane / 4 + (i >= 2 ? 8 : 0), k) * OfB(b, k, lane % 4 * 2 + i % 2);
          sum += product;
          size += std::fabs(product);
        }
        WantFloat(row + i, lane, sum, size);
      }
    }
  }

  // Element (row, column) of an 8 x 8 matrix of halves, stored row by row with two halves per lane.
  uint32_t Element(int line, int row, int column) const {
    return (Word(warp_, line, row * 4 + column / 2) >> (column % 2 * 16)) & 0xffff;
  }
  // Word `lane` of the transposed matrix in memory.
  uint32_t Transposed(int line, int lane) const {
    const int row = lane / 4, column = lane % 4 * 2;
    return Element(line, column, row) | Element(line, column + 1, row) << 16;
  }

  double LaneSum(const std::vector<double>& x) const {
    std::vector<double> sums = x;
    while (sums.size() > 1) {
      const size_t half = sums.size() / 2;
      for (size_t i = 0; i < half; ++i) sums[i] += sums[half + i];
      sums.resize(half);
    }
    return sums[0];
  }

  void OfWarp() {
    WantMma(kMma, 1.0f, true);
    WantMma(kMmaOfDenormals, 0x1p-18f, false);
    int32_t largest[2] = {INT32_MIN, INT32_MIN};
    std::vector<double> squares, numbers, thirds;
    for (int lane = 0; lane < kLanes; ++lane) {
      largest[0] = std::max(largest[0], static_cast<int32_t>(Word(warp_, 0, lane)));
      largest[1] = std::max(largest[1], static_cast<int32_t>(Word(warp_, 1, lane) | 0x80000000u));
      numbers.push_back(Float(warp_, 0, lane));
      squares.push_back(numbers.back() * numbers.back());
      thirds.push_back(static_cast<double>(Float(warp_, 1, lane)) / 3.0);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < 2; ++i) WantInt(kLargest + i, lane, largest[i]);
    }
    WantDouble(kLaneSum, LaneSum(squares));
    WantDouble(kLaneSum + 2, LaneSum(numbers));
    WantDouble(kLaneSum + 4, LaneSum(thirds));
  }

  void OfLane(int lane) {
    const int warp = warp_ % kWarps, rank = warp_ / kWarps % kCtas;
    const int cluster = warp_ / (kWarps * kCtas);
    const int other_warp = warp_ - warp + (1 - warp);
    const int other_rank = warp_ + (rank == 0 ? kWarps : -kWarps);
    const bool odd = lane % 2 == 1, high = lane > 12;
    const int other = 31 - lane;
    auto In = [&](int line) { return Float(warp_, line, lane); };
    auto Choice = [&](int row, bool on) { WantFloat(row, lane, on ? 1.0 : 2.0); };

    WantInt(kPlace, lane, lane);
    WantInt(kPlace + 1, lane, warp);
    WantInt(kPlace + 2, lane, rank);
    WantInt(kPlace + 3, lane, cluster % kTiles);
    WantInt(kPlace + 4, lane, cluster / kTiles % kDirections);
    WantInt(kPlace + 5, lane, cluster / kTiles / kDirections);
    const uint32_t word = Word(warp_, 0, lane);
    const bool negative = word >> 31 != 0;
    WantFloat(kConversions, lane, static_cast<double>(static_cast<int32_t>(word)));
    Want(kConversions + 1, lane, word * 3);
    Want(kConversions + 2, lane, negative ? 0xffffffffu : 0);
    Want(kConversions + 3, lane, 0);
    Want(kConversions + 4, lane, Word(warp_, 1, lane));
    Choice(kChoice, odd && high);
    Choice(kChoice + 1, odd || high);
    Choice(kChoice + 2, odd && warp == 1);
    Choice(kChoice + 3, !odd);

    const float x = In(kExtreme), y = In(kExtreme + 1);
    WantFloat(kFma, lane, std::fma(In(0), In(1), In(2)));
    WantFloat(kFma + 1, lane, std::fma(x, y, In(kExtreme + 2)));
    WantFloat(kDivide, lane, In(0) / In(1));
    WantFloat(kDivide + 1, lane, x / y);
    Want(kAbs, lane, AsBits(x) & 0x7fffffff);
    WantFloat(kMax, lane, LargerNumber(In(2), In(3)));
    WantFloat(kMax + 1, lane, LargerNumber(x, y));
    WantFloat(kMin, lane, SmallerOrNan(In(2), In(3)));
    for (int i = 1; i < 3; ++i) WantFloat(kMin + i, lane, SmallerOrNan(x, y));
    WantFloat(kExp2, lane, std::exp2(static_cast<double>(In(4)) * 8));
    WantFloat(kExp2OfExtremes, lane, std::exp2(static_cast<double>(x)));
    WantFloat(kReciprocal, lane, 1.0 / static_cast<double>(In(5)));
    WantFloat(kReciprocalOfExtremes, lane, 1.0 / static_cast<double>(x));
    WantFloat(kTanh, lane, std::tanh(static_cast<double>(In(6))));
    WantFloat(kTanh + 1, lane, std::tanh(static_cast<double>(In(7)) * 8));
    WantFloat(kTanh + 2, lane, std::tanh(static_cast<double>(In(8)) / 512));
    WantFloat(kTanhOfExtremes, lane, std::tanh(static_cast<double>(x)));
    WantScale(kScale, lane, In(9), 10);
    WantScale(kScale + 2, lane, x, 12);
    WantScale(kScale + 4, lane, y, 10);
    Want(kPack, lane, NearestHalf(In(10)) | NearestHalf(In(11)) << 16);
    Want(kPack + 1, lane, NearestHalf(x) | NearestHalf(y) << 16);
    WantFloat(kLowHalf, lane, ValueOfHalf(Word(warp_, 2, lane) & 0xffff));
    WantFloat(kHighHalf, lane, ValueOfHalf(Word(warp_, 2, lane) >> 16));

    for (int i = 0; i < 5; ++i) Want(kShuffleXor + i, lane, Word(warp_, 0, lane ^ (1 << i)));
    Want(kShuffle, lane, Word(warp_, 0, lane * kShuffleStride % kLanes));
    for (int i = 0; i < 4; ++i) Want(kShuffleInFour + i, lane, Word(warp_, 0, (lane & ~3) | i));
    Want(kOpaque, lane, Word(warp_, 0, lane));
    WantInt(kOpaque + 1, lane, warp_ % kWarps);
    WantInt(kLanes_, lane, lane * 3);
    WantInt(kLanes_ + 1, lane, lane == 7 ? 1007 : lane);
    WantInt(kLanes_ + 2, lane, lane * 7);
    Want(kMovmatrix, lane, Transposed(0, lane));

    Want(kGlobalIf, lane, odd ? Word(warp_, 0, other) : 0);
    const auto wide =
        static_cast<uint64_t>(launch_.longs[static_cast<size_t>(warp_ * kLanes + other)]);
    for (int i = 0; i < 2; ++i) {
      Want(kGlobalLong + i, lane, static_cast<uint32_t>(wide >> (32 * i)));
      Want(kGlobalLong + 2 + i, lane, odd ? static_cast<uint32_t>(wide >> (32 * i)) : 0);
    }
    Want(kUniform, lane, AsBits(Float(warp_, 0, 19)));
    const auto words = static_cast<size_t>(warp_) * kWordLines * kLanes;
    Want(kUniform + 1, lane, launch_.words[words + kLanes + 21]);
    Want(kUniform + 2, lane,
         static_cast<uint32_t>(launch_.longs[static_cast<size_t>(warp_ * kLanes + 5)]));
    const uint32_t half = Word(warp_, 0, other / 2) >> (16 * (other % 2)) & 0xffff;
    for (int i = 0; i < 4; i += 2) {
      WantFloat(kGlobalHalf + i, lane, odd ? ValueOfHalf(half) : 0);
      WantFloat(kGlobalHalf + i + 1, lane, odd ? AsFloat(half << 16) : 0);
    }
    for (int i = 0; i < 4; ++i) {
      Want(kGlobalFloatsIf + i, lane, odd ? Word(warp_, 0, other * 4 + i) : 0);
      // in a load of four words per lane, lane l gets the l-th group of four consecutive words
      const uint32_t quad = launch_.words[words + static_cast<size_t>(other * 4 + i)];
      Want(kGlobalFloats + i, lane, Word(warp_, 0, other * 4 + i));
      Want(kGlobalQuad + i, lane, quad);
      Want(kGlobalQuadIf + i, lane, odd ? quad : 0);
    }
    for (int i = 0; i < 2; ++i) Want(kGlobalPair + i, lane, Word(warp_, 0, other * 2 + i));

    Want(kStore, lane, Word(warp_, odd ? 1 : 0, lane));
    for (int i = 0; i < 2; ++i) {
      const float low = i == 0 ? In(10) : x, high = i == 0 ? In(11) : y;
      Want(kStoreHalf + i, other, NearestHalf(low) | NearestHalf(high) << 16);
      Want(kStoreBfloat + i, other, NearestBfloat(low) | NearestBfloat(high) << 16);
    }
    for (int i = 0; i < 4; ++i) {
      const int at = other * 4 + i;
      Want(kStoreFloats + at / kLanes, at % kLanes, odd ? AsBits(In(i)) : Word(warp_, i, lane));
      Want(kStoreQuad + at / kLanes, at % kLanes, Word(warp_, 3 - i, lane));
      if (i < 2) {
        const int pair_at = other * 2 + i;
        Want(kStorePair + pair_at / kLanes, pair_at % kLanes, Word(warp_, i, lane));
      }
    }
    const float first = lane < 4 ? std::fabs(Float(warp_, lane, 0)) : 0.0f;
    const float second = lane < 3 ? std::fabs(Float(warp_, lane + 1, 0)) : 0.0f;
    WantFloat(kAtomicMax, lane, std::max(first, second));
    for (int i = 0; i < 2; ++i) {
      const bool on = i == 0 || odd;
      Want(kFresh + i, lane, on ? AsBits(Float(other_rank, 4, other)) : 0);
    }

    // the quads take 16 bytes per lane, so byte 128 is where the quads of lanes 8 to 15 begin
    Want(kSharedQuad, lane, Word(warp_, lane % 4, 8 + lane / 4));
    for (int i = 0; i < 4; ++i) {
      Want(kSharedQuad + 1 + i, lane, Word(warp_, i, other));
      Want(kSharedFloats + i, lane, Word(warp_, other % 2 == 1 ? (i + 3) % 4 : i, other));
      // lanes 8 i .. 8 i + 7 stored matrix i, one row each
      Want(kLdmatrix + i, lane, Word(warp_, lane % 4, 8 * i + lane / 4));
      Want(kStmatrices + i, lane, Transposed(i, lane));
      Want(kCopyQuad + i, lane, other % 2 == 1 ? Word(warp_, 0, lane * 4 + i) : 0);
    }
    Want(kStmatrix, lane, Transposed(1, lane));
    for (int i = 0; i < 2; ++i) {
      Want(kSharedPair + i, lane, AsBits(Float(warp_, i + (other % 2 == 1 ? 2 : 0), other)));
      Want(kCopyPair + i, lane, Word(warp_, 0, lane * 2 + i));
    }
    Want(kCopyWord, lane, other > 12 ? Word(warp_, 0, lane) : 0);

    // the first half of the lanes stored two words each
    for (int i = 0; i < 3; ++i) {
      Want(i == 0 ? kSyncCta : kArrive + i - 1, lane,
           AsBits(Float(other_warp, 2 * i + other % 2, other / 2)));
    }
    for (int phase = 0; phase < 2; ++phase) {
      const int from = phase == 0 ? other_rank : warp_;
      Want(kSendWord + phase, lane, Word(from, 2 * phase, other));
      Want(kSendPair + 2 * phase, lane, Word(from, 2 * phase, other));
      Want(kSendPair + 2 * phase + 1, lane, Word(from, 2 * phase + 1, other));
    }
    WantInt(kIsLast, lane, rank == 1);
    WantInt(kIsLast + 1, lane, rank == 0);
    WantInt(kIsLast + 2, lane, rank == 0);
  }

  const Launch& launch_;
  int warp_ = 0;
  std::vector<Wanted> wanted_;
};

// ---- comparison

struct Kind {
  const char* what;
  int first, last;
  Rule rule;
  double allowed;
};
const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kinds = {
#define BRIDGE_KIND(name, n, what, rule, allowed) {what, name, name##End, Rule::rule, allowed},
      BRIDGE_ROWS(BRIDGE_KIND)
#undef BRIDGE_KIND
  };
  return kinds;
}
const char* Unit(Rule rule) {
  switch (rule) {
    case Rule::kUlps:
      return "ulps";
    case Rule::kShare:
      return "2^-11 of it";
    case Rule::kOfSum:
      return "2^-24 of the sum of magnitudes";
    default:
      return "none";
  }
}

// .ftz treats denormals as 0, so their reciprocals (2^126 or more) are infinity. A value within
// rounding of a limit is treated as if it were beyond the limit, so either result is right.
float Flushed(float x, bool is_reciprocal) {
  if (std::fabs(x) < FLT_MIN * 1.00001f) return 0.0f;
  if (is_reciprocal && std::fabs(x) > 0x1p126f * 0.99999f) return std::copysign(INFINITY, x);
  return x;
}

double Off(const Kind& kind, uint32_t x_bits, uint32_t y_bits, double scale) {
  if (kind.rule == Rule::kBits) return x_bits == y_bits ? 0 : kWrong;
  if (kind.rule == Rule::kHalves) {
    for (int half = 0; half < 2; ++half) {
      const uint32_t x = (x_bits >> (16 * half)) & 0xffff, y = (y_bits >> (16 * half)) & 0xffff;
      const bool both_nan = std::isnan(ValueOfHalf(x)) && std::isnan(ValueOfHalf(y));
      if (x != y && !both_nan) return kWrong;
    }
    return 0;
  }
  float x = AsFloat(x_bits), y = AsFloat(y_bits);
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y) ? 0 : kWrong;
  if (kind.rule == Rule::kNumber) return x == y ? 0 : kWrong;
  if (kind.rule == Rule::kOfSum) {
    if (!std::isfinite(x)) return kWrong;
    return std::fabs(static_cast<double>(x) - y) / (scale * 0x1p-24);
  }
  const bool is_reciprocal = kind.first == kReciprocal || kind.first == kReciprocalOfExtremes;
  x = Flushed(x, is_reciprocal), y = Flushed(y, is_reciprocal);
  if (x == y) return 0;
  if (!std::isfinite(x) || !std::isfinite(y) || std::signbit(x) != std::signbit(y)) return kWrong;
  if (kind.rule == Rule::kUlps) {
    return std::fabs(static_cast<double>(AsBits(x)) - static_cast<double>(AsBits(y)));
  }
  return std::fabs(static_cast<double>(x) - y) / std::fabs(static_cast<double>(y)) * 2048;
}

// The emulator and the device may each deviate by the manual's tolerance, so the limit is doubled.
double AllowedBesideEmulator(const Kind& kind) { return 2 * kind.allowed; }

std::string Text(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", x);
  return std::isfinite(x) ? text : "wrong";
}

}  // namespace

std::vector<uint32_t> Poisoned(uint32_t poison) {
  return std::vector<uint32_t>(static_cast<size_t>(kAllWarps) * kRows * kLanes, poison);
}

Launch::Launch(std::mt19937_64& random)
    : floats(static_cast<size_t>(kAllWarps) * kFloatLines * kLanes),
      words(static_cast<size_t>(kAllWarps) * kWordLines * kLanes),
      longs(static_cast<size_t>(kAllWarps) * kLanes) {
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < floats.size(); ++i) {
    const int line = static_cast<int>(i / kLanes % kFloatLines);
    floats[i] = line < kAny       ? normal(random)
                : line < kExtreme ? AsFloat(static_cast<uint32_t>(random()))
                                  : Extreme(random);
  }
  for (uint32_t& word : words) word = static_cast<uint32_t>(random());
  // adding 0 preserves all bits of a normal number, but not of other numbers
  for (size_t i = kLanes; i < words.size(); i += kWordLines * kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) words[i + lane] = AsBits(normal(random));
  }
  for (int64_t& x : longs) x = static_cast<int64_t>(random());
}

std::vector<uint32_t> Emulated(const Launch& launch, uint32_t seed) {
  return emulator::RunProbe(launch, kEmulatorPoison, seed);
}

Verdict::Verdict() : rows_(Kinds().size()) {}

void Verdict::Add(const Launch& launch, const std::vector<uint32_t>& device,
                  const std::vector<uint32_t>& emulated) {
  const Manual manual(launch);
  for (int warp = 0; warp < kAllWarps; ++warp) {
    for (size_t k = 0; k < rows_.size(); ++k) {
      const Kind& kind = Kinds()[k];
      Of& of = rows_[k];
      for (int row = kind.first; row <= kind.last; ++row) {
        for (int lane = 0; lane < kLanes; ++lane) {
          const auto at = static_cast<size_t>((warp * kRows + row) * kLanes + lane);
          const Wanted& wanted = manual.wanted()[at];
          const double beside_emulator = Off(kind, device[at], emulated[at], wanted.scale);
          const double beside_manual = Off(kind, device[at], wanted.bits, wanted.scale);
          of.beside_emulator = std::max(of.beside_emulator, beside_emulator);
          of.beside_manual = std::max(of.beside_manual, beside_manual);
          const bool right =
              beside_emulator <= AllowedBesideEmulator(kind) && beside_manual <= kind.allowed;
          if (right || !of.first_wrong.empty()) continue;
          char text[200];
          std::snprintf(text, sizeof(text),
                        "result %d, rank %d, warp %d, lane %d: device %08x %g, emulator %08x %g, "
                        "manual %08x %g",
                        row - kind.first, warp / kWarps % kCtas, warp % kWarps, lane, device[at],
                        static_cast<double>(AsFloat(device[at])), emulated[at],
                        static_cast<double>(AsFloat(emulated[at])), wanted.bits,
                        static_cast<double>(AsFloat(wanted.bits)));
          of.first_wrong = text;
        }
      }
    }
  }
}

bool Verdict::Report() const {
  bool right = true;
  std::fprintf(stderr, "%-4s %-56s %9s %9s %9s  %s\n", "", "", "emulator", "manual", "allowed",
               "unit");
  for (size_t k = 0; k < rows_.size(); ++k) {
    const Of& of = rows_[k];
    const Kind& kind = Kinds()[k];
    const bool is_right = of.first_wrong.empty();
    right = right && is_right;
    std::fprintf(stderr, "%-4s %-56s %9s %9s %9s  %s\n", is_right ? "ok" : "BAD", kind.what,
                 Text(of.beside_emulator).c_str(), Text(of.beside_manual).c_str(),
                 Text(kind.allowed).c_str(), kind.allowed == 0 ? "" : Unit(kind.rule));
    if (!is_right) std::fprintf(stderr, "     %s\n", of.first_wrong.c_str());
  }
  return right;
}

std::vector<std::string> Verdict::Json() const {
  auto Number = [](double x) { return std::isfinite(x) ? Text(x) : "null"; };
  std::vector<std::string> rows;
  for (size_t k = 0; k < rows_.size(); ++k) {
    const Of& of = rows_[k];
    const Kind& kind = Kinds()[k];
    std::string row = std::string("{\"what\": \"") + kind.what + "\", \"unit\": \"" +
                      Unit(kind.rule) + "\", \"beside_emulator\": " + Number(of.beside_emulator) +
                      ", \"beside_manual\": " + Number(of.beside_manual) +
                      ", \"allowed\": " + Number(kind.allowed) +
                      ", \"right\": " + (of.first_wrong.empty() ? "true" : "false");
    if (!of.first_wrong.empty()) row += ", \"first_wrong\": \"" + of.first_wrong + "\"";
    rows.push_back(row + "}");
  }
  return rows;
}

}  // namespace bridge
