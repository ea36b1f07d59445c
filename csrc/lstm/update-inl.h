// The update rules of torch.optim for one element, in torch's order of operations. The code of each
// instruction set and of the GPU includes this file inside its own namespace, after train_epoch.h,
// host_device.h and cmath; this file includes nothing. Factors are computed in double and rounded
// once.

// torch.lerp, in the form that is exact at both ends.
template <typename Real>
SENSORSEQ_HD Real Lerp(Real from, Real to, Real weight) {
  return weight < Real(0.5) ? from + weight * (to - from) : to - (to - from) * (Real(1) - weight);
}

// A rule's Step returns the parameter after the step and updates the element's state, whose rows
// are `stride` apart.

template <typename Real, bool kHasMomentum>
struct SgdRule {
  Real rate, decay, momentum, fresh;
  bool nesterov, first;

  SENSORSEQ_HD SgdRule(const double* hyper, double learning_rate, int64_t step)
      : rate(static_cast<Real>(learning_rate)),
        decay(static_cast<Real>(hyper[kWeightDecay])),
        momentum(static_cast<Real>(hyper[kMomentum])),
        fresh(static_cast<Real>(1.0 - hyper[kDampening])),
        nesterov(hyper[kNesterov] != 0.0),
        first(step == 1) {}

  // Without momentum, the state is neither read nor written.
  SENSORSEQ_HD Real Step(Real raw, Real parameter, Real* state, int64_t) const {
    const Real grad = raw + decay * parameter;
    if (!kHasMomentum) return parameter - rate * grad;
    // torch starts the buffer with the full gradient, not with the dampened gradient
    const Real moved = first ? grad : momentum * *state + fresh * grad;
    *state = moved;
    return parameter - rate * (nesterov ? grad + momentum * moved : moved);
  }
};

template <typename Real, bool kHasAmsgrad>
struct AdamRule {
  Real rate, scale, fresh1, fresh2, keep2, eps, shrink, decay;

  SENSORSEQ_HD AdamRule(const double* hyper, double learning_rate, int64_t step, bool decoupled) {
    const double beta1 = hyper[kBeta1], beta2 = hyper[kBeta2];
    const double n_steps = static_cast<double>(step);
    rate = static_cast<Real>(learning_rate / (1.0 - std::pow(beta1, n_steps)));
    scale = static_cast<Real>(std::sqrt(1.0 - std::pow(beta2, n_steps)));
    fresh1 = static_cast<Real>(1.0 - beta1);
    fresh2 = static_cast<Real>(1.0 - beta2);
    keep2 = static_cast<Real>(beta2);
    eps = static_cast<Real>(hyper[kEps]);
    shrink = static_cast<Real>(decoupled ? 1.0 - learning_rate * hyper[kWeightDecay] : 1.0);
    decay = static_cast<Real>(decoupled ? 0.0 : hyper[kWeightDecay]);
  }

  // The third row is neither read nor written without AMSGrad.
  SENSORSEQ_HD Real Step(Real raw, Real parameter, Real* state, int64_t stride) const {
    Real *first = state, *second = state + stride, *largest = second + stride;
    const Real shrunk = parameter * shrink;
    const Real grad = raw + decay * parameter;
    const Real mean = Lerp(*first, grad, fresh1);
    Real square = *second * keep2 + fresh2 * grad * grad;
    *first = mean;
    *second = square;
    if (kHasAmsgrad) {
      // this comparison lets a NaN through
      square = *largest >= square ? *largest : square;
      *largest = square;
    }
    return shrunk - rate * mean / (std::sqrt(square) / scale + eps);
  }
};

template <typename Real, bool kIsCentered>
struct RmspropRule {
  Real rate, decay, alpha, eps, fresh, momentum;
  bool has_momentum;

  SENSORSEQ_HD RmspropRule(const double* hyper, double learning_rate)
      : rate(static_cast<Real>(learning_rate)),
        decay(static_cast<Real>(hyper[kWeightDecay])),
        alpha(static_cast<Real>(hyper[kAlpha])),
        eps(static_cast<Real>(hyper[kEps])),
        fresh(static_cast<Real>(1.0 - hyper[kAlpha])),
        momentum(static_cast<Real>(hyper[kMomentum])),
        has_momentum(hyper[kMomentum] > 0.0) {}

  // The third row is neither read nor written unless kIsCentered.
  SENSORSEQ_HD Real Step(Real raw, Real parameter, Real* state, int64_t stride) const {
    Real *squares = state, *buffer = state + stride, *means = buffer + stride;
    const Real grad = raw + decay * parameter;
    Real square = *squares * alpha + fresh * grad * grad;
    *squares = square;
    if (kIsCentered) {
      const Real mean = Lerp(*means, grad, fresh);
      *means = mean;
      square -= mean * mean;
    }
    const Real change = grad / (std::sqrt(square) + eps);
    const Real moved = has_momentum ? momentum * *buffer + change : *buffer;
    *buffer = moved;
    return parameter - rate * (has_momentum ? moved : change);
  }
};

// Calls `move` with the rule of an optimizer for step `step` (1, 2, ...).
template <typename Real, typename Move>
SENSORSEQ_HD void WithRule(Optimizer optimizer, const double* hyper, double rate, int64_t step,
                           const Move& move) {
  const bool decoupled = optimizer == Optimizer::kAdamW;
  switch (optimizer) {
    case Optimizer::kSgd:
      if (hyper[kMomentum] == 0.0) return move(SgdRule<Real, false>(hyper, rate, step));
      return move(SgdRule<Real, true>(hyper, rate, step));
    case Optimizer::kAdam:
    case Optimizer::kAdamW:
      if (hyper[kAmsgrad] == 0.0) return move(AdamRule<Real, false>(hyper, rate, step, decoupled));
      return move(AdamRule<Real, true>(hyper, rate, step, decoupled));
    case Optimizer::kRmsprop:
      if (hyper[kCentered] == 0.0) return move(RmspropRule<Real, false>(hyper, rate));
      return move(RmspropRule<Real, true>(hyper, rate));
  }
}
