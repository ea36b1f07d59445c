// The contract's functions: checks, and the calls queued on the caller's stream.
#include <cuda_runtime.h>

#include "calls-inl.h"
#include "error.h"
#include "launch.h"
#include "lstm_linear_cuda.h"

namespace sensorseq::cuda {
namespace {

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

  Status status() const { return ToStatus(error_); }

 private:
  bool Ok() const { return error_ == cudaSuccess; }

  cudaStream_t stream_;
  cudaError_t error_ = cudaSuccess;
};

Status CheckShape(const LstmShape& s, const Options& options) {
  if (s.n_models < 0 || s.n_windows < 0 || s.n_timesteps < 0 || s.n_channels < 0 ||
      s.hidden_size < 1 || s.n_directions < 1 || s.n_directions > 2 || s.n_classes < 0 ||
      (s.n_x_models != 1 && s.n_x_models != s.n_models) ||
      (s.n_classes > 0 && s.pooling == Pooling::kNone)) {
    return Status::kInvalidShape;
  }
  return IsServed(s, options);
}

}  // namespace

Status IsServed(const LstmShape& s, const Options& options) {
  if (s.hidden_size > LargestHidden(options)) return Status::kNotServedHiddenSize;
  if (!options.is_projected && s.n_channels > kMaxChannels) return Status::kNotServedChannels;
  // limits of a grid and of 32-bit steps
  if (s.n_models * s.n_directions > 65535 || s.n_timesteps > INT32_MAX ||
      TileCount(s.n_windows) > INT32_MAX / 16) {
    return Status::kInvalidShape;
  }
  return Status::kOk;
}

int64_t SavedFloats(const LstmShape& shape, const Options&) { return SavedFloatsOf(shape); }

size_t forward_workspace_bytes(const LstmShape& shape, const Options& options) {
  ForwardSpace space;
  return CarveForward(shape, options, nullptr, &space);
}

size_t backward_workspace_bytes(const LstmShape& shape, const Options& options) {
  BackwardSpace space;
  return CarveBackward(shape, options, nullptr, &space);
}

Status lstm_forward(const LstmForward<float>& args, const Options& options) {
  const Status status = CheckShape(args.shape, options);
  if (status != Status::kOk) return status;
  StreamQueue queue(options.stream);
  QueueForward(queue, args, options);
  return queue.status();
}

Status lstm_backward(const LstmBackward<float>& args, const Options& options) {
  const Status status = CheckShape(args.shape, options);
  if (status != Status::kOk) return status;
  StreamQueue queue(options.stream);
  QueueBackward(queue, args, options);
  return queue.status();
}

}  // namespace sensorseq::cuda
