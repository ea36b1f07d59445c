// The operations of the emulator's machine. They are compiled once, without the kernels.
#include "emulator.h"

namespace emulator {

template <typename T>
Lanes<T>::Lanes(T value) {
  for (T& lane : of) lane = value;
}
template <typename T>
Lanes<T> Choose(const B& c, const Lanes<T>& x, const Lanes<T>& y) {
  Lanes<T> r;
  for (int l = 0; l < kLanes; ++l) r.of[l] = c.of[l] ? x.of[l] : y.of[l];
  return r;
}
#define EMULATED_OPERATOR(Result, op, Name)                        \
  template <typename T>                                            \
  Lanes<Result> Lanes<T>::Name(const Lanes& a, const Lanes& b) {   \
    Lanes<Result> r;                                               \
    for (int l = 0; l < kLanes; ++l) r.of[l] = a.of[l] op b.of[l]; \
    return r;                                                      \
  }
EMULATED_OPERATOR(T, +, Plus)
EMULATED_OPERATOR(T, -, Minus)
EMULATED_OPERATOR(T, *, Times)
EMULATED_OPERATOR(T, /, Over)
EMULATED_OPERATOR(T, &, Both)
EMULATED_OPERATOR(T, |, Either)
EMULATED_OPERATOR(T, <<, Left)
EMULATED_OPERATOR(T, >>, Right)
EMULATED_OPERATOR(bool, <, Less)
EMULATED_OPERATOR(bool, >, Greater)
EMULATED_OPERATOR(bool, ==, Equal)
EMULATED_OPERATOR(bool, !=, Unequal)
EMULATED_OPERATOR(bool, <=, NotGreater)
EMULATED_OPERATOR(bool, >=, NotLess)

#define EMULATED_TYPE(V, T)                        \
  template V::Lanes(T);                            \
  template V Choose(const B&, const V&, const V&); \
  template B V::Equal(const V&, const V&);
#define EMULATED_NUMBER(V, T)                   \
  EMULATED_TYPE(V, T)                           \
  template V V::Plus(const V&, const V&);       \
  template V V::Minus(const V&, const V&);      \
  template V V::Times(const V&, const V&);      \
  template V V::Over(const V&, const V&);       \
  template B V::Less(const V&, const V&);       \
  template B V::Greater(const V&, const V&);    \
  template B V::Unequal(const V&, const V&);    \
  template B V::NotGreater(const V&, const V&); \
  template B V::NotLess(const V&, const V&);
#define EMULATED_INTEGER(V, T)              \
  EMULATED_NUMBER(V, T)                     \
  template V V::Both(const V&, const V&);   \
  template V V::Either(const V&, const V&); \
  template V V::Left(const V&, const V&);   \
  template V V::Right(const V&, const V&);

EMULATED_TYPE(B, bool)
template B B::Both(const B&, const B&);
template B B::Either(const B&, const B&);
EMULATED_NUMBER(F, float)
EMULATED_INTEGER(I, int32_t)
EMULATED_INTEGER(U, uint32_t)
EMULATED_INTEGER(L, int64_t)

template <typename T>
template <typename To>
Lanes<To> Lanes<T>::As() const {
  Lanes<To> r;
  for (int l = 0; l < kLanes; ++l) r.of[l] = static_cast<To>(of[l]);
  return r;
}
template <typename T>
template <typename To>
Lanes<To> Lanes<T>::Bits() const {
  static_assert(sizeof(To) == sizeof(T), "the same bits");
  Lanes<To> r;
  std::memcpy(r.of, of, sizeof(of));
  return r;
}
template I U::As() const;
template I L::As() const;
template I I::As() const;
template U I::As() const;
template L U::As() const;
template L I::As() const;
template L L::As() const;
template F I::As() const;
template F U::Bits() const;
template F I::Bits() const;
template I F::Bits() const;
template U F::Bits() const;

namespace {

template <typename G>
F Map(const F& x, G g) {
  F r;
  for (int l = 0; l < kLanes; ++l) r[l] = g(x[l]);
  return r;
}

}  // namespace

U Machine::Lane() {
  U lane;
  for (int l = 0; l < kLanes; ++l) lane[l] = static_cast<uint32_t>(l);
  return lane;
}

F Machine::Fma(const F& a, const F& b, const F& c) {
  F r;
  for (int l = 0; l < kLanes; ++l) r[l] = std::fma(a[l], b[l], c[l]);
  return r;
}

F Machine::Exp2(const F& x) {
  return Map(x, [](float v) { return std::exp2(v); });
}

F Machine::Abs(const F& x) {
  return Map(x, [](float v) { return std::fabs(v); });
}

F Machine::Max(const F& x, const F& y) {
  F r;
  for (int l = 0; l < kLanes; ++l) r[l] = std::fmax(x[l], y[l]);
  return r;
}

F Machine::TanhApprox(const F& x) {
  return Map(x, [](float v) {
    int exponent;
    const float fraction = std::frexp(std::tanh(v), &exponent);
    return std::ldexp(std::nearbyint(fraction * 2048) / 2048, exponent);
  });
}

U Machine::PackHalves(const F& low, const F& high) {
  U r;
  for (int l = 0; l < kLanes; ++l) {
    r[l] = HalfOfFloat(low[l]) | (uint32_t{HalfOfFloat(high[l])} << 16);
  }
  return r;
}

F Machine::LowHalf(const U& x) {
  F r;
  for (int l = 0; l < kLanes; ++l) r[l] = HalfValue(static_cast<uint16_t>(x[l]));
  return r;
}

I Machine::Shuffle(const I& x, const I& from) {
  I r;
  for (int l = 0; l < kLanes; ++l) r[l] = x[from[l] & 31];
  return r;
}

F Machine::ShuffleInFour(const F& x, int of) {
  F r;
  for (int l = 0; l < kLanes; ++l) r[l] = x[(l & ~3) | of];
  return r;
}

int64_t Machine::Largest(const I& x) {
  int32_t most = x[0];
  for (int l = 1; l < kLanes; ++l) most = std::max(most, x[l]);
  return most;
}

void Machine::Mma(F d[4], const U a[4], const U& b0, const U& b1) {
  double rows[16][16], columns[16][8];
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, q = l % 4;
    for (int half = 0; half < 2; ++half) {
      auto Value = [&](const U& word) {
        return static_cast<double>(HalfValue(static_cast<uint16_t>(word[l] >> (16 * half))));
      };
      rows[g][2 * q + half] = Value(a[0]);
      rows[g + 8][2 * q + half] = Value(a[1]);
      rows[g][2 * q + 8 + half] = Value(a[2]);
      rows[g + 8][2 * q + 8 + half] = Value(a[3]);
      columns[2 * q + half][g] = Value(b0);
      columns[2 * q + 8 + half][g] = Value(b1);
    }
  }
  double sums[16][8] = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) sums[i][j] += rows[i][k] * columns[k][j];
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    for (int i = 0; i < 4; ++i) {
      d[i][l] =
          Truncated(sums[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] + static_cast<double>(d[i][l]));
    }
  }
}

