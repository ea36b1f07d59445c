// The CTAs of one cluster on the host: their shared memory, barriers and messages, and a scheduler
// that runs warps as fibers that yield at random.
//
// Vector clocks record the order of operations. A clock has two components for each warp: one for
// the warp, and one for its messages. For an operation of a component, a clock records up to three
// facts:
//
//   seen    it happened before, by release and acquire, so its writes to shared memory are visible
//   done    it has been performed, because received data depend on it; only for reads and messages
//           (a warp sends results of its reads, but nothing depends on a plain store)
//   global  like seen, but for global memory, which a wait at an mbarrier does not order
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace emulator {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Times = std::vector<uint32_t>;
inline void Join(Times& into, const Times& from) {
  for (size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], from[i]);
}
struct Clock {
  Times seen, done, global;
  explicit Clock(int n = 0) : seen(static_cast<size_t>(n)), done(seen), global(seen) {}
};
inline void Join(Clock& into, const Clock& from) {
  Join(into.seen, from.seen);
  Join(into.done, from.done);
  Join(into.global, from.global);
}

constexpr int kNoLane = -1;    // no write yet
constexpr int kAllLanes = 32;  // written or read by all lanes together

struct Word {
  int32_t writer = -1;  // component; -1: never written
  uint32_t written_at = 0;
  uint32_t epoch = 0;  // number of __syncwarps of the writing warp so far
  int8_t lane = kNoLane;
  bool arriving = false;  // written by a copy that no warp has waited for
  struct Read {
    uint32_t at = 0, epoch = 0;
    uint32_t lanes = 0;
  };
  std::vector<Read> reads;  // one for each warp of the CTA
};

struct Barrier {
  bool exists = false, is_fenced = false;
  int32_t maker = 0;  // component
  uint32_t made_at = 0;
  int64_t count = 0, pending = 0, bytes = 0;
  int64_t phase = 0;
  Clock clock, complete;  // clocks of this phase and of the completed phases
};
constexpr int kBarriers = 16;  // all of them in the first 128 bytes

struct Cta {
  std::vector<uint8_t> shared;
  std::vector<Word> words;
  std::vector<Barrier> barriers;  // the index is address / 8
  int n_running = 0;
  // bar.sync
  int n_waiting = 0;
  uint64_t generation = 0;
  Clock clock, released;
  // `received`: times of the messages that have arrived; `left`: joined clocks of the warps that
  // have left
  Times received;
  Clock left;

  bool IsBarrier(uint32_t address) const {
    return address / 8 < kBarriers && barriers[address / 8].exists;
  }
};

struct Message {
  int cta;
  uint32_t barrier;
  uint32_t n_words, address, values[2];
  std::shared_ptr<const Clock> clock;
  int component;
  uint32_t at;
};

enum class Order {
  kRandom,
  kMessagesFirst,  // messages arrive as soon as they are sent
  kMessagesLast,   // messages arrive when no warp can continue without them
};

struct Options {
  uint32_t seed = 1;
  Order order = Order::kRandom;
  // a CTA, and a warp of each CTA, that run only if nothing else can run; -1: none
  int starved_cta = -1, starved_warp = -1;
};

struct GlobalWrite {
  int32_t writer = -1;
  uint32_t written_at = 0, epoch = 0;
  int8_t lane = kNoLane;
};

class Cluster {
 public:
  Cluster(int n_ctas, int n_warps, uint32_t shared_bytes, const Options& options)
      : n_ctas_(n_ctas),
        n_warps_(n_warps),
        n_components_(2 * n_ctas * n_warps),
        random_(options.seed),
        options_(options) {
    ctas_.resize(static_cast<size_t>(n_ctas));
    for (Cta& cta : ctas_) {
      cta.shared.assign(shared_bytes, 0xff);
      cta.words.resize((shared_bytes + 3) / 4);
      for (Word& word : cta.words) word.reads.resize(static_cast<size_t>(n_warps));
      cta.barriers.resize(kBarriers);
      for (Barrier& b : cta.barriers) b.clock = b.complete = Clock(n_components_);
      cta.n_running = n_warps;
      cta.clock = cta.released = cta.left = Clock(n_components_);
      cta.received = cta.clock.seen;
    }
    cluster_clock_ = cluster_released_ = Clock(n_components_);
  }

