// Compares the loops of random convolutions with a plain implementation of their contract, which
// adds in the same order and therefore has the same bits. Arrays end where their allocation ends,
// so that AddressSanitizer detects every overrun.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "harness.h"
#include "signal/random_convolutions.h"
#include "signal/signal_kernels.h"

namespace {

using harness::Array;
using harness::Check;
using harness::Exact;
using sensorseq::signal::CompetitionPlan;
using sensorseq::signal::ConvolutionPlan;
using sensorseq::signal::ConvolvedWindows;
using sensorseq::signal::kFixedKernels;
using sensorseq::signal::SignalKernels;

const SignalKernels* g_kernels = nullptr;  // of the instruction set that is tested

struct Plan {
  Plan(std::mt19937* random, int64_t n_channels, const std::vector<int32_t>& dilations,
       const std::vector<int32_t>& n_biases) {
    std::normal_distribution<float> normal(0.0f, 8.0f);
    Array counts, indices, thresholds;
    for (size_t j = 0; j < dilations.size(); ++j) {
      for (int64_t k = 0; k < kFixedKernels; ++k) {
        counts.push_back(1.0 + (*random)() % 3);
        for (int i = 0; i < counts.back(); ++i) indices.push_back((*random)() % n_channels);
        for (int i = 0; i < n_biases[j]; ++i) thresholds.push_back(std::round(normal(*random)));
      }
    }
    by_dilation = Exact<int32_t>(Array(dilations.begin(), dilations.end()));
    features = Exact<int32_t>(Array(n_biases.begin(), n_biases.end()));
    channel_counts = Exact<int32_t>(counts);
    channels = Exact<int32_t>(indices);
    biases = Exact<float>(thresholds);
    plan = {static_cast<int64_t>(dilations.size()),
            n_channels,
            by_dilation.data(),
            features.data(),
            channel_counts.data(),
            channels.data(),
            biases.data()};
    const char* error =
        PlanError(plan, static_cast<int64_t>(channels.size()), static_cast<int64_t>(biases.size()));
    Check(error == nullptr, "a plan can be used");
  }
  Exact<int32_t> by_dilation{size_t{0}}, features{size_t{0}}, channel_counts{size_t{0}},
      channels{size_t{0}};
  Exact<float> biases{size_t{0}};
  ConvolutionPlan plan{};
};

struct Taps {
  int place[3];
};
std::vector<Taps> AllTaps() {
  std::vector<Taps> all;
  for (int a = 0; a < 9; ++a) {
    for (int b = a + 1; b < 9; ++b) {
      for (int c = b + 1; c < 9; ++c) all.push_back({{a, b, c}});
    }
  }
  return all;
}

// One output, summed in the order of the contract.
float Output(const ConvolvedWindows& windows, int64_t n, int64_t t, int64_t dilation,
             const Taps& taps, const int32_t* channels, int32_t n_channels) {
  const auto at = [&](int tap, int64_t c) {
    const int64_t step = t + tap * dilation;
    if (step < 0 || step >= windows.length(n)) return 0.0f;
    return windows.x[(n * windows.n_timesteps + step) * windows.n_channels + c];
  };
  float all = 0.0f;
  for (int32_t i = 0; i < n_channels; ++i) {
    const int64_t c = channels[i];
    float of_channel = -at(0, c);
    for (int tap = -4; tap <= 4; ++tap) {
      if (tap != 0) of_channel -= at(tap, c);
    }
    for (int place : taps.place) of_channel += 3.0f * at(place - 4, c);
    all = i == 0 ? of_channel : all + of_channel;
  }
  return all;
}

void CheckShares(int64_t N, int64_t T, int64_t C, const std::vector<int32_t>& dilations,
                 const std::vector<int32_t>& n_biases) {
  static const std::vector<Taps> kTaps = AllTaps();
  std::mt19937 random(static_cast<unsigned>(N * 1000 + T * 10 + C));
  std::normal_distribution<double> normal(0.0, 3.0);
  const Plan made(&random, C, dilations, n_biases);
  const ConvolutionPlan& plan = made.plan;
  Array values(N * T * C), steps(N);
  for (int64_t n = 0; n < N; ++n) steps[n] = n == 0 ? T : static_cast<double>(random() % (T + 1));
  for (int64_t i = 0; i < N * T * C; ++i) {
    values[i] = i / C % T < steps[i / C / T] ? normal(random) : std::nan("");  // not to be read
  }
  Exact<float> x(values);
  Exact<int64_t> lengths(steps);
  const ConvolvedWindows windows{N, T, C, x.data(), lengths.data()};
  const std::string name = std::string(g_kernels->name) + " N=" + std::to_string(N) +
                           " T=" + std::to_string(T) + " C=" + std::to_string(C);
  const int64_t n_features = static_cast<int64_t>(made.biases.size());
  Exact<float> shares(N * n_features), threaded(N * n_features);
  Check(ShareAboveBiases(g_kernels->pass, plan, windows, 1, shares.data()) == -1,
        name + ": finite");
  Check(ShareAboveBiases(g_kernels->pass, plan, windows, 3, threaded.data()) == -1,
        name + ": finite");
  for (size_t i = 0; i < shares.size(); ++i) {
    Check(shares.data()[i] == threaded.data()[i], name + ": threads change no bit");
  }
  Check(shares.sentinel_intact() && threaded.sentinel_intact(), name + ": writes nothing else");
  for (int64_t n = 0; n < N; ++n) {
    const int64_t L = windows.length(n);
    const int32_t* channels = plan.channels;
    const float* bias = plan.biases;
    const float* share = shares.data() + n * n_features;
    for (int64_t j = 0; j < plan.n_dilations; ++j) {
      const int64_t d = plan.dilations[j];
      for (int64_t k = 0; k < kFixedKernels; ++k) {
        const int32_t count = plan.channel_counts[j * kFixedKernels + k];
        const int64_t cut = (j + k) % 2 != 0 && L > 8 * d ? 4 * d : 0;
        std::vector<float> outputs;
        for (int64_t t = cut; t < L - cut; ++t) {
          outputs.push_back(Output(windows, n, t, d, kTaps[k], channels, count));
        }
        for (int32_t i = 0; i < plan.n_biases[j]; ++i) {
          int64_t above = 0;
          for (float output : outputs) above += output > bias[i];
          const double expected =
              outputs.empty() ? 0.0 : static_cast<double>(above) / double(outputs.size());
          Check(share[i] == static_cast<float>(expected), name + ": the share above a bias");
        }
        channels += count;
        bias += plan.n_biases[j];
        share += plan.n_biases[j];
      }
    }
  }
}

// Computes the features of a group from its outputs, of which there are 7 for each step.
std::vector<float> Wins(const std::vector<std::vector<float>>& outputs) {
  std::vector<float> sums(7 * 16, 0.0f), features(14, 0.0f);
  if (outputs.empty()) return features;
  std::vector<int> lost(7, 0);
  for (size_t t = 0; t < outputs.size(); ++t) {
    const auto& of_step = outputs[t];
    // the first of equal values
    const auto high = std::max_element(of_step.begin(), of_step.end());
    const auto low = std::min_element(of_step.begin(), of_step.end());
    ++lost[static_cast<size_t>(low - of_step.begin())];
    sums[static_cast<size_t>(high - of_step.begin()) * 16 + t % 16] += *high;
  }
  const float n = static_cast<float>(outputs.size());
  for (size_t i = 0; i < 7; ++i) {
    float* of = sums.data() + 16 * i;
    for (int half = 8; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) of[lane] += of[lane + half];
    }
    features[i] = of[0] > 0.0f ? std::sqrt(of[0] / n) : 0.0f;
    features[7 + i] = std::sqrt(static_cast<float>(lost[i]) / n);
  }
  return features;
}

