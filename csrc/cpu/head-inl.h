// The linear head over pooled vectors. Included by kernels-inl.h after lstm_backward-inl.h;
// includes nothing.

// logits[k] = features . weight[k] + bias[k], summed in a fixed order.
template <typename Real>
inline void HeadForward(const Real* features, const Real* weight, const Real* bias, int64_t P,
                        int64_t K, Real* logits) {
  constexpr int64_t V = kLanes<Real>;
  for (int64_t k = 0; k < K; ++k, weight += P) {
    Vec<Real> sum{};
    int64_t p = 0;
    for (; p + V <= P; p += V) sum = MulAdd(Load(features + p), Load(weight + p), sum);
    if (p < P) {
      sum = MulAdd(LoadSome(features + p, P - p), LoadSome(weight + p, P - p), sum);
    }
    logits[k] = SumOfLanes<Real>(sum) + bias[k];
  }
}

// to[p] += factor * from[p]
template <typename Real>
SENSORSEQ_INLINE void AddScaled(Real factor, const Real* from, int64_t P, Real* to) {
  constexpr int64_t V = kLanes<Real>;
  int64_t p = 0;
  for (; p + V <= P; p += V) {
    Store(to + p, MulAdd(Broadcast(factor), Load(from + p), Load(to + p)));
  }
  if (p < P) {
    const Vec<Real> sum =
        MulAdd(Broadcast(factor), LoadSome(from + p, P - p), LoadSome(to + p, P - p));
    StoreSome(to + p, sum, P - p);
  }
}

// Adds one window's gradients to grad_features, grad_weight (K, P) and grad_bias (K).
template <typename Real>
inline void HeadBackward(const Real* grad_logits, const Real* features, const Real* weight,
                         int64_t P, int64_t K, Real* grad_features, Real* grad_weight,
                         Real* grad_bias) {
  for (int64_t k = 0; k < K; ++k) {
    AddScaled(grad_logits[k], weight + k * P, P, grad_features);
    AddScaled(grad_logits[k], features, P, grad_weight + k * P);
    grad_bias[k] += grad_logits[k];
  }
}
