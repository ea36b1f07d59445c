// Runs the operators of csrc/bind/ops_cuda.cpp on CPU tensors, over a fake CUDA layer. The fake
// layer computes with the native tests' reference or the CPU's epoch engine, and checks that the
// bindings keep the layer's contract.
#include "../native/cuda/halves.h"
#include "../native/reference.h"
#include "bind/ops_cuda.cpp"

namespace {

void* const kStream = reinterpret_cast<void*>(0x5eed);
int n_guards = 0;
sensorseq::Status next_status = sensorseq::Status::kOk;  // status that the next call returns
bool trains_in_fp16 = false;                             // precision expected by train_epoch

}  // namespace

// Replace torch's functions of the same names. -Bsymbolic binds the calls in ops_cuda.cpp to
// these functions.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = kStream;
  return 0;
}
AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = reinterpret_cast<DeviceGuardHandle>(&n_guards);
  ++n_guards;
  return 0;
}
AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) {
  --n_guards;
  return 0;
}

namespace sensorseq::cuda {
namespace {

using reference::Array;
using reference::Problem;
using reference::Result;

void Demand(bool holds, const char* what) {
  if (!holds) throw std::logic_error(std::string("the bindings broke the contract: ") + what);
}

// Conversions between the arrays of a call and those of the reference, for every element type.
using emulator::BfloatOfFloat, emulator::HalfOfFloat, emulator::Widened;
float Float(float x) { return x; }
float Float(Float16 x) { return Widened(x.bits, false); }
float Float(Bfloat16 x) { return Widened(x.bits, true); }
void Round(double from, float* to) { *to = static_cast<float>(from); }
void Round(double from, Float16* to) { to->bits = HalfOfFloat(static_cast<float>(from)); }
void Round(double from, Bfloat16* to) { to->bits = BfloatOfFloat(static_cast<float>(from)); }

template <typename Real>
Array Copy(const Real* values, int64_t n) {
  Array copy;
  for (int64_t i = 0; values != nullptr && i < n; ++i) {
    copy.push_back(static_cast<double>(Float(values[i])));
  }
  return copy;
}

template <typename Real>
void Write(const Array& from, Real* to) {
  for (size_t i = 0; to != nullptr && i < from.size(); ++i) Round(from[i], to + i);
}

// Treats a projected x as an input of D * 4H channels, each of which feeds one gate of one unit.
template <typename Real>
Problem ProblemOf(const LstmShape& shape, const LstmInputs<Real>& in, const Options& options) {
  Demand(options.stream == kStream, "another stream than the current one");
  Demand(n_guards == 1, "no device guard");
  Problem p;
  LstmShape& s = p.shape = shape;
  const int64_t M = s.n_models, N = s.n_windows, D = s.n_directions, H = s.hidden_size;
  const int64_t rows = M * D * kGates * H, states = M * N * D * H;
  if (options.is_projected) {
    Demand(s.n_channels == 0, "channels of a projected x");
    s.n_channels = D * kGates * H;
    p.weight_ih.assign(rows * s.n_channels, 0);
    p.bias.assign(rows, 0);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t d = row / (kGates * H) % D, gate = row / H % kGates, unit = row % H;
      p.weight_ih[row * s.n_channels + (d * H + unit) * kGates + gate] = 1;
    }
  } else {
    p.weight_ih = Copy(in.weight_ih, rows * s.n_channels);
    p.bias = Copy(in.bias, rows);
  }
  p.x = Copy(in.x, s.n_x_models * N * s.n_timesteps * s.n_channels);
  p.weight_hh = Copy(in.weight_hh, rows * H);
  p.has_lengths = in.lengths != nullptr;
  if (p.has_lengths) p.lengths.assign(in.lengths, in.lengths + N);
  p.h_0 = Copy(in.h_0, states);
  p.c_0 = Copy(in.c_0, states);
  p.mask = Copy(in.recurrent_mask, states);
  p.has_h_0 = in.h_0 != nullptr;
  p.has_c_0 = in.c_0 != nullptr;
  p.has_mask = in.recurrent_mask != nullptr;
  p.weight_out = Copy(in.weight_out, M * s.n_classes * PooledSize(s));
  p.bias_out.assign(M * s.n_classes, 0);
  p.grad_logits.assign(M * N * s.n_classes, 0);
  return p;
}

float Mark(const Options& options) {
  return options.precision == Precision::kFp32   ? 32
         : options.precision == Precision::kFp16 ? 16
                                                 : 48;
}

}  // namespace

