#include "cuda/recurrent_kernels.cuh"

namespace sensorseq::cuda {

template cudaError_t LaunchForward<2, 64>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<2, 128>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<2, 256>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<2, 64>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<2, 128>(const BackwardParams&, cudaStream_t);
template cudaError_t LaunchBackward<2, 256>(const BackwardParams&, cudaStream_t);

}  // namespace sensorseq::cuda
