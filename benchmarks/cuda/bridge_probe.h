// The probe: a kernel body that calls every function of the machine and stores the results row by
// row. A GPU cluster and the emulator run the probe on the same numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/layout.cuh"
#include "cuda/math.cuh"

namespace bridge {

using sensorseq::cuda::kLanes;

// How two results are compared, and in which unit the allowed difference is given.
enum class Rule {
  kBits,    // the same bits
  kNumber,  // the same number: all NaNs are equal, -0 equals 0
  kHalves,  // two halves; each must have the same bits in both results, or be NaN in both
  kUlps,    // units in the last place of a float; denormals count as 0
  kShare,   // 2^-11 of the number; denormals count as 0
  kOfSum,   // 2^-24 of the sum of the addends' magnitudes: an MMA may truncate each addend
};

// Columns: name, number of results, description, rule, allowed difference from the PTX manual.
//
// The allowed difference is slightly larger than the manual's relative tolerance: 2^-22 for ex2,
// 2^-23 for rcp, 2^-11 for tanh. The manual gives no tolerance for an MMA. An MMA has 17 addends.
// If each addend is truncated twice, the results differ by at most 34 units, so 64 leaves a margin.
// Wrong operands or lanes cause differences of millions.
#define BRIDGE_ROWS(ROW)                                                             \
  ROW(kPlace, 6, "lane, warp, rank, tile, direction, model", kBits, 0)               \
  ROW(kConversions, 5, "conversions of integers", kBits, 0)                          \
  ROW(kChoice, 4, "and, or, not, select", kBits, 0)                                  \
  ROW(kFma, 2, "fma, also of extremes", kNumber, 0)                                  \
  ROW(kDivide, 2, "division, also of extremes", kNumber, 0)                          \
  ROW(kAbs, 1, "abs", kNumber, 0)                                                    \
  ROW(kMax, 2, "max, also of extremes", kNumber, 0)                                  \
  ROW(kMin, 3, "min.NaN, also of extremes", kNumber, 0)                              \
  ROW(kExp2, 1, "ex2.approx.ftz", kUlps, 5)                                          \
  ROW(kExp2OfExtremes, 1, "ex2.approx.ftz of extremes", kUlps, 5)                    \
  ROW(kReciprocal, 1, "rcp.approx.ftz", kUlps, 3)                                    \
  ROW(kReciprocalOfExtremes, 1, "rcp.approx.ftz of extremes", kUlps, 3)              \
  ROW(kTanh, 3, "tanh.approx of 1, 8, 2^-9", kShare, 1.05)                           \
  ROW(kTanhOfExtremes, 1, "tanh.approx of extremes", kShare, 1.05)                   \
  ROW(kScale, 6, "scale and its inverse", kBits, 0)                                  \
  ROW(kPack, 2, "cvt.rn.f16x2, also of extremes", kHalves, 0)                        \
  ROW(kLowHalf, 1, "low half of any word", kNumber, 0)                               \
  ROW(kHighHalf, 1, "high half of any word", kNumber, 0)                             \
  ROW(kShuffleXor, 5, "shfl.bfly 1, 2, 4, 8, 16", kBits, 0)                          \
  ROW(kShuffle, 1, "shfl.idx", kBits, 0)                                             \
  ROW(kShuffleInFour, 4, "shfl.idx among four lanes", kBits, 0)                      \
  ROW(kOpaque, 2, "a number that the compiler does not see", kBits, 0)               \
  ROW(kLargest, 2, "redux.max of any, of negative integers", kBits, 0)               \
  ROW(kMma, 4, "mma.m16n8k16", kOfSum, 64)                                           \
  ROW(kMmaOfDenormals, 4, "mma.m16n8k16 of denormal halves", kOfSum, 64)             \
  ROW(kMovmatrix, 1, "movmatrix", kBits, 0)                                          \
  ROW(kLanes_, 3, "a lane's own work: per lane, for lanes, once", kBits, 0)          \
  ROW(kLaneSum, 6, "sums over lanes in double, of one and of two", kBits, 0)         \
  ROW(kGlobalIf, 1, "global load of some lanes", kBits, 0)                           \
  ROW(kGlobalLong, 4, "global load of 64-bit integers, of all and some", kBits, 0)   \
  ROW(kUniform, 3, "global load, the same for all", kBits, 0)                        \
  ROW(kGlobalFloats, 4, "global load of 4 floats", kBits, 0)                         \
  ROW(kGlobalFloatsIf, 4, "global load of 4 floats, some lanes", kBits, 0)           \
  ROW(kGlobalHalf, 4, "global loads of halves and bfloats, some lanes", kNumber, 0)  \
  ROW(kGlobalPair, 2, "global load of 2 floats", kBits, 0)                           \
  ROW(kGlobalQuad, 4, "global load of 4 words", kBits, 0)                            \
  ROW(kGlobalQuadIf, 4, "global load of 4 words, some lanes", kBits, 0)              \
  ROW(kStore, 1, "global store of some lanes", kBits, 0)                             \
  ROW(kStoreFloats, 4, "global store of 4 floats, then of some lanes", kBits, 0)     \
  ROW(kStoreHalf, 2, "global store of halves, also of extremes", kHalves, 0)         \
  ROW(kStoreBfloat, 2, "global store of bfloats, also of extremes", kBits, 0)        \
  ROW(kStorePair, 2, "global store of 2 floats", kBits, 0)                           \
  ROW(kStoreQuad, 4, "global store of 4 words", kBits, 0)                            \
  ROW(kAtomicMax, 1, "atomic max of bits", kBits, 0)                                 \
  ROW(kFresh, 2, "global load of what another CTA wrote, of all and some", kBits, 0) \
  ROW(kSharedQuad, 5, "st.shared.v4, read by words of 1, 4", kBits, 0)               \
  ROW(kSharedFloats, 4, "st.shared.v4 of some lanes, ld.shared.v4", kBits, 0)        \
  ROW(kSharedPair, 2, "st.shared.v2 of some lanes, ld.shared.v2", kBits, 0)          \
  ROW(kLdmatrix, 4, "ldmatrix.x4", kBits, 0)                                         \
  ROW(kStmatrix, 1, "stmatrix.x1.trans", kBits, 0)                                   \
  ROW(kStmatrices, 4, "stmatrix.x4.trans", kBits, 0)                                 \
  ROW(kCopyQuad, 4, "cp.async of 16 bytes, some not valid", kBits, 0)                \
  ROW(kCopyPair, 2, "cp.async of 8 bytes", kBits, 0)                                 \
  ROW(kCopyWord, 1, "cp.async of 4 bytes, some not valid", kBits, 0)                 \
  ROW(kSyncCta, 1, "shared memory between warps, bar.sync", kBits, 0)                \
  ROW(kArrive, 2, "shared memory between warps, mbarrier, two phases", kBits, 0)     \
  ROW(kSendWord, 2, "st.async.b32 to the other CTA, to its own", kBits, 0)           \
  ROW(kSendPair, 4, "st.async.v2.b32 to the other CTA, to its own", kBits, 0)        \
  ROW(kIsLast, 3, "last of CTAs, twice; of one CTA", kBits, 0)

#define BRIDGE_NAME(name, n, what, rule, allowed) name, name##End = name + n - 1,
enum Row : int { BRIDGE_ROWS(BRIDGE_NAME) kRows };
#undef BRIDGE_NAME

// A launch has two tiles, two directions and two models; each combination has a cluster of two CTAs
// with two warps each.
constexpr int kCtas = 2, kWarps = 2, kTiles = 2, kDirections = 2, kModels = 2;
constexpr int kClusters = kTiles * kDirections * kModels;
constexpr int kAllWarps = kClusters * kCtas * kWarps;

// A warp's numbers, in lines of one number per lane: normal numbers, arbitrary bits, and extremes.
constexpr int kNormal = 0, kAny = 16, kExtreme = 20, kFloatLines = 24;
constexpr int kWordLines = 4;
constexpr int kCounters = 2;  // per cluster
// source lanes 0, 5, 10 ... 155; lane numbers above 31 wrap around
constexpr int kShuffleStride = 5;

struct Arrays {
  const float* floats;    // [warp][kFloatLines][32]
  const uint32_t* words;  // [warp][kWordLines][32]
  const int64_t* longs;   // [warp][32]
  float* handed;          // [warp][32], passed from one CTA to the other
  int32_t* arrived;       // [cluster][kCounters], zeros
  float* results;         // [warp][kRows][32]
  uint32_t* result_bits;  // the same memory
};

// Shared memory: barriers, private memory of each warp, flags.
enum Barrier : uint32_t { kWordBarrier = 0, kPairBarrier = 8, kArriveBarrier = 16 };
enum Place : uint32_t {
  kQuads = 0,
  kQuadsIf = 512,
  kMatrices = 1024,
  kCopiedQuads = 1536,
  kPairs = 2048,
  kCopiedPairs = 2304,
  kSentPairs = 2560,
  kMatrix = 2816,
  kCopiedWords = 2944,
  kSentWords = 3072,
  kBetweenWarps = 3200,
  kArrived = 3328,  // two lines
  kOfWarp = 3712    // with a margin, so that a wrong lane's store does not hit other data
};
constexpr uint32_t kWarpsBegin = 128, kFlags = kWarpsBegin + kWarps * kOfWarp;
constexpr uint32_t kSharedBytes = kFlags + 64;

struct Two {
  double first, second;
};

template <typename M>
class Probe {
 public:
  using F = typename M::F;
  using I = typename M::I;
  using U = typename M::U;
  using L = typename M::L;
  using B = typename M::B;

