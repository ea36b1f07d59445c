#include "forward_kernel.h"

namespace sensorseq::cuda {

template cudaError_t LaunchForward<1, 32>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 64>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 128>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 256>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<1, 512>(const ForwardParams&, cudaStream_t);

}  // namespace sensorseq::cuda
