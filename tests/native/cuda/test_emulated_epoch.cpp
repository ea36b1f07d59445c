// Compares complete training steps on the emulated GPU with the CPU's engine in double, and checks
// the guarantees of the contract. A model has the same bits next to any other models and however
// its steps are divided into calls. Values that the host would have refused give NaN.
#include "cuda/train_calls.h"
#include "emulated_queue.h"
#include "epoch_problem.h"

namespace {

using namespace epoch_problem;
namespace cuda = sensorseq::cuda;

// Wide layers are left out, because they take a long time to compile and have separate tests.
using SmallQueue = emulator::QueueOf<0, 64>;

bool Emulate(const Problem& p, int64_t first_step, int64_t n_steps, cuda::Precision precision,
             uint32_t seed, Written<float>& out) {
  cuda::Options options;
  options.precision = precision;
  Call<float> call(p, out);
  call.args.first_step = first_step;
  call.args.n_steps = n_steps;
  cuda::TrainSpace space;
  const size_t bytes = cuda::CarveTrain(call.args, options, nullptr, &space);
  const Packed workspace(bytes);  // ends where the allocation ends
  std::memset(workspace.data, 0xff, bytes);
  cuda::CarveTrain(call.args, options, workspace.data, &space);
  try {
    SmallQueue queue(seed);
    cuda::QueueStart(queue, space);
    for (int64_t step = 0; step < n_steps; ++step) {
      emulator::Require(cuda::QueueStep(queue, space, options));
    }
  } catch (const emulator::Fault& fault) {
    Check(false, std::string("the emulator: ") + fault.what());
    return false;
  }
  CheckIntact(out);
  return true;
}

// Draws a problem whose steps have different sizes for each model. Most problems have an empty step
// and a step with a single window.
Problem Draw(uint32_t seed, int64_t n_models) {
  epoch_problem::Draw draw(seed);
  Problem p;
  TrainShape& s = p.shape;
  const int64_t hidden_sizes[] = {5, 32, 1, 40}, usual[] = {13, 1, 0, 20, 8},
                large[] = {75, 13, 0, 70, 66};
  const bool is_large = seed % 16 == 6;  // slots with more than one tile
  const int64_t* batches = is_large ? large : usual;
  s.n_models = n_models;
  s.n_windows = 17;
  p.has_crops = seed % 2 == 0;
  s.n_data_timesteps = is_large ? 4 : seed % 16 == 4 ? 70 : 7;  // 70 steps take several slots
  s.n_timesteps = p.has_crops ? s.n_data_timesteps - 2 : s.n_data_timesteps;
  s.n_channels = seed % 5 == 0 ? 6 : 1 + draw.Below(3);
  s.hidden_size = hidden_sizes[seed % 4];
  s.n_directions = 1 + (seed / 2) % 2;
  s.n_classes = 2 + draw.Below(3);
  s.pooling = static_cast<Pooling>(1 + (seed / 3) % 4);
  p.loss = static_cast<Loss>((seed / 4) % 2);
  p.optimizer = static_cast<Optimizer>((seed / 2) % 4);
  p.has_lengths = seed % 3 != 0;
  p.has_weight = seed % 4 == 2 || draw.Below(2) == 0;
  p.n_x_models = seed % 4 == 1 ? n_models : 1;
  p.n_class_models = seed % 4 == 2 ? n_models : 1;
  p.n_rate_models = seed % 4 == 3 ? n_models : 1;
  p.n_row_models = seed % 5 == 1 ? 1 : n_models;
  p.has_seeds = seed % 6 != 5;
  p.has_average = seed % 4 != 0;
  p.has_margins = seed % 7 != 3;
  p.width = s.n_directions * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
  s.n_steps = 4;
  for (int64_t m = 0; m < p.n_row_models; ++m) {
    p.offsets.push_back(m);
    for (int64_t step = 0; step < s.n_steps; ++step) {
      p.offsets.push_back(p.offsets.back() + batches[(step + m + seed) % 5]);
    }
    s.n_rows = std::max(s.n_rows, p.offsets.back());
  }
  s.max_batch = is_large ? 90 : 20;
  for (int64_t i = 0; i < p.n_row_models * s.n_rows; ++i) {
    p.rows.push_back(draw.Below(s.n_windows));
    p.crop_starts.push_back(draw.Below(s.n_data_timesteps - s.n_timesteps + 1));
  }
  p.x = draw.Normals(p.n_x_models * s.n_windows * s.n_data_timesteps * s.n_channels, 1.5);
  for (int64_t n = 0; n < s.n_windows; ++n) {
    p.lengths.push_back(n == 3 ? 0 : draw.Below(s.n_data_timesteps + 1));
    const int64_t row = s.n_data_timesteps * s.n_channels;
    for (int64_t m = 0; m < p.n_x_models; ++m) {
      for (int64_t i = p.lengths[n] * s.n_channels; p.has_lengths && i < row; ++i) {
        p.x[(m * s.n_windows + n) * row + i] = NAN;
      }
    }
  }
  for (int64_t i = 0; i < p.n_class_models * s.n_windows; ++i) {
    p.class_index.push_back(draw.Below(s.n_classes));
    p.weight.push_back(std::fabs(draw.Normal()));
  }
  for (int64_t i = 0; i < p.n_rate_models * s.n_steps; ++i) {
    p.learning_rate.push_back(0.02 * static_cast<double>(1 + draw.Below(4)));
  }
  for (int64_t m = 0; m < n_models; ++m) {
    p.seeds.push_back(draw.Below(1000) - 500);
    p.hyper.insert(p.hyper.end(), kHyperColumns, 0.0);
    double* hyper = &p.hyper[m * kHyperColumns];
    const double option = static_cast<double>((seed / 8 + m) % 2);
    hyper[kMomentum] = 0.9 * option;
    hyper[kNesterov] = option * static_cast<double>((seed + m) % 2);
    hyper[kDampening] = hyper[kNesterov] == 0.0 ? 0.1 : 0.0;
    hyper[kAmsgrad] = hyper[kCentered] = option;
    hyper[kBeta1] = 0.8;
    hyper[kBeta2] = 0.95;
    hyper[kAlpha] = 0.9;
    hyper[kEps] = 1e-2;  // large, so that a gradient's last bit does not decide a step's sign
    hyper[kWeightDecay] = 0.1 * static_cast<double>(draw.Below(2));
    hyper[kMaxGradNorm] = draw.Below(2) == 0 ? kNone : 0.2;
    hyper[kLabelSmoothing] = 0.1 * static_cast<double>(draw.Below(3));
    hyper[kDropout] = p.has_seeds ? 0.3 * static_cast<double>((seed + m) % 2) : 0.0;
    hyper[kRecurrentDropout] = p.has_seeds ? 0.3 * static_cast<double>((seed / 2 + m) % 2) : 0.0;
    hyper[kEmaDecay] = 0.5;
  }
  p.parameters = draw.Normals(n_models * ParameterCount(s), 0.7);
  return p;
}

template <typename Values>
void Cut(Values& values, int64_t n_models, int64_t model) {
  const auto n = static_cast<int64_t>(values.size()) / n_models;
  values = Values(values.begin() + model * n, values.begin() + (model + 1) * n);
}

// One model of a problem, without the others.
Problem Alone(const Problem& p, int64_t model) {
  Problem single = p;
  const int64_t M = p.shape.n_models;
  single.shape.n_models = 1;
  if (p.n_x_models > 1) Cut(single.x, M, model);
  if (p.n_class_models > 1) {
    Cut(single.class_index, M, model);
    Cut(single.weight, M, model);
  }
  if (p.n_row_models > 1) {
    for (Ints* values : {&single.rows, &single.offsets, &single.crop_starts}) {
      Cut(*values, M, model);
    }
  }
  if (p.n_rate_models > 1) Cut(single.learning_rate, M, model);
  Cut(single.seeds, M, model);
  Cut(single.hyper, M, model);
  Cut(single.parameters, M, model);
  single.n_x_models = single.n_class_models = single.n_row_models = single.n_rate_models = 1;
  single.shape.max_batch = 0;  // the size of the model's largest batch
  for (int64_t step = 0; step < p.shape.n_steps; ++step) {
    const int64_t batch = single.offsets[step + 1] - single.offsets[step];
    single.shape.max_batch = std::max(single.shape.max_batch, batch);
  }
  return single;
}

double g_worst[2] = {};

// Checks the norm of all differences, relative to the norm of the values' changes since `from`.
void Compare(const std::string& what, bool is_exact, Exact<float>& ours, Exact<double>& truth,
             const Array& from) {
  double square = 0, size = 0, whole = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double t = truth.data()[i], o = ours.data()[i];
    if (std::isnan(t) && std::isnan(o)) continue;
    if (truth.data()[i] == Exact<double>::kSentinel && ours.data()[i] == Exact<float>::kSentinel) {
      continue;
    }
    const double origin = from.empty() ? 0 : from[i];
    square += (o - t) * (o - t);
    size += (t - origin) * (t - origin);
    whole += t * t;
  }
  // for a small change, the rounding of the values in every step matters
  const double rounding = from.empty() ? 0 : 4 * 0x1p-24 * std::sqrt(whole);
  const double difference =
      std::fmax(0.0, std::sqrt(square) - rounding) / std::sqrt(size > 0 ? size : 1);
  if (difference > g_worst[is_exact]) g_worst[is_exact] = difference;
  Check(difference <= (is_exact ? 5e-6 : 1e-2), what + " off by " + std::to_string(difference));
}

