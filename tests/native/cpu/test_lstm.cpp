// Compares csrc/cpu with a reference in double, without torch and without Python, on every
// instruction set of this machine. Built with AddressSanitizer and UBSan. Every array ends where
// its allocation ends and begins misaligned, a sentinel precedes every output, and elements that
// must not be read contain NaN.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "harness.h"
#include "lstm_problem.h"

// Counts allocations: see Compute.
void* operator new(size_t bytes) {
  ++harness::g_allocations;
  void* data = std::malloc(bytes > 0 ? bytes : 1);
  if (data == nullptr) std::abort();
  return data;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }

namespace {

using namespace sensorseq;
using namespace harness;
using namespace lstm_problem;

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

// A limit for the rounding errors of Real over the longest chain of sums. A wrong index causes
// errors that are orders of magnitude larger.
template <typename Real>
double Tolerance() {
  return sizeof(Real) == 8 ? 1e-11 : 2e-4;
}

// The data saved for the backward pass stay within bounds, and are completely written if all rows
// have full length.
template <typename Real>
void CheckSaved(const std::string& name, const Problem& p, Exact<Real>& saved) {
  Check(saved.sentinel_intact(), name + " saved: written before its beginning");
  for (int64_t length : p.lengths) {
    if (length < p.shape.n_timesteps) return;
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    if (saved.data()[i] == Exact<Real>::kSentinel) {
      Check(false, name + " saved[" + std::to_string(i) + "] is not written");
      return;
    }
  }
}

template <typename Real>
void CheckCase(const std::string& name, const Problem& p, const Wanted& wanted) {
  const Result expected = reference::Run(p);
  Outputs<Real> one(p.shape), several(p.shape);
  Compute(p, wanted, Parallel{}, one);
  Compute(p, wanted, OnThreads(), several);
  const bool has_pooling = p.shape.pooling != Pooling::kNone;
  if (!wanted.fused) CheckSaved(name, p, one.saved);
  if (!wanted.fused && has_pooling) {
    Wanted fused = wanted;
    fused.fused = true;
    CheckCase<Real>(name + " fused", p, fused);
  }
  auto Both = [&](const char* what, Exact<Real>& a, Exact<Real>& b, const Array& exact) {
    Compare(name + " " + what, a, exact, Tolerance<Real>());
    SameBits(name + " " + what, a, b);
  };
  if (wanted.hidden) Both("hidden", one.hidden, several.hidden, expected.hidden);
  Both("h_n", one.h_n, several.h_n, expected.h_n);
  Both("c_n", one.c_n, several.c_n, expected.c_n);
  Both("grad_weight_ih", one.grad_weight_ih, several.grad_weight_ih, expected.grad_weight_ih);
  Both("grad_weight_hh", one.grad_weight_hh, several.grad_weight_hh, expected.grad_weight_hh);
  Both("grad_bias", one.grad_bias, several.grad_bias, expected.grad_bias);
  if (wanted.grad_x) Both("grad_x", one.grad_x, several.grad_x, expected.grad_x);
  if (p.has_h_0) Both("grad_h_0", one.grad_h_0, several.grad_h_0, expected.grad_h_0);
  if (p.has_c_0) Both("grad_c_0", one.grad_c_0, several.grad_c_0, expected.grad_c_0);
  if (has_pooling) Both("pooled", one.pooled, several.pooled, expected.pooled);
  if (!wanted.fused) {
    Both("logits", one.logits, several.logits, expected.logits);
    Both("grad_weight_out", one.grad_weight_out, several.grad_weight_out, expected.grad_weight_out);
    Both("grad_bias_out", one.grad_bias_out, several.grad_bias_out, expected.grad_bias_out);
  }
}

template <typename Real>
void CheckCases(const std::string& isa, int64_t lanes) {
  std::mt19937 random(1);
  const int64_t B = kTileRows;
  int64_t n_cases = 0;
  std::set<Pooling> met;  // poolings combined with one pair of N and T
  const Pooling poolings[] = {Pooling::kNone, Pooling::kLast, Pooling::kMean, Pooling::kMax,
                              Pooling::kMeanMax};
  const Lengths patterns[] = {Lengths::kNone, Lengths::kZero, Lengths::kFull, Lengths::kMixed};
  for (int64_t H : {int64_t(1), lanes - 1, lanes, lanes + 1, 2 * lanes + 3}) {
    for (int64_t C : {int64_t(1), lanes, lanes + 1}) {
      for (int64_t N : {int64_t(0), int64_t(1), B - 1, B, B + 1}) {
        for (int64_t T : {0, 1, 2, 41}) {  // 41 fills a second block of gate gradients if N >= 5
          LstmShape shape;
          // `turn` skips a number after each round over the 20 pairs of N and T, so that every pair
          // is combined with every pooling and with 1 and 2 models and directions
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
          shape.n_classes = shape.pooling == Pooling::kNone ? 0 : i % 5;
          const Lengths lengths = patterns[(i / 3) % 4];
          const bool options = (i / 4) % 2;
          const bool with_hidden = shape.pooling == Pooling::kNone || (i / 9) % 2;
          const std::string name = isa + " N" + std::to_string(N) + " T" + std::to_string(T) +
                                   " C" + std::to_string(C) + " H" + std::to_string(H) + " #" +
                                   std::to_string(i);
          CheckCase<Real>(name, MakeProblem(random, shape, lengths, options),
                          {with_hidden, i % 7 != 6});
        }
      }
    }
  }
  Check(met.size() == 5, "every pooling at N = 6, T = 41");
  // panels of 4, 2 and 1 vectors in one layer; slots with one tile and with two
  const int64_t channels[] = {17, 1, 2 * lanes, 2 * lanes + 1, 3};
  for (int64_t H : {2 * lanes + 1, 3 * lanes + 1, 4 * lanes + 1, 6 * lanes + 1}) {
    for (int64_t N : {2 * B, 2 * B + 1, kMaxSlots * B, kMaxSlots * B + 1}) {
      const int64_t i = n_cases++;
      LstmShape shape;
      shape.n_windows = N;
      shape.n_timesteps = 1 + i % 4;
      shape.n_channels = channels[i % 5];
      shape.hidden_size = H;
      shape.n_directions = 1 + (i / 4 + i) % 2;
      shape.pooling = poolings[i % 5];
      shape.n_classes = shape.pooling == Pooling::kNone ? 0 : 3;
      const std::string name = isa + " N" + std::to_string(N) + " C" +
                               std::to_string(shape.n_channels) + " H" + std::to_string(H);
      CheckCase<Real>(name, MakeProblem(random, shape, patterns[i % 3 == 0 ? 0 : 3], i % 3 == 1),
                      {shape.pooling == Pooling::kNone || i % 2 == 0, i % 7 != 6});
    }
  }
  // three tiles in a slot
  LstmShape shape;
  shape.n_windows = 17 * B + 1;
  shape.n_timesteps = 5;
  shape.n_channels = 2;
  shape.hidden_size = lanes + 1;
  shape.n_directions = 2;
  shape.pooling = Pooling::kMeanMax;
  shape.n_classes = 3;
  CheckCase<Real>(isa + " slots", MakeProblem(random, shape, Lengths::kMixed, true), {});
  // wide layers: more than one group, and a thread's units do not fill its last panel
  for (int64_t N : {B + 1, kGroupTiles * B + 1}) {
    LstmShape wide = shape;
    wide.n_windows = N;
    wide.n_timesteps = N > 2 * B ? 2 : 20;  // 20 steps fill several blocks of entries
    wide.n_channels = N > 2 * B ? 3 : 17;
    wide.hidden_size = kWideHidden + lanes + 1;
    CheckCase<Real>(isa + " wide", MakeProblem(random, wide, Lengths::kMixed, true), {true, true});
  }
  shape.n_windows = 2;
  shape.n_timesteps = 257;
  CheckCase<Real>(isa + " long", MakeProblem(random, shape, Lengths::kMixed, false), {});
  std::printf("%s %s: %d cases\n", isa.c_str(), sizeof(Real) == 8 ? "float64" : "float32",
              int(n_cases + 4));
}

// The header allows h_n to be the same array as h_0, and c_n the same as c_0.
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

// If the forget gate is 0 and weight_hh is zero, every step has the same h, so the gradient of the
// maximum goes to the first step.
template <typename Real>
void CheckEqualMaxima(const std::string& isa, int64_t lanes) {
  std::mt19937 random(3);
  LstmShape shape;
  shape.n_windows = 3;
  shape.n_timesteps = 6;
  shape.n_channels = 2;
  shape.hidden_size = lanes + 1;
  shape.n_classes = 3;
  for (Pooling pooling : {Pooling::kMax, Pooling::kMeanMax}) {
    for (int64_t n_directions : {1, 2}) {
      shape.pooling = pooling;
      shape.n_directions = n_directions;
      Problem p = MakeProblem(random, shape, Lengths::kNone, false);
      const int64_t H = shape.hidden_size;
      std::fill(p.x.begin(), p.x.end(), 1.0);
      std::fill(p.weight_hh.begin(), p.weight_hh.end(), 0.0);
      for (int64_t d = 0; d < n_directions; ++d) {
        const auto forget = p.bias.begin() + (d * kGates + kForgetGate) * H;
        std::fill(forget, forget + H, -200.0);
      }
      CheckCase<Real>(isa + " equal maxima", p, {});
    }
  }
}

// An output gate that is 0 passes neither a gradient nor a NaN back.
template <typename Real>
void CheckClosedGate(const std::string& isa, int64_t lanes) {
  std::mt19937 random(5);
  LstmShape shape;
  shape.n_windows = 2;
  shape.n_timesteps = 3;
  shape.n_channels = 2;
  shape.hidden_size = lanes + 1;
  shape.pooling = Pooling::kLast;
  shape.n_classes = 3;
  Problem p = MakeProblem(random, shape, Lengths::kNone, true);
  const int64_t H = shape.hidden_size;
  std::fill(p.bias.begin() + kOutputGate * H, p.bias.begin() + (kOutputGate + 1) * H, -800.0);
  CheckCase<Real>(isa + " closed gate", p, {});
}

// A NaN counts as the largest value, as in torch, and affects no other window.
template <typename Real>
void CheckNan(const std::string& isa, int64_t lanes) {
  std::mt19937 random(4);
  LstmShape shape;
  shape.n_windows = 3;
  shape.n_timesteps = 6;
  shape.n_channels = 2;
  shape.hidden_size = lanes + 1;
  shape.n_directions = 2;
  shape.n_classes = 3;
  for (Pooling pooling : {Pooling::kMax, Pooling::kMeanMax}) {
    shape.pooling = pooling;
    Problem p = MakeProblem(random, shape, Lengths::kNone, true);
    const Result expected = reference::Run(p);
    const int64_t P = PooledSize(shape);
    p.x[(shape.n_timesteps + 2) * shape.n_channels] = NAN;
    Outputs<Real> out(shape);
    Compute(p, {}, Parallel{}, out);
    for (int64_t i = 0; i < shape.n_windows * P; ++i) {
      const double value = static_cast<double>(out.pooled.data()[i]);
      const bool ok = i / P == 1 ? std::isnan(value)
                                 : std::fabs(value - expected.pooled[i]) <= Tolerance<Real>();
      Check(ok, isa + " pooled[" + std::to_string(i) + "] next to a NaN");
    }
    for (int64_t i = 0; i < shape.n_windows * shape.n_timesteps * shape.n_channels; ++i) {
      const double value = static_cast<double>(out.grad_x.data()[i]);
      const bool ok = i / (shape.n_timesteps * shape.n_channels) == 1
                          ? std::isnan(value)
                          : std::fabs(value - expected.grad_x[i]) <= 10 * Tolerance<Real>();
      Check(ok, isa + " grad_x[" + std::to_string(i) + "] next to a NaN");
    }
  }
}

void CheckSlots() {
  auto Slots = [](int64_t n_windows, int64_t hidden_size) {
    LstmShape s;
    s.n_windows = n_windows;
    s.hidden_size = hidden_size;
    return SlotCount(s);
  };
  Check(Slots(0, 64) == 0, "no window, no slot");
  Check(Slots(13, 64) == 3, "a slot for every tile begun");
  Check(Slots(500, 64) == 8, "no more than 8 slots");
  Check(Slots(500, kWideHidden) == 1, "one slot in a wide layer");
}

// Checks the error bounds that csrc/cpu/activations-inl.h states, on every 997th float.
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
  kernels.sigmoid_f32(x.data(), y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = 1 / (1 + std::exp(-double(x[i])));
    const double error = std::fabs(y[i] - exact);
    const bool ok = std::isnan(x[i]) ? std::isnan(y[i])
                                     : error <= 1e-7 && (x[i] < -87 || error <= 2.5 * Ulp(exact));
    if (!ok) Check(false, name + " sigmoid(" + std::to_string(x[i]) + ")");
  }
  kernels.tanh_f32(x.data(), y.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::tanh(double(x[i]));
    const bool ok = std::isnan(x[i])
                        ? std::isnan(y[i])
                        : std::fabs(y[i] - exact) <= 2.5 * Ulp(exact) &&
                              std::signbit(y[i]) == std::signbit(x[i]) && std::fabs(y[i]) <= 1;
    if (!ok) Check(false, name + " tanh(" + std::to_string(x[i]) + ")");
  }
}

