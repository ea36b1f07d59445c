// Vec<Real>: one register of SENSORSEQ_VECTOR_BYTES, on the compiler's vector extension, so that
// one text serves every width. Included inside the namespace and target region of an ISA file,
// which then defines MulAdd; includes nothing.

template <typename Real>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float Type __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
};
template <>
struct VecOf<double> {
  typedef double Type __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(SENSORSEQ_VECTOR_BYTES)));
};
template <typename Real>
using Vec = typename VecOf<Real>::Type;
template <typename Real>
using VecBits = typename VecOf<Real>::Bits;

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
SENSORSEQ_INLINE Vec<Real> Broadcast(Real value) {
  return value - Vec<Real>{};
}

// The first n lanes from p, zero in the others; reads nothing beyond them.
template <typename Real>
SENSORSEQ_INLINE Vec<Real> LoadSome(const Real* p, int64_t n) {
  Vec<Real> v{};
  for (int64_t lane = 0; lane < n && lane < kLanes<Real>; ++lane) v[lane] = p[lane];
  return v;
}
