// Blocks of memory that outlive the tensors made from them. The next training step reuses these
// blocks, because at training sizes the page faults of a fresh block cost as much as the
// arithmetic.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "base/cache_lines.h"
#include "base/per_process.h"

namespace sensorseq {

class BlockPool {
 public:
  // The pool that all threads of the process share. A forked child has its own pool, which also
  // accepts blocks that were taken before the fork.
  static BlockPool& Instance() { return PerProcess<BlockPool>::Get(); }

  // Returns a block of at least `bytes` bytes and at most twice as many, aligned to 64 bytes, or
  // null if memory is exhausted.
  void* Take(size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      size_t best = free_.size();
      for (size_t i = 0; i < free_.size(); ++i) {
        const size_t size = free_[i]->bytes;
        if (size < bytes || size > 2 * bytes) continue;
        // Of blocks of the same size, takes the one returned last, because it may still be in a
        // cache.
        if (best == free_.size() || size <= free_[best]->bytes) best = i;
      }
      if (best < free_.size()) {
        Header* header = free_[best];
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(best));
        free_bytes_ -= header->bytes;
        return header + 1;
      }
    }
    void* memory = AllocateLines(sizeof(Header) + bytes);
    if (memory == nullptr) return nullptr;
    Header* header = static_cast<Header*>(memory);
    header->bytes = bytes;
    return header + 1;
  }

  // Takes a block back. If more than kMaxFreeBytes bytes are then free, releases the blocks that
  // have been free for the longest time.
  void Give(void* block) {
    Header* header = static_cast<Header*>(block) - 1;
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(header);
    free_bytes_ += header->bytes;
    while (free_bytes_ > kMaxFreeBytes) {
      free_bytes_ -= free_.front()->bytes;
      FreeLines()(free_.front());
      free_.erase(free_.begin());
    }
  }

  size_t free_bytes() const { return free_bytes_; }

  static constexpr size_t kMaxFreeBytes = size_t(256) << 20;

 private:
  struct alignas(kCacheLine) Header {
    size_t bytes;
  };
  std::mutex mutex_;
  std::vector<Header*> free_;  // in the order in which they were returned
  size_t free_bytes_ = 0;
};

}  // namespace sensorseq
