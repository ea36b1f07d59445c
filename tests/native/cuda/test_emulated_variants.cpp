// Compares the CUDA kernels in the emulator with the double reference, for every class of hidden
// size and every precision. The error of each array is measured over all cases of a size, as in
// tests/support/budget.py. For fp32 and fp16x3, it may be twice the error of the same reference in
// float. For fp16, it may be twice the rounding error of a half, 2^-11. The error of a single case
// or a single element may be larger, but a wrong index would cause a far larger error.
#include <map>
#include <string_view>

#include "cuda/layout.cuh"
#include "emulated_problem.h"

using namespace emulated;
using cuda::Precision;

namespace {

// The Euclidean distance from the true values relative to their norm, and the largest difference in
// any element relative to the largest element.
struct Distance {
  double whole, worst;
};
template <typename Real>
Distance DistanceOf(const Real* ours, const Array& truth) {
  double square = 0, size = 0, worst = 0, most = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double d = std::fabs(static_cast<double>(ours[i]) - truth[i]);
    square += d * d;
    size += truth[i] * truth[i];
    worst = d <= worst ? worst : d;  // a NaN is kept
    most = std::max(most, std::fabs(truth[i]));
  }
  // if there are only a few elements, cancellation may make all of them small
  if (truth.size() < 8) size = std::max(size, 1.0 * truth.size()), most = std::max(most, 1.0);
  // values beyond the range of float may become zero, or the smallest normal number
  if (most < 1e-30) size = most = 1;
  return {std::sqrt(square / size), worst / most};
}

constexpr double kHalf = 1.0 / 2048, kEpsilon = 1.0 / (1 << 23);

// Sums of an array's squared errors over the cases of a size, for the kernels and for the reference
// in float.
struct Squares {
  double ours = 0, theirs = 0;
  int n = 0;
};
std::map<std::string, Squares> g_squares[2];
double g_worst[2];  // largest errors: fp16 relative to 2^-11, fp16x3 relative to float's error

void CheckBudgets(const std::string& what) {
  for (bool is_exact : {false, true}) {
    for (const auto& [name, squares] : g_squares[is_exact]) {
      const double ours = std::sqrt(squares.ours / squares.n),
                   theirs = is_exact ? std::sqrt(squares.theirs / squares.n) : kHalf,
                   // one unit in the last place, because a few numbers are summed in a different
                   // order
          of_few = std::string_view(name) == "grad_bias_out" ? kEpsilon : kEpsilon / 4,
                   floor = is_exact ? of_few : 0;
      g_worst[is_exact] = std::max(g_worst[is_exact], (ours - floor) / theirs);
      Check(ours <= 2 * theirs + floor, what + (is_exact ? " fp16x3 " : " fp16 ") + name + ": " +
                                            std::to_string(ours * 1e7) + "e-7 against " +
                                            std::to_string(theirs * 1e7) + "e-7");
    }
    g_squares[is_exact].clear();
  }
}

struct Comparison {
  std::string what;
  bool is_exact;

  void operator()(const char* name, const float* ours, const Array& truth,
                  const std::vector<float>& plain) const {
    if (truth.empty()) return;
    const Distance d = DistanceOf(ours, truth), theirs = DistanceOf(plain.data(), truth);
    Squares& squares = g_squares[is_exact][name];
    squares.ours += d.whole * d.whole;
    squares.theirs += theirs.whole * theirs.whole;
    ++squares.n;
    const double limit = is_exact ? 4 * theirs.whole + 4 * kEpsilon : 8 * kHalf,
                 worst = is_exact ? 8 * theirs.worst + 16 * kEpsilon : 32 * kHalf;
    Check(d.whole <= limit && d.worst <= worst,
          what + ": " + name + " off by " + std::to_string(d.whole * 1e7) + "e-7, allowed " +
              std::to_string(limit * 1e7) + "e-7, one of them by " + std::to_string(d.worst * 1e7) +
              "e-7");
  }
};

// Checks that the gradients of weight_ih and the bias follow from the gates' gradients, and that
// the gates' gradients are zero beyond the lengths.
template <typename Compare>
void CheckGateGrads(const Problem& p, float* gates, const Result& truth,
                    const reference::ResultIn<float>& plain, const Compare& compare) {
  const LstmShape& s = p.shape;
  const int64_t N = s.n_windows, T = s.n_timesteps, C = s.n_channels, H = s.hidden_size,
                D = s.n_directions;
  Array weight(truth.grad_weight_ih.size()), bias(truth.grad_bias.size());
  for (int64_t i = 0; i < s.n_models * N * T * D * H * 4; ++i) {
    const int64_t gate = i % 4, unit = i / 4 % H, d = i / 4 / H % D, t = i / 4 / H / D % T,
                  n = i / 4 / H / D / T % N, m = i / 4 / H / D / T / N;
    const auto value = static_cast<double>(gates[i]);
    if (p.has_lengths && t >= p.lengths[n]) {
      Check(value == 0, compare.what + ": a gate's gradient beyond its length");
      continue;
    }
    const int64_t row = ((m * D + d) * 4 + gate) * H + unit;
    bias[row] += value;
    for (int64_t k = 0; k < C; ++k) {
      weight[row * C + k] += value * p.x[(((s.n_x_models == 1 ? 0 : m) * N + n) * T + t) * C + k];
    }
  }
  compare("grad_x", Device(bias).data(), truth.grad_bias, plain.grad_bias);
  compare("grad_x by x", Device(weight).data(), truth.grad_weight_ih, plain.grad_weight_ih);
}

