// The contract's functions: checks, and the calls queued on the caller's stream.
#include <cuda_runtime.h>

#include "calls-inl.h"
#include "lstm_linear_cuda.h"
#include "stream_queue.h"

namespace sensorseq::cuda {
namespace {

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
