// The CUDA kernels in the emulator, against the double reference.
#include "emulated_queue.h"
#include "harness.h"
#include "lstm_problem.h"
#include "reference.h"

using namespace lstm_problem;
namespace cuda = sensorseq::cuda;

namespace {

double Difference(const float* ours, const Array& truth) {
  double square = 0, size = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double d = static_cast<double>(ours[i]) - truth[i];
    square += d * d;
    size += truth[i] * truth[i];
  }
  return std::sqrt(square / (size > 0 ? size : 1));
}

// 16-byte aligned, as the device's allocations are, and ending where the allocation ends.
struct Device {
  std::unique_ptr<char, decltype(&std::free)> block;
  float* data;
  explicit Device(size_t n, float fill = NAN)
      : block(static_cast<char*>(std::aligned_alloc(64, (n * 4 + 63) / 64 * 64 + 64)), &std::free) {
    const size_t bytes = (n * 4 + 63) / 64 * 64;
    data = reinterpret_cast<float*>(block.get() + bytes - (n * 4 + 15) / 16 * 16);
    for (size_t i = 0; i < n; ++i) data[i] = fill;
  }
  explicit Device(const Array& values) : Device(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) data[i] = static_cast<float>(values[i]);
  }
};

double g_worst[2];

void Try(const Problem& p, cuda::Precision precision, uint32_t seed, const std::string& what) {
  const LstmShape& s = p.shape;
  const Result truth = reference::Run(p);
  cuda::Options options;
  options.precision = precision;
  Device x(p.x), weight_ih(p.weight_ih), weight_hh(p.weight_hh), bias(p.bias), h_0(p.h_0),
      c_0(p.c_0), mask(p.mask), weight_out(p.weight_out), bias_out(p.bias_out);
  std::vector<int64_t> lengths = p.lengths;
  const int64_t M = s.n_models, N = s.n_windows, T = s.n_timesteps, D = s.n_directions,
                H = s.hidden_size, P = PooledSize(s), K = s.n_classes, C = s.n_channels;
  Device hidden(M * N * T * D * H), h_n(M * N * D * H), c_n(M * N * D * H), pooled(M * N * P),
      logits(M * N * K), saved(cuda::SavedFloatsOf(s));
  LstmInputs<float> in{};
  in.x = x.data;
  in.lengths = p.has_lengths ? lengths.data() : nullptr;
  in.weight_ih = weight_ih.data;
  in.weight_hh = weight_hh.data;
  in.bias = bias.data;
  in.h_0 = p.has_h_0 ? h_0.data : nullptr;
  in.c_0 = p.has_c_0 ? c_0.data : nullptr;
  in.recurrent_mask = p.has_mask ? mask.data : nullptr;
  in.weight_out = weight_out.data;
  LstmForward<float> f{};
  f.shape = s;
  f.in = in;
  f.bias_out = bias_out.data;
  f.hidden = hidden.data;
  f.h_n = h_n.data;
  f.c_n = c_n.data;
  f.pooled = pooled.data;
  f.logits = logits.data;
  f.saved = saved.data;
  cuda::ForwardSpace forward_space;
  Device forward_block(cuda::CarveForward(s, options, nullptr, &forward_space) / 4 + 16);
  f.workspace = forward_block.data;
  LstmBackward<float> b{};
  Device grad_hidden(p.grad_hidden), grad_h_n(p.grad_h_n), grad_c_n(p.grad_c_n),
      grad_logits(p.grad_logits), grad_pooled(p.grad_pooled);
  Device g_ih(M * D * 4 * H * C), g_hh(M * D * 4 * H * H), g_b(M * D * 4 * H), g_h0(M * N * D * H),
      g_c0(M * N * D * H), g_out(M * K * P), g_bout(M * K);
  b.shape = s;
  b.in = in;
  b.pooled = pooled.data;
  b.saved = saved.data;
  b.grad_hidden = p.grad_hidden.empty() ? nullptr : grad_hidden.data;
  b.grad_h_n = p.grad_h_n.empty() ? nullptr : grad_h_n.data;
  b.grad_c_n = p.grad_c_n.empty() ? nullptr : grad_c_n.data;
  b.grad_logits = grad_logits.data;
  b.grad_pooled = p.grad_pooled.empty() ? nullptr : grad_pooled.data;
  b.grad_weight_ih = g_ih.data;
  b.grad_weight_hh = g_hh.data;
  b.grad_bias = g_b.data;
  b.grad_h_0 = g_h0.data;
  b.grad_c_0 = g_c0.data;
  b.grad_weight_out = g_out.data;
  b.grad_bias_out = g_bout.data;
  cuda::BackwardSpace backward_space;
  Device backward_block(cuda::CarveBackward(s, options, nullptr, &backward_space) / 4 + 16);
  b.workspace = backward_block.data;
  try {
    emulator::Queue queue(seed);
    cuda::QueueForward(queue, f, options);
    cuda::QueueBackward(queue, b, options);
  } catch (const emulator::Fault& fault) {
    Check(false, what + ": " + fault.what());
    return;
  }
  const bool exact = precision == cuda::Precision::kFp16x3;
  const double limit = exact ? 2e-6 : 1e-2;
  auto Compare = [&](const char* name, const float* ours, const Array& of_truth) {
    const double difference = Difference(ours, of_truth);
    if (difference > g_worst[exact]) g_worst[exact] = difference;
    Check(difference <= limit, what + ": " + name + " off by " + std::to_string(difference));
  };
  Compare("hidden", hidden.data, truth.hidden);
  Compare("h_n", h_n.data, truth.h_n);
  Compare("c_n", c_n.data, truth.c_n);
  Compare("pooled", pooled.data, truth.pooled);
  Compare("logits", logits.data, truth.logits);
  Compare("grad_h_0", g_h0.data, truth.grad_h_0);
  Compare("grad_c_0", g_c0.data, truth.grad_c_0);
  Compare("grad_weight_hh", g_hh.data, truth.grad_weight_hh);
  Compare("grad_weight_ih", g_ih.data, truth.grad_weight_ih);
  Compare("grad_bias", g_b.data, truth.grad_bias);
  Compare("grad_weight_out", g_out.data, truth.grad_weight_out);
  Compare("grad_bias_out", g_bout.data, truth.grad_bias_out);
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(argc > 1 ? std::atoi(argv[1]) : 1);
  for (int hidden : {32, 5, 64, 50, 128, 100, 256, 512}) {
    for (int planes : {1, 2}) {
      if (hidden == 512 && planes == 2) continue;
      LstmShape s;
      s.n_models = 1 + hidden % 2;
      s.n_x_models = 1;
      s.n_windows = hidden < 128 ? 11 : 3;
      s.n_timesteps = 5;
      s.n_channels = 3;
      s.hidden_size = hidden;
      s.n_directions = hidden < 128 ? 2 : 1;
      s.n_classes = 3;
      s.pooling = planes == 1 ? Pooling::kMean : Pooling::kMeanMax;
      const Problem p = MakeProblem(random, s, Lengths::kMixed, true);
      Try(p, planes == 2 ? cuda::Precision::kFp16x3 : cuda::Precision::kFp16, random(),
          "H " + std::to_string(hidden) + " planes " + std::to_string(planes));
      std::printf("H %d planes %d: worst so far %.2g %.2g\n", hidden, planes, g_worst[0],
                  g_worst[1]);
      std::fflush(stdout);
    }
  }
  return Finish();
}
