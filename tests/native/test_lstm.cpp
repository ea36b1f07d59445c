// csrc/cpu against a reference in double, without torch and without Python, on every instruction
// set of this machine. Built with AddressSanitizer and UBSan: every array ends where its allocation
// ends and begins misaligned; sentinels surround what is written; NaN lies where nothing may read.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cpu/dispatch.h"
#include "harness.h"
#include "reference.h"

namespace {

using namespace sensorseq;
using namespace harness;
using reference::Array;
using reference::Problem;
using reference::Result;

template <typename Real>
struct Outputs {
  Exact<Real> hidden, h_n, c_n, pooled, logits, saved;
  Exact<Real> grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h_0, grad_c_0,
      grad_weight_out, grad_bias_out;

  explicit Outputs(const Result& r, const LstmShape& s)
      : hidden(r.hidden.size()),
        h_n(r.h_n.size()),
        c_n(r.c_n.size()),
        pooled(r.pooled.size()),
        logits(r.logits.size()),
        saved(s.n_models * s.n_directions * s.n_windows * SavedRows(s.n_timesteps) *
              Padded(s.hidden_size)),
        grad_x(r.grad_x.size()),
        grad_weight_ih(r.grad_weight_ih.size()),
        grad_weight_hh(r.grad_weight_hh.size()),
        grad_bias(r.grad_bias.size()),
        grad_h_0(r.grad_h_0.size()),
        grad_c_0(r.grad_c_0.size()),
        grad_weight_out(r.grad_weight_out.size()),
        grad_bias_out(r.grad_bias_out.size()) {}
};

// The head's backward pass as the caller of a fused step does it.
template <typename Real>
struct Between {
  const Problem& p;
  Real* grad_pooled;
  std::atomic<int64_t> n_windows{0};

  static void Run(void* context, int64_t model, int64_t slot, int64_t first, int64_t n) {
    auto& self = *static_cast<Between*>(context);
    const LstmShape& s = self.p.shape;
    const int64_t P = PooledSize(s), K = s.n_classes;
    for (int64_t i = first; i < first + n; ++i) {
      Check(SlotWindow(slot, s.n_windows) <= i && i < SlotWindow(slot + 1, s.n_windows),
            "a window is of the slot it is said to be of");
      for (int64_t j = 0; j < P; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) {
          sum += self.p.grad_logits[(model * s.n_windows + i) * K + k] *
                 self.p.weight_out[(model * K + k) * P + j];
        }
        self.grad_pooled[(model * s.n_windows + i) * P + j] = static_cast<Real>(sum);
      }
    }
    self.n_windows += n;
  }
};