void Try(const Problem& p, cuda::Precision precision, const Asks& asks, uint32_t seed,
         const std::string& what) {
  const LstmShape& s = p.shape;
  CallOutputs out(s, precision, asks.projected);
  try {
    Compute(p, precision, asks, Schedule{seed, Order::kRandom, -1, -1}, out);
  } catch (const Fault& fault) {
    Check(false, what + ": " + fault.what());
    return;
  }
  const Result truth = reference::Run(p);
  const reference::ResultIn<float> plain = reference::RunIn<float>(p);
  const bool is_exact = precision != cuda::Precision::kFp16;
  const Comparison compare{what, is_exact};
  if (asks.hidden) compare("hidden", out.hidden.data(), truth.hidden, plain.hidden);
  compare("h_n", out.h_n.data(), truth.h_n, plain.h_n);
  compare("c_n", out.c_n.data(), truth.c_n, plain.c_n);
  compare("pooled", out.pooled.data(), truth.pooled, plain.pooled);
  compare("logits", out.logits.data(), truth.logits, plain.logits);
  if (!asks.gradients) return;
  // rounding to half may move the maximum to another step, which then gets the complete gradient
  const bool is_max = s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  if (is_max && !is_exact) return;
  if (asks.grad_h_0) {
    compare("grad_h_0", out.grad_h_0.data(), truth.grad_h_0, plain.grad_h_0);
    compare("grad_c_0", out.grad_c_0.data(), truth.grad_c_0, plain.grad_c_0);
  }
  compare("grad_weight_hh", out.grad_weight_hh.data(), truth.grad_weight_hh, plain.grad_weight_hh);
  compare("grad_weight_out", out.grad_weight_out.data(), truth.grad_weight_out,
          plain.grad_weight_out);
  compare("grad_bias_out", out.grad_bias_out.data(), truth.grad_bias_out, plain.grad_bias_out);
  if (asks.projected) {
    CheckGateGrads(p, out.grad_x.data(), truth, plain, compare);
    return;
  }
  compare("grad_weight_ih", out.grad_weight_ih.data(), truth.grad_weight_ih, plain.grad_weight_ih);
  compare("grad_bias", out.grad_bias.data(), truth.grad_bias, plain.grad_bias);
}

// Returns the values of a list in random order, each value once before any value is repeated.
template <typename T>
class Deck {
 public:
  Deck(std::mt19937& random, std::vector<T> values) : random_(random), values_(values) {}
  T Draw() {
    if (left_.empty()) {
      left_ = values_;
      std::shuffle(left_.begin(), left_.end(), random_);
    }
    const T value = left_.back();
    left_.pop_back();
    return value;
  }

 private:
  std::mt19937& random_;
  std::vector<T> values_, left_;
};

