// The random numbers of numpy's Philox generator: the same key and counter give the same numbers.
#pragma once

#include <cstdint>

namespace sensorseq::signal {

// Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). The first
// word of the counter counts blocks of four numbers; the other words and the key identify the
// stream.
class Philox {
 public:
  Philox(uint64_t key_0, uint64_t key_1, uint64_t counter_1, uint64_t counter_2)
      : key_{key_0, key_1}, counter_{0, counter_1, counter_2, 0} {}

  uint64_t Next64() {
    if (used_ == 4) MakeBlock();
    return block_[used_++];
  }
  // Returns the low half of a 64-bit number first, then its high half.
  uint32_t Next32() {
    if (has_half_) {
      has_half_ = false;
      return half_;
    }
    const uint64_t both = Next64();
    half_ = static_cast<uint32_t>(both >> 32);
    has_half_ = true;
    return static_cast<uint32_t>(both);
  }
  // Returns a number that is uniformly distributed in [0, 1).
  double NextDouble() { return static_cast<double>(Next64() >> 11) * 0x1p-53; }
  // Returns an integer that is uniformly distributed in [0, most], without bias (Lemire, "Fast
  // Random Integer Generation in an Interval", 2019).
  uint32_t NextUpTo(uint32_t most) {
    if (most == 0) return 0;
    if (most == UINT32_MAX) return Next32();
    const uint32_t n = most + 1, threshold = (UINT32_MAX - most) % n;
    uint64_t product;
    do {
      product = static_cast<uint64_t>(Next32()) * n;
    } while (static_cast<uint32_t>(product) < threshold);
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  __extension__ using Wide = unsigned __int128;

  void MakeBlock() {
    if (++counter_[0] == 0) ++counter_[1];
    uint64_t c[4] = {counter_[0], counter_[1], counter_[2], counter_[3]};
    uint64_t k[2] = {key_[0], key_[1]};
    for (int round = 0; round < 10; ++round) {
      const Wide a = static_cast<Wide>(0xD2E7470EE14C6C93u) * c[0];
      const Wide b = static_cast<Wide>(0xCA5A826395121157u) * c[2];
      c[0] = static_cast<uint64_t>(b >> 64) ^ c[1] ^ k[0];
      c[2] = static_cast<uint64_t>(a >> 64) ^ c[3] ^ k[1];
      c[1] = static_cast<uint64_t>(b);
      c[3] = static_cast<uint64_t>(a);
      k[0] += 0x9E3779B97F4A7C15u;
      k[1] += 0xBB67AE8584CAA73Bu;
    }
    for (int i = 0; i < 4; ++i) block_[i] = c[i];
    used_ = 0;
  }

  uint64_t key_[2], counter_[4], block_[4] = {};
  int used_ = 4;
  bool has_half_ = false;
  uint32_t half_ = 0;
};

}  // namespace sensorseq::signal
