// The parameters of a training step's kernels, passed by value: the call's arguments and the arrays
// of a step. Letters are as in train_epoch.h, and B is max_batch. Every step has room for B
// windows; windows beyond those of the step have length 0 and do not count.
#pragma once

#include <cstdint>

#include "cuda/layout.cuh"
#include "cuda/params.h"
#include "lstm/train_epoch.h"

namespace sensorseq::cuda {

struct TrainParams {
  TrainEpoch<float> call;
  Sizes sizes;  // sizes of a step: B windows, with x and lengths as gathered
  int64_t n_parameters, pooled_size;

  int64_t* step;                                         // (M)  steps taken by this call
  int64_t* n_windows;                                    // (M)  windows of this step
  int64_t* lengths;                                      // (M, B)  -1 if a row is invalid
  float* x;                                              // (M or 1, B, T, C)
  float* recurrent_mask;                                 // (M, B, D, H); null without dropout
  float *pooled, *features, *grad_pooled;                // (M, B, P)
  float *logits, *grad_logits;                           // (M, B, K)
  double *log_p, *grad_loss;                             // (M, B, K)
  double* losses;                                        // (M, B)
  double* is_correct;                                    // (M, B)
  float* grads;                                          // (M, Q)
  double* squares;                                       // (M, slices)  sums of squared gradients
  double* norm;                                          // (M)  norm of the gradient
  uint32_t* largest;                                     // (M, D)
  const float *hidden_slots, *input_slots, *head_slots;  // written by the gradient kernels
};

// The number of parameters or copied elements per warp. This number affects the bits of the
// results.
constexpr int64_t kSlice = 512;
SENSORSEQ_HD int64_t SliceCount(int64_t n) { return (n + kSlice - 1) / kSlice; }

}  // namespace sensorseq::cuda
