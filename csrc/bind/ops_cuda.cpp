// The operators on a GPU, if nvcc compiled the kernels, and otherwise only functions that report
// that CUDA is missing. The binary also works with a torch without CUDA, because the only function
// that such a torch lacks is a weak symbol.
#ifdef SENSORSEQ_HAS_CUDA

#include <torch/csrc/stable/accelerator.h>

#include "bind/ops_train.h"
#include "lstm/lstm_linear_cuda.h"
#include "lstm/train_epoch_cuda.h"

// Torch's shim declares this function only if torch itself was built with CUDA. The linker finds
// the function through libtorch.so, which this library is linked to.
extern "C" __attribute__((weak)) AOTITorchError
aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace sensorseq {
namespace {

void RaiseCuda(Status status) {
  if (status == Status::kOk) return;
  std::string sentence = std::string("sensorseq: ") + StatusText(status);
  if (status == Status::kCudaError) sentence += std::string(": ") + cuda::ErrorText();
  Fail(sentence + ".");
}

void* CurrentStream(int32_t device) {
  if (aoti_torch_get_current_cuda_stream == nullptr) {
    Fail("sensorseq: x is on a GPU, but this torch has no CUDA.");
  }
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return stream;
}

// Uses torch's own guard, because any other guard would initialize the previous device when
// restoring it, even if nothing has run on that device yet.
torch::stable::accelerator::DeviceGuard GuardOf(const Tensor& x) {
  return torch::stable::accelerator::DeviceGuard(x.get_device_index());
}

cuda::Precision PrecisionNamed(const std::string& name) {
  return Named<cuda::Precision, 3>("precision", name,
                                   {{{"fp32", cuda::Precision::kFp32},
                                     {"fp16x3", cuda::Precision::kFp16x3},
                                     {"fp16", cuda::Precision::kFp16}}});
}

bool IsPortable(const cuda::Options& options) {
  return options.precision == cuda::Precision::kFp32;
}

// The portable forward pass alone also takes half precision.
void RequireFloat(const Tensor& x) {
  if (x.scalar_type() != ScalarType::Float) Fail("sensorseq: on a GPU x must be float32.");
}

cuda::Options OptionsFor(const Arguments& a, const std::string& precision) {
  cuda::Options options;
  options.precision = PrecisionNamed(precision);
  const ScalarType dtype = a.x.scalar_type();
  if (dtype == ScalarType::Double || !IsPortable(options)) RequireFloat(a.x);
  options.is_projected = a.IsProjected();
  if (options.is_projected && !IsPortable(options) &&
      reinterpret_cast<uintptr_t>(a.x.data_ptr()) % 16 != 0) {
    Fail("sensorseq: a projected x must be aligned to 16 bytes; pass a copy of it.");
  }
  options.stream = CurrentStream(a.x.get_device_index());
  return options;
}

// The shape of the saved state: (M, D, tiles of 8 windows, T * 12 + 2, 4 * padded hidden size), or
// (M, D, N, T * 8 + 1, padded hidden size) of the portable kernels.
Sizes SavedSizes(const LstmShape& s, const cuda::Options& options) {
  LstmShape smallest = s;
  smallest.n_models = smallest.n_x_models = smallest.n_directions = smallest.n_windows = 1;
  smallest.n_timesteps = 0;
  const int64_t width = cuda::SavedFloats(smallest, options);
  Sizes sizes = {s.n_models, s.n_directions, s.n_windows, s.n_timesteps * 8 + 1, width};
  if (!IsPortable(options)) {
    sizes = {s.n_models, s.n_directions, (s.n_windows + 7) / 8, s.n_timesteps * 12 + 2, width / 2};
  }
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  if (n != cuda::SavedFloats(s, options)) {
    Fail("sensorseq: the kernels' saved state does not have shape " + Text(sizes) +
         "; build sensorseq again.");
  }
  return sizes;
}

// Takes memory from torch's allocator, which reuses it only on this stream. If the call is captured
// into a graph, the allocator keeps the memory for that graph.
Tensor Workspace(const Tensor& like, size_t bytes) {
  return Empty(like, {static_cast<int64_t>(bytes)}, aoti_torch_dtype_uint8());
}

struct Gpu {
  static ForwardResult Forward(const Arguments& a, const std::string& pooling, bool save_state,
                               const std::string& precision) {
    const LstmShape s = a.Check(pooling, a.IsProjected(), true);
    const auto guard = GuardOf(a.x);
    const cuda::Options options = OptionsFor(a, precision);
    RaiseCuda(cuda::IsServed(s, options));
    if (save_state) RequireFloat(a.x);
    const ForwardResult out =
        EmptyForward(a, s, Empty(a.x, save_state ? SavedSizes(s, options) : Sizes{0}));
    const Tensor workspace = Workspace(a.x, cuda::forward_workspace_bytes(s, options));
    const auto Run = [&](auto* type) {
      using Real = std::remove_pointer_t<decltype(type)>;
      LstmForward<Real> args = ForwardCall<Real>(a, s, out, save_state);
      args.workspace = MutableData<void>(workspace);
      RaiseCuda(cuda::lstm_forward(args, options));
    };
    if (a.x.scalar_type() == ScalarType::Half) {
      Run(static_cast<cuda::Float16*>(nullptr));
    } else if (a.x.scalar_type() == ScalarType::BFloat16) {
      Run(static_cast<cuda::Bfloat16*>(nullptr));
    } else {
      Run(static_cast<float*>(nullptr));
    }
    return out;
  }

  static BackwardResult Backward(const Arguments& a, const std::string& pooling,
                                 const BackwardInputs& in, bool needs_grad_x,
                                 const std::string& precision) {
    const LstmShape s = a.Check(pooling, a.IsProjected());
    const auto guard = GuardOf(a.x);
    RequireFloat(a.x);
    const cuda::Options options = OptionsFor(a, precision);
    RaiseCuda(cuda::IsServed(s, options));
    in.Check(a, s, SavedSizes(s, options));
    if (needs_grad_x && !options.is_projected) {
      Fail("sensorseq: on a GPU x has a gradient only where it is projected.");
    }
    BackwardResult grad = EmptyGradients(a, s, needs_grad_x);
    LstmBackward<float> args = BackwardCall<float>(a, s, in, grad, needs_grad_x);
    if (options.is_projected) {  // weight_ih and bias act only through x
      args.grad_weight_ih = args.grad_bias = nullptr;
      torch::stable::zero_(grad.bias);
    }
    const Tensor workspace = Workspace(a.x, cuda::backward_workspace_bytes(s, options));
    args.workspace = MutableData<void>(workspace);
    RaiseCuda(cuda::lstm_backward(args, options));
    return grad;
  }
};

struct GpuTraining {
  static void Run(const TrainTensors& t, int64_t, const std::string& precision) {
    RequireFloat(t.x);
    const TrainShape s = t.Check();
    const auto guard = GuardOf(t.x);
    cuda::Options options;
    options.precision = PrecisionNamed(precision);
    options.stream = CurrentStream(t.x.get_device_index());
    RaiseCuda(cuda::IsServed(s, options));
    TrainEpoch<float> args = t.Call<float>(s);
    const Tensor workspace = Workspace(t.x, cuda::train_epoch_workspace_bytes(s, options));
    args.workspace = MutableData<void>(workspace);
    RaiseCuda(cuda::train_epoch(args, options));
  }
};

}  // namespace

std::string CudaTrains(int64_t n_channels, int64_t hidden_size, int64_t n_layers,
                       int64_t n_directions, std::string head_norm, std::string precision) {
  const TrainShape s =
      NetworkShape(n_channels, hidden_size, n_layers, n_directions, 1, "last", head_norm);
  cuda::Options options;
  options.precision = PrecisionNamed(precision);
  const Status status = cuda::IsServed(s, options);
  return status == Status::kOk ? "" : StatusText(status);
}

std::string CudaFacts() {
  const int32_t n_devices = cuda::DeviceCount();
  cuda::Device device;
  (void)cuda::DeviceFacts(0, &device);  // the versions
  std::ostringstream out;
  out << R"({"built": true, "nvcc": ")" SENSORSEQ_NVCC R"(", "arch": ")" SENSORSEQ_CUDA_ARCH
      << R"(", "driver": )" << device.driver_version << R"(, "runtime": )" << device.runtime_version
      << R"(, "devices": [)";
  for (int32_t i = 0; i < n_devices; ++i) {
    RaiseCuda(cuda::DeviceFacts(i, &device));
    out << (i ? ", " : "") << R"({"major": )" << device.major << R"(, "minor": )" << device.minor
        << R"(, "n_multiprocessors": )" << device.n_multiprocessors << "}";
  }
  out << "]}";
  return out.str();
}

