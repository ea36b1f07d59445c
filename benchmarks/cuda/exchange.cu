// Measures the exchange of h inside a cluster: the time from an st.async message until the other
// CTA's wait returns, and the number of bytes that a CTA receives per clock when every CTA sends to
// all others.
//
// AllToAll runs the protocol of the layer. There are two buffers with one mbarrier each. One thread
// arms an mbarrier again after waiting for it, and every warp sends in every step. The received
// words, which encode step, sender and position, are checked.
#include <cooperative_groups.h>

#include "measure.h"

namespace {

namespace cg = cooperative_groups;
using measure::Number;
using measure::Spread;

constexpr int kRepeats = 21;
constexpr int kWarmUps = 3;

__device__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// The address of the same variable in another CTA of the cluster.
__device__ uint32_t InCta(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

__device__ void Init(uint32_t barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ void ArmBarrier(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// With kAcquire, the wait acquires at cluster scope, so the compiler invalidates the L1 cache.
// Without kAcquire, the wait is relaxed, and a fence orders only shared memory.
template <bool kAcquire>
__device__ void Wait(uint32_t barrier, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0) {
    if constexpr (kAcquire) {
      asm volatile(
          "{\n .reg .pred p;\n"
          " mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
          " selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    } else {
      asm volatile(
          "{\n .reg .pred p;\n"
          " mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 p, [%1], %2;\n"
          " selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(barrier), "r"(parity)
          : "memory");
    }
  }
  if constexpr (!kAcquire) {
    asm volatile("fence.acquire.sync_restrict::shared::cluster.cluster;" ::: "memory");
  }
}

template <int kWords>
__device__ void Send(uint32_t address, uint32_t barrier, const uint32_t (&v)[kWords]) {
  static_assert(kWords == 1 || kWords == 2 || kWords == 4);
  if constexpr (kWords == 1) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address),
        "r"(v[0]), "r"(barrier)
        : "memory");
  } else if constexpr (kWords == 2) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(
            address),
        "r"(v[0]), "r"(v[1]), "r"(barrier)
        : "memory");
  } else {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, "
        "[%5];" ::"r"(address),
        "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(barrier)
        : "memory");
  }
}

