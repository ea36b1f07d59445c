#include "cpu/team.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cpu/dispatch.h"
#include "relax.h"

namespace sensorseq {
namespace {

constexpr int64_t kClosed = int64_t(1) << 32;
// A thread that sleeps takes about as long to wake up.
constexpr std::chrono::microseconds kPatience{100};
constexpr int64_t kLongWaits = 2;  // one may be by chance

using Clock = std::chrono::steady_clock;

// Until when this process forms no team, as the last one had to dissolve.
std::atomic<Clock::rep> alone_until{0};

}  // namespace

void Team::Run(const Parallel& parallel, int64_t n_shares, Task task, void* context,
               Subnormals subnormals) {
  const int64_t n_threads = parallel.run == nullptr ? 1 : parallel.n_threads;
  int64_t n = std::min({n_threads, n_shares, kMaxMembers});
  if (n < 1 || (n > 1 && Clock::now().time_since_epoch().count() < alone_until)) n = 1;
  Team team(n, parallel.sharing, task, context);
  RunTasks(parallel, team.n_wanted_, &Team::Join, &team, subnormals);
}

// A thread that comes when the team is complete or at work has nothing to do.
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

// The first member counts the others: those that come in time.
int64_t Team::CountMembers() {
  const auto end = Clock::now() + kPatience;
  while (n_joined_ < n_wanted_ && Clock::now() < end) Relax();
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
      if (!is_long && Clock::now() - begin > std::chrono::microseconds(sharing_.long_wait_us)) {
        is_long = true;
        ++n_long_waits_;
      }
      if (is_long) std::this_thread::yield();
    }
  }
}

bool Team::Dissolves(const Member& member) {
  const int64_t n = waits_[member.index].n.load(std::memory_order_relaxed) + 1;
  if (member.index == 0 && n_long_waits_ >= kLongWaits) {
    last_wait_ = n;
    const auto alone = std::chrono::milliseconds(sharing_.alone_ms);
    alone_until = (Clock::now() + alone).time_since_epoch().count();
  }
  Wait(member);
  return last_wait_ == n;
}

}  // namespace sensorseq
