// Threads that wait for tasks: the implementation of `Parallel` on the CPU. No framework type
// appears here.
#pragma once

#include <cstdint>
#include <mutex>

#include "lstm_linear.h"
#include "per_process.h"

namespace sensorseq {

// Its threads are started when a call first needs them, and are then kept. A waiting thread first
// spins for a short time, because waking up would take longer, and then sleeps, so that it takes no
// core from others.
class ThreadPool {
 public:
  // The pool of this process. A forked child starts its own threads.
  static ThreadPool& Instance() { return PerProcess<ThreadPool>::Get(); }

  // Runs task(context, i) once for every i in [0, n_tasks) on the calling thread and on at most
  // n_threads - 1 others, each taking the next index when it is free. Returns when all are done.
  // The first exception of a task is rethrown here; tasks not yet begun are then skipped.
  //
  // Calls from several threads share the pool: each takes the threads that are free, down to none,
  // and never waits for more. A call from within a task runs on its own thread alone.
  void Run(int64_t n_threads, int64_t n_tasks, Parallel::Task task, void* context);

 private:
  struct Job;
  class Worker;

  Worker* Lease(int64_t n);
  void GiveBack(Worker* first);

  std::mutex mutex_;
  Worker* free_ = nullptr;  // a list, latest used first
  int64_t n_workers_ = 0;
};

}  // namespace sensorseq
