// The contract of the native core: one LSTM layer in one or two directions, optionally followed by
// pooling over time and a linear head, forward and backward. No framework type appears here.
//
// Every array is dense and row-major. Letters: M models, Mx models of x, N windows, T timesteps,
// C channels, H hidden size, D directions, K classes, P width of the pooled vector (D*H, for
// meanmax 2*D*H). Blocks of 4H are ordered i, f, g, o (gates.h). Real is float or double.
//
// The functions allocate and throw nothing, and are thread-safe between calls that share no written
// pointer. No output may overlap an input unless the comment on the output allows it.
//
// Bits: the values of one row (logits, hidden, h_n, c_n, grad_x, grad_h_0, grad_c_0) are
// accumulated in an order that depends only on H and C, so they do not depend on the batch, the
// thread count, M, or the chunking in time (h_0, c_0 of the second chunk = h_n, c_n of the first).
// Weight gradients are summed in min(8, ceil(N / 6)) slots determined by N, or in one slot if H >=
// 320; the slots are then added in order. All this is guaranteed on one instruction set; on
// another, the last bits may differ.
//
// Subnormal numbers: float treats them as zero on input and output, double keeps them, regardless
// of the calling thread's mode, which is restored after the call (subnormals.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "gates.h"
#include "status.h"

