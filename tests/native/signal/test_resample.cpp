// Compares the streamed filters with a plain loop over the definition, on every instruction set,
// with chunks of any size, any number of channels, and signals shorter than the filter. Every array
// ends where its allocation ends. With the argument "threads", several filters run concurrently.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "harness.h"
#include "signal/resample.h"
#include "signal/signal_kernels.h"

// Counts allocations: see Run. It is not inlined, because GCC would otherwise warn about a
// mismatched pair of new and free.
__attribute__((noinline)) void* operator new(size_t bytes) {
  ++harness::g_allocations;
  void* data = std::malloc(bytes > 0 ? bytes : 1);
  if (data == nullptr) std::abort();
  return data;
}
__attribute__((noinline)) void operator delete(void* data) noexcept { std::free(data); }
__attribute__((noinline)) void operator delete(void* data, size_t) noexcept { std::free(data); }

namespace {

using namespace sensorseq;
using namespace sensorseq::signal;
using namespace harness;

using Random = std::mt19937;

int64_t Draw(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

Array Normal(Random& random, int64_t n) {
  std::normal_distribution<double> normal;
  Array values(static_cast<size_t>(n));
  for (double& value : values) value = static_cast<float>(normal(random));  // exact as floats
  return values;
}

struct Case {
  bool is_table = false;
  Array taps;
  int64_t up = 1, down = 1, delay = 0;  // for a table, `up` is its number of phases
  double ratio = 1;
  Edge edge = Edge::kMirror;
  int64_t n_samples = 0, n_channels = 1;
  Array x;  // (n_samples, n_channels)
};

std::string Name(const Case& c) {
  return std::string(c.is_table ? "table" : "polyphase") +
         " taps=" + std::to_string(c.taps.size()) + " up=" + std::to_string(c.up) +
         " down=" + std::to_string(c.down) + " ratio=" + std::to_string(c.ratio) +
         " delay=" + std::to_string(c.delay) + " edge=" + std::to_string(static_cast<int>(c.edge)) +
         " n=" + std::to_string(c.n_samples) + " channels=" + std::to_string(c.n_channels);
}

// Sample `at` of a channel, reflected at the ends until it is inside.
double At(const Case& c, int64_t channel, int64_t at) {
  const int64_t last = c.n_samples - 1;
  if (at >= 0 && at <= last) return c.x[static_cast<size_t>(at * c.n_channels + channel)];
  const int64_t end = at < 0 ? 0 : last;
  if (c.edge == Edge::kHold || last == 0) return At(c, channel, end);
  const double inside = At(c, channel, 2 * end - at);
  return c.edge == Edge::kMirror ? inside : 2 * At(c, channel, end) - inside;
}

struct Expected {
  Array y;          // (n_outputs, n_channels)
  Array magnitude;  // sum of the magnitudes of each output's terms
};

Expected ByDefinition(const Case& c) {
  Expected e;
  const auto n_taps = static_cast<int64_t>(c.taps.size());
  const int64_t n_outputs =
      c.is_table
          ? static_cast<int64_t>(std::ceil(static_cast<double>(c.n_samples) * c.ratio - 1e-9))
          : (c.n_samples * c.up + c.down - 1) / c.down;
  for (int64_t m = 0; m < n_outputs; ++m) {
    for (int64_t channel = 0; channel < c.n_channels; ++channel) {
      double sum = 0, magnitude = 0, total = 0;
      const auto add = [&](double weight, int64_t at) {
        const double term = weight * At(c, channel, at);
        sum += term;
        total += weight;
        magnitude += std::fabs(term);
      };
      if (c.is_table) {
        const double position = static_cast<double>(m) / c.ratio;
        const int64_t reach = (n_taps / 2 + 1) / c.up + 1;
        const auto middle = static_cast<int64_t>(std::floor(position));
        for (int64_t at = middle - reach; at <= middle + reach + 1; ++at) {
          const double place = (position - static_cast<double>(at)) * static_cast<double>(c.up);
          const auto left = static_cast<int64_t>(std::floor(place));
          const auto tap = [&](int64_t k) {
            k += n_taps / 2;
            return k >= 0 && k < n_taps ? c.taps[static_cast<size_t>(k)] : 0.0;
          };
          const double part = place - static_cast<double>(left);
          add((1 - part) * tap(left) + part * tap(left + 1), at);
        }
        sum /= total;
        magnitude /= std::fabs(total);
      } else {
        const int64_t at = m * c.down + c.delay;
        for (int64_t k = 0; k < n_taps; ++k) {
          const int64_t sample = at - k >= 0 ? (at - k) / c.up : -((k - at + c.up - 1) / c.up);
          if (sample * c.up == at - k) add(c.taps[static_cast<size_t>(k)], sample);
        }
      }
      e.y.push_back(sum);
      e.magnitude.push_back(magnitude);
    }
  }
  return e;
}

// Pushes chunks of the sizes that `next` returns, each chunk in a separate allocation.
template <typename Real, typename Filter>
std::vector<Real> Run(Filter& filter, const Case& c, int64_t channel, int64_t n_channels,
                      const std::function<int64_t()>& next) {
  std::vector<Real> y;
  const auto take = [&](int64_t n_outputs, const std::function<void(Real*)>& write) {
    Exact<Real> part(static_cast<size_t>(n_outputs * n_channels));
    const int64_t before = g_allocations;
    write(part.or_null(true));
    const bool allocates = g_allocations != before;  // compared before the message is allocated
    Check(!allocates, "a filter does not allocate after it is made");
    Check(part.sentinel_intact(), "memory before the outputs is not written");
    y.insert(y.end(), part.data(), part.data() + part.size());
  };
  for (int64_t start = 0; start < c.n_samples;) {
    const int64_t n = std::min(next(), c.n_samples - start);
    Exact<Real> chunk(static_cast<size_t>(n * n_channels));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < n_channels; ++k) {
        chunk.data()[i * n_channels + k] =
            static_cast<Real>(c.x[static_cast<size_t>((start + i) * c.n_channels + channel + k)]);
      }
    }
    take(filter.n_outputs_of_push(n), [&](Real* to) { filter.Push(chunk.or_null(true), n, to); });
    start += n;
  }
  take(filter.n_outputs_of_end(0), [&](Real* to) { filter.Flush(to); });
  return y;
}

