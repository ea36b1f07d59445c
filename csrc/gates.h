// Order of the four gates in every 4H block, as in torch; for host and device code.
#pragma once

#include <cstdint>

namespace sensorseq {

enum Gate : int { kInputGate = 0, kForgetGate = 1, kCellGate = 2, kOutputGate = 3 };
constexpr int kGates = 4;

// What the forward pass keeps for one direction, window and timestep: six rows of
// Padded(H) values. The first four are the activated gates in the order above.
enum SavedRow : int { kSavedCell = 4, kSavedHidden = 5 };
constexpr int kSavedRows = 6;

// Rows of saved state are padded to whole vectors of the widest instruction set.
constexpr std::int64_t kVectorPadding = 16;
constexpr std::int64_t Padded(std::int64_t size) {
  return (size + kVectorPadding - 1) / kVectorPadding * kVectorPadding;
}

}  // namespace sensorseq