void CheckWins(int64_t T, int64_t C) {
  static const std::vector<Taps> kTaps = AllTaps();
  constexpr int64_t N = 4, kRounds = 4;
  std::mt19937 random(static_cast<unsigned>(T * 10 + C));
  std::normal_distribution<double> normal(0.0, 3.0);
  Array kernels, counts, indices, values(N * T * C), steps(N);
  for (int64_t i = 0; i < kRounds * kFixedKernels; ++i)
    kernels.push_back(double(random() % 168) - 84);
  for (int64_t i = 0; i < kRounds * 12; ++i) {
    counts.push_back(1.0 + random() % 3);
    for (int k = 0; k < counts.back(); ++k) indices.push_back(random() % C);
  }
  for (int64_t n = 0; n < N; ++n) steps[n] = n == 0 ? T : static_cast<double>(random() % (T + 1));
  for (int64_t i = 0; i < N * T * C; ++i) {
    // integers, so that ties occur; values beyond a window's length must not be read
    values[i] = i / C % T < steps[i / C / T] ? std::round(normal(random)) : std::nan("");
  }
  Exact<int32_t> dilations(Array{1, 3, 1, 8}), series(Array{0, 0, 1, 1}), of(kernels),
      channel_counts(counts), channels(indices);
  Exact<float> x(values), shares(N * kRounds * 168), threaded(N * kRounds * 168);
  Exact<int64_t> lengths(steps);
  const ConvolvedWindows windows{N, T, C, x.data(), lengths.data()};
  const CompetitionPlan plan{kRounds,        C,         dilations.data(),
                             series.data(),  of.data(), channel_counts.data(),
                             channels.data()};
  Check(PlanError(plan, static_cast<int64_t>(channels.size())) == nullptr, "a plan can be used");
  Check(ShareWins(g_kernels->pass, plan, windows, 1, shares.data()) == -1, "wins: finite");
  Check(ShareWins(g_kernels->pass, plan, windows, 3, threaded.data()) == -1, "wins: finite");
  Check(shares.sentinel_intact() && threaded.sentinel_intact(), "wins: writes nothing else");
  for (int64_t n = 0; n < N; ++n) {
    const float* share = shares.data() + n * kRounds * 168;
    const int32_t* group_channels = channels.data();
    for (int64_t r = 0; r < kRounds; ++r) {
      const int64_t less = series.data()[r], L = std::max<int64_t>(0, windows.length(n) - less);
      Array changed(std::max<int64_t>(1, L) * C);
      for (int64_t i = 0; i < L * C; ++i) {
        const float* at = windows.x + n * T * C + i;
        changed[static_cast<size_t>(i)] = less != 0 ? at[C] - at[0] : at[0];
      }
      Exact<float> taken(changed);
      Exact<int64_t> length(Array{double(L)});
      const ConvolvedWindows alone{1, std::max<int64_t>(1, L), C, taken.data(), length.data()};
      for (int64_t g = 0; g < 12; ++g) {
        const int32_t count = channel_counts.data()[r * 12 + g];
        std::vector<std::vector<float>> outputs(static_cast<size_t>(L));
        for (int64_t t = 0; t < L; ++t) {
          for (int64_t i = 0; i < 7; ++i) {
            const int32_t k = of.data()[r * kFixedKernels + g * 7 + i];
            const float y = Output(alone, 0, t, dilations.data()[r], kTaps[k < 0 ? -1 - k : k],
                                   group_channels, count);
            outputs[static_cast<size_t>(t)].push_back(k < 0 ? -y : y);
          }
        }
        for (float expected : Wins(outputs)) {
          Check(*share == expected && threaded.data()[share - shares.data()] == expected,
                "wins and losses of a group");
          ++share;
        }
        group_channels += count;
      }
    }
  }
}

