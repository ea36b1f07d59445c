// Vec<Real>: one register of SENSORSEQ_VECTOR_BYTES bytes, built on the compiler's vector
// extension, so that one source serves every width. This file includes nothing. It is included
// inside the namespace and target region of an ISA file, which then defines MulAdd, Min, Max and
// the other primitives that differ between processors.

template <typename Real>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float Type __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int32_t Bit;
};
template <>
struct VecOf<double> {
  typedef double Type __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int64_t Bit;
};
template <typename Real>
using Vec = typename VecOf<Real>::Type;
template <typename Real>
using VecBits = typename VecOf<Real>::Bits;
template <typename Real>
using Bit = typename VecOf<Real>::Bit;  // the integer type as wide as Real

template <typename Real>
constexpr int64_t kLanes = SENSORSEQ_VECTOR_BYTES / static_cast<int64_t>(sizeof(Real));

template <typename Real>
SENSORSEQ_INLINE Vec<Real> Load(const Real* p) {
  Vec<Real> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <typename Real>
SENSORSEQ_INLINE void Store(Real* p, Vec<Real> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <typename Real>
SENSORSEQ_INLINE VecBits<Real> LoadBits(const Bit<Real>* p) {
  VecBits<Real> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <typename Real>
SENSORSEQ_INLINE void StoreBits(Bit<Real>* p, VecBits<Real> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <typename Real>
SENSORSEQ_INLINE Vec<Real> Broadcast(Real value) {
  return value - Vec<Real>{};
}

// Loads the first n lanes from p and sets the others to zero; reads nothing beyond the n values.
template <typename Real>
SENSORSEQ_INLINE Vec<Real> LoadSome(const Real* p, int64_t n) {
  if (n >= kLanes<Real>) return Load(p);
  Real lanes[kLanes<Real>] = {};
  for (int64_t lane = 0; lane < n; ++lane) lanes[lane] = p[lane];
  return Load(lanes);
}

// Stores the first n lanes to p; writes nothing beyond them.
template <typename Real>
SENSORSEQ_INLINE void StoreSome(Real* p, Vec<Real> v, int64_t n) {
  if (n >= kLanes<Real>) return Store(p, v);
  Real lanes[kLanes<Real>];
  Store(lanes, v);
  for (int64_t lane = 0; lane < n; ++lane) p[lane] = lanes[lane];
}

// Exchanges the odd blocks of kStep lanes of a with the even blocks of b.
template <typename Real, int kStep, int... kLane>
SENSORSEQ_INLINE void MergeHalves(Vec<Real>& a, Vec<Real>& b, Lanes<kLane...>) {
  constexpr int kSize = static_cast<int>(kLanes<Real>);
  const Vec<Real> first = a, second = b;
#if defined(__clang__)
  a = __builtin_shufflevector(first, second, (kLane & kStep ? kLane - kStep + kSize : kLane)...);
  b = __builtin_shufflevector(first, second, (kLane & kStep ? kLane + kSize : kLane + kStep)...);
#else
  constexpr VecBits<Real> low = {(kLane & kStep ? kLane - kStep + kSize : kLane)...};
  constexpr VecBits<Real> high = {(kLane & kStep ? kLane + kSize : kLane + kStep)...};
  a = __builtin_shuffle(first, second, low);
  b = __builtin_shuffle(first, second, high);
#endif
}

template <typename Real, int kStep>
SENSORSEQ_INLINE void MergeRows(Vec<Real> (&rows)[kLanes<Real>]) {
  constexpr int kSize = static_cast<int>(kLanes<Real>);
  if constexpr (kStep > 0) {
#pragma GCC unroll 16
    for (int row = 0; row < kSize; ++row) {
      if ((row & kStep) != 0) continue;
      MergeHalves<Real, kStep>(rows[row], rows[row + kStep], AllLanes<kSize>());
    }
    MergeRows<Real, kStep / 2>(rows);
  }
}

// Transposes the square matrix whose rows are kLanes vectors, in log2(kLanes) rounds.
template <typename Real>
SENSORSEQ_INLINE void Transpose(Vec<Real> (&rows)[kLanes<Real>]) {
  MergeRows<Real, static_cast<int>(kLanes<Real>) / 2>(rows);
}

template <typename Real>
SENSORSEQ_INLINE Real SumOfLanes(Vec<Real> v) {
  constexpr int kSize = static_cast<int>(kLanes<Real>);
  Real lanes[kSize];
  Store(lanes, v);
  for (int n = kSize / 2; n > 0; n /= 2) {
    for (int lane = 0; lane < n; ++lane) lanes[lane] += lanes[lane + n];
  }
  return lanes[0];
}
