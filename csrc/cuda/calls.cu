// Implements lstm_linear_cuda.h and train_epoch_cuda.h: checks the arguments and queues the kernels
// on the caller's stream. If a call has more than a few training steps, one step is captured as a
// graph, which is launched for each step after the first.
#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/calls.h"
#include "cuda/launch.h"
#include "cuda/train_calls.h"
#include "lstm/lstm_linear_cuda.h"
#include "lstm/train_epoch_cuda.h"

namespace sensorseq::cuda {
namespace {

// Launches kernels on a stream. Keeps the first error and launches no kernel after it.
class StreamQueue {
 public:
  explicit StreamQueue(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {}

  template <typename T>
  void Zero(T* data, int64_t n) {
    if (Ok() && n > 0)
      error_ = cudaMemsetAsync(data, 0, static_cast<size_t>(n) * sizeof(T), stream_);
  }
  template <int kHidden, typename Params>
  void RunPortable(const Params& p) {
    if (Ok()) error_ = LaunchPortable<kHidden>(p, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunForward(const ForwardParams& p) {
    if (Ok()) error_ = LaunchForward<kPlanes, kHidden>(p, stream_);
  }
  template <int kPlanes, int kHidden>
  void RunBackward(const BackwardParams& p) {
    if (Ok()) error_ = LaunchBackward<kPlanes, kHidden>(p, stream_);
  }
  template <typename Body>
  void RunTasks(const typename Body::Params& p) {
    if (Ok()) error_ = LaunchTasks<Body>(p, stream_);
  }
  template <typename Body>
  void RunSlots(const typename Body::Params& p) {
    if (Ok()) error_ = LaunchSlots<Body>(p, stream_);
  }

  cudaError_t error() const { return error_; }
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

constexpr int64_t kDirectSteps = 4;  // calls with more steps make a graph

// One step as a graph. The graph is captured on a stream of its own, because the caller's stream
// may be the default stream, which cannot be captured.
class StepGraph {
 public:
  StepGraph(const TrainSpace& space, const Options& options) {
    cudaStream_t stream = nullptr;
    Keep(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (error_ != cudaSuccess) return;
    Keep(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    if (error_ == cudaSuccess) {
      StreamQueue queue(stream);
      const Status status = QueueStep(queue, space, options);
      Keep(status == Status::kOk ? queue.error() : cudaErrorInvalidValue);
      cudaGraph_t graph = nullptr;
      Keep(cudaStreamEndCapture(stream, &graph));
      if (error_ == cudaSuccess) Keep(cudaGraphInstantiate(&exec_, graph, 0));
      if (graph != nullptr) Keep(cudaGraphDestroy(graph));
    }
    Keep(cudaStreamDestroy(stream));
  }
  // Launches that are still queued run even after the graph has been destroyed.
  ~StepGraph() {
    if (exec_ != nullptr) (void)cudaGraphExecDestroy(exec_);
  }
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  cudaError_t Launch(cudaStream_t stream) {
    if (error_ == cudaSuccess) Keep(cudaGraphLaunch(exec_, stream));
    return error_;
  }

 private:
  void Keep(cudaError_t code) {
    if (error_ == cudaSuccess) error_ = code;
  }

  cudaGraphExec_t exec_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

}  // namespace

Status IsServed(const LstmShape& s, const Options& options) {
  const int64_t most = IsPortable(options) ? kMaxPortableHidden : kMaxHidden;
  if (s.hidden_size > most) return Status::kNotServedHiddenSize;
  if (!options.is_projected && s.n_channels > kMaxChannels) return Status::kNotServedChannels;
  // The limits are those of a grid's dimensions and of 32-bit step numbers, which run up to one
  // input block beyond the last step.
  if (s.n_models * s.n_directions > 65535 || s.n_timesteps > INT32_MAX - kMostInputBlock ||
      TileCount(s.n_windows) > INT32_MAX / 16) {
    return Status::kInvalidShape;
  }
  return Status::kOk;
}

int64_t SavedFloats(const LstmShape& shape, const Options& options) {
  return SavedFloatsOf(shape, options);
}

size_t forward_workspace_bytes(const LstmShape& shape, const Options& options) {
  ForwardSpace space;
  return CarveForward(shape, options, nullptr, &space);
}

size_t backward_workspace_bytes(const LstmShape& shape, const Options& options) {
  BackwardSpace space;
  return CarveBackward(shape, options, nullptr, &space);
}

template <typename Real>
Status lstm_forward(const LstmForward<Real>& args, const Options& options) {
  const Status status = CheckShape(args.shape, options);
  if (status != Status::kOk) return status;
  StreamQueue queue(options.stream);
  if (!std::is_same_v<Real, float> && (!IsPortable(options) || args.saved != nullptr)) {
    return Status::kNotServed;
  }
  const Status queued = QueueForward(queue, args, options);
  return queued == Status::kOk ? queue.status() : queued;
}
template Status lstm_forward(const LstmForward<float>&, const Options&);
template Status lstm_forward(const LstmForward<Float16>&, const Options&);
template Status lstm_forward(const LstmForward<Bfloat16>&, const Options&);

Status lstm_backward(const LstmBackward<float>& args, const Options& options) {
  const Status status = CheckShape(args.shape, options);
  if (status != Status::kOk) return status;
  StreamQueue queue(options.stream);
  const Status queued = QueueBackward(queue, args, options);
  return queued == Status::kOk ? queue.status() : queued;
}

Status IsServed(const TrainShape& shape, const Options& options) {
  if (shape.n_layers != 1 || shape.head_norm != HeadNorm::kNone || options.is_projected) {
    return Status::kNotServed;
  }
  return IsServed(LayerShape(shape), options);
}

size_t train_epoch_workspace_bytes(const TrainShape& shape, const Options& options) {
  TrainEpoch<float> args{};
  args.shape = shape;
  TrainSpace space;
  return CarveTrain(args, options, nullptr, &space);
}

Status train_epoch(const TrainEpoch<float>& args, const Options& options) {
  Status status = CheckSizes(args);
  if (status == Status::kOk) status = IsServed(args.shape, options);
  if (status != Status::kOk || args.n_steps == 0) return status;
  TrainSpace space;
  CarveTrain(args, options, args.workspace, &space);
  StreamQueue queue(options.stream);
  QueueStart(queue, space);
  const auto stream = static_cast<cudaStream_t>(options.stream);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  if (queue.error() == cudaSuccess) {
    const cudaError_t error = cudaStreamIsCapturing(stream, &capture);
    if (error != cudaSuccess) return ToStatus(error);
  }
  // Making a graph costs as much as several steps. If the caller is capturing a graph, the steps
  // become part of that graph.
  const bool has_graph = args.n_steps > kDirectSteps && capture == cudaStreamCaptureStatusNone;
  // The first step is never part of the graph, because it loads the kernels, which a capture may
  // not allow.
  const int64_t n_direct = has_graph ? 1 : args.n_steps;
  for (int64_t step = 0; step < n_direct; ++step) {
    status = QueueStep(queue, space, options);
    if (status != Status::kOk) return status;
  }
  cudaError_t error = queue.error();
  if (error != cudaSuccess || !has_graph) return ToStatus(error);
  StepGraph graph(space, options);
  for (int64_t step = n_direct; step < args.n_steps && error == cudaSuccess; ++step) {
    error = graph.Launch(stream);
  }
  return ToStatus(error);
}

}  // namespace sensorseq::cuda