template <typename Real, typename Make>
void CheckOn(const Case& c, const Expected& expected, const Make& make, Random& random) {
  const std::string name = Name(c) + (sizeof(Real) == 4 ? " float" : " double");
  auto filter = make(c.n_channels);
  const auto whole = Run<Real>(filter, c, 0, c.n_channels, [&] { return c.n_samples; });
  Check(whole.size() == expected.y.size(), name + ": number of outputs");
  if (whole.size() != expected.y.size()) return;
  const double rounding = sizeof(Real) == 4 ? 6e-8 : 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    const double bound =
        expected.magnitude[i] * 1e-12 + rounding * std::fabs(expected.y[i]) + 1e-300;
    Check(std::fabs(static_cast<double>(whole[i]) - expected.y[i]) <= bound,
          name + ": output " + std::to_string(i) + " is " + std::to_string(whole[i]) + ", not " +
              std::to_string(expected.y[i]));
  }
  // the same filter again, after its flush
  const int64_t most = Draw(random, 0, 1) == 0 ? 3 : 1 + c.n_samples / 3;
  const auto chunked = Run<Real>(filter, c, 0, c.n_channels, [&] { return Draw(random, 0, most); });
  Check(chunked == whole, name + ": chunks");
  const int64_t channel = Draw(random, 0, c.n_channels - 1);
  auto other = make(1);
  const auto alone = Run<Real>(other, c, channel, 1, [&] { return Draw(random, 0, 2 * most); });
  for (size_t m = 0; m < alone.size(); ++m) {
    const size_t i = m * static_cast<size_t>(c.n_channels) + static_cast<size_t>(channel);
    Check(alone[m] == whole[i], name + ": a channel alone");
  }
}

