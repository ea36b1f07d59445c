// Tests that the thread pool runs every task once, even in nested and concurrent calls and after a
// fork, and that an exception reaches the caller.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <stdexcept>
#include <vector>

#include "base/thread_pool.h"
#include "harness.h"

using namespace sensorseq;
using harness::Check;

namespace {

void Pause(int64_t microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

// Runs f(i) for i in [0, n_tasks) in the pool of this process.
template <typename F>
void Run(int64_t n_threads, int64_t n_tasks, F f) {
  ThreadPool::Instance().Run(
      n_threads, n_tasks, [](void* f, int64_t i) { (*static_cast<F*>(f))(i); }, &f);
}

// Counts with plain integers rather than atomic ones, to check that the caller and later tasks see
// a task's writes.
void CheckCounts(int64_t n_threads, int64_t n_tasks, int64_t pause_us) {
  std::vector<int64_t> counts(static_cast<size_t>(n_tasks));
  for (int64_t call = 1; call <= 3; ++call) {
    Run(n_threads, n_tasks, [&](int64_t i) {
      ++counts[static_cast<size_t>(i)];
      Pause(pause_us);
    });
    for (int64_t count : counts) Check(count == call, "every task once");
  }
}

void CheckEveryTaskOnce() {
  for (int64_t n_threads : {1, 4, 2, 3, 1, 4, 0}) {  // each call may request a different number
    for (int64_t n_tasks : {0, 1, 2, 3, 7, 50}) {
      CheckCounts(n_threads, n_tasks, 0);
    }
    CheckCounts(n_threads, 3, 300);  // the threads fall asleep between and within calls
  }
}

// Each task waits for the others, so all run concurrently, each on a different thread.
void CheckThreads() {
  for (int64_t n : {2, 4, 3}) {
    for (int64_t pause_us : {0, 1000}) {
      Pause(pause_us);
      std::atomic<int64_t> n_begun{0};
      Run(n, n, [&](int64_t) {
        ++n_begun;
        while (n_begun < n) std::this_thread::yield();
      });
      Check(n_begun == n, "as many threads as asked for");
    }
  }
  std::mutex mutex;
  std::set<std::thread::id> seen;
  Run(3, 100, [&](int64_t) {
    Pause(10);
    const std::lock_guard<std::mutex> lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  Check(seen.size() <= 3, "no more threads than asked for");
}

void CheckNested() {
  std::atomic<int64_t> n_inner{0}, n_elsewhere{0};
  for (int64_t n_threads : {1, 3}) {
    n_inner = 0;
    Run(n_threads, 6, [&](int64_t) {
      const std::thread::id outer = std::this_thread::get_id();
      int64_t last = -1;
      Run(3, 5, [&](int64_t i) {
        ++n_inner;
        if (std::this_thread::get_id() != outer || i != last + 1) ++n_elsewhere;
        last = i;
      });
    });
    Check(n_inner == 30, "every inner task once");
    Check(n_elsewhere == 0, "inner tasks in order on the thread of the outer one");
  }
}

void CheckThrows() {
  for (int64_t n_threads : {1, 3}) {
    for (int64_t n_throwing : {1, 20}) {
      try {
        Run(n_threads, 20, [&](int64_t i) {
          Pause(20);
          if (i < n_throwing) throw std::runtime_error("task");
        });
        Check(false, "an exception reaches the caller");
      } catch (const std::runtime_error& error) {
        Check(std::string(error.what()) == "task", "the exception of the task");
      }
      CheckCounts(n_threads, 7, 0);  // the pool still works
    }
  }
}

void CheckCallers() {
  std::vector<std::thread> callers;
  for (int64_t caller = 0; caller < 4; ++caller) {
    callers.emplace_back([=] {
      for (int64_t call = 0; call < 50; ++call) {
        std::vector<int64_t> values(9, call);
        Run(2 + caller % 2, 9, [&](int64_t i) { values[static_cast<size_t>(i)] += caller; });
        for (int64_t value : values) Check(value == call + caller, "no call takes another's tasks");
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// Tests a forked child, after other threads of the parent have used the pool and while one is still
// using it.
void CheckFork() {
  CheckCounts(3, 9, 0);
  std::atomic<bool> is_over{false};
  std::thread other([&] {
    while (!is_over) CheckCounts(3, 9, 0);
  });
  for (int64_t fork_number = 0; fork_number < 20; ++fork_number) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);  // ends a child that hangs
      harness::g_failures = 0;
      CheckThreads();
      CheckCounts(3, 9, 0);
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        alarm(20);
        CheckThreads();
        _exit(harness::g_failures > 0);
      }
      int status = 1;
      waitpid(grandchild, &status, 0);
      _exit(harness::g_failures > 0 || status != 0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    Check(status == 0, "a forked child has threads of its own");
  }
  is_over = true;
  other.join();
  CheckThreads();
}

}  // namespace

// With the argument "threads", the program does not fork. ThreadSanitizer fails if there are
// threads after a fork, and AddressSanitizer's allocator may be locked in the child if another
// thread of the parent held the lock during the fork.
int main(int n_arguments, char** arguments) {
  const bool threads_only = n_arguments > 1 && std::string(arguments[1]) == "threads";
  CheckEveryTaskOnce();
  CheckThreads();
  CheckNested();
  CheckThrows();
  CheckCallers();
  if (!threads_only) CheckFork();
  return harness::Finish();
}