// Both passes, one after the other or as one fused step, whose `out` lacks what is the head's.
template <typename Real>
void Compute(const Problem& p, bool with_hidden, bool with_x, const Parallel& parallel,
             bool is_fused, Outputs<Real>& out) {
  const LstmShape& s = p.shape;
  const bool has_head = s.pooling != Pooling::kNone;
  Exact<Real> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh), bias(p.bias), h_0(p.h_0),
      c_0(p.c_0), mask(p.mask), weight_out(p.weight_out), bias_out(p.bias_out);
  std::vector<int64_t> lengths = p.lengths;
  LstmInputs<Real> in;
  in.x = x.data();
  in.lengths = p.has_lengths ? lengths.data() : nullptr;
  in.weight_ih = weight_ih.data();
  in.weight_hh = weight_hh.data();
  in.bias = bias.data();
  in.h_0 = h_0.or_null(p.has_h_0);
  in.c_0 = c_0.or_null(p.has_c_0);
  in.recurrent_mask = mask.or_null(p.has_mask);
  in.weight_out = weight_out.or_null(has_head);

  LstmForward<Real> forward;
  forward.shape = s;
  forward.in = in;
  forward.bias_out = bias_out.or_null(has_head);
  forward.hidden = out.hidden.or_null(with_hidden);
  forward.h_n = out.h_n.data();
  forward.c_n = out.c_n.data();
  forward.pooled = out.pooled.or_null(has_head);
  forward.logits = out.logits.or_null(has_head);
  forward.saved = out.saved.data();
  forward.parallel = parallel;
  const Workspace forward_space(lstm_forward_workspace_bytes(s, sizeof(Real)));
  forward.workspace = forward_space.data;
  if (!is_fused) Check(lstm_forward(forward) == Status::kOk, "forward status");

  Exact<Real> grad_hidden(p.grad_hidden), grad_h_n(p.grad_h_n), grad_c_n(p.grad_c_n),
      grad_logits(p.grad_logits);
  LstmBackward<Real> backward;
  backward.shape = s;
  backward.in = in;
  backward.pooled = out.pooled.or_null(has_head);
  backward.saved = out.saved.data();
  backward.grad_hidden = grad_hidden.or_null(!p.grad_hidden.empty());
  backward.grad_h_n = grad_h_n.or_null(!p.grad_h_n.empty());
  backward.grad_c_n = grad_c_n.or_null(!p.grad_c_n.empty());
  backward.grad_logits = grad_logits.or_null(has_head);
  backward.grad_x = out.grad_x.or_null(with_x);
  backward.grad_weight_ih = out.grad_weight_ih.data();
  backward.grad_weight_hh = out.grad_weight_hh.data();
  backward.grad_bias = out.grad_bias.data();
  backward.grad_h_0 = out.grad_h_0.or_null(p.has_h_0);
  backward.grad_c_0 = out.grad_c_0.or_null(p.has_c_0);
  backward.grad_weight_out = out.grad_weight_out.or_null(has_head);
  backward.grad_bias_out = out.grad_bias_out.or_null(has_head);
  backward.parallel = parallel;
  const Workspace backward_space(lstm_backward_workspace_bytes(s, sizeof(Real)));
  backward.workspace = backward_space.data;
  if (!is_fused) {
    Check(lstm_backward(backward) == Status::kOk, "backward status");
    return;
  }
  const Workspace step_space(lstm_step_workspace_bytes(s, sizeof(Real)));
  Exact<Real> grad_pooled(s.n_models * s.n_windows * PooledSize(s));
  Between<Real> between{p, grad_pooled.data()};
  forward.shape.n_classes = backward.shape.n_classes = 0;
  forward.logits = nullptr;
  forward.saved = nullptr;
  backward.grad_logits = nullptr;
  backward.saved = nullptr;
  backward.grad_pooled = grad_pooled.data();
  backward.workspace = step_space.data;
  Check(lstm_step(LstmStep<Real>{forward, backward, &Between<Real>::Run, &between}) == Status::kOk,
        "step status");
  Check(between.n_windows == s.n_models * s.n_windows, "every window between its passes once");
}

template <typename Real>
void Compare(const std::string& name, Exact<Real>& ours, const Array& theirs, double tolerance) {
  Check(ours.sentinel_intact(), name + ": written before its beginning");
  double largest = 1;
  for (double value : theirs) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < theirs.size(); ++i) {
    // written so that a NaN fails
    if (!(std::fabs(ours.data()[i] - theirs[i]) <= tolerance * largest)) {
      Check(false, name + "[" + std::to_string(i) + "] = " + std::to_string(ours.data()[i]) +
                       ", expected " + std::to_string(theirs[i]));
      return;
    }
  }
}

template <typename Real>
void SameBits(const std::string& name, Exact<Real>& a, Exact<Real>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(a.data()[i] == b.data()[i])) {
      Check(false, name + ": other bits on other threads at " + std::to_string(i));
      return;
    }
  }
}

// Rounding of Real over the longest chain of sums; a wrong index is off by orders of magnitude.
template <typename Real>
double Tolerance() {
  return sizeof(Real) == 8 ? 1e-11 : 2e-4;
}