  // Runs body(rank, warp) as a fiber for every warp.
  void Run(const std::function<void(int rank, int warp)>& body) {
    for (int rank = 0; rank < n_ctas_; ++rank) {
      for (int warp = 0; warp < n_warps_; ++warp) Start(body, rank, warp);
    }
    while (Schedule()) {
    }
    current_ = nullptr;
    if (!fault_.empty()) throw Fault(fault_);
    while (!messages_.empty()) Deliver(0);
  }

  Cta& cta(int rank) { return ctas_[static_cast<size_t>(rank)]; }
  int n_components() const { return n_components_; }
  int n_ctas() const { return n_ctas_; }
  int n_warps() const { return n_warps_; }
  // The clock of a counter in global memory: the joined clocks of all warps that have added to it.
  Clock& Counter(const void* counter) {
    return counters_.emplace(counter, Clock(n_components_)).first->second;
  }
  std::unordered_map<const void*, GlobalWrite>& global() { return global_; }

  // Whether the write of `writer` at time `at` happened before `clock` and can have no further
  // effect; see the comment at the top.
  bool IsBehind(int32_t writer, uint32_t at, const Clock& clock) const {
    const auto i = static_cast<size_t>(writer);
    return at <= (writer < n_components_ / 2 ? clock.seen[i] : clock.done[i]);
  }

  // Yields, and continues once `ready`, if given, returns true.
  void Yield(std::function<bool()> ready = {}) {
    if (current_ == nullptr) return;
    Fiber* self = current_;
    self->ready = std::move(ready);
    swapcontext(&self->context, &main_);
    if (!fault_.empty()) throw Fault(fault_);
  }
  void MaybeYield() {
    if (random_() % 16 == 0) Yield();
  }
  void Send(const Message& message) {
    messages_.push_back(message);
    if (options_.order == Order::kMessagesFirst) Deliver(messages_.size() - 1);
  }

  static void Arrive(Barrier& b, int64_t bytes, const Clock& clock) {
    b.bytes += bytes;
    InRange(b);
    if (--b.pending < 0) throw Fault("more arrivals at a barrier than it counts");
    Join(b.clock, clock);
    Complete(b);
  }
  Barrier& At(int rank, uint32_t address, const Clock& clock) {
    if (address % 8 != 0 || address / 8 >= kBarriers) throw Fault("a barrier outside its place");
    Barrier& b = cta(rank).barriers[address / 8];
    if (!b.exists || b.made_at > clock.seen[static_cast<size_t>(b.maker)]) {
      throw Fault("a barrier is used before it exists");
    }
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
    int rank, warp;
    bool done = false;
  };

