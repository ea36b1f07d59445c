// Checks the protocols by which the CTAs of a cluster exchange h and partial sums (Run of
// forward.cuh and of backward.cuh), on small clusters, in every order in which warps may run
// and messages may arrive. The emulator runs the kernels themselves, but only in some of these
// orders.
//
// A warp is represented by a list of the actions that other warps can notice, in the order of Run.
// If Run changes, change the list, too. Products, cells and the warp's own rings are omitted. The
// data that a warp writes are the number of the step that will read them, so that a read detects
// whether it happened too early or too late. All 8 rows of a tile take part in every step until the
// longest row ends, and all CTAs of a cluster have the same tile. All CTAs therefore have the same
// n_steps, and the lengths of the rows do not matter here.
//
// Memory is sequentially consistent here, so only the emulator's clocks and the hardware can show
// that fences and proxies suffice. The words that a warp sends to one CTA in one step arrive
// together. This simplification hides no fault if no byte arrives before its barrier is armed,
// which is checked. A barrier then completes with the last byte and not before, so a read that
// would find even one wrong byte on hardware fails here, too.
//
// Each planted fault must be found; otherwise the search would prove nothing.
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/layout.cuh"
#include "harness.h"

using namespace sensorseq::cuda;
using harness::Check;

namespace {

// A kernel variant with the members that layout.cuh requires.
template <int kCtas_, int kWarps_>
struct Cluster {
  static constexpr int kPlanes = 1, kCtas = kCtas_, kWarps = kWarps_, kGroups = kWarps;
  static constexpr int kUnits = kWarps * kGroupUnits, kHidden = kCtas * kUnits;
};
constexpr int kStateMessage = kLanes * 4;  // bytes of a group's h: one word per lane

enum class Pass { kForward, kBackward };

// Possible mistakes in the kernels.
enum class Plant {
  kNone,
  kParityOfBuffer,
  kParityOneStepLate,
  kLastSent,
  kOneBuffer,
  kOneGradBuffer,
  kCountTooLow,
  kCountTooHigh,
  kOwnBytesMiscounted,
  kExpectForgotten,
  kExpectBeforeWait,
  kExpectAfterSend,
  kEveryWarpExpects,
  kWaitForgotten,
  kOneWarpWaits,
  kSendBeforeWait,
  kSendBeforeRead,
  kArriveBeforeStore,
  kNoSyncBeforeSend,
  kNoLastWait,
  kSilentAfterEnd,
  kFewerSteps,
  kNoClusterSync,
};
const char* const kPlants[] = {
    "none",
    "the parity of the buffer",
    "the parity of the next step",
    "the last h is sent",
    "one buffer for arriving data",
    "one buffer of gradients",
    "a count too low by one",
    "a count too high by one",
    "a CTA's own bytes counted forward, or not backward",
    "not armed in one step",
    "armed before the wait",
    "armed after sending",
    "armed by every warp",
    "no wait in one step",
    "only one warp waits",
    "sent before the wait",
    "sent before reading",
    "arrives before it stores",
    "no SyncCta before sending",
    "no wait after the last step",
    "a CTA whose rows have ended sends no more",
    "a CTA has fewer steps",
    "no SyncCluster at the start",
};

enum Finding {
  kDeadlock,
  kWrongPhase,
  kWrongStep,
  kOverArrival,
  kNoBarrier,
  kGone,
  kUnarmed,
  kTooMany,
  kFindings
};
const char* const kTexts[kFindings] = {
    "nobody can continue",
    "a wait passes in a phase that is not its step's",
    "a read of another step's data",
    "more arrivals than a barrier counts",
    "a barrier used before it exists",
    "a message to a CTA that has left",
    "bytes for a barrier that is not armed",
    "more states than expected",
};

enum class Act : uint8_t {
  kInitBarrier,
  kSyncCluster,
  kSyncCta,
  kFillState,  // h_0, which every CTA loads for itself
  kWait,       // waits for the data that step `step` reads
  kExpect,     // arms the barrier for the next step that uses it
  kReadState,  // the product
  kSendState,  // sends to its own CTA immediately, to others by message
  kArrive,     // arrives for the data of its own CTA
  kReadPartials,
  kStoreGrads,
  kSendPartials,  // reads the gradients of the CTA's gates for the sums
};
const char* const kActs[] = {"init",   "sync cluster",  "sync CTA",        "fill state",
                             "wait",   "arm",           "read h",          "send h",
                             "arrive", "read partials", "store gradients", "send partials"};
struct Op {
  Act act;
  int step;         // the step that reads the data, now or later
  int barrier = 0;  // number of the barrier, or of the buffer of gradients
  int value = 0;    // count, bytes or parity
};
using Program = std::vector<Op>;

int BarrierOf(int step) { return step & 1; }

// The lists of actions of all warps.
template <typename V>
struct Programs {
  Pass pass;
  int n_steps;
  Plant plant;

