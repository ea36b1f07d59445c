// Tests csrc/cpu/train_epoch* without torch and without Python, on every instruction set of this
// machine. With any options, the engine must step along the gradient of the loss that it reports,
// and a model must have the same bits together with others and alone. Built with AddressSanitizer
// and UBSan.
#include <cstring>

#include "cpu/dispatch.h"
#include "epoch_problem.h"

namespace {

using namespace epoch_problem;

double Objective(const Problem& p, int64_t step, const Array& parameters) {
  Problem moved = p;
  moved.parameters = parameters;
  Written<double> out(moved);
  Check(Train(moved, step, 1, 1, Parallel{}, out) == Status::kOk, "status");
  return out.statistics.data()[step * kStatisticColumns + kLoss];
}

// A step of plain descent at rate 1 moves the parameters by the gradient, which must equal finite
// differences.
void CheckSlope(uint32_t seed, int64_t lanes, const std::string& isa) {
  Problem p = MakeProblem(seed, 1, lanes);
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

// Compares three models trained on three threads with each model trained alone in several calls.
template <typename Real>
void CheckModels(uint32_t seed, int64_t lanes, const std::string& isa) {
  constexpr int64_t kModels = 3;
  Problem p = MakeProblem(seed, kModels, lanes);
  p.optimizer = static_cast<Optimizer>(seed % 4);
  for (double& rate : p.learning_rate) rate = 0.05;
  Written<Real> together(p);
  const Parallel threads = OnThreads();
  Check(Train(p, 0, 3, kModels, threads, together) == Status::kOk, "status");
  for (int64_t m = 0; m < kModels; ++m) {
    Problem single = p;
    single.shape.n_models = 1;
    auto Cut = [&](auto& values) {
      const size_t n = values.size() / kModels;
      values = {values.begin() + m * n, values.begin() + (m + 1) * n};
    };
    Cut(single.rows);
    Cut(single.offsets);
    Cut(single.crop_starts);
    Cut(single.seeds);
    Cut(single.hyper);
    Cut(single.parameters);
    Written<Real> alone(single);
    Check(Train(single, 0, 1, 1, Parallel{}, alone) == Status::kOk, "status");
    Check(Train(single, 1, 2, 1, threads, alone) == Status::kOk, "status");
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

// The passes over flat buffers give the same bits on every instruction set, including the tails.
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

// With the argument "threads", CheckSlope, which uses one thread, is left out to save time under
// ThreadSanitizer.
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
