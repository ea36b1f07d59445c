// The kernels with independent warps that only the tensor-core kernels need.
#include "cuda/pack.cuh"
#include "cuda/task_kernels.cuh"

namespace sensorseq::cuda {

template cudaError_t LaunchSlots<Pack<1>>(const PackParams&, cudaStream_t);
template cudaError_t LaunchSlots<Pack<2>>(const PackParams&, cudaStream_t);
template cudaError_t LaunchSlots<HiddenGrad<1>>(const WeightGradParams&, cudaStream_t);
template cudaError_t LaunchSlots<HiddenGrad<2>>(const WeightGradParams&, cudaStream_t);
template cudaError_t LaunchSlots<InputGrad>(const WeightGradParams&, cudaStream_t);

}  // namespace sensorseq::cuda
