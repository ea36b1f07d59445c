#include "forward_kernel.h"

namespace sensorseq::cuda {

template cudaError_t LaunchForward<2, 32>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<2, 64>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<2, 128>(const ForwardParams&, cudaStream_t);
template cudaError_t LaunchForward<2, 256>(const ForwardParams&, cudaStream_t);

}  // namespace sensorseq::cuda
