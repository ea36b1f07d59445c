// Queues the kernels of a call to a function of train_epoch_cuda.h, in order, and lays out the
// memory of the call.
#pragma once

#include "cuda/calls.h"
#include "cuda/train.cuh"
#include "lstm/train_epoch_cuda.h"

namespace sensorseq::cuda {

// The maximum number of windows of a step. This number is at least one, so that a call whose steps
// are all empty needs no special case.
inline int64_t StepWindows(const TrainShape& s) { return s.max_batch > 0 ? s.max_batch : 1; }

// The shape of a step's layer.
inline LstmShape LayerShape(const TrainShape& s) {
  LstmShape k;
  k.n_models = k.n_x_models = s.n_models;
  k.n_windows = StepWindows(s);
  k.n_timesteps = s.n_timesteps;
  k.n_channels = s.n_channels;
  k.hidden_size = s.hidden_size;
  k.n_directions = s.n_directions;
  k.pooling = s.pooling;
  return k;
}

struct TrainSpace {
  TrainParams params;
  ForwardSpace layer;
  float *h_n, *c_n, *saved, *hidden_slots, *input_slots, *head_slots;
};

// If `block` is null, `args` needs only a shape.
inline size_t CarveTrain(const TrainEpoch<float>& args, const Options& options, void* block,
                         TrainSpace* space) {
  const TrainShape& shape = args.shape;
  TrainParams& p = space->params;
  p.call = args;
  p.sizes = SizesOf(LayerShape(shape), options);
  p.sizes.lengths_stride = static_cast<int32_t>(p.sizes.n_windows);
  if (args.n_x_models == 1 && args.n_row_models == 1) p.sizes.n_x_models = 1;
  p.n_parameters = ParameterCount(shape);
  p.pooled_size = PooledWidth(p.sizes);

  const int64_t M = shape.n_models, B = p.sizes.n_windows, D = shape.n_directions,
                H = shape.hidden_size, C = shape.n_channels, K = shape.n_classes, P = p.pooled_size,
                Q = p.n_parameters, slices = SliceCount(Q);
  const int64_t packed = PackedBytes(p.sizes, options);
  const int64_t rows = SlotCount(p.sizes) * M * D * kGates * H;
  Carver carver(block);
  p.step = carver.Take<int64_t>(M);
  p.n_windows = carver.Take<int64_t>(M);
  p.lengths = carver.Take<int64_t>(M * B);
  p.x = carver.Take<float>(M * B * shape.n_timesteps * C);
  p.recurrent_mask = carver.Take<float>(M * B * D * H);
  p.pooled = carver.Take<float>(M * B * P);
  p.features = carver.Take<float>(M * B * P);
  p.grad_pooled = carver.Take<float>(M * B * P);
  p.logits = carver.Take<float>(M * B * K);
  p.grad_logits = carver.Take<float>(M * B * K);
  p.log_p = carver.Take<double>(M * B * K);
  p.grad_loss = carver.Take<double>(M * B * K);
  p.losses = carver.Take<double>(M * B);
  p.is_correct = carver.Take<double>(M * B);
  p.grads = carver.Take<float>(M * Q);
  p.squares = carver.Take<double>(M * slices);
  p.norm = carver.Take<double>(M);
  p.largest = carver.Take<uint32_t>(M * D);
  p.head_slots = space->head_slots = carver.Take<float>(TileSlots(B) * M * K * (P + 1));
  p.hidden_slots = space->hidden_slots = carver.Take<float>(rows * H);
  p.input_slots = space->input_slots = carver.Take<float>(rows * (C + 1));
  space->saved = carver.Take<float>(SavedFloatsOf(LayerShape(shape), options));
  space->h_n = carver.Take<float>(M * B * D * H);
  space->c_n = carver.Take<float>(M * B * D * H);
  space->layer.packed = carver.Take<char>(packed);
  space->layer.packed_back = carver.Take<char>(packed);
  space->layer.packed_input =
      carver.Take<char>(IsPortable(options) ? 0
                                            : M * D * (p.sizes.padded_hidden / kGroupUnits) *
                                                  InputWeightFloats(C) * 4);
  if (args.seeds == nullptr) p.recurrent_mask = nullptr;
  return carver.used();
}

// Queues the work that a call needs once, before its steps.
template <typename Queue>
void QueueStart(Queue& queue, const TrainSpace& space) {
  const TrainParams& p = space.params;
  queue.Zero(p.step, p.sizes.n_models);
}

// Queues one step. The index of the step is on the device.
template <typename Queue>
[[nodiscard]] Status QueueStep(Queue& queue, const TrainSpace& space, const Options& options) {
  const TrainParams& p = space.params;
  const Sizes& s = p.sizes;
  const int64_t H = s.hidden_size, gates = kGates * H;

  // The weights are in the order of the parameter blocks.
  const int64_t of_direction = gates * (s.n_channels + H + 2);
  const float* flat = p.call.parameters;
  LayerWeights<float> weights;
  weights.weight_ih = {flat, p.n_parameters, of_direction};
  weights.weight_hh = {flat + gates * s.n_channels, p.n_parameters, of_direction};
  weights.bias = {flat + gates * (s.n_channels + H), p.n_parameters, of_direction};
  weights.second_bias = {weights.bias.data + gates, p.n_parameters, of_direction};

  LstmForward<float> f{};
  f.in.x = p.x;
  f.in.lengths = p.lengths;
  f.in.recurrent_mask = p.recurrent_mask;
  f.h_n = space.h_n;
  f.c_n = space.c_n;
  f.pooled = p.pooled;
  f.saved = space.saved;

  BackwardParams b{};
  b.sizes = s;
  b.lengths = p.lengths;
  b.packed = space.layer.packed_back;
  b.weight_hh = weights.weight_hh;
  b.recurrent_mask = p.recurrent_mask;
  b.grad_pooled = p.grad_pooled;
  b.saved = b.grads = space.saved;  // the saved state is not needed afterwards
  b.largest = p.largest;

  WeightGradParams w{};
  w.sizes = s;
  w.lengths = p.lengths;
  w.x = p.x;
  w.saved = w.grads = space.saved;
  w.largest = p.largest;
  w.n_windows = p.n_windows;

  HeadGradParams h{};
  h.sizes = s;
  h.sizes.n_classes = static_cast<int32_t>(p.call.shape.n_classes);
  h.grad_logits = p.grad_logits;
  h.pooled = p.features;
  h.n_windows = p.n_windows;
  h.slots = space.head_slots;

  queue.template RunTasks<Gather>(p);
  Status status = QueueLayer(queue, f, weights, s, space.layer, options);
  if (status != Status::kOk) return status;
  queue.template RunTasks<Head>(p);
  queue.template RunSlots<HeadWeightGrad>(h);
  if (IsPortable(options)) {
    status = ForPortable(s, [&](auto hidden) { queue.template RunPortable<hidden.value>(b); });
    if (status != Status::kOk) return status;
    w.slots = space.hidden_slots;
    queue.template RunSlots<PortableGrad<false>>(w);
    w.slots = space.input_slots;
    queue.template RunSlots<PortableGrad<true>>(w);
  } else {
    status = ForVariant(options, s, [&](auto planes, auto hidden) {
      queue.template RunBackward<planes.value, hidden.value>(b);
      w.slots = space.hidden_slots;
      queue.template RunSlots<HiddenGrad<planes.value>>(w);
    });
    if (status != Status::kOk) return status;
    w.slots = space.input_slots;
    queue.template RunSlots<InputGrad>(w);
  }
  queue.template RunTasks<SumGradients>(p);
  queue.template RunTasks<Measure>(p);
  queue.template RunTasks<MoveParameters>(p);
  queue.template RunTasks<End>(p);
  return Status::kOk;
}

}  // namespace sensorseq::cuda
