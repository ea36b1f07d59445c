// The contract of train_epoch.h on the GPU: the same struct by value, every array in it on the
// device that is current. float only. A call queues its steps on the stream and returns, so that
// what it leaves is there only once the stream has come so far; it can be captured in a graph.
//
// A step is a fixed sequence of kernels: they read the index of the step from the device, so that
// one CUDA graph is made in a call and launched for each of its steps.
//
// Bits: as train_epoch.h promises, for the variant that serves H, C and T; and the same twice.
// Other bits than the CPU's: sums go in another order, and gradients in slots of other windows.
//
// Rows, offsets, crops, classes and lengths are checked by whoever has them on the host: see
// CheckValues. What is wrong on the device turns the model's head to NaN, and nothing is read or
// written out of bounds.
#pragma once

#include <cstddef>

#include "lstm_linear_cuda.h"
#include "train_epoch.h"

namespace sensorseq::cuda {

// Whether the kernels train such a network; kOk, or why not. Pure.
Status IsServed(const TrainShape& shape, const Options& options);

size_t train_epoch_workspace_bytes(const TrainShape& shape, const Options& options);

// `running` and `parallel` are not read, and n_lanes is 1: all models train at a time.
Status train_epoch(const TrainEpoch<float>& args, const Options& options);

}  // namespace sensorseq::cuda
