// Runs what a call queues in the emulator: clusters one after the other, in random order.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_set>

#include "cuda/backward-inl.h"
#include "cuda/calls-inl.h"
#include "cuda/forward-inl.h"
#include "cuda/pack-inl.h"
#include "cuda/train-inl.h"
#include "emulator.h"

namespace emulator {

using namespace sensorseq::cuda;

// With `kPlanes`, and a sum of sizes `kHiddens`, only these variants are compiled.
template <int kPlanes = 0, int kHiddens = 0>
class QueueOf {
  template <int planes, int hidden>
  static constexpr bool kHas =
      (kPlanes == 0 || planes == kPlanes) && (kHiddens == 0 || (hidden & kHiddens) != 0);

 public:
  explicit QueueOf(const Options& options) : options_(options), random_(options.seed) {}
  explicit QueueOf(uint32_t seed) : QueueOf(Options{seed, Order::kRandom, -1, -1}) {}

  void Zero(void* data, size_t bytes) { std::memset(data, 0, bytes); }

  template <int planes, int hidden>
  void RunPack(const PackParams& p, int64_t of_models) {
    if constexpr (kHas<planes, hidden>) {
      OneWarp([&](Machine& m) {
        Pack<Machine, planes, hidden> pack(m, p);
        for (int64_t of = 0; of < of_models; ++of) {
          for (int64_t task = 0; task < pack.kTasks; ++task) pack.Run(of, task);
        }
      });
    } else {
      throw Fault("a variant that was not compiled");
    }
  }
  template <int planes, int hidden>
  void RunForward(const ForwardParams& p) {
    if constexpr (kHas<planes, hidden>) {
      using V = ForwardVariant<planes, hidden>;
      const ForwardShared<V> shared(p.sizes.n_channels, p.sizes.is_projected);
      Clusters<V>(p.sizes, shared.total, [&](Machine& m) {
        if (p.sizes.is_projected) {
          Forward<Machine, V, true>(m, p).Run();
        } else {
          Forward<Machine, V, false>(m, p).Run();
        }
      });
    } else {
      throw Fault("a variant that was not compiled");
    }
  }
  template <int planes, int hidden>
  void RunBackward(const BackwardParams& p) {
    if constexpr (kHas<planes, hidden>) {
      using V = BackwardVariant<planes, hidden>;
      Clusters<V>(p.sizes, BackwardShared<V>().total, [&](Machine& m) {
        if (HasSequences(p)) {
          Backward<Machine, V, true>(m, p).Run();
        } else {
          Backward<Machine, V, false>(m, p).Run();
        }
      });
    } else {
      throw Fault("a variant that was not compiled");
    }
  }
  template <int planes, int hidden>
  void RunHiddenGrad(const WeightGradParams& p, int64_t of_models, int64_t n_slots) {
    if constexpr (kHas<planes, hidden>) {
      OneWarp([&](Machine& m) {
        HiddenGrad<Machine, planes, hidden> grad(m, p);
        for (int64_t of = 0; of < of_models; ++of) {
          for (int64_t slot = 0; slot < n_slots; ++slot) {
            for (int group = 0; group < grad.kGroups; ++group) {
              for (int block = 0; block < grad.kColumnBlocks; ++block) {
                grad.Run(of, slot, group, block);
              }
            }
          }
        }
      });
    } else {
      throw Fault("a variant that was not compiled");
    }
  }
  template <int kChannels>
  void RunInputGrad(const WeightGradParams& p, int hidden, int64_t of_models, int64_t n_slots) {
    OneWarp([&](Machine& m) {
      InputGrad<Machine, kChannels> grad(m, p, hidden);
      for (int64_t of = 0; of < of_models; ++of) {
        for (int64_t slot = 0; slot < n_slots; ++slot) {
          for (int group = 0; group < hidden / kGroupUnits; ++group) grad.Run(of, slot, group);
        }
      }
    });
  }
  void RunSumSlots(const SumSlotsParams& p, int64_t n) {
    EachWarp(n, [&](Machine& m, int64_t first) { SumSlots(m, p, first); });
  }
  void RunPooledGrad(const HeadGradParams& p, int64_t n) {
    EachWarp(n, [&](Machine& m, int64_t first) { PooledGrad(m, p, first); });
  }
  // Its warps in random order, on one machine: nothing of theirs is shared.
  template <typename Body>
  void RunTrain(const TrainParams& p) {
    std::vector<int64_t> order(static_cast<size_t>(Body::Warps(p)));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    OneWarp([&](Machine& m) {
      for (int64_t warp : order) Body::Run(m, p, warp);
    });
  }
  void RunHeadWeightGrad(const HeadGradParams& p, int64_t n_slots, int64_t n) {
    for (int64_t slot = 0; slot < n_slots; ++slot) {
      EachWarp(n, [&](Machine& m, int64_t first) { HeadWeightGrad(m, p, slot, first); });
    }
  }

 private:
  template <typename Body>
  void OneWarp(Body body) {
    Cluster cluster(1, 1, 128, Next());
    Machine m(cluster, 0, 0, 0, 0, 0);
    body(m);
  }
  template <typename Body>
  void EachWarp(int64_t n, Body body) {
    OneWarp([&](Machine& m) {
      for (int64_t first = 0; first < n; first += kLanes) body(m, first);
    });
  }
  template <typename V, typename Body>
  void Clusters(const Sizes& s, uint32_t shared_bytes, Body body) {
    const int64_t n_tiles = TileCount(s.n_windows);
    std::vector<int64_t> order(static_cast<size_t>(n_tiles * s.n_directions * s.n_models));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    std::unordered_set<const void*> written;
    for (int64_t i : order) {
      const int64_t tile = i % n_tiles, model = i / n_tiles / s.n_directions;
      const auto direction = static_cast<int>(i / n_tiles % s.n_directions);
      Cluster cluster(V::kCtas, V::kWarps, shared_bytes, Next());
      cluster.Run([&](int rank, int warp) {
        Machine m(cluster, rank, warp, tile, direction, model);
        body(m);
      });
      for (const auto& [place, write] : cluster.global()) {
        if (!written.insert(place).second) throw Fault("two clusters write one place");
      }
    }
  }

  Options Next() {
    Options options = options_;
    options.seed = static_cast<uint32_t>(random_());
    return options;
  }

  const Options options_;
  std::mt19937 random_;
};
using Queue = QueueOf<>;

}  // namespace emulator