  Program Of(int rank, int warp) const {
    return pass == Pass::kForward ? Forward(rank, warp) : Backward(rank, warp);
  }

 private:
  int StepsOf(int rank) const {
    return plant == Plant::kFewerSteps && rank == 0 ? n_steps - 1 : n_steps;
  }
  bool IsSilent(int rank, int step) const {
    return plant == Plant::kSilentAfterEnd && rank == 0 && step >= 2;
  }
  int ParityOf(int step) const {
    if (plant == Plant::kParityOfBuffer) return step & 1;
    return static_cast<int>(Parity(plant == Plant::kParityOneStepLate ? step + 1 : step));
  }
  Op Expect(int step) const {
    const bool is_forward = pass == Pass::kForward;
    auto bytes = static_cast<int>(is_forward ? StateArrivals<V>() : PartialArrivals<V>());
    if (plant == Plant::kOwnBytesMiscounted) {
      bytes += V::kWarps * (is_forward ? kStateMessage : -static_cast<int>(kPartialBytes));
    }
    return {Act::kExpect, step, BarrierOf(step), bytes};
  }

  void Start(int warp, int count, Program* p) const {
    if (plant == Plant::kCountTooLow) --count;
    if (plant == Plant::kCountTooHigh) ++count;
    if (warp == 0) {
      for (int b = 0; b < 2; ++b) p->push_back({Act::kInitBarrier, 0, b, count});
      for (int b = 0; b < 2; ++b) p->push_back(Expect(b));
    }
    p->push_back({plant == Plant::kNoClusterSync ? Act::kSyncCta : Act::kSyncCluster, 0});
  }
  void Wait(int warp, int step, Program* p) const {
    const bool expects = (warp == 0 || plant == Plant::kEveryWarpExpects) &&
                         !(plant == Plant::kExpectForgotten && step == 1);
    const bool waits = !(plant == Plant::kWaitForgotten && step == 2) &&
                       !(plant == Plant::kOneWarpWaits && warp != 0);
    if (expects && plant == Plant::kExpectBeforeWait) p->push_back(Expect(step));
    if (waits) p->push_back({Act::kWait, step, BarrierOf(step), ParityOf(step)});
    if (expects && plant != Plant::kExpectBeforeWait && plant != Plant::kExpectAfterSend) {
      p->push_back(Expect(step));
    }
  }

