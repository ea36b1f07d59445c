// Implements the functions of lstm_linear.h. Each function checks its arguments, then calls the
// active kernel.
#include "cpu/dispatch.h"

#include <cstring>

namespace sensorseq {

namespace {

Status CheckShape(const LstmShape& s, const int64_t* lengths) {
  const bool has_head = s.pooling != Pooling::kNone;
  if (s.n_models < 0 || (s.n_x_models != s.n_models && s.n_x_models != 1) || s.n_windows < 0 ||
      s.n_timesteps < 0 || s.n_channels < 0 || s.hidden_size < 1 || s.n_directions < 1 ||
      s.n_directions > 2 || s.n_classes < 0 || (!has_head && s.n_classes != 0)) {
    return Status::kInvalidShape;
  }
  for (int64_t n = 0; lengths != nullptr && n < s.n_windows; ++n) {
    if (lengths[n] < 0 || lengths[n] > s.n_timesteps) return Status::kLengthOutOfRange;
  }
  return Status::kOk;
}

void Call(const Kernels& k, const LstmForward<float>& args) { k.lstm_forward_f32(args); }
void Call(const Kernels& k, const LstmForward<double>& args) { k.lstm_forward_f64(args); }
void Call(const Kernels& k, const LstmBackward<float>& args) { k.lstm_backward_f32(args); }
void Call(const Kernels& k, const LstmBackward<double>& args) { k.lstm_backward_f64(args); }
void Call(const Kernels& k, const LstmStep<float>& args) { k.lstm_step_f32(args); }
void Call(const Kernels& k, const LstmStep<double>& args) { k.lstm_step_f64(args); }

void Call(const Kernels& k, const LstmShape& s, const LstmInputs<float>& in, float* packed) {
  k.lstm_pack_f32(s, in, packed);
}
void Call(const Kernels& k, const LstmShape& s, const LstmInputs<double>& in, double* packed) {
  k.lstm_pack_f64(s, in, packed);
}

PackedHeader HeaderFor(const LstmShape& s, const Kernels& kernels, size_t real_bytes) {
  PackedHeader header = {};
  std::memcpy(header.format, kPackedFormat, sizeof(header.format));
  std::strncpy(header.isa, kernels.name, sizeof(header.isa) - 1);
  header.real_bytes = static_cast<int64_t>(real_bytes);
  header.n_models = s.n_models;
  header.n_directions = s.n_directions;
  header.n_channels = s.n_channels;
  header.hidden_size = s.hidden_size;
  return header;
}

Status CheckPacked(const LstmShape& s, const Kernels& kernels, size_t real_bytes,
                   const void* packed) {
  const PackedHeader wanted = HeaderFor(s, kernels, real_bytes);
  PackedHeader header;
  std::memcpy(&header, packed, sizeof(header));
  if (std::memcmp(header.format, wanted.format, sizeof(header.format)) != 0) {
    return Status::kNotPacked;
  }
  if (std::memcmp(header.isa, wanted.isa, sizeof(header.isa)) != 0) {
    return Status::kPackedForOtherIsa;
  }
  return std::memcmp(&header, &wanted, sizeof(header)) == 0 ? Status::kOk
                                                            : Status::kPackedOtherwise;
}

template <typename Args>
Status CheckAndCall(const LstmShape& shape, const int64_t* lengths, const Args& args) {
  Status status = CheckShape(shape, lengths);
  if (status != Status::kOk) return status;
  const Kernels* kernels = ActiveKernels(&status);
  if (kernels != nullptr) Call(*kernels, args);
  return status;
}

struct GuardedTask {
  Parallel::Task task;
  void* context;
  Subnormals subnormals;
};

void RunGuarded(void* context, int64_t index) {
  const auto& guarded = *static_cast<const GuardedTask*>(context);
  const SubnormalsGuard guard(guarded.subnormals);
  guarded.task(guarded.context, index);
}

}  // namespace

void RunTasks(const Parallel& parallel, int64_t n_tasks, Parallel::Task task, void* context,
              Subnormals subnormals) {
  GuardedTask guarded{task, context, subnormals};
  if (parallel.run != nullptr && n_tasks > 1) {
    const SubnormalsGuard::Pause pause;
    parallel.run(parallel.pool, n_tasks, &RunGuarded, &guarded);
  } else {
    for (int64_t i = 0; i < n_tasks; ++i) RunGuarded(&guarded, i);
  }
}

ForwardLayout LayoutForward(const LstmShape& s) {
  const int64_t padded = Padded(s.hidden_size), width = s.hidden_size + s.n_channels + 1;
  ForwardLayout layout;
  layout.packed_stride = Aligned(padded * width * kGates);
  layout.scratch_offset = s.n_models * s.n_directions * layout.packed_stride;
  layout.scratch_stride = Aligned(kTileRows * kForwardScratch * padded);
  layout.total =
      layout.scratch_offset + s.n_models * TileCount(s.n_windows) * layout.scratch_stride;
  return layout;
}

BackwardLayout LayoutBackward(const LstmShape& s) {
  const int64_t padded = Padded(s.hidden_size), width = s.hidden_size + s.n_channels + 1;
  const int64_t n_tasks = s.n_models * SlotCount(s), P = PooledSize(s);
  const int64_t columns = padded + Padded(s.n_channels);
  BackwardLayout layout;
  layout.packed_stride = Aligned(kGates * s.hidden_size * columns);
  layout.slots_offset = s.n_models * s.n_directions * layout.packed_stride;
  layout.slot_stride = Aligned(padded * width * kGates);
  layout.heads_offset = layout.slots_offset + n_tasks * s.n_directions * layout.slot_stride;
  layout.head_stride = Aligned(s.n_classes * (P + 1));
  layout.grad_pooled_offset = layout.heads_offset + n_tasks * layout.head_stride;
  layout.scratch_offset =
      layout.grad_pooled_offset + (s.n_classes > 0 ? Aligned(s.n_models * s.n_windows * P) : 0);
  // Padding follows the gate gradients of each block of units. There are at most padded / 2 blocks,
  // because a block has at least 2 units.
  const int64_t gates = kGates * kBlockEntries * padded + padded / 2 * 6 * kVectorPadding;
  layout.scratch_stride = Aligned(kBackwardScratch * kTileRows * padded + kTileRows * columns +
                                  gates + kBlockEntries * width);
  layout.total = layout.scratch_offset + TilesAtOnce(s) * layout.scratch_stride;
  return layout;
}

StepLayout LayoutStep(const LstmShape& s) {
  const int64_t n_tasks = TilesAtOnce(s);
  const ForwardLayout forward = LayoutForward(s);
  StepLayout layout;
  layout.backward = LayoutBackward(s);
  layout.packed_offset = layout.backward.total;
  layout.packed_stride = forward.packed_stride;
  layout.scratch_offset = layout.packed_offset + s.n_models * s.n_directions * layout.packed_stride;
  layout.scratch_stride = forward.scratch_stride;
  layout.saved_offset = layout.scratch_offset + n_tasks * layout.scratch_stride;
  layout.saved_stride = Aligned(s.n_directions * kTileRows * SavedSize(s));
  layout.total = layout.saved_offset + n_tasks * layout.saved_stride;
  return layout;
}

size_t lstm_forward_workspace_bytes(const LstmShape& shape, size_t real_bytes) {
  return static_cast<size_t>(LayoutForward(shape).total) * real_bytes;
}

size_t lstm_backward_workspace_bytes(const LstmShape& shape, size_t real_bytes) {
  return static_cast<size_t>(LayoutBackward(shape).total) * real_bytes;
}

size_t lstm_step_workspace_bytes(const LstmShape& shape, size_t real_bytes) {
  return static_cast<size_t>(LayoutStep(shape).total) * real_bytes;
}

size_t lstm_packed_bytes(const LstmShape& s, size_t real_bytes) {
  const auto n = static_cast<size_t>(s.n_models * s.n_directions * LayoutForward(s).packed_stride);
  return sizeof(PackedHeader) + n * real_bytes;
}

template <typename Real>
Status lstm_pack(const LstmShape& shape, const LstmInputs<Real>& in, void* packed) {
  Status status = CheckShape(shape, nullptr);
  if (status != Status::kOk) return status;
  const Kernels* kernels = ActiveKernels(&status);
  if (kernels == nullptr) return status;
  // Clears the padding too, so that equal weights give equal bytes.
  std::memset(packed, 0, lstm_packed_bytes(shape, sizeof(Real)));
  const PackedHeader header = HeaderFor(shape, *kernels, sizeof(Real));
  std::memcpy(packed, &header, sizeof(header));
  Call(*kernels, shape, in, static_cast<Real*>(const_cast<void*>(PackedWeights(packed))));
  return status;
}

template <typename Real>
Status lstm_forward(const LstmForward<Real>& args) {
  Status status = CheckShape(args.shape, args.in.lengths);
  if (status != Status::kOk) return status;
  const Kernels* kernels = ActiveKernels(&status);
  if (kernels != nullptr && args.packed != nullptr) {
    status = CheckPacked(args.shape, *kernels, sizeof(Real), args.packed);
  }
  if (status == Status::kOk) Call(*kernels, args);
  return status;
}
template <typename Real>
Status lstm_backward(const LstmBackward<Real>& args) {
  return CheckAndCall(args.shape, args.in.lengths, args);
}
template <typename Real>
Status lstm_step(const LstmStep<Real>& args) {
  return CheckAndCall(args.forward.shape, args.forward.in.lengths, args);
}
template Status lstm_pack(const LstmShape&, const LstmInputs<float>&, void*);
template Status lstm_pack(const LstmShape&, const LstmInputs<double>&, void*);
template Status lstm_forward(const LstmForward<float>&);
template Status lstm_forward(const LstmForward<double>&);
template Status lstm_backward(const LstmBackward<float>&);
template Status lstm_backward(const LstmBackward<double>&);
template Status lstm_step(const LstmStep<float>&);
template Status lstm_step(const LstmStep<double>&);

}  // namespace sensorseq
