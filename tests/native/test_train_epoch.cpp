// csrc/train_epoch.cpp without torch and without Python, on every instruction set of this machine:
// the gradient it steps along is the slope of the loss it reports, whatever the options; models
// beside each other get the bits they get alone. Built with AddressSanitizer and UBSan.
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "cpu/dispatch.h"
#include "harness.h"
#include "train_epoch.h"

namespace {

using namespace sensorseq;
using namespace harness;
using Ints = std::vector<int64_t>;

constexpr double kNone = std::numeric_limits<double>::infinity();

// Everything a call reads, in double; drawn by one seed.
struct Problem {
  TrainShape shape;
  Loss loss = Loss::kCrossEntropy;
  Optimizer optimizer = Optimizer::kSgd;
  bool has_lengths = false, has_weight = false, has_crops = false;
  Array x, weight, learning_rate, hyper, parameters;
  Ints lengths, class_index, rows, offsets, crop_starts, seeds;
  int64_t width = 0;  // P
};

class Draw {
 public:
  explicit Draw(uint32_t seed) : engine_(seed) {}
  int64_t Below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  double Normal() { return std::normal_distribution<double>()(engine_); }
  Array Normals(int64_t n, double scale) {
    Array values(n);
    for (double& value : values) value = scale * Normal();
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

Problem MakeProblem(uint32_t seed, int64_t n_models, int64_t lanes) {
  Draw draw(seed);
  Problem p;
  TrainShape& s = p.shape;
  const int64_t hidden_sizes[] = {1, lanes - 1, lanes, lanes + 1};
  s.n_models = n_models;
  s.n_windows = 9;
  s.n_data_timesteps = draw.Below(4) == 0 ? 1 : 5;
  p.has_crops = draw.Below(3) == 0;
  s.n_timesteps = p.has_crops && s.n_data_timesteps > 1 ? 3 : s.n_data_timesteps;
  s.n_channels = 1 + draw.Below(3);
  s.hidden_size = hidden_sizes[draw.Below(4)];
  if (s.hidden_size < 1) s.hidden_size = 1;
  s.n_directions = 1 + draw.Below(2);
  s.n_layers = 1 + draw.Below(4);
  s.n_classes = 2 + draw.Below(3);
  s.pooling = static_cast<Pooling>(1 + draw.Below(4));
  s.head_norm = static_cast<HeadNorm>(draw.Below(3));
  p.loss = static_cast<Loss>(draw.Below(3));
  p.has_lengths = draw.Below(2) == 0;
  p.has_weight = draw.Below(2) == 0;
  p.width = s.n_directions * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
  const int64_t batches[] = {2, 7, 13};
  s.n_steps = 3;
  for (int64_t m = 0; m < n_models; ++m) {
    p.offsets.push_back(0);
    for (int64_t batch : batches) p.offsets.push_back(p.offsets.back() + batch);
    p.seeds.push_back(draw.Below(1000) - 500);
  }
  s.n_rows = p.offsets.back();
  s.max_batch = 13;
  p.x = draw.Normals(s.n_windows * s.n_data_timesteps * s.n_channels, 1.0);
  for (int64_t n = 0; n < s.n_windows; ++n) {
    p.lengths.push_back(draw.Below(s.n_data_timesteps + 1));
    p.class_index.push_back(draw.Below(s.n_classes));
    p.weight.push_back(std::fabs(draw.Normal()));
    const int64_t row = s.n_data_timesteps * s.n_channels;
    for (int64_t i = p.lengths[n] * s.n_channels; p.has_lengths && i < row; ++i) {
      p.x[n * row + i] = NAN;
    }
  }
  for (int64_t i = 0; i < n_models * s.n_rows; ++i) {
    p.rows.push_back(draw.Below(s.n_windows));
    p.crop_starts.push_back(draw.Below(s.n_data_timesteps - s.n_timesteps + 1));
  }
  p.learning_rate = Array(s.n_steps, 1.0);
  p.hyper = Array(n_models * kHyperColumns, 0.0);
  for (int64_t m = 0; m < n_models; ++m) {
    double* hyper = &p.hyper[m * kHyperColumns];
    hyper[kMaxGradNorm] = hyper[kMaxGradValue] = kNone;
    hyper[kBeta1] = 0.9;
    hyper[kBeta2] = 0.99;
    hyper[kAlpha] = 0.9;
    hyper[kEps] = 1e-8;
    hyper[kLabelSmoothing] = 0.1 * static_cast<double>(draw.Below(3));
    hyper[kDropout] = 0.2 * static_cast<double>(draw.Below(3));
    hyper[kRecurrentDropout] = 0.2 * static_cast<double>(draw.Below(3));
    hyper[kEmaDecay] = 0.5;
  }
  p.parameters = draw.Normals(n_models * ParameterCount(s), 0.5);
  return p;
}

// What a call wrote, each array in an allocation of its own size.
template <typename Real>
struct Written {
  Exact<Real> parameters, state, average, running, margins;
  Exact<double> statistics;
  Ints step_count;

  explicit Written(const Problem& p)
      : parameters(p.parameters),
        state(Array(p.shape.n_models * StateRows(p.optimizer) * ParameterCount(p.shape), 0.0)),
        average(p.parameters),
        running(Array(p.shape.n_models * 2 * p.width, 1.0)),
        margins(static_cast<size_t>(p.shape.n_models * p.shape.n_rows)),
        statistics(static_cast<size_t>(p.shape.n_models * p.shape.n_steps * kStatisticColumns)),
        step_count(p.shape.n_models, 0) {}
};

template <typename Real>
Status Train(const Problem& p, int64_t first_step, int64_t n_steps, int64_t n_lanes,
             const Parallel& parallel, Written<Real>& out) {
  Exact<Real> x(p.x), weight(p.weight);
  Exact<double> learning_rate(p.learning_rate), hyper(p.hyper);
  const Ints lengths = p.lengths, class_index = p.class_index, rows = p.rows, offsets = p.offsets,
             crop_starts = p.crop_starts, seeds = p.seeds;
  TrainEpoch<Real> args{};
  args.shape = p.shape;
  args.loss = p.loss;
  args.optimizer = p.optimizer;
  args.n_x_models = args.n_class_models = args.n_weight_models = args.n_rate_models = 1;
  args.n_row_models = p.shape.n_models;
  args.x = x.data();
  args.lengths = p.has_lengths ? lengths.data() : nullptr;
  args.class_index = class_index.data();
  args.weight = weight.or_null(p.has_weight);
  args.rows = rows.data();
  args.offsets = offsets.data();
  args.crop_starts = p.has_crops ? crop_starts.data() : nullptr;
  args.learning_rate = learning_rate.data();
  args.hyper = hyper.data();
  args.seeds = seeds.data();
  args.parameters = out.parameters.data();
  args.state = out.state.data();
  args.step_count = out.step_count.data();
  args.average = out.average.data();
  args.running = out.running.or_null(p.shape.head_norm == HeadNorm::kBatch);
  args.statistics = out.statistics.data();
  args.margins = out.margins.data();
  args.first_step = first_step;
  args.n_steps = n_steps;
  args.detail_every = 2;
  args.n_lanes = n_lanes;
  args.parallel = parallel;
  const Workspace workspace(train_epoch_workspace_bytes(p.shape, n_lanes, sizeof(Real)));
  args.workspace = workspace.data;
  const Status status = train_epoch(args);
  for (bool intact : {out.parameters.sentinel_intact(), out.state.sentinel_intact(),
                      out.average.sentinel_intact(), out.margins.sentinel_intact(),
                      out.running.sentinel_intact(), out.statistics.sentinel_intact()}) {
    Check(intact, "nothing before an array is written");
  }
  return status;
}

// The penalty is in the gradient, but not in the loss that is reported.
double Penalty(const Problem& p, const Array& parameters) {
  const TrainShape& s = p.shape;
  double sum = 0;
  size_t at = 0;
  auto Take = [&](int64_t n, bool counts) {
    for (int64_t i = 0; i < n; ++i, ++at) sum += counts ? std::fabs(parameters[at]) : 0.0;
  };
  for (int64_t layer = 0; layer < s.n_layers; ++layer) {
    const int64_t inputs = layer == 0 ? s.n_channels : s.n_directions * s.hidden_size;
    for (int64_t d = 0; d < s.n_directions; ++d) {
      Take(4 * s.hidden_size * (inputs + s.hidden_size), true);
      Take(8 * s.hidden_size, false);
    }
  }
  if (s.head_norm != HeadNorm::kNone) Take(2 * p.width, false);
  Take(s.n_classes * p.width, true);
  Take(s.n_classes, false);
  Check(at == parameters.size(), "the parameters are those the header lists");
  return p.hyper[kL1] * sum;
}

double Objective(const Problem& p, int64_t step, const Array& parameters) {
  Problem moved = p;
  moved.parameters = parameters;
  Written<double> out(moved);
  Check(Train(moved, step, 1, 1, Parallel{}, out) == Status::kOk, "status");
  return out.statistics.data()[step * kStatisticColumns + kLoss] + Penalty(p, parameters);
}

// A step of plain descent at rate 1 moves by the gradient, which finite differences know, too.
void CheckSlope(uint32_t seed, int64_t lanes, const std::string& isa) {
  Problem p = MakeProblem(seed, 1, lanes);
  p.hyper[kL1] = seed % 2 == 0 ? 0.01 : 0.0;
  const int64_t step = seed % 3;
  Written<double> out(p);
  Check(Train(p, step, 1, 1, Parallel{}, out) == Status::kOk, "status");
  Draw draw(seed);
  double norm = 0;
  for (size_t i = 0; i < p.parameters.size(); ++i) {
    const double grad = p.parameters[i] - out.parameters.data()[i];
    norm += grad * grad;
  }
  norm = std::sqrt(norm);
  const double reported = out.statistics.data()[step * kStatisticColumns + kGradNorm];
  Check(std::fabs(norm - reported) <= 1e-9 * norm + 1e-12, isa + " reports the gradient's norm");
  for (int probe = 0; probe < 12; ++probe) {
    const size_t i = static_cast<size_t>(draw.Below(static_cast<int64_t>(p.parameters.size())));
    const double h = 1e-5, grad = p.parameters[i] - out.parameters.data()[i];
    Array up = p.parameters, down = p.parameters;
    up[i] += h;
    down[i] -= h;
    const double slope = (Objective(p, step, up) - Objective(p, step, down)) / (2 * h);
    Check(std::fabs(grad - slope) <= 1e-6 * (1 + norm),
          isa + " seed " + std::to_string(seed) + " parameter " + std::to_string(i) +
              ": gradient " + std::to_string(grad) + ", slope " + std::to_string(slope));
  }
}

template <typename Real>
bool SameBits(Exact<Real>& whole, size_t offset, Exact<Real>& part) {
  return std::memcmp(whole.data() + offset, part.data(), part.size() * sizeof(Real)) == 0;
}

// Three models on three threads at once, and each alone with its steps cut into calls.
template <typename Real>
void CheckModels(uint32_t seed, int64_t lanes, const std::string& isa) {
  constexpr int64_t kModels = 3;
  Problem p = MakeProblem(seed, kModels, lanes);
  p.optimizer = static_cast<Optimizer>(seed % 4);
  for (double& rate : p.learning_rate) rate = 0.05;
  Written<Real> together(p);
  const Parallel threads{&RunOnThreads, nullptr};
  Check(Train(p, 0, 3, kModels, threads, together) == Status::kOk, "status");
  for (int64_t m = 0; m < kModels; ++m) {
    Problem own = p;
    own.shape.n_models = 1;
    auto Cut = [&](auto& values) {
      const size_t n = values.size() / kModels;
      values = {values.begin() + m * n, values.begin() + (m + 1) * n};
    };
    Cut(own.rows);
    Cut(own.offsets);
    Cut(own.crop_starts);
    Cut(own.seeds);
    Cut(own.hyper);
    Cut(own.parameters);
    Written<Real> alone(own);
    Check(Train(own, 0, 1, 1, Parallel{}, alone) == Status::kOk, "status");
    Check(Train(own, 1, 2, 1, threads, alone) == Status::kOk, "status");
    const std::string what = isa + " seed " + std::to_string(seed) + ": a model alone, ";
    Check(SameBits(together.parameters, m * alone.parameters.size(), alone.parameters),
          what + "parameters");
    Check(SameBits(together.state, m * alone.state.size(), alone.state), what + "state");
    Check(SameBits(together.average, m * alone.average.size(), alone.average), what + "average");
    Check(SameBits(together.running, m * alone.running.size(), alone.running), what + "running");
    Check(SameBits(together.margins, m * alone.margins.size(), alone.margins), what + "margins");
    Check(SameBits(together.statistics, m * alone.statistics.size(), alone.statistics),
          what + "statistics");
  }
}

void CheckRefusals() {
  const Problem good = MakeProblem(1, 2, 4);
  auto Refused = [&](Status wanted, const char* what, auto change) {
    Problem p = good;
    change(p);
    Written<float> out(p), before(p);
    Check(Train(p, 0, 3, 1, Parallel{}, out) == wanted, what);
    Check(SameBits(before.parameters, 0, out.parameters), "a refusal changes nothing");
  };
  Refused(Status::kInvalidShape, "no layer is refused", [](Problem& p) { p.shape.n_layers = 0; });
  Refused(Status::kInvalidShape, "more timesteps than the data's are refused",
          [](Problem& p) { p.shape.n_timesteps = p.shape.n_data_timesteps + 1; });
  Refused(Status::kRowOutOfRange, "a row out of range is refused",
          [](Problem& p) { p.rows.back() = p.shape.n_windows; });
  Refused(Status::kRowOutOfRange, "a crop that leaves the window is refused", [](Problem& p) {
    p.has_crops = true;
    p.crop_starts[0] = p.shape.n_data_timesteps;
  });
  Refused(Status::kClassOutOfRange, "a class out of range is refused",
          [](Problem& p) { p.class_index[3] = -1; });
  Refused(Status::kLengthOutOfRange, "a length out of range is refused", [](Problem& p) {
    p.has_lengths = true;
    p.lengths[0] = p.shape.n_data_timesteps + 1;
  });
  Refused(Status::kOffsetsOutOfOrder, "offsets that fall are refused",
          [](Problem& p) { p.offsets[1] = p.offsets[2] + 1; });
  Refused(Status::kBatchTooSmall, "a batch of one with batch norm is refused", [](Problem& p) {
    p.shape.head_norm = HeadNorm::kBatch;
    p.offsets[1] = 1;
  });
}

// The passes over flat buffers have the same bits on every instruction set, tails included.
template <typename Real>
void CheckFlatPasses(const Kernels& kernels, const TrainKernels<Real>& ours,
                     const TrainKernels<Real>& baseline) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  auto Draw = [&](int64_t n) {
    std::vector<Real> values(n);
    for (Real& value : values) value = static_cast<Real>(normal(random));
    return values;
  };
  const std::string name = kernels.name;
  for (int64_t n : {1, 15, 16, 17, 131}) {
    const std::vector<Real> grads = Draw(n), parameters = Draw(n);
    std::vector<Real> state = Draw(3 * n);
    for (Real& value : state) value = std::fabs(value);
    Check(ours.sum_of_squares(grads.data(), n) == baseline.sum_of_squares(grads.data(), n),
          name + " sum of squares");
    for (Optimizer optimizer :
         {Optimizer::kSgd, Optimizer::kAdam, Optimizer::kAdamW, Optimizer::kRmsprop}) {
      for (double option : {0.0, 1.0}) {
        double hyper[kHyperColumns] = {};
        hyper[kMomentum] = 0.9 * option;
        hyper[kNesterov] = hyper[kAmsgrad] = hyper[kCentered] = option;
        hyper[kBeta1] = 0.9;
        hyper[kBeta2] = hyper[kAlpha] = 0.99;
        hyper[kEps] = 1e-3;
        hyper[kWeightDecay] = 0.1;
        std::vector<Real> results[2], states[2];
        for (int side = 0; side < 2; ++side) {
          results[side] = parameters;
          states[side] = state;
          (side == 0 ? ours : baseline)
              .update(optimizer, hyper, 0.01, 3, n, grads.data(), results[side].data(),
                      states[side].data());
          (side == 0 ? ours : baseline)
              .move_average(Real(0.3), n, grads.data(), results[side].data());
        }
        Check(std::memcmp(results[0].data(), results[1].data(), n * sizeof(Real)) == 0 &&
                  std::memcmp(states[0].data(), states[1].data(), 3 * n * sizeof(Real)) == 0,
              name + " optimizer " + std::to_string(int(optimizer)));
        Check(results[0] != parameters, name + " an update changes the parameters");
      }
    }
  }
}

}  // namespace

// With the argument "threads", only what runs on threads: for ThreadSanitizer.
int main(int n_arguments, char** arguments) {
  const bool threads_only = n_arguments > 1 && std::string(arguments[1]) == "threads";
  const KernelTable table = AllKernels();
  ForEachIsa([&](const Kernels& kernels, int64_t bytes) {
    const std::string name = kernels.name;
    const int64_t lanes = bytes / 8;  // of double
    const Kernels& baseline = *table.rows[table.n_rows - 1];
    CheckFlatPasses(kernels, kernels.train_f32, baseline.train_f32);
    CheckFlatPasses(kernels, kernels.train_f64, baseline.train_f64);
    for (uint32_t seed = 0; seed < 40 && !threads_only; ++seed) CheckSlope(seed, lanes, name);
    for (uint32_t seed = 0; seed < 12; ++seed) {
      CheckModels<float>(seed, 2 * lanes, name);
      CheckModels<double>(seed, lanes, name);
    }
  });
  CheckRefusals();
  return Finish();
}
