// A machine for the kernels of csrc/cuda on the host: the bodies compile against it unchanged, with
// a vector of 32 for every value of a lane. Warps run as fibers that give way at random, messages
// between CTAs arrive late and out of order. It checks what hardware leaves undefined:
//
//   - races on shared memory, by vector clocks: between warps, between a message and a warp, and
//     between lanes of a warp without a __syncwarp in between
//   - shared memory read before it was written, or before a copy has been waited for
//   - deadlock, over-arrival at a barrier, bytes at a barrier before it exists
//   - stores to a CTA that has left
//
// What an MMA does is taken from the PTX manual's fragments; that it sums exactly and then
// truncates is an assumption that stands in research, to be measured on hardware.
#pragma once

#include <ucontext.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/layout.h"

namespace emulator {

using sensorseq::cuda::kLanes;
using F = float __attribute__((vector_size(128)));
using I = int32_t __attribute__((vector_size(128)));
using U = uint32_t __attribute__((vector_size(128)));
using L = int64_t __attribute__((vector_size(256)));

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// IEEE halves; to nearest, even.
inline float FloatOfHalf(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half & 0x8000 ? -value : value;
}
inline uint16_t HalfOfFloat(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7fff;
  const double size = std::fabs(static_cast<double>(value));
  if (size >= 65520) return sign | 0x7c00;
  if (size < std::ldexp(1.0, -14)) {
    return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24)));
  }
  int exponent;
  const double fraction = std::frexp(size, &exponent);  // [0.5, 1)
  const auto mantissa = static_cast<int>(std::nearbyint(std::ldexp(fraction, 11)));
  return sign | static_cast<uint16_t>(((exponent + 14) << 10) + (mantissa - 1024));
}
inline float HalfValue(uint16_t half) {
  static const std::vector<float> table = [] {
    std::vector<float> values(65536);
    for (int i = 0; i < 65536; ++i) values[i] = FloatOfHalf(static_cast<uint16_t>(i));
    return values;
  }();
  return table[half];
}
inline float Truncated(double value) {
  const float rounded = static_cast<float>(value);
  if (!std::isfinite(rounded)) return rounded;
  return std::fabs(static_cast<double>(rounded)) > std::fabs(value) ? std::nextafterf(rounded, 0)
                                                                    : rounded;
}

using Clock = std::vector<uint32_t>;
inline void Join(Clock& into, const Clock& from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = into[i] > from[i] ? into[i] : from[i];
}

constexpr int kNoLane = -1;   // no write yet
constexpr int kAnyLane = 32;  // written or read by lanes together

struct Word {
  int32_t writer = -1;  // component of the clocks; -1: never written
  uint32_t written_at = 0;
  uint32_t epoch = 0;  // of the writing warp: its __syncwarps so far
  int8_t lane = kNoLane;
  bool arriving = false;  // a copy that nobody has waited for
  struct Read {
    uint32_t at = 0, epoch = 0;
    uint32_t lanes = 0;
  };
  std::vector<Read> reads;  // by warp of the CTA
};

struct Barrier {
  bool exists = false;
  int64_t count = 0, pending = 0, bytes = 0;
  uint64_t phase = 0;
  Clock clock, complete;  // of this phase; of those completed
};

struct Cta {
  std::vector<uint8_t> shared;
  std::vector<Word> words;
  std::vector<Barrier> barriers;  // by address / 8, in the first 128 bytes
  int n_running = 0;
  // bar.sync
  int n_waiting = 0;
  uint64_t generation = 0;
  Clock clock, released;
  bool flag = false;
};

struct Message {
  int cta;
  uint32_t barrier;
  std::vector<std::pair<uint32_t, uint32_t>> words;  // address, value
  Clock clock;
  int component;
  uint32_t at;
};

struct Options {
  uint32_t seed = 1;
  bool late_messages = true;
};

class Machine;

