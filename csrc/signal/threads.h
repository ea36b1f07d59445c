// Work that several threads share, the calling one among them.
#pragma once

#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace sensorseq::signal {

// Calls work(worker) for worker in [0, n_workers), each on a thread of its own while there are
// threads to be had; work deals out what there is to do by itself, and must not throw.
template <typename Work>
void RunInThreads(int64_t n_workers, Work work) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(n_workers));
  try {
    for (int64_t worker = 1; worker < n_workers; ++worker) threads.emplace_back(work, worker);
  } catch (const std::system_error&) {
    // no more threads: those there are do all of it
  }
  work(int64_t{0});
  for (std::thread& thread : threads) thread.join();
}

}  // namespace sensorseq::signal