U Machine::TransposeMatrix(const U& x) {
  U r;
  auto Half = [&](int row, int column) {  // 16 bits: one element of the matrix in x
    return (x[row * 4 + column / 2] >> (16 * (column % 2))) & 0xffff;
  };
  for (int l = 0; l < kLanes; ++l) {
    const int row = l / 4, column = 2 * (l % 4);
    r[l] = Half(column, row) | (Half(column + 1, row) << 16);
  }
  return r;
}

F Machine::LoadGlobalIf(const B& on, const float* base, const L& at) {
  F r;
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) r[l] = ReadGlobal(base + at[l], l, false);
  }
  return r;
}

F Machine::LoadFreshIf(const B& on, const float* base, const L& at) {
  F r;
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) r[l] = ReadGlobal(base + at[l], l, true);
  }
  return r;
}

L Machine::LoadGlobalLongIf(const B& on, const int64_t* base, const L& at) {
  L r;
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) r[l] = base[at[l]];
  }
  return r;
}

void Machine::LoadGlobalFloatsIf(const B& on, const float* base, const L& at, F r[4]) {
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) Aligned(base + at[l], 16);
    for (int i = 0; i < 4; ++i) r[i][l] = on[l] ? ReadGlobal(base + at[l] + i, l, false) : 0.0f;
  }
}
void Machine::LoadGlobalFloats(const float* base, const L& at, F r[4]) {
  LoadGlobalFloatsIf(B(true), base, at, r);
}

