// The kernels of a training step beside the layer.
#include "device_machine.h"
#include "launch.h"
#include "train-inl.h"

namespace sensorseq::cuda {
namespace {

using Machine = DeviceMachine<1>;
constexpr int kWarps = kTaskThreads / kLanes;

template <typename Body>
__global__ void __launch_bounds__(kTaskThreads) TrainKernel(const TrainParams p) {
  Machine m;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + Machine::Warp();
  if (warp < Body::Warps(p)) Body::Run(m, p, warp);
}

}  // namespace

template <typename Body>
cudaError_t LaunchTrain(const TrainParams& p, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((Body::Warps(p) + kWarps - 1) / kWarps);
  if (blocks == 0) return cudaSuccess;
  TrainKernel<Body><<<blocks, kTaskThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

template cudaError_t LaunchTrain<Start>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<Gather>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<Head>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<HeadShares>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<CountSaturated>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<SumGradients>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<SquareSlots>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<Measure>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<MoveParameters>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTrain<End>(const TrainParams&, cudaStream_t);

}  // namespace sensorseq::cuda
