// Ownership and layout: the lane, warp, CTA and rank of each hidden unit, gate and batch row, and
// the address of each word of the weights, of h and of saved state. Both the kernels and the
// emulator that tests them include this file, so nothing here depends on a GPU.
//
// A tile has 8 batch rows, a group has 8 hidden units, and lane 4 g + q has the numbers g (0..7)
// and q (0..3). Fragments are those of mma.m16n8k16 in the PTX manual:
//
//   A  word 0: row g,     k 2q, 2q+1      word 1: row g + 8, the same k
//      word 2: row g,     k 2q+8, 2q+9    word 3: row g + 8, the same k
//   B  word 0: k 2q, 2q+1, column g       word 1: k 2q+8, 2q+9, column g
//   C  value 0, 1: row g, columns 2q, 2q+1        value 2, 3: row g + 8, the same columns
//
// The columns of B and C are batch rows. The rows of a group's two A tiles are (i of the 8 units, f
// of the 8 units) and (g, o). A lane therefore gets all four gates of unit g for batch rows 2q and
// 2q+1, and updates its two cells without values of other lanes.
//
// The functions accept integers and vectors of one integer per lane.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"
#include "lstm/gates.h"

namespace sensorseq::cuda {

constexpr int kLanes = 32;
constexpr int kTileRows = 8;
constexpr int kGroupUnits = 8;
constexpr int kTileWords = 4;        // number of words of a lane in an A fragment
constexpr int kFragmentBytes = 512;  // 32 lanes of four words
constexpr int kMatrixBytes = 128;    // 8 x 8 halves: one group's h, or one gate of a group
constexpr int kGroupsPerKStep = 2;   // the 16 k of a forward k-step: two groups of units
constexpr int kKStepsPerGroup = 2;   // a group's four gates: the 32 k of two backward k-steps
// The maximum shared memory per CTA on compute capability 9.0.
constexpr uint32_t kMaxSharedBytes = 227 * 1024;
constexpr int kMostInputBlock = 8;  // steps
constexpr int kMinHidden = 64;
constexpr int kMaxHidden = 256;

// The factors of the products are halves. The factors are scaled by powers of two, so that the
// second half of a weight or a state, which is the remainder after the first half, is a normal
// number. |w| up to 4094 and |h| up to 255 (for initial states and states divided by 1 - dropout)
// are in range. Values beyond this range become NaN.
constexpr float kWeightScale = 16.0f;
constexpr float kStateScale = 256.0f;
constexpr float kForwardUnscale = 1.0f / (kWeightScale * kStateScale);
constexpr float kHalfLimit = 65504.0f;
// An MMA truncates its sum, which loses 0.36 * 2^-23 of the sum on average. One multiply-add
// compensates for the loss.
constexpr float kTruncation = 4.3e-8f;

// The number of units of the smallest kernel with room for H hidden units, or 0 if none has room.
SENSORSEQ_HD constexpr int PaddedHidden(int64_t hidden_size) {
  int padded = kMinHidden;
  while (padded < hidden_size && padded < kMaxHidden) padded *= 2;
  return hidden_size < 1 || padded < hidden_size ? 0 : padded;
}

// The number of CTAs for a layer of `hidden` (padded) units. `planes` is the number of halves per
// factor, 2 for fp16x3.
SENSORSEQ_HD constexpr int CtaCount(int planes, int hidden) {
  return hidden <= 64 ? 1 : hidden == 128 ? 2 : 4 * planes;
}

// How the forward pass distributes a layer over CTAs and warps.
template <int kPlanes_, int kHidden_>
struct ForwardVariant {
  static constexpr int kPlanes = kPlanes_, kHidden = kHidden_;
  static constexpr int kCtas = CtaCount(kPlanes, kHidden);
  static constexpr int kUnits = kHidden / kCtas;       // of a CTA
  static constexpr int kWarps = kUnits / kGroupUnits;  // a group each
  static constexpr int kThreads = kWarps * kLanes;
  static constexpr int kKSteps = kHidden / 16;
  // Fragments of a warp, in the order (plane, k-step, tile); those that do not fit into registers
  // are read from shared memory in every step.
  static constexpr int kFragments = kPlanes * kKSteps * 2;
  // The largest number of fragments in registers with which the kernel compiles without a spill.
  static constexpr int kMost = kPlanes == 1 ? 32 : 28;
  static constexpr int kInRegisters = kFragments < kMost ? kFragments : kMost;
  static constexpr int kInShared = kFragments - kInRegisters;
  // The number of steps of input that a warp stores and multiplies together. The number is smaller
  // if the weights need much shared memory, so that two CTAs fit on one multiprocessor (with up to
  // 7 channels).
  static constexpr int kInputBlock =
      kWarps * kInShared * kFragmentBytes > kMaxSharedBytes / 4 ? 4 : kMostInputBlock;
};

// How the backward pass distributes a layer, as numbers that packing needs at run time.
struct BackwardSpread {
  int groups;           // of a CTA
  int groups_per_warp;  // 2 without a cluster (the 16 units of one A tile), otherwise 1
  int warps, tiles_per_warp;
  int k_steps;    // number of k-steps over the CTA's own gates
  int fragments;  // fragments of a warp, in the order (plane, tile, k-step)
  SENSORSEQ_HD constexpr BackwardSpread(int planes, int hidden)
      : groups(hidden / CtaCount(planes, hidden) / kGroupUnits),
        groups_per_warp(CtaCount(planes, hidden) == 1 ? 2 : 1),
        warps(groups / groups_per_warp),
        tiles_per_warp(hidden / 16 / warps),
        k_steps(groups * kKStepsPerGroup),
        fragments(planes * tiles_per_warp * k_steps) {}
};

template <int kPlanes_, int kHidden_>
struct BackwardVariant {
  static constexpr int kPlanes = kPlanes_, kHidden = kHidden_;
  static constexpr BackwardSpread kSpread{kPlanes, kHidden};
  static constexpr int kCtas = CtaCount(kPlanes, kHidden), kUnits = kHidden / kCtas;
  static constexpr int kGroups = kSpread.groups, kGroupsPerWarp = kSpread.groups_per_warp;
  static constexpr int kWarps = kSpread.warps, kThreads = kWarps * kLanes;
  static constexpr int kTilesPerWarp = kSpread.tiles_per_warp, kKSteps = kSpread.k_steps;
  static constexpr int kFragments = kSpread.fragments;
  // The largest number of fragments in registers with which the kernel compiles without a spill.
  static constexpr int kMost = kTilesPerWarp >= 4 ? 19 : 24;
  static constexpr int kInRegisters = kFragments < kMost ? kFragments : kMost;
  static constexpr int kInShared = kFragments - kInRegisters;
};

// The portable kernels. A CTA has all units of one window in one direction, and a unit belongs to
// four adjacent lanes: lane 4 g + q of warp w has gate q of unit 8 w + g.
template <int kHidden_>
struct PortableVariant {
  static constexpr int kHidden = kHidden_, kCtas = 1;
  static constexpr int kWarps = kHidden / kGroupUnits, kThreads = kWarps * kLanes;
  static constexpr int kQuads = kHidden / 16;  // per gate: a lane has every fourth quad of units
};
constexpr int kMaxPortableHidden = 96;

// The saved state of the portable kernels, for one model, direction and window. Each step and unit
// has eight floats: the four gates, c after the step, h as multiplied by weight_hh in the step,
// tanh c, and one that is not used. The backward pass writes gradients in place of the gates. After
// all steps, the state contains the step of each unit's maximum.
constexpr int kUnitFloats = 8, kUnitCell = 4, kUnitState = 5, kUnitTanh = 6;
SENSORSEQ_HD constexpr int64_t PortableStepFloats(int hidden) {
  return int64_t{hidden} * kUnitFloats;
}
SENSORSEQ_HD constexpr int64_t PortableWindowFloats(int64_t n_timesteps, int hidden) {
  return n_timesteps * PortableStepFloats(hidden) + hidden;
}

// The number of units of the smallest portable kernel with room for H hidden units, or 0 if none
// has room.
SENSORSEQ_HD constexpr int PortableHidden(int64_t hidden_size) {
  return hidden_size < 1 || hidden_size > kMaxPortableHidden
             ? 0
             : static_cast<int>((hidden_size + 31) / 32 * 32);
}

// Returns k such that 2^k times the number with these bits is in [2^exponent, 2^(exponent + 1)).
// The result is at most 100, and 0 for zero and subnormal numbers. Non-finite numbers stay
// non-finite at any scale.
SENSORSEQ_HD constexpr int ScaleExponent(uint32_t bits, int exponent) {
  const int biased = static_cast<int>((bits >> 23) & 255u);
  if (biased == 0) return 0;
  const int scale = exponent + 127 - biased;
  return scale > 100 ? 100 : scale;
}

// The unit and rows of a lane.
template <typename T>
SENSORSEQ_HD constexpr T UnitOfLane(T lane) {  // within the group
  return lane >> 2;
}
template <typename T>
SENSORSEQ_HD constexpr T RowOfLane(T lane) {  // the first of the lane's two rows, within the tile
  return (lane & 3) << 1;
}

// The row and k of half `half` of word `word` of a lane's A fragment.
template <typename T>
SENSORSEQ_HD constexpr T FragmentRow(T lane, int word) {  // 0..15
  return (lane >> 2) + (word & 1) * 8;
}
template <typename T>
SENSORSEQ_HD constexpr T FragmentK(T lane, int word, int half) {  // 0..15
  return ((lane & 3) << 1) + (word >> 1) * 8 + half;
}

// In the forward pass, row `row` of A tile `tile` of a group is one gate of one unit of the group.
SENSORSEQ_HD constexpr int GateOfTileRow(int tile, int row) { return tile * 2 + row / 8; }
// The gate of a word of a lane's fragment, whose row is g or g + 8.
SENSORSEQ_HD constexpr int GateOfWord(int tile, int word) { return tile * 2 + (word & 1); }

// In the backward pass, k runs over (group, gate, unit), so k-step 2 * group + j covers gates 2 j
// and 2 j + 1.
SENSORSEQ_HD constexpr int GroupOfKStep(int k_step) { return k_step / kKStepsPerGroup; }
SENSORSEQ_HD constexpr int GateOfKStep(int k_step, int word) {
  return (k_step % kKStepsPerGroup) * 2 + (word >> 1);
}

// A warp's products cover 2 kTilesPerWarp groups of the layer. FirstOwner is the CTA that owns the
// first of these groups.
template <typename V>
SENSORSEQ_HD constexpr int FirstOwner(int warp) {
  return warp * 2 * V::kTilesPerWarp / V::kGroups;
}
template <typename V>
SENSORSEQ_HD constexpr int FirstGroupSent(int warp) {  // within its owner
  return warp * 2 * V::kTilesPerWarp % V::kGroups;
}
constexpr uint32_t kPartialBytes = kLanes * 8;  // partial sums of a group: two rows per lane

// Index of a fragment in the packed weights of one model and direction.
template <typename V>
SENSORSEQ_HD constexpr int64_t ForwardFragment(int group, int fragment) {
  return int64_t{group} * V::kFragments + fragment;
}
// Index among a warp's fragments, which are in the order (plane, k-step, tile).
template <typename V>
SENSORSEQ_HD constexpr int ForwardIndex(int plane, int k_step, int tile) {
  return (plane * V::kKSteps + k_step) * 2 + tile;
}
template <typename V>
SENSORSEQ_HD constexpr int64_t BackwardFragment(int rank, int warp, int fragment) {
  return (int64_t{rank} * V::kWarps + warp) * V::kFragments + fragment;
}
template <typename V>
SENSORSEQ_HD constexpr int BackwardIndex(int plane, int tile, int k_step) {
  return (plane * V::kTilesPerWarp + tile) * V::kKSteps + k_step;
}
SENSORSEQ_HD constexpr int64_t PackedFragments(int planes, int hidden) {
  return int64_t{planes} * (hidden / 8) * (hidden / 16) * 2;  // the same in both passes
}

// The number of floats of a group's input weights and bias, [C + 1][8 units][4 gates] with the bias
// last.
SENSORSEQ_HD constexpr int64_t InputWeightFloats(int64_t n_channels) {
  return (n_channels + 1) * kGroupUnits * kGates;
}

// A warp's x in shared memory is a block of steps, [row][channel][step]. Rows are an odd multiple
// of four words apart, so that lanes of different rows read different banks.
SENSORSEQ_HD constexpr int InputRowFloats(int block, int n_channels) {
  return (block * n_channels / 4 | 1) * 4;
}
// For each step, the input's contribution to a warp's gates is stored as [first or second row of
// the lane][lane][4 gates].
constexpr uint32_t kRingSlotBytes = 2 * kFragmentBytes;

// Shared memory begins with the barriers.
constexpr uint32_t kBarriers = 0, kBarriersEnd = kMatrixBytes;

// h in shared memory: per plane, 8 x 8 matrices [group][row][unit] of halves, which ldmatrix reads
// as B fragments and stmatrix.trans writes from a lane's pair of rows.
SENSORSEQ_HD constexpr uint32_t StateMatrix(int hidden, int planes, int buffer, int plane,
                                            int group) {
  return static_cast<uint32_t>(((buffer * planes + plane) * (hidden / kGroupUnits) + group) *
                               kMatrixBytes);
}
SENSORSEQ_HD constexpr uint32_t StateBytes(int hidden, int planes) {
  return static_cast<uint32_t>(2 * planes * (hidden / kGroupUnits) * kMatrixBytes);
}
// Gate gradients are stored like h, as matrices [row][unit] for each [group of the CTA][gate].
SENSORSEQ_HD constexpr uint32_t GradMatrix(int groups, int planes, int buffer, int plane, int group,
                                           int gate) {
  return static_cast<uint32_t>((((buffer * planes + plane) * groups + group) * kGates + gate) *
                               kMatrixBytes);
}
SENSORSEQ_HD constexpr uint32_t GradBytes(int groups, int planes) {
  return static_cast<uint32_t>(2 * planes * groups * kGates * kMatrixBytes);
}
// The byte offset, in a group's matrix, of the two units of one row that a lane has after
// movmatrix.
template <typename T>
SENSORSEQ_HD constexpr T WordOfMatrix(T lane) {
  return lane * 4;
}

// Each buffer of h or of partial sums has a barrier. The next functions return the number of bytes
// that arrive in one step, and the parity of the phase that step `step` (at least 1) waits for.
// Step t reads what was sent in step t - 1.
template <typename V>
SENSORSEQ_HD constexpr uint32_t StateArrivals() {  // from the other CTAs
  return static_cast<uint32_t>((V::kHidden - V::kUnits) * kTileRows * 2 * V::kPlanes);
}
template <typename V>
SENSORSEQ_HD constexpr uint32_t PartialArrivals() {  // from all CTAs, including this one
  return static_cast<uint32_t>(V::kCtas * V::kUnits * kTileRows * 4);
}
SENSORSEQ_HD constexpr uint32_t Parity(int step) {
  return static_cast<uint32_t>(((step - 1) >> 1) & 1);
}

// The saved state of one model, direction and tile has a block for every step and group. The block
// contains the gates, c after the step, and h before the step as words of two halves, one word per
// plane. The backward pass writes gradients in place of the gates. After all blocks, the state
// contains the step of each cell's maximum, [group][lane][2]. Each block has three parts with four
// floats of each lane side by side, for the lane's two rows:
//   i0 i1 f0 f1    g0 g1 o0 o1    c0 c1 h h
constexpr int kSavedWords = 12;
constexpr int kSavedPart = kLanes * 4;
constexpr int kSavedLate = kSavedPart, kSavedCell = 2 * kSavedPart;
SENSORSEQ_HD constexpr int64_t SavedStepFloats(int hidden) {
  return int64_t{hidden} / kGroupUnits * kLanes * kSavedWords;
}
SENSORSEQ_HD constexpr int64_t SavedTileFloats(int64_t n_timesteps, int hidden) {
  return n_timesteps * SavedStepFloats(hidden) + int64_t{hidden} / kGroupUnits * kLanes * 2;
}
// The offset of a lane's values of a group from the start of a step.
template <typename T>
SENSORSEQ_HD constexpr T SavedOfLane(T lane, int group) {
  return lane * 4 + group * (kLanes * kSavedWords);
}
// The offset of a lane's values from the start of the tile's last part.
template <typename T>
SENSORSEQ_HD constexpr T ArgmaxOfLane(T lane, int group) {
  return lane * 2 + group * (kLanes * 2);
}

SENSORSEQ_HD constexpr int64_t TileCount(int64_t n_windows) {
  return (n_windows + kTileRows - 1) / kTileRows;
}

// Weight gradients are summed in slots. A slot is a range of tiles and, if there are many steps, a
// range of each tile's steps. The slots depend only on N and T.
constexpr int kMaxTileSlots = 8;
constexpr int kMaxTimeSlots = 8;
constexpr int64_t kTimeSlotSteps = 16;
SENSORSEQ_HD constexpr int64_t TileSlots(int64_t n_windows) {
  const int64_t n = TileCount(n_windows);
  return n < 1 ? 1 : (n < kMaxTileSlots ? n : kMaxTileSlots);
}
SENSORSEQ_HD constexpr int64_t TimeSlots(int64_t n_timesteps) {
  const int64_t n = n_timesteps / kTimeSlotSteps;
  return n < 1 ? 1 : (n < kMaxTimeSlots ? n : kMaxTimeSlots);
}
SENSORSEQ_HD constexpr int64_t SlotBegin(int64_t slot, int64_t n_slots, int64_t n) {
  return slot * n / n_slots;
}
// Like SlotBegin, but in pairs of steps, because the 16 k of a product are two steps of 8 rows.
SENSORSEQ_HD constexpr int64_t TimeSlotBegin(int64_t slot, int64_t n_slots, int64_t n_timesteps) {
  return slot * ((n_timesteps + 1) / 2) / n_slots * 2;
}

}  // namespace sensorseq::cuda
