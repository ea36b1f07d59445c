// Runs small calls with every cluster size in the emulator under many schedules. There must be no
// fault, and the bits must be the same whichever CTA or warp is delayed.
#include <map>

#include "emulated_problem.h"

using namespace emulated;

namespace {

bool g_failed;

CallOutputs Run(const Problem& p, cuda::Precision precision, const Schedule& schedule,
                const std::string& what) {
  CallOutputs out(p.shape, precision, false);
  try {
    Compute(p, precision, {}, schedule, out);
  } catch (const Fault& fault) {
    Check(false, what + " seed " + std::to_string(schedule.seed) + ": " + fault.what());
    g_failed = true;
  }
  return out;
}

uint64_t Digest(CallOutputs& out) {
  uint64_t digest = 14695981039346656037u;  // FNV-1a
  out.ForEach([&](const char*, Device& array) {
    for (size_t i = 0; i < array.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, array.data() + i, 4);
      digest = (digest ^ bits) * 1099511628211u;
    }
  });
  return digest;
}

}  // namespace

// Arguments: the percentage of the schedules to run, and the hidden sizes (all by default).
int main(int argc, char** argv) {
  const int percent = argc > 1 ? std::atoi(argv[1]) : 100;
  struct Variant {
    cuda::Precision precision;
    int hidden, n_ctas, n_warps, n_schedules;
  };
  const auto x3 = cuda::Precision::kFp16x3, x1 = cuda::Precision::kFp16,
             x0 = cuda::Precision::kFp32;
  const Variant variants[] = {{x3, 64, 1, 8, 300}, {x3, 128, 2, 8, 200},  {x3, 256, 8, 4, 60},
                              {x1, 64, 1, 8, 300}, {x1, 128, 1, 16, 100}, {x1, 256, 4, 8, 60},
                              {x0, 32, 1, 4, 100}, {x0, 64, 1, 8, 300},   {x0, 96, 1, 12, 100}};
  int n_variants = 0;
  for (const Variant& v : variants) {
    bool is_wanted = argc <= 2;
    for (int i = 2; i < argc; ++i) is_wanted |= std::atoi(argv[i]) == v.hidden;
    if (!is_wanted) continue;
    int n_run = 0;
    ++n_variants;
    for (int n_timesteps : {1, 2, 3, 6}) {
      std::mt19937 random(static_cast<unsigned>(n_timesteps));
      LstmShape s;
      s.n_windows = 3;
      s.n_timesteps = n_timesteps;
      s.n_channels = 2;
      s.hidden_size = v.hidden - 3;
      s.n_classes = 2;
      s.pooling = Pooling::kMean;
      const Problem p = MakeProblem(random, s, Lengths::kMixed, true);
      const std::string what = "H " + std::to_string(v.hidden) +
                               (v.precision == x1   ? " fp16"
                                : v.precision == x0 ? " fp32"
                                                    : "") +
                               " T " + std::to_string(n_timesteps);
      CallOutputs first = Run(p, v.precision, Schedule{1, Order::kMessagesFirst, -1, -1}, what);
      const uint64_t expected = Digest(first);
      auto Try = [&](const Schedule& schedule, const std::string& which) {
        if (g_failed) return;
        CallOutputs out = Run(p, v.precision, schedule, what + which);
        Check(g_failed || Digest(out) == expected, what + which + ": other bits");
        ++n_run;
      };
      const int n = std::max(1, v.n_schedules * percent / 400);
      for (int i = 0; i < n; ++i) {
        const auto seed = static_cast<uint32_t>(100 * n_timesteps + i + 2);
        Try({seed, Order::kRandom, -1, -1}, "");
        if (i >= (n + 3) / 4) continue;
        Try({seed, Order::kMessagesLast, -1, -1}, " messages last");
        Try({seed, Order::kRandom, i % v.n_ctas, -1}, " a CTA starved");
        Try({seed, Order::kRandom, -1, i % v.n_warps}, " a warp starved");
        Try({seed, Order::kMessagesLast, v.n_ctas - 1, -1}, " the last CTA starved, messages last");
        Try({seed, Order::kMessagesFirst, 0, i % v.n_warps}, " the first CTA starved");
      }
    }
    std::printf("H %d %s, %d CTAs: %d schedules\n", v.hidden,
                v.precision == x1   ? "fp16"
                : v.precision == x0 ? "fp32"
                                    : "fp16x3",
                v.n_ctas, n_run);
  }
  Check(n_variants > 0, "no variant");
  return Finish();
}
