// The interface of a training step without the optimizer: one LSTM layer, pooling, a linear head,
// the loss and its gradients, in one call. The backward pass of each tile of windows runs while the
// tile's state is still in the cache. No framework type appears here.
//
// Arrays, letters and the rules on bits are as in lstm_linear.h. The gradients of the head are
// summed like those of the layer, in slots determined by N.
//
// lstm_linear_loss allocates nothing, throws nothing, and checks its arguments before it writes any
// output.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "lstm/lstm_linear.h"

namespace sensorseq {

// The loss of one window, with the target t_k = 1 - s + s / K for its class and s / K for the other
// classes, where s is the label smoothing. The loss of a batch is sum(weight * loss) / number of
// windows.
enum class Loss : int32_t {
  kCrossEntropy = 0,  // -sum_k t_k log p_k
  kFocal,             // -sum_k t_k (1 - p_k)^2 log p_k
};

template <typename Real>
struct LstmLinearLoss {
  LstmShape shape;       // with a head of at least one class
  LstmInputs<Real> in;   // with weight_out
  const Real* bias_out;  // (M, K)
  Loss loss;
  double label_smoothing;                   // in [0, 1)
  int64_t n_class_models, n_weight_models;  // M' of each array: M, or 1 if all models share it
  const int64_t* class_index;               // (M', N)  each in [0, K)
  const Real* weight;                       // (M', N)  factor on each window's loss; null: ones

  Real* mean_loss;  // (M)          written: sum(weight * loss) / N; NaN without windows
  Real* logits;     // (M, N, K)    written
  // Gradients of each model's own mean_loss, written if needs_gradients.
  bool needs_gradients;
  // (M, N, T, C) zero beyond lengths; null: not wanted. If Mx = 1, the caller sums grad_x over M.
  Real* grad_x;
  Real* grad_weight_ih;   // (M, D, 4H, C)
  Real* grad_weight_hh;   // (M, D, 4H, H)
  Real* grad_bias;        // (M, D, 4H)
  Real* grad_weight_out;  // (M, K, P)
  Real* grad_bias_out;    // (M, K)
  Real* grad_h_0;         // (M, N, D, H)  null: not wanted
  Real* grad_c_0;         // (M, N, D, H)  null: not wanted
  void* workspace;        // lstm_linear_loss_workspace_bytes, aligned to 64; undefined afterwards
  Parallel parallel;
};

// The number of bytes of workspace, which is the same on every instruction set.
size_t lstm_linear_loss_workspace_bytes(const LstmShape& shape, bool needs_gradients,
                                        size_t real_bytes);

template <typename Real>
Status lstm_linear_loss(const LstmLinearLoss<Real>& args);

}  // namespace sensorseq
