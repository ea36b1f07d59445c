// Runs the probe in the emulator.
#pragma once

#include "bridge_host.h"
#include "bridge_probe.h"
#include "emulator.h"

namespace emulator {

inline std::vector<uint32_t> RunProbe(const bridge::Launch& launch, uint32_t poison,
                                      uint32_t seed) {
  using namespace bridge;
  std::vector<uint32_t> results = Poisoned(poison);
  std::vector<float> handed(size_t{kAllWarps} * kLanes);
  std::vector<int32_t> arrived(size_t{kClusters} * kCounters);
  const Arrays arrays{launch.floats.data(), launch.words.data(),
                      launch.longs.data(),  handed.data(),
                      arrived.data(),       reinterpret_cast<float*>(results.data()),
                      results.data()};
  Options options;
  for (int model = 0; model < kModels; ++model) {
    for (int direction = 0; direction < kDirections; ++direction) {
      for (int tile = 0; tile < kTiles; ++tile) {
        options.seed = seed++;
        Cluster cluster(kCtas, bridge::kWarps, kSharedBytes, options);
        cluster.Run([&](int rank, int warp) {
          Machine m(cluster, rank, warp, tile, direction, model);
          Probe<Machine>(m, arrays).Run();
        });
      }
    }
  }
  return results;
}

}  // namespace emulator
