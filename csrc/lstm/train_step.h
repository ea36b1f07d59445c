// The operations between the gradient and the update of one element, and the weight of new
// parameters in the average, for host and device.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace sensorseq {

constexpr double kClipEps = 1e-6;  // torch's clip_grad_norm_

// The factor that scales a gradient with this norm to at most `bound`.
SENSORSEQ_HD double ClipFactor(double bound, double norm) {
  const double ratio = bound / (norm + kClipEps);
  return ratio > 1.0 ? 1.0 : ratio;  // NaN stays NaN
}

// The weight that the average gives to the parameters after step n = 1, 2, ...
SENSORSEQ_HD double FreshShare(double decay, int64_t step) {
  const double n = static_cast<double>(step), most = (1.0 + n) / (10.0 + n);
  return 1.0 - (decay < most ? decay : most);
}

}  // namespace sensorseq
