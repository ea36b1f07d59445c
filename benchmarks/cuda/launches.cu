// How many clusters run at a time, and what a boundary between two kernels of a graph costs, with
// and without programmatic launch.
#include <cooperative_groups.h>

#include "measure.h"

namespace {

using measure::Number;
using measure::Spread;

constexpr int kRepeats = 21, kWarmUps = 3;

__global__ void __launch_bounds__(256) Empty(int* touched) {
  extern __shared__ int shared[];
  if (touched != nullptr) *touched = shared[threadIdx.x];
}

// Each kernel adds one to every block's counter after all before it did; `n_wrong` counts those
// that find another number than their place in the chain.
template <bool kProgrammatic>
__global__ void __launch_bounds__(256) Link(int place, int* counters, int* n_wrong) {
  if constexpr (kProgrammatic) {
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
  }
  if (threadIdx.x == 0) {
    // another block's counter: the whole kernel before this one is done
    const int other = (blockIdx.x + 1) % gridDim.x;
    const volatile int* before = counters + (place % 2) * gridDim.x;
    if (before[other] != place) atomicAdd(n_wrong, 1);
    counters[((place + 1) % 2) * gridDim.x + blockIdx.x] = place + 1;
  }
}

cudaLaunchAttribute ClusterOf(int size) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = size;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  return attribute;
}

void CountClusters(std::vector<std::string>& rows) {
  int most = 0;
  CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  for (const int size : {1, 2, 4, 8}) {
    for (const int kilobytes : {16, 32, 64, 112, 200}) {
      const int shared = std::min(kilobytes * 1024, most);
      CHECK(cudaFuncSetAttribute(Empty, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
      cudaLaunchAttribute attribute = ClusterOf(size);
      cudaLaunchConfig_t config = {};
      config.gridDim = dim3(size);
      config.blockDim = dim3(256);
      config.dynamicSmemBytes = shared;
      config.attrs = &attribute;
      config.numAttrs = 1;
      int n_clusters = 0;
      CHECK(cudaOccupancyMaxActiveClusters(&n_clusters, Empty, &config));
      rows.push_back(
          "{\"what\": \"clusters of 256 threads each that run at a time\", \"cluster\": " +
          std::to_string(size) + ", \"shared_bytes\": " + std::to_string(shared) +
          ", \"n_clusters\": " + std::to_string(n_clusters) + "}");
    }
  }
}

struct Graph {
  cudaGraphExec_t exec = nullptr;
  ~Graph() {
    if (exec != nullptr) cudaGraphExecDestroy(exec);
  }
};

template <bool kProgrammatic>
void Capture(cudaStream_t stream, int n_nodes, int n_blocks, int cluster_size, int* counters,
             int* n_wrong, Graph* result) {
  cudaGraph_t graph;
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  CHECK(cudaMemsetAsync(counters, 0, sizeof(int) * 2 * n_blocks, stream));
  for (int place = 0; place < n_nodes; ++place) {
    cudaLaunchAttribute attributes[2] = {ClusterOf(cluster_size), {}};
    attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(n_blocks);
    config.blockDim = dim3(256);
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = kProgrammatic && place > 0 ? 2 : 1;
    CHECK(cudaLaunchKernelEx(&config, Link<kProgrammatic>, place, counters, n_wrong));
  }
  CHECK(cudaStreamEndCapture(stream, &graph));
  CHECK(cudaGraphInstantiate(&result->exec, graph, 0));
  CHECK(cudaGraphDestroy(graph));
}

// Microseconds of a replay, by events around some of them.
std::vector<double> Replay(cudaStream_t stream, cudaGraphExec_t exec) {
  constexpr int kReplays = 20;
  cudaEvent_t begin, end;
  CHECK(cudaEventCreate(&begin));
  CHECK(cudaEventCreate(&end));
  std::vector<double> each;
  for (int repeat = -kWarmUps; repeat < kRepeats; ++repeat) {
    CHECK(cudaEventRecord(begin, stream));
    for (int i = 0; i < kReplays; ++i) CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaEventRecord(end, stream));
    CHECK(cudaEventSynchronize(end));
    float milliseconds = 0.0f;
    CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
    if (repeat >= 0) each.push_back(1e3 * static_cast<double>(milliseconds) / kReplays);
  }
  CHECK(cudaEventDestroy(begin));
  CHECK(cudaEventDestroy(end));
  return each;
}

template <bool kProgrammatic>
bool MeasureBoundary(int n_blocks, int cluster_size, std::vector<std::string>& rows) {
  constexpr int kFew = 20, kMany = 220;
  cudaStream_t stream;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  bool right = true;
  std::vector<double> few, many;
  {
    measure::Buffer<int> counters(size_t{2} * n_blocks);
    measure::Buffer<int> n_wrong(std::vector<int>{0});
    for (const int n_nodes : {kFew, kMany}) {
      Graph graph;
      Capture<kProgrammatic>(stream, n_nodes, n_blocks, cluster_size, counters.get(), n_wrong.get(),
                             &graph);
      (n_nodes == kFew ? few : many) = Replay(stream, graph.exec);
      CHECK(cudaStreamSynchronize(stream));
      const std::vector<int> last = counters.host();
      for (int block = 0; block < n_blocks; ++block) {
        right = right && last[(n_nodes % 2) * n_blocks + block] == n_nodes;
      }
    }
    right = right && n_wrong.host()[0] == 0;
  }
  CHECK(cudaStreamDestroy(stream));
  std::vector<double> each;
  for (size_t i = 0; i < few.size(); ++i) each.push_back((many[i] - few[i]) / (kMany - kFew));
  rows.push_back(std::string("{\"what\": \"one more kernel of a graph\", \"programmatic\": ") +
                 (kProgrammatic ? "true" : "false") + ", \"blocks\": " + std::to_string(n_blocks) +
                 ", \"cluster\": " + std::to_string(cluster_size) + ", \"us\": " + Spread(each) +
                 ", \"us_of_a_replay_of_20\": " + Number(measure::Quantile(few, 0.5)) +
                 ", \"right\": " + (right ? "true" : "false") + "}");
  return right;
}

}  // namespace

int main() {
  const std::string device = measure::DeviceJson();
  std::vector<std::string> rows;
  CountClusters(rows);
  bool right = true;
  for (const auto& [n_blocks, cluster_size] :
       {std::pair<int, int>{1, 1}, {16, 1}, {128, 1}, {16, 8}, {128, 8}}) {
    right = MeasureBoundary<false>(n_blocks, cluster_size, rows) && right;
    right = MeasureBoundary<true>(n_blocks, cluster_size, rows) && right;
  }
  measure::Print("launches", device, 0, right, rows);
  return right ? 0 : 1;
}