  // forward.cuh, Run
  Program Forward(int rank, int warp) const {
    const int n = StepsOf(rank);
    Program p;
    p.push_back({Act::kFillState, 0});
    Start(warp, 1 + V::kWarps, &p);
    for (int step = 0; step < n; ++step) {
      const bool sends = (step + 1 < n || plant == Plant::kLastSent) && !IsSilent(rank, step);
      auto Send = [&] {
        if (!sends) return;
        const Op arrive{Act::kArrive, step + 1, BarrierOf(step + 1)};
        if (plant == Plant::kArriveBeforeStore) p.push_back(arrive);
        p.push_back({Act::kSendState, step + 1, BarrierOf(step + 1)});
        if (plant != Plant::kArriveBeforeStore) p.push_back(arrive);
      };
      if (plant == Plant::kSendBeforeWait) Send();
      if (step > 0) Wait(warp, step, &p);
      if (plant == Plant::kSendBeforeRead) Send();
      p.push_back({Act::kReadState, step});
      if (plant != Plant::kSendBeforeWait && plant != Plant::kSendBeforeRead) Send();
      if (plant == Plant::kExpectAfterSend && warp == 0 && step > 0) p.push_back(Expect(step));
    }
    return p;
  }

  // backward.cuh, Run: steps are counted in the order of execution
  Program Backward(int rank, int warp) const {
    const int n = StepsOf(rank);
    Program p;
    Start(warp, 1, &p);
    for (int step = 0; step < n; ++step) {
      const int grad_buffer = plant == Plant::kOneGradBuffer ? 0 : step & 1;
      auto Send = [&] {
        p.push_back({Act::kStoreGrads, step, grad_buffer});
        if (plant != Plant::kNoSyncBeforeSend) p.push_back({Act::kSyncCta, step});
        if (!IsSilent(rank, step)) p.push_back({Act::kSendPartials, step + 1, grad_buffer});
      };
      if (plant == Plant::kSendBeforeWait) Send();
      if (step > 0) Wait(warp, step, &p);
      if (plant == Plant::kSendBeforeRead) Send();
      if (step > 0) p.push_back({Act::kReadPartials, step});
      if (plant != Plant::kSendBeforeWait && plant != Plant::kSendBeforeRead) Send();
      if (plant == Plant::kExpectAfterSend && warp == 0 && step > 0) p.push_back(Expect(step));
    }
    if (n > 0 && plant != Plant::kNoLastWait) {  // grad_h_0 needs this wait
      Wait(warp, n, &p);
      p.push_back({Act::kReadPartials, n});
    }
    return p;
  }
};

// An mbarrier.
struct Barrier {
  int16_t bytes;   // tx-count
  int8_t pending;  // arrivals to come; kNever: not initialized
  uint8_t phase;   // completed so far
};
constexpr int8_t kNever = -128;
constexpr uint8_t kNothing = 0xff;

template <typename V>
class Search {
 public:
  Search(Pass pass, int n_steps, Plant plant) : is_forward_(pass == Pass::kForward), plant_(plant) {
    const Programs<V> programs{pass, n_steps, plant};
    for (int i = 0; i < kAll; ++i) {
      programs_.push_back(programs.Of(i / V::kWarps, i % V::kWarps));
      for (const Op& op : programs_.back()) {
        if (op.act == Act::kInitBarrier) count_ = op.value;
      }
    }
  }

  // Visits all reachable states except those after a fault. If no fault is expected, stops at the
  // first fault.
  void Run(size_t most) {
    State start;
    std::memset(&start, 0, sizeof start);
    for (auto& of_cta : start.barriers) {
      for (Barrier& b : of_cta) b.pending = kNever;
    }
    std::memset(start.inbox, kNothing, sizeof start.inbox);
    std::memset(start.grads, kNothing, sizeof start.grads);
    slots_.assign(1024, 0);
    Add(start);
    for (size_t i = 0; i < states_.size(); ++i) {
      const State now = states_[i];
      now_ = &now;
      bool goes_on = false, is_done = true;
      for (int w = 0; w < kAll; ++w) {
        is_done = is_done && IsDone(now, w);
        goes_on = RunWarp(now, w) || goes_on;
      }
      goes_on = Deliver(now) || goes_on;
      if (!goes_on && !is_done) Found(kDeadlock);
      if (states_.size() > most) Found(kTooMany);
      if (has_found_ && (plant_ == Plant::kNone || !found[kTooMany].empty())) return;
    }
  }

