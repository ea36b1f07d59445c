// Shared by the native tests: a counter of failures, arrays that end where their allocation ends,
// and threads that run tasks in a different order than a loop would.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cpu/dispatch.h"
#include "lstm/lstm_linear.h"

namespace harness {

using Array = std::vector<double>;
using sensorseq::Parallel;

inline int g_failures = 0;
// calls of operator new, in a program that counts them
inline std::atomic<int64_t> g_allocations{0};

inline void Check(bool ok, const std::string& what) {
  if (ok) return;
  if (++g_failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

// n values in a separate allocation, misaligned by one element and ending where the allocation
// ends.
template <typename Real>
class Exact {
 public:
  explicit Exact(const Array& values) : Exact(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) data()[i] = static_cast<Real>(values[i]);
  }
  explicit Exact(size_t n) : n_(n), block_(new Real[n + 1]) {
    block_[0] = kSentinel;
    for (size_t i = 0; i < n; ++i) data()[i] = kSentinel;
  }
  Real* data() { return block_.get() + 1; }
  // also null if the array is empty, as in torch
  Real* or_null(bool wanted) { return wanted && n_ > 0 ? data() : nullptr; }
  size_t size() const { return n_; }
  bool sentinel_intact() const { return block_[0] == kSentinel; }
  static constexpr Real kSentinel = Real(-12345.5);

 private:
  size_t n_;
  std::unique_ptr<Real[]> block_;
};

// Gives the tasks to `*pool` threads (3 if null), the last index first, to show that neither the
// order nor the assignment to threads matters.
inline void RunOnThreads(void* pool, int64_t n_tasks, Parallel::Task task, void* context) {
  const int64_t n_threads = pool == nullptr ? 3 : *static_cast<const int64_t*>(pool);
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < n_threads; ++thread) {
    threads.emplace_back([=] {
      for (int64_t i = n_tasks - 1 - thread; i >= 0; i -= n_threads) task(context, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Uses the threads of RunOnThreads in three ways, which alternate from call to call: each thread
// takes one tile of windows after another; all threads share every step, even a small one; or the
// threads' team ends early.
inline Parallel OnThreads(int64_t* pool = nullptr) {
  static int call = 0;
  call = (call + 1) % 3;
  if (call == 0) return Parallel{&RunOnThreads, pool};
  const int64_t long_wait_us = call == 1 ? int64_t(1) << 40 : 0;
  return Parallel{&RunOnThreads, pool, 64, {0, long_wait_us, 0, 0}};
}

struct Workspace {
  explicit Workspace(size_t bytes) : data(std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64)) {}
  ~Workspace() { std::free(data); }
  void* data;
};

// Aligned memory that ends where the allocation ends; `bytes` is a multiple of 64.
struct Packed {
  explicit Packed(size_t bytes) : data(std::aligned_alloc(64, bytes)) {}
  ~Packed() { std::free(data); }
  void* data;
};

// Calls check(kernels, bytes of a vector) with each instruction set of this processor forced in
// turn, or only with the instruction set that the environment forces.
template <typename F>
inline void ForEachIsa(F check) {
  const sensorseq::KernelTable table = sensorseq::AllKernels();
  const char* forced = getenv("SENSORSEQ_CPU_ISA");
  const std::string only = forced == nullptr ? "" : forced;
  for (int64_t i = 0; i < table.n_rows; ++i) {
    const sensorseq::Kernels& kernels = *table.rows[i];
    if (!only.empty() && only != kernels.name) continue;
    if (!kernels.is_supported()) {
      std::printf("%s: not on this processor\n", kernels.name);
      continue;
    }
    setenv("SENSORSEQ_CPU_ISA", kernels.name, 1);
    const std::string name = kernels.name;
    check(kernels, int64_t(name == "avx512" ? 64 : name == "avx2" ? 32 : 16));
    std::printf("%s: checked\n", kernels.name);
  }
}

// Prints the outcome and returns the program's exit code.
inline int Finish() {
  if (g_failures > 0) {
    std::printf("%d failed\n", g_failures);
    return 1;
  }
  std::printf("all passed\n");
  return 0;
}

}  // namespace harness
