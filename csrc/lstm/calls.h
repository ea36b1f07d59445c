// Helpers that every binding needs to call the functions of lstm_linear.h: they check sizes,
// provide the workspace and decide whether a call uses several threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/cache_lines.h"
#include "base/status.h"
#include "lstm/gates.h"
#include "lstm/lstm_linear.h"

namespace sensorseq {

// Returns a description of the problem if n_windows or n_timesteps is negative, or if the saved
// state and the workspace need more bytes than 64 bits can count; otherwise returns an empty
// string. If there are no channels and no models, the other sizes are not limited. `n_layers`
// counts the layers of all models.
inline std::string CountProblem(int64_t n_windows, int64_t n_timesteps, int64_t n_channels,
                                int64_t hidden_size, double n_layers) {
  if (n_windows < 0 || n_timesteps < 0) {
    return std::string("sensorseq: ") + StatusText(Status::kInvalidShape) + ".";
  }
  const double H = static_cast<double>(hidden_size);
  const double width = n_layers * (H + kVectorPadding) + n_channels;
  const double n_saved = (n_windows + 64.0) * (n_timesteps + 1.0) * kSavedValues;
  if ((n_saved + 256.0 * H) * width < 0x1p59) return "";
  return "sensorseq: " + std::to_string(n_windows) + " windows of " + std::to_string(n_timesteps) +
         " steps with hidden_size " + std::to_string(hidden_size) +
         " need more bytes than 64 bits can count; use fewer or shorter windows.";
}

// Whether a call runs only on the calling thread. True if the call has too little work to justify
// waking other threads.
inline bool IsSerial(const LstmShape& s) {
  constexpr int64_t kSerialWork = 1 << 16;  // multiplications
  const int64_t work = s.n_models * s.n_directions * s.n_windows * s.n_timesteps * s.hidden_size *
                       (s.hidden_size + s.n_channels);
  return work < kSerialWork;
}

// Memory of the calling thread, enlarged on demand and kept for the next call, because at training
// sizes the page faults of a fresh block cost as much as the arithmetic. Returns null if memory is
// exhausted.
inline void* ThreadWorkspace(size_t bytes) {
  thread_local std::unique_ptr<void, FreeLines> block;
  thread_local size_t size = 0;
  if (bytes > size) {
    block.reset();  // frees the old block before the new one is allocated
    size = 0;
    block.reset(AllocateLines(bytes));
    if (block != nullptr) size = bytes;
  }
  return block.get();
}

}  // namespace sensorseq
