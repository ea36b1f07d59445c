// The interface of train_epoch.h for GPUs. The struct is the same and is passed by value, but all
// its arrays are on the current device. Only float is supported. A call queues its steps on the
// stream and returns, so its results exist only after the stream has executed the steps. A call can
// be captured in a graph.
//
// A step is a fixed sequence of kernels that read the index of the step from the device, so a call
// can make one CUDA graph and launch it for each step.
//
// Bits: results are exactly reproducible. The guarantees of train_epoch.h hold within one kernel
// variant, which is determined by H, C and T. The bits differ from those on the CPU, because sums
// are taken in a different order and the gradient slots cover different windows.
//
// The caller checks rows, offsets, crops, classes and lengths while they are on the host; see
// CheckValues. Wrong values on the device turn the model's head into NaN, but nothing is read or
// written out of bounds.
#pragma once

#include <cstddef>

#include "lstm/lstm_linear_cuda.h"
#include "lstm/train_epoch.h"

namespace sensorseq::cuda {

// Returns kOk if the kernels can train the network, and otherwise the reason why they cannot. A
// pure function.
Status IsServed(const TrainShape& shape, const Options& options);

size_t train_epoch_workspace_bytes(const TrainShape& shape, const Options& options);

// `running` and `parallel` are not read. n_lanes has no effect, because all models train at the
// same time.
Status train_epoch(const TrainEpoch<float>& args, const Options& options);

}  // namespace sensorseq::cuda
