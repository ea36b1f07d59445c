// Random numbers that depend only on the seed and on where they are used, not on earlier draws. The
// dropout mask therefore does not depend on the thread count, on the other models or on how steps
// are divided into calls. Any language with 64-bit integers can reproduce the mask.
//
// Element i of a site gets output i of SplitMix64 (Steele, Lea and Flood, "Fast Splittable
// Pseudorandom Number Generators", 2014), whose initial state is Mix(Mix(Mix(seed) + step) + site).
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace sensorseq {

SENSORSEQ_HD uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Uniform numbers in [0, 1), multiples of 2^-53, for one site.
class CounterRandom {
 public:
  SENSORSEQ_HD CounterRandom(uint64_t seed, uint64_t step, uint64_t site)
      : start_(Mix(Mix(Mix(seed) + step) + site)) {}

  SENSORSEQ_HD double Uniform(uint64_t element) const {
    return static_cast<double>(Mix(start_ + (element + 1) * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
  }

 private:
  uint64_t start_;
};

// The sites at which masks are used. All sites of a network are distinct, whatever its depth.
SENSORSEQ_HD uint64_t RecurrentSite(int64_t layer) { return static_cast<uint64_t>(2 * layer); }
SENSORSEQ_HD uint64_t OutputSite(int64_t layer) { return static_cast<uint64_t>(2 * layer + 1); }

// The dropout factor: 0 with the given probability, otherwise the factor that preserves the mean.
SENSORSEQ_HD double DropoutFactor(const CounterRandom& random, uint64_t element,
                                  double probability) {
  return random.Uniform(element) < probability ? 0.0 : 1.0 / (1.0 - probability);
}

}  // namespace sensorseq