// The workspace for inference grows with the number of windows, but not with that of timesteps.
void CheckMemory() {
  LstmShape shape;
  shape.n_windows = 40;
  shape.n_timesteps = 3;
  shape.n_channels = 2;
  shape.hidden_size = 20;
  const size_t bytes = lstm_forward_workspace_bytes(shape, sizeof(float));
  shape.n_timesteps = 3000;
  Check(lstm_forward_workspace_bytes(shape, sizeof(float)) == bytes,
        "inference needs the same workspace for any number of timesteps");
}

// Packed weights are accepted only by calls for which they were packed.
void CheckPackedHeader() {
  LstmShape shape;
  shape.n_channels = 3;
  shape.hidden_size = 4;
  const Array zeros(1000);
  Exact<float> values(zeros);
  LstmInputs<float> in{};
  in.weight_ih = in.weight_hh = in.bias = values.data();
  const size_t n_bytes = lstm_packed_bytes(shape, sizeof(float));
  Packed packed(n_bytes);
  const KernelTable table = AllKernels();
  for (int64_t i = 0; i < table.n_rows; ++i) {
    if (!table.rows[i]->is_supported()) continue;
    setenv("SENSORSEQ_CPU_ISA", table.rows[i]->name, 1);
    const std::string name = std::string(table.rows[i]->name) + ": ";
    Packed other_memory(n_bytes);
    std::memset(packed.data, 0, n_bytes);
    std::memset(other_memory.data, 255, n_bytes);
    for (void* memory : {packed.data, other_memory.data}) {
      Check(lstm_pack(shape, in, memory) == Status::kOk, name + "pack status");
    }
    Check(std::memcmp(packed.data, other_memory.data, n_bytes) == 0, name + "every byte is packed");
    auto With = [&](const LstmShape& other) {
      LstmForward<float> args{};
      args.shape = other;  // without windows, nothing happens after the check
      args.packed = packed.data;
      return lstm_forward(args);
    };
    Check(With(shape) == Status::kOk, name + "packed weights are accepted");
    for (int64_t LstmShape::* size : {&LstmShape::n_models, &LstmShape::n_directions,
                                      &LstmShape::n_channels, &LstmShape::hidden_size}) {
      LstmShape other = shape;
      other.*size += 1;
      other.n_x_models = 1;
      Check(With(other) == Status::kPackedOtherwise, name + "packed for other sizes is refused");
    }
    LstmForward<double> wide{};
    wide.shape = shape;
    wide.packed = packed.data;
    Check(lstm_forward(wide) == Status::kPackedOtherwise,
          name + "packed in another precision is refused");
    for (int64_t j = 0; j < table.n_rows; ++j) {
      if (j == i || !table.rows[j]->is_supported()) continue;
      setenv("SENSORSEQ_CPU_ISA", table.rows[j]->name, 1);
      Check(With(shape) == Status::kPackedForOtherIsa,
            name + "packed for another instruction set is refused");
    }
    setenv("SENSORSEQ_CPU_ISA", table.rows[i]->name, 1);
    static_cast<char*>(packed.data)[0] ^= 1;
    Check(With(shape) == Status::kNotPacked, name + "weights that were never packed are refused");
    shape.hidden_size = 0;
    Check(lstm_pack(shape, in, packed.data) == Status::kInvalidShape, name + "no sizes, no pack");
    shape.hidden_size = 4;
  }
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
  CheckPackedHeader();
  setenv("SENSORSEQ_CPU_ISA", "haswell", 1);
  Check(lstm_forward(args) == Status::kUnknownIsa, "an unknown instruction set is refused");
  const KernelTable table = AllKernels();
  for (const char* name : {"avx512", "avx2", "neon", "baseline"}) {
    bool is_here = false;
    for (int64_t i = 0; i < table.n_rows; ++i) {
      is_here |= table.rows[i]->is_supported() && name == std::string(table.rows[i]->name);
    }
    setenv("SENSORSEQ_CPU_ISA", name, 1);
    Status status;
    ActiveKernels(&status);
    Check(status == (is_here ? Status::kOk : Status::kIsaNotSupported),
          name + std::string(" is refused where the processor lacks it, and only there"));
  }
  Check(std::string("baseline") == table.rows[table.n_rows - 1]->name, "baseline is the last");
}

}  // namespace

int main() {
  ForEachIsa([&](const Kernels& kernels, int64_t bytes) {
    const std::string name = kernels.name;
    Status status;
    Check(ActiveKernels(&status) == &kernels, name + " is the forced one");
    CheckCases<float>(name, bytes / 4);
    CheckCases<double>(name, bytes / 8);
    CheckEqualMaxima<float>(name, bytes / 4);
    CheckEqualMaxima<double>(name, bytes / 8);
    CheckClosedGate<float>(name, bytes / 4);
    CheckClosedGate<double>(name, bytes / 8);
    CheckNan<float>(name, bytes / 4);
    CheckNan<double>(name, bytes / 8);
    CheckStatesInPlace<float>(name);
    CheckStatesInPlace<double>(name);
    CheckActivations(kernels);
  });
  unsetenv("SENSORSEQ_CPU_ISA");
  CheckSlots();
  CheckMemory();
  CheckRefusals();
  return Finish();
}