  SENSORSEQ_BODY Probe(M& m, const Arrays& arrays)
      : m_(m),
        arrays_(arrays),
        cluster_((m.Model() * kDirections + m.Direction()) * kTiles + m.Tile()),
        of_warp_((cluster_ * kCtas + m.Rank()) * kWarps + m.Warp()),
        own_(kWarpsBegin + static_cast<uint32_t>(m.Warp()) * kOfWarp),
        lane_(L(m.Lane())),
        odd_((m.Lane() & 1u) == U{} + 1u),
        high_(m.Lane() > U{} + 12u) {}

  SENSORSEQ_BODY void Run() {
    Numbers();
    BetweenLanes();
    Matrices();
    LoadGlobal();
    StoreGlobal();
    Shared();
    Copies();
    BetweenWarps();
    BetweenCtas();
  }

 private:
  SENSORSEQ_BODY int64_t FloatsAt(int line) const {
    return (of_warp_ * kFloatLines + line) * kLanes;
  }
  SENSORSEQ_BODY int64_t ResultsAt(int row) const { return (of_warp_ * kRows + row) * kLanes; }
  SENSORSEQ_BODY F In(int line) {
    return m_.LoadGlobalIf(B(true), arrays_.floats, lane_ + FloatsAt(line));
  }
  SENSORSEQ_BODY U Word(int line) { return m_.AsUnsigned(In(kAny + line)); }
  SENSORSEQ_BODY void Put(int row, const F& x) {
    m_.StoreGlobalIf(B(true), arrays_.results, lane_ + ResultsAt(row), x);
  }
  SENSORSEQ_BODY void PutWord(int row, const U& x) { Put(row, m_.AsFloat(x)); }
  SENSORSEQ_BODY void PutInt(int row, int64_t x) {
    Put(row, m_.AsFloat(I{} + static_cast<int32_t>(x)));
  }
  SENSORSEQ_BODY void PutChoice(int row, const B& on) {
    Put(row, m_.Select(on, F{} + 1.0f, F{} + 2.0f));
  }
  SENSORSEQ_BODY void PutDouble(int row, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    PutWord(row, U{} + static_cast<uint32_t>(bits));
    PutWord(row + 1, U{} + static_cast<uint32_t>(bits >> 32));
  }

