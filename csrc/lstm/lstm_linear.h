// The interface of the native core: one LSTM layer in one or two directions, optionally followed by
// pooling over time and a linear head, forward and backward. No framework type appears here.
//
// Every array is dense and row-major. Letters: M models, Mx models of x, N windows, T timesteps,
// C channels, H hidden size, D directions, K classes, P width of the pooled vector (D*H, for
// meanmax 2*D*H). Blocks of 4H are ordered i, f, g, o (gates.h). Real is float or double.
//
// The functions allocate nothing and throw nothing. Calls may run on several threads at the same
// time if no call writes to memory that another call uses. No output may overlap an input unless
// the comment on the output allows it.
//
// Bits: the values of one row (logits, hidden, h_n, c_n, grad_x, grad_h_0 and grad_c_0) are
// accumulated in an order that depends only on H and C, so their bits do not depend on the batch,
// the thread count or M. With one direction, time may be divided into chunks without any effect on
// these values if each chunk gets h_n and c_n of the previous chunk as h_0 and c_0. Weight
// gradients are summed in min(8, ceil(N / 6)) slots determined by N, or in one slot if H >= 320;
// the slots are then added in order. These guarantees hold within one instruction set; another
// instruction set may give different last bits.
//
// In float, subnormal numbers are treated as zero on input and output; in double, they are kept.
// The mode of the calling thread has no effect and is restored after the call (subnormals.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/parallel.h"
#include "base/status.h"
#include "lstm/gates.h"

namespace sensorseq {

enum class Pooling : int32_t {
  kNone = 0,  // no pooled vector and no head
  kLast,      // the state of each direction after its last step
  kMean,      // mean over valid steps
  kMax,       // maximum over valid steps; the gradient goes to the earliest step that attains it
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
  int64_t n_classes = 0;     // K; 0: no head, the only choice with Pooling::kNone
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
  const Real* recurrent_mask;  // (M, N, D, H) factor on h where h enters the gates; null: ones
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
  // (M, D, N, SavedRows(T), Padded(H))  written for the backward pass in an order that depends on
  // the instruction set; undefined where there is no valid step; null at inference
  Real* saved;
  void* workspace;  // lstm_forward_workspace_bytes, aligned to 64; undefined afterwards
  Parallel parallel;
  // The result of lstm_pack. If `packed` is given, the weights and biases of `in` are not read and
  // may be null. If `packed` is null, the call packs the weights.
  const void* packed = nullptr;
};

template <typename Real>
struct LstmBackward {
  LstmShape shape;
  LstmInputs<Real> in;      // as given to the forward pass
  const Real* pooled;       // (M, N, P)       as the forward pass wrote it; null with kNone
  const Real* saved;        // (M, D, N, SavedRows(T), Padded(H)) as the forward pass wrote it
  const Real* grad_hidden;  // (M, N, T, D*H) read only at valid steps; null: zeros
  const Real* grad_h_n;     // (M, N, D, H)    null: zeros
  const Real* grad_c_n;     // (M, N, D, H)    null: zeros
  const Real* grad_logits;  // (M, N, K)       null without a head
  const Real* grad_pooled = nullptr;  // (M, N, P)  added to the head's gradient; null: zeros
  // (M, N, T, C) written, zero beyond lengths; null: not wanted. If Mx = 1, the caller sums grad_x
  // over M.
  Real* grad_x;
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

// The forward and the backward pass of a training step in one call. The backward pass of each tile
// of windows runs while the tile's state is still in the cache. The caller's function `between`
// computes the part between the passes, from pooled vectors to their gradients. `between` is called
// for windows [first, first + n) of one model after their forward pass and before their backward
// pass, on the thread that processes their slot. `between` reads forward.pooled and writes
// backward.grad_pooled of these windows.
template <typename Real>
struct LstmStep {
  // Has no head; saved, workspace and parallel are not read. h_n and c_n must not be the same
  // pointers as h_0 and c_0 here, because the backward pass reads h_0 and c_0.
  LstmForward<Real> forward;
  LstmBackward<Real> backward;  // has the same shape and inputs and no head; saved is not read
  void (*between)(void* context, int64_t model, int64_t slot, int64_t first, int64_t n);
  void* context;
};

// The number of bytes of workspace that a shape needs, which is the same on every instruction set.
// The workspace holds the packed weights and the scratch memory of the tasks; in the forward pass,
// the scratch memory is O(M * N * H).
size_t lstm_forward_workspace_bytes(const LstmShape& shape, size_t real_bytes);
size_t lstm_backward_workspace_bytes(const LstmShape& shape, size_t real_bytes);
size_t lstm_step_workspace_bytes(const LstmShape& shape, size_t real_bytes);

// Packs the weights and biases of `in` once for many forward calls with the same M, D, C and H. No
// other members of `in` are read. The layout depends on the instruction set and the version of the
// format. The packed weights begin with a header that names both, and lstm_forward rejects any
// other layout. `packed` has lstm_packed_bytes bytes, all of which are written. In lstm_pack and
// lstm_forward, `packed` must be aligned to 64 bytes.
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
