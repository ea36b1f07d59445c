// What a kernel reports instead of throwing, and the sentence for each value.
#pragma once

#include <cstdint>

namespace sensorseq {

enum class Status : int32_t {
  kOk = 0,
  kInvalidShape,      // a size is negative, or hidden_size or n_directions is out of range
  kLengthOutOfRange,  // an entry of lengths is below 0 or above n_timesteps
  kUnknownIsa,        // SENSORSEQ_CPU_ISA names no instruction set of this build
  kIsaNotSupported,   // SENSORSEQ_CPU_ISA names one that this processor lacks
};

// A sentence without a full stop, for the layer above to complete; never null.
inline const char* StatusText(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kInvalidShape:
      return "a size is out of range";
    case Status::kLengthOutOfRange:
      return "lengths holds a value outside 0..n_timesteps";
    case Status::kUnknownIsa:
      return "SENSORSEQ_CPU_ISA names no instruction set of this build";
    case Status::kIsaNotSupported:
      return "SENSORSEQ_CPU_ISA names an instruction set this processor lacks";
  }
  return "unknown status";
}

}  // namespace sensorseq