// Runs cases that random numbers rarely cover, in a precision with the accuracy of float.
void TrySpecial(std::mt19937& random, int hidden, Precision exact) {
  LstmShape s;
  s.n_windows = 73;  // ten tiles in eight slots
  s.n_timesteps = 2;
  s.n_channels = 2;
  s.hidden_size = hidden;
  s.n_directions = 2;
  s.n_classes = 3;
  s.pooling = Pooling::kMax;
  const std::string name =
      "H " + std::to_string(hidden) + (exact == Precision::kFp32 ? " fp32 " : " fp16x3 ");
  Try(MakeProblem(random, s, Lengths::kMixed, true), exact, {}, 1, name + "many windows");
  s.n_windows = 9;
  // the last h of a row without a step is 0, not the initial state
  s.pooling = Pooling::kLast;
  std::mt19937 own_random(1);
  Problem without = MakeProblem(own_random, s, Lengths::kZero, true);
  without.has_h_0 = true;
  Try(without, exact, {}, 8, name + "no steps");
  s.pooling = Pooling::kMax;
  s.n_timesteps = 129;
  Try(MakeProblem(random, s, Lengths::kFull, true), exact, {}, 2, name + "two slots of time");
  // equal maxima: the gradient goes to the earliest step
  s.n_timesteps = 5;
  s.pooling = Pooling::kMeanMax;
  Problem p = MakeProblem(random, s, Lengths::kMixed, false);
  for (Array* array : {&p.weight_ih, &p.weight_hh, &p.bias})
    std::fill(array->begin(), array->end(), 0);
  Try(p, exact, {}, 3, name + "equal maxima");
  // all maxima below zero
  p = MakeProblem(random, s, Lengths::kMixed, false);
  for (int64_t i = 0; i < static_cast<int64_t>(p.bias.size()); ++i) {
    p.bias[i] += i / hidden % 4 == 2 ? -4 : 0;
  }
  Try(p, exact, {}, 4, name + "negative maxima");
  // gradients of very different sizes in a tile, some beyond the range of halves
  s.pooling = Pooling::kMean;
  p = MakeProblem(random, s, Lengths::kMixed, false);
  for (size_t i = 0; i < p.grad_logits.size(); ++i) {
    p.grad_logits[i] = std::ldexp(p.grad_logits[i], static_cast<int>(i / 3 % 4) * 12 - 8);
  }
  Try(p, exact, {}, 5, name + "gradients of different size");
  for (double& value : p.grad_logits) value = std::ldexp(value, -70);
  Try(p, exact, {}, 6, name + "small gradients");
  // long inference in which no step records anything
  Asks nothing;
  nothing.hidden = nothing.gradients = false;
  s.n_timesteps = 30;
  Try(MakeProblem(random, s, Lengths::kMixed, false), exact, nothing, 9, name + "inference");
  s.n_timesteps = 5;
  // gates that saturate
  p = MakeProblem(random, s, Lengths::kMixed, false);
  for (double& value : p.bias) value = std::fmin(std::fmax(value * 400, -4), 4);
  Try(p, exact, {}, 7, name + "gates near their bounds");
  // for larger values, a gate equals its bound in float, so its gradient is only a rounding error;
  // powers of 2 beyond 2^40 are clamped
  Asks forward;
  forward.gradients = false;
  for (double factor : {5.0, 20.0}) {
    for (double& value : p.bias) value *= factor;
    Try(p, exact, forward, 7, name + "saturated gates");
    if (exact == Precision::kFp16x3) {
      Try(p, Precision::kFp16, forward, 7, name + "saturated gates, fp16");
    }
  }
}

// Checks that the truncation of an MMA is compensated, so that the mean error of many positive
// products is near zero.
void CheckTruncation(std::mt19937& random) {
  LstmShape s;
  s.n_windows = 8;
  s.n_timesteps = 1;
  s.hidden_size = 100;
  Problem p = MakeProblem(random, s, Lengths::kNone, true);
  std::uniform_real_distribution<double> uniform;
  auto Draw = [&] { return static_cast<double>(static_cast<float>(uniform(random))); };
  const int64_t H = s.hidden_size;
  std::fill(p.bias.begin(), p.bias.end(), 0);
  std::fill(p.mask.begin(), p.mask.end(), 1);
  std::fill(p.c_0.begin(), p.c_0.end(), 0);
  for (double& value : p.h_0) value = Draw();
  // all gates except the cell gate are 1/2, so c is half of the cell gate. The sums cover two
  // octaves, because the compensation is rounded to one unit in the last place or to zero
  for (int64_t i = 0; i < 4 * H * H; ++i) {
    const double size = std::exp2(-6 - 2.0 * static_cast<double>(i / H % H) / H);
    p.weight_hh[i] = i / H / H == kCellGate ? static_cast<float>(Draw() * size) : 0;
  }
  // the same sums, rounded once and passed as a projected input
  Problem q = p;
  q.shape.n_channels = H;
  q.x = p.h_0;
  q.weight_ih = p.weight_hh;
  q.has_h_0 = false;
  const auto exact = cuda::Precision::kFp16x3;
  CallOutputs out(s, exact, false), rounded(s, exact, true);
  Asks asks;
  asks.gradients = false;
  Compute(p, exact, asks, {}, out);
  asks.projected = true;
  Compute(q, exact, asks, {}, rounded);
  double mean = 0;
  for (int64_t i = 0; i < s.n_windows * H; ++i) {
    mean += static_cast<double>(out.c_n.data()[i]) / static_cast<double>(rounded.c_n.data()[i]) - 1;
  }
  mean /= static_cast<double>(s.n_windows * H);
  std::printf("mean error of a product: %.2g\n", mean);
  Check(std::fabs(mean) < 1.5e-8, "products are truncated: " + std::to_string(mean * 1e9) + "e-9");
}

}  // namespace