// The CTAs of one cluster, until all have left.
class Cluster {
 public:
  Cluster(int n_ctas, int n_warps, uint32_t shared_bytes, const Options& options)
      : n_ctas_(n_ctas), n_warps_(n_warps), random_(options.seed), options_(options) {
    n_components_ = 2 * n_ctas * n_warps;
    ctas_.resize(static_cast<size_t>(n_ctas));
    for (Cta& cta : ctas_) {
      cta.shared.assign(shared_bytes, 0xff);
      cta.words.resize((shared_bytes + 3) / 4);
      for (Word& word : cta.words) word.reads.resize(static_cast<size_t>(n_warps));
      cta.barriers.resize(16);
      for (Barrier& b : cta.barriers) b.clock = b.complete = Clock(n_components_);
      cta.n_running = n_warps;
      cta.clock = cta.released = Clock(n_components_);
    }
    cluster_clock_ = cluster_released_ = Clock(n_components_);
  }

  // Runs body(rank, warp) as a fiber for every warp.
  void Run(const std::function<void(int rank, int warp)>& body) {
    for (int rank = 0; rank < n_ctas_; ++rank) {
      for (int warp = 0; warp < n_warps_; ++warp) {
        auto fiber = std::make_unique<Fiber>();
        fiber->cluster = this;
        fiber->body = [=] { body(rank, warp); };
        fiber->rank = rank;
        fiber->stack.reset(new char[kStack]);
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = fiber->stack.get();
        fiber->context.uc_stack.ss_size = kStack;
        fiber->context.uc_link = &main_;
        const auto pointer = reinterpret_cast<uintptr_t>(fiber.get());
        makecontext(&fiber->context, reinterpret_cast<void (*)()>(&Enter), 2,
                    static_cast<unsigned>(pointer >> 32), static_cast<unsigned>(pointer));
        fibers_.push_back(std::move(fiber));
      }
    }
    while (Schedule()) {
    }
    if (!fault_.empty()) throw Fault(fault_);
    if (!messages_.empty()) {
      while (!messages_.empty()) Deliver(0);
    }
  }

  std::mt19937& random() { return random_; }
  Cta& cta(int rank) { return ctas_[static_cast<size_t>(rank)]; }
  int n_components() const { return n_components_; }
  int n_ctas() const { return n_ctas_; }
  int n_warps() const { return n_warps_; }

  // Gives way; until `ready`, if there is one.
  void Yield(std::function<bool()> ready = {}) {
    current_->ready = std::move(ready);
    swapcontext(&current_->context, &main_);
    if (!fault_.empty()) throw Fault(fault_);
  }
  void MaybeYield() {
    if (random_() % 16 == 0) Yield();
  }
  void Send(Message message) {
    messages_.push_back(std::move(message));
    if (!options_.late_messages) Deliver(messages_.size() - 1);
  }

  void Arrive(int rank, uint32_t address, int64_t bytes, const Clock& clock) {
    Barrier& b = At(rank, address);
    b.bytes += bytes;
    if (--b.pending < 0) throw Fault("more arrivals at a barrier than it counts");
    Join(b.clock, clock);
    Complete(b);
  }
  Barrier& At(int rank, uint32_t address) {
    if (address % 8 != 0 || address / 8 >= 16) throw Fault("a barrier outside its place");
    Barrier& b = cta(rank).barriers[address / 8];
    if (!b.exists) throw Fault("a barrier is used before it exists");
    return b;
  }

  // Barrier of all threads of the cluster.
  void Sync(Clock& clock) {
    Join(cluster_clock_, clock);
    if (++cluster_waiting_ == n_ctas_ * n_warps_) {
      cluster_waiting_ = 0;
      ++cluster_generation_;
      cluster_released_ = cluster_clock_;
    } else {
      const uint64_t generation = cluster_generation_;
      Yield([this, generation] { return cluster_generation_ != generation; });
    }
    Join(clock, cluster_released_);
  }

 private:
  static constexpr size_t kStack = 1 << 20;
  struct Fiber {
    Cluster* cluster;
    std::function<void()> body;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    std::function<bool()> ready;
    int rank;
    bool done = false;
  };

  static void Enter(unsigned high, unsigned low) {
    auto* fiber = reinterpret_cast<Fiber*>((uintptr_t{high} << 32) | low);
    try {
      fiber->body();
    } catch (const std::exception& error) {
      if (fiber->cluster->fault_.empty()) fiber->cluster->fault_ = error.what();
    }
    fiber->done = true;
    --fiber->cluster->cta(fiber->rank).n_running;
  }