  size_t n_states() const { return states_.size(); }
  // The first finding of each kind, after as few moves as possible; empty if there is none.
  std::string found[kFindings];

 private:
  static constexpr int kAll = V::kCtas * V::kWarps;  // number of warps, and of groups of the layer
  static constexpr int kUsed =
      V::kCtas * 2 * int{sizeof(Barrier)} + kAll + 3 * V::kCtas * kAll + 2 * kAll;
  struct alignas(8) State {
    Barrier barriers[V::kCtas][2];
    uint8_t at[kAll];  // position of each warp in its program
    // Each entry is the number of the step that reads the data. In the forward pass, the indices of
    // an inbox are the buffer and the group whose h is received. In the backward pass, they are the
    // buffer, the sending rank and the group whose partial sum is received.
    uint8_t inbox[V::kCtas][2][kAll];
    uint8_t grads[2][kAll];
    uint8_t under_way[V::kCtas][kAll];  // steps of the messages in transit to each entry, as bits
    uint8_t unused[8 - kUsed % 8];
  };
  static_assert(std::has_unique_object_representations_v<State>, "states are compared as bytes");

  void Found(Finding finding) {
    if (!found[finding].empty()) return;
    has_found_ = true;
    found[finding] = kTexts[finding];
    for (int w = 0; w < kAll; ++w) {
      found[finding] +=
          "; warp " + std::to_string(w % V::kWarps) + " of CTA " + std::to_string(w / V::kWarps);
      if (IsDone(*now_, w)) {
        found[finding] += " has ended";
      } else {
        const Op& op = Next(*now_, w);
        found[finding] += std::string(" before '") + kActs[static_cast<int>(op.act)] +
                          "' for step " + std::to_string(op.step);
      }
    }
  }

  static uint64_t Hash(const State& s) {
    uint64_t words[sizeof(State) / 8], hash = 0;
    std::memcpy(words, &s, sizeof s);
    for (uint64_t word : words) {
      hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    }
    return hash;
  }
  void Add(const State& s) {
    if (2 * states_.size() >= slots_.size()) {
      slots_.assign(4 * slots_.size(), 0);
      for (size_t i = 0; i < states_.size(); ++i) *Slot(states_[i]) = static_cast<uint32_t>(i + 1);
    }
    uint32_t* slot = Slot(s);
    if (*slot != 0) return;
    states_.push_back(s);
    *slot = static_cast<uint32_t>(states_.size());
  }
  // The slot of a state in the table. A slot contains the state's number, counted from 1, or 0 if
  // the slot is free.
  uint32_t* Slot(const State& s) {
    for (uint64_t at = Hash(s);; ++at) {
      uint32_t* slot = &slots_[at & (slots_.size() - 1)];
      if (*slot == 0 || std::memcmp(&states_[*slot - 1], &s, sizeof s) == 0) return slot;
    }
  }

  bool IsDone(const State& s, int w) const {
    return s.at[w] == programs_[static_cast<size_t>(w)].size();
  }
  const Op& Next(const State& s, int w) const { return programs_[static_cast<size_t>(w)][s.at[w]]; }
  bool IsAt(const State& s, int w, Act act) const { return !IsDone(s, w) && Next(s, w).act == act; }
  // Returns whether warps [first, first + n) have all reached `act`; if so, they pass it together.
  bool PassTogether(const State& s, int first, int n, Act act) {
    State after = s;
    for (int w = first; w < first + n; ++w) {
      if (!IsAt(s, w, act)) return false;
      ++after.at[w];
    }
    Add(after);
    return true;
  }