// One warp of rank 0 and one warp of rank `partner` send a line of 128 B back and forth.
template <bool kAcquire>
__global__ void PingPong(int partner, int n_rounds, uint32_t salt, int64_t* cycles,
                         uint32_t* n_wrong) {
  __shared__ alignas(128) uint32_t line[32];
  __shared__ alignas(8) uint64_t full;
  const cg::cluster_group cluster = cg::this_cluster();
  const uint32_t rank = cluster.block_rank();
  const uint32_t barrier = SharedAddress(&full);
  if (threadIdx.x == 0) {
    Init(barrier, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    ArmBarrier(barrier, sizeof(line));
  }
  cluster.sync();
  const bool first = rank == 0;
  if (first || rank == static_cast<uint32_t>(partner)) {
    const uint32_t other = first ? partner : 0;
    const uint32_t to_line = InCta(SharedAddress(&line[threadIdx.x]), other);
    const uint32_t to_barrier = InCta(barrier, other);
    uint32_t wrong = 0;
    const int64_t begin = clock64();
    for (int round = 0; round < n_rounds; ++round) {
      const uint32_t value[1] = {salt + 64u * static_cast<uint32_t>(round) + threadIdx.x};
      if (first) Send<1>(to_line, to_barrier, value);
      Wait<kAcquire>(barrier, round & 1);
      wrong += *static_cast<volatile uint32_t*>(&line[threadIdx.x]) != value[0];
      if (threadIdx.x == 0) ArmBarrier(barrier, sizeof(line));
      __syncwarp();
      if (!first) Send<1>(to_line, to_barrier, value);
    }
    if (first && threadIdx.x == 0) *cycles = clock64() - begin;
    if (wrong != 0) atomicAdd(n_wrong, wrong);
  }
  cluster.sync();
}

__global__ void ClusterBarriers(int n_rounds, int64_t* cycles) {
  const int64_t begin = clock64();
  for (int round = 0; round < n_rounds; ++round) {
    asm volatile("barrier.cluster.arrive.aligned;\n barrier.cluster.wait.aligned;" ::: "memory");
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *cycles = clock64() - begin;
}

constexpr int kWarps = 8;
constexpr size_t kMostShared = 200 * 1024;
constexpr size_t kOneCtaShared = 120 * 1024;  // over half of an SM's memory, so an SM runs one CTA

// Every CTA sends n_lines lines of 128 B to every other CTA in every step. Warp w sends lines w,
// w + 8, ..; a lane sends kWords words at once, so that one instruction sends kWords lines.
template <int kWords, bool kChecked>
__global__ void AllToAll(int n_lines, int n_steps, uint32_t salt, int64_t* cycles,
                         uint32_t* n_wrong) {
  extern __shared__ __align__(128) uint32_t buffers[];  // [2][sender][n_lines][32]
  __shared__ alignas(8) uint64_t full[2];
  const cg::cluster_group cluster = cg::this_cluster();
  const uint32_t rank = cluster.block_rank(), n_ctas = cluster.num_blocks();
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t from_one = static_cast<uint32_t>(n_lines) * 32;  // words
  const uint32_t inbound = (n_ctas - 1) * from_one * 4;           // bytes
  if (threadIdx.x == 0) {
    for (int b = 0; b < 2; ++b) Init(SharedAddress(&full[b]), 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    for (int b = 0; b < 2; ++b) ArmBarrier(SharedAddress(&full[b]), inbound);
  }
  cluster.sync();
  uint32_t wrong = 0;
  const int64_t begin = clock64();
  for (int step = 0; step < n_steps; ++step) {
    const uint32_t b = step & 1;
    const uint32_t tag = salt + (static_cast<uint32_t>(step) << 20);
    const uint32_t base = SharedAddress(buffers) + (b * n_ctas + rank) * from_one * 4;
    const uint32_t barrier = SharedAddress(&full[b]);
    for (uint32_t line = warp * kWords; line < static_cast<uint32_t>(n_lines);
         line += kWarps * kWords) {
      const uint32_t place = line * 32 + lane * kWords;
      uint32_t value[kWords];
#pragma unroll
      for (int i = 0; i < kWords; ++i) value[i] = tag + rank * from_one + place + i;
      for (uint32_t hop = 1; hop < n_ctas; ++hop) {
        const uint32_t other = rank + hop < n_ctas ? rank + hop : rank + hop - n_ctas;
        Send<kWords>(InCta(base + place * 4, other), InCta(barrier, other), value);
      }
    }
    Wait<false>(barrier, (step >> 1) & 1);
    if constexpr (kChecked) {
      for (uint32_t i = threadIdx.x; i < n_ctas * from_one; i += blockDim.x) {
        const volatile uint32_t* words = buffers + b * n_ctas * from_one;
        wrong += i / from_one != rank && words[i] != tag + i;
      }
    }
    if (threadIdx.x == 0) ArmBarrier(barrier, inbound);
    __syncwarp();
  }
  if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - begin;
  if (wrong != 0) atomicAdd(n_wrong, wrong);
  cluster.sync();
}

struct Clusters {
  cudaLaunchAttribute attribute = {};
  cudaLaunchConfig_t config = {};
  Clusters(int cluster_size, int n_clusters, int n_threads, size_t shared) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = cluster_size;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = dim3(cluster_size * n_clusters);
    config.blockDim = dim3(n_threads);
    config.dynamicSmemBytes = shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  Clusters(const Clusters&) = delete;
  Clusters& operator=(const Clusters&) = delete;
};

template <typename Kernel, typename... Args>
void Launch(Kernel kernel, int cluster_size, int n_clusters, int n_threads, size_t shared,
            Args... args) {
  const Clusters clusters(cluster_size, n_clusters, n_threads, shared);
  CHECK(cudaLaunchKernelEx(&clusters.config, kernel, args...));
  CHECK_KERNEL("kernel");
}

// Returns the number of clusters that can run at the same time, or 0 if this cluster size is not
// supported.
template <typename Kernel>
int Prepare(Kernel kernel, int cluster_size, int n_threads, size_t shared) {
  CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)));
  const Clusters clusters(cluster_size, 1, n_threads, shared);
  int n_clusters = 0;
  CHECK(cudaOccupancyMaxActiveClusters(&n_clusters, kernel, &clusters.config));
  return n_clusters;
}

template <bool kAcquire>
bool MeasureLatency(int cluster_size, std::mt19937_64& random, std::vector<std::string>& rows) {
  if (Prepare(PingPong<kAcquire>, cluster_size, 32, 0) == 0) return true;
  constexpr int kRounds = 2000;
  measure::Buffer<int64_t> cycles(1);
  measure::Buffer<uint32_t> n_wrong(std::vector<uint32_t>{0});
  std::vector<double> all, of_partners;
  for (int partner = 1; partner < cluster_size; ++partner) {
    std::vector<double> one_way;
    for (int repeat = -kWarmUps; repeat < kRepeats; ++repeat) {
      Launch(PingPong<kAcquire>, cluster_size, 1, 32, 0, partner, kRounds,
             static_cast<uint32_t>(random()), cycles.get(), n_wrong.get());
      if (repeat >= 0) {
        one_way.push_back(static_cast<double>(cycles.host()[0]) / (2.0 * kRounds));
      }
    }
    all.insert(all.end(), one_way.begin(), one_way.end());
    of_partners.push_back(measure::Quantile(one_way, 0.5));
  }
  const bool right = n_wrong.host()[0] == 0;
  rows.push_back("{\"what\": \"one way of 128 B by st.async, to the wait's return\", \"wait\": \"" +
                 std::string(kAcquire ? "acquire" : "relaxed and fence") + "\", \"cluster\": " +
                 std::to_string(cluster_size) + ", \"cycles\": " + Spread(all) +
                 ", \"nearest\": " + Number(measure::Quantile(of_partners, 0.0)) +
                 ", \"farthest\": " + Number(measure::Quantile(of_partners, 1.0)) +
                 ", \"right\": " + (right ? "true" : "false") + "}");
  return right;
}

