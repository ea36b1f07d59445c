// Queues the kernels of calls to functions of lstm_linear_cuda.h, in order, and lays out the memory
// of these calls. A Queue either launches the kernels on a stream or runs them in the tests'
// emulator.
#pragma once

#include <type_traits>

#include "base/carver.h"
#include "base/status.h"
#include "cuda/head_grad.cuh"
#include "cuda/layout.cuh"
#include "cuda/pack.cuh"
#include "cuda/params.h"
#include "cuda/portable_grad.cuh"
#include "cuda/weight_grad.cuh"
#include "lstm/lstm_linear_cuda.h"

namespace sensorseq::cuda {

inline bool IsPortable(const Options& options) { return options.precision == Precision::kFp32; }

inline Sizes SizesOf(const LstmShape& shape, const Options& options) {
  Sizes s;
  s.n_models = shape.n_models;
  s.n_x_models = shape.n_x_models;
  s.n_windows = shape.n_windows;
  s.n_timesteps = shape.n_timesteps;
  s.n_channels = options.is_projected ? 0 : static_cast<int32_t>(shape.n_channels);
  s.hidden_size = static_cast<int32_t>(shape.hidden_size);
  s.padded_hidden =
      IsPortable(options) ? PortableHidden(shape.hidden_size) : PaddedHidden(shape.hidden_size);
  s.n_directions = static_cast<int32_t>(shape.n_directions);
  s.n_classes = static_cast<int32_t>(shape.n_classes);
  s.pooling = shape.pooling;
  s.is_projected = options.is_projected;
  return s;
}

// Describes a dense array with `size` values for each direction of each model.
template <typename T>
PerDirectionOf<T> Dense(const T* data, const Sizes& s, int64_t size) {
  return {data, s.n_directions * size, size};
}

inline int Planes(const Options& options) {
  return options.precision == Precision::kFp16x3 ? 2 : 1;
}

// Call f(planes, hidden), or f(hidden) of the portable kernels. Each argument's type has the number
// as its static member `value`. For a hidden size that no kernel has, f is not called, and
// kNotServedHiddenSize is returned.
template <int value_>
struct Constant {
  static constexpr int value = value_;
};
template <typename F>
[[nodiscard]] Status ForVariant(const Options& options, const Sizes& s, F f) {
  const auto ForHidden = [&](auto planes) {
    switch (s.padded_hidden) {
      case 64:
        f(planes, Constant<64>());
        return Status::kOk;
      case 128:
        f(planes, Constant<128>());
        return Status::kOk;
      case 256:
        f(planes, Constant<256>());
        return Status::kOk;
      default:
        return Status::kNotServedHiddenSize;
    }
  };
  return Planes(options) == 1 ? ForHidden(Constant<1>()) : ForHidden(Constant<2>());
}

template <typename F>
[[nodiscard]] Status ForPortable(const Sizes& s, F f) {
  switch (s.padded_hidden) {
    case 32:
      f(Constant<32>());
      return Status::kOk;
    case 64:
      f(Constant<64>());
      return Status::kOk;
    case 96:
      f(Constant<96>());
      return Status::kOk;
    default:
      return Status::kNotServedHiddenSize;
  }
}

inline int64_t SavedFloatsOf(const LstmShape& shape, const Options& options) {
  const Sizes s = SizesOf(shape, options);
  const int64_t of_directions = s.n_models * s.n_directions;
  if (IsPortable(options)) {
    return of_directions * s.n_windows * PortableWindowFloats(s.n_timesteps, s.padded_hidden);
  }
  return of_directions * TileCount(s.n_windows) * SavedTileFloats(s.n_timesteps, s.padded_hidden);
}
// The size of the packed weights; the portable kernels read the weights as they are.
inline int64_t PackedBytes(const Sizes& s, const Options& options) {
  if (IsPortable(options)) return 0;
  return s.n_models * s.n_directions * PackedFragments(Planes(options), s.padded_hidden) *
         kFragmentBytes;
}

struct ForwardSpace {
  char *packed = nullptr, *packed_input = nullptr;  // not used by the portable kernels
  char* packed_back = nullptr;                      // for the backward pass; null: not wanted
  int32_t* arrived = nullptr;
  int64_t n_arrived = 0;
};
inline size_t CarveForward(const LstmShape& shape, const Options& options, void* block,
                           ForwardSpace* space) {
  const Sizes s = SizesOf(shape, options);
  const int hidden = s.padded_hidden;
  const int64_t of_models = s.n_models * s.n_directions;
  Carver carver(block);
  if (IsPortable(options)) {
    space->n_arrived = s.n_directions > 1 && s.n_classes > 0 ? s.n_models * s.n_windows : 0;
    space->arrived = carver.Take<int32_t>(space->n_arrived);
    return carver.used();
  }
  space->packed = carver.Take<char>(PackedBytes(s, options));
  space->packed_input = carver.Take<char>(s.is_projected ? 0
                                                         : of_models * (hidden / kGroupUnits) *
                                                               InputWeightFloats(s.n_channels) * 4);
  space->n_arrived = s.n_classes > 0 ? s.n_models * TileCount(s.n_windows) : 0;
  space->arrived = carver.Take<int32_t>(space->n_arrived);
  return carver.used();
}

struct BackwardSpace {
  char* packed;
  float *grads, *grad_pooled, *slots;
  uint32_t* largest;
};
inline size_t CarveBackward(const LstmShape& shape, const Options& options, void* block,
                            BackwardSpace* space) {
  const Sizes s = SizesOf(shape, options);
  const int64_t of_models = s.n_models * s.n_directions, H = s.hidden_size;
  const int64_t of_hidden = SlotCount(s) * of_models * kGates * H * H;
  const int64_t of_input =
      s.is_projected ? 0 : SlotCount(s) * of_models * kGates * H * (s.n_channels + 1);
  const int64_t of_head = TileSlots(s.n_windows) * s.n_models * s.n_classes * (PooledWidth(s) + 1);
  int64_t slots = of_hidden > of_input ? of_hidden : of_input;
  if (of_head > slots) slots = of_head;
  Carver carver(block);
  space->packed = carver.Take<char>(PackedBytes(s, options));
  space->grads = carver.Take<float>(SavedFloatsOf(shape, options));
  space->grad_pooled =
      carver.Take<float>(s.n_classes > 0 ? s.n_models * s.n_windows * PooledWidth(s) : 0);
  space->slots = carver.Take<float>(slots);
  space->largest = carver.Take<uint32_t>(of_models);
  return carver.used();
}

inline constexpr Element ElementOf(const float*) { return Element::kFloat32; }
inline constexpr Element ElementOf(const Float16*) { return Element::kFloat16; }
inline constexpr Element ElementOf(const Bfloat16*) { return Element::kBfloat16; }

// Fills in what the forward passes of all kernels read and write.
template <typename Params, typename Real>
Params ForwardOf(const LstmForward<Real>& a, const Sizes& s, const ForwardSpace& space) {
  Params p{};
  p.sizes = s;
  p.x = a.in.x;
  p.lengths = a.in.lengths;
  p.h_0 = a.in.h_0;
  p.c_0 = a.in.c_0;
  p.recurrent_mask = a.in.recurrent_mask;
  p.weight_out = a.in.weight_out;
  p.bias_out = a.bias_out;
  p.hidden = a.hidden;
  p.h_n = a.h_n;
  p.c_n = a.c_n;
  p.pooled = a.pooled;
  p.logits = a.logits;
  if constexpr (std::is_same_v<Real, float>) p.saved = a.saved;
  p.arrived = space.arrived;
  return p;
}

// The weights of a layer, for each direction of each model.
template <typename Real>
struct LayerWeights {
  PerDirectionOf<Real> weight_ih, weight_hh, bias;
  PerDirectionOf<Real> second_bias;  // added to `bias`; null: none
};

// Queues the forward pass of a layer, with weights that need not be those in `a`. Here and below,
// an error means that no kernel serves the call; an error of a launch is the queue's.
template <typename Queue, typename Real>
[[nodiscard]] Status QueueLayer(Queue& queue, const LstmForward<Real>& a,
                                const LayerWeights<Real>& weights, const Sizes& s,
                                const ForwardSpace& space, const Options& options) {
  if (IsPortable(options)) {
    auto p = ForwardOf<PortableParams>(a, s, space);
    p.element = ElementOf(a.in.x);
    p.weight_ih = weights.weight_ih;
    p.weight_hh = weights.weight_hh;
    p.bias = weights.bias;
    p.second_bias = weights.second_bias;
    return ForPortable(s, [&](auto hidden) { queue.template RunPortable<hidden.value>(p); });
  } else if constexpr (std::is_same_v<Real, float>) {
    PackParams pack{};
    pack.sizes = s;
    pack.weight_ih = weights.weight_ih;
    pack.weight_hh = weights.weight_hh;
    pack.bias = weights.bias;
    pack.second_bias = weights.second_bias;
    pack.forward = space.packed;
    pack.backward = space.packed_back;
    pack.input = s.is_projected ? nullptr : reinterpret_cast<float*>(space.packed_input);
    auto p = ForwardOf<ForwardParams>(a, s, space);
    p.packed = space.packed;
    p.packed_input = pack.input;
    return ForVariant(options, s, [&](auto planes, auto hidden) {
      queue.template RunSlots<Pack<planes.value>>(pack);
      queue.template RunForward<planes.value, hidden.value>(p);
    });
  } else {
    return Status::kNotServed;
  }
}

// Queues a forward call. A call of the portable kernels is one launch, unless counts of directions
// or hidden states beyond the lengths must be zeroed first.
template <typename Queue, typename Real>
[[nodiscard]] Status QueueForward(Queue& queue, const LstmForward<Real>& a,
                                  const Options& options) {
  const Sizes s = SizesOf(a.shape, options);
  ForwardSpace space;
  CarveForward(a.shape, options, a.workspace, &space);
  if (s.n_windows == 0 || s.n_models == 0) return Status::kOk;
  queue.Zero(space.arrived, space.n_arrived);
  if (a.hidden != nullptr && a.in.lengths != nullptr) {
    queue.Zero(a.hidden, s.n_models * s.n_directions * s.n_windows * s.n_timesteps * s.hidden_size);
  }
  const int64_t gates = int64_t{kGates} * s.hidden_size;
  LayerWeights<Real> weights;
  weights.weight_ih = Dense(a.in.weight_ih, s, gates * s.n_channels);
  weights.weight_hh = Dense(a.in.weight_hh, s, gates * s.hidden_size);
  weights.bias = Dense(a.in.bias, s, gates);
  return QueueLayer(queue, a, weights, s, space, options);
}

template <typename Queue>
void QueueSum(Queue& queue, const float* slots, int64_t n_slots, int64_t n_rows, int64_t n_columns,
              float* out, float* bias) {
  SumSlotsParams p;
  p.slots = slots;
  p.n_slots = n_slots;
  p.n_rows = n_rows;
  p.n_columns = n_columns;
  p.has_bias = bias != nullptr;
  p.out = out;
  p.bias = bias;
  queue.template RunTasks<SumSlots>(p);
}

template <typename Queue>
[[nodiscard]] Status QueueBackward(Queue& queue, const LstmBackward<float>& a,
                                   const Options& options) {
  const Sizes s = SizesOf(a.shape, options);
  BackwardSpace space;
  CarveBackward(a.shape, options, a.workspace, &space);
  const int64_t of_models = s.n_models * s.n_directions, H = s.hidden_size;
  auto Zero = [&](float* array, int64_t n) {
    if (array != nullptr) queue.Zero(array, n);
  };
  const int64_t width = PooledWidth(s), head = s.n_models * s.n_classes;
  if (s.n_windows == 0 || s.n_models == 0) {
    Zero(a.grad_weight_hh, of_models * kGates * H * H);
    if (!s.is_projected) {
      Zero(a.grad_weight_ih, of_models * kGates * H * s.n_channels);
      Zero(a.grad_bias, of_models * kGates * H);
    }
    Zero(a.grad_weight_out, head * width);
    Zero(a.grad_bias_out, head);
    return Status::kOk;
  }

  PackParams pack{};
  pack.sizes = s;
  pack.weight_hh = Dense(a.in.weight_hh, s, kGates * H * H);
  pack.backward = space.packed;

  BackwardParams p{};
  p.sizes = s;
  p.lengths = a.in.lengths;
  p.packed = space.packed;
  p.weight_hh = pack.weight_hh;
  p.h_0 = a.in.h_0;
  p.c_0 = a.in.c_0;
  p.recurrent_mask = a.in.recurrent_mask;
  p.grad_hidden = a.grad_hidden;
  p.grad_h_n = a.grad_h_n;
  p.grad_c_n = a.grad_c_n;
  p.grad_pooled = a.grad_pooled;
  p.saved = a.saved;
  p.grads = space.grads;
  p.grad_h_0 = a.grad_h_0;
  p.grad_c_0 = a.grad_c_0;
  p.grad_gates = s.is_projected ? a.grad_x : nullptr;
  p.largest = space.largest;

  if (s.n_classes > 0) {
    HeadGradParams h{};
    h.sizes = s;
    h.grad_logits = a.grad_logits;
    h.weight_out = a.in.weight_out;
    h.pooled = a.pooled;
    h.grad_pooled = a.grad_pooled;
    h.out = space.grad_pooled;
    h.slots = space.slots;
    queue.template RunTasks<PooledGrad>(h);
    queue.template RunSlots<HeadWeightGrad>(h);
    QueueSum(queue, space.slots, TileSlots(s.n_windows), head, width, a.grad_weight_out,
             a.grad_bias_out);
    p.grad_pooled = space.grad_pooled;
  }
  if (!IsPortable(options)) queue.Zero(space.largest, of_models);
  if (p.grad_gates != nullptr && a.in.lengths != nullptr) {
    Zero(p.grad_gates, of_models * s.n_windows * s.n_timesteps * H * kGates);
  }

  WeightGradParams w{};
  w.sizes = s;
  w.lengths = a.in.lengths;
  w.x = a.in.x;
  w.saved = a.saved;
  w.grads = space.grads;
  w.largest = space.largest;
  w.slots = space.slots;
  Status status = Status::kOk;
  if (IsPortable(options)) {
    status = ForPortable(s, [&](auto hidden) { queue.template RunPortable<hidden.value>(p); });
    if (status != Status::kOk) return status;
    queue.template RunSlots<PortableGrad<false>>(w);
  } else {
    status = ForVariant(options, s, [&](auto planes, auto hidden) {
      queue.template RunSlots<Pack<planes.value>>(pack);
      queue.template RunBackward<planes.value, hidden.value>(p);
      queue.template RunSlots<HiddenGrad<planes.value>>(w);
    });
    if (status != Status::kOk) return status;
  }
  QueueSum(queue, space.slots, SlotCount(s), of_models * kGates * H, H, a.grad_weight_hh, nullptr);
  if (s.is_projected) return Status::kOk;
  if (IsPortable(options)) {
    queue.template RunSlots<PortableGrad<true>>(w);
  } else {
    queue.template RunSlots<InputGrad>(w);
  }
  QueueSum(queue, space.slots, SlotCount(s), of_models * kGates * H, s.n_channels, a.grad_weight_ih,
           a.grad_bias);
  return Status::kOk;
}

}  // namespace sensorseq::cuda
