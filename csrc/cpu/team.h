// Threads that compute the steps of one computation together. Each thread computes a share of every
// step, and no thread begins a step before all threads have finished the previous one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/subnormals.h"
#include "lstm/lstm_linear.h"

namespace sensorseq {

class Team {
 public:
  struct Member {
    int64_t index, n_members;
    Team* team;
    // Returns when every member has called Wait. All members then see everything that any member
    // wrote before it called Wait.
    void Wait() const {
      if (n_members > 1) team->Wait(*this);
    }
    // Like Wait, but dissolves the team if other programs keep its threads from running at the same
    // time. The first member then continues alone, with n_members = 1. All other members get false
    // and leave.
    bool Stay() {
      if (n_members == 1 || !team->Dissolves(*this)) return true;
      n_members = 1;
      return index == 0;
    }
  };
  static constexpr int64_t kMaxMembers = 32;
  using Task = void (*)(void* context, Member& member);

  // Calls task(context, member) at the same time on as many threads as are free in `parallel`: at
  // least the calling thread, and at most the smallest of parallel.n_threads, n_shares and
  // kMaxMembers. Results must not depend on the number of members.
  static void Run(const Parallel& parallel, int64_t n_shares, Task task, void* context,
                  Subnormals subnormals);

 private:
  using Clock = std::chrono::steady_clock;
  Team(int64_t n_wanted, const Parallel::Sharing& sharing, Task task, void* context)
      : n_wanted_(n_wanted), sharing_(sharing), task_(task), context_(context) {}
  static void Join(void* team, int64_t);
  int64_t CountMembers();
  bool IsHeldUp() const;
  void Wait(const Member& member);
  bool Dissolves(const Member& member);

  const int64_t n_wanted_;
  const Parallel::Sharing sharing_;
  const Task task_;
  void* const context_;
  alignas(64) std::atomic<int64_t> n_joined_{0};  // at least kClosed once members are counted
  std::atomic<int64_t> n_members_{0};             // 0 until then
  // The number of times that a member has called Wait. The counter has a cache line to itself,
  // which no other member writes, so that each wait needs a single transfer between cores.
  struct alignas(64) Waits {
    std::atomic<int64_t> n{0};
  };
  Waits waits_[kMaxMembers];
  std::atomic<int64_t> n_long_waits_{0};
  std::atomic<int64_t> waited_us_{0};  // in long waits
  Clock::time_point begin_;            // the first member's
  std::atomic<int64_t> last_wait_{0};  // last wait of a dissolving team, set by the first member
};

}  // namespace sensorseq
