// The interface of the epoch engine, which runs a range of mini-batch steps for M independent
// models on data that stays in place. One step of one model consists of these operations:
//
//   gather the batch's rows -> LSTM layers -> pooling -> norm -> linear head -> loss -> gradients
//   -> clipping -> optimizer -> average of the weights
//
// Each operation has the arithmetic of torch's module or optimizer of the same name. Each model has
// one flat buffer of parameters. No framework type appears here.
//
// Every array is dense and row-major. Letters in addition to lstm_linear.h: L layers, N windows of
// the data, T0 timesteps of the data, T timesteps that a step trains on, R rows listed for all
// steps together, S steps, and Q parameters of a model. The first dimension M' of an array is M, or
// 1 if all models share the array. Real is float or double; losses, norms and statistics are
// computed in double.
//
// train_epoch allocates nothing, throws nothing, and checks its arguments before it writes any
// output.
//
// Bits: on one instruction set, the result of a model depends only on the model's own arguments.
// The result does not depend on the other models, the threads, n_lanes, the division of steps into
// calls, or whether margins are recorded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"
#include "base/status.h"
#include "lstm/lstm_linear.h"
#include "lstm/lstm_linear_loss.h"

namespace sensorseq {

enum class HeadNorm : int32_t {
  kNone = 0,
  kBatch,  // over the batch, like torch.nn.BatchNorm1d in training mode: eps 1e-5, momentum 0.1
  kLayer,  // over the pooled vector, like torch.nn.LayerNorm: eps 1e-5
};

enum class Optimizer : int32_t { kSgd = 0, kAdam, kAdamW, kRmsprop };
constexpr const char* kOptimizerNames[] = {"sgd", "adam", "adamw", "rmsprop"};

// Columns of `hyper`: one number per model. Names and meanings are torch's unless stated otherwise.
enum Hyper : int {
  kMomentum = 0,    // sgd and rmsprop
  kDampening,       // sgd
  kNesterov,        // sgd; 0 or 1
  kBeta1,           // adam, adamw
  kBeta2,           // adam, adamw
  kEps,             // adam, adamw, rmsprop
  kAmsgrad,         // adam, adamw; 0 or 1
  kAlpha,           // rmsprop
  kCentered,        // rmsprop; 0 or 1
  kWeightDecay,     // decoupled in adamw, added to the clipped gradient in the others
  kMaxGradNorm,     // bound on the global norm; infinity: none
  kLabelSmoothing,  // in [0, 1)
  kDropout,         // dropout of the inputs of the head and of all layers but the first; in [0, 1)
  kRecurrentDropout,  // dropout of the hidden state that enters the gates, one mask per window
  // After step n = 1, 2, ..., average = d average + (1 - d) parameters, where d is the minimum of
  // ema_decay and (1 + n) / (10 + n). Without `average`, ema_decay is not used.
  kEmaDecay,
  kHyperColumns
};
constexpr const char* kHyperNames[kHyperColumns] = {"momentum",      "dampening",
                                                    "nesterov",      "beta1",
                                                    "beta2",         "eps",
                                                    "amsgrad",       "alpha",
                                                    "centered",      "weight_decay",
                                                    "max_grad_norm", "label_smoothing",
                                                    "dropout",       "recurrent_dropout",
                                                    "ema_decay"};

// Columns of `statistics`, measured before a step's update. All are NaN for a step without windows.
enum Statistic : int {
  kLoss = 0,      // weighted loss of the batch
  kLossVariance,  // variance of the windows' weighted losses; the divisor is the number of windows
  kAccuracy,      // fraction of windows whose largest logit is that of their class
  kGradNorm,      // global norm of the gradient before clipping
  kStatisticColumns
};
constexpr const char* kStatisticNames[kStatisticColumns] = {"loss", "loss_variance", "accuracy",
                                                            "grad_norm"};

constexpr int64_t kMaxLayers = 8;

struct TrainShape {
  int64_t n_models = 1;              // M
  int64_t n_windows = 0;             // N, windows of the data
  int64_t n_data_timesteps = 0;      // T0
  int64_t n_timesteps = 0;           // T, at most T0
  int64_t n_channels = 0;            // C
  int64_t hidden_size = 0;           // H
  int64_t n_directions = 1;          // D
  int64_t n_layers = 1;              // L, 1 to kMaxLayers
  int64_t n_classes = 0;             // K, at least 1
  Pooling pooling = Pooling::kLast;  // not kNone
  HeadNorm head_norm = HeadNorm::kNone;
  int64_t n_rows = 0;     // R
  int64_t n_steps = 0;    // S
  int64_t max_batch = 0;  // at least the number of windows of the largest step
};

// Parameters of a model: for each layer and each direction, weight_ih (4H, inputs), weight_hh (4H,
// H), bias_ih (4H), bias_hh (4H); then the norm's weight (P) and bias (P) if there is one; then
// weight_out (K, P), bias_out (K). The order is that of sensorseq.nn.LSTMLinear.parameters(). There
// are two biases, as in torch, because a single summed bias would have a different optimizer state
// and be clipped differently.
int64_t ParameterCount(const TrainShape& shape);

// Rows of optimizer state per model: sgd 1 (momentum_buffer), adam and adamw 3 (exp_avg,
// exp_avg_sq, max_exp_avg_sq), rmsprop 3 (square_avg, momentum_buffer, grad_avg).
SENSORSEQ_HD constexpr int64_t StateRows(Optimizer optimizer) {
  return optimizer == Optimizer::kSgd ? 1 : 3;
}

template <typename Real>
struct TrainEpoch {
  TrainShape shape;
  Loss loss;
  Optimizer optimizer;
  int64_t n_x_models, n_class_models, n_weight_models, n_row_models, n_rate_models;  // M' of each

