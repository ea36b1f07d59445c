#include "cpu/team.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/relax.h"
#include "cpu/dispatch.h"

namespace sensorseq {
namespace {

constexpr int64_t kClosed = int64_t(1) << 32;
// About as long as a sleeping thread takes to wake up.
constexpr std::chrono::microseconds kPatience{100};
constexpr int64_t kLongWaits = 2;  // a single long wait may occur by chance

// The time until which this process forms no team, because its last team had to dissolve.
std::atomic<std::chrono::steady_clock::rep> alone_until{0};

int64_t Microseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

}  // namespace

void Team::Run(const Parallel& parallel, int64_t n_shares, Task task, void* context,
               Subnormals subnormals) {
  const int64_t n_threads = parallel.run == nullptr ? 1 : parallel.n_threads;
  int64_t n = std::min({n_threads, n_shares, kMaxMembers});
  if (n < 1 || (n > 1 && Clock::now().time_since_epoch().count() < alone_until)) n = 1;
  Team team(n, parallel.sharing, task, context);
  RunTasks(parallel, team.n_wanted_, &Team::Join, &team, subnormals);
}

// A thread that arrives after the team is complete has nothing to do.
void Team::Join(void* self, int64_t) {
  Team& team = *static_cast<Team*>(self);
  const int64_t index = team.n_joined_.fetch_add(1);
  if (index >= kClosed) return;
  if (index == 0) {
    team.n_members_ = team.CountMembers();
  } else {
    while (team.n_members_ == 0) Relax();
  }
  Member member{index, team.n_members_, &team};
  team.task_(team.context_, member);
}

// Called by the first member. Returns how many members arrive in time, including the first.
int64_t Team::CountMembers() {
  const auto end = Clock::now() + kPatience;
  while (n_joined_ < n_wanted_ && Clock::now() < end) Relax();
  begin_ = Clock::now();
  return n_joined_.fetch_add(kClosed);
}

void Team::Wait(const Member& member) {
  const int64_t n = waits_[member.index].n.load(std::memory_order_relaxed) + 1;
  waits_[member.index].n.store(n, std::memory_order_release);
  Clock::time_point begin;
  bool is_timed = false, is_long = false;
  for (int64_t other = 0; other < member.n_members; ++other) {
    for (int turn = 1; waits_[other].n.load(std::memory_order_acquire) < n; ++turn) {
      Relax();
      if (turn % 64 != 0) continue;
      if (!is_timed) begin = Clock::now();
      is_timed = true;
      is_long = is_long || Microseconds(Clock::now() - begin) >= sharing_.long_wait_us;
      if (is_long) std::this_thread::yield();
    }
  }
  if (!is_long) return;
  waited_us_ += Microseconds(Clock::now() - begin);
  ++n_long_waits_;
}

bool Team::IsHeldUp() const {
  if (n_long_waits_ < kLongWaits) return false;
  return 100 * waited_us_ >= sharing_.long_waits_percent * Microseconds(Clock::now() - begin_);
}

bool Team::Dissolves(const Member& member) {
  const int64_t n = waits_[member.index].n.load(std::memory_order_relaxed) + 1;
  if (member.index == 0 && IsHeldUp()) {
    last_wait_ = n;
    const auto alone = std::chrono::milliseconds(sharing_.alone_ms);
    alone_until = (Clock::now() + alone).time_since_epoch().count();
  }
  Wait(member);
  return last_wait_ == n;
}

}  // namespace sensorseq
