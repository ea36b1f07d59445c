// Checks invalid values that only the device sees. The affected row or model must become NaN,
// everything else must keep its bits, and nothing may be accessed out of bounds.
#include "cuda/layout.cuh"
#include "emulated_problem.h"

using namespace emulated;

namespace {

struct Call {
  cuda::Precision precision;
  LstmShape shape;
  Problem p;
  CallOutputs good;
  std::string name;

  CallOutputs Run(const Problem& problem, bool is_good = false) {
    CallOutputs out(shape, precision, false);
    try {
      Compute(problem, precision, {}, Schedule{1, Order::kRandom, -1, -1}, out);
    } catch (const Fault& fault) {
      Check(false, name + (is_good ? "" : " with a bad value") + ": " + fault.what());
    }
    return out;
  }
};

// Checks the rows of `array`, (rows, width). A row must be NaN if `is_bad` is true for it, and
// otherwise have the bits of the row in `good`. With `all`, every value of a bad row must be NaN;
// otherwise, at least one value must be NaN.
template <typename Bad>
void CheckRows(const std::string& what, Device& array, Device& good, int64_t n_rows, Bad is_bad,
               bool all = true) {
  const int64_t width = n_rows == 0 ? 0 : array.size() / n_rows;
  for (int64_t row = 0; row < n_rows; ++row) {
    const float *ours = array.data() + row * width, *theirs = good.data() + row * width;
    if (!is_bad(row)) {
      Check(std::memcmp(ours, theirs, width * 4) == 0, what + ": another row is touched");
      continue;
    }
    int64_t n_nan = 0;
    for (int64_t i = 0; i < width; ++i) n_nan += std::isnan(ours[i]);
    Check(all ? n_nan == width : n_nan > 0, what + ": not NaN");
  }
}

template <typename Bad>
void CheckStates(const std::string& what, const Call& call, CallOutputs& out, CallOutputs& good,
                 Bad is_bad) {
  const int64_t n = call.shape.n_models * call.shape.n_windows;
  CheckRows(what + ": h_n", out.h_n, good.h_n, n, is_bad);
  CheckRows(what + ": c_n", out.c_n, good.c_n, n, is_bad);
  CheckRows(what + ": pooled", out.pooled, good.pooled, n, is_bad);
  CheckRows(what + ": logits", out.logits, good.logits, n, is_bad);
  CheckRows(what + ": grad_h_0", out.grad_h_0, good.grad_h_0, n, is_bad);
  CheckRows(what + ": grad_c_0", out.grad_c_0, good.grad_c_0, n, is_bad);
}

// Checks that each weight gradient of a bad model contains NaN, and that those of the other models
// keep their bits.
template <typename Bad>
void CheckGrads(const std::string& what, const Call& call, CallOutputs& out, CallOutputs& good,
                Bad is_bad) {
  const int64_t n = call.shape.n_models;
  CheckRows(what + ": grad_weight_hh", out.grad_weight_hh, good.grad_weight_hh, n, is_bad, false);
  CheckRows(what + ": grad_weight_ih", out.grad_weight_ih, good.grad_weight_ih, n, is_bad, false);
  CheckRows(what + ": grad_bias", out.grad_bias, good.grad_bias, n, is_bad, false);
  CheckRows(what + ": grad_weight_out", out.grad_weight_out, good.grad_weight_out, n, is_bad,
            false);
}

}  // namespace

