// Compares the window and moments loops with plain implementations of their contracts. Arrays end
// where their allocation ends, so that AddressSanitizer detects every overrun.
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "harness.h"
#include "signal/moments.h"
#include "signal/signal_kernels.h"
#include "signal/window.h"

namespace {

using harness::Array;
using harness::Check;
using harness::Exact;
using sensorseq::signal::MapWindows;
using sensorseq::signal::Moments;
using sensorseq::signal::NotFinite;
using sensorseq::signal::SignalKernels;
using sensorseq::signal::WindowMap;
using sensorseq::signal::WindowsFit;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const SignalKernels* g_kernels = nullptr;  // of the instruction set that is tested

enum class Lengths { kNull, kZero, kFull, kMixed };
constexpr Lengths kLengths[] = {Lengths::kNull, Lengths::kZero, Lengths::kFull, Lengths::kMixed};

std::vector<int64_t> MakeLengths(Lengths kind, int64_t N, int64_t T) {
  std::vector<int64_t> lengths(N);
  for (int64_t n = 0; n < N; ++n) {
    lengths[n] = kind == Lengths::kZero ? 0 : kind == Lengths::kMixed ? (n * 5 + 1) % (T + 1) : T;
  }
  return lengths;
}

Array RandomArray(std::mt19937* random, int64_t n) {
  std::normal_distribution<double> normal(3.0, 20.0);
  Array values(n);
  for (double& value : values) value = normal(*random);
  return values;
}

// Integers in an array that ends where its allocation ends.
Exact<int64_t> ExactIntegers(const std::vector<int64_t>& values) {
  Exact<int64_t> exact(values.size());
  for (size_t i = 0; i < values.size(); ++i) exact.data()[i] = values[i];
  return exact;
}

enum class Map { kAsIs, kForward, kInverse };

template <typename Real, typename Out>
void CheckMap(int64_t N, int64_t T, int64_t C, Lengths kind, Map map) {
  std::mt19937 random(static_cast<unsigned>(N * 1000 + T * 10 + C));
  const std::vector<int64_t> lengths = MakeLengths(kind, N, T);
  const int64_t S = T + 7;
  Exact<Real> values(RandomArray(&random, S * C));
  Exact<double> center(RandomArray(&random, C));
  Array scales = RandomArray(&random, C);
  for (double& scale : scales) scale = std::abs(scale) + 0.5;
  Exact<double> scale(scales);
  Exact<Out> out(static_cast<size_t>(N * T * C));
  std::vector<int64_t> begin(N);
  // the first window begins with the first sample, and the last window ends with the last sample
  for (int64_t n = 0; n < N; ++n) begin[n] = n == N - 1 && n > 0 ? S - lengths[n] : (n * 3) % 8;
  Exact<int64_t> starts = ExactIntegers(begin), steps = ExactIntegers(lengths);
  const bool scaled = map != Map::kAsIs;
  const WindowMap<Real, Out> args{S,
                                  N,
                                  T,
                                  C,
                                  values.data(),
                                  starts.data(),
                                  kind == Lengths::kNull ? nullptr : steps.data(),
                                  scaled ? center.data() : nullptr,
                                  scaled ? scale.data() : nullptr,
                                  map == Map::kInverse,
                                  out.data()};
  const std::string name = "N=" + std::to_string(N) + " T=" + std::to_string(T) +
                           " C=" + std::to_string(C) + " lengths " +
                           std::to_string(static_cast<int>(kind)) + " map " +
                           std::to_string(static_cast<int>(map)) + " bytes " +
                           std::to_string(sizeof(Real)) + " to " + std::to_string(sizeof(Out));
  Check(WindowsFit(args), name + ": fits");
  const NotFinite bad = MapWindows(g_kernels->pass, args);
  Check(bad.given == -1 && bad.overflown == -1, name + ": everything is finite");
  bool same = true;
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t c = 0; c < C; ++c) {
        Out expected = 0;
        if (t < lengths[n]) {
          const double x = values.data()[(begin[n] + t) * C + c];
          const double a = center.data()[c], b = scale.data()[c];
          expected = static_cast<Out>(!scaled ? x : map == Map::kForward ? (x - a) / b : x * b + a);
        }
        same = same && out.data()[(n * T + t) * C + c] == expected;
      }
    }
  }
  Check(same, name + ": each value is its own, rounded once");
  Check(out.sentinel_intact() && values.sentinel_intact(), name + ": writes only its output");
}