Status IsServed(const LstmShape& s, const Options& options) {
  if (s.hidden_size > (options.precision == Precision::kFp32 ? 96 : 256))
    return Status::kNotServedHiddenSize;
  return s.n_channels > kMaxChannels ? Status::kNotServedChannels : Status::kOk;
}

int64_t SavedFloats(const LstmShape& s, const Options& options) {
  if (options.precision == Precision::kFp32) {
    const int64_t padded = (s.hidden_size + 31) / 32 * 32;
    return s.n_models * s.n_directions * s.n_windows * (s.n_timesteps * 8 + 1) * padded;
  }
  int64_t padded = 64;
  while (padded < s.hidden_size) padded *= 2;
  return s.n_models * s.n_directions * ((s.n_windows + 7) / 8) * (s.n_timesteps * 12 + 2) * 4 *
         padded;
}

size_t forward_workspace_bytes(const LstmShape& s, const Options&) { return 100 + s.n_windows; }
size_t backward_workspace_bytes(const LstmShape& s, const Options&) { return 5000 + s.n_windows; }

template <typename Real>
Status lstm_forward(const LstmForward<Real>& args, const Options& options) {
  const Status failure = std::exchange(next_status, Status::kOk);
  if (failure != Status::kOk) return failure;
  const LstmShape& s = args.shape;
  Problem p = ProblemOf(s, args.in, options);
  if (s.pooling != Pooling::kNone) p.bias_out = Copy(args.bias_out, s.n_models * s.n_classes);
  std::memset(args.workspace, 0xff, forward_workspace_bytes(s, options));
  const Result r = reference::Run(p);
  Write(r.hidden, args.hidden);
  Write(r.h_n, args.h_n);
  Write(r.c_n, args.c_n);
  Write(r.pooled, args.pooled);
  Write(r.logits, args.logits);
  if constexpr (std::is_same_v<Real, float>) {
    if (args.saved != nullptr) std::fill_n(args.saved, SavedFloats(s, options), Mark(options));
  } else {
    Demand(options.precision == Precision::kFp32 && args.saved == nullptr, "a call in half");
  }
  return Status::kOk;
}
template Status lstm_forward(const LstmForward<float>&, const Options&);
template Status lstm_forward(const LstmForward<Float16>&, const Options&);
template Status lstm_forward(const LstmForward<Bfloat16>&, const Options&);

Status lstm_backward(const LstmBackward<float>& args, const Options& options) {
  const LstmShape& s = args.shape;
  const int64_t M = s.n_models, N = s.n_windows, states = M * N * s.n_directions * s.hidden_size;
  Problem p = ProblemOf(s, args.in, options);
  std::memset(args.workspace, 0xff, backward_workspace_bytes(s, options));
  Demand(std::count(args.saved, args.saved + SavedFloats(s, options), Mark(options)) ==
             SavedFloats(s, options),
         "another saved than the forward pass of this precision wrote");
  p.grad_hidden = Copy(args.grad_hidden, states * s.n_timesteps);
  p.grad_h_n = Copy(args.grad_h_n, states);
  p.grad_c_n = Copy(args.grad_c_n, states);
  if (args.grad_logits != nullptr) p.grad_logits = Copy(args.grad_logits, M * N * s.n_classes);
  const Result r = reference::Run(p);
  if (options.is_projected) {
    Demand(args.grad_weight_ih == nullptr && args.grad_bias == nullptr, "the caller's gradients");
  } else {
    Demand(args.grad_x == nullptr, "the gradient of an x that is not projected");
  }
  for (int64_t i = 0; args.pooled != nullptr && i < M * N * PooledSize(s); ++i) {
    Demand(static_cast<float>(r.pooled[i]) == args.pooled[i], "another pooled than was written");
  }
  Write(r.grad_x, args.grad_x);
  Write(r.grad_weight_ih, args.grad_weight_ih);
  Write(r.grad_weight_hh, args.grad_weight_hh);
  Write(r.grad_bias, args.grad_bias);
  Write(r.grad_h_0, args.grad_h_0);
  Write(r.grad_c_0, args.grad_c_0);
  Write(r.grad_weight_out, args.grad_weight_out);
  Write(r.grad_bias_out, args.grad_bias_out);
  return Status::kOk;
}

Status IsServed(const TrainShape& s, const Options& options) {
  if (s.n_layers != 1 || s.head_norm != HeadNorm::kNone) return Status::kNotServed;
  LstmShape layer;
  layer.n_channels = s.n_channels;
  layer.hidden_size = s.hidden_size;
  return IsServed(layer, options);
}

size_t train_epoch_workspace_bytes(const TrainShape& s, const Options&) {
  return sensorseq::train_epoch_workspace_bytes(s, 1, sizeof(float)) + 64;
}

