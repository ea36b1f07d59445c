// The CPU kernels of an instruction set, and the way their tasks run.
#pragma once

#include "base/host_device.h"
#include "base/subnormals.h"
#include "cpu/team.h"
#include "isa/table.h"
#include "lstm/gates.h"
#include "lstm/lstm_linear.h"
#include "lstm/train_epoch.h"

namespace sensorseq {

// The functions of a training step, except those of the layers; see head-inl.h and optimizer-inl.h.
template <typename Real>
struct TrainKernels {
  void (*head_forward)(const Real* features, const Real* weight, const Real* bias,
                       int64_t pooled_size, int64_t n_classes, Real* logits);
  void (*head_backward)(const Real* grad_logits, const Real* features, const Real* weight,
                        int64_t pooled_size, int64_t n_classes, Real* grad_features,
                        Real* grad_weight, Real* grad_bias);
  double (*sum_of_squares)(const Real* values, int64_t n);
  void (*update)(Optimizer optimizer, const double* hyper, double learning_rate, int64_t step,
                 int64_t n, const Real* grads, Real* parameters, Real* state);
  void (*move_average)(Real fresh, int64_t n, const Real* parameters, Real* average);
};

struct Kernels {
  const char* name;
  bool (*is_supported)();
  // The arguments are those of Pack in tasks-inl.h.
  void (*lstm_pack_f32)(const LstmShape&, const LstmInputs<float>&, float* packed);
  void (*lstm_pack_f64)(const LstmShape&, const LstmInputs<double>&, double* packed);
  void (*lstm_forward_f32)(const LstmForward<float>&);
  void (*lstm_forward_f64)(const LstmForward<double>&);
  void (*lstm_backward_f32)(const LstmBackward<float>&);
  void (*lstm_backward_f64)(const LstmBackward<double>&);
  void (*lstm_step_f32)(const LstmStep<float>&);
  void (*lstm_step_f64)(const LstmStep<double>&);
  TrainKernels<float> train_f32;
  TrainKernels<double> train_f64;
  // Compute y[i] = sigmoid(x[i]) and y[i] = tanh(x[i]) as in the gates, so that tests can measure
  // the error.
  void (*sigmoid_f32)(const float* x, float* y, int64_t n);
  void (*tanh_f32)(const float* x, float* y, int64_t n);
  // Runs `repeats` rounds of multiply-adds at this instruction set's peak rate. Returns the number
  // of floating-point operations.
  int64_t (*multiply_add_flops)(int64_t repeats);
};

using KernelTable = IsaTable<Kernels>;
KernelTable AllKernels();
inline const Kernels* ActiveKernels(Status* status) { return AllKernels().Active(status); }

// The number of rows of a tile, and the maximum number of slots of weight gradients. The rows of a
// tile are the windows that one task processes together. Both numbers affect the bits of the
// results, so they are the same on every instruction set.
constexpr int64_t kTileRows = 6;
constexpr int64_t kMaxSlots = 8;
// The number of entries that are collected before their products are added to the weight gradients.
// An entry is one timestep of a window.
constexpr int64_t kBlockEntries = 96;
// The number of scratch arrays of a tile, whose rows have Padded(H) values; see BackwardTile.
constexpr int64_t kForwardScratch = 8;
constexpr int64_t kBackwardScratch = 6;

// From this hidden size on, the weights exceed the second-level cache. Tiles are then processed
// side by side, so that each panel of weights is read once per step instead of once per tile. The
// units are divided among the threads, so all windows can share one slot of weight gradients, which
// is as large as the weights.
constexpr int64_t kWideHidden = 320;
// The hidden size from which it pays to share each step among the threads when every thread has at
// least one tile but only some threads have two.
constexpr int64_t kUnevenHidden = 128;
// The maximum number of tiles that are processed side by side.
constexpr int64_t kGroupTiles = 16;

inline bool IsWide(const LstmShape& s) { return s.hidden_size >= kWideHidden; }

// The number of saved values of one direction and window.
inline int64_t SavedSize(const LstmShape& s) {
  return SavedRows(s.n_timesteps) * Padded(s.hidden_size);
}

inline int64_t TileCount(int64_t n_windows) { return (n_windows + kTileRows - 1) / kTileRows; }
inline int64_t SlotCount(const LstmShape& s) {
  const int64_t n_tiles = TileCount(s.n_windows), most = IsWide(s) ? 1 : kMaxSlots;
  return n_tiles < most ? n_tiles : most;
}
// First window of a tile. The sizes of tiles differ by at most one row.
inline int64_t TileBegin(int64_t tile, int64_t n_windows) {
  const int64_t n_tiles = TileCount(n_windows);
  return n_tiles == 0 ? 0 : tile * n_windows / n_tiles;
}
// First tile of a slot.
inline int64_t SlotBegin(int64_t slot, const LstmShape& s) {
  const int64_t n_slots = SlotCount(s);
  return n_slots == 0 ? 0 : slot * TileCount(s.n_windows) / n_slots;
}
inline int64_t SlotOf(int64_t tile, const LstmShape& s) {
  int64_t slot = 0;
  while (SlotBegin(slot + 1, s) <= tile) ++slot;
  return slot;
}
inline bool IsFirstOfSlot(int64_t tile, const LstmShape& s) {
  return SlotBegin(SlotOf(tile, s), s) == tile;
}

// First window of a slot.
inline int64_t SlotWindow(int64_t slot, const LstmShape& s) {
  return TileBegin(SlotBegin(slot, s), s.n_windows);
}

// Whether a team processes groups of tiles together, instead of each thread processing its own
// tiles. True for wide layers. Also true for other layers if some threads would have no tile or
// fewer tiles than others, and sharing the steps pays.
inline bool IsTogether(const LstmShape& s, const Parallel& parallel) {
  if (IsWide(s)) return true;
  if (TileCount(s.n_windows) > kMaxSlots) return false;  // a slot would have several tiles
  const int64_t n_tiles = s.n_models * TileCount(s.n_windows), n_threads = parallel.n_threads;
  if (n_tiles >= n_threads) {
    return n_tiles < 2 * n_threads && n_tiles % n_threads != 0 && s.hidden_size >= kUnevenHidden;
  }
  return s.n_windows * s.hidden_size * (s.hidden_size + s.n_channels) >= parallel.sharing.min_work;
}
// The number of tiles in a group if state is kept for every step. A group of a narrow layer has up
// to kMaxSlots tiles, because the slots provide the memory. A group of a wide layer has up to
// kGroupTiles tiles, but no more than fit into kGroupReals.
inline int64_t GroupTiles(const LstmShape& s) {
  constexpr int64_t kGroupReals = int64_t(1) << 24;
  const int64_t n_tiles = TileCount(s.n_windows),
                of_tile = s.n_directions * kTileRows * SavedSize(s);
  if (!IsWide(s)) return kMaxSlots;
  int64_t n = n_tiles < kGroupTiles ? n_tiles : kGroupTiles;
  while (n > 1 && n * of_tile > kGroupReals) --n;
  return n;
}
// Number of tasks that pack the weights of one direction of a model.
inline int64_t PackParts(const LstmShape& s) { return s.hidden_size < 128 ? 1 : 8; }
// Number of tiles in progress at a time.
inline int64_t TilesAtOnce(const LstmShape& s) {
  return IsWide(s) ? GroupTiles(s) : s.n_models * SlotCount(s);
}

// Runs tasks through `parallel`. All arithmetic starts here. While a thread runs a task, it treats
// subnormal numbers as `subnormals` says; afterwards, its own mode is restored.
void RunTasks(const Parallel& parallel, int64_t n_tasks, Parallel::Task task, void* context,
              Subnormals subnormals);

// The offset of each piece of the workspace, in units of Real. These offsets determine both the
// size that callers ask for and the addresses that the kernels use.
struct ForwardLayout {
  int64_t packed_stride;   // per (model, direction)
  int64_t scratch_offset;  // after the packed weights
  int64_t scratch_stride;  // per task (model, tile)
  int64_t total;
};
// The header of a packed buffer. The weights follow in the same order as in the workspace.
struct PackedHeader {
  char format[8];  // kPackedFormat
  char isa[16];    // Kernels::name, padded with zeros
  int64_t real_bytes, n_models, n_directions, n_channels, hidden_size;
};
static_assert(sizeof(PackedHeader) == 64, "the weights after it are aligned too");
constexpr char kPackedFormat[8] = {'L', 'S', 'T', 'M', 'p', 'k', '0', '1'};

inline const void* PackedWeights(const void* packed) {
  return static_cast<const PackedHeader*>(packed) + 1;
}

struct BackwardLayout {
  int64_t packed_stride;  // per (model, direction)
  int64_t slots_offset;
  int64_t slot_stride;  // per (model, slot, direction)
  int64_t heads_offset;
  int64_t head_stride;         // per (model, slot)
  int64_t grad_pooled_offset;  // (M, N, P); only with a head
  int64_t scratch_offset;
  int64_t scratch_stride;  // per task (model, slot)
  int64_t total;
};
// A BackwardLayout, followed by the forward pass's weights, scratch and saved state.
struct StepLayout {
  BackwardLayout backward;
  int64_t packed_offset;
  int64_t packed_stride;  // per (model, direction)
  int64_t scratch_offset;
  int64_t scratch_stride;  // per task (model, slot)
  int64_t saved_offset;
  int64_t saved_stride;  // per task (model, slot)
  int64_t total;
};
ForwardLayout LayoutForward(const LstmShape& shape);
BackwardLayout LayoutBackward(const LstmShape& shape);
StepLayout LayoutStep(const LstmShape& shape);

constexpr int64_t kAlignment = 64;  // in Reals; full cache lines in float and in double
inline int64_t Aligned(int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace sensorseq