  SENSORSEQ_BODY void Numbers() {
    PutWord(kPlace, m_.Lane());
    PutInt(kPlace + 1, m_.Warp());
    PutInt(kPlace + 2, m_.Rank());
    PutInt(kPlace + 3, m_.Tile());
    PutInt(kPlace + 4, m_.Direction());
    PutInt(kPlace + 5, m_.Model());

    const I any = m_.AsInt(In(kAny));
    Put(kConversions, F(any));
    Put(kConversions + 1, m_.AsFloat(I(L(any) * int64_t{3})));
    Put(kConversions + 2, m_.AsFloat(I(L(any) >> int64_t{32})));
    Put(kConversions + 3, m_.AsFloat(I(L(Word(0)) >> int64_t{32})));
    Put(kConversions + 4, m_.AsFloat(I(Word(1))));
    PutChoice(kChoice, m_.And(odd_, high_));
    PutChoice(kChoice + 1, m_.Or(odd_, high_));
    PutChoice(kChoice + 2, m_.And(odd_, B(m_.Warp() == 1)));
    PutChoice(kChoice + 3, !m_.Or(odd_, !B(true)));

    const F x = In(kExtreme), y = In(kExtreme + 1);
    Put(kFma, m_.Fma(In(0), In(1), In(2)));
    Put(kFma + 1, m_.Fma(x, y, In(kExtreme + 2)));
    Put(kDivide, In(0) / In(1));
    Put(kDivide + 1, x / y);
    Put(kAbs, m_.Abs(x));
    Put(kMax, m_.Max(In(2), In(3)));
    Put(kMax + 1, m_.Max(x, y));
    Put(kMin, m_.MinOrNan(In(2), In(3)));
    Put(kMin + 1, m_.MinOrNan(x, y));
    Put(kMin + 2, m_.MinOrNan(y, x));
    Put(kExp2, m_.Exp2(In(4) * 8.0f));
    Put(kExp2OfExtremes, m_.Exp2(x));
    Put(kReciprocal, m_.Reciprocal(In(5)));
    Put(kReciprocalOfExtremes, m_.Reciprocal(x));
    Put(kTanh, m_.TanhApprox(In(6)));
    Put(kTanh + 1, m_.TanhApprox(In(7) * 8.0f));
    Put(kTanh + 2, m_.TanhApprox(In(8) * (1.0f / 512)));
    Put(kTanhOfExtremes, m_.TanhApprox(x));
    F scale, back;
    m_.ScaleTo(In(9), 10, &scale, &back);
    Put(kScale, scale);
    Put(kScale + 1, back);
    m_.ScaleTo(x, 12, &scale, &back);
    Put(kScale + 2, scale);
    Put(kScale + 3, back);
    m_.ScaleTo(y, 10, &scale, &back);
    Put(kScale + 4, scale);
    Put(kScale + 5, back);
    PutWord(kPack, m_.PackHalves(In(10), In(11)));
    PutWord(kPack + 1, m_.PackHalves(x, y));
    Put(kLowHalf, m_.LowHalf(Word(2)));
    Put(kHighHalf, m_.HighHalf(Word(2)));
  }

