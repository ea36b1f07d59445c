// Checks, in the emulator, what csrc/lstm/lstm_linear_cuda.h guarantees about the bits of the CUDA
// kernels: the results of a row have the same bits whatever else the call computes.
#include "cuda/layout.cuh"
#include "emulated_problem.h"
#include "halves.h"

using namespace emulated;
using cuda::Precision;

namespace {

uint32_t g_seed = 1;

CallOutputs Run(const Problem& p, Precision precision, Asks asks = {}) {
  CallOutputs out(p.shape, precision, asks.projected);
  try {
    Compute(p, precision, asks, Schedule{g_seed++, Order::kRandom, -1, -1}, out);
  } catch (const Fault& fault) {
    Check(false, fault.what());
  }
  return out;
}

bool SameBits(const float* a, const float* b, size_t n) { return std::memcmp(a, b, n * 4) == 0; }

void CheckSame(const std::string& what, CallOutputs& a, CallOutputs& b) {
  std::vector<Device*> of_b;
  b.ForEach([&](const char*, Device& array) { of_b.push_back(&array); });
  size_t i = 0;
  a.ForEach([&](const char* name, Device& array) {
    Check(SameBits(array.data(), of_b[i]->data(), array.size()), what + ": " + name);
    ++i;
  });
}

// Checks that rows have the same bits in a part of the problem as in the complete problem, at any
// position in the tile.
void CheckRows(const std::string& what, const Problem& p, Precision precision, CallOutputs& whole,
               const Ints& models, const Ints& windows) {
  CallOutputs part = Run(Part(p, models, windows), precision);
  const int64_t N = p.shape.n_windows;
  auto Compare = [&](const char* name, Device& of_part, Device& of_whole) {
    const int64_t width = of_whole.size() / (p.shape.n_models * N);
    for (size_t m = 0; m < models.size(); ++m) {
      for (size_t n = 0; n < windows.size(); ++n) {
        Check(SameBits(of_part.data() + (m * windows.size() + n) * width,
                       of_whole.data() + (models[m] * N + windows[n]) * width, width),
              what + ": " + name + " of window " + std::to_string(windows[n]));
      }
    }
  };
  Compare("hidden", part.hidden, whole.hidden);
  Compare("h_n", part.h_n, whole.h_n);
  Compare("c_n", part.c_n, whole.c_n);
  Compare("pooled", part.pooled, whole.pooled);
  Compare("logits", part.logits, whole.logits);
  Compare("grad_h_0", part.grad_h_0, whole.grad_h_0);
  Compare("grad_c_0", part.grad_c_0, whole.grad_c_0);
  if (static_cast<int64_t>(windows.size()) != N) return;
  // weight gradients have the same bits for any M
  auto OfModel = [&](const char* name, Device& of_part, Device& of_whole) {
    const size_t width = of_whole.size() / p.shape.n_models;
    for (size_t m = 0; m < models.size(); ++m) {
      Check(SameBits(of_part.data() + m * width, of_whole.data() + models[m] * width, width),
            what + ": " + name + " of model " + std::to_string(models[m]));
    }
  };
  OfModel("grad_weight_ih", part.grad_weight_ih, whole.grad_weight_ih);
  OfModel("grad_weight_hh", part.grad_weight_hh, whole.grad_weight_hh);
  OfModel("grad_bias", part.grad_bias, whole.grad_bias);
  OfModel("grad_weight_out", part.grad_weight_out, whole.grad_weight_out);
  OfModel("grad_bias_out", part.grad_bias_out, whole.grad_bias_out);
}

// Checks, for a single direction, that two calls give the same bits as one call if the second call
// continues from the states of the first.
void CheckChunks(const std::string& what, Problem p, Precision precision, int64_t cut) {
  LstmShape& s = p.shape;
  const int64_t N = s.n_windows, T = s.n_timesteps, M = s.n_models;
  Asks asks;
  asks.gradients = false;
  CallOutputs whole = Run(p, precision, asks);
  Problem parts[2] = {p, p};
  for (int i = 0; i < 2; ++i) {
    const int64_t begin = i == 0 ? 0 : cut, end = i == 0 ? cut : T;
    Problem& part = parts[i];
    part.shape.n_timesteps = end - begin;
    part.x = Take(p.x, s.n_x_models * N, T, Range(begin, end));
    for (int64_t& length : part.lengths) {
      length = std::min(std::max(length - begin, int64_t{0}), end - begin);
    }
  }
  CallOutputs first = Run(parts[0], precision, asks);
  parts[1].has_h_0 = parts[1].has_c_0 = true;
  parts[1].h_0.assign(first.h_n.data(), first.h_n.data() + first.h_n.size());
  parts[1].c_0.assign(first.c_n.data(), first.c_n.data() + first.c_n.size());
  CallOutputs second = Run(parts[1], precision, asks);
  Check(SameBits(second.h_n.data(), whole.h_n.data(), whole.h_n.size()), what + ": h_n");
  Check(SameBits(second.c_n.data(), whole.c_n.data(), whole.c_n.size()), what + ": c_n");
  const int64_t width = s.hidden_size;
  for (int64_t row = 0; row < M * N; ++row) {
    const float* of = whole.hidden.data() + row * T * width;
    Check(SameBits(first.hidden.data() + row * cut * width, of, cut * width) &&
              SameBits(second.hidden.data() + row * (T - cut) * width, of + cut * width,
                       (T - cut) * width),
          what + ": hidden");
  }
  Asks in_place = asks;
  in_place.in_place = true;
  if (!p.has_h_0 || !p.has_c_0) return;
  CallOutputs same = Run(p, precision, in_place);
  CheckSame(what + ", states in place", same, whole);
}

// Arrays in half precision, from and to those of a call in float.
template <typename Half>
constexpr bool kIsBfloat = std::is_same_v<Half, cuda::Bfloat16>;
template <typename Half>
std::vector<Half> Halves(const float* values, size_t n) {
  std::vector<Half> halves(n);
  for (size_t i = 0; i < n; ++i) {
    halves[i].bits =
        kIsBfloat<Half> ? emulator::BfloatOfFloat(values[i]) : emulator::HalfOfFloat(values[i]);
  }
  return halves;
}
template <typename Half>
void Round(Array& array) {
  const std::vector<float> values(array.begin(), array.end());
  const std::vector<Half> halves = Halves<Half>(values.data(), values.size());
  for (size_t i = 0; i < array.size(); ++i) {
    array[i] = emulator::Widened(halves[i].bits, kIsBfloat<Half>);
  }
}

// Checks that a call on arrays in half precision gives the results of the call in float on the same
// numbers, rounded. Only the logits differ, because the head reads rounded pooled values.
template <typename Half>
void CheckHalves(const std::string& what, Problem p, bool is_projected) {
  for (Array Problem::* array :
       {&Problem::x, &Problem::weight_ih, &Problem::weight_hh, &Problem::bias, &Problem::h_0,
        &Problem::c_0, &Problem::mask, &Problem::weight_out, &Problem::bias_out}) {
    Round<Half>(p.*array);
  }
  // a projected x: the numbers of the gates, whatever they mean
  Array gates = Project(p);
  for (double& gate : gates) gate = std::isnan(gate) ? 0 : gate;
  Round<Half>(gates);
  const LstmShape& s = p.shape;
  cuda::Options options;
  options.precision = Precision::kFp32;
  options.is_projected = is_projected;
  const size_t n_states = s.n_models * s.n_windows * s.n_directions * s.hidden_size,
               n_logits = s.n_models * s.n_windows * s.n_classes,
               n_pooled = s.n_models * s.n_windows * PooledSize(s);
  const size_t sizes[] = {n_states * s.n_timesteps, n_states, n_states, n_pooled, n_logits};
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<Half>> halves;
  for (const size_t n : sizes) {
    floats.emplace_back(n, NAN);
    halves.emplace_back(n);
  }
  const auto Call = [&](auto to_array, auto& out) {
    using Real = std::decay_t<decltype(out[0][0])>;
    const auto x = to_array(is_projected ? gates : p.x), weight_ih = to_array(p.weight_ih),
               weight_hh = to_array(p.weight_hh), bias = to_array(p.bias), h_0 = to_array(p.h_0),
               c_0 = to_array(p.c_0), mask = to_array(p.mask), weight_out = to_array(p.weight_out),
               bias_out = to_array(p.bias_out);
    LstmForward<Real> f{};
    f.shape = s;
    if (is_projected) f.shape.n_channels = 0;
    f.in = {x.data(),   p.lengths.data(), weight_ih.data(), weight_hh.data(), bias.data(),
            h_0.data(), c_0.data(),       mask.data(),      weight_out.data()};
    f.bias_out = bias_out.data();
    f.hidden = out[0].data();
    f.h_n = out[1].data();
    f.c_n = out[2].data();
    f.pooled = out[3].data();
    f.logits = out[4].data();
    const Workspace space(ForwardBytes(f.shape, options));
    f.workspace = space.data;
    try {
      ForwardPortable(f, options, Schedule{g_seed++, Order::kRandom, -1, -1});
    } catch (const Fault& fault) {
      Check(false, what + ": " + fault.what());
    }
  };
  Call([](const Array& array) { return std::vector<float>(array.begin(), array.end()); }, floats);
  Call(
      [](const Array& array) {
        const std::vector<float> values(array.begin(), array.end());
        return Halves<Half>(values.data(), values.size());
      },
      halves);
  for (size_t i = 0; i < floats.size(); ++i) {
    const std::vector<Half> rounded = Halves<Half>(floats[i].data(), floats[i].size());
    for (size_t j = 0; j < rounded.size(); ++j) {
      const float ours = emulator::Widened(halves[i][j].bits, kIsBfloat<Half>);
      const bool is_near = std::fabs(ours - floats[i][j]) < (kIsBfloat<Half> ? 0.05f : 0.01f);
      Check(i == 4 ? is_near : rounded[j].bits == halves[i][j].bits,
            what + ": result " + std::to_string(i) + " in half precision");
    }
  }
}

}  // namespace

