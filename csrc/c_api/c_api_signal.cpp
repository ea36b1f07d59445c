// The filters and windows of c_api.h.
#include <memory>
#include <utility>

#include "c_api/c_api.h"
#include "c_api/c_api_status.h"
#include "c_api/make_filters.h"
#include "signal/random_convolutions.h"
#include "signal/signal_kernels.h"
#include "signal/window.h"

struct sensorseq_filter {
  virtual ~sensorseq_filter() = default;
  virtual int64_t Rows(int64_t n_samples, bool is_last) const = 0;
  virtual void Push(const float* x, int64_t n_samples, bool is_last, float* y) = 0;
  virtual void Push(const double* x, int64_t n_samples, bool is_last, double* y) = 0;
  virtual void Reset() = 0;
  double latency = 0;
  const char* isa = "";
};

namespace sensorseq {
namespace {

template <typename Filter>
struct Resampling : sensorseq_filter {
  explicit Resampling(Filter given) : filter(std::move(given)) {
    latency = filter.taps().latency_samples();
    isa = filter.kernels().name;
  }
  int64_t Rows(int64_t n_samples, bool is_last) const override {
    return is_last ? filter.n_outputs_of_end(n_samples) : filter.n_outputs_of_push(n_samples);
  }
  template <typename Real>
  void PushReal(const Real* x, int64_t n_samples, bool is_last, Real* y) {
    const int64_t n_outputs = filter.n_outputs_of_push(n_samples);
    if (n_samples > 0 || !is_last) filter.Push(x, n_samples, y);
    if (is_last) filter.Flush(y + n_outputs * filter.n_channels());
  }
  void Push(const float* x, int64_t n, bool is_last, float* y) override {
    PushReal(x, n, is_last, y);
  }
  void Push(const double* x, int64_t n, bool is_last, double* y) override {
    PushReal(x, n, is_last, y);
  }
  void Reset() override { filter.Reset(); }
  Filter filter;
};

struct OfDoubles : sensorseq_filter {
  void Push(const float*, int64_t, bool, float*) override { Require(false, "x needs doubles"); }
  void Reset() override { Require(false, "the filter cannot be reset"); }
};

struct Moving : OfDoubles {
  Moving(signal::MovingWindow given, int64_t ahead_samples) : window(std::move(given)) {
    latency = static_cast<double>(ahead_samples);
  }
  int64_t Rows(int64_t n_samples, bool is_last) const override {
    Require(n_samples == 0 || !has_ended, "the signal has ended; make another filter");
    return is_last ? window.n_left() + n_samples : window.n_ready(n_samples);
  }
  using OfDoubles::Push;
  void Push(const double* x, int64_t n_samples, bool is_last, double* y) override {
    Require(n_samples == 0 || !has_ended, "the signal has ended; make another filter");
    const int64_t n_ready = window.n_ready(n_samples);
    window.Push(x, n_samples, y);
    if (!is_last) return;
    window.Flush(y + n_ready * window.n_channels());
    has_ended = true;
  }
  signal::MovingWindow window;
  bool has_ended = false;
};

struct Sections : OfDoubles {
  explicit Sections(signal::SectionFilter given) : filter(std::move(given)) {}
  int64_t Rows(int64_t n_samples, bool) const override { return n_samples; }
  using OfDoubles::Push;
  void Push(const double* x, int64_t n_samples, bool, double* y) override {
    filter.Push(x, n_samples, y);
  }
  signal::SectionFilter filter;
};

const signal::SignalKernels& Kernels() { return Serving(signal::AllSignalKernels()); }

template <typename Real, typename Out>
void Map(signal::WindowMap<Real, Out> args, int64_t* given, int64_t* overflown) {
  Require(signal::WindowsFit(args),
          "a window does not lie in the signal, or a length is not in 0..window_samples");
  const signal::NotFinite found = signal::MapWindows(Kernels().pass, args);
  *given = found.given;
  *overflown = found.overflown;
}

signal::ConvolutionPlan Checked(const sensorseq_convolutions& p) {
  const signal::ConvolutionPlan plan{
      p.n_dilations,    p.n_channels,      p.dilations, p.features_per_dilation,
      p.channel_counts, p.channel_indices, p.biases};
  const char* error = signal::PlanError(plan, p.n_channel_indices, p.n_biases);
  Require(error == nullptr, error);
  return plan;
}

signal::CompetitionPlan Checked(const sensorseq_competition& p) {
  const signal::CompetitionPlan plan{p.n_rounds,       p.n_channels, p.dilations,
                                     p.is_difference,  p.kernels,    p.channel_counts,
                                     p.channel_indices};
  const char* error = signal::PlanError(plan, p.n_channel_indices);
  Require(error == nullptr, error);
  return plan;
}

}  // namespace
}  // namespace sensorseq

using namespace sensorseq;

