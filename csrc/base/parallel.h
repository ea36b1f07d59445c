// How a call runs its tasks on several threads.
#pragma once

#include <cstdint>

namespace sensorseq {

// `run` calls task(context, i) once for every i in [0, n_tasks), on any threads and in any order,
// and returns when all tasks are done. If `run` is null, the tasks run in order on the calling
// thread.
struct Parallel {
  using Task = void (*)(void* context, int64_t index);
  void (*run)(void* pool, int64_t n_tasks, Task task, void* context) = nullptr;
  void* pool = nullptr;
  int64_t n_threads = 1;  // the maximum number of threads that `run` may use at a time
  // The conditions under which threads share the steps of a layer and wait for one another after
  // each step (cpu/team.h).
  struct Sharing {
    // The number of multiply-adds per step and gate from which sharing pays if there are fewer
    // tiles than threads.
    int64_t min_work = int64_t(1) << 14;
    // A wait of at least this time counts as long. The time is longer than any wait for a running
    // thread, but shorter than a time slice.
    int64_t long_wait_us = 500;
    // Threads stop sharing when long waits take at least this percentage of the time.
    int64_t long_waits_percent = 25;
    // After a thread has been kept from running, threads stop sharing steps for this time.
    int64_t alone_ms = 500;
  } sharing = {};
};

}  // namespace sensorseq