  // One turn; false when nothing is left to do.
  bool Schedule() {
    std::vector<Fiber*> able;
    bool any = false;
    for (const auto& fiber : fibers_) {
      if (fiber->done) continue;
      any = true;
      if (!fault_.empty() || !fiber->ready || fiber->ready()) able.push_back(fiber.get());
    }
    if (!any) return false;
    if (!messages_.empty() && fault_.empty() && (able.empty() || random_() % 4 == 0)) {
      try {
        // now and then a burst, else one
        for (uint32_t n = random_() % 8 == 0 ? 64 : 1; n > 0 && !messages_.empty(); --n) {
          Deliver(random_() % messages_.size());
        }
      } catch (const std::exception& error) {
        fault_ = error.what();
      }
      return true;
    }
    if (able.empty()) {
      fault_ = "deadlock";
      return true;
    }
    current_ = able[random_() % able.size()];
    current_->ready = {};
    swapcontext(&main_, &current_->context);
    return true;
  }

  void Deliver(size_t index) {
    const Message message = std::move(messages_[index]);
    messages_[index] = std::move(messages_.back());
    messages_.pop_back();
    Cta& to = cta(message.cta);
    if (to.n_running == 0) throw Fault("a store to a CTA that has left");
    Barrier& b = At(message.cta, message.barrier);
    for (const auto& [address, value] : message.words) {
      if (address % 4 != 0 || address + 4 > to.shared.size()) {
        throw Fault("a message outside shared memory");
      }
      Word& word = to.words[address / 4];
      if (word.writer >= 0 && word.written_at > message.clock[word.writer]) {
        throw Fault("a message races with a write");
      }
      for (int warp = 0; warp < n_warps_; ++warp) {
        if (word.reads[warp].at > message.clock[message.cta * n_warps_ + warp]) {
          throw Fault("a message overwrites what a warp may still read");
        }
      }
      word.writer = message.component;
      word.written_at = message.at;
      word.lane = kAnyLane;
      word.arriving = false;
      std::memcpy(&to.shared[address], &value, 4);
    }
    b.bytes -= static_cast<int64_t>(message.words.size()) * 4;
    Join(b.clock, message.clock);
    b.clock[message.component] = std::max(b.clock[message.component], message.at);
    Complete(b);
  }

  void Complete(Barrier& b) {
    if (b.pending != 0 || b.bytes != 0) return;
    ++b.phase;
    b.pending = b.count;
    b.complete = b.clock;
  }

  int n_ctas_, n_warps_, n_components_;
  std::mt19937 random_;
  Options options_;
  std::vector<Cta> ctas_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Message> messages_;
  Fiber* current_ = nullptr;
  ucontext_t main_;
  std::string fault_;
  int cluster_waiting_ = 0;
  uint64_t cluster_generation_ = 0;
  Clock cluster_clock_, cluster_released_;
};

// One warp: what csrc/cuda's bodies call their machine.
class Machine {
 public:
  using F = emulator::F;
  using I = emulator::I;
  using U = emulator::U;
  using L = emulator::L;
  using B = I;

  Machine(Cluster& cluster, int rank, int warp, int64_t tile, int direction, int64_t model)
      : cluster_(cluster),
        cta_(cluster.cta(rank)),
        rank_(rank),
        warp_(warp),
        tile_(tile),
        direction_(direction),
        model_(model),
        component_(rank * cluster.n_warps() + warp),
        clock_(cluster.n_components()) {
    clock_[component_] = 1;
  }

  U Lane() const {
    U lane;
    for (int l = 0; l < kLanes; ++l) lane[l] = static_cast<uint32_t>(l);
    return lane;
  }
  int Warp() const { return warp_; }
  int Rank() const { return rank_; }
  int64_t Tile() const { return tile_; }
  int Direction() const { return direction_; }
  int64_t Model() const { return model_; }