void CheckMaps() {
  std::vector<int64_t> channels{1, 2, 3, 4, 5, 6, 7, 8, 9, 383, 384, 385, 400};
  for (int64_t N : {0, 1, 2, 5}) {
    for (int64_t T : {1, 2, 17}) {
      for (int64_t C : channels) {
        for (Lengths kind : kLengths) {
          for (Map map : {Map::kAsIs, Map::kForward, Map::kInverse}) {
            CheckMap<float, float>(N, T, C, kind, map);
            CheckMap<double, float>(N, T, C, kind, map);
            CheckMap<float, double>(N, T, C, kind, map);
            CheckMap<double, double>(N, T, C, kind, map);
          }
        }
      }
    }
  }
}

void CheckWhatIsNotFinite() {
  constexpr int64_t S = 12, N = 3, T = 4, C = 2;
  const std::vector<int64_t> begin{0, 4, 8}, lengths{4, 3, 4};
  Exact<int64_t> starts = ExactIntegers(begin), steps = ExactIntegers(lengths);
  Exact<double> center(Array(C, 0.0)), scale(Array(C, 1.0));
  for (bool scaled : {false, true}) {
    for (int64_t at = 0; at < S * C; ++at) {
      for (double bad : {kNan, kInfinity, -kInfinity, 1e300}) {
        Array raw(S * C, 1.0);
        raw[at] = bad;
        Exact<double> values(raw);
        Exact<float> out(N * T * C);
        const WindowMap<double, float> args{S,
                                            N,
                                            T,
                                            C,
                                            values.data(),
                                            starts.data(),
                                            steps.data(),
                                            scaled ? center.data() : nullptr,
                                            scaled ? scale.data() : nullptr,
                                            false,
                                            out.data()};
        const NotFinite places = MapWindows(g_kernels->pass, args);
        const bool read = at / C != 7;  // the step beyond the second window's length
        const int64_t expected = read ? at : -1;
        const bool overflows = std::isfinite(bad);
        Check(places.given == (overflows ? -1 : expected), "NaN and infinity are found");
        Check(places.overflown == (overflows ? expected : -1), "values beyond float are found");
      }
    }
  }
}

void CheckFit() {
  constexpr int64_t S = 10, T = 4;
  Exact<float> values(S), out(T);
  const auto fits = [&](int64_t start, int64_t length) {
    Exact<int64_t> starts = ExactIntegers({start}), steps = ExactIntegers({length});
    return WindowsFit(WindowMap<float, float>{S, 1, T, 1, values.data(), starts.data(),
                                              steps.data(), nullptr, nullptr, false, out.data()});
  };
  Check(fits(0, 4) && fits(6, 4) && fits(10, 0) && fits(7, 3), "windows inside fit");
  Check(!fits(-1, 4) && !fits(7, 4) && !fits(0, 5) && !fits(0, -1) && !fits(11, 0),
        "windows outside do not fit");
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  Check(!fits(kHuge, 4) && !fits(0, kHuge) && !fits(-kHuge - 1, 4), "absurd windows do not fit");
}

struct Summary {
  explicit Summary(const Moments& moments)
      : mean(moments.n_channels()),
        m2(moments.n_channels()),
        low(moments.n_channels()),
        high(moments.n_channels()) {
    count = moments.Summarize(mean.data(), m2.data(), low.data(), high.data());
  }
  bool operator==(const Summary& other) const {
    if (count != other.count) return false;
    for (size_t c = 0; c < mean.size(); ++c) {
      if (mean.data()[c] != other.mean.data()[c] || m2.data()[c] != other.m2.data()[c] ||
          low.data()[c] != other.low.data()[c] || high.data()[c] != other.high.data()[c]) {
        return false;
      }
    }
    return true;
  }
  int64_t count;
  mutable Exact<double> mean, m2, low, high;
};

template <typename Real>
void CheckMoments(int64_t N, int64_t T, int64_t C, Lengths kind, double offset) {
  std::mt19937 random(static_cast<unsigned>(N * 1000 + T * 10 + C));
  const std::vector<int64_t> lengths = MakeLengths(kind, N, T);
  Array raw = RandomArray(&random, N * T * C);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t i = 0; i < T * C; ++i) {
      double& value = raw[n * T * C + i];
      value = i / C < lengths[n] ? value + offset : kNan;  // not to be read
    }
  }
  Exact<Real> x(raw);
  Exact<int64_t> steps = ExactIntegers(lengths);
  const int64_t* by = kind == Lengths::kNull ? nullptr : steps.data();
  const std::string name = "moments N=" + std::to_string(N) + " T=" + std::to_string(T) +
                           " C=" + std::to_string(C) + " lengths " +
                           std::to_string(static_cast<int>(kind));
  Moments whole(g_kernels->pass, C);
  Check(whole.Add(x.data(), N, T, by) == -1, name + ": everything is finite");
  const Summary summary(whole);
  for (int64_t c = 0; c < C; ++c) {
    long double sum = 0, square = 0;
    double low = kInfinity, high = -kInfinity;
    int64_t count = 0;
    const auto each = [&](auto use) {
      for (int64_t n = 0; n < N; ++n) {
        for (int64_t t = 0; t < lengths[n]; ++t) use(double(x.data()[(n * T + t) * C + c]));
      }
    };
    each([&](double value) {
      sum += value;
      low = std::min(low, value);
      high = std::max(high, value);
      ++count;
    });
    Check(summary.count == count, name + ": counts the valid steps");
    if (count == 0) continue;
    const long double mean = sum / count;
    each([&](double value) { square += (value - mean) * (value - mean); });
    Check(summary.low.data()[c] == low && summary.high.data()[c] == high, name + ": extremes");
    Check(std::abs(summary.mean.data()[c] - double(mean)) <= 1e-14 * (std::abs(offset) + 100),
          name + ": mean");
    Check(std::abs(summary.m2.data()[c] - double(square)) <= 1e-12 * double(square), name + ": m2");
  }
  for (int64_t cut = 0; cut <= N; ++cut) {
    Moments parts(g_kernels->pass, C);
    parts.Add(x.data(), cut, T, by);
    parts.Add(x.data() + cut * T * C, N - cut, T, by == nullptr ? nullptr : by + cut);
    Check(Summary(parts) == summary, name + ": the bits do not depend on the blocks");
  }
}

