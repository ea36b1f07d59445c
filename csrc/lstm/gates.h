// The order of the four gates in every 4H block, as in torch, for host and device code.
#pragma once

#include <cstdint>

namespace sensorseq {

enum Gate : int { kInputGate = 0, kForgetGate = 1, kCellGate = 2, kOutputGate = 3 };
constexpr int kGates = 4;

// The values that the forward pass saves for each unit, direction, window and timestep: the four
// activated gates in the order above, then the cell and the hidden state.
enum SavedValue : int { kSavedCell = 4, kSavedHidden = 5 };
constexpr int kSavedValues = 6;

// Rows of saved state are padded to full vectors of the widest instruction set.
constexpr std::int64_t kVectorPadding = 16;
constexpr std::int64_t Padded(std::int64_t size) {
  return (size + kVectorPadding - 1) / kVectorPadding * kVectorPadding;
}

// The number of rows of saved state of one direction and window: one row per value and timestep,
// and one row with the timestep of each unit's maximum.
constexpr std::int64_t SavedRows(std::int64_t n_timesteps) {
  return n_timesteps * kSavedValues + 1;
}

}  // namespace sensorseq
