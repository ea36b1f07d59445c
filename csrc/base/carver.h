// Divides a caller's workspace into pieces.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sensorseq {

// Hands out aligned pieces of a block; without a block, only counts the bytes of the pieces.
class Carver {
 public:
  explicit Carver(void* block) : block_(static_cast<char*>(block)) {}
  template <typename T>
  T* Take(int64_t n) {
    char* piece = block_ == nullptr ? nullptr : block_ + used_;
    const size_t bytes = static_cast<size_t>(n) * sizeof(T);
    used_ += (bytes + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }
  size_t used() const { return used_; }

 private:
  char* block_;
  size_t used_ = 0;
};

}  // namespace sensorseq
