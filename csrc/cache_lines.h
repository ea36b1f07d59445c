// Memory that begins at a cache line, with functions that every system's C++ has (Windows lacks
// std::aligned_alloc).
#pragma once

#include <cstddef>
#include <new>

namespace sensorseq {

constexpr size_t kCacheLine = 64;  // bytes; no known processor has longer vectors

// At least `bytes`, in whole lines; null if memory is exhausted.
inline void* AllocateLines(size_t bytes) {
  const size_t whole = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  return ::operator new(whole, std::align_val_t{kCacheLine}, std::nothrow);
}

struct FreeLines {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kCacheLine}); }
};

}  // namespace sensorseq
