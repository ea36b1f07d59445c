// Checks which kernels csrc/cuda/calls.h and train_calls.h queue: one for each hidden size up to
// the largest, and none for a size that no kernel has, which is an error.
#include <string>
#include <vector>

#include "cuda/calls.h"
#include "cuda/train_calls.h"
#include "harness.h"

namespace {

using harness::Check;
using sensorseq::LstmBackward;
using sensorseq::LstmForward;
using sensorseq::Status;
namespace cuda = sensorseq::cuda;

// Records the hidden sizes of the recurrent kernels that a call queues.
struct Recorder {
  std::vector<int> hidden_sizes;

  template <typename T>
  void Zero(T*, int64_t) {}
  template <int kHidden, typename Params>
  void RunPortable(const Params&) {
    hidden_sizes.push_back(kHidden);
  }
  template <int kPlanes, int kHidden>
  void RunForward(const cuda::ForwardParams&) {
    hidden_sizes.push_back(kHidden);
  }
  template <int kPlanes, int kHidden>
  void RunBackward(const cuda::BackwardParams&) {
    hidden_sizes.push_back(kHidden);
  }
  template <typename Body>
  void RunTasks(const typename Body::Params&) {}
  template <typename Body>
  void RunSlots(const typename Body::Params&) {}
};

// Checks that a call with `hidden_size` units queues kernels for `padded` units, as many as the
// call has passes, or that the call returns an error and queues none if `padded` is 0.
template <typename Queue>
void CheckQueued(const std::string& what, int padded, size_t n_passes, Queue queue) {
  Recorder recorder;
  const Status status = queue(recorder);
  Check(status == (padded == 0 ? Status::kNotServedHiddenSize : Status::kOk), what + ": status");
  const std::vector<int> expected(padded == 0 ? 0 : n_passes, padded);
  Check(recorder.hidden_sizes == expected, what + ": kernels");
}

void CheckSize(cuda::Precision precision, int64_t hidden_size, int padded) {
  cuda::Options options;
  options.precision = precision;
  LstmForward<float> forward{};
  forward.shape.n_windows = forward.shape.n_timesteps = forward.shape.n_channels = 1;
  forward.shape.hidden_size = hidden_size;
  LstmBackward<float> backward{};
  backward.shape = forward.shape;
  cuda::TrainSpace space{};
  space.params.sizes = cuda::SizesOf(forward.shape, options);

  const std::string what = "precision " + std::to_string(static_cast<int>(precision)) + ", " +
                           std::to_string(hidden_size) + " units, ";
  CheckQueued(what + "forward", padded, 1,
              [&](Recorder& queue) { return cuda::QueueForward(queue, forward, options); });
  CheckQueued(what + "backward", padded, 1,
              [&](Recorder& queue) { return cuda::QueueBackward(queue, backward, options); });
  CheckQueued(what + "step", padded, 2,
              [&](Recorder& queue) { return cuda::QueueStep(queue, space, options); });
}

}  // namespace

int main() {
  for (const auto precision : {cuda::Precision::kFp16, cuda::Precision::kFp16x3}) {
    CheckSize(precision, 1, 64);
    CheckSize(precision, 65, 128);
    CheckSize(precision, 256, 256);
    CheckSize(precision, 257, 0);
  }
  CheckSize(cuda::Precision::kFp32, 1, 32);
  CheckSize(cuda::Precision::kFp32, 33, 64);
  CheckSize(cuda::Precision::kFp32, 96, 96);
  CheckSize(cuda::Precision::kFp32, 97, 0);
  return harness::Finish();
}