// Compares the outputs of a call with those of the CPU: each array in one comparison, and each
// statistic of each step and model.
void CheckAgainstCpu(uint32_t seed, cuda::Precision precision) {
  const bool is_exact = precision != cuda::Precision::kFp16;
  const int64_t n_models = seed % 3 == 0 ? 1 : 3;
  const Problem p = Draw(seed, n_models);
  const int64_t S = p.shape.n_steps;
  Written<double> truth(p);
  Check(Train(p, 0, S, 1, Parallel{}, truth) == Status::kOk, "status");
  Written<float> ours(p);
  if (!Emulate(p, 0, S, precision, seed, ours)) return;
  const char* const of_precision[] = {" fp16x3 ", " fp16 ", " fp32 "};
  const std::string name =
      "seed " + std::to_string(seed) + of_precision[static_cast<int>(precision)];
  Compare(name + "parameters", is_exact, ours.parameters, truth.parameters, p.parameters);
  Compare(name + "state", is_exact, ours.state, truth.state, {});
  Compare(name + "average", is_exact, ours.average, truth.average,
          p.has_average ? p.parameters : Array());
  Compare(name + "margins", is_exact, ours.margins, truth.margins, {});
  Check(ours.step_count == truth.step_count, name + "step_count");
  for (int64_t at = 0; at < n_models * S; ++at) {
    const int64_t m = at / S, step = at % S;
    const int64_t* offsets = &p.offsets[(p.n_row_models == 1 ? 0 : m) * (S + 1) + step];
    const int64_t n_windows = offsets[1] - offsets[0];
    for (int column = 0; column < kStatisticColumns; ++column) {
      const double o = ours.statistics.data()[at * kStatisticColumns + column];
      const double t = truth.statistics.data()[at * kStatisticColumns + column];
      const std::string what = name + kStatisticNames[column] + " of step " + std::to_string(step) +
                               " of model " + std::to_string(m) + ": " + std::to_string(o) +
                               ", not " + std::to_string(t);
      if (std::isnan(t)) {
        Check(std::isnan(o), what);
      } else {
        double limit = (is_exact ? 2e-5 : 2e-2) * (std::fabs(t) + (is_exact ? 0.01 : 0.1));
        if (column == kAccuracy && !is_exact) limit = 1.0 / static_cast<double>(n_windows);
        Check(std::fabs(o - t) <= limit, what);
      }
    }
  }
}

