// Random arguments and the outputs of a call, for the tests of the epoch engines.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "harness.h"
#include "lstm/train_epoch.h"

namespace epoch_problem {

using namespace sensorseq;
using namespace harness;
using Ints = std::vector<int64_t>;

constexpr double kNone = std::numeric_limits<double>::infinity();

// All inputs of a call, in double; drawn from one seed.
struct Problem {
  TrainShape shape;
  Loss loss = Loss::kCrossEntropy;
  Optimizer optimizer = Optimizer::kSgd;
  bool has_lengths = false, has_weight = false, has_crops = false;
  Array x, weight, learning_rate, hyper, parameters;
  Ints lengths, class_index, rows, offsets, crop_starts, seeds;
  int64_t width = 0;                            // P
  int64_t n_x_models = 1, n_class_models = 1;   // models in x, and in class_index and weight
  int64_t n_row_models = 0, n_rate_models = 1;  // 0: all models
  bool has_seeds = true, has_average = true, has_margins = true;
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

inline Problem MakeProblem(uint32_t seed, int64_t n_models, int64_t lanes) {
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
  p.loss = static_cast<Loss>(draw.Below(2));
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
    hyper[kMaxGradNorm] = kNone;
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

// The outputs of a call. Each array of reals ends where its allocation ends.
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

// The inputs of a call, and the call itself. Each array of reals ends where its allocation ends.
// The call reads and writes the arrays of `Written`, so it continues from an earlier call that
// wrote them.
template <typename Real>
struct Call {
  Exact<Real> x, weight;
  Exact<double> learning_rate, hyper;
  Ints lengths, class_index, rows, offsets, crop_starts, seeds;
  TrainEpoch<Real> args{};

  Call(const Problem& p, Written<Real>& out)
      : x(p.x),
        weight(p.weight),
        learning_rate(p.learning_rate),
        hyper(p.hyper),
        lengths(p.lengths),
        class_index(p.class_index),
        rows(p.rows),
        offsets(p.offsets),
        crop_starts(p.crop_starts),
        seeds(p.seeds) {
    args.shape = p.shape;
    args.loss = p.loss;
    args.optimizer = p.optimizer;
    args.n_x_models = p.n_x_models;
    args.n_class_models = args.n_weight_models = p.n_class_models;
    args.n_rate_models = p.n_rate_models;
    args.n_row_models = p.n_row_models == 0 ? p.shape.n_models : p.n_row_models;
    args.x = x.data();
    args.lengths = p.has_lengths ? lengths.data() : nullptr;
    args.class_index = class_index.data();
    args.weight = weight.or_null(p.has_weight);
    args.rows = rows.data();
    args.offsets = offsets.data();
    args.crop_starts = p.has_crops ? crop_starts.data() : nullptr;
    args.learning_rate = learning_rate.data();
    args.hyper = hyper.data();
    args.seeds = p.has_seeds ? seeds.data() : nullptr;
    args.parameters = out.parameters.data();
    args.state = out.state.data();
    args.step_count = out.step_count.data();
    args.average = out.average.or_null(p.has_average);
    args.running = out.running.or_null(p.shape.head_norm == HeadNorm::kBatch);
    args.statistics = out.statistics.data();
    args.margins = out.margins.or_null(p.has_margins);
    args.first_step = 0;
    args.n_steps = p.shape.n_steps;
    args.n_lanes = 1;
  }
};

template <typename Real>
void CheckIntact(const Written<Real>& out) {
  for (bool intact : {out.parameters.sentinel_intact(), out.state.sentinel_intact(),
                      out.average.sentinel_intact(), out.margins.sentinel_intact(),
                      out.running.sentinel_intact(), out.statistics.sentinel_intact()}) {
    Check(intact, "nothing before an array is written");
  }
}

template <typename Real>
Status Train(const Problem& p, int64_t first_step, int64_t n_steps, int64_t n_lanes,
             const Parallel& parallel, Written<Real>& out) {
  Call<Real> call(p, out);
  call.args.first_step = first_step;
  call.args.n_steps = n_steps;
  call.args.n_lanes = n_lanes;
  call.args.parallel = parallel;
  const Workspace workspace(train_epoch_workspace_bytes(p.shape, n_lanes, sizeof(Real)));
  call.args.workspace = workspace.data;
  const Status status = train_epoch(call.args);
  CheckIntact(out);
  return status;
}

template <typename Real>
bool SameBits(Exact<Real>& whole, size_t offset, Exact<Real>& part) {
  return std::memcmp(whole.data() + offset, part.data(), part.size() * sizeof(Real)) == 0;
}

}  // namespace epoch_problem
