// Cycles of the tensor cores' instructions as the layer would use them: fp16 operands, fp32 sums,
// A (the weights) in registers and another one for every instruction, B (h) from registers
// (mma.sync) or shared memory (wgmma). Sums are checked against the host in double.
#include "fragments.h"
#include "measure.h"

namespace {

using measure::Number;
using measure::Spread;

constexpr int kRepeats = 21, kWarmUps = 3;
constexpr int kTiles = 16;  // fragments of A that a warp holds: 64 registers

// Multiplies kTiles fragments of A by one of B, kRounds times, into kChains accumulators in turn.
// kTiles / kChains instructions depend on each other in a round.
template <int kChains>
__global__ void __launch_bounds__(512)
    MmaSync(const __half* a, const __half* b, int n_rounds, float* sums, int64_t* cycles) {
  const int lane = threadIdx.x % 32;
  uint32_t of_a[kTiles][4], of_b[2];
  float c[kChains][4] = {};
#pragma unroll
  for (int t = 0; t < kTiles; ++t) fragments::LoadA(a + 256 * t, 16, lane, of_a[t]);
  fragments::LoadB(b, lane, of_b);
  __syncthreads();
  const int64_t begin = clock64();
  for (int round = 0; round < n_rounds; ++round) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) fragments::Mma(c[t % kChains], of_a[t], of_b);
  }
  float total[4] = {};
#pragma unroll
  for (int i = 0; i < kChains; ++i) {
#pragma unroll
    for (int r = 0; r < 4; ++r) total[r] += c[i][r];
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) sums[threadIdx.x * 4 + r] = total[r];
  const int64_t end = clock64();
  __syncthreads();
  if (lane == 0) cycles[threadIdx.x / 32] = end - begin;
}

__device__ uint64_t Descriptor(const void* matrix, int along_k, int along_n) {
  const uint64_t address = static_cast<uint64_t>(__cvta_generic_to_shared(matrix));
  return ((address >> 4) & 0x3FFF) | (static_cast<uint64_t>(along_k >> 4) << 16) |
         (static_cast<uint64_t>(along_n >> 4) << 32);
}

template <int kColumns>
__device__ void Wgmma(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b) {
  if constexpr (kColumns == 8) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, %8, 1, 1, 1, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  } else {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, "
        "{%8, %9, %10, %11}, %12, 1, 1, 1, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
          "+f"(d[7])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
}

// A step of the layer: kDepth k-steps into one accumulator of 64 x kColumns, then a wait. `a` holds
// (64, 16 kDepth) for every warpgroup, `b` kDepth k-steps of kColumns columns in core matrices.
template <int kColumns, int kDepth>
__global__ void __launch_bounds__(256)
    WgmmaSteps(const __half* a, const __half* b, int n_rounds, float* sums, int64_t* cycles) {
  constexpr int kBytesAlongN = kDepth * 2 * 128;  // [n / 8][k / 8][8 rows][8 halves]
  __shared__ alignas(128) __half h[kColumns * kDepth * 16];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = threadIdx.x; i < kColumns * kDepth * 16; i += blockDim.x) {
    const int n = i / (kDepth * 16), k = i % (kDepth * 16);
    h[((n / 8) * kDepth * 2 + k / 8) * 64 + (n % 8) * 8 + k % 8] = b[i];
  }
  uint32_t of_a[kDepth][4];
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    fragments::LoadA(a + warp * 16 * kDepth * 16 + 16 * k, 16 * kDepth, lane, of_a[k]);
  }
  float d[kColumns / 2] = {};
  uint64_t of_b[kDepth];
#pragma unroll
  for (int k = 0; k < kDepth; ++k) of_b[k] = Descriptor(h + k * 2 * 64, 128, kBytesAlongN);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const int64_t begin = clock64();
  for (int round = 0; round < n_rounds; ++round) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < kDepth; ++k) Wgmma<kColumns>(d, of_a[k], of_b[k]);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  const int64_t end = clock64();
#pragma unroll
  for (int r = 0; r < kColumns / 2; ++r) sums[threadIdx.x * (kColumns / 2) + r] = d[r];
  if (lane == 0) cycles[warp] = end - begin;
}

std::vector<__half> Draw(size_t size, std::mt19937_64& random) {
  std::uniform_int_distribution<int> uniform(-32, 32);  // sums of a check are exact in float
  std::vector<__half> values(size);
  for (__half& value : values) value = __float2half(static_cast<float>(uniform(random)) / 32.0f);
  return values;
}

double At(const std::vector<__half>& values, size_t i) {
  return static_cast<double>(__half2float(values[i]));
}

double Slowest(const std::vector<int64_t>& cycles) {
  return static_cast<double>(*std::max_element(cycles.begin(), cycles.end()));
}

// Launches as (rounds of the check, then timed rounds); returns cycles of a round.
template <typename Launch>
std::vector<double> Time(Launch launch, measure::Buffer<int64_t>& cycles) {
  constexpr int kRounds = 2000;
  std::vector<double> a_round;
  for (int repeat = -kWarmUps; repeat < kRepeats; ++repeat) {
    launch(kRounds);
    CHECK_KERNEL("kernel");
    if (repeat >= 0) a_round.push_back(Slowest(cycles.host()) / kRounds);
  }
  return a_round;
}

