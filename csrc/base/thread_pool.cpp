#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <system_error>
#include <thread>

#include "base/relax.h"

namespace sensorseq {
namespace {

// Two parallel regions of a training step are about ten microseconds apart, and waking up takes at
// least as long. See benchmarks/bench_threads.py.
constexpr std::chrono::microseconds kSpin{50};

thread_local bool is_in_task = false;

// Spins until ready() is true or the spinning time is over. Returns whether ready() became true.
template <typename F>
bool Spin(F ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int turn = 0; turn < 16; ++turn) {
      if (ready()) return true;
      Relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

// One call of Run, on the stack of the calling thread.
struct ThreadPool::Job {
  const Parallel::Task task;
  void* const context;
  const int64_t n_tasks;
  std::atomic<int64_t> next{0};
  std::atomic<bool> has_thrown{false};
  std::exception_ptr thrown = nullptr;  // read once all threads have left the job

  void TakeTasks() noexcept {
    const bool was_in_task = is_in_task;
    is_in_task = true;
    try {
      for (int64_t i; (i = next.fetch_add(1)) < n_tasks;) task(context, i);
    } catch (...) {
      next = n_tasks;
      if (!has_thrown.exchange(true)) thrown = std::current_exception();
    }
    is_in_task = was_in_task;
  }
};

// A thread and its job. The thread has no job, has been offered a job, or has taken a job. Only the
// thread that leases the worker offers jobs and waits for the worker, so at most one of these two
// threads is asleep at a time.
class ThreadPool::Worker {
 public:
  Worker* next = nullptr;  // the next in a list of the pool or of a lease

  void Start() { std::thread(&Worker::Work, this).detach(); }

  void Offer(Job* job) { Change(job); }

  // After this call, the worker no longer has the job. A worker that wakes up late never gets the
  // job.
  void Finish(Job* job) {
    Job* offered = job;
    if (job_.compare_exchange_strong(offered, nullptr)) return;
    const auto is_done = [&] { return job_ == nullptr; };
    if (Spin(is_done)) return;
    while (!is_done()) Sleep(is_done);
  }

 private:
  [[noreturn]] void Work() {
    const auto is_offered = [&] { return job_ != nullptr; };
    for (;;) {
      if (!Spin(is_offered)) Sleep(is_offered);
      // The job is null if the caller finished before this thread woke up. The next job is then
      // likely to come soon.
      Job* job = job_;
      if (job == nullptr || !job_.compare_exchange_strong(job, &kTaken)) continue;
      job->TakeTasks();
      Change(nullptr);
    }
  }

  // Waits until the next change unless ready() is true.
  template <typename F>
  void Sleep(F ready) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++n_asleep_;  // must precede ready(), because Change writes the job, then reads n_asleep_
    if (!ready()) changed_.wait(lock);
    --n_asleep_;
  }

  void Change(Job* to) {
    job_ = to;
    if (n_asleep_ == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_one();
  }

  static Job kTaken;

  // One thread waits for changes of job_ and n_asleep_ and another thread writes them, so the two
  // variables share a cache line of their own.
  alignas(64) std::atomic<Job*> job_{nullptr};
  std::atomic<int32_t> n_asleep_{0};  // 2 if one thread falls asleep before the other has woken up
  std::mutex mutex_;
  std::condition_variable changed_;
};

ThreadPool::Job ThreadPool::Worker::kTaken{nullptr, nullptr, 0};

// Starts workers until the pool has n, then takes up to n workers that are free. Returns a list of
// the workers that it has taken, or null if no worker is free.
ThreadPool::Worker* ThreadPool::Lease(int64_t n) {
  const std::lock_guard<std::mutex> lock(mutex_);
  while (n_workers_ < n) {
    try {
      auto worker = std::make_unique<Worker>();
      worker->Start();
      worker->next = free_;
      free_ = worker.release();
      ++n_workers_;
    } catch (const std::exception&) {
      break;  // no more threads or memory: the existing workers do the work
    }
  }
  Worker* const first = free_;
  Worker** end = &free_;
  for (int64_t i = 0; i < n && *end != nullptr; ++i) end = &(*end)->next;
  Worker* const rest = *end;
  *end = nullptr;
  free_ = rest;
  return first == rest ? nullptr : first;
}

void ThreadPool::GiveBack(Worker* first) {
  Worker* last = first;
  while (last->next != nullptr) last = last->next;
  const std::lock_guard<std::mutex> lock(mutex_);
  last->next = free_;
  free_ = first;
}

void ThreadPool::Run(int64_t n_threads, int64_t n_tasks, Parallel::Task task, void* context) {
  const int64_t n_others = is_in_task ? 0 : std::min(n_threads, n_tasks) - 1;
  Worker* const leased = n_others < 1 ? nullptr : Lease(n_others);
  Job job{task, context, n_tasks};
  for (Worker* worker = leased; worker != nullptr; worker = worker->next) worker->Offer(&job);
  job.TakeTasks();
  for (Worker* worker = leased; worker != nullptr; worker = worker->next) worker->Finish(&job);
  if (leased != nullptr) GiveBack(leased);
  if (job.thrown != nullptr) std::rethrow_exception(job.thrown);
}

}  // namespace sensorseq
