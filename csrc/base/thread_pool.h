// Threads that wait for tasks: the implementation of `Parallel` on the CPU. No framework type
// appears here.
#pragma once

#include <cstdint>
#include <mutex>

#include "base/parallel.h"
#include "base/per_process.h"

namespace sensorseq {

// The threads are started when a call first needs them, and are then kept. A waiting thread first
// spins for a short time, because waking up would take longer, and then sleeps, so that other
// threads can use the core.
class ThreadPool {
 public:
  // The pool of this process. A forked child starts its own threads.
  static ThreadPool& Instance() { return PerProcess<ThreadPool>::Get(); }

  // Runs task(context, i) once for every i in [0, n_tasks) on the calling thread and on at most
  // n_threads - 1 other threads. Each thread takes the next index when it is free. Returns when all
  // tasks are done. If a task throws, the first exception is rethrown here, and tasks that have not
  // begun are skipped.
  //
  // Calls from several threads share the pool. Each call takes the threads that are free, possibly
  // none, and never waits for more. A call from within a task runs only on the thread of that task.
  void Run(int64_t n_threads, int64_t n_tasks, Parallel::Task task, void* context);

 private:
  struct Job;
  class Worker;

  Worker* Lease(int64_t n);
  void GiveBack(Worker* first);

  std::mutex mutex_;
  Worker* free_ = nullptr;  // a list, most recently used first
  int64_t n_workers_ = 0;
};

}  // namespace sensorseq