namespace sensorseq {

// How a call runs its tasks. `run` calls task(context, i) once for every i in [0, n_tasks), on any
// threads and in any order, and returns when all are done. Null: in order on the calling thread.
struct Parallel {
  using Task = void (*)(void* context, int64_t index);
  void (*run)(void* pool, int64_t n_tasks, Task task, void* context) = nullptr;
  void* pool = nullptr;
  int64_t n_threads = 1;  // the maximum number that `run` may use at a time
  // The conditions under which threads share the steps of a layer and wait for one another after
  // each step (cpu/team.h).
  struct Sharing {
    // multiply-adds per step and gate from which sharing pays if there are fewer tiles than threads
    int64_t min_work = int64_t(1) << 14;
    int64_t long_wait_us = 500;       // above any wait for a running thread, below a time slice
    int64_t long_waits_percent = 25;  // threads stop sharing from this share of long waits on
    int64_t alone_ms = 500;           // time without sharing after a thread was kept from running
  } sharing = {};
};

enum class Pooling : int32_t {
  kNone = 0,  // no pooled vector and no head
  kLast,      // each direction's state after its last step
  kMean,      // over valid steps
  kMax,       // over valid steps; the gradient goes to the earliest step that attains it
  kMeanMax,   // the mean (D*H), then the maximum (D*H)
};

struct LstmShape {
  int64_t n_models = 1;      // M
  int64_t n_x_models = 1;    // Mx: M, or 1 when every model reads the same x
  int64_t n_windows = 0;     // N
  int64_t n_timesteps = 0;   // T
  int64_t n_channels = 0;    // C
  int64_t hidden_size = 0;   // H, at least 1
  int64_t n_directions = 1;  // D, 1 or 2
  int64_t n_classes = 0;     // K; 0: no head, as always with Pooling::kNone
  Pooling pooling = Pooling::kNone;
};

// Inputs of both the forward and the backward pass.
template <typename Real>
struct LstmInputs {
  const Real* x;               // (Mx, N, T, C)   steps t >= lengths[n] are never read
  const int64_t* lengths;      // (N)             each in [0, T]; null: all T
  const Real* weight_ih;       // (M, D, 4H, C)
  const Real* weight_hh;       // (M, D, 4H, H)
  const Real* bias;            // (M, D, 4H)      b_ih + b_hh, summed by the caller
  const Real* h_0;             // (M, N, D, H)    null: zeros
  const Real* c_0;             // (M, N, D, H)    null: zeros
  const Real* recurrent_mask;  // (M, N, D, H) factor on h wherever it enters the gates; null: ones
  const Real* weight_out;      // (M, K, P)    null without a head
};

template <typename Real>
struct LstmForward {
  LstmShape shape;
  LstmInputs<Real> in;
  const Real* bias_out;  // (M, K)            null without a head
  Real* hidden;          // (M, N, T, D*H)    written, zero beyond lengths; null: not wanted
  Real* h_n;             // (M, N, D, H)      written; may be the same pointer as in.h_0
  Real* c_n;             // (M, N, D, H)      written; may be the same pointer as in.c_0
  Real* pooled;          // (M, N, P)         written; null with Pooling::kNone
  Real* logits;          // (M, N, K)         written; null without a head
  Real* saved;           // (M, D, N, SavedRows(T), Padded(H))  written for the backward pass in an
                         //                   order of the instruction set's own, undefined where
                         //                   no valid step belongs; null at inference
  void* workspace;       // lstm_forward_workspace_bytes, aligned to 64; undefined afterwards
  Parallel parallel;
  const void* packed = nullptr;  // from lstm_pack: the weights and biases of `in`, which are then
                                 // not read and may be null; null: packed in the call
};

template <typename Real>
struct LstmBackward {
  LstmShape shape;
  LstmInputs<Real> in;      // as given to the forward pass
  const Real* pooled;       // (M, N, P)       as the forward pass wrote it; null with kNone
  const Real* saved;        // (M, D, N, SavedRows(T), Padded(H))  likewise
  const Real* grad_hidden;  // (M, N, T, D*H)  read at valid steps only; null: zeros
  const Real* grad_h_n;     // (M, N, D, H)    null: zeros
  const Real* grad_c_n;     // (M, N, D, H)    null: zeros
  const Real* grad_logits;  // (M, N, K)       null without a head
  const Real* grad_pooled = nullptr;  // (M, N, P)  added to the head's gradient; null: zeros
  Real* grad_x;           // (M, N, T, C)    written, zero beyond lengths; null: not wanted. With
                          //                 Mx = 1 the caller sums over M
  Real* grad_weight_ih;   // (M, D, 4H, C)   written
  Real* grad_weight_hh;   // (M, D, 4H, H)   written
  Real* grad_bias;        // (M, D, 4H)      written
  Real* grad_h_0;         // (M, N, D, H)    written; null: not wanted
  Real* grad_c_0;         // (M, N, D, H)    written; null: not wanted
  Real* grad_weight_out;  // (M, K, P)       written; null without a head
  Real* grad_bias_out;    // (M, K)          written; null without a head
  void* workspace;        // lstm_backward_workspace_bytes, aligned to 64; undefined afterwards
  Parallel parallel;
};

// Forward and backward pass of a training step in one call: each tile of windows goes backwards
// while its state is still in the cache. The caller computes the part between the passes, from
// pooled vectors to their gradients: `between` is called for windows [first, first + n) of one
// model after their forward and before their backward pass, on the thread that runs the model's
// slot. It reads forward.pooled and writes backward.grad_pooled of these windows.
template <typename Real>
struct LstmStep {
  LstmForward<Real> forward;    // no head; saved, workspace and parallel are not read. h_n and c_n
                                // must not be h_0 and c_0 here, which the backward pass reads
  LstmBackward<Real> backward;  // of the same shape and inputs; no head, saved is not read
  void (*between)(void* context, int64_t model, int64_t slot, int64_t first, int64_t n);
  void* context;
};

// Bytes of workspace for a shape, the same on every instruction set: the packed weights and the
// scratch memory of the tasks, O(M * N * H) forward.
size_t lstm_forward_workspace_bytes(const LstmShape& shape, size_t real_bytes);
size_t lstm_backward_workspace_bytes(const LstmShape& shape, size_t real_bytes);
size_t lstm_step_workspace_bytes(const LstmShape& shape, size_t real_bytes);

// Arranges the weights and biases of `in`, the only members read, once for many forward calls with
// the same M, D, C and H. The layout belongs to the instruction set and the build that wrote it: it
// begins with a header that names both, and lstm_forward refuses any other. `packed` has
// lstm_packed_bytes bytes, all of which are written; it must be aligned to 64 in both functions.
size_t lstm_packed_bytes(const LstmShape& shape, size_t real_bytes);

template <typename Real>
Status lstm_pack(const LstmShape& shape, const LstmInputs<Real>& in, void* packed);

template <typename Real>
Status lstm_forward(const LstmForward<Real>& args);

template <typename Real>
Status lstm_backward(const LstmBackward<Real>& args);

template <typename Real>
Status lstm_step(const LstmStep<Real>& args);

// Width of the pooled vector, P.
inline int64_t PooledSize(const LstmShape& shape) {
  const int64_t width = shape.n_directions * shape.hidden_size;
  switch (shape.pooling) {
    case Pooling::kNone:
      return 0;
    case Pooling::kMeanMax:
      return 2 * width;
    default:
      return width;
  }
}

}  // namespace sensorseq