U Machine::LoadHalfIf(const B& on, const void* base, const L& at) {
  U r;
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) r[l] = ReadGlobal(static_cast<const uint16_t*>(base) + at[l], l, false);
  }
  return r;
}
U Machine::LoadFreshHalfIf(const B& on, const void* base, const L& at) {
  U r;
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) r[l] = ReadGlobal(static_cast<const uint16_t*>(base) + at[l], l, true);
  }
  return r;
}
F Machine::Widened(const U& bits, bool is_bfloat) {
  F r;
  for (int l = 0; l < kLanes; ++l)
    r[l] = emulator::Widened(static_cast<uint16_t>(bits[l]), is_bfloat);
  return r;
}
void Machine::StoreHalfIf(const B& on, void* base, const L& at, const F& value, bool is_bfloat) {
  cluster_.MaybeYield();
  for (int l = 0; l < kLanes; ++l) {
    auto* to = static_cast<uint16_t*>(base) + at[l];
    if (on[l]) WriteGlobal(to, is_bfloat ? BfloatOfFloat(value[l]) : HalfOfFloat(value[l]), l);
  }
}

void Machine::LoadGlobalPair(const float* base, const L& at, F* x, F* y) {
  for (int l = 0; l < kLanes; ++l) {
    Aligned(base + at[l], 8);
    (*x)[l] = ReadGlobal(base + at[l], l, false);
    (*y)[l] = ReadGlobal(base + at[l] + 1, l, false);
  }
}

void Machine::StoreGlobalIf(const B& on, float* base, const L& at, const F& value) {
  cluster_.MaybeYield();
  for (int l = 0; l < kLanes; ++l) {
    if (on[l]) WriteGlobal(base + at[l], value[l], l);
  }
}

void Machine::StoreGlobalFloatsIf(const B& on, float* base, const L& at, const F value[4]) {
  for (int l = 0; l < kLanes; ++l) {
    if (!on[l]) continue;
    Aligned(base + at[l], 16);
    for (int i = 0; i < 4; ++i) WriteGlobal(base + at[l] + i, value[i][l], l);
  }
}

void Machine::StoreGlobalPair(float* base, const L& at, const F& x, const F& y) {
  for (int l = 0; l < kLanes; ++l) {
    Aligned(base + at[l], 8);
    WriteGlobal(base + at[l], x[l], l);
    WriteGlobal(base + at[l] + 1, y[l], l);
  }
}

void Machine::LoadGlobalQuadIf(const B& on, U word[4], const void* base, const L& at) {
  for (int w = 0; w < 4; ++w) word[w] = U{};
  for (int l = 0; l < kLanes; ++l) {
    if (!on[l]) continue;
    const uint32_t* from = static_cast<const uint32_t*>(base) + at[l] * 4;
    Aligned(from, 16);
    for (int w = 0; w < 4; ++w) word[w][l] = from[w];
  }
}

void Machine::StoreGlobalQuad(void* base, const L& at, const U word[4]) {
  for (int l = 0; l < kLanes; ++l) {
    uint32_t* to = static_cast<uint32_t*>(base) + at[l] * 4;
    Aligned(to, 16);
    for (int w = 0; w < 4; ++w) to[w] = word[w][l];
  }
}

void Machine::LoadMatrices(uint32_t at, U r[4]) {
  cluster_.MaybeYield();
  if (at % 16 != 0) throw Fault("a misaligned matrix");
  for (int w = 0; w < 4; ++w) {
    for (int l = 0; l < kLanes; ++l) {
      r[w][l] = Read(at + static_cast<uint32_t>(w * 128 + l * 4), kAllLanes);
    }
  }
}

void Machine::StoreMatrix(uint32_t at, const U& x) {
  cluster_.MaybeYield();
  if (at % 16 != 0) throw Fault("a misaligned matrix");
  const U words = TransposeMatrix(x);
  for (int l = 0; l < kLanes; ++l) {
    Write(at + static_cast<uint32_t>(l * 4), words[l], kAllLanes, false);
  }
}

void Machine::CopyAsync(const B& on, const U& to, const float* base, const L& at, const B& valid,
                        int n_words) {
  cluster_.MaybeYield();
  for (int l = 0; l < kLanes; ++l) {
    if (!on[l]) continue;
    Aligned(base + at[l], static_cast<size_t>(n_words) * 4);
    if (to[l] % static_cast<uint32_t>(4 * n_words) != 0) throw Fault("a misaligned copy");
    for (int w = 0; w < n_words; ++w) {
      const float* from = valid[l] ? base + at[l] + w : nullptr;
      const float value = from == nullptr ? 0.0f : ReadGlobal(from, l, false);
      Copy copy{to[l] + static_cast<uint32_t>(4 * w), l, from, 0};
      std::memcpy(&copy.value, &value, 4);
      Write(copy.to, 0, l, true);
      copies_.back().push_back(copy);
    }
  }
}

