// Runs the launches of a call in the emulator, one cluster after the other in random order.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_set>

#include "cuda/backward.cuh"
#include "cuda/calls.h"
#include "cuda/forward.cuh"
#include "cuda/pack.cuh"
#include "cuda/portable_backward.cuh"
#include "cuda/portable_forward.cuh"
#include "cuda/train.cuh"
#include "emulator.h"

namespace emulator {

using namespace sensorseq::cuda;

// Compiles only the variants with kPlanes planes (kPortable: the portable kernels; 0: any) and with
// the hidden sizes that add up to kHiddens (0: any; portable kernels are compiled for all sizes).
constexpr int kPortable = 3;
template <int kPlanes = 0, int kHiddens = 0>
class QueueOf {
  static constexpr bool kHasPortable = kPlanes == 0 || kPlanes == kPortable;
  template <int planes, int hidden>
  static constexpr bool kHas =
      (kPlanes == 0 || planes == kPlanes) && (kHiddens == 0 || (hidden & kHiddens) != 0);

 public:
  explicit QueueOf(const Options& options) : options_(options), random_(options.seed) {}
  explicit QueueOf(uint32_t seed) : QueueOf(Options{seed, Order::kRandom, -1, -1}) {}

  template <typename T>
  void Zero(T* data, int64_t n) {
    if (n > 0) std::memset(data, 0, static_cast<size_t>(n) * sizeof(T));
  }

  template <int hidden>
  void RunPortable(const PortableParams& p) {
    if constexpr (kHasPortable) {
      const int n_channels = p.sizes.n_channels;
      if (p.sizes.is_projected) return RunPortableBlocks<hidden, 0>(p);
      if (n_channels <= 4) return RunPortableBlocks<hidden, 1>(p);
      n_channels <= 8 ? RunPortableBlocks<hidden, 2>(p) : RunPortableBlocks<hidden, 4>(p);
    } else {
      throw Fault("a variant that was not compiled");
    }
  }
  template <int hidden>
  void RunPortable(const BackwardParams& p) {
    if constexpr (kHasPortable) {
      using V = PortableVariant<hidden>;
      Clusters<V>(p.sizes, p.sizes.n_windows, PortableBackwardShared<V>::kTotal, [&](Machine& m) {
        if (HasSequences(p)) {
          PortableBackward<Machine, V, true>(m, p).Run();
        } else {
          PortableBackward<Machine, V, false>(m, p).Run();
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
      Clusters<V>(p.sizes, TileCount(p.sizes.n_windows), shared.total, [&](Machine& m) {
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
      Clusters<V>(p.sizes, TileCount(p.sizes.n_windows), BackwardShared<V>().total,
                  [&](Machine& m) {
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
  // Runs warps, which share nothing, in random order on one machine.
  template <typename Body>
  void RunTasks(const typename Body::Params& p) {
    InRandomOrder(Body::Warps(p), [&](Machine& m, int64_t warp) { Body::Run(m, p, warp); });
  }
  template <typename Body>
  void RunSlots(const typename Body::Params& p) {
    const Sizes& s = p.sizes;
    const int64_t n_warps = Body::Warps(s), n_slots = Body::Slots(s);
    InRandomOrder(Body::Models(s) * n_slots * n_warps, [&](Machine& m, int64_t i) {
      Body::Run(m, p, i / n_warps / n_slots, i / n_warps % n_slots, static_cast<int>(i % n_warps));
    });
  }

 private:
  template <int hidden, int kBlocks>
  void RunPortableBlocks(const PortableParams& p) {
    using V = PortableVariant<hidden>;
    Clusters<V>(p.sizes, p.sizes.n_windows, PortableShared<V, kBlocks>::kTotal, [&](Machine& m) {
      if (p.saved == nullptr) {
        PortableForward<Machine, V, kBlocks, false>(m, p).Run();
      } else {
        PortableForward<Machine, V, kBlocks, true>(m, p).Run();
      }
    });
  }
  template <typename Body>
  void InRandomOrder(int64_t n, Body body) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    Cluster cluster(1, 1, 128, Next());
    Machine m(cluster, 0, 0, 0, 0, 0);
    for (const int64_t i : order) body(m, i);
  }
  template <typename V, typename Body>
  void Clusters(const Sizes& s, int64_t n_tiles, uint32_t shared_bytes, Body body) {
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

// What a call queues must have kernels.
inline void Require(sensorseq::Status status) {
  if (status != sensorseq::Status::kOk) throw Fault(sensorseq::StatusText(status));
}

}  // namespace emulator