  // Counts arrivals at an mbarrier, and bytes that it now expects (+) or that have arrived (-).
  // Returns false on a fault.
  bool Change(Barrier* b, int arrivals, int bytes) {
    if (b->pending == kNever) return Found(kNoBarrier), false;
    b->pending = static_cast<int8_t>(b->pending - arrivals);
    b->bytes = static_cast<int16_t>(b->bytes + bytes);
    if (b->pending < 0) return Found(kOverArrival), false;
    if (b->bytes < 0) Found(kUnarmed);  // hardware allows this
    if (b->pending == 0 && b->bytes == 0) {
      ++b->phase;
      b->pending = static_cast<int8_t>(count_);
    }
    return true;
  }

  int BufferOf(int step) const { return plant_ == Plant::kOneBuffer ? 0 : step & 1; }

  // Returns whether the warp can continue, even if its next action is a fault.
  bool RunWarp(const State& now, int w) {
    if (IsDone(now, w)) return false;
    const int cta = w / V::kWarps, warp = w % V::kWarps;
    const Op op = Next(now, w);
    State s = now;
    ++s.at[w];
    Barrier* barrier = &s.barriers[cta][op.barrier];
    const uint8_t step = static_cast<uint8_t>(op.step);
    switch (op.act) {
      case Act::kSyncCluster:
        return w == 0 && PassTogether(now, 0, kAll, op.act);
      case Act::kSyncCta:
        return warp == 0 && PassTogether(now, w, V::kWarps, op.act);
      case Act::kInitBarrier:
        *barrier = {0, static_cast<int8_t>(op.value), 0};
        break;
      case Act::kFillState:  // the CTA's warps divide the groups among themselves
        for (int g = warp; g < kAll; g += V::kWarps) s.inbox[cta][0][g] = 0;
        break;
      case Act::kWait:
        if (barrier->pending == kNever) return Found(kNoBarrier), true;
        if ((barrier->phase & 1) == op.value) return false;
        // a barrier has one phase for every second step, beginning with its first step
        if (barrier->phase != (op.step + 1) / 2) return Found(kWrongPhase), true;
        break;
      case Act::kExpect:
        if (!Change(barrier, 0, op.value) || !Change(barrier, 1, 0)) return true;
        break;
      case Act::kArrive:
        if (!Change(barrier, 1, 0)) return true;
        break;
      case Act::kReadState:
        for (int g = 0; g < kAll; ++g) {
          if (s.inbox[cta][BufferOf(step)][g] != step) return Found(kWrongStep), true;
        }
        break;
      case Act::kSendState:
        s.inbox[cta][BufferOf(step)][w] = step;
        for (int to = 0; to < V::kCtas; ++to) {
          if (to != cta) s.under_way[to][w] |= static_cast<uint8_t>(1u << step);
        }
        break;
      case Act::kReadPartials:
        for (int from = 0; from < V::kCtas; ++from) {
          const uint8_t partial = s.inbox[cta][BufferOf(step)][from * V::kWarps + warp];
          if (partial != step) return Found(kWrongStep), true;
        }
        break;
      case Act::kStoreGrads:
        s.grads[op.barrier][w] = step;
        break;
      case Act::kSendPartials:
        for (int other = 0; other < V::kWarps; ++other) {
          const int grad = s.grads[op.barrier][cta * V::kWarps + other];
          if (grad != step - 1) return Found(kWrongStep), true;
        }
        // sends to as many groups as there are CTAs, including groups of its own CTA
        for (int g = warp * V::kCtas; g < (warp + 1) * V::kCtas; ++g) {
          const int owner = g / V::kGroups, place = cta * V::kWarps + g % V::kGroups;
          s.under_way[owner][place] |= static_cast<uint8_t>(1u << step);
        }
        break;
    }
    Add(s);
    return true;
  }