void CheckCase(const Case& c, Random& random) {
  Status status = Status::kOk;
  const SignalKernels* active = AllSignalKernels().Active(&status);
  Check(active != nullptr, "no kernels");
  if (active == nullptr) return;
  const FirKernels* kernels = &active->fir;
  const Expected expected = ByDefinition(c);
  const auto n_taps = static_cast<int64_t>(c.taps.size());
  Exact<double> taps(c.taps);
  const auto check = [&](const auto& make) {
    CheckOn<float>(c, expected, make, random);
    CheckOn<double>(c, expected, make, random);
  };
  if (c.is_table) {
    check([&](int64_t n_channels) {
      return TableFilter(TableTaps(taps.data(), n_taps, c.up, c.ratio, *kernels), n_channels,
                         c.edge, *kernels);
    });
  } else {
    check([&](int64_t n_channels) {
      return PolyphaseFilter(PolyphaseTaps(taps.data(), n_taps, c.up, c.down, c.delay, *kernels),
                             n_channels, c.edge, *kernels);
    });
  }
}

Case MakeCase(Random& random, bool is_table, int64_t n_taps, int64_t n_samples) {
  Case c;
  c.is_table = is_table;
  c.n_channels = Draw(random, 1, 9);
  c.n_samples = n_samples;
  c.edge = static_cast<Edge>(Draw(random, 0, 2));
  c.up = Draw(random, 1, 6);
  c.down = Draw(random, 1, 6);
  if (is_table) {
    const int64_t half = c.up + n_taps;
    for (int64_t k = -half; k <= half; ++k) {  // positive, so that sums of weights are not near 0
      c.taps.push_back(1 + std::cos(3.14 * static_cast<double>(k) / static_cast<double>(half)));
    }
    c.delay = half;
    c.ratio = std::uniform_real_distribution<double>(0.1, 6)(random);
  } else {
    c.taps = Normal(random, n_taps);
    c.delay = c.edge == Edge::kHold ? Draw(random, 0, 2 * n_taps) : n_taps / 2;
    // mirrored edges need filters that look ahead as far as they look back
    if (c.edge != Edge::kHold && n_taps % 2 == 0) c.delay = n_taps;
  }
  c.x = Normal(random, n_samples * c.n_channels);
  return c;
}

void CheckAll() {
  Random random(0);
  for (const bool is_table : {false, true}) {
    for (int64_t n_taps = 1; n_taps <= 40; ++n_taps) {
      for (const int64_t n_samples : {int64_t{0}, int64_t{1}, int64_t{2}, Draw(random, 3, 90)}) {
        CheckCase(MakeCase(random, is_table, n_taps, n_samples), random);
      }
    }
    // rows that are moved repeatedly
    for (int i = 0; i < 3; ++i) {
      CheckCase(MakeCase(random, is_table, Draw(random, 1, 300), 4000), random);
    }
  }
}

void CheckThreads() {
  Random random(1);
  const Case c = MakeCase(random, false, 101, 3000);
  Status status = Status::kOk;
  const FirKernels* kernels = &AllSignalKernels().Active(&status)->fir;
  std::vector<std::vector<double>> outputs(6);
  std::vector<std::thread> threads;
  for (std::vector<double>& y : outputs) {
    threads.emplace_back([&] {
      PolyphaseFilter filter(PolyphaseTaps(c.taps.data(), 101, c.up, c.down, c.delay, *kernels),
                             c.n_channels, c.edge, *kernels);
      y.resize(static_cast<size_t>(filter.n_outputs_of_push(c.n_samples) * c.n_channels));
      filter.Push(c.x.data(), c.n_samples, y.data());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<double>& y : outputs) {
    Check(y == outputs[0] && !y.empty(), "threads differ");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool has_threads = argc > 1 && std::string(argv[1]) == "threads";
  ForEachIsa([&](const Kernels& kernels, int64_t) {
    Status status = Status::kOk;
    const SignalKernels* active = AllSignalKernels().Active(&status);
    Check(active != nullptr && std::string(active->name) == kernels.name, "another is active");
    if (has_threads) {
      CheckThreads();
    } else {
      CheckAll();
    }
  });
  setenv("SENSORSEQ_CPU_ISA", "avx3", 1);
  Status status = Status::kOk;
  Check(AllSignalKernels().Active(&status) == nullptr && status == Status::kUnknownIsa,
        "an unknown name");
  return Finish();
}