  const Real* x;               // (M', N, T0, C)  steps t >= lengths[n] are never read
  const int64_t* lengths;      // (N)             each in [0, T0]; null: all T0
  const int64_t* class_index;  // (M', N)         each in [0, K)
  const Real* weight;          // (M', N)         factor on each window's loss; null: ones
  const int64_t* rows;         // (M', R)         each in [0, N)
  // (M', S + 1) step s trains on rows[offsets[s] .. offsets[s+1]), and a step without rows is
  // skipped; M' as for rows
  const int64_t* offsets;
  const int64_t* crop_starts;   // (M', R)  first timestep of each row, M' as for rows; null: 0
  const double* learning_rate;  // (M', S)
  const double* hyper;          // (M, kHyperColumns)
  const int64_t* seeds;         // (M) seeds of dropout; null without dropout

  Real* parameters;     // (M, Q)               read and written
  Real* state;          // (M, StateRows, Q)    read and written; zeros before the first step
  int64_t* step_count;  // (M) steps taken, read and written; 0 before the first step
  Real* average;        // (M, Q)               read and written; null: no average
  // (M, 2, P)  running mean and variance of HeadNorm::kBatch, read and written; null otherwise
  Real* running;
  double* statistics;  // (M, S, kStatisticColumns)  written for the steps of this call
  // (M, R)  logit of a row's class minus the largest other logit, written for the steps of this
  // call; null: not wanted
  Real* margins;

  int64_t first_step, n_steps;  // this call takes steps [first_step, first_step + n_steps)
  // The number of models trained at a time, 1 to M. If n_lanes is above 1, one thread trains each
  // model. If n_lanes is 1, models train one after the other, and several threads share the tiles
  // of each step.
  int64_t n_lanes;
  void* workspace;  // train_epoch_workspace_bytes, aligned to 64; undefined afterwards
  Parallel parallel;
};

// The number of bytes of workspace, which is the same on every instruction set.
size_t train_epoch_workspace_bytes(const TrainShape& shape, int64_t n_lanes, size_t real_bytes);

// The checks of train_epoch. CheckSizes checks sizes. CheckValues checks lengths, classes, and the
// entries of rows, offsets and crop_starts that the steps of the call use; it reads only these
// arrays.
template <typename Real>
Status CheckSizes(const TrainEpoch<Real>& args);
template <typename Real>
Status CheckValues(const TrainEpoch<Real>& args);

template <typename Real>
Status train_epoch(const TrainEpoch<Real>& args);

}  // namespace sensorseq
