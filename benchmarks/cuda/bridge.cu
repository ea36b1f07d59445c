// Tests whether the GPU behaves as the emulator in the tests assumes. The probe calls every
// function of the kernels' machine interface; a GPU and the emulator run the probe on the same
// numbers. Differences beyond the tolerance of approximate instructions are errors. The results are
// printed as a table on stderr and as JSON on stdout.
#include "bridge_host.h"
#include "bridge_probe.h"
#include "cuda/device_machine.cuh"
#include "measure.h"

namespace {

using namespace bridge;

constexpr int kLaunches = 25;  // each launch has 8 clusters

__global__ void __launch_bounds__(kWarps* kLanes) Run(const __grid_constant__ Arrays arrays) {
  using Machine = sensorseq::cuda::DeviceMachine<kCtas>;
  Machine m;
  Probe<Machine>(m, arrays).Run();
}

std::vector<uint32_t> OnDevice(const Launch& launch) {
  measure::Buffer<float> floats(launch.floats);
  measure::Buffer<uint32_t> words(launch.words);
  measure::Buffer<int64_t> longs(launch.longs);
  measure::Buffer<uint32_t> results(Poisoned(kDevicePoison));
  measure::Buffer<float> handed(size_t{kAllWarps} * kLanes);
  measure::Buffer<int32_t> arrived(std::vector<int32_t>(size_t{kClusters} * kCounters));
  const Arrays arrays{floats.get(), words.get(),   longs.get(),
                      handed.get(), arrived.get(), reinterpret_cast<float*>(results.get()),
                      results.get()};
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = kCtas;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(kTiles * kCtas, kDirections, kModels);
  config.blockDim = dim3(kWarps * kLanes);
  config.dynamicSmemBytes = kSharedBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  CHECK(cudaLaunchKernelEx(&config, Run, arrays));
  CHECK_KERNEL("probe");
  return results.host();
}

}  // namespace

int main() {
  const std::string device = measure::DeviceJson();
  const uint64_t seed = measure::FreshSeed();
  std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  Verdict verdict;
  for (int i = 0; i < kLaunches; ++i) {
    const Launch launch(random);
    verdict.Add(launch, OnDevice(launch), Emulated(launch, static_cast<uint32_t>(random())));
  }
  const bool right = verdict.Report();
  measure::Print("bridge", device, seed, right, verdict.Json());
  return right ? 0 : 1;
}
