// Loops over a model's flat buffers: the update rules of update-inl.h, the average of the weights,
// and the squared norm. Included by kernels-inl.h after update-inl.h; includes nothing. The
// compiler vectorizes these plain loops for the instruction set, but it fuses no multiplication
// with an addition and reorders no sum, so all instruction sets give the same bits.

// Sums values[i]^2 in a fixed order, with partial sums that can be vectorized.
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

// Runs the optimizer's step number `step` (1, 2, ...) for one model. grads, parameters: (n); state:
// (StateRows, n).
template <typename Real>
inline void Update(Optimizer optimizer, const double* hyper, double learning_rate, int64_t step,
                   int64_t n, const Real* grads, Real* parameters, Real* state) {
  WithRule<Real>(optimizer, hyper, learning_rate, step, [&](const auto& rule) {
    for (int64_t i = 0; i < n; ++i) {
      parameters[i] = rule.Step(grads[i], parameters[i], state + i, n);
    }
  });
}

// average = (1 - fresh) * average + fresh * parameters
template <typename Real>
inline void MoveAverage(Real fresh, int64_t n, const Real* parameters, Real* average) {
  for (int64_t i = 0; i < n; ++i) average[i] = Lerp(average[i], parameters[i], fresh);
}
