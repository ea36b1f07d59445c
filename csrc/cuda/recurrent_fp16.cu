#include "cuda/recurrent_kernels.cuh"

namespace sensorseq::cuda {

template cudaError_t LaunchForward<1, 64>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 128>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 256>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<1, 64>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<1, 128>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<1, 256>(const BackwardParams&, cudaStream_t);

}  // namespace sensorseq::cuda