void CheckModels(uint32_t seed) {
  constexpr int64_t kModels = 3;
  const auto precision = static_cast<cuda::Precision>(seed % 3);
  Problem p = Draw(seed, kModels);
  Written<float> together(p);
  Emulate(p, 0, 4, precision, seed, together);
  for (int64_t m = 0; m < kModels; ++m) {
    const Problem single = Alone(p, m);
    Written<float> alone(single);
    Emulate(single, 0, 1, precision, seed + 1, alone);
    Emulate(single, 1, 3, precision, seed + 2, alone);
    const std::string what = "seed " + std::to_string(seed) + ": a model alone, ";
    // a model's rows have the same positions alone as together with other models
    Check(SameBits(together.parameters, m * alone.parameters.size(), alone.parameters),
          what + "parameters");
    Check(SameBits(together.state, m * alone.state.size(), alone.state), what + "state");
    Check(SameBits(together.average, m * alone.average.size(), alone.average), what + "average");
    Check(SameBits(together.margins, m * alone.margins.size(), alone.margins), what + "margins");
    Check(SameBits(together.statistics, m * alone.statistics.size(), alone.statistics),
          what + "statistics");
  }
}

// Checks that a model with values that the host would have refused becomes NaN, and that the other
// models keep their bits.
void CheckPoison(cuda::Precision precision) {
  Problem based = Draw(8, 3);  // with crops, and separate rows for each model
  based.has_lengths = true;
  based.has_weight = false;
  based.lengths = Ints(based.shape.n_windows, 7);
  for (double& value : based.x) value = std::isnan(value) ? 0.0 : value;
  const int64_t R = based.shape.n_rows, S = based.shape.n_steps;
  Written<float> clean(based);
  Emulate(based, 0, S, precision, 1, clean);
  auto Poisoned = [&](const char* what, int64_t only, auto change) {
    Problem p = based;
    change(p);
    Written<float> out(p);
    if (!Emulate(p, 0, S, precision, 1, out)) return;
    const auto Q = static_cast<int64_t>(p.parameters.size()) / 3;
    for (int64_t m = 0; m < 3; ++m) {
      // NaN reaches the layer in the next step that has a window
      const int64_t head = (m + 1) * Q - p.shape.n_classes * (p.width + 1);
      bool is_nan = true, is_same = true;
      for (int64_t i = m * Q; i < (m + 1) * Q; ++i) {
        is_nan = is_nan && (i < head || std::isnan(out.parameters.data()[i]));
        is_same = is_same && out.parameters.data()[i] == clean.parameters.data()[i];
      }
      Check(m == only || only < 0 ? is_nan : is_same, std::string(what) + " of one model");
    }
  };
  Poisoned("a row beyond the data", 1, [&](Problem& p) { p.rows[R + p.offsets[S + 1]] = 17; });
  Poisoned("a row before the data", 1, [&](Problem& p) { p.rows[R + p.offsets[S + 1]] = -1; });
  Poisoned("a crop that leaves the window", 2,
           [&](Problem& p) { p.crop_starts[2 * R + p.offsets[2 * (S + 1)]] = 3; });
  Poisoned("a crop before the window", 2,
           [&](Problem& p) { p.crop_starts[2 * R + p.offsets[2 * (S + 1)]] = -1; });
  Poisoned("a length beyond the data", -1, [&](Problem& p) { p.lengths = Ints(17, 8); });
  Poisoned("a length below 0", -1, [&](Problem& p) { p.lengths = Ints(17, -1); });
  Poisoned("a class beyond the last", 0, [&](Problem& p) {
    Ints classes(17, p.shape.n_classes);
    for (int m = 1; m < 3; ++m) {
      classes.insert(classes.end(), p.class_index.begin(), p.class_index.end());
    }
    p.class_index = classes;
    p.n_class_models = 3;
  });
  Poisoned("a batch larger than there is room for", 1,
           [&](Problem& p) { p.offsets[S + 1 + S] = p.offsets[S + S] + 21; });
  Poisoned("offsets that fall", 1, [&](Problem& p) { p.offsets[S + 1 + S] = 0; });
  Poisoned("offsets below 0", 0, [&](Problem& p) {
    p.offsets[0] = -1;
    p.offsets[1] = 2;
  });
}

}  // namespace

// Arguments: seeds, "models", "poison" (all by default).
int main(int n_arguments, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::vector<std::string> wanted(arguments + 1, arguments + n_arguments);
  auto IsWanted = [&](const std::string& part) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), part) != wanted.end();
  };
  for (uint32_t seed = 0; seed < 24; ++seed) {
    if (!IsWanted(std::to_string(seed))) continue;
    CheckAgainstCpu(seed, cuda::Precision::kFp16x3);
    CheckAgainstCpu(seed, cuda::Precision::kFp32);
    if (seed % 3 == 0) CheckAgainstCpu(seed, cuda::Precision::kFp16);
  }
  std::printf("worst: fp16 %.2g, fp16x3 and fp32 %.2g\n", g_worst[0], g_worst[1]);
  Check(cuda::TimeSlots(68) > 1, "a long window has more than one slot in time");
  for (uint32_t seed = 1; seed < 7; ++seed) {
    if (IsWanted("models")) CheckModels(seed);
  }
  for (auto precision : {cuda::Precision::kFp16x3, cuda::Precision::kFp32}) {
    if (IsWanted("poison")) CheckPoison(precision);
  }
  return Finish();
}
