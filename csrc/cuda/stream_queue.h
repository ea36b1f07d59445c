// Launches on a stream what a call queues.
#pragma once

#include <cuda_runtime.h>

#include "error.h"
#include "launch.h"

namespace sensorseq::cuda {

// Keeps the first error; what follows it is not launched.
class StreamQueue {
 public:
  explicit StreamQueue(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  void Zero(void* data, size_t bytes) {
    if (Ok() && bytes > 0) error_ = cudaMemsetAsync(data, 0, bytes, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunPack(const PackParams& p, int64_t of_models) {
    if (Ok()) error_ = LaunchPack<kPlanes, kHidden>(p, of_models, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunForward(const ForwardParams& p) {
    if (Ok()) error_ = LaunchForward<kPlanes, kHidden>(p, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunBackward(const BackwardParams& p) {
    if (Ok()) error_ = LaunchBackward<kPlanes, kHidden>(p, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunHiddenGrad(const WeightGradParams& p, int64_t of_models, int64_t n_slots) {
    if (Ok()) error_ = LaunchHiddenGrad<kPlanes, kHidden>(p, of_models, n_slots, stream_);
  }
  template <int kChannels>
  void RunInputGrad(const WeightGradParams& p, int hidden, int64_t of_models, int64_t n_slots) {
    if (Ok()) error_ = LaunchInputGrad<kChannels>(p, hidden, of_models, n_slots, stream_);
  }
  void RunSumSlots(const SumSlotsParams& p, int64_t n) {
    if (Ok()) error_ = LaunchSumSlots(p, n, stream_);
  }
  void RunPooledGrad(const HeadGradParams& p, int64_t n) {
    if (Ok()) error_ = LaunchPooledGrad(p, n, stream_);
  }
  void RunHeadWeightGrad(const HeadGradParams& p, int64_t n_slots, int64_t n) {
    if (Ok()) error_ = LaunchHeadWeightGrad(p, n_slots, n, stream_);
  }
  template <typename Body>
  void RunTrain(const TrainParams& p) {
    if (Ok()) error_ = LaunchTrain<Body>(p, stream_);
  }

  cudaError_t error() const { return error_; }
  Status status() const { return ToStatus(error_); }

 private:
  bool Ok() const { return error_ == cudaSuccess; }

  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace sensorseq::cuda
