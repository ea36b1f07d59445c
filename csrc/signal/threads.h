// Shares work among several threads, including the calling thread.
#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace sensorseq::signal {

// Calls work(worker) for worker in [0, n_workers), each on its own thread if that thread can be
// started. `work` must distribute its tasks itself and must not throw.
template <typename Work>
void RunInThreads(int64_t n_workers, Work work) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(n_workers));
  try {
    for (int64_t worker = 1; worker < n_workers; ++worker) threads.emplace_back(work, worker);
  } catch (const std::system_error&) {
    // If no more threads can be started, the existing threads do all the work.
  }
  work(int64_t{0});
  for (std::thread& thread : threads) thread.join();
}

}  // namespace sensorseq::signal
