// The LSTM layer of c_api.h.
#include "c_api/c_api.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "c_api/c_api_status.h"
#include "cpu/dispatch.h"
#include "lstm/calls.h"

struct sensorseq_lstm {
  sensorseq::LstmShape shape;  // with no windows
  bool is_single;
  std::unique_ptr<void, sensorseq::FreeLines> packed;
  std::vector<char> weight_out, bias_out;
};

namespace sensorseq {
namespace {

void Check(Status status) {
  switch (status) {
    case Status::kOk:
      return;
    case Status::kUnknownIsa:
    case Status::kIsaNotSupported:
      throw Refusal{SENSORSEQ_BAD_ENVIRONMENT, AllKernels().Refusal(status)};
    default:
      throw Refusal{
          status == Status::kPackedForOtherIsa ? SENSORSEQ_OTHER_ISA : SENSORSEQ_BAD_VALUE,
          std::string("sensorseq: ") + StatusText(status) + "."};
  }
}

void CheckCountable(const LstmShape& s) {
  const std::string problem = CountProblem(s.n_windows, s.n_timesteps, s.n_channels, s.hidden_size,
                                           1.0 * s.n_models * s.n_directions);
  if (!problem.empty()) throw Refusal{SENSORSEQ_BAD_VALUE, problem};
}

void* RequireMemory(void* block) {
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

std::vector<char> CopyOf(const void* values, int64_t n_bytes) {
  const char* from = static_cast<const char*>(values);
  return n_bytes == 0 ? std::vector<char>() : std::vector<char>(from, from + n_bytes);
}

template <typename Real>
void Pack(const sensorseq_lstm_weights& w, sensorseq_lstm* layer) {
  const LstmShape& s = layer->shape;
  const size_t bytes = lstm_packed_bytes(s, sizeof(Real));
  layer->packed.reset(RequireMemory(AllocateLines(bytes)));
  LstmInputs<Real> in{};
  in.weight_ih = static_cast<const Real*>(w.weight_ih);
  in.weight_hh = static_cast<const Real*>(w.weight_hh);
  in.bias = static_cast<const Real*>(w.bias);
  Check(lstm_pack(s, in, layer->packed.get()));
  const int64_t row_bytes = s.n_classes * static_cast<int64_t>(sizeof(Real));
  layer->weight_out = CopyOf(w.weight_out, row_bytes * PooledSize(s));
  layer->bias_out = CopyOf(w.bias_out, row_bytes);
}

std::unique_ptr<sensorseq_lstm> Make(const sensorseq_lstm_weights& w) {
  Require(w.real_bytes == 4 || w.real_bytes == 8, "real_bytes is neither 4 nor 8");
  Require(w.pooling >= SENSORSEQ_POOLING_NONE && w.pooling <= SENSORSEQ_POOLING_MEANMAX,
          "pooling is not known");
  Require(w.n_channels >= 0 && w.hidden_size >= 1 && w.n_directions >= 1 && w.n_directions <= 2 &&
              w.n_classes >= 0 && w.n_classes < int64_t{1} << 31 &&
              (w.pooling != SENSORSEQ_POOLING_NONE || w.n_classes == 0),
          StatusText(Status::kInvalidShape));
  auto layer = std::make_unique<sensorseq_lstm>();
  LstmShape& s = layer->shape;
  s.n_channels = w.n_channels;
  s.hidden_size = w.hidden_size;
  s.n_directions = w.n_directions;
  s.n_classes = w.n_classes;
  s.pooling = static_cast<Pooling>(w.pooling);
  layer->is_single = w.real_bytes == 4;
  CheckCountable(s);
  layer->is_single ? Pack<float>(w, layer.get()) : Pack<double>(w, layer.get());
  return layer;
}

void RunOnPool(void* n_threads, int64_t n_tasks, Parallel::Task task, void* context) {
  ThreadPool::Instance().Run(*static_cast<int64_t*>(n_threads), n_tasks, task, context);
}

// The arguments of a call, before dispatch to float or double.
struct ForwardCall {
  const void* x;
  const int64_t* lengths;
  int64_t n_windows, n_timesteps, n_threads;
  void *h, *c, *hidden, *logits;
};

template <typename Real>
void Forward(const sensorseq_lstm& layer, ForwardCall call) {
  LstmForward<Real> args{};
  LstmShape& s = args.shape;
  s = layer.shape;
  s.n_windows = call.n_windows;
  s.n_timesteps = call.n_timesteps;
  CheckCountable(s);
  if (call.logits == nullptr) {
    s.pooling = Pooling::kNone;
    s.n_classes = 0;
  }
  const int64_t n_state = s.n_windows * s.n_directions * s.hidden_size;
  const size_t own_bytes = lstm_forward_workspace_bytes(s, sizeof(Real));
  const auto n_more = static_cast<size_t>(2 * n_state + s.n_windows * PooledSize(s));
  args.workspace = RequireMemory(ThreadWorkspace(own_bytes + n_more * sizeof(Real) + 1));
  Real* const state = reinterpret_cast<Real*>(static_cast<char*>(args.workspace) + own_bytes);
  args.in.x = static_cast<const Real*>(call.x);
  args.in.lengths = call.lengths;
  args.in.h_0 = static_cast<Real*>(call.h);
  args.in.c_0 = static_cast<Real*>(call.c);
  args.h_n = call.h == nullptr ? state : static_cast<Real*>(call.h);
  args.c_n = call.c == nullptr ? state + n_state : static_cast<Real*>(call.c);
  args.hidden = static_cast<Real*>(call.hidden);
  if (call.logits != nullptr) {
    args.in.weight_out = reinterpret_cast<const Real*>(layer.weight_out.data());
    args.bias_out = reinterpret_cast<const Real*>(layer.bias_out.data());
    args.pooled = state + 2 * n_state;
    args.logits = static_cast<Real*>(call.logits);
  }
  args.packed = layer.packed.get();
  if (!IsSerial(s)) args.parallel = {&RunOnPool, &call.n_threads, call.n_threads};
  Check(lstm_forward(args));
}

}  // namespace

}  // namespace sensorseq

using namespace sensorseq;

int32_t sensorseq_cpu_isa(const char** name) {
  return Guarded([&] { *name = Serving(AllKernels()).name; });
}

int32_t sensorseq_lstm_make(const sensorseq_lstm_weights* weights, sensorseq_lstm** layer) {
  return Guarded([&] { *layer = Make(*weights).release(); });
}

void sensorseq_lstm_free(sensorseq_lstm* layer) { delete layer; }

int32_t sensorseq_lstm_forward(const sensorseq_lstm* layer, const void* x, const int64_t* lengths,
                               int64_t n_windows, int64_t n_timesteps, int64_t n_threads, void* h,
                               void* c, void* hidden, void* logits) {
  const int64_t n = std::max<int64_t>(n_threads, 1);
  const ForwardCall call{x, lengths, n_windows, n_timesteps, n, h, c, hidden, logits};
  return Guarded([&] {
    Require(logits == nullptr || layer->shape.pooling != Pooling::kNone, "the layer has no head");
    layer->is_single ? Forward<float>(*layer, call) : Forward<double>(*layer, call);
  });
}
