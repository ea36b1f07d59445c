// What the kernels of a training step get, by value: the call's arguments and where a step keeps
// what. Letters are those of train_epoch.h; B is max_batch: every step has room for so many
// windows, and those beyond a step's own have length 0 and count nowhere.
#pragma once

#include <cstdint>

#include "layout.h"
#include "params.h"
#include "train_epoch.h"

namespace sensorseq::cuda {

struct TrainParams {
  TrainEpoch<float> call;
  Sizes sizes;  // of a step: B windows, x and lengths as gathered
  int64_t n_parameters, pooled_size;

  int64_t* step;                           // (M)  steps taken by this call
  int64_t* n_windows;                      // (M)  of this step
  int64_t* lengths;                        // (M, B)  -1 where a row is none of the data
  float* x;                                // (M or 1, B, T, C)
  float* recurrent_mask;                   // (M, B, D, H); null without dropout
  float *pooled, *features, *grad_pooled;  // (M, B, P)
  float *logits, *grad_logits;             // (M, B, K)
  double *log_p, *grad_loss;               // (M, B, K)
  double* losses;                          // (M, B)
  double* is_correct;                      // (M, B)
  float* grads;                            // (M, Q)
  double* squares;                         // (M, slices)  of the gradient
  double* norm;                            // (M)  likewise
  uint32_t* largest;                       // (M, D)
  const float *hidden_slots, *input_slots, *head_slots;  // of SumSlotsParams
};

// A warp takes so many parameters, or elements that are copied; a part of the contract of bits.
constexpr int64_t kSlice = 512;
SENSORSEQ_HD int64_t SliceCount(int64_t n) { return (n + kSlice - 1) / kSlice; }

}  // namespace sensorseq::cuda
