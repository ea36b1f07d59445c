// The contract's function: checks, and one graph of a step, launched for each of them.
#include <cuda_runtime.h>

#include "stream_queue.h"
#include "train_calls-inl.h"
#include "train_epoch_cuda.h"

namespace sensorseq::cuda {
namespace {

// One step as a graph. It is captured on a stream of its own: the caller's may be the default one,
// which cannot be.
class StepGraph {
 public:
  StepGraph(const TrainSpace& space, const Options& options) {
    cudaStream_t stream = nullptr;
    Keep(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (error_ != cudaSuccess) return;
    Keep(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    if (error_ == cudaSuccess) {
      StreamQueue queue(stream);
      QueueStep(queue, space, options);
      Keep(queue.error());
      cudaGraph_t graph = nullptr;
      Keep(cudaStreamEndCapture(stream, &graph));
      if (error_ == cudaSuccess) Keep(cudaGraphInstantiate(&exec_, graph, 0));
      if (graph != nullptr) Keep(cudaGraphDestroy(graph));
    }
    Keep(cudaStreamDestroy(stream));
  }
  // The driver keeps what is still to run.
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
  // a graph costs more than a step, and inside a caller's graph the steps are its own
  if (args.n_steps == 1 || capture != cudaStreamCaptureStatusNone) {
    for (int64_t step = 0; step < args.n_steps; ++step) QueueStep(queue, space, options);
    return queue.status();
  }
  if (queue.error() != cudaSuccess) return queue.status();
  StepGraph graph(space, options);
  cudaError_t error = cudaSuccess;
  for (int64_t step = 0; step < args.n_steps && error == cudaSuccess; ++step) {
    error = graph.Launch(stream);
  }
  return ToStatus(error);
}

}  // namespace sensorseq::cuda
