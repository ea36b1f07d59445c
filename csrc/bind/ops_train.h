// Code that the training ops of all devices share: it reads the names of options, checks tensors,
// and puts their pointers into the struct of train_epoch.h.
#pragma once

#include <array>

#include "bind/ops.h"
#include "lstm/train_epoch.h"

namespace sensorseq {

// Returns the enum value of the given name. If the name is not known, raises an error that lists
// the known names.
template <typename Enum, size_t n>
Enum Named(const char* option, const std::string& name,
           const std::array<std::pair<const char*, Enum>, n>& known) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names += std::string(names.empty() ? "" : ", ") + text;
  }
  Fail(std::string("sensorseq: ") + option + " '" + name + "' is not known. Known: " + names + ".");
}

inline HeadNorm HeadNormNamed(const std::string& name) {
  return Named<HeadNorm, 3>(
      "head_norm", name,
      {{{"none", HeadNorm::kNone}, {"batch", HeadNorm::kBatch}, {"layer", HeadNorm::kLayer}}});
}

inline Optimizer OptimizerNamed(const std::string& name) {
  std::array<std::pair<const char*, Optimizer>, std::size(kOptimizerNames)> known;
  for (size_t i = 0; i < known.size(); ++i) {
    known[i] = {kOptimizerNames[i], static_cast<Optimizer>(i)};
  }
  return Named("optimizer", name, known);
}

inline Loss LossNamed(const std::string& name) {
  return Named<Loss, 2>("loss", name,
                        {{{"cross_entropy", Loss::kCrossEntropy}, {"focal", Loss::kFocal}}});
}

inline TrainShape NetworkShape(int64_t n_channels, int64_t hidden_size, int64_t n_layers,
                               int64_t n_directions, int64_t n_classes, const std::string& pooling,
                               const std::string& head_norm) {
  TrainShape s;
  s.n_channels = n_channels;
  s.hidden_size = hidden_size;
  s.n_layers = n_layers;
  s.n_directions = n_directions;
  s.n_classes = n_classes;
  s.pooling = PoolingNamed(pooling);
  s.head_norm = HeadNormNamed(head_norm);
  if (n_layers < 1 || n_layers > kMaxLayers) {
    Fail("sensorseq: n_layers is " + std::to_string(n_layers) + "; expected 1 to " +
         std::to_string(kMaxLayers) + ".");
  }
  if (n_channels < 0 || hidden_size < 1 || n_directions < 1 || n_directions > 2 || n_classes < 1) {
    Fail(std::string("sensorseq: ") + StatusText(Status::kInvalidShape) + ".");
  }
  const double H = static_cast<double>(hidden_size), inputs = static_cast<double>(n_channels);
  const double n_weights = 8.0 * static_cast<double>(n_layers) * H * (inputs + 3 * H + 2) +
                           static_cast<double>(n_classes) * (4 * H + 1);
  if (n_weights >= 0x1p56) {
    Fail("sensorseq: hidden_size " + std::to_string(hidden_size) + " with " +
         std::to_string(n_classes) + " classes has more weights than 64 bits can count.");
  }
  return s;
}

// Returns the number of models in a tensor. The number must be 1 or n_models.
inline int64_t ModelsOf(const Tensor& tensor, const char* name, int64_t n_models) {
  const int64_t n = tensor.dim() == 0 ? 0 : tensor.size(0);
  if (n != 1 && n != n_models) {
    Fail(std::string("sensorseq: ") + name + " holds " + std::to_string(n) +
         " models; expected 1 or " + std::to_string(n_models) + ".");
  }
  return n;
}

// The arguments of train_epoch. The struct keeps the tensors alive and checks them.
struct TrainTensors {
  Tensor x;
  MaybeTensor lengths;
  Tensor class_index;
  MaybeTensor weight;
  Tensor rows, offsets;
  MaybeTensor crop_starts;
  Tensor learning_rate, hyper;
  MaybeTensor seeds;
  Tensor parameters, state, step_count;
  MaybeTensor average, running;
  Tensor statistics;
  MaybeTensor margins;
  Tensor workspace;
  TrainShape network;  // the sizes that cannot be read from a tensor
  Loss loss;
  Optimizer optimizer;
  int64_t first_step, n_steps;

  TrainShape Check() const;

  template <typename Real>
  TrainEpoch<Real> Call(const TrainShape& s) const {
    TrainEpoch<Real> args{};
    args.shape = s;
    args.loss = loss;
    args.optimizer = optimizer;
    args.n_x_models = x.size(0);
    args.n_class_models = class_index.size(0);
    args.n_weight_models = weight ? weight->size(0) : 1;
    args.n_row_models = rows.size(0);
    args.n_rate_models = learning_rate.size(0);
    args.x = Data<Real>(x);
    args.lengths = Data<int64_t>(lengths);
    args.class_index = Data<int64_t>(class_index);
    args.weight = Data<Real>(weight);
    args.rows = Data<int64_t>(rows);
    args.offsets = Data<int64_t>(offsets);
    args.crop_starts = Data<int64_t>(crop_starts);
    args.learning_rate = Data<double>(learning_rate);
    args.hyper = Data<double>(hyper);
    args.seeds = Data<int64_t>(seeds);
    args.parameters = MutableData<Real>(parameters);
    args.state = MutableData<Real>(state);
    args.step_count = MutableData<int64_t>(step_count);
    args.average = average ? MutableData<Real>(*average) : nullptr;
    args.running = running ? MutableData<Real>(*running) : nullptr;
    args.statistics = MutableData<double>(statistics);
    args.margins = margins ? MutableData<Real>(*margins) : nullptr;
    args.first_step = first_step;
    args.n_steps = n_steps;
    args.n_lanes = 1;
    return args;
  }
};

