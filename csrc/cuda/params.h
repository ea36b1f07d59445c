// The kernels' parameters, passed by value: sizes and pointers to device memory. Letters and shapes
// are as in lstm_linear.h; layout.cuh describes "packed" and "saved".
#pragma once

#include <cstdint>

#include "base/host_device.h"
#include "lstm/lstm_linear.h"

namespace sensorseq::cuda {

struct Sizes {
  int64_t n_models, n_x_models, n_windows, n_timesteps;
  int32_t n_channels, hidden_size, n_directions, n_classes;
  int32_t padded_hidden;  // hidden size of the kernels
  Pooling pooling;
  bool is_projected;
  int32_t lengths_stride = 0;  // distance between the lengths of two models
};

SENSORSEQ_HD const int64_t* LengthsOf(const int64_t* lengths, const Sizes& s, int64_t model) {
  return lengths == nullptr ? nullptr : lengths + model * s.lengths_stride;
}

// An array with a part for each direction of each model. Strides are in elements.
template <typename T>
struct PerDirectionOf {
  const T* data = nullptr;
  int64_t model_stride = 0, direction_stride = 0;

  SENSORSEQ_HD int64_t Begin(int64_t model, int64_t direction) const {
    return model * model_stride + direction * direction_stride;
  }
  template <typename Of>
  operator PerDirectionOf<Of>() const {
    return {data, model_stride, direction_stride};
  }
  SENSORSEQ_HD const T* Of(int64_t of_model, int64_t n_directions) const {
    return data + Begin(of_model / n_directions, of_model % n_directions);
  }
};
using PerDirection = PerDirectionOf<float>;

struct PackParams {
  Sizes sizes;
  PerDirection weight_ih, weight_hh, bias;
  PerDirection second_bias;  // added to `bias`; null: none
  // Outputs for each model and direction; null: not wanted.
  void* forward;   // fragments
  void* backward;  // fragments
  float* input;    // [group] InputWeightFloats
};

struct ForwardParams {
  Sizes sizes;
  const float* x;
  const int64_t* lengths;
  const void* packed;
  const float* packed_input;
  const float *h_0, *c_0, *recurrent_mask;
  const float *weight_out, *bias_out;
  float *hidden, *h_n, *c_n, *pooled, *logits, *saved;
  int32_t* arrived;  // (M, tiles) counts of CTAs that have pooled; zeros before and after a call
};

// The type of the elements of a caller's arrays.
enum class Element : int32_t { kFloat32, kFloat16, kBfloat16 };

// Parameters of the portable forward pass. The arrays have elements of type `element`, except for
// `saved`.
struct PortableParams {
  Sizes sizes;
  Element element;
  const int64_t* lengths;
  const void* x;
  PerDirectionOf<void> weight_ih, weight_hh, bias;
  PerDirectionOf<void> second_bias;  // added to `bias`; null: none
  const void *h_0, *c_0, *recurrent_mask;
  const void *weight_out, *bias_out;
  void *hidden, *h_n, *c_n, *pooled, *logits;
  float* saved;
  // (M, N) counts of directions that have pooled; zeros before and after a call; not read with one
  // direction
  int32_t* arrived;
};

struct BackwardParams {
  Sizes sizes;
  const int64_t* lengths;
  const void* packed;      // read by the tensor-core kernels
  PerDirection weight_hh;  // read by the portable kernels
  const float *h_0, *c_0, *recurrent_mask;
  const float *grad_hidden, *grad_h_n, *grad_c_n;
  const float* grad_pooled;  // (M, N, P), including the head's gradient, or null
  const float* saved;
  // Written like `saved`, but with gradients in place of the gates; may be the same memory.
  float* grads;
  float *grad_h_0, *grad_c_0;
  float* grad_gates;  // (M, N, T, D, H, 4), zero beyond lengths; null: not wanted
  // (M, D) in: zeros; out: bits of the largest absolute gate gradient, for the tensor-core kernels
  uint32_t* largest;
};

inline bool HasSequences(const BackwardParams& p) {
  return p.grad_hidden != nullptr || p.grad_gates != nullptr;
}

// Gradients of the layer's weights, after the backward pass.
struct WeightGradParams {
  Sizes sizes;
  const int64_t* lengths;
  const float* x;  // inputs of weight_ih
  const float *saved, *grads;
  const uint32_t* largest;
  // (M) numbers of windows in use, which determine the slots; null: all N
  const int64_t* n_windows;
  float* slots;  // (slots, M, D, 4H, H), or (slots, M, D, 4H, C + 1) with the bias last
};

// Sums the slots in order. Each slot has n_rows rows of n_columns values, whose sums go to `out`.
// If has_bias, each row has one more value, whose sum goes to `bias`.
struct SumSlotsParams {
  const float* slots;
  int64_t n_slots, n_rows, n_columns;  // n_rows: M D 4H, or M K
  bool has_bias;
  float *out, *bias;
};

struct HeadGradParams {
  Sizes sizes;
  const float *grad_logits, *weight_out, *pooled, *grad_pooled;
  const int64_t* n_windows;  // as in WeightGradParams
  float* out;                // (M, N, P): the head's gradient plus grad_pooled
  float* slots;              // (slots, M, K, P + 1)
};

}  // namespace sensorseq::cuda