Status train_epoch(const TrainEpoch<float>& args, const Options& options) {
  Demand(options.stream == kStream, "another stream than the current one");
  Demand(n_guards == 1, "no device guard");
  Demand(!options.is_projected && args.n_lanes == 1, "options of another call");
  Demand((options.precision == Precision::kFp16) == trains_in_fp16, "another precision");
  const Status failure = std::exchange(next_status, Status::kOk);
  if (failure != Status::kOk) return failure;
  std::memset(args.workspace, 0xff, train_epoch_workspace_bytes(args.shape, options));
  TrainEpoch<float> here = args;
  here.workspace =
      reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(args.workspace) + 63) / 64 * 64);
  return sensorseq::train_epoch(here);
}

const char* ErrorText() { return "the device is on fire"; }
int32_t DeviceCount() { return 2; }
Status DeviceFacts(int32_t index, Device* device) {
  *device = {9, 0, 132 + index, 13010, 13000};
  return Status::kOk;
}

}  // namespace sensorseq::cuda

namespace {

int64_t GuardsHeld() { return n_guards; }
void FailNext(bool is_too_small) {
  next_status = is_too_small ? sensorseq::Status::kNoCluster : sensorseq::Status::kCudaError;
}

void ExpectFp16(bool is_expected) { trains_in_fp16 = is_expected; }

}  // namespace

STABLE_TORCH_LIBRARY(gpu_on_cpu, m) {
  m.def(
      "lstm(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, bool save_state,"
      " str precision=\"\") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "lstm_backward(Tensor? grad_hidden, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? h_0,"
      " Tensor? c_0, Tensor? recurrent_mask, Tensor saved, bool needs_grad_x,"
      " str precision=\"\") -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "lstm_linear(Tensor x, Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias,"
      " Tensor weight_out, Tensor bias_out, Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask,"
      " str pooling, bool save_state, str precision=\"\")"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "lstm_linear_backward(Tensor grad_logits, Tensor? grad_h_n, Tensor? grad_c_n, Tensor x,"
      " Tensor? lengths, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor weight_out,"
      " Tensor? h_0, Tensor? c_0, Tensor? recurrent_mask, Tensor pooled, Tensor saved,"
      " str pooling, bool needs_grad_x, str precision=\"\")"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "train_epoch(Tensor x, Tensor? lengths, Tensor class_index, Tensor? weight, Tensor rows,"
      " Tensor offsets, Tensor? crop_starts, Tensor learning_rate, Tensor hyper, Tensor? seeds,"
      " Tensor(a!) parameters, Tensor(b!) state, Tensor(c!) step_count, Tensor(d!)? average,"
      " Tensor(e!)? running, Tensor(f!) statistics, Tensor(g!)? margins, Tensor(h!) workspace,"
      " int n_timesteps, int hidden_size, int n_layers, int n_directions, int n_classes,"
      " str pooling, str head_norm, str loss, str optimizer, int max_batch, int first_step,"
      " int n_steps, int n_lanes, str precision=\"\") -> ()");
  m.def(
      "cuda_trains(int n_channels, int hidden_size, int n_layers, int n_directions, str head_norm,"
      " str precision) -> str");
  m.def("cuda_facts() -> str");
  m.def(
      "cuda_is_served(int hidden_size, int n_channels, int n_directions, str precision,"
      " bool is_projected) -> str");
  m.def("guards_held() -> int");
  m.def("fail_next(bool is_too_small) -> ()");
  m.def("expect_fp16(bool is_expected) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gpu_on_cpu, CPU, m) {
  m.impl("lstm", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::Lstm));
  m.impl("lstm_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmBackward));
  m.impl("lstm_linear", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmLinear));
  m.impl("lstm_linear_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmLinearBackward));
  m.impl("train_epoch", TORCH_BOX(&sensorseq::TrainEpochOp<sensorseq::GpuTraining>));
}

STABLE_TORCH_LIBRARY_IMPL(gpu_on_cpu, CompositeExplicitAutograd, m) {
  m.impl("cuda_trains", TORCH_BOX(&sensorseq::CudaTrains));
  m.impl("cuda_facts", TORCH_BOX(&sensorseq::CudaFacts));
  m.impl("cuda_is_served", TORCH_BOX(&sensorseq::CudaIsServed));
  m.impl("guards_held", TORCH_BOX(&GuardsHeld));
  m.impl("fail_next", TORCH_BOX(&FailNext));
  m.impl("expect_fp16", TORCH_BOX(&ExpectFp16));
}