template <typename Real>
void CheckCase(const std::string& name, const Problem& p, bool with_hidden, bool with_x,
               bool is_fused = false) {
  const Result expected = reference::Run(p);
  Outputs<Real> one(expected, p.shape), several(expected, p.shape);
  Compute(p, with_hidden, with_x, Parallel{}, is_fused, one);
  Compute(p, with_hidden, with_x, Parallel{&RunOnThreads, nullptr}, is_fused, several);
  const bool has_head = p.shape.pooling != Pooling::kNone;
  if (has_head && !is_fused) CheckCase<Real>(name + " fused", p, with_hidden, with_x, true);
  auto Both = [&](const char* what, Exact<Real>& a, Exact<Real>& b, const Array& exact) {
    Compare(name + " " + what, a, exact, Tolerance<Real>());
    SameBits(name + " " + what, a, b);
  };
  if (with_hidden) Both("hidden", one.hidden, several.hidden, expected.hidden);
  Both("h_n", one.h_n, several.h_n, expected.h_n);
  Both("c_n", one.c_n, several.c_n, expected.c_n);
  Both("grad_weight_ih", one.grad_weight_ih, several.grad_weight_ih, expected.grad_weight_ih);
  Both("grad_weight_hh", one.grad_weight_hh, several.grad_weight_hh, expected.grad_weight_hh);
  Both("grad_bias", one.grad_bias, several.grad_bias, expected.grad_bias);
  if (with_x) Both("grad_x", one.grad_x, several.grad_x, expected.grad_x);
  if (p.has_h_0) Both("grad_h_0", one.grad_h_0, several.grad_h_0, expected.grad_h_0);
  if (p.has_c_0) Both("grad_c_0", one.grad_c_0, several.grad_c_0, expected.grad_c_0);
  if (has_head) Both("pooled", one.pooled, several.pooled, expected.pooled);
  if (has_head && !is_fused) {
    Both("logits", one.logits, several.logits, expected.logits);
    Both("grad_weight_out", one.grad_weight_out, several.grad_weight_out, expected.grad_weight_out);
    Both("grad_bias_out", one.grad_bias_out, several.grad_bias_out, expected.grad_bias_out);
  }
}

enum class Lengths { kNone, kZero, kFull, kMixed };

Problem MakeProblem(std::mt19937& random, const LstmShape& shape, Lengths lengths, bool options) {
  std::normal_distribution<double> normal;
  // rounded to float: both precisions start from the same numbers
  auto Draw = [&](int64_t n, double scale) {
    Array values(n);
    for (double& value : values) value = static_cast<float>(scale * normal(random));
    return values;
  };
  Problem p;
  p.shape = shape;
  const int64_t M = shape.n_models, N = shape.n_windows, T = shape.n_timesteps;
  const int64_t C = shape.n_channels, H = shape.hidden_size, D = shape.n_directions;
  const int64_t states = M * N * D * H, P = PooledSize(shape), K = shape.n_classes;
  p.x = Draw(shape.n_x_models * N * T * C, 1);
  p.weight_ih = Draw(M * D * 4 * H * C, 0.4);
  p.weight_hh = Draw(M * D * 4 * H * H, 0.4 / std::sqrt(double(H)));
  p.bias = Draw(M * D * 4 * H, 0.4);
  p.weight_out = Draw(M * K * P, 0.5);
  p.bias_out = Draw(M * K, 0.5);
  p.grad_logits = Draw(M * N * K, 1);
  p.has_h_0 = p.has_c_0 = p.has_mask = options;
  if (options) {
    p.h_0 = Draw(states, 0.5);
    p.c_0 = Draw(states, 0.5);
    p.mask = Draw(states, 1);
    p.grad_h_n = Draw(states, 1);
    p.grad_c_n = Draw(states, 1);
  }
  if (shape.pooling == Pooling::kNone || options) p.grad_hidden = Draw(M * N * T * D * H, 1);
  p.has_lengths = lengths != Lengths::kNone;
  for (int64_t n = 0; p.has_lengths && n < N; ++n) {
    const int64_t length = lengths == Lengths::kZero   ? 0
                           : lengths == Lengths::kFull ? T
                                                       : int64_t(random() % (T + 1));
    p.lengths.push_back(length);
    for (int64_t m = 0; m < shape.n_x_models; ++m) {
      for (int64_t i = length * C; i < T * C; ++i) p.x[(m * N + n) * T * C + i] = NAN;
    }
    for (int64_t m = 0; m < M && !p.grad_hidden.empty(); ++m) {
      for (int64_t i = length * D * H; i < T * D * H; ++i) {
        p.grad_hidden[(m * N + n) * T * D * H + i] = NAN;
      }
    }
  }
  return p;
}