  // Adds, for each message in transit, the state after its arrival. Returns whether any message is
  // in transit.
  bool Deliver(const State& now) {
    bool any = false;
    for (int to = 0; to < V::kCtas; ++to) {
      bool has_left = true;
      for (int w = to * V::kWarps; w < (to + 1) * V::kWarps; ++w) {
        has_left = has_left && IsDone(now, w);
      }
      for (int place = 0; place < kAll; ++place) {
        for (int step = 0; now.under_way[to][place] >> step != 0; ++step) {
          if ((now.under_way[to][place] >> step & 1) == 0) continue;
          any = true;
          if (has_left) {
            Found(kGone);
            continue;
          }
          State s = now;
          s.under_way[to][place] ^= static_cast<uint8_t>(1u << step);
          s.inbox[to][BufferOf(step)][place] = static_cast<uint8_t>(step);
          const int bytes = is_forward_ ? kStateMessage : static_cast<int>(kPartialBytes);
          if (Change(&s.barriers[to][BarrierOf(step)], 0, -bytes)) Add(s);
        }
      }
    }
    return any;
  }

  const bool is_forward_;
  const Plant plant_;
  std::vector<Program> programs_;
  int count_ = 0;
  const State* now_ = nullptr;
  bool has_found_ = false;
  std::vector<State> states_;
  std::vector<uint32_t> slots_;  // open addressing; the size is a power of two
};

size_t g_states;

template <int kCtas, int kWarps>
Search<Cluster<kCtas, kWarps>> Searched(Pass pass, int n_steps, Plant plant, std::string* name) {
  *name = std::string(pass == Pass::kForward ? "forward" : "backward") + ", " +
          std::to_string(kCtas) + " CTAs of " + std::to_string(kWarps) + " warps, " +
          std::to_string(n_steps) + " steps";
  Search<Cluster<kCtas, kWarps>> search(pass, n_steps, plant);
  search.Run(6000000);
  g_states += search.n_states();
  return search;
}

// From three steps on, each further step adds as many new states as the previous step, because the
// cluster does the same in every step. More steps would show nothing new.
template <int kCtas, int kWarps>
void Holds(Pass pass, const std::vector<int>& steps) {
  for (int n_steps : steps) {
    std::string name;
    const auto search = Searched<kCtas, kWarps>(pass, n_steps, Plant::kNone, &name);
    std::printf("%s: %zu states\n", name.c_str(), search.n_states());
    for (const std::string& found : search.found) Check(found.empty(), name + ": " + found);
  }
}

int g_findings;

template <int kCtas = 2, int kWarps = 2>
void Finds(Pass pass, Plant plant, Finding finding, int n_steps = 4) {
  std::string name;
  const auto search = Searched<kCtas, kWarps>(pass, n_steps, plant, &name);
  ++g_findings;
  name += std::string(", ") + kPlants[static_cast<int>(plant)];
  std::string others;
  for (const std::string& found : search.found) others += "\n  " + found;
  Check(!search.found[finding].empty(),
        name + ": not found as '" + kTexts[finding] + "', but as" + others);
  Check(search.found[kTooMany].empty(), name + ": " + kTexts[kTooMany]);
}

void FindsPlants() {
  for (Pass pass : {Pass::kForward, Pass::kBackward}) {
    Finds(pass, Plant::kParityOfBuffer, kWrongPhase);
    Finds(pass, Plant::kParityOneStepLate, kWrongPhase);
    Finds(pass, Plant::kOneBuffer, kWrongStep);
    Finds(pass, Plant::kCountTooHigh, kDeadlock);
    Finds(pass, Plant::kOwnBytesMiscounted, pass == Pass::kForward ? kDeadlock : kUnarmed, 3);
    Finds(pass, Plant::kExpectForgotten, kDeadlock);
    Finds(pass, Plant::kExpectBeforeWait, kOverArrival);
    Finds(pass, Plant::kExpectAfterSend, kUnarmed);
    Finds(pass, Plant::kEveryWarpExpects, kOverArrival);
    Finds(pass, Plant::kWaitForgotten, kWrongStep);
    Finds(pass, Plant::kOneWarpWaits, kWrongStep);
    Finds<2, 1>(pass, Plant::kSendBeforeWait, kWrongStep);
    Finds(pass, Plant::kSendBeforeRead, kWrongStep);
    Finds(pass, Plant::kSilentAfterEnd, kDeadlock);
    Finds(pass, Plant::kFewerSteps, kGone);
    Finds(pass, Plant::kFewerSteps, kDeadlock);
    Finds(pass, Plant::kNoClusterSync, kNoBarrier);
  }
  // in the backward pass, a barrier counts one arrival, so its count cannot be too low
  Finds(Pass::kForward, Plant::kCountTooLow, kWrongStep);
  Finds(Pass::kForward, Plant::kLastSent, kGone);
  Finds(Pass::kForward, Plant::kArriveBeforeStore, kWrongStep);
  Finds(Pass::kBackward, Plant::kOwnBytesMiscounted, kWrongStep, 3);
  Finds(Pass::kBackward, Plant::kOneGradBuffer, kWrongStep);
  Finds(Pass::kBackward, Plant::kNoSyncBeforeSend, kWrongStep);
  Finds(Pass::kBackward, Plant::kNoLastWait, kGone);
  std::printf("%d findings of planted faults\n", g_findings);
}

// Checks the model's assumptions about the kernels' sizes.
template <int kPlanes, int kHidden>
void LayoutIsAsAssumed() {
  using F = ForwardVariant<kPlanes, kHidden>;
  using B = BackwardVariant<kPlanes, kHidden>;
  static_assert(F::kCtas > 1 && F::kCtas * F::kWarps * kGroupUnits == kHidden, "a group per warp");
  static_assert(B::kCtas > 1 && B::kGroups == B::kWarps, "a group per warp");
  static_assert(2 * B::kTilesPerWarp == B::kCtas, "a warp sends as many groups as there are CTAs");
  const std::string name = std::to_string(kPlanes) + " planes, " + std::to_string(kHidden);
  Check(StateArrivals<F>() == (F::kCtas - 1) * F::kWarps * kPlanes * kStateMessage,
        name + ": bytes of h");
  Check(PartialArrivals<B>() == B::kCtas * B::kGroups * kPartialBytes, name + ": bytes of dh");
  for (int warp = 0; warp < B::kWarps; ++warp) {
    for (int i = 0; i < B::kCtas; ++i) {
      const int group = warp * B::kCtas + i;
      Check(FirstOwner<B>(warp) + i / B::kGroups == group / B::kGroups &&
                FirstGroupSent<B>(warp) + i % B::kGroups == group % B::kGroups,
            name + ": owner of the data that warp " + std::to_string(warp) + " sends");
    }
  }
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {  // takes 400 MB for states; reaches the second phase of both barriers
    Holds<4, 1>(Pass::kForward, {5});
    return harness::Finish();
  }
  LayoutIsAsAssumed<2, 128>();
  LayoutIsAsAssumed<1, 256>();
  LayoutIsAsAssumed<2, 256>();
  Holds<2, 1>(Pass::kForward, {0, 1, 2, 3, 4, 5, 6, 7});
  Holds<2, 2>(Pass::kForward, {0, 1, 2, 3, 4, 7});
  Holds<2, 3>(Pass::kForward, {1, 2, 5});
  Holds<3, 1>(Pass::kForward, {1, 2, 3, 4, 7});
  Holds<4, 1>(Pass::kForward, {1, 2, 3});
  Holds<2, 1>(Pass::kBackward, {0, 1, 2, 3, 4, 5, 6, 7});
  Holds<2, 2>(Pass::kBackward, {0, 1, 2, 3, 4, 7});
  Holds<2, 3>(Pass::kBackward, {1, 2, 4});
  Holds<3, 1>(Pass::kBackward, {1, 2, 3, 4, 7});
  if (harness::g_failures == 0) FindsPlants();
  std::printf("%zu states\n", g_states);
  return harness::Finish();
}