void CheckOutputs(int64_t T, int32_t dilation) {
  static const std::vector<Taps> kTaps = AllTaps();
  constexpr int64_t N = 3, C = 4;
  std::mt19937 random(static_cast<unsigned>(T));
  std::normal_distribution<double> normal(0.0, 3.0);
  const Plan made(&random, C, {dilation}, {0});
  Array values(N * T * C), drawn(kFixedKernels);
  for (double& value : values) value = normal(random);
  for (double& row : drawn) row = static_cast<double>(random() % N);
  Exact<float> x(values), out(kFixedKernels * T);
  Exact<int64_t> lengths(Array{double(T), double(T / 2), 0.0}), rows(drawn);
  const ConvolvedWindows windows{N, T, C, x.data(), lengths.data()};
  ConvolveWindows(g_kernels->pass, made.plan, windows, rows.data(), out.data());
  const int32_t* channels = made.plan.channels;
  for (int64_t k = 0; k < kFixedKernels; ++k) {
    const int64_t n = rows.data()[k];
    const int32_t count = made.plan.channel_counts[k];
    for (int64_t t = 0; t < T; ++t) {
      const float expected = t < windows.length(n)
                                 ? Output(windows, n, t, dilation, kTaps[k], channels, count)
                                 : Exact<float>::kSentinel;
      Check(out.data()[k * T + t] == expected, "outputs of a drawn window, and no others");
    }
    channels += count;
  }
}

void CheckWhatIsNotFinite() {
  std::mt19937 random(1);
  const Plan made(&random, 3, {1, 2}, {1, 2});
  for (double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    Array values(5 * 20 * 3, 1.0);
    values[20 * 3 - 1] = bad;  // beyond the first length
    Exact<int64_t> lengths(Array{19, 20, 20, 20, 20});
    for (int64_t at : {-1, 299, 200, 60}) {
      if (at >= 0) values[at] = bad;
      Exact<float> x(values), out(5 * made.biases.size());
      for (int64_t n_threads : {1, 4}) {
        const int64_t bad_place =
            ShareAboveBiases(g_kernels->pass, made.plan, {5, 20, 3, x.data(), lengths.data()},
                             n_threads, out.data());
        Check(bad_place == at, "the first value that is not finite is found");
      }
    }
  }
}

}  // namespace

int main() {
  const auto table = sensorseq::signal::AllSignalKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    g_kernels = table.rows[i];
    if (!g_kernels->is_supported()) {
      std::printf("%s: not on this processor\n", g_kernels->name);
      continue;
    }
    for (int64_t T : {1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 70}) {
      for (int64_t C : {1, 2, 5}) {
        CheckShares(3, T, C, {1, 2, 8, 20}, {1, 17, 0, 8});
        CheckShares(2, T, C, {1, 3}, {7, 34});
      }
      CheckWins(T, 1);
      CheckWins(T, 3);
      CheckOutputs(T, 1);
      CheckOutputs(T, 4);
    }
    CheckShares(0, 5, 1, {1}, {3});
    CheckWhatIsNotFinite();
    std::printf("%s: checked\n", g_kernels->name);
  }
  return harness::Finish();
}