template <typename Real>
void CheckCases(const std::string& isa, int64_t lanes) {
  std::mt19937 random(1);
  const int64_t B = kTileRows;
  int64_t n_cases = 0;
  std::set<Pooling> met;  // by one pair of N and T
  const Pooling poolings[] = {Pooling::kNone, Pooling::kLast, Pooling::kMean, Pooling::kMax,
                              Pooling::kMeanMax};
  const Lengths patterns[] = {Lengths::kNone, Lengths::kZero, Lengths::kFull, Lengths::kMixed};
  for (int64_t H : {int64_t(1), lanes - 1, lanes, lanes + 1, 2 * lanes + 3}) {
    for (int64_t C : {int64_t(1), lanes, lanes + 1}) {
      for (int64_t N : {int64_t(0), int64_t(1), B - 1, B, B + 1}) {
        for (int64_t T : {0, 1, 2, 41}) {  // 41: into a second block of gate gradients, from N = 5
          LstmShape shape;
          // `turn` moves on by one with each turn of the 20 pairs of N and T, so that every pair
          // meets every pooling and either number of models and directions
          const int64_t i = n_cases++, turn = i + i / 20;
          shape.n_models = 1 + turn % 2;
          shape.n_x_models = i % 3 == 0 ? shape.n_models : 1;
          shape.n_windows = N;
          shape.n_timesteps = T;
          shape.n_channels = C;
          shape.hidden_size = H;
          shape.n_directions = 1 + (turn / 2) % 2;
          shape.pooling = poolings[turn % 5];
          if (N == B && T == 41) met.insert(shape.pooling);
          shape.n_classes = shape.pooling == Pooling::kNone ? 0 : 1 + i % 4;
          const Lengths lengths = patterns[(i / 3) % 4];
          const bool options = (i / 4) % 2;
          const bool with_hidden = shape.pooling == Pooling::kNone || (i / 9) % 2;
          const std::string name = isa + " N" + std::to_string(N) + " T" + std::to_string(T) +
                                   " C" + std::to_string(C) + " H" + std::to_string(H) + " #" +
                                   std::to_string(i);
          CheckCase<Real>(name, MakeProblem(random, shape, lengths, options), with_hidden,
                          i % 7 != 6);
        }
      }
    }
  }
  Check(met.size() == 5, "every pooling at N = 6, T = 41");
  // many tiles in several slots, and a long row
  LstmShape shape;
  shape.n_windows = 17 * B + 1;
  shape.n_timesteps = 5;
  shape.n_channels = 2;
  shape.hidden_size = lanes + 1;
  shape.n_directions = 2;
  shape.pooling = Pooling::kMeanMax;
  shape.n_classes = 3;
  CheckCase<Real>(isa + " slots", MakeProblem(random, shape, Lengths::kMixed, true), true, true);
  shape.n_windows = 2;
  shape.n_timesteps = 257;
  CheckCase<Real>(isa + " long", MakeProblem(random, shape, Lengths::kMixed, false), true, true);
  std::printf("%s %s: %d cases\n", isa.c_str(), sizeof(Real) == 8 ? "float64" : "float32",
              int(n_cases + 2));
}

// What the header allows: h_n in place of h_0, and c_n of c_0.
template <typename Real>
void CheckStatesInPlace(const std::string& isa) {
  std::mt19937 random(2);
  LstmShape shape;
  shape.n_windows = kTileRows + 1;
  shape.n_timesteps = 4;
  shape.n_channels = 2;
  shape.hidden_size = 5;
  shape.n_directions = 2;
  const Problem p = MakeProblem(random, shape, Lengths::kMixed, true);
  const Result expected = reference::Run(p);
  Exact<Real> x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh), bias(p.bias), h(p.h_0),
      c(p.c_0), mask(p.mask);
  LstmForward<Real> args{};
  args.shape = shape;
  args.in = {x.data(), p.lengths.data(), weight_ih.data(), weight_hh.data(), bias.data(),
             h.data(), c.data(),         mask.data(),      nullptr};
  args.h_n = h.data();
  args.c_n = c.data();
  const Workspace space(lstm_forward_workspace_bytes(shape, sizeof(Real)));
  args.workspace = space.data;
  Check(lstm_forward(args) == Status::kOk, "forward status in place");
  Compare(isa + " h_n in place of h_0", h, expected.h_n, Tolerance<Real>());
  Compare(isa + " c_n in place of c_0", c, expected.c_n, Tolerance<Real>());
}