  void Start(const std::function<void(int rank, int warp)>& body, int rank, int warp) {
    auto fiber = std::make_unique<Fiber>();
    fiber->cluster = this;
    fiber->body = [&body, rank, warp] { body(rank, warp); };
    fiber->rank = rank;
    fiber->warp = warp;
    fiber->stack.reset(new char[kStack]);
    Prepare(*fiber);
    fibers_.push_back(std::move(fiber));
  }
  // in a separate function without other variables, because getcontext may return twice
  void Prepare(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &main_;
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Enter), 2,
                static_cast<unsigned>(reinterpret_cast<uintptr_t>(&fiber) >> 32),
                static_cast<unsigned>(reinterpret_cast<uintptr_t>(&fiber)));
  }

  static void Enter(unsigned high, unsigned low) {
    auto* fiber = reinterpret_cast<Fiber*>((uintptr_t{high} << 32) | low);
    Cluster& cluster = *fiber->cluster;
    try {
      fiber->body();
      cluster.Leave(cluster.cta(fiber->rank));
    } catch (const std::exception& error) {
      if (cluster.fault_.empty()) cluster.fault_ = error.what();
    }
    fiber->done = true;
  }
  void Leave(Cta& cta) {
    if (--cta.n_running > 0) return;
    for (size_t i = 0; i < cta.received.size(); ++i) {
      if (cta.received[i] > cta.left.seen[i]) {
        throw Fault("a CTA leaves with a message that nobody has waited for");
      }
    }
  }

  bool IsStarved(const Fiber& fiber) const {
    return fiber.rank == options_.starved_cta || fiber.warp == options_.starved_warp;
  }

  // Delivers messages or runs one warp; returns false when nothing is left to do.
  bool Schedule() {
    able_.clear();
    bool any = false, any_fed = false;
    for (const auto& fiber : fibers_) {
      if (fiber->done) continue;
      any = true;
      if (fault_.empty() && fiber->ready && !fiber->ready()) continue;
      able_.push_back(fiber.get());
      any_fed |= !IsStarved(*fiber);
    }
    if (!any) return false;
    const bool last = options_.order == Order::kMessagesLast;
    const bool delivers = last ? able_.empty() : !any_fed || random_() % 4 == 0;
    if (!messages_.empty() && fault_.empty() && delivers) {
      try {
        // usually one message, sometimes a burst
        for (uint32_t n = random_() % 8 == 0 ? 64 : 1; n > 0 && !messages_.empty(); --n) {
          Deliver(random_() % messages_.size());
        }
      } catch (const std::exception& error) {
        fault_ = error.what();
      }
      return true;
    }
    if (able_.empty()) {
      fault_ = "deadlock";
      return true;
    }
    if (any_fed) {
      able_.erase(std::remove_if(able_.begin(), able_.end(),
                                 [this](const Fiber* fiber) { return IsStarved(*fiber); }),
                  able_.end());
    }
    current_ = able_[random_() % able_.size()];
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
    Barrier& b = At(message.cta, message.barrier, *message.clock);
    if (!b.is_fenced) throw Fault("a barrier is used by a message with no fence after its making");
    for (uint32_t w = 0; w < message.n_words; ++w) {
      const uint32_t address = message.address + 4 * w;
      if (address % 4 != 0 || address + 4 > to.shared.size()) {
        throw Fault("a message outside shared memory");
      }
      if (to.IsBarrier(address)) throw Fault("a message into a barrier");
      Word& word = to.words[address / 4];
      if (word.arriving) throw Fault("a message races with a copy");
      if (word.writer >= 0 && !IsBehind(word.writer, word.written_at, *message.clock)) {
        throw Fault("a message races with a write");
      }
      for (int warp = 0; warp < n_warps_; ++warp) {
        const auto reader = static_cast<size_t>(message.cta * n_warps_ + warp);
        if (word.reads[static_cast<size_t>(warp)].at > message.clock->done[reader]) {
          throw Fault("a message overwrites data that a warp may still read");
        }
      }
      word.writer = message.component;
      word.written_at = message.at;
      word.lane = kAllLanes;
      std::memcpy(&to.shared[address], &message.values[w], 4);
    }
    const auto component = static_cast<size_t>(message.component);
    to.received[component] = std::max(to.received[component], message.at);
    b.bytes -= 4 * int64_t{message.n_words};
    InRange(b);
    // a message releases its own words and its dependencies, not its sender's other writes
    Join(b.clock.done, message.clock->done);
    b.clock.seen[component] = std::max(b.clock.seen[component], message.at);
    b.clock.done[component] = std::max(b.clock.done[component], message.at);
    Complete(b);
  }

  static void InRange(const Barrier& b) {
    if (b.bytes >= 1 << 20 || b.bytes <= -(1 << 20))
      throw Fault("more bytes than a barrier counts");
  }
  static void Complete(Barrier& b) {
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
  std::vector<Fiber*> able_;
  std::vector<Message> messages_;
  Fiber* current_ = nullptr;
  ucontext_t main_;
  std::string fault_;
  int cluster_waiting_ = 0;
  uint64_t cluster_generation_ = 0;
  Clock cluster_clock_, cluster_released_;
  std::map<const void*, Clock> counters_;
  std::unordered_map<const void*, GlobalWrite> global_;
};

}  // namespace emulator