inline TrainShape TrainTensors::Check() const {
  const ScalarType dtype = x.scalar_type(), whole = ScalarType::Long, wide = ScalarType::Double;
  const int32_t device = DeviceOf(x);
  if (x.dim() != 4) {
    Fail("sensorseq: x needs 4 dimensions (models, windows, timesteps, channels); it has " +
         std::to_string(x.dim()) + ".");
  }
  if (dtype != ScalarType::Float && dtype != wide) Fail("sensorseq: x must be float32 or float64.");
  if (parameters.dim() != 2 || rows.dim() != 2 || offsets.dim() != 2 || offsets.size(1) < 1) {
    Fail("sensorseq: parameters, rows and offsets need 2 dimensions, and offsets an entry.");
  }
  TrainShape s = network;
  s.n_channels = x.size(3);
  CheckCountable(s.max_batch, s.n_timesteps, s.n_channels, s.hidden_size,
                 1.0 * s.n_layers * s.n_directions * parameters.size(0));
  s.n_models = parameters.size(0);
  s.n_windows = x.size(1);
  s.n_data_timesteps = x.size(2);
  s.n_rows = rows.size(1);
  s.n_steps = offsets.size(1) - 1;
  const int64_t M = s.n_models, N = s.n_windows, S = s.n_steps, Q = ParameterCount(s);
  const int64_t Mx = ModelsOf(x, "x", M), Mc = ModelsOf(class_index, "class_index", M);
  const int64_t Mr = ModelsOf(rows, "rows", M), Ml = ModelsOf(learning_rate, "learning_rate", M);
  const int64_t Mw = weight ? ModelsOf(*weight, "weight", M) : 1;
  CheckTensor(x, "x", {Mx, N, s.n_data_timesteps, s.n_channels}, dtype, device);
  CheckMaybe(lengths, "lengths", {N}, whole, device);
  CheckTensor(class_index, "class_index", {Mc, N}, whole, device);
  CheckMaybe(weight, "weight", {Mw, N}, dtype, device);
  CheckTensor(rows, "rows", {Mr, s.n_rows}, whole, device);
  CheckTensor(offsets, "offsets", {Mr, S + 1}, whole, device);
  CheckMaybe(crop_starts, "crop_starts", {Mr, s.n_rows}, whole, device);
  CheckTensor(learning_rate, "learning_rate", {Ml, S}, wide, device);
  CheckTensor(hyper, "hyper", {M, kHyperColumns}, wide, device);
  CheckMaybe(seeds, "seeds", {M}, whole, device);
  CheckTensor(parameters, "parameters", {M, Q}, dtype, device);
  CheckTensor(state, "state", {M, StateRows(optimizer), Q}, dtype, device);
  CheckTensor(step_count, "step_count", {M}, whole, device);
  CheckMaybe(average, "average", {M, Q}, dtype, device);
  const int64_t P = s.n_directions * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
  CheckMaybe(running, "running", {M, 2, P}, dtype, device);
  if (s.head_norm == HeadNorm::kBatch && !running) Fail("sensorseq: running is missing.");
  CheckTensor(statistics, "statistics", {M, S, kStatisticColumns}, wide, device);
  CheckMaybe(margins, "margins", {M, s.n_rows}, dtype, device);
  return s;
}

// The op, for a type Device that defines
//   static void Run(const TrainTensors&, int64_t n_lanes, const std::string& precision);
template <typename Device>
void TrainEpochOp(Tensor x, MaybeTensor lengths, Tensor class_index, MaybeTensor weight,
                  Tensor rows, Tensor offsets, MaybeTensor crop_starts, Tensor learning_rate,
                  Tensor hyper, MaybeTensor seeds, Tensor parameters, Tensor state,
                  Tensor step_count, MaybeTensor average, MaybeTensor running, Tensor statistics,
                  MaybeTensor margins, Tensor workspace, int64_t n_timesteps, int64_t hidden_size,
                  int64_t n_layers, int64_t n_directions, int64_t n_classes, std::string pooling,
                  std::string head_norm, std::string loss, std::string optimizer, int64_t max_batch,
                  int64_t first_step, int64_t n_steps, int64_t n_lanes, std::string precision) {
  TrainShape network =
      NetworkShape(0, hidden_size, n_layers, n_directions, n_classes, pooling, head_norm);
  network.n_timesteps = n_timesteps;
  network.max_batch = max_batch;
  const TrainTensors tensors{x,
                             lengths,
                             class_index,
                             weight,
                             rows,
                             offsets,
                             crop_starts,
                             learning_rate,
                             hyper,
                             seeds,
                             parameters,
                             state,
                             step_count,
                             average,
                             running,
                             statistics,
                             margins,
                             workspace,
                             network,
                             LossNamed(loss),
                             OptimizerNamed(optimizer),
                             first_step,
                             n_steps};
  Device::Run(tensors, n_lanes, precision);
}

// Returns the reason why CUDA kernels cannot train the network, or an empty string if they can. The
// function works in every build.
std::string CudaTrains(int64_t n_channels, int64_t hidden_size, int64_t n_layers,
                       int64_t n_directions, std::string head_norm, std::string precision);

}  // namespace sensorseq