void CheckSlots() {
  Check(SlotCount(0) == 0, "no window, no slot");
  Check(SlotCount(13) == 3, "a slot for every tile begun");
  Check(SlotCount(500) == 8, "no more than 8 slots");
}

// The error bounds that csrc/cpu/activations-inl.h states, over every 997th float.
void CheckActivations(const Kernels& kernels) {
  std::vector<float> x, y;
  for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 997) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      const uint32_t both = bits | sign;
      float value;
      std::memcpy(&value, &both, sizeof(value));
      x.push_back(value);
    }
  }
  x.insert(x.end(), {INFINITY, -INFINITY, NAN, 0.0f, -0.0f});
  y.resize(x.size());
  auto Ulp = [](double value) {
    int exponent;
    std::frexp(value, &exponent);
    return std::max(std::ldexp(1.0, exponent - 24), 1.5e-45);
  };
  const std::string name = kernels.name;
  using Function = void (*)(const float*, float*, int64_t);
  auto Sweep = [&](const std::string& what, Function function, auto exact_of, double ulps,
                   double start_of_ulps) {
    function(x.data(), y.data(), x.size());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const std::string at = name + " " + what + "(" + std::to_string(x[i]) + ")";
      if (std::isnan(x[i])) {
        Check(std::isnan(y[i]), at);
        continue;
      }
      const double exact = exact_of(double(x[i])), error = std::fabs(y[i] - exact);
      if (x[i] > start_of_ulps) worst = std::max(worst, error / Ulp(exact));
      Check(error <= 1.5e-7 && (x[i] <= start_of_ulps || error <= ulps * Ulp(exact)), at);
      Check(std::fabs(y[i]) <= 1 && (exact == 0 || std::signbit(y[i]) == (exact < 0)), at);
    }
    std::printf("%s %s: at most %.2f ulp\n", name.c_str(), what.c_str(), worst);
  };
  Sweep(
      "sigmoid", kernels.sigmoid_f32, [](double v) { return 1 / (1 + std::exp(-v)); }, 2.5, -87.0);
  Sweep("tanh", kernels.tanh_f32, [](double v) { return std::tanh(v); }, 2.5, -INFINITY);
}

void CheckRefusals() {
  LstmForward<float> args{};
  args.shape.hidden_size = 0;
  Check(lstm_forward(args) == Status::kInvalidShape, "hidden_size 0 is refused");
  args.shape.hidden_size = 4;
  args.shape.n_directions = 3;
  Check(lstm_forward(args) == Status::kInvalidShape, "3 directions are refused");
  args.shape.n_directions = 1;
  args.shape.n_windows = 2;
  args.shape.n_timesteps = 5;
  LstmBackward<float> backward{};
  backward.shape = args.shape;
  for (int64_t bad : {-1, 6}) {
    const int64_t lengths[] = {5, bad};
    args.in.lengths = backward.in.lengths = lengths;
    Check(lstm_forward(args) == Status::kLengthOutOfRange, "a length out of range is refused");
    Check(lstm_backward(backward) == Status::kLengthOutOfRange, "and in the backward pass");
  }
  args.in.lengths = nullptr;
  setenv("SENSORSEQ_CPU_ISA", "haswell", 1);
  Check(lstm_forward(args) == Status::kUnknownIsa, "an unknown instruction set is refused");
}

}  // namespace

int main() {
  const KernelTable table = AllKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    const Kernels& kernels = *table.rows[i];
    if (!kernels.is_supported()) {
      std::printf("%s: not on this processor\n", kernels.name);
      continue;
    }
    setenv("SENSORSEQ_CPU_ISA", kernels.name, 1);
    const std::string name = kernels.name;
    const int64_t bytes = name == "avx512" ? 64 : name == "avx2" ? 32 : 16;
    Status status;
    Check(ActiveKernels(&status) == &kernels, name + " is the forced one");
    CheckCases<float>(name, bytes / 4);
    CheckCases<double>(name, bytes / 8);
    CheckStatesInPlace<float>(name);
    CheckStatesInPlace<double>(name);
    CheckActivations(kernels);
  }
  CheckSlots();
  CheckRefusals();
  if (g_failures > 0) {
    std::printf("%d failed\n", g_failures);
    return 1;
  }
  std::printf("all passed\n");
  return 0;
}
