// Checks the guarantee of csrc/lstm/lstm_linear.h about bits on every instruction set of this
// machine: an output has the same bits whatever else the call computes. Whether an output is
// correct is not checked here.
#include <algorithm>
#include <cstring>

#include "lstm_problem.h"

namespace {

using namespace lstm_problem;

Problem SomeRows(const Problem& p, const Ints& rows) {
  return Part(p, Range(0, p.shape.n_models), rows);
}

Problem SomeSteps(const Problem& p, int64_t begin, int64_t end) {
  Problem some = p;
  const LstmShape& s = p.shape;
  some.shape.n_timesteps = end - begin;
  some.x = Take(p.x, s.n_x_models * s.n_windows, s.n_timesteps, Range(begin, end));
  some.grad_hidden =
      Take(p.grad_hidden, s.n_models * s.n_windows, s.n_timesteps, Range(begin, end));
  for (int64_t& length : some.lengths) {
    length = std::clamp(length - begin, int64_t(0), end - begin);
  }
  return some;
}

// A call's outputs as doubles, which represent every float exactly.
template <typename Real>
Result Run(const Problem& p, const Wanted& wanted = {}, const Parallel& parallel = {}) {
  Outputs<Real> out(p.shape);
  Compute(p, wanted, parallel, out);
  auto Exactly = [](auto& from) { return Array(from.data(), from.data() + from.size()); };
  return {Exactly(out.hidden),
          Exactly(out.h_n),
          Exactly(out.c_n),
          Exactly(out.pooled),
          Exactly(out.logits),
          Exactly(out.grad_x),
          Exactly(out.grad_weight_ih),
          Exactly(out.grad_weight_hh),
          Exactly(out.grad_bias),
          Exactly(out.grad_h_0),
          Exactly(out.grad_c_0),
          Exactly(out.grad_weight_out),
          Exactly(out.grad_bias_out)};
}

void SameBits(const std::string& what, const Array& a, const Array& b) {
  const bool same = a.size() == b.size() &&
                    (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
  Check(same, what + " has other bits");
}

struct Output {
  const char* name;
  Array Result::* array;
};
const Output kOfRows[] = {{"h_n", &Result::h_n},           {"c_n", &Result::c_n},
                          {"pooled", &Result::pooled},     {"logits", &Result::logits},
                          {"grad_h_0", &Result::grad_h_0}, {"grad_c_0", &Result::grad_c_0}};
const Output kOfSteps[] = {{"hidden", &Result::hidden}, {"grad_x", &Result::grad_x}};
const Output kOfModels[] = {{"grad_weight_ih", &Result::grad_weight_ih},
                            {"grad_weight_hh", &Result::grad_weight_hh},
                            {"grad_bias", &Result::grad_bias},
                            {"grad_weight_out", &Result::grad_weight_out},
                            {"grad_bias_out", &Result::grad_bias_out}};

void SameRows(const std::string& what, const LstmShape& s, const Result& whole, const Ints& rows,
              const Result& part) {
  auto Same = [&](const Output& output) {
    SameBits(what + ", " + output.name, Take(whole.*output.array, s.n_models, s.n_windows, rows),
             part.*output.array);
  };
  for (const Output& output : kOfRows) Same(output);
  for (const Output& output : kOfSteps) Same(output);
}

void SameModels(const std::string& what, int64_t n_models, const Result& whole, const Ints& models,
                const Result& part) {
  auto Same = [&](const Output& output) {
    SameBits(what + ", " + output.name, Take(whole.*output.array, 1, n_models, models),
             part.*output.array);
  };
  for (const Output& output : kOfRows) Same(output);
  for (const Output& output : kOfSteps) Same(output);
  for (const Output& output : kOfModels) Same(output);
}

// A window has the same bits in batches of 1 to 14, at any position and alongside any others.
template <typename Real>
void CheckBatch(const std::string& name, const Problem& p, std::mt19937& random) {
  const Result whole = Run<Real>(p);
  Ints rows = Range(0, p.shape.n_windows);
  for (int64_t row : rows) {
    SameRows(name + ": a row alone", p.shape, whole, {row}, Run<Real>(SomeRows(p, {row})));
  }
  for (int64_t n = 2; n <= p.shape.n_windows; ++n) {
    std::shuffle(rows.begin(), rows.end(), random);
    const Ints some(rows.begin(), rows.begin() + n);
    SameRows(name + ": a row in a batch of " + std::to_string(n), p.shape, whole, some,
             Run<Real>(SomeRows(p, some)));
  }
}

template <typename Real>
void CheckThreads(const std::string& name, const Problem& p) {
  const Result whole = Run<Real>(p);
  for (int64_t n_threads : {1, 2, 3, 8}) {
    const Result threaded = Run<Real>(p, {}, OnThreads(&n_threads));
    SameModels(name + ": on " + std::to_string(n_threads) + " threads", p.shape.n_models, whole,
               Range(0, p.shape.n_models), threaded);
  }
}

template <typename Real>
void CheckModels(const std::string& name, const Problem& p) {
  const Result whole = Run<Real>(p);
  for (int64_t model = 0; model < p.shape.n_models; ++model) {
    SameModels(name + ": a model alone", p.shape.n_models, whole, {model},
               Run<Real>(Part(p, {model}, Range(0, p.shape.n_windows))));
  }
}

// Each chunk runs forward from the states of the previous chunk, and then backward from the
// gradients of the next chunk. Only one direction is tested, because the second direction starts at
// the end of the window.
template <typename Real>
void CheckChunks(const std::string& name, const Problem& p, std::mt19937& random) {
  const LstmShape& s = p.shape;
  const Result whole = Run<Real>(p);
  Ints cuts = {0, s.n_timesteps};
  for (int i = 0; i < 3; ++i) cuts.push_back(int64_t(random() % (s.n_timesteps + 1)));
  std::sort(cuts.begin(), cuts.end());
  std::vector<Problem> chunks;
  std::vector<Result> results;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    chunks.push_back(SomeSteps(p, cuts[i], cuts[i + 1]));
    if (i > 0) {
      chunks[i].h_0 = results[i - 1].h_n;
      chunks[i].c_0 = results[i - 1].c_n;
    }
    results.push_back(Run<Real>(chunks[i]));
  }
  for (size_t i = chunks.size(); i-- > 0;) {
    if (i + 1 < chunks.size()) {
      chunks[i].grad_h_n = results[i + 1].grad_h_0;
      chunks[i].grad_c_n = results[i + 1].grad_c_0;
    }
    results[i] = Run<Real>(chunks[i]);
    for (const Output& output : kOfSteps) {
      SameBits(name + ": in chunks, " + output.name,
               Take(whole.*output.array, s.n_models * s.n_windows, s.n_timesteps,
                    Range(cuts[i], cuts[i + 1])),
               results[i].*output.array);
    }
  }
  SameBits(name + ": in chunks, h_n", whole.h_n, results.back().h_n);
  SameBits(name + ": in chunks, c_n", whole.c_n, results.back().c_n);
  SameBits(name + ": in chunks, grad_h_0", whole.grad_h_0, results.front().grad_h_0);
  SameBits(name + ": in chunks, grad_c_0", whole.grad_c_0, results.front().grad_c_0);
}

// A row that ends early has the same bits as a row with fewer timesteps.
template <typename Real>
void CheckLengths(const std::string& name, const Problem& p) {
  const LstmShape& s = p.shape;
  const Result whole = Run<Real>(p);
  for (int64_t row = 0; row < s.n_windows; ++row) {
    const int64_t length = p.lengths[row];
    Problem cut = SomeSteps(SomeRows(p, {row}), 0, length);
    cut.has_lengths = false;
    const Result alone = Run<Real>(cut);
    const std::string what = name + ": a row cut to its length, ";
    for (const Output& output : kOfRows) {
      SameBits(what + output.name, Take(whole.*output.array, s.n_models, s.n_windows, {row}),
               alone.*output.array);
    }
    for (const Output& output : kOfSteps) {
      const Array of_row = Take(whole.*output.array, s.n_models, s.n_windows, {row});
      SameBits(what + output.name, Take(of_row, s.n_models, s.n_timesteps, Range(0, length)),
               alone.*output.array);
    }
  }
}

// If every slot is one tile, each weight gradient is the sum, in slot order, of the gradients that
// the windows of each slot give alone.
template <typename Real>
void CheckSlots(const std::string& name, const Problem& p) {
  const int64_t n_slots = SlotCount(p.shape);
  Outputs<Real> whole(p.shape);
  Compute(p, {}, OnThreads(), whole);
  const auto gradients = {&Outputs<Real>::grad_weight_ih, &Outputs<Real>::grad_weight_hh,
                          &Outputs<Real>::grad_bias, &Outputs<Real>::grad_weight_out,
                          &Outputs<Real>::grad_bias_out};
  for (Exact<Real> Outputs<Real>::* gradient : gradients) {
    std::vector<Real> sum((whole.*gradient).size(), Real(0));
    for (int64_t slot = 0; slot < n_slots; ++slot) {
      const Problem of_slot =
          SomeRows(p, Range(SlotWindow(slot, p.shape), SlotWindow(slot + 1, p.shape)));
      Outputs<Real> alone(of_slot.shape);
      Compute(of_slot, {}, Parallel{}, alone);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += (alone.*gradient).data()[i];
    }
    SameBits(name + ": a weight gradient as the sum of its slots", Array(sum.begin(), sum.end()),
             Array((whole.*gradient).data(), (whole.*gradient).data() + sum.size()));
  }
}

// Omitting an output changes no other output.
template <typename Real>
void CheckWanted(const std::string& name, const Problem& p) {
  const Result whole = Run<Real>(p);
  Wanted inference;
  inference.gradients = false;
  const Result inferred = Run<Real>(p, inference);
  for (Array Result::* array :
       {&Result::hidden, &Result::h_n, &Result::c_n, &Result::pooled, &Result::logits}) {
    SameBits(name + ": an output at inference", whole.*array, inferred.*array);
  }
  inference.packed = true;
  const Result packed = Run<Real>(p, inference);
  for (Array Result::* array :
       {&Result::hidden, &Result::h_n, &Result::c_n, &Result::pooled, &Result::logits}) {
    SameBits(name + ": an output on packed weights", whole.*array, packed.*array);
  }
  Wanted bare;
  bare.hidden = bare.grad_x = false;
  const Result left = Run<Real>(p, bare);
  for (const Output& output : kOfRows) {
    SameBits(name + ": without hidden and grad_x, " + output.name, whole.*output.array,
             left.*output.array);
  }
  for (const Output& output : kOfModels) {
    SameBits(name + ": without hidden and grad_x, " + output.name, whole.*output.array,
             left.*output.array);
  }
}

template <typename Real>
void CheckLaws(const std::string& isa, int64_t lanes, bool threads_only) {
  const Pooling poolings[] = {Pooling::kMeanMax, Pooling::kLast, Pooling::kMean, Pooling::kMax,
                              Pooling::kNone};
  const int64_t hidden_sizes[] = {lanes + 1, 1, 2 * lanes, 4 * lanes + 1, lanes - 1, 3 * lanes};
  const int64_t channels[] = {1, 17, lanes, 2};
  for (int64_t seed = 0; seed < 12; ++seed) {
    std::mt19937 random(static_cast<uint32_t>(seed));
    LstmShape shape;
    shape.n_windows = 14;
    shape.n_timesteps = 1 + seed % 7;
    shape.n_channels = channels[seed % 4];
    shape.hidden_size = hidden_sizes[seed % 6];
    shape.n_directions = 1 + random() % 2;
    shape.pooling = poolings[seed % 5];
    shape.n_classes = shape.pooling == Pooling::kNone ? 0 : 3;
    const std::string name =
        isa + (sizeof(Real) == 8 ? " float64" : " float32") + " seed " + std::to_string(seed);
    const bool options = random() % 2 == 0;

    LstmShape tiles = shape;
    tiles.n_models = 1 + random() % 2;
    tiles.n_windows = random() % 2 == 0 ? kMaxSlots * kTileRows + 1 : 2 * kTileRows + 1;
    if (seed == 0) {
      // full tiles that are long enough to fill a block of gate gradients to its last entry, and no
      // padded units, which would leave unused room in the workspace
      tiles.n_windows = kMaxSlots * kTileRows;
      tiles.n_timesteps = kBlockEntries / kTileRows + 1;
      tiles.hidden_size = kVectorPadding;
      tiles.n_channels = kVectorPadding + 1;
    }
    const Lengths lengths = seed == 0 ? Lengths::kFull : Lengths::kMixed;
    CheckThreads<Real>(name, MakeProblem(random, tiles, lengths, options));
    if (threads_only) continue;

    const Problem p = MakeProblem(random, shape, Lengths::kMixed, options);
    CheckBatch<Real>(name, p, random);
    CheckLengths<Real>(name, p);
    CheckWanted<Real>(name, p);

    LstmShape slots = shape;
    slots.n_windows = 2 + 3 * seed;  // up to 6 slots
    CheckSlots<Real>(name, MakeProblem(random, slots, Lengths::kMixed, options));

    LstmShape models = shape;
    models.n_models = 3;
    models.n_x_models = random() % 2 == 0 ? 3 : 1;
    models.n_windows = 1 + 5 * (seed % 4);
    CheckModels<Real>(name, MakeProblem(random, models, Lengths::kMixed, options));

    LstmShape steps = shape;
    steps.n_timesteps = seed % 4 == 0 ? kBlockEntries / 3 * 2 + 1 : 2 + seed;
    steps.n_windows = kTileRows + 1;
    steps.n_directions = 1;
    steps.pooling = Pooling::kNone;
    steps.n_classes = 0;
    CheckChunks<Real>(name, MakeProblem(random, steps, Lengths::kMixed, true), random);
  }
}

bool KeepsSubnormals() {
  volatile float single = 1e-40f;
  volatile double wide = 1e-310;
  volatile float product = single * 1.0f;
  volatile double wide_product = wide * 1.0;
  Check((product != 0.0f) == (wide_product != 0.0), "one mode for both precisions");
  return product != 0.0f;
}

// After Wait, every member of a team sees what the other members wrote before they called Wait.
void CheckTeam() {
  constexpr int64_t kSteps = 50;
  struct Written {
    int64_t steps[64] = {}, n_members = 0;
  } written;
  auto Task = [](void* context, Team::Member& member) {
    auto& to = *static_cast<Written*>(context);
    if (member.index == 0) to.n_members = member.n_members;
    for (int64_t step = 1; step <= kSteps; ++step) {
      to.steps[member.index] = step;
      member.Wait();
      for (int64_t i = 0; i < member.n_members; ++i) {
        Check(to.steps[i] == step, "a member is at the step of the others");
      }
      member.Wait();
    }
  };
  const Parallel::Sharing always{0, int64_t(1) << 40, 0, 0};
  for (const Parallel& parallel : {Parallel{}, Parallel{&RunOnThreads, nullptr, 64, always}}) {
    Team::Run(parallel, 64, Task, &written, Subnormals::kZero);
    const int64_t most = parallel.run == nullptr ? 1 : 3;
    Check(written.n_members >= 1 && written.n_members <= most, "no more members than threads");
    for (int64_t i = 0; i < written.n_members; ++i) {
      Check(written.steps[i] == kSteps, "every member takes every step");
    }
  }
}

// Each task runs in the requested mode, on any thread and whatever the caller's mode. Afterwards,
// the caller's mode is restored, even if a task throws.
void CheckSubnormals() {
  for (Subnormals callers : {Subnormals::kKept, Subnormals::kZero}) {
    const SubnormalsGuard guard(callers);
    for (Subnormals wanted : {Subnormals::kZero, Subnormals::kKept}) {
      const std::string name =
          std::string(callers == wanted ? "the caller's" : "another") + " mode";
      for (Parallel parallel : {Parallel{}, OnThreads()}) {
        bool keeps[7];
        RunTasks(
            parallel, 7, [](void* to, int64_t i) { static_cast<bool*>(to)[i] = KeepsSubnormals(); },
            keeps, wanted);
        for (bool kept : keeps) Check(kept == (wanted == Subnormals::kKept), name + " in a task");
        Check(KeepsSubnormals() == (callers == Subnormals::kKept), name + " and back");
      }
      // a thread that is started inside a task has the mode that the calling thread had before the
      // first guard
      bool starts_keeping = false;
      Parallel pool;
      pool.pool = &starts_keeping;
      pool.run = [](void* keeps, int64_t, Parallel::Task, void*) {
        std::thread([=] { *static_cast<bool*>(keeps) = KeepsSubnormals(); }).join();
      };
      RunTasks(
          Parallel{}, 1,
          [](void* inner, int64_t) {
            RunTasks(
                *static_cast<Parallel*>(inner), 2, [](void*, int64_t) {}, nullptr,
                Subnormals::kZero);
          },
          &pool, wanted);
      Check(starts_keeping, name + " and a new thread's");
      try {
        RunTasks(Parallel{}, 1, [](void*, int64_t) { throw 1; }, nullptr, wanted);
        Check(false, "a task throws");
      } catch (int) {
      }
      Check(KeepsSubnormals() == (callers == Subnormals::kKept), name + " and back from a throw");
    }
  }
}

}  // namespace

// With the argument "threads", only the multithreaded tests run, for ThreadSanitizer, under which
// the other tests would take a long time.
int main(int n_arguments, char** arguments) {
  const bool threads_only = n_arguments > 1 && std::string(arguments[1]) == "threads";
  CheckSubnormals();
  CheckTeam();
  ForEachIsa([&](const Kernels& kernels, int64_t bytes) {
    const std::string name = kernels.name;
    CheckLaws<float>(name, bytes / 4, threads_only);
    CheckLaws<double>(name, bytes / 8, threads_only);
  });
  return Finish();
}
