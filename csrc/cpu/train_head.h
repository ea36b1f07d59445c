// The linear head and the loss, window by window, forward and backward: the part between the two
// passes of a training step.
#pragma once

#include <cstdint>

#include "cpu/dispatch.h"
#include "lstm/train_loss.h"

namespace sensorseq {

// The training functions of a row of the kernel table, for float or double.
inline const TrainKernels<float>& KernelsFor(const Kernels& k, float) { return k.train_f32; }
inline const TrainKernels<double>& KernelsFor(const Kernels& k, double) { return k.train_f64; }

template <typename Real>
struct HeadScratch {
  double *log_p, *grad_loss;  // (K), (K)
  Real* grad_logits;          // (K)
};

template <typename Real>
struct HeadLoss {
  const TrainKernels<Real>& kernels;
  const Real *weight, *bias;  // (K, P), (K)
  int64_t pooled_size, n_classes;
  Loss loss;
  double label_smoothing;
  double n_windows;  // the loss of the batch is the mean over these windows

  // Returns the loss of a window times its weight. Writes the window's logits (K) and the gradient
  // of its features (P), and adds the gradients of weight and bias to `share` (K * P + K).
  double Step(const Real* features, int64_t class_index, double window_weight,
              const HeadScratch<Real>& scratch, Real* logits, Real* grad_features,
              Real* share) const {
    const int64_t P = pooled_size, K = n_classes;
    kernels.head_forward(features, weight, bias, P, K, logits);
    const double value = LossAndGradient(loss, label_smoothing, K, class_index, logits,
                                         scratch.log_p, scratch.grad_loss);
    for (int64_t k = 0; k < K; ++k) {
      scratch.grad_logits[k] = static_cast<Real>(window_weight / n_windows * scratch.grad_loss[k]);
    }
    for (int64_t p = 0; p < P; ++p) grad_features[p] = Real(0);
    kernels.head_backward(scratch.grad_logits, features, weight, P, K, grad_features, share,
                          share + K * P);
    return window_weight * value;
  }
};

}  // namespace sensorseq
