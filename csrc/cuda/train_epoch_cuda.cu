// The contract's function: checks, and one graph of a step, launched for each of them.
#include <cuda_runtime.h>

#include "stream_queue.h"
#include "train_calls-inl.h"
#include "train_epoch_cuda.h"

namespace sensorseq::cuda {
namespace {

constexpr int64_t kDirectSteps = 4;  // of a call that makes no graph

// One step as a graph. It is captured on a stream of its own: the caller's may be the default one,
// which cannot be.
class StepGraph {
 public:
  StepGraph(const TrainSpace& space, const Options& options) {
    cudaStream_t stream = nullptr;
    Keep(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (error_ != cudaSuccess) return;
    Keep(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
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
  // a graph costs some steps, and inside a caller's graph the steps are its own
  const bool has_graph = args.n_steps > kDirectSteps && capture == cudaStreamCaptureStatusNone;
  // the first step never comes from a graph: it loads the kernels, which a capture might not bear
  const int64_t n_direct = has_graph ? 1 : args.n_steps;
  for (int64_t step = 0; step < n_direct; ++step) QueueStep(queue, space, options);
  cudaError_t error = queue.error();
  if (error != cudaSuccess || !has_graph) return ToStatus(error);
  StepGraph graph(space, options);
  for (int64_t step = n_direct; step < args.n_steps && error == cudaSuccess; ++step) {
    error = graph.Launch(stream);
  }
  return ToStatus(error);
}

}  // namespace sensorseq::cuda