std::vector<double> Scaled(std::vector<double> values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

template <int kChains>
bool MeasureMma(int n_warps, std::mt19937_64& random, std::vector<std::string>& rows) {
  const std::vector<__half> a = Draw(size_t{kTiles} * 256, random), b = Draw(128, random);
  measure::Buffer<__half> device_a(a), device_b(b);
  measure::Buffer<float> sums(size_t{128} * n_warps);
  measure::Buffer<int64_t> cycles(n_warps);
  const auto launch = [&](int n_rounds) {
    MmaSync<kChains>
        <<<1, 32 * n_warps>>>(device_a.get(), device_b.get(), n_rounds, sums.get(), cycles.get());
  };
  launch(1);
  CHECK_KERNEL("MmaSync");
  bool right = true;
  const std::vector<float> found = sums.host();
  for (int thread = 0; thread < 32 * n_warps; ++thread) {
    for (int r = 0; r < 4; ++r) {
      const int row = fragments::CRow(thread % 32, r), column = fragments::CColumn(thread % 32, r);
      double sum = 0.0;
      for (int t = 0; t < kTiles; ++t) {
        for (int k = 0; k < 16; ++k) sum += At(a, 256 * t + 16 * row + k) * At(b, 16 * column + k);
      }
      right = right && found[thread * 4 + r] == static_cast<float>(sum);
    }
  }
  const double share = std::max(1.0, n_warps / 4.0);  // warps of a sub-partition
  rows.push_back(
      "{\"what\": \"mma.sync m16n8k16, fp16, another A each\", \"warps_of_the_sm\": " +
      std::to_string(n_warps) + ", \"independent_sums\": " + std::to_string(kChains) +
      ", \"cycles_each\": " + Spread(Scaled(Time(launch, cycles), 1.0 / kTiles / share)) +
      ", \"right\": " + (right ? "true" : "false") + "}");
  return right;
}

template <int kColumns, int kDepth>
bool MeasureWgmma(int n_groups, std::mt19937_64& random, std::vector<std::string>& rows,
                  double* a_step) {
  constexpr int kK = 16 * kDepth, kOfLane = kColumns / 2;
  const std::vector<__half> a = Draw(size_t{64} * n_groups * kK, random);
  const std::vector<__half> b = Draw(size_t{kColumns} * kK, random);
  measure::Buffer<__half> device_a(a), device_b(b);
  measure::Buffer<float> sums(size_t{128} * n_groups * kOfLane);
  measure::Buffer<int64_t> cycles(size_t{4} * n_groups);
  const auto launch = [&](int n_rounds) {
    WgmmaSteps<kColumns, kDepth>
        <<<1, 128 * n_groups>>>(device_a.get(), device_b.get(), n_rounds, sums.get(), cycles.get());
  };
  launch(1);
  CHECK_KERNEL("WgmmaSteps");
  bool right = true;
  const std::vector<float> found = sums.host();
  for (int thread = 0; thread < 128 * n_groups; ++thread) {
    for (int r = 0; r < kOfLane; ++r) {
      const int row = thread / 32 * 16 + fragments::CRow(thread % 32, r % 4);
      const int column = 8 * (r / 4) + fragments::CColumn(thread % 32, r % 4);
      double sum = 0.0;
      for (int k = 0; k < kK; ++k) sum += At(a, row * kK + k) * At(b, column * kK + k);
      right = right && found[thread * kOfLane + r] == static_cast<float>(sum);
    }
  }
  const std::vector<double> a_round = Time(launch, cycles);
  *a_step = measure::Quantile(a_round, 0.5);
  rows.push_back("{\"what\": \"wgmma m64n" + std::to_string(kColumns) +
                 "k16, A in registers, fence to wait\", \"warpgroups_of_the_sm\": " +
                 std::to_string(n_groups) + ", \"k_steps\": " + std::to_string(kDepth) +
                 ", \"cycles_a_step\": " + Spread(a_round) +
                 ", \"cycles_each_of_the_sm\": " + Number(*a_step / (kDepth * n_groups)) +
                 ", \"right\": " + (right ? "true" : "false") + "}");
  return right;
}

template <int kColumns>
bool MeasureDepths(int n_groups, std::mt19937_64& random, std::vector<std::string>& rows) {
  double of_4 = 0.0, of_8 = 0.0, of_16 = 0.0;
  bool right = MeasureWgmma<kColumns, 4>(n_groups, random, rows, &of_4);
  right = MeasureWgmma<kColumns, 8>(n_groups, random, rows, &of_8) && right;
  right = MeasureWgmma<kColumns, 16>(n_groups, random, rows, &of_16) && right;
  // fence, commit and wait fall out of the difference
  rows.push_back("{\"what\": \"wgmma m64n" + std::to_string(kColumns) +
                 "k16, one more k-step\", \"warpgroups_of_the_sm\": " + std::to_string(n_groups) +
                 ", \"cycles_each_of_the_sm\": " + Number((of_16 - of_8) / (8.0 * n_groups)) +
                 ", \"between_4_and_8\": " + Number((of_8 - of_4) / (4.0 * n_groups)) + "}");
  return right;
}

}  // namespace

int main() {
  const std::string device = measure::DeviceJson();
  const uint64_t seed = measure::FreshSeed();
  std::mt19937_64 random(seed);
  std::vector<std::string> rows;
  bool right = true;
  for (const int n_warps : {1, 4, 8, 16}) {
    right = MeasureMma<1>(n_warps, random, rows) && right;  // dependent: latency
    right = MeasureMma<2>(n_warps, random, rows) && right;
    right = MeasureMma<8>(n_warps, random, rows) && right;
  }
  for (const int n_groups : {1, 2}) {
    right = MeasureDepths<8>(n_groups, random, rows) && right;
    right = MeasureDepths<16>(n_groups, random, rows) && right;
  }
  measure::Print("mma_rate", device, seed, right, rows);
  return right ? 0 : 1;
}
