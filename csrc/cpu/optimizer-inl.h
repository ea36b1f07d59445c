// Passes over a model's flat buffers: the update rules of update-inl.h, the average of the weights,
// the squared norm. Included by an ISA file after both vector-inl.h and update-inl.h; includes
// nothing. Plain loops, which the compiler widens to the instruction set: nothing is contracted and
// no sum reordered, so every one gives the same bits.

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

template <typename Real>
inline void Sgd(const double* hyper, double learning_rate, int64_t step, int64_t n,
                const Real* grads, Real* parameters, Real* buffer) {
  const SgdRule<Real> rule(hyper, learning_rate, step);
  if (rule.momentum == Real(0)) {
    for (int64_t i = 0; i < n; ++i) parameters[i] = rule.Plain(grads[i], parameters[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    parameters[i] = rule.WithMomentum(grads[i], parameters[i], &buffer[i]);
  }
}

template <typename Real, bool kHasAmsgrad>
inline void Adam(const double* hyper, double learning_rate, int64_t step, bool decoupled, int64_t n,
                 const Real* grads, Real* parameters, Real* state) {
  const AdamRule<Real> rule(hyper, learning_rate, step, decoupled);
  Real *first = state, *second = state + n, *largest = state + 2 * n;
  for (int64_t i = 0; i < n; ++i) {
    parameters[i] = rule.template Step<kHasAmsgrad>(grads[i], parameters[i], &first[i], &second[i],
                                                    &largest[i]);
  }
}

template <typename Real, bool kIsCentered>
inline void Rmsprop(const double* hyper, double learning_rate, int64_t n, const Real* grads,
                    Real* parameters, Real* state) {
  const RmspropRule<Real> rule(hyper, learning_rate);
  Real *squares = state, *buffer = state + n, *means = state + 2 * n;
  for (int64_t i = 0; i < n; ++i) {
    parameters[i] = rule.template Step<kIsCentered>(grads[i], parameters[i], &squares[i],
                                                    &buffer[i], &means[i]);
  }
}

// Step `step` (1, 2, ...) of one model. grads, parameters: (n); state: (StateRows, n).
template <typename Real>
inline void Update(Optimizer optimizer, const double* hyper, double learning_rate, int64_t step,
                   int64_t n, const Real* grads, Real* parameters, Real* state) {
  const bool decoupled = optimizer == Optimizer::kAdamW;
  switch (optimizer) {
    case Optimizer::kSgd:
      return Sgd(hyper, learning_rate, step, n, grads, parameters, state);
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
