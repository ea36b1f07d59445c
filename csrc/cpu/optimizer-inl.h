// Passes over a model's flat buffers: the update rules of torch.optim in torch's order of
// operations, the average of the weights, the squared norm. Included by an ISA file after
// vector-inl.h; includes nothing. Plain loops, which the compiler widens to the instruction set:
// nothing is contracted and no sum reordered, so every one gives the same bits. Factors are formed
// in double and rounded once.

// sum of values[i]^2 in a fixed order: partial sums fit for vectors
template <typename Real>
inline double SumOfSquares(const Real* values, int64_t n) {
  constexpr int kSums = 16;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int k = 0; k < kSums; ++k) {
      sums[k] += static_cast<double>(values[i + k]) * static_cast<double>(values[i + k]);
    }
  }
  for (int k = 0; i < n; ++i, ++k) {
    sums[k] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  for (int half = kSums / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
  }
  return sums[0];
}

// torch.lerp, in the form that is exact at both ends.
template <typename Real>
inline Real Lerp(Real from, Real to, Real weight) {
  return weight < Real(0.5) ? from + weight * (to - from) : to - (to - from) * (Real(1) - weight);
}

template <typename Real>
inline void Sgd(const double* hyper, double learning_rate, bool first, int64_t n, const Real* grads,
                Real* parameters, Real* buffer) {
  const Real rate = static_cast<Real>(learning_rate),
             decay = static_cast<Real>(hyper[kWeightDecay]);
  const Real momentum = static_cast<Real>(hyper[kMomentum]);
  const Real fresh = static_cast<Real>(1.0 - hyper[kDampening]);
  const bool nesterov = hyper[kNesterov] != 0.0;
  if (momentum == Real(0)) {
    for (int64_t i = 0; i < n; ++i) parameters[i] -= rate * (grads[i] + decay * parameters[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const Real grad = grads[i] + decay * parameters[i];
    // torch starts the buffer with the whole gradient, not with its undampened share
    buffer[i] = first ? grad : momentum * buffer[i] + fresh * grad;
    parameters[i] -= rate * (nesterov ? grad + momentum * buffer[i] : buffer[i]);
  }
}

template <typename Real, bool kHasAmsgrad>
inline void Adam(const double* hyper, double learning_rate, int64_t step, bool decoupled, int64_t n,
                 const Real* grads, Real* parameters, Real* state) {
  const double beta1 = hyper[kBeta1], beta2 = hyper[kBeta2];
  const double n_steps = static_cast<double>(step);
  const Real rate = static_cast<Real>(learning_rate / (1.0 - std::pow(beta1, n_steps)));
  const Real scale = static_cast<Real>(std::sqrt(1.0 - std::pow(beta2, n_steps)));
  const Real fresh1 = static_cast<Real>(1.0 - beta1), fresh2 = static_cast<Real>(1.0 - beta2);
  const Real keep2 = static_cast<Real>(beta2), eps = static_cast<Real>(hyper[kEps]);
  const Real shrink =
      static_cast<Real>(decoupled ? 1.0 - learning_rate * hyper[kWeightDecay] : 1.0);
  const Real decay = static_cast<Real>(decoupled ? 0.0 : hyper[kWeightDecay]);
  Real *first = state, *second = state + n, *largest = state + 2 * n;
  for (int64_t i = 0; i < n; ++i) {
    const Real parameter = parameters[i] * shrink;
    const Real grad = grads[i] + decay * parameters[i];
    first[i] = Lerp(first[i], grad, fresh1);
    second[i] = second[i] * keep2 + fresh2 * grad * grad;
    Real square = second[i];
    if (kHasAmsgrad) {
      // the comparison that lets a NaN through
      largest[i] = largest[i] >= square ? largest[i] : square;
      square = largest[i];
    }
    parameters[i] = parameter - rate * first[i] / (std::sqrt(square) / scale + eps);
  }
}

template <typename Real, bool kIsCentered>
inline void Rmsprop(const double* hyper, double learning_rate, int64_t n, const Real* grads,
                    Real* parameters, Real* state) {
  const Real rate = static_cast<Real>(learning_rate),
             decay = static_cast<Real>(hyper[kWeightDecay]);
  const Real alpha = static_cast<Real>(hyper[kAlpha]), eps = static_cast<Real>(hyper[kEps]);
  const Real fresh = static_cast<Real>(1.0 - hyper[kAlpha]);
  const Real momentum = static_cast<Real>(hyper[kMomentum]);
  const bool has_momentum = hyper[kMomentum] > 0.0;
  Real *squares = state, *buffer = state + n, *means = state + 2 * n;
  for (int64_t i = 0; i < n; ++i) {
    const Real grad = grads[i] + decay * parameters[i];
    squares[i] = squares[i] * alpha + fresh * grad * grad;
    Real square = squares[i];
    if (kIsCentered) {
      means[i] = Lerp(means[i], grad, fresh);
      square -= means[i] * means[i];
    }
    const Real change = grad / (std::sqrt(square) + eps);
    buffer[i] = has_momentum ? momentum * buffer[i] + change : buffer[i];
    parameters[i] -= rate * (has_momentum ? buffer[i] : change);
  }
}

// Step `step` (1, 2, ...) of one model. grads, parameters: (n); state: (StateRows, n).
template <typename Real>
inline void Update(Optimizer optimizer, const double* hyper, double learning_rate, int64_t step,
                   int64_t n, const Real* grads, Real* parameters, Real* state) {
  const bool decoupled = optimizer == Optimizer::kAdamW;
  switch (optimizer) {
    case Optimizer::kSgd:
      return Sgd(hyper, learning_rate, step == 1, n, grads, parameters, state);
    case Optimizer::kAdam:
    case Optimizer::kAdamW:
      if (hyper[kAmsgrad] != 0.0) {
        return Adam<Real, true>(hyper, learning_rate, step, decoupled, n, grads, parameters, state);
      }
      return Adam<Real, false>(hyper, learning_rate, step, decoupled, n, grads, parameters, state);
    case Optimizer::kRmsprop:
      if (hyper[kCentered] != 0.0) {
        return Rmsprop<Real, true>(hyper, learning_rate, n, grads, parameters, state);
      }
      return Rmsprop<Real, false>(hyper, learning_rate, n, grads, parameters, state);
  }
}

// average = d average + (1 - d) parameters, fresh = 1 - d
template <typename Real>
inline void MoveAverage(Real fresh, int64_t n, const Real* parameters, Real* average) {
  for (int64_t i = 0; i < n; ++i) average[i] = Lerp(average[i], parameters[i], fresh);
}
