// Allocates memory that begins at a cache line, with C++ functions that every system has (Windows
// lacks std::aligned_alloc).
#pragma once

#include <cstddef>
#include <new>

namespace sensorseq {

constexpr size_t kCacheLine = 64;  // bytes; no known processor has longer vectors

// Allocates `bytes` bytes, rounded up to full cache lines. Returns null if memory is exhausted.
inline void* AllocateLines(size_t bytes) {
  const size_t whole = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  return ::operator new(whole, std::align_val_t{kCacheLine}, std::nothrow);
}

struct FreeLines {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kCacheLine}); }
};

}  // namespace sensorseq