  SENSORSEQ_BODY void BetweenLanes() {
    SENSORSEQ_UNROLL
    for (int i = 0; i < 5; ++i) Put(kShuffleXor + i, m_.ShuffleXor(In(kAny), 1 << i));
    Put(kShuffle, m_.AsFloat(m_.Shuffle(m_.AsInt(In(kAny)), I(m_.Lane()) * kShuffleStride)));
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kShuffleInFour + i, m_.ShuffleInFour(In(kAny), i));
    PutWord(kOpaque, m_.Opaque(Word(0)));
    PutInt(kOpaque + 1, m_.Opaque(m_.Warp()));
    PutInt(kLargest, m_.Largest(m_.AsInt(In(kAny))));
    PutInt(kLargest + 1, m_.Largest(m_.AsInt(m_.AsFloat(Word(1) | (U{} + 0x80000000u)))));

    const float* from = arrays_.floats + FloatsAt(0);
    uint32_t* to = arrays_.result_bits + ResultsAt(kLanes_);
    const auto squares = m_.PerLane([&](int64_t lane) {
      const auto x = static_cast<double>(from[lane]);
      return Two{x * x, x};
    });
    const Two sums = m_.LaneSum(squares);
    PutDouble(kLaneSum, sums.first);
    PutDouble(kLaneSum + 2, sums.second);
    PutDouble(kLaneSum + 4, m_.LaneSum(m_.PerLane([&](int64_t lane) {
      return static_cast<double>(from[kLanes + lane]) / 3.0;
    })));
    m_.ForLanes([&](int64_t lane) { to[lane] = static_cast<uint32_t>(lane) * 3u; });
    m_.ForLanes([&](int64_t lane) { to[kLanes + lane] = static_cast<uint32_t>(lane); });
    m_.SyncWarp();
    m_.Once([&] { to[kLanes + 7] += 1000; });
    PutWord(kLanes_ + 2, m_.Lane() * 7u);
  }