  // Conversions and choice.
  static I ToInt(const U& x) { return __builtin_convertvector(x, I); }
  static I ToInt(const L& x) { return __builtin_convertvector(x, I); }
  static U ToUnsigned(const I& x) { return __builtin_convertvector(x, U); }
  static L ToLong(const U& x) { return __builtin_convertvector(x, L); }
  static L ToLong(const I& x) { return __builtin_convertvector(x, L); }
  static F ToFloat(const I& x) { return __builtin_convertvector(x, F); }
  static F AsFloat(const U& x) { return reinterpret_cast<F>(x); }
  static F AsFloat(const I& x) { return reinterpret_cast<F>(x); }
  static I AsInt(const F& x) { return reinterpret_cast<I>(x); }
  static U AsUnsigned(const F& x) { return reinterpret_cast<U>(x); }
  static B True() { return I{} - 1; }
  static B Bool(const I& x) { return x; }
  static B Bool(const L& x) { return __builtin_convertvector(x, I); }
  template <typename X, typename Y>
  static B And(const X& x, const Y& y) {
    return Bool(x) & Bool(y);
  }
  template <typename X, typename Y>
  static B Or(const X& x, const Y& y) {
    return Bool(x) | Bool(y);
  }
  template <typename X>
  static B Not(const X& x) {
    return ~Bool(x);
  }
  static B AndUniform(const B& x, bool y) { return y ? x : I{}; }
  template <typename C>
  static F Select(const C& c, const F& x, const F& y) {
    return Bool(c) ? x : y;
  }
  template <typename C>
  static I Select(const C& c, const I& x, const I& y) {
    return Bool(c) ? x : y;
  }
  template <typename C>
  static U Select(const C& c, const U& x, const U& y) {
    return Bool(c) ? x : y;
  }
  template <typename C>
  static L Select(const C& c, const L& x, const L& y) {
    return __builtin_convertvector(Bool(c), L) ? x : y;
  }