// Arguments: the hidden sizes (all by default).
int main(int argc, char** argv) {
  auto IsWanted = [&](int hidden) {
    bool is_wanted = argc == 1;
    for (int i = 1; i < argc; ++i) is_wanted |= std::atoi(argv[i]) == hidden;
    return is_wanted;
  };
  const Pooling poolings[] = {Pooling::kLast, Pooling::kMean, Pooling::kMax, Pooling::kMeanMax};
  int turn = 0, n_cases = 0;
  for (auto precision :
       {cuda::Precision::kFp16x3, cuda::Precision::kFp16, cuda::Precision::kFp32}) {
    for (int hidden : {5, 128, 256}) {
      const bool is_portable = precision == cuda::Precision::kFp32;
      if (hidden > 128 && precision == cuda::Precision::kFp16x3) continue;
      if (is_portable && cuda::PortableHidden(hidden) == 0) continue;
      if (!IsWanted(hidden)) continue;
      ++n_cases;
      std::mt19937 random(1);
      LstmShape s;
      s.n_models = 2;
      s.n_x_models = 2;
      s.n_windows = 9;
      s.n_timesteps = 3;
      s.n_channels = 2;
      s.hidden_size = hidden;
      s.n_directions = hidden == 5 ? 2 : 1;
      s.n_classes = 2;
      s.pooling = poolings[turn++ % 4];
      const std::string name = "H " + std::to_string(hidden) +
                               (is_portable                           ? " fp32"
                                : precision == cuda::Precision::kFp16 ? " fp16"
                                                                      : " fp16x3") +
                               " pooling " + std::to_string(static_cast<int>(s.pooling));
      Call call{precision, s, MakeProblem(random, s, Lengths::kFull, true),
                CallOutputs(s, precision, false), name};
      const Problem& p = call.p;
      CallOutputs good = call.Run(p, true);
      const int64_t N = s.n_windows, D = s.n_directions, H = hidden, T = s.n_timesteps;
      for (int64_t length : {int64_t{-1}, T + 1, int64_t{1} << 40, -(int64_t{1} << 40)}) {
        Problem bad = p;
        bad.lengths[3] = length;
        CallOutputs out = call.Run(bad);
        CheckStates(name + " length " + std::to_string(length), call, out, good,
                    [&](int64_t row) { return row % N == 3; });
      }
      {
        Problem bad = p;
        bad.x[((N + 4) * T + 1) * s.n_channels] = NAN;  // a value of model 1, window 4
        CallOutputs out = call.Run(bad);
        CheckStates(name + " NaN in x", call, out, good, [&](int64_t row) { return row == N + 4; });
        CheckGrads(name + " NaN in x", call, out, good, [](int64_t model) { return model == 1; });
      }
      if (is_portable) continue;  // no number is out of range
      for (double state : {256.0, -256.0, 1e30}) {
        Problem bad = p;
        bad.h_0[(5 * D + D - 1) * H + 1] = state;  // a value of model 0, window 5
        bad.mask[(5 * D + D - 1) * H + 1] = 1;
        CallOutputs out = call.Run(bad);
        // the other direction is correct
        const int64_t rows = s.n_models * N * D;
        auto is_bad = [&](int64_t row) { return row == 5 * D + D - 1; };
        CheckRows(name + " h_0 of " + std::to_string(state) + ": c_n", out.c_n, good.c_n, rows,
                  is_bad);
        CheckRows(name + " h_0 of " + std::to_string(state) + ": h_n", out.h_n, good.h_n, rows,
                  is_bad);
      }
      {
        Problem bad = p;
        bad.h_0[(5 * D + D - 1) * H + 1] = 255;
        bad.mask[(5 * D + D - 1) * H + 1] = 1;
        CallOutputs out = call.Run(bad);
        Check(!std::isnan(out.c_n.data()[(5 * D + D - 1) * H]), name + " h_0 of 255 is in range");
      }
      {
        Problem bad = p;
        bad.mask[(5 * D + D - 1) * H + 1] = -256;
        bad.h_0[(5 * D + D - 1) * H + 1] = 0.5;
        CallOutputs out = call.Run(bad);
        CheckRows(name + " mask of -256: c_n", out.c_n, good.c_n, s.n_models * N * D,
                  [&](int64_t row) { return row == 5 * D + D - 1; });
      }
      for (double weight : {4095.0, -4096.0, 1e30}) {
        Problem bad = p;
        bad.weight_hh[D * 4 * H * H + H + 2] = weight;  // a value of model 1, unit 1
        CallOutputs out = call.Run(bad);
        const int64_t n = s.n_models * N;
        auto is_bad = [&](int64_t row) { return row >= N; };
        const std::string what = name + " weight of " + std::to_string(weight);
        CheckRows(what + ": c_n", out.c_n, good.c_n, n, is_bad, false);
        CheckRows(what + ": logits", out.logits, good.logits, n, is_bad, true);
        CheckGrads(what, call, out, good, [](int64_t model) { return model == 1; });
      }
      {
        Problem bad = p;
        bad.weight_hh[D * 4 * H * H + H + 2] = 4094;
        CallOutputs out = call.Run(bad);
        Check(!std::isnan(out.logits.data()[N * s.n_classes]), name + " weight of 4094 in range");
      }
    }
  }
  Check(n_cases > 0, "no case");
  return Finish();
}
