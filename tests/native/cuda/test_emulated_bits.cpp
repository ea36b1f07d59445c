// Checks, in the emulator, what csrc/lstm_linear_cuda.h guarantees about the bits of the CUDA
// kernels: the results of a row have the same bits whatever else the call computes.
#include "emulated_problem.h"

using namespace emulated;

namespace {

uint32_t g_seed = 1;

CallOutputs Run(const Problem& p, cuda::Precision precision, Asks asks = {}) {
  CallOutputs out(p.shape, asks.projected);
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

// Some rows of `array`, (M, N, width).
Array Pick(const Array& array, int64_t n_models, int64_t n_windows,
           const std::vector<int64_t>& models, const std::vector<int64_t>& windows) {
  Array picked;
  const int64_t width = array.empty() ? 0 : array.size() / (n_models * n_windows);
  for (int64_t m : models) {
    for (int64_t n : windows) {
      const auto from = array.begin() + (m * n_windows + n) * width;
      picked.insert(picked.end(), from, from + width);
    }
  }
  return picked;
}

// The same problem with only some models and some windows, in the given order.
Problem Part(const Problem& p, const std::vector<int64_t>& models,
             const std::vector<int64_t>& windows) {
  Problem q = p;
  const int64_t M = p.shape.n_models, N = p.shape.n_windows;
  q.shape.n_models = static_cast<int64_t>(models.size());
  q.shape.n_windows = static_cast<int64_t>(windows.size());
  const bool is_shared = p.shape.n_x_models == 1;
  q.shape.n_x_models = is_shared ? 1 : q.shape.n_models;
  q.x = Pick(p.x, p.shape.n_x_models, N, is_shared ? std::vector<int64_t>{0} : models, windows);
  for (Array Problem::* array :
       {&Problem::h_0, &Problem::c_0, &Problem::mask, &Problem::grad_hidden, &Problem::grad_h_n,
        &Problem::grad_c_n, &Problem::grad_logits, &Problem::grad_pooled}) {
    q.*array = Pick(p.*array, M, N, models, windows);
  }
  for (Array Problem::* array : {&Problem::weight_ih, &Problem::weight_hh, &Problem::bias,
                                 &Problem::weight_out, &Problem::bias_out}) {
    q.*array = Pick(p.*array, M, 1, models, {0});
  }
  q.lengths.clear();
  for (int64_t n : windows) {
    if (p.has_lengths) q.lengths.push_back(p.lengths[n]);
  }
  return q;
}

// Checks that rows have the same bits in a part of the problem as in the complete problem, at any
// position in the tile.
void CheckRows(const std::string& what, const Problem& p, cuda::Precision precision,
               CallOutputs& whole, const std::vector<int64_t>& models,
               const std::vector<int64_t>& windows) {
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
void CheckChunks(const std::string& what, Problem p, cuda::Precision precision, int64_t cut) {
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
    part.x.clear();
    for (int64_t row = 0; row < s.n_x_models * N; ++row) {
      const auto from = p.x.begin() + row * T * s.n_channels;
      part.x.insert(part.x.end(), from + begin * s.n_channels, from + end * s.n_channels);
    }
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
  for (auto precision : {cuda::Precision::kFp16x3, cuda::Precision::kFp16}) {
    const bool is_exact = precision == cuda::Precision::kFp16x3;
    for (int hidden : {5, 64, 100, 256}) {
      if (hidden == 256 && is_exact) continue;
      if (!IsWanted(hidden)) continue;
      ++n_cases;
      const std::string name = "H " + std::to_string(hidden) + (is_exact ? " fp16x3" : " fp16");
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
      std::vector<int64_t> all(s.n_windows);
      for (int64_t n = 0; n < s.n_windows; ++n) all[n] = n;
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
  Check(n_cases > 0, "no case");
  return Finish();
}