  // Arithmetic.
  static F Fma(const F& a, const F& b, const F& c) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = std::fma(a[l], b[l], c[l]);
    return r;
  }
  template <typename G>
  static F Map(const F& x, G g) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = g(x[l]);
    return r;
  }
  static F Exp2(const F& x) {
    return Map(x, [](float v) { return std::exp2(v); });
  }
  static F Reciprocal(const F& x) { return 1.0f / x; }
  static F Divide(const F& x, const F& y) { return x / y; }
  static F Abs(const F& x) {
    return Map(x, [](float v) { return std::fabs(v); });
  }
  static F Max(const F& x, const F& y) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = std::fmax(x[l], y[l]);
    return r;
  }
  static F MinOrNan(const F& x, const F& y) { return x > y ? y : x; }
  // eleven bits, as the manual says of tanh.approx
  static F TanhApprox(const F& x) {
    return Map(x, [](float v) {
      int exponent;
      const float fraction = std::frexp(std::tanh(v), &exponent);
      return std::ldexp(std::nearbyint(fraction * 2048) / 2048, exponent);
    });
  }
  // A power of two that brings x to [2^exponent, 2^(exponent + 1)), and its inverse.
  static void ScaleTo(const F& x, int exponent, F* scale, F* back) {
    for (int l = 0; l < kLanes; ++l) {
      const int e = sensorseq::cuda::ScaleExponent(AsUnsigned(x)[l], exponent);
      (*scale)[l] = std::ldexp(1.0f, e);
      (*back)[l] = std::ldexp(1.0f, -e);
    }
  }
  static U PackHalves(const F& low, const F& high) {
    U r;
    for (int l = 0; l < kLanes; ++l) {
      r[l] = HalfOfFloat(low[l]) | (uint32_t{HalfOfFloat(high[l])} << 16);
    }
    return r;
  }
  static F LowHalf(const U& x) {
    F r;
    for (int l = 0; l < kLanes; ++l) r[l] = HalfValue(static_cast<uint16_t>(x[l]));
    return r;
  }
  static F HighHalf(const U& x) { return LowHalf(x >> 16); }

  // Between lanes.
  template <typename T>
  static T ShuffleXor(const T& x, int distance) {
    T r;
    for (int l = 0; l < kLanes; ++l) r[l] = x[l ^ distance];
    return r;
  }
  static I Shuffle(const I& x, const I& from) {
    I r;
    for (int l = 0; l < kLanes; ++l) r[l] = x[from[l] & 31];
    return r;
  }
  static int64_t Largest(const I& x) {
    int32_t most = x[0];
    for (int l = 1; l < kLanes; ++l) most = std::max(most, x[l]);
    return most;
  }
  // D = A B + D, every sum exact, then truncated.
  static void Mma(F d[4], const U a[4], const U& b0, const U& b1) {
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
        d[i][l] = Truncated(sums[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] +
                            static_cast<double>(d[i][l]));
      }
    }
  }
  // Lane l gets word l of the 8 x 8 matrix whose transpose the lanes hold.
  static U TransposeMatrix(const U& x) {
    U r;
    auto Half = [&](int row, int column) {  // of the matrix that x holds by rows
      return (x[row * 4 + column / 2] >> (16 * (column % 2))) & 0xffff;
    };
    for (int l = 0; l < kLanes; ++l) {
      const int row = l / 4, column = 2 * (l % 4);
      r[l] = Half(column, row) | (Half(column + 1, row) << 16);
    }
    return r;
  }

  // A lane's own work, of its index, the last lane first; sums over lanes.
  template <typename G>
  static auto PerLane(const G& g) {
    std::array<decltype(g(int64_t{})), kLanes> r;
    for (int l = kLanes - 1; l >= 0; --l) r[l] = g(l);
    return r;
  }
  template <typename G>
  static void ForLanes(const G& g) {
    for (int l = kLanes - 1; l >= 0; --l) g(l);
  }
  template <typename G>
  static void Once(const G& g) {
    g();
  }
  static double LaneSum(std::array<double, kLanes> x) {
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      for (int l = 0; l < distance; ++l) x[l] += x[l + distance];
    }
    return x[0];
  }
  template <typename T>
  static T LaneSum(const std::array<T, kLanes>& x) {
    std::array<double, kLanes> first, second;
    for (int l = 0; l < kLanes; ++l) first[l] = x[l].first, second[l] = x[l].second;
    return {LaneSum(first), LaneSum(second)};
  }
  static void AtomicAdd(int64_t* base, int64_t at, int64_t x) { base[at] += x; }

  // Global memory.
  template <typename C>
  static F LoadGlobalIf(const C& c, const float* base, const L& at) {
    const B on = Bool(c);
    F r = {};
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) r[l] = base[at[l]];
    }
    return r;
  }
  template <typename C>
  static F LoadFreshIf(const C& c, const float* base, const L& at) {
    return LoadGlobalIf(c, base, at);
  }
  template <typename C>
  static L LoadGlobalLongIf(const C& c, const int64_t* base, const L& at) {
    const B on = Bool(c);
    L r = {};
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) r[l] = base[at[l]];
    }
    return r;
  }
  static F Uniform(const float* base, int64_t at) { return F{} + base[at]; }
  static F UniformBits(const uint32_t* base, int64_t at) { return AsFloat(U{} + base[at]); }
  static void LoadGlobalFloats(const float* base, const L& at, F r[4]) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 16);
      for (int i = 0; i < 4; ++i) r[i][l] = base[at[l] + i];
    }
  }
  static void LoadGlobalPair(const float* base, const L& at, F* x, F* y) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 8);
      (*x)[l] = base[at[l]];
      (*y)[l] = base[at[l] + 1];
    }
  }
  template <typename C>
  static void StoreGlobalIf(const C& c, float* base, const L& at, const F& value) {
    const B on = Bool(c);
    for (int l = 0; l < kLanes; ++l) {
      if (on[l]) base[at[l]] = value[l];
    }
  }
  template <typename C>
  static void StoreGlobalFloatsIf(const C& c, float* base, const L& at, const F value[4]) {
    const B on = Bool(c);
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      Aligned(base + at[l], 16);
      for (int i = 0; i < 4; ++i) base[at[l] + i] = value[i][l];
    }
  }
  static void StoreGlobalFloats(float* base, const L& at, const F value[4]) {
    StoreGlobalFloatsIf(True(), base, at, value);
  }
  static void StoreGlobalPair(float* base, const L& at, const F& x, const F& y) {
    for (int l = 0; l < kLanes; ++l) {
      Aligned(base + at[l], 8);
      // words, not numbers: a NaN's bits may be halves
      std::memcpy(base + at[l], reinterpret_cast<const char*>(&x) + 4 * l, 4);
      std::memcpy(base + at[l] + 1, reinterpret_cast<const char*>(&y) + 4 * l, 4);
    }
  }
  // Four words at a time; `at` counts quads.
  template <typename C>
  static void LoadGlobalQuadIf(const C& c, U word[4], const void* base, const L& at) {
    const B on = Bool(c);
    for (int w = 0; w < 4; ++w) word[w] = U{};
    for (int l = 0; l < kLanes; ++l) {
      for (int w = 0; w < 4 && on[l]; ++w) {
        word[w][l] = static_cast<const uint32_t*>(base)[at[l] * 4 + w];
      }
    }
  }
  static void LoadGlobalQuad(U word[4], const void* base, const L& at) {
    LoadGlobalQuadIf(True(), word, base, at);
  }
  static void StoreGlobalQuad(void* base, const L& at, const U word[4]) {
    for (int l = 0; l < kLanes; ++l) {
      for (int w = 0; w < 4; ++w) static_cast<uint32_t*>(base)[at[l] * 4 + w] = word[w][l];
    }
  }
  static void AtomicMaxBits(uint32_t* base, int64_t at, const F& x) {
    for (int l = 0; l < kLanes; ++l) {
      base[at] = std::max(base[at], AsUnsigned(x)[l]);
    }
  }

  // Shared memory of the CTA.
  F LoadSharedFloat(const U& at) { return AsFloat(ReadWords(at, 1)[0]); }
  void LoadSharedPair(const U& at, F* x, F* y) {
    const auto words = ReadWords(at, 2);
    *x = AsFloat(words[0]);
    *y = AsFloat(words[1]);
  }
  void LoadSharedFloats(const U& at, F r[4]) {
    const auto words = ReadWords(at, 4);
    for (int w = 0; w < 4; ++w) r[w] = AsFloat(words[w]);
  }
  void LoadSharedQuad(const U& at, U r[4]) {
    const auto words = ReadWords(at, 4);
    for (int w = 0; w < 4; ++w) r[w] = words[w];
  }
  template <typename C>
  void StoreSharedQuadIf(const C& c, const U& at, const U word[4]) {
    WriteWords(Bool(c), at, word, 4);
  }
  void StoreSharedQuad(const U& at, const U word[4]) { WriteWords(True(), at, word, 4); }
  template <typename C>
  void StoreSharedPairIf(const C& c, const U& at, const F& x, const F& y) {
    const U word[2] = {AsUnsigned(x), AsUnsigned(y)};
    WriteWords(Bool(c), at, word, 2);
  }

  // ldmatrix.x4 of 512 bytes in a row.
  void LoadMatrices(uint32_t at, U r[4]) {
    cluster_.MaybeYield();
    for (int w = 0; w < 4; ++w) {
      for (int l = 0; l < kLanes; ++l) {
        r[w][l] = Read(at + static_cast<uint32_t>(w * 128 + l * 4), kAnyLane);
      }
    }
  }
  // stmatrix.x1.trans, .x4.trans
  void StoreMatrix(uint32_t at, const U& x) {
    cluster_.MaybeYield();
    const U words = TransposeMatrix(x);
    for (int l = 0; l < kLanes; ++l) {
      Write(at + static_cast<uint32_t>(l * 4), words[l], kAnyLane, false);
    }
  }
  void StoreMatrices(uint32_t at, const U x[4]) {
    for (int i = 0; i < 4; ++i) StoreMatrix(at + static_cast<uint32_t>(i) * 128, x[i]);
  }

  // cp.async: lands when it is waited for, and until then nothing may be read there.
  template <typename C, typename D>
  void CopyAsync(const C& issue, const U& to, const float* base, const L& at, const D& valid,
                 int n_words) {
    const B on = Bool(issue), has = Bool(valid);
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      if (has[l]) Aligned(base + at[l], static_cast<size_t>(n_words) * 4);
      if (to[l] % static_cast<uint32_t>(4 * n_words) != 0) throw Fault("a copy to a crooked place");
      for (int w = 0; w < n_words; ++w) {
        uint32_t value = 0;
        if (has[l]) std::memcpy(&value, base + at[l] + w, 4);
        const uint32_t address = to[l] + static_cast<uint32_t>(4 * w);
        Write(address, 0xffffffffu, l, true);
        copies_.back().push_back({address, value});
      }
    }
  }
  template <typename D>
  void CopyAsyncQuad(const U& to, const float* base, const L& at, const D& valid) {
    CopyAsync(True(), to, base, at, valid, 4);
  }
  void CopyAsyncPair(const U& to, const float* base, const L& at) {
    CopyAsync(True(), to, base, at, True(), 2);
  }
  template <typename C, typename D>
  void CopyAsyncWord(const C& issue, const U& to, const float* base, const L& at, const D& valid) {
    CopyAsync(issue, to, base, at, valid, 1);
  }
  void CommitAsync() { copies_.emplace_back(); }
  template <int kLeft>
  void WaitAsync() {
    cluster_.MaybeYield();
    while (copies_.size() > kLeft + 1) {
      for (const auto& [address, value] : copies_.front()) {
        std::memcpy(&cta_.shared[address], &value, 4);
        cta_.words[address / 4].arriving = false;
      }
      copies_.erase(copies_.begin());
    }
  }

  // Order.
  void SyncWarp() {
    ++epoch_;
    synced_ = clock_[component_]++;
  }
  void SyncCta() {
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
  void SyncCluster() {
    SyncWarp();
    Clock clock = Behind();
    cluster_.Sync(clock);
    Join(clock_, clock);
  }
  void InitBarrier(uint32_t at, int count) {
    if (at % 8 != 0 || at / 8 >= cta_.barriers.size()) throw Fault("a barrier outside its place");
    Barrier& b = cta_.barriers[at / 8];
    if (b.exists) throw Fault("a barrier is made twice");
    b.exists = true;
    b.count = b.pending = count;
  }
  void FenceBarrierInit() {}
  // The first lane alone arrives: it has the other lanes' stores behind it only after a SyncWarp.
  void ArmBarrier(uint32_t at, uint32_t bytes) {
    cluster_.MaybeYield();
    cluster_.Arrive(rank_, at, bytes, Behind());
  }
  void Arrive(uint32_t at) {
    cluster_.MaybeYield();
    cluster_.Arrive(rank_, at, 0, Behind());
  }
  void WaitBarrier(uint32_t at, uint32_t parity) {
    Barrier& b = cluster_.At(rank_, at);
    cluster_.MaybeYield();
    if ((b.phase & 1) == parity) {
      cluster_.Yield([&b, parity] { return (b.phase & 1) != parity; });
    }
    Join(clock_, b.complete);
  }
  void SendWord(const U& at, const U& value, int to, uint32_t barrier) {
    for (int l = 0; l < kLanes; ++l) SendFrom({{at[l], value[l]}}, to, barrier);
  }
  void SendPair(const U& at, const F& x, const F& y, int to, uint32_t barrier) {
    const U first = AsUnsigned(x), second = AsUnsigned(y);
    for (int l = 0; l < kLanes; ++l) {
      if (at[l] % 8 != 0) throw Fault("a message to a crooked place");
      SendFrom({{at[l], first[l]}, {at[l] + 4, second[l]}}, to, barrier);
    }
  }
  bool IsLastOfCtas(int32_t* arrived, int64_t at, int n_ctas, uint32_t) {
    if (warp_ == 0) {
      cta_.flag = ++arrived[at] == n_ctas;
      if (cta_.flag) arrived[at] = 0;
    }
    SyncCta();
    return cta_.flag;
  }

 private:
  static void Aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) throw Fault("a crooked address");
  }
  // What a lane alone may release: the others' stores since the last SyncWarp are not among it.
  Clock Behind() const {
    Clock clock = clock_;
    clock[component_] = synced_;
    return clock;
  }
  void SendFrom(std::vector<std::pair<uint32_t, uint32_t>> words, int to, uint32_t barrier) {
    if (to < 0 || to >= cluster_.n_ctas()) throw Fault("a message to nobody");
    const int component = component_ + cluster_.n_ctas() * cluster_.n_warps();
    cluster_.Send({to, barrier, std::move(words), clock_, component, ++sent_});
    ++clock_[component_];  // what follows is not behind it
  }

  std::vector<U> ReadWords(const U& at, int n) {
    cluster_.MaybeYield();
    std::vector<U> r(static_cast<size_t>(n));
    for (int l = 0; l < kLanes; ++l) {
      if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a read of a crooked place");
      for (int w = 0; w < n; ++w) {
        r[static_cast<size_t>(w)][l] = Read(at[l] + static_cast<uint32_t>(4 * w), l);
      }
    }
    return r;
  }
  void WriteWords(const B& on, const U& at, const U* words, int n) {
    cluster_.MaybeYield();
    for (int l = 0; l < kLanes; ++l) {
      if (!on[l]) continue;
      if (at[l] % static_cast<uint32_t>(4 * n) != 0) throw Fault("a write to a crooked place");
      for (int w = 0; w < n; ++w) {
        Write(at[l] + static_cast<uint32_t>(4 * w), words[w][l], l, false);
      }
    }
  }

  static uint32_t Lanes(int lane) { return lane == kAnyLane ? 0xffffffffu : 1u << lane; }

  uint32_t Read(uint32_t address, int lane) {
    if (address % 4 != 0 || address + 4 > cta_.shared.size()) {
      throw Fault("a read outside shared memory");
    }
    Word& word = cta_.words[address / 4];
    if (word.writer < 0) throw Fault("shared memory is read before it was written");
    if (word.arriving) throw Fault("a copy is read before it was waited for");
    if (word.writer == component_) {
      if (word.epoch == epoch_ && (word.lane != lane || lane == kAnyLane)) {
        throw Fault("a lane reads what another wrote, with no __syncwarp between");
      }
    } else if (word.written_at > clock_[word.writer]) {
      throw Fault("a read races with a write");
    }
    Word::Read& read = word.reads[warp_];
    if (read.epoch != epoch_) read.lanes = 0;
    read.at = clock_[component_];
    read.epoch = epoch_;
    read.lanes |= Lanes(lane);
    uint32_t value;
    std::memcpy(&value, &cta_.shared[address], 4);
    return value;
  }

  void Write(uint32_t address, uint32_t value, int lane, bool arriving) {
    if (address % 4 != 0 || address + 4 > cta_.shared.size()) {
      throw Fault("a write outside shared memory");
    }
    Word& word = cta_.words[address / 4];
    if (word.arriving) throw Fault("a write races with a copy");
    if (word.writer >= 0 && word.writer != component_ && word.written_at > clock_[word.writer]) {
      throw Fault("a write races with a write");
    }
    if (word.writer == component_ && word.epoch == epoch_ && word.lane != lane) {
      throw Fault("two lanes write one place, with no __syncwarp between");
    }
    for (int warp = 0; warp < cluster_.n_warps(); ++warp) {
      const Word::Read& read = word.reads[warp];
      const int reader = rank_ * cluster_.n_warps() + warp;
      if (warp == warp_) {
        if (read.epoch == epoch_ && (read.lanes & ~Lanes(lane)) != 0) {
          throw Fault("a lane writes what another read, with no __syncwarp between");
        }
      } else if (read.at > clock_[reader]) {
        throw Fault("a write overwrites what another warp may still read");
      }
    }
    word.writer = component_;
    word.written_at = clock_[component_];
    word.epoch = epoch_;
    word.lane = static_cast<int8_t>(lane);
    word.arriving = arriving;
    if (!arriving) std::memcpy(&cta_.shared[address], &value, 4);
  }

  Cluster& cluster_;
  Cta& cta_;
  int rank_, warp_;
  int64_t tile_;
  int direction_;
  int64_t model_;
  int component_;
  Clock clock_;
  uint32_t sent_ = 0, epoch_ = 1, synced_ = 0;
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> copies_{1};
};

}  // namespace emulator