void MeasureBarrier(int cluster_size, std::vector<std::string>& rows) {
  if (Prepare(ClusterBarriers, cluster_size, 256, 0) == 0) return;
  constexpr int kRounds = 2000;
  measure::Buffer<int64_t> cycles(1);
  std::vector<double> each;
  for (int repeat = -kWarmUps; repeat < kRepeats; ++repeat) {
    Launch(ClusterBarriers, cluster_size, 1, 256, 0, kRounds, cycles.get());
    if (repeat >= 0) each.push_back(static_cast<double>(cycles.host()[0]) / kRounds);
  }
  rows.push_back("{\"what\": \"barrier.cluster of 256 threads each\", \"cluster\": " +
                 std::to_string(cluster_size) + ", \"cycles\": " + Spread(each) + "}");
}

template <int kWords>
bool MeasureBandwidth(int cluster_size, bool whole_chip, std::mt19937_64& random,
                      std::vector<std::string>& rows) {
  constexpr int kSteps = 1000;
  bool right = true;
  double few_cycles = 0.0, few_bytes = 0.0;
  for (const int n_lines : {kWarps * kWords, 2 * kWarps * kWords}) {
    const size_t needed = size_t{2} * cluster_size * n_lines * 128;
    if (needed > kMostShared) break;
    const size_t shared = std::max(needed, kOneCtaShared);
    const int fit = std::min(Prepare(AllToAll<kWords, false>, cluster_size, 32 * kWarps, shared),
                             Prepare(AllToAll<kWords, true>, cluster_size, 32 * kWarps, shared));
    if (fit == 0) return right;
    const int n_clusters = whole_chip ? fit : 1;
    const int n_ctas = n_clusters * cluster_size;
    measure::Buffer<int64_t> cycles(n_ctas);
    measure::Buffer<uint32_t> n_wrong(std::vector<uint32_t>{0});
    Launch(AllToAll<kWords, true>, cluster_size, n_clusters, 32 * kWarps, shared, n_lines, kSteps,
           static_cast<uint32_t>(random()), cycles.get(), n_wrong.get());
    std::vector<double> a_step;
    for (int repeat = -kWarmUps; repeat < kRepeats; ++repeat) {
      Launch(AllToAll<kWords, false>, cluster_size, n_clusters, 32 * kWarps, shared, n_lines,
             kSteps, static_cast<uint32_t>(random()), cycles.get(), n_wrong.get());
      if (repeat < 0) continue;
      const std::vector<int64_t> of_ctas = cycles.host();
      a_step.push_back(static_cast<double>(*std::max_element(of_ctas.begin(), of_ctas.end())) /
                       kSteps);
    }
    const bool same = n_wrong.host()[0] == 0;
    right = right && same;
    const double bytes = 128.0 * n_lines * (cluster_size - 1);
    const double median = measure::Quantile(a_step, 0.5);
    std::string row =
        "{\"what\": \"all to all in lines of 128 B\", \"cluster\": " +
        std::to_string(cluster_size) + ", \"n_clusters\": " + std::to_string(n_clusters) +
        ", \"bytes_a_lane\": " + std::to_string(4 * kWords) +
        ", \"lines_to_each\": " + std::to_string(n_lines) +
        ", \"inbound_bytes\": " + Number(bytes) + ", \"cycles_a_step\": " + Spread(a_step) +
        ", \"inbound_bytes_a_clock\": " + Number(bytes / median);
    // subtracting the result for fewer bytes removes the latency
    if (few_bytes > 0.0) {
      row += ", \"inbound_bytes_a_clock_without_latency\": " +
             Number((bytes - few_bytes) / (median - few_cycles));
    }
    few_bytes = bytes;
    few_cycles = median;
    rows.push_back(row + ", \"right\": " + (same ? "true" : "false") + "}");
  }
  return right;
}

}  // namespace

int main() {
  const std::string device = measure::DeviceJson();
  const uint64_t seed = measure::FreshSeed();
  std::mt19937_64 random(seed);
  std::vector<std::string> rows;
  bool right = true;
  for (const int size : {2, 4, 8}) {
    right = MeasureLatency<false>(size, random, rows) && right;
    right = MeasureLatency<true>(size, random, rows) && right;
    MeasureBarrier(size, rows);
  }
  for (const bool whole_chip : {false, true}) {
    for (const int size : {2, 4, 8}) {
      right = MeasureBandwidth<1>(size, whole_chip, random, rows) && right;
      right = MeasureBandwidth<2>(size, whole_chip, random, rows) && right;
      right = MeasureBandwidth<4>(size, whole_chip, random, rows) && right;
    }
  }
  measure::Print("exchange", device, seed, right, rows);
  return right ? 0 : 1;
}
