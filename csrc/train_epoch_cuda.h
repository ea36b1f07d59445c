// The contract of train_epoch.h on the GPU: the same struct, passed by value, with every array in
// it on the current device. Only float is supported. A call queues its steps on the stream and
// returns, so its results exist only once the stream has reached them; it can be captured in a
// graph.
//
// A step is a fixed sequence of kernels, which read the index of the step from the device, so that
// a call makes one CUDA graph and launches it for each step.
//
// Bits: as train_epoch.h promises, for the variant that serves H, C and T; results repeat bit for
// bit. They differ from the CPU's bits, because sums are taken in a different order and the
// gradient slots cover different windows.
//
// The caller checks rows, offsets, crops, classes and lengths while they are on the host: see
// CheckValues. Wrong values on the device turn the model's head to NaN, and nothing is read or
// written out of bounds.
#pragma once

#include <cstddef>

#include "lstm_linear_cuda.h"
#include "train_epoch.h"

namespace sensorseq::cuda {

// Whether the kernels can train the network: kOk, or the reason. A pure function.
Status IsServed(const TrainShape& shape, const Options& options);

size_t train_epoch_workspace_bytes(const TrainShape& shape, const Options& options);

// `running` and `parallel` are not read, and n_lanes is 1: all models train at the same time.
Status train_epoch(const TrainEpoch<float>& args, const Options& options);

}  // namespace sensorseq::cuda
