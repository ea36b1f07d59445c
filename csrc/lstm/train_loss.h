// The loss of one window and its gradient with respect to the logits. The loss and the gradient are
// computed in double, whatever the network's precision. Double costs little here, because there are
// few classes, whereas rounding errors would reach every weight.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/host_device.h"
#include "lstm/lstm_linear_loss.h"

namespace sensorseq {

constexpr int kSumLanes = 8;  // number of partial sums, a multiple of common vector lengths

// Sums f(0) .. f(n - 1) in a fixed order.
template <typename F>
inline double Sum(int64_t n, F f) {
  double partial[kSumLanes] = {};
  int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) partial[lane] += f(i + lane);
  }
  for (int lane = 0; i < n; ++i, ++lane) partial[lane] += f(i);
  return ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
         ((partial[2] + partial[6]) + (partial[3] + partial[7]));
}

// Returns the loss and writes its gradient to grad (K). log_p (K) is scratch memory.
template <typename Real>
SENSORSEQ_HD double LossAndGradient(Loss loss, double smoothing, int64_t n_classes,
                                    int64_t class_index, const Real* logits, double* log_p,
                                    double* grad) {
  double largest = static_cast<double>(logits[0]);
  for (int64_t k = 1; k < n_classes; ++k) {
    // `largest` may ignore a NaN, because the NaN reaches all results through the sum. std::fmax
    // would crash GCC 12 on ARM here.
    const double logit = static_cast<double>(logits[k]);
    largest = logit > largest ? logit : largest;
  }
  double sum = 0;
  for (int64_t k = 0; k < n_classes; ++k) {
    log_p[k] = static_cast<double>(logits[k]) - largest;
    sum += std::exp(log_p[k]);
  }
  const double log_sum = std::log(sum);
  for (int64_t k = 0; k < n_classes; ++k) log_p[k] -= log_sum;

  const double other = smoothing / static_cast<double>(n_classes);
  auto Target = [&](int64_t k) { return k == class_index ? 1.0 - smoothing + other : other; };
  double value = 0;
  switch (loss) {
    case Loss::kCrossEntropy:
      for (int64_t k = 0; k < n_classes; ++k) {
        // A class whose target is 0 adds nothing, even if its probability is 0.
        if (Target(k) != 0.0) value -= Target(k) * log_p[k];
        grad[k] = std::exp(log_p[k]) - Target(k);
      }
      return value;
    case Loss::kFocal: {
      double total = 0;  // sum of the gradients with respect to log p
      for (int64_t k = 0; k < n_classes; ++k) {
        const double p = std::exp(log_p[k]), distance = -std::expm1(log_p[k]);
        const bool counts = Target(k) != 0.0;
        if (counts) value -= Target(k) * distance * distance * log_p[k];
        grad[k] = counts ? -Target(k) * distance * (distance - 2 * p * log_p[k]) : 0.0;
        total += grad[k];
      }
      for (int64_t k = 0; k < n_classes; ++k) grad[k] -= std::exp(log_p[k]) * total;
      return value;
    }
  }
  return value;
}

// The index of the largest logit, or of the first of several equal ones. NaN exceeds every number,
// as in torch.
template <typename Real>
SENSORSEQ_HD int64_t LargestLogit(const Real* logits, int64_t n_classes) {
  int64_t best = 0;
  for (int64_t k = 1; k < n_classes && logits[best] == logits[best]; ++k) {
    if (logits[k] > logits[best] || logits[k] != logits[k]) best = k;
  }
  return best;
}

// The logit of the class minus the largest other logit. The margin is positive if the class wins,
// and 0 if there is no other class.
template <typename Real>
SENSORSEQ_HD Real Margin(const Real* logits, int64_t n_classes, int64_t class_index) {
  Real rival = Real(0);
  bool any = false;
  for (int64_t k = 0; k < n_classes; ++k) {
    if (k == class_index) continue;
    if (!any || logits[k] > rival || logits[k] != logits[k]) rival = logits[k];
    any = true;
  }
  return any ? logits[class_index] - rival : Real(0);
}

}  // namespace sensorseq