void Machine::SyncCta() {
  SyncWarp();
  Join(cta_.clock, Behind());
  if (++cta_.n_waiting == cluster_.n_warps()) {
    cta_.n_waiting = 0;
    ++cta_.generation;
    cta_.released = cta_.clock;
  } else {
    const uint64_t generation = cta_.generation;
    cluster_.Yield([this, generation] { return cta_.generation != generation; });
  }
  Join(clock_, cta_.released);
}

void Machine::SyncCluster() {
  SyncWarp();
  Clock clock = Behind();
  cluster_.Sync(clock);
  Join(clock_, clock);
}

void Machine::InitBarrier(uint32_t at, int count) {
  if (at % 8 != 0 || at / 8 >= kBarriers) throw Fault("a barrier outside its place");
  Barrier& b = cta_.barriers[at / 8];
  if (b.exists) throw Fault("a barrier is made twice");
  b.exists = true;
  b.count = b.pending = count;
  b.maker = component_;
  b.made_at = clock_.seen[own_];
}

void Machine::WaitBarrier(uint32_t at, uint32_t parity) {
  Barrier& b = cluster_.At(rank_, at, clock_);
  cluster_.MaybeYield();
  const bool waits = (b.phase & 1) == parity;
  const int64_t target = waits ? b.phase : b.phase - 1;
  int64_t& passed = passed_[at / 8];
  if (target <= passed) throw Fault("a wait passes by a phase that was waited for before");
  if (target > passed + 1) throw Fault("a phase was lapped before it was waited for");
  if (waits) cluster_.Yield([&b, target] { return b.phase > target; });
  if (b.phase != target + 1) throw Fault("a phase was lapped by a warp that waited for it");
  passed = target;
  // a barrier orders only shared memory
  Join(clock_.seen, b.complete.seen);
  Join(clock_.done, b.complete.done);
}

void Machine::SendWord(const U& at, const U& value, int to, uint32_t barrier) {
  const U values[2] = {value, U{}};
  SendWords(at, values, 1, to, barrier);
}

void Machine::SendPair(const U& at, const F& x, const F& y, int to, uint32_t barrier) {
  const U values[2] = {AsUnsigned(x), AsUnsigned(y)};
  SendWords(at, values, 2, to, barrier);
}

bool Machine::IsLastOfCtas(int32_t* arrived, int64_t at, int n_ctas, uint32_t flag) {
  if (warp_ == 0) {
    cluster_.MaybeYield();
    Clock& counter = cluster_.Counter(arrived + at);
    Join(counter, Behind());
    const bool is_last = ++arrived[at] == n_ctas;
    if (is_last) {
      arrived[at] = 0;
      Join(clock_, counter);
    }
    Write(flag, is_last, 0, false);
  }
  SyncCta();
  U words[1];
  ReadWords(flag, 1, words);
  return words[0][0] != 0;
}

Clock Machine::Behind() const {
  Clock clock = clock_;
  clock.seen[own_] = clock.done[own_] = clock.global[own_] = synced_;
  return clock;
}

void Machine::ArriveWith(uint32_t at, uint32_t bytes) {
  cluster_.MaybeYield();
  cluster_.Arrive(cluster_.At(rank_, at, clock_), bytes, Behind());
}

void Machine::SendWords(const U& at, const U values[2], int n_words, int to, uint32_t barrier) {
  cluster_.MaybeYield();
  if (to < 0 || to >= cluster_.n_ctas()) throw Fault("a message to nobody");
  const auto clock = std::make_shared<const Clock>(clock_);
  const int component = component_ + cluster_.n_components() / 2;
  for (int l = 0; l < kLanes; ++l) {
    if (at[l] % static_cast<uint32_t>(4 * n_words) != 0) {
      throw Fault("a message to a misaligned place");
    }
    cluster_.Send({to,
                   barrier,
                   static_cast<uint32_t>(n_words),
                   at[l],
                   {values[0][l], values[1][l]},
                   clock,
                   component,
                   ++sent_});
  }
  Tick();  // the messages do not release later operations
}

void Machine::Land(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    if (copy.from != nullptr && std::memcmp(copy.from, &copy.value, 4) != 0) {
      throw Fault("a copy's source changed under way");
    }
    Word& word = cta_.words[copy.to / 4];
    std::memcpy(&cta_.shared[copy.to], &copy.value, 4);
    word.arriving = false;
    word.written_at = clock_.seen[own_];
    word.epoch = epoch_;
  }
}