// Arguments: the hidden sizes (all by default).
int main(int argc, char** argv) {
  auto IsWanted = [&](int hidden) {
    bool is_wanted = argc == 1;
    for (int i = 1; i < argc; ++i) is_wanted |= std::atoi(argv[i]) == hidden;
    return is_wanted;
  };
  std::mt19937 random(1);
  int n_cases = 0;
  for (auto precision : {Precision::kFp32, Precision::kFp16x3, Precision::kFp16}) {
    const bool is_portable = precision == Precision::kFp32;
    for (int hidden : {5, 64, 100, 256}) {
      if (hidden == 256 && precision == Precision::kFp16x3) continue;
      if (is_portable && cuda::PortableHidden(hidden) == 0) continue;
      if (!IsWanted(hidden)) continue;
      ++n_cases;
      const std::string name = "H " + std::to_string(hidden) + " precision " +
                               std::to_string(static_cast<int>(precision));
      LstmShape s;
      s.n_models = 2;
      s.n_x_models = hidden == 5 ? 2 : 1;
      s.n_windows = hidden > 64 ? 9 : 19;
      s.n_timesteps = hidden == 5 ? 66 : 5;
      s.n_channels = 3;
      s.hidden_size = hidden;
      s.n_directions = hidden > 64 ? 1 : 2;
      s.n_classes = 3;
      s.pooling = hidden == 5 ? Pooling::kMeanMax : Pooling::kMean;
      const Problem p = MakeProblem(random, s, Lengths::kMixed, true);
      CallOutputs whole = Run(p, precision);
      for (int i = 0; i < 3; ++i) {
        CallOutputs again = Run(p, precision);
        CheckSame(name + " again", again, whole);
      }
      if (g_failures > 0) return Finish();
      const Ints all = Range(0, s.n_windows);
      CheckRows(name + " one model", p, precision, whole, {1}, all);
      CheckRows(name + " models exchanged", p, precision, whole, {1, 0}, all);
      CheckRows(name + " few rows elsewhere", p, precision, whole, {0, 1}, {8, 2, 5});
      CheckRows(name + " rows backwards", p, precision, whole, {0}, {all.rbegin(), all.rend() - 1});
      s.n_directions = 1;
      s.n_timesteps = 9;
      s.pooling = Pooling::kNone;
      s.n_classes = 0;
      for (int64_t cut : {1, 4, 8}) {
        CheckChunks(name + " cut at " + std::to_string(cut),
                    MakeProblem(random, s, cut == 4 ? Lengths::kNone : Lengths::kMixed, cut != 1),
                    precision, cut);
      }
    }
  }
  for (int hidden : {5, 64, 90}) {
    if (!IsWanted(hidden)) continue;
    LstmShape s;
    s.n_models = 2;
    s.n_windows = 3;
    s.n_timesteps = 11;
    s.n_channels = hidden == 64 ? 8 : 13;
    s.hidden_size = hidden;
    s.n_directions = hidden == 64 ? 1 : 2;
    s.n_classes = 3;
    s.pooling = Pooling::kMeanMax;
    const Problem p = MakeProblem(random, s, Lengths::kMixed, true);
    for (bool is_projected : {false, true}) {
      CheckHalves<cuda::Float16>("H " + std::to_string(hidden) + " float16", p, is_projected);
      CheckHalves<cuda::Bfloat16>("H " + std::to_string(hidden) + " bfloat16", p, is_projected);
    }
  }
  Check(n_cases > 0, "no case");
  return Finish();
}
