// Where the epoch engine's numbers are: the offsets of a model's parameters in its flat buffer, and
// the arrays of a lane in the workspace. Letters are as in train_epoch.h, and B is max_batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/carver.h"
#include "cpu/dispatch.h"
#include "cpu/train_head.h"
#include "lstm/gates.h"
#include "lstm/train_epoch.h"

namespace sensorseq {

inline int64_t LayerInputs(const TrainShape& s, int64_t layer) {
  return layer == 0 ? s.n_channels : s.n_directions * s.hidden_size;
}
inline int64_t DirectionSize(const TrainShape& s, int64_t layer) {
  return kGates * s.hidden_size * (LayerInputs(s, layer) + s.hidden_size + 2);
}
inline int64_t LayerOffset(const TrainShape& s, int64_t layer) {
  int64_t offset = 0;
  for (int64_t l = 0; l < layer; ++l) offset += s.n_directions * DirectionSize(s, l);
  return offset;
}
inline int64_t PooledWidth(const TrainShape& s) {
  return s.n_directions * s.hidden_size * (s.pooling == Pooling::kMeanMax ? 2 : 1);
}
inline int64_t NormOffset(const TrainShape& s) { return LayerOffset(s, s.n_layers); }
inline int64_t HeadOffset(const TrainShape& s) {
  return NormOffset(s) + (s.head_norm == HeadNorm::kNone ? 0 : 2 * PooledWidth(s));
}

inline LstmShape KernelShape(const TrainShape& s, int64_t layer, int64_t n_windows) {
  LstmShape k;
  k.n_windows = n_windows;
  k.n_timesteps = s.n_timesteps;
  k.n_channels = LayerInputs(s, layer);
  k.hidden_size = s.hidden_size;
  k.n_directions = s.n_directions;
  k.pooling = layer + 1 == s.n_layers ? s.pooling : Pooling::kNone;
  return k;
}

// Whether a layer's passes run as one fused step: only those of the top layer, and not with batch
// norm, because the norm between them needs all windows.
inline bool IsFused(const TrainShape& s, int64_t layer) {
  return layer + 1 == s.n_layers && s.head_norm != HeadNorm::kBatch;
}

// Weights of a layer, or their gradients, in the layout of the kernels.
template <typename Real>
struct LaneWeights {
  Real *ih, *hh;  // (D, 4H, inputs), (D, 4H, H)  empty with one direction
  Real* bias;     // (D, 4H)
};

template <typename Real>
struct LaneLayer {
  LaneWeights<Real> weights, grads;
  Real* recurrent_mask;  // (B, D, H)
  Real* saved;           // (D, B, SavedRows(T), Padded(H))  empty if the passes are fused
  Real* hidden;          // (B, T, D*H)  empty in the top layer
};

// The arrays from the pooled vectors to the loss, and back.
template <typename Real>
struct LaneHead {
  Real* pooled;               // (B, P)
  Real* normed;               // (B, P)  (pooled - mean) / deviation
  double* inverse_deviation;  // (P or B)
  Real* features;             // (B, P)  inputs of the head
  Real* grad_features;        // (B, P)
  Real* logits;               // (B, K)
  double* losses;             // (B)
  HeadScratch<Real> scratch;  // of slot 0; each array is (slots, K)
  Real* shares;               // (slots, norm and head parameters)  gradients by slot
};

// The arrays of one lane for a step, carved out of the lane's part of the workspace.
template <typename Real>
struct Lane {
  Real* x;           // (B, T, C)
  int64_t* lengths;  // (B)
  LaneLayer<Real> layers[kMaxLayers];
  Real *h_n, *c_n;       // (B, D, H)
  Real* grad_hidden[2];  // (B, T, D*H)  the two are used alternately
  LaneHead<Real> head;
  Real* grads;  // (Q)
  void* kernel_workspace;
};

template <typename Real>
size_t CarveLane(const TrainShape& s, void* block, Lane<Real>* lane) {
  const int64_t B = s.max_batch, D = s.n_directions, H = s.hidden_size, P = PooledWidth(s);
  const int64_t sequence = B * s.n_timesteps * D * H;
  Carver carver(block);
  size_t kernel_bytes = 0;
  lane->x = carver.Take<Real>(B * s.n_timesteps * s.n_channels);
  lane->lengths = carver.Take<int64_t>(B);
  for (int64_t l = 0; l < s.n_layers; ++l) {
    LaneLayer<Real>& layer = lane->layers[l];
    // With one direction, the flat buffers are used directly.
    const int64_t of_hidden = D == 1 ? 0 : D * kGates * H * H;
    const int64_t of_inputs = D == 1 ? 0 : D * kGates * H * LayerInputs(s, l);
    layer.weights.ih = carver.Take<Real>(of_inputs);
    layer.weights.hh = carver.Take<Real>(of_hidden);
    layer.weights.bias = carver.Take<Real>(D * kGates * H);
    layer.grads.ih = carver.Take<Real>(of_inputs);
    layer.grads.hh = carver.Take<Real>(of_hidden);
    layer.grads.bias = carver.Take<Real>(D * kGates * H);
    layer.recurrent_mask = carver.Take<Real>(B * D * H);
    const int64_t saved = D * B * SavedRows(s.n_timesteps) * Padded(H);
    layer.saved = carver.Take<Real>(IsFused(s, l) ? 0 : saved);
    layer.hidden = carver.Take<Real>(l + 1 < s.n_layers ? sequence : 0);
    const LstmShape shape = KernelShape(s, l, B);
    for (size_t bytes : {lstm_forward_workspace_bytes(shape, sizeof(Real)),
                         lstm_backward_workspace_bytes(shape, sizeof(Real)),
                         IsFused(s, l) ? lstm_step_workspace_bytes(shape, sizeof(Real)) : 0}) {
      if (bytes > kernel_bytes) kernel_bytes = bytes;
    }
  }
  lane->grad_hidden[0] = carver.Take<Real>(s.n_layers > 1 ? sequence : 0);
  lane->grad_hidden[1] = carver.Take<Real>(s.n_layers > 2 ? sequence : 0);
  lane->h_n = carver.Take<Real>(B * D * H);
  lane->c_n = carver.Take<Real>(B * D * H);
  LaneHead<Real>& head = lane->head;
  HeadScratch<Real>& scratch = head.scratch;
  head.pooled = carver.Take<Real>(B * P);
  head.normed = carver.Take<Real>(B * P);
  head.features = carver.Take<Real>(B * P);
  head.grad_features = carver.Take<Real>(B * P);
  head.logits = carver.Take<Real>(B * s.n_classes);
  scratch.grad_logits = carver.Take<Real>(kMaxSlots * s.n_classes);
  lane->grads = carver.Take<Real>(ParameterCount(s));
  head.shares = carver.Take<Real>(kMaxSlots * (ParameterCount(s) - NormOffset(s)));
  head.inverse_deviation = carver.Take<double>(B > P ? B : P);
  head.losses = carver.Take<double>(B);
  scratch.log_p = carver.Take<double>(kMaxSlots * s.n_classes);
  scratch.grad_loss = carver.Take<double>(kMaxSlots * s.n_classes);
  lane->kernel_workspace = carver.Take<char>(static_cast<int64_t>(kernel_bytes));
  return carver.used();
}

template <typename Real>
size_t LaneBytes(const TrainShape& shape) {
  Lane<Real> lane;
  return CarveLane(shape, nullptr, &lane);
}

}  // namespace sensorseq