template <typename T>
T Machine::ReadGlobal(const T* from, int lane, bool is_fresh) {
  const auto at = cluster_.global().find(from);
  if (at != cluster_.global().end()) {
    const GlobalWrite& write = at->second;
    if (write.writer == component_) {
      if (write.lane != lane && write.epoch == epoch_) {
        throw Fault("a lane reads another lane's write, with no __syncwarp between");
      }
    } else if (write.written_at > clock_.global[static_cast<size_t>(write.writer)]) {
      throw Fault("a read of global memory races with a write");
    } else if (!is_fresh && write.writer / cluster_.n_warps() != rank_) {
      throw Fault("a read of another CTA's write, from a cache that may be stale");
    }
  }
  return *from;
}

template <typename T>
void Machine::WriteGlobal(T* to, T value, int lane) {
  GlobalWrite& write = cluster_.global()[to];
  if (write.writer == component_) {
    if (write.lane != lane && write.epoch == epoch_) {
      throw Fault("two lanes write one place, with no __syncwarp between");
    }
  } else if (write.writer >= 0 &&
             write.written_at > clock_.global[static_cast<size_t>(write.writer)]) {
    throw Fault("a write to global memory races with a write");
  }
  write = {component_, clock_.global[own_], epoch_, static_cast<int8_t>(lane)};
  *to = value;
}

void Machine::ReadWords(const U& at, int n, U* r) {
  cluster_.MaybeYield();
  for (int l = 0; l < kLanes; ++l) {
    if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a read of a misaligned place");
    for (int w = 0; w < n; ++w) r[w][l] = Read(at[l] + static_cast<uint32_t>(4 * w), l);
  }
}

void Machine::WriteWords(const B& on, const U& at, const U* words, int n) {
  cluster_.MaybeYield();
  for (int l = 0; l < kLanes; ++l) {
    if (!on[l]) continue;
    if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a write to a misaligned place");
    for (int w = 0; w < n; ++w) {
      Write(at[l] + static_cast<uint32_t>(4 * w), words[w][l], l, false);
    }
  }
}

Word& Machine::WordAt(uint32_t address) {
  if (address % 4 != 0 || address + 4 > cta_.shared.size()) {
    throw Fault("an access outside shared memory");
  }
  if (cta_.IsBarrier(address)) throw Fault("an access to a barrier as data");
  return cta_.words[address / 4];
}

uint32_t Machine::Read(uint32_t address, int lane) {
  Word& word = WordAt(address);
  if (word.writer < 0) throw Fault("shared memory is read before it was written");
  if (word.arriving) throw Fault("a copy is read before it was waited for");
  if (word.writer == component_) {
    if (word.epoch == epoch_ && (word.lane != lane || lane == kAllLanes)) {
      throw Fault("a lane reads another lane's write, with no __syncwarp between");
    }
  } else if (word.written_at > clock_.seen[static_cast<size_t>(word.writer)]) {
    throw Fault("a read races with a write");
  }
  Word::Read& read = word.reads[static_cast<size_t>(warp_)];
  if (read.epoch != epoch_) read.lanes = 0;
  read.at = clock_.seen[own_];
  read.epoch = epoch_;
  read.lanes |= Bits(lane);
  uint32_t value;
  std::memcpy(&value, &cta_.shared[address], 4);
  return value;
}

void Machine::Write(uint32_t address, uint32_t value, int lane, bool arriving) {
  Word& word = WordAt(address);
  if (word.arriving) throw Fault("a write races with a copy");
  if (word.writer == component_) {
    if (word.epoch == epoch_ && (word.lane != lane || lane == kAllLanes)) {
      throw Fault("two lanes write one place, with no __syncwarp between");
    }
  } else if (word.writer >= 0 && !cluster_.IsBehind(word.writer, word.written_at, clock_)) {
    throw Fault("a write races with a write");
  }
  for (int warp = 0; warp < cluster_.n_warps(); ++warp) {
    const Word::Read& read = word.reads[static_cast<size_t>(warp)];
    if (warp == warp_) {
      if (read.epoch == epoch_ && read.lanes != 0 && !IsOneLane(read.lanes, lane)) {
        throw Fault("a lane overwrites another lane's read, with no __syncwarp between");
      }
    } else if (read.at > clock_.done[static_cast<size_t>(rank_ * cluster_.n_warps() + warp)]) {
      throw Fault("a write overwrites data that another warp may still read");
    }
  }
  word.writer = component_;
  word.written_at = clock_.seen[own_];
  word.epoch = epoch_;
  word.lane = static_cast<int8_t>(lane);
  word.arriving = arriving;
  if (!arriving) std::memcpy(&cta_.shared[address], &value, 4);
}

}  // namespace emulator