int32_t sensorseq_polyphase_make(const double* taps, int64_t n_taps, int64_t up, int64_t down,
                                 int64_t n_channels, const char* edge, const int64_t* delay,
                                 sensorseq_filter** filter) {
  return Guarded([&] {
    std::optional<int64_t> at;
    if (delay != nullptr) at = *delay;
    *filter = new Resampling(
        signal::MakePolyphase(taps, n_taps, up, down, n_channels, edge, at, Kernels().fir));
  });
}

int32_t sensorseq_table_make(const double* taps, int64_t n_taps, int64_t n_phases, double ratio,
                             int64_t n_channels, const char* edge, sensorseq_filter** filter) {
  return Guarded([&] {
    *filter = new Resampling(
        signal::MakeTable(taps, n_taps, n_phases, ratio, n_channels, edge, Kernels().fir));
  });
}

int32_t sensorseq_moving_make(const char* statistic, int64_t window_samples, int64_t n_channels,
                              int64_t ahead_samples, sensorseq_filter** filter) {
  return Guarded([&] {
    *filter = new Moving(signal::MakeMoving(statistic, window_samples, n_channels, ahead_samples),
                         ahead_samples);
  });
}

int32_t sensorseq_sections_make(const double* sections, int64_t n, int64_t n_channels,
                                sensorseq_filter** filter) {
  return Guarded([&] { *filter = new Sections(signal::MakeSections(sections, n, n_channels)); });
}

void sensorseq_filter_free(sensorseq_filter* filter) { delete filter; }

int32_t sensorseq_filter_rows(sensorseq_filter* filter, int64_t n_samples, int32_t is_last,
                              int64_t* rows) {
  return Guarded([&] {
    Require(n_samples >= 0, "n_samples is negative");
    *rows = filter->Rows(n_samples, is_last != 0);
  });
}

int32_t sensorseq_filter_push(sensorseq_filter* filter, int32_t real_bytes, const void* x,
                              int64_t n_samples, int32_t is_last, void* y) {
  return Guarded([&] {
    Require(n_samples >= 0, "n_samples is negative");
    Require(real_bytes == 4 || real_bytes == 8, "real_bytes is neither 4 nor 8");
    const bool last = is_last != 0;
    if (real_bytes == 4) {
      filter->Push(static_cast<const float*>(x), n_samples, last, static_cast<float*>(y));
    } else {
      filter->Push(static_cast<const double*>(x), n_samples, last, static_cast<double*>(y));
    }
  });
}

int32_t sensorseq_filter_reset(sensorseq_filter* filter) {
  return Guarded([&] { filter->Reset(); });
}

double sensorseq_filter_latency(const sensorseq_filter* filter) { return filter->latency; }

const char* sensorseq_filter_isa(const sensorseq_filter* filter) { return filter->isa; }

int32_t sensorseq_map_windows(int32_t real_bytes, int32_t out_bytes, int64_t n_samples,
                              int64_t n_windows, int64_t n_timesteps, int64_t n_channels,
                              const void* values, const int64_t* starts, const int64_t* lengths,
                              const double* center, const double* scale, int32_t inverse, void* out,
                              int64_t* given, int64_t* overflown) {
  return Guarded([&] {
    const auto map = [&](auto* from, auto* to) {
      using Real = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
      using Out = std::remove_pointer_t<decltype(to)>;
      Map<Real, Out>({n_samples, n_windows, n_timesteps, n_channels, from, starts, lengths, center,
                      scale, inverse != 0, to},
                     given, overflown);
    };
    const auto from = [&](auto* to) {
      real_bytes == 4 ? map(static_cast<const float*>(values), to)
                      : map(static_cast<const double*>(values), to);
    };
    out_bytes == 4 ? from(static_cast<float*>(out)) : from(static_cast<double*>(out));
  });
}

int32_t sensorseq_check_convolutions(const sensorseq_convolutions* plan) {
  return Guarded([&] { Checked(*plan); });
}

int32_t sensorseq_share_above_biases(const sensorseq_convolutions* plan, const float* x,
                                     const int64_t* lengths, int64_t n_windows, int64_t n_timesteps,
                                     int64_t n_threads, float* out, int64_t* bad) {
  return Guarded([&] {
    const signal::ConvolutionPlan checked = Checked(*plan);
    const signal::ConvolvedWindows windows{n_windows, n_timesteps, checked.n_channels, x, lengths};
    *bad = signal::ShareAboveBiases(Kernels().pass, checked, windows, n_threads, out);
  });
}

int32_t sensorseq_check_competition(const sensorseq_competition* plan) {
  return Guarded([&] { Checked(*plan); });
}

int32_t sensorseq_share_wins(const sensorseq_competition* plan, const float* x,
                             const int64_t* lengths, int64_t n_windows, int64_t n_timesteps,
                             int64_t n_threads, float* out, int64_t* bad) {
  return Guarded([&] {
    const signal::CompetitionPlan checked = Checked(*plan);
    const signal::ConvolvedWindows windows{n_windows, n_timesteps, checked.n_channels, x, lengths};
    *bad = signal::ShareWins(Kernels().pass, checked, windows, n_threads, out);
  });
}