void CheckAllMoments() {
  for (int64_t N : {0, 1, 5}) {
    for (int64_t T : {1, 2, 17, 511, 512, 513}) {
      for (int64_t C : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
        for (Lengths kind : kLengths) {
          CheckMoments<float>(N, T, C, kind, 0.0);
          CheckMoments<double>(N, T, C, kind, 1e8);
        }
      }
    }
  }
  constexpr int64_t N = 3, T = 300, C = 3;
  const std::vector<int64_t> lengths{300, 299, 300};
  Exact<int64_t> steps = ExactIntegers(lengths);
  for (int64_t at : {0L, 1L, 2L, 899L, 900L, N * T * C - 1, 2 * T * C - 1}) {
    for (double bad : {kNan, kInfinity, -kInfinity}) {
      Array raw(N * T * C, 1.0);
      raw[at] = bad;
      Exact<float> x(raw);
      const bool valid = at / C != 2 * T - 1;
      Check(Moments(g_kernels->pass, C).Add(x.data(), N, T, steps.data()) == (valid ? at : -1),
            "the first value that is not finite is found");
    }
  }
}

// Checks every instruction set and every remainder after complete vectors.
void CheckTheSameBits() {
  const auto table = sensorseq::signal::AllSignalKernels();
  const auto& plain = table.rows[table.n_rows - 1]->pass;
  for (int64_t i = 0; i + 1 < table.n_rows; ++i) {
    if (!table.rows[i]->is_supported()) continue;
    for (int64_t T = 1; T < 600; T += T < 70 ? 1 : 97) {
      std::mt19937 random(static_cast<unsigned>(T));
      Exact<float> x(RandomArray(&random, T * 5));
      Moments baseline(plain, 5), wider(table.rows[i]->pass, 5);
      baseline.Add(x.data(), 1, T, nullptr);
      wider.Add(x.data(), 1, T, nullptr);
      Check(Summary(baseline) == Summary(wider),
            "moments have the same bits on every instruction set");
    }
  }
}

void CheckForced() {
  using sensorseq::Status;
  const auto table = sensorseq::signal::AllSignalKernels();
  Status status;
  setenv("SENSORSEQ_CPU_ISA", "baseline", 1);
  const SignalKernels* kernels = table.Active(&status);
  Check(kernels != nullptr && std::string(kernels->name) == "baseline", "the forced one serves");
  setenv("SENSORSEQ_CPU_ISA", "mmx", 1);
  Check(table.Active(&status) == nullptr && status == Status::kUnknownIsa, "mmx is unknown");
#if defined(__aarch64__)
  const char* const foreign = "avx2";
#else
  const char* const foreign = "neon";
#endif
  setenv("SENSORSEQ_CPU_ISA", foreign, 1);
  Check(table.Active(&status) == nullptr && status == Status::kIsaNotSupported,
        "another processor's is not supported");
  unsetenv("SENSORSEQ_CPU_ISA");
  Check(table.Active(&status) != nullptr && status == Status::kOk, "otherwise the best one serves");
}

}  // namespace

int main() {
  CheckFit();
  const auto table = sensorseq::signal::AllSignalKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    g_kernels = table.rows[i];
    if (!g_kernels->is_supported()) {
      std::printf("%s: not on this processor\n", g_kernels->name);
      continue;
    }
    CheckMaps();
    CheckWhatIsNotFinite();
    CheckAllMoments();
    std::printf("%s: checked\n", g_kernels->name);
  }
  CheckTheSameBits();
  CheckForced();
  return harness::Finish();
}
