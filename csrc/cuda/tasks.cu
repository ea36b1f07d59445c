// The kernels with independent warps that serve every GPU, compiled for every architecture of the
// build.
#include "cuda/head_grad.cuh"
#include "cuda/portable_grad.cuh"
#include "cuda/task_kernels.cuh"

namespace sensorseq::cuda {

template cudaError_t LaunchTasks<PooledGrad>(const HeadGradParams&, cudaStream_t);
template cudaError_t LaunchTasks<SumSlots>(const SumSlotsParams&, cudaStream_t);
template cudaError_t LaunchSlots<HeadWeightGrad>(const HeadGradParams&, cudaStream_t);
template cudaError_t LaunchSlots<PortableGrad<false>>(const WeightGradParams&, cudaStream_t);
template cudaError_t LaunchSlots<PortableGrad<true>>(const WeightGradParams&, cudaStream_t);

template cudaError_t LaunchTasks<Gather>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTasks<Head>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTasks<SumGradients>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTasks<Measure>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTasks<MoveParameters>(const TrainParams&, cudaStream_t);
template cudaError_t LaunchTasks<End>(const TrainParams&, cudaStream_t);

}  // namespace sensorseq::cuda