// Arguments: a factor for the number of cases, and the hidden sizes (all by default).
int main(int argc, char** argv) {
  const int factor = argc > 1 ? std::atoi(argv[1]) : 1;
  std::vector<int> sizes;
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  if (sizes.empty()) sizes = {1, 5, 32, 50, 63, 64, 65, 96, 100, 128, 129, 223, 256};
  std::mt19937 random(1);
  Deck<int> models(random, {1, 2, 3}), channels(random, {0, 1, 2, 3, 5, 8, 16}),
      classes(random, {0, 1, 3, 7}), windows(random, {1, 7, 8, 9, 17}), few_windows(random, {1, 9}),
      steps(random, {1, 2, 3, 7}), long_steps(random, {1, 2, 3, 7, 12, 64, 65, 130});
  Deck<Pooling> poolings(
      random, {Pooling::kNone, Pooling::kLast, Pooling::kMean, Pooling::kMax, Pooling::kMeanMax});
  Deck<Lengths> patterns(random, {Lengths::kNone, Lengths::kZero, Lengths::kFull, Lengths::kMixed,
                                  Lengths::kMixed, Lengths::kMixed});
  Deck<int> coin(random, {0, 1});
  Deck<int> dice(random, {0, 1, 2, 3, 4});
  int n_cases = 0;
  for (int hidden : sizes) {
    for (auto precision : {Precision::kFp32, Precision::kFp16x3, Precision::kFp16}) {
      if (precision == Precision::kFp32 && cuda::PortableHidden(hidden) == 0) continue;
      const int n = factor * (hidden <= 65 ? 14 : hidden <= 129 ? 6 : 3);
      for (int i = 0; i < n; ++i) {
        LstmShape s;
        s.n_models = hidden <= 128 ? models.Draw() : 1;
        s.n_x_models = coin.Draw() ? s.n_models : 1;
        s.n_windows = hidden <= 128 ? windows.Draw() : few_windows.Draw();
        s.n_timesteps = hidden <= 33 ? long_steps.Draw() : steps.Draw();
        s.n_channels = channels.Draw();
        // without an input, h becomes constant, so several steps have the maximum, and every step
        // has the same error
        if (s.n_channels == 0 && s.n_timesteps > 12) s.n_timesteps = 12;
        s.hidden_size = hidden;
        s.n_directions = 1 + coin.Draw();
        s.pooling = poolings.Draw();
        s.n_classes = s.pooling == Pooling::kNone ? 0 : classes.Draw();
        if (i == 7) s.n_timesteps = 0;
        if (i == 9) s.n_windows = 0;
        const Lengths pattern = patterns.Draw();
        Problem p = MakeProblem(random, s, pattern, true);
        p.has_h_0 = coin.Draw();
        p.has_c_0 = coin.Draw();
        p.has_mask = coin.Draw();
        if (coin.Draw()) p.grad_h_n.clear();
        if (coin.Draw()) p.grad_c_n.clear();
        if (coin.Draw()) p.grad_pooled.clear();
        if (coin.Draw() && s.pooling != Pooling::kNone) p.grad_hidden.clear();
        Asks asks;
        asks.hidden = coin.Draw();
        asks.gradients = dice.Draw() > 0;
        asks.grad_h_0 = dice.Draw() > 0;
        asks.projected = dice.Draw() > 2;
        const std::string what =
            "H " + std::to_string(hidden) +
            (precision == Precision::kFp16   ? " fp16 #"
             : precision == Precision::kFp32 ? " fp32 #"
                                             : " fp16x3 #") +
            std::to_string(i) + ": M " + std::to_string(s.n_models) + " N " +
            std::to_string(s.n_windows) + " T " + std::to_string(s.n_timesteps) + " C " +
            std::to_string(s.n_channels) + " D " + std::to_string(s.n_directions) + " K " +
            std::to_string(s.n_classes) + " pooling " +
            std::to_string(static_cast<int>(s.pooling)) + " lengths " +
            std::to_string(static_cast<int>(pattern)) + (asks.projected ? " projected" : "");
        Try(p, precision, asks, random(), what);
        ++n_cases;
        if (g_failures > 0) return Finish();
      }
      CheckBudgets("H " + std::to_string(hidden));
    }
    if (hidden != 5 && hidden != 100) continue;
    std::mt19937 of_special(hidden);  // the same cases whatever was drawn before
    TrySpecial(of_special, hidden, Precision::kFp16x3);
    if (hidden == 100) CheckTruncation(of_special);
    if (cuda::PortableHidden(hidden) > 0) TrySpecial(of_special, hidden, Precision::kFp32);
    g_squares[0].clear();
    g_squares[1].clear();
  }
  std::printf("%d cases; fp32, fp16x3: at most %.2f of the error of float; fp16: %.2f * 2^-11\n",
              n_cases, g_worst[1], g_worst[0]);
  Check(n_cases > 0, "no case");
  return Finish();
}