std::string CudaIsServed(int64_t hidden_size, int64_t n_channels, int64_t n_directions,
                         std::string precision, bool is_projected) {
  LstmShape s;
  s.hidden_size = hidden_size;
  s.n_channels = is_projected ? 0 : n_channels;
  s.n_directions = n_directions;
  cuda::Options options;
  options.precision = PrecisionNamed(precision);
  options.is_projected = is_projected;
  const Status status = cuda::IsServed(s, options);
  return status == Status::kOk ? "" : StatusText(status);
}

}  // namespace sensorseq

STABLE_TORCH_LIBRARY_IMPL(sensorseq, CUDA, m) {
  m.impl("lstm", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::Lstm));
  m.impl("lstm_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmBackward));
  m.impl("lstm_linear", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmLinear));
  m.impl("lstm_linear_backward", TORCH_BOX(&sensorseq::Ops<sensorseq::Gpu>::LstmLinearBackward));
  m.impl("train_epoch", TORCH_BOX(&sensorseq::TrainEpochOp<sensorseq::GpuTraining>));
}

#else

#include <cstdint>
#include <string>

namespace sensorseq {

std::string CudaFacts() {
  return R"({"built": false, "nvcc": "", "arch": "", "driver": 0, "runtime": 0, "devices": []})";
}

std::string CudaIsServed(int64_t, int64_t, int64_t, std::string, bool) {
  return "the compiled core was built without CUDA";
}

std::string CudaTrains(int64_t, int64_t, int64_t, int64_t, std::string, std::string) {
  return "the compiled core was built without CUDA";
}

}  // namespace sensorseq

#endif