  SENSORSEQ_BODY void Matrices() {
    U a[4], b[2], small_a[4];
    SENSORSEQ_UNROLL
    for (int w = 0; w < 4; ++w) {
      a[w] = m_.PackHalves(In(2 * w), In(2 * w + 1));
      // a factor of 2^-18 makes even the largest value a denormal half
      small_a[w] =
          m_.PackHalves(In(2 * w) * (1.0f / (1 << 18)), In(2 * w + 1) * (1.0f / (1 << 18)));
    }
    SENSORSEQ_UNROLL
    for (int w = 0; w < 2; ++w) b[w] = m_.PackHalves(In(8 + 2 * w), In(9 + 2 * w));
    F d[4] = {In(12), In(13), In(14), In(15)}, small_d[4] = {};
    m_.Mma(d, a, b[0], b[1]);
    m_.Mma(small_d, small_a, b[0], b[1]);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kMma + i, d[i]);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kMmaOfDenormals + i, small_d[i]);
    PutWord(kMovmatrix, m_.TransposeMatrix(Word(0)));
  }

  SENSORSEQ_BODY void LoadGlobal() {
    const L other = L(U(31u) - m_.Lane());  // another lane's place
    Put(kGlobalIf, m_.LoadGlobalIf(odd_, arrays_.floats, other + FloatsAt(kAny)));
    const L all = m_.LoadGlobalLongIf(B(true), arrays_.longs, other + of_warp_ * kLanes);
    const L some = m_.LoadGlobalLongIf(odd_, arrays_.longs, other + of_warp_ * kLanes);
    Put(kGlobalLong, m_.AsFloat(I(all)));
    Put(kGlobalLong + 1, m_.AsFloat(I(all >> int64_t{32})));
    Put(kGlobalLong + 2, m_.AsFloat(I(some)));
    Put(kGlobalLong + 3, m_.AsFloat(I(some >> int64_t{32})));
    Put(kUniform, F{} + m_.Uniform(arrays_.floats, FloatsAt(0) + 19));
    Put(kUniform + 1,
        F{} + m_.UniformBits(arrays_.words, (of_warp_ * kWordLines + 1) * kLanes + 21));
    PutInt(kUniform + 2, m_.UniformLong(arrays_.longs, of_warp_ * kLanes + 5));
    F floats[4];
    m_.LoadGlobalFloatsIf(odd_, arrays_.floats, other * int64_t{4} + FloatsAt(kAny), floats);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kGlobalFloatsIf + i, floats[i]);
    const L half = other + FloatsAt(kAny) * 2;
    Put(kGlobalHalf, m_.Widened(m_.LoadHalfIf(odd_, arrays_.floats, half), false));
    Put(kGlobalHalf + 1, m_.Widened(m_.LoadHalfIf(odd_, arrays_.floats, half), true));
    Put(kGlobalHalf + 2, m_.Widened(m_.LoadFreshHalfIf(odd_, arrays_.floats, half), false));
    Put(kGlobalHalf + 3, m_.Widened(m_.LoadFreshHalfIf(odd_, arrays_.floats, half), true));
    m_.LoadGlobalFloats(arrays_.floats, other * int64_t{4} + FloatsAt(kAny), floats);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kGlobalFloats + i, floats[i]);
    F x, y;
    m_.LoadGlobalPair(arrays_.floats, other * int64_t{2} + FloatsAt(kAny), &x, &y);
    Put(kGlobalPair, x);
    Put(kGlobalPair + 1, y);
    U words[4];
    m_.LoadGlobalQuad(words, arrays_.words, other + of_warp_ * kLanes);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) PutWord(kGlobalQuad + i, words[i]);
    m_.LoadGlobalQuadIf(odd_, words, arrays_.words, other + of_warp_ * kLanes);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) PutWord(kGlobalQuadIf + i, words[i]);
  }

  // The stored values are the results.
  SENSORSEQ_BODY void StoreGlobal() {
    const L other = L(U(31u) - m_.Lane());
    Put(kStore, In(kAny));
    m_.SyncWarp();
    m_.StoreGlobalIf(odd_, arrays_.results, lane_ + ResultsAt(kStore), In(kAny + 1));
    const F v[4] = {In(kAny), In(kAny + 1), In(kAny + 2), In(kAny + 3)};
    const F w[4] = {In(0), In(1), In(2), In(3)};
    const U words[4] = {Word(3), Word(2), Word(1), Word(0)};
    m_.StoreGlobalFloats(arrays_.results, other * int64_t{4} + ResultsAt(kStoreFloats), v);
    m_.StoreGlobalFloatsIf(odd_, arrays_.results, other * int64_t{4} + ResultsAt(kStoreFloats), w);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const F low = In(i == 0 ? 10 : kExtreme), high = In(i == 0 ? 11 : kExtreme + 1);
      for (const bool is_bfloat : {false, true}) {
        const L at =
            other * int64_t{2} + ResultsAt((is_bfloat ? kStoreBfloat : kStoreHalf) + i) * 2;
        m_.StoreHalfIf(B(true), arrays_.results, at, low, is_bfloat);
        m_.StoreHalfIf(B(true), arrays_.results, at + int64_t{1}, high, is_bfloat);
      }
    }
    m_.StoreGlobalPair(arrays_.results, other * int64_t{2} + ResultsAt(kStorePair), v[0], v[1]);
    // in quads
    m_.StoreGlobalQuad(arrays_.result_bits, other + ResultsAt(kStoreQuad) / 4, words);
    Put(kAtomicMax, F{});
    m_.SyncWarp();
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      // the second value may be larger or smaller than the first; the last word gets only one value
      m_.AtomicMaxBits(arrays_.result_bits, ResultsAt(kAtomicMax) + i, m_.Abs(In(i)));
      if (i < 3) {
        m_.AtomicMaxBits(arrays_.result_bits, ResultsAt(kAtomicMax) + i, m_.Abs(In(i + 1)));
      }
    }
  }

  SENSORSEQ_BODY void Shared() {
    const U lane = m_.Lane();
    const U words[4] = {Word(0), Word(1), Word(2), Word(3)};
    const U others[4] = {Word(3), Word(0), Word(1), Word(2)};
    U r[4];
    m_.StoreSharedQuad(lane * 16u + (own_ + kQuads), words);
    m_.StoreSharedQuad(lane * 16u + (own_ + kQuadsIf), words);
    m_.StoreSharedQuadIf(odd_, lane * 16u + (own_ + kQuadsIf), others);
    m_.StoreSharedPairIf(B(true), lane * 8u + (own_ + kPairs), In(0), In(1));
    m_.StoreSharedPairIf(odd_, lane * 8u + (own_ + kPairs), In(2), In(3));
    m_.StoreMatrix(own_ + kMatrix, words[1]);
    m_.StoreMatrices(own_ + kMatrices, words);
    m_.SyncWarp();
    Put(kSharedQuad, m_.LoadSharedFloat(lane * 4u + (own_ + kQuads + 128)));
    m_.LoadSharedQuad((U(31u) - lane) * 16u + (own_ + kQuads), r);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) PutWord(kSharedQuad + 1 + i, r[i]);
    F floats[4];
    m_.LoadSharedFloats((U(31u) - lane) * 16u + (own_ + kQuadsIf), floats);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kSharedFloats + i, floats[i]);
    F x, y;
    m_.LoadSharedPair((U(31u) - lane) * 8u + (own_ + kPairs), &x, &y);
    Put(kSharedPair, x);
    Put(kSharedPair + 1, y);
    m_.LoadMatrices(own_ + kQuads, r);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) PutWord(kLdmatrix + i, r[i]);
    Put(kStmatrix, m_.LoadSharedFloat(lane * 4u + (own_ + kMatrix)));
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      Put(kStmatrices + i,
          m_.LoadSharedFloat(lane * 4u + (own_ + kMatrices + static_cast<uint32_t>(i) * 128)));
    }
  }

  SENSORSEQ_BODY void Copies() {
    const U lane = m_.Lane();
    const L other = L(U(31u) - lane);
    const U words[4] = {Word(0), Word(0), Word(0), Word(0)};
    // the memory holds other values, so the zeros must have been written
    m_.StoreSharedQuad(lane * 16u + (own_ + kCopiedQuads), words);
    m_.StoreSharedPairIf(lane < U{} + 16u, lane * 8u + (own_ + kCopiedWords), In(0), In(1));
    m_.SyncWarp();
    m_.CopyAsyncQuad(lane * 16u + (own_ + kCopiedQuads), arrays_.floats,
                     other * int64_t{4} + FloatsAt(kAny), odd_);
    m_.CommitAsync();
    m_.CopyAsyncPair(lane * 8u + (own_ + kCopiedPairs), arrays_.floats,
                     other * int64_t{2} + FloatsAt(kAny));
    m_.CopyAsyncWord(lane * 4u + (own_ + kCopiedWords), arrays_.floats, other + FloatsAt(kAny),
                     high_);
    m_.CommitAsync();
    m_.template WaitAsync<1>();
    m_.SyncWarp();
    F quad[4];
    m_.LoadSharedFloats((U(31u) - lane) * 16u + (own_ + kCopiedQuads), quad);
    SENSORSEQ_UNROLL
    for (int i = 0; i < 4; ++i) Put(kCopyQuad + i, quad[i]);
    m_.template WaitAsync<0>();
    m_.SyncWarp();
    F x, y;
    m_.LoadSharedPair((U(31u) - lane) * 8u + (own_ + kCopiedPairs), &x, &y);
    Put(kCopyPair, x);
    Put(kCopyPair + 1, y);
    Put(kCopyWord, m_.LoadSharedFloat((U(31u) - lane) * 4u + (own_ + kCopiedWords)));
  }

  SENSORSEQ_BODY void BetweenWarps() {
    const U lane = m_.Lane();
    const B first_half = lane < U{} + 16u;  // each of these lanes stores two words
    const uint32_t other = kWarpsBegin + static_cast<uint32_t>(1 - m_.Warp()) * kOfWarp;
    if (m_.Warp() == 0) {
      m_.InitBarrier(kWordBarrier, 1);
      m_.InitBarrier(kPairBarrier, 1);
      m_.InitBarrier(kArriveBarrier, kWarps);
      m_.FenceBarrierInit();
    }
    m_.StoreSharedPairIf(first_half, lane * 8u + (own_ + kBetweenWarps), In(0), In(1));
    m_.SyncCta();
    Put(kSyncCta, m_.LoadSharedFloat((U(31u) - lane) * 4u + (other + kBetweenWarps)));
    for (uint32_t phase = 0; phase < 2; ++phase) {
      const uint32_t line = kArrived + phase * 128;
      const int at = static_cast<int>(phase) * 2;
      m_.StoreSharedPairIf(first_half, lane * 8u + (own_ + line), In(2 + at), In(3 + at));
      m_.SyncWarp();
      m_.Arrive(kArriveBarrier);
      m_.WaitBarrier(kArriveBarrier, phase);
      Put(kArrive + static_cast<int>(phase),
          m_.LoadSharedFloat((U(31u) - lane) * 4u + (other + line)));
    }
  }

  // Warp 0 has initialized the barriers.
  SENSORSEQ_BODY void BetweenCtas() {
    const U lane = m_.Lane();
    const int rank = m_.Rank();
    m_.StoreGlobalIf(B(true), arrays_.handed, lane_ + of_warp_ * kLanes, In(4));
    for (uint32_t phase = 0; phase < 2; ++phase) {
      if (m_.Warp() == 0) {
        m_.ArmBarrier(kWordBarrier, kWarps * 128);
        m_.ArmBarrier(kPairBarrier, kWarps * 256);
      }
      m_.SyncCluster();
      const int to = phase == 0 ? 1 - rank : rank;
      const int line = static_cast<int>(phase) * 2;
      m_.SendWord((U(31u) - lane) * 4u + (own_ + kSentWords), Word(line), to, kWordBarrier);
      m_.SendPair((U(31u) - lane) * 8u + (own_ + kSentPairs), In(kAny + line), In(kAny + line + 1),
                  to, kPairBarrier);
      m_.WaitBarrier(kWordBarrier, phase);
      Put(kSendWord + static_cast<int>(phase), m_.LoadSharedFloat(lane * 4u + (own_ + kSentWords)));
      m_.WaitBarrier(kPairBarrier, phase);
      F x, y;
      m_.LoadSharedPair(lane * 8u + (own_ + kSentPairs), &x, &y);
      Put(kSendPair + line, x);
      Put(kSendPair + line + 1, y);
    }
    const L handed =
        L(U(31u) - lane) + ((cluster_ * kCtas + 1 - rank) * kWarps + m_.Warp()) * kLanes;
    Put(kFresh, m_.LoadFreshIf(B(true), arrays_.handed, handed));
    Put(kFresh + 1, m_.LoadFreshIf(odd_, arrays_.handed, handed));

    // the CTAs arrive one after the other; in round 0 rank 1 is last, in round 1 rank 0
    bool is_last[2] = {false, false};
    SENSORSEQ_UNROLL
    for (int turn = 0; turn < 4; ++turn) {
      const int round = turn / 2;
      if (rank == (turn + round) % 2) {
        is_last[round] = m_.IsLastOfCtas(arrays_.arrived, cluster_ * kCounters, kCtas,
                                         kFlags + static_cast<uint32_t>(round) * 16);
      }
      m_.SyncCluster();
    }
    PutInt(kIsLast, is_last[0]);
    PutInt(kIsLast + 1, is_last[1]);
    const int64_t own = cluster_ * kCounters + 1;
    bool alone = false;
    if (rank == 0) alone = m_.IsLastOfCtas(arrays_.arrived, own, 1, kFlags + 32);
    PutInt(kIsLast + 2, alone);
    m_.SyncCluster();
  }

  M& m_;
  const Arrays& arrays_;
  const int64_t cluster_, of_warp_;
  const uint32_t own_;
  const L lane_;
  const B odd_, high_;
};

}  // namespace bridge
