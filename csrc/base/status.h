// The status that a kernel returns instead of throwing, and a message for each value.
#pragma once

#include <cstdint>

namespace sensorseq {

enum class Status : int32_t {
  kOk = 0,
  kInvalidShape,         // a size is negative, or hidden_size or n_directions is out of range
  kLengthOutOfRange,     // an entry of lengths is below 0 or above n_timesteps
  kRowOutOfRange,        // a row of a batch or its crop is outside the data
  kClassOutOfRange,      // an entry of class_index is not in [0, n_classes)
  kOffsetsOutOfOrder,    // offsets decrease, exceed n_rows, or make a batch larger than max_batch
  kBatchTooSmall,        // batch norm needs a batch of more than one window
  kNotPacked,            // packed was not written by this version of lstm_pack
  kPackedOtherwise,      // packed contains weights of a different precision or size
  kPackedForOtherIsa,    // packed was written for an instruction set that is not in use
  kUnknownIsa,           // SENSORSEQ_CPU_ISA names no instruction set of this build
  kIsaNotSupported,      // SENSORSEQ_CPU_ISA names an instruction set that this processor lacks
  kNotServedHiddenSize,  // no CUDA kernel supports so many units in this precision
  kNotServedChannels,    // more channels than a CUDA kernel multiplies, and x is not projected
  kNotServed,            // no CUDA kernel of this build serves the shape
  kNoCluster,            // the GPU cannot run clusters as large as the kernel needs
  kCudaError,            // a CUDA call failed; cuda::ErrorText gives the reason
};

// A sentence without the final period, which the caller adds; never null.
inline const char* StatusText(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kInvalidShape:
      return "a size is out of range";
    case Status::kLengthOutOfRange:
      return "lengths holds a value outside 0..n_timesteps";
    case Status::kRowOutOfRange:
      return "rows or crop_starts hold a value outside the data";
    case Status::kClassOutOfRange:
      return "class_index holds a value outside 0..n_classes - 1";
    case Status::kOffsetsOutOfOrder:
      return "offsets must rise within rows, by at most max_batch windows a step";
    case Status::kBatchTooSmall:
      return "head_norm 'batch' needs two windows in every step";
    case Status::kNotPacked:
      return "packed holds no weights that lstm_pack of this version arranged";
    case Status::kPackedOtherwise:
      return "packed holds weights of another dtype or for other sizes; pack those of this layer";
    case Status::kPackedForOtherIsa:
      return "packed holds weights arranged for another instruction set; pack them again";
    case Status::kUnknownIsa:
      return "SENSORSEQ_CPU_ISA names no instruction set of this build";
    case Status::kIsaNotSupported:
      return "SENSORSEQ_CPU_ISA names an instruction set this processor lacks";
    case Status::kNotServedHiddenSize:
      return "no CUDA kernel of this precision holds so many units (hidden_size)";
    case Status::kNotServedChannels:
      return "x has more channels than the CUDA kernels multiply; project it first";
    case Status::kNotServed:
      return "no CUDA kernel of this build serves the shape";
    case Status::kNoCluster:
      return "this GPU cannot run clusters of as many blocks as the kernel of this hidden_size "
             "needs";
    case Status::kCudaError:
      return "a call of CUDA failed";
  }
  return "unknown status";
}

}  // namespace sensorseq
