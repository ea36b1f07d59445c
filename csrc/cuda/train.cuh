// The parts of a training step other than the layer, in the order in which they run. Each part is a
// struct with the number of its warps, which are independent, and the work of one warp.
//
// A lane's own work is plain code that uses the lane's index. Lanes combine their results only in
// sums, which are in double and in a fixed order.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/counter_random.h"
#include "cuda/layout.cuh"
#include "cuda/math.cuh"
#include "cuda/train_params.h"
#include "cuda/weight_grad.cuh"
#include "lstm/train_loss.h"
#include "lstm/train_step.h"

namespace sensorseq::cuda {

#include "lstm/update-inl.h"

SENSORSEQ_HD int64_t StepOf(const TrainParams& p, int64_t model) {
  return p.call.first_step + p.step[model];
}

// The batch of a model's current step.
struct Batch {
  int64_t first, n;  // range in the model's rows
  bool is_valid;     // if false, the batch is treated as one window, which becomes NaN

  SENSORSEQ_HD Batch(const TrainParams& p, int64_t model) {
    const TrainShape& s = p.call.shape;
    const int64_t of_rows = p.call.n_row_models == 1 ? 0 : model;
    const int64_t* offsets = p.call.offsets + of_rows * (s.n_steps + 1) + StepOf(p, model);
    first = offsets[0];
    n = offsets[1] - first;
    is_valid = first >= 0 && n >= 0 && first <= s.n_rows - n && n <= s.max_batch;
    if (!is_valid) first = 0, n = 1;
  }
};

// Index of row i of the batch in rows and crop_starts.
SENSORSEQ_HD int64_t RowAt(const TrainParams& p, int64_t model, const Batch& batch, int64_t i) {
  return (p.call.n_row_models == 1 ? 0 : model) * p.call.shape.n_rows + batch.first + i;
}
SENSORSEQ_HD int64_t ClassOf(const TrainParams& p, int64_t model, int64_t window) {
  return p.call
      .class_index[(p.call.n_class_models == 1 ? 0 : model) * p.call.shape.n_windows + window];
}
SENSORSEQ_HD const double* HyperOf(const TrainParams& p, int64_t model) {
  return p.call.hyper + model * kHyperColumns;
}
SENSORSEQ_HD double* StatisticsOf(const TrainParams& p, int64_t model) {
  return p.call.statistics + (model * p.call.shape.n_steps + StepOf(p, model)) * kStatisticColumns;
}
SENSORSEQ_HD CounterRandom RandomOf(const TrainParams& p, int64_t model, uint64_t site) {
  return CounterRandom(static_cast<uint64_t>(p.call.seeds[model]),
                       static_cast<uint64_t>(p.call.step_count[model]), site);
}

// A pair of sums.
struct Two {
  double first = 0, second = 0;
  SENSORSEQ_HD void operator+=(const Two& other) {
    first += other.first;
    second += other.second;
  }
};
SENSORSEQ_HD double Square(double x) { return x * x; }

// Calls f(i) for every i in [first, end). Each lane handles every 32nd i.
template <typename M, typename G>
SENSORSEQ_BODY void ForEach(M& m, int64_t first, int64_t end, const G& f) {
  m.ForLanes([&](int64_t lane) {
    for (int64_t i = first + lane; i < end; i += kLanes) f(i);
  });
}
// The sum of f(i) over [first, end). f(i) is one number or a pair.
template <typename M, typename G>
SENSORSEQ_BODY auto SumOf(M& m, int64_t first, int64_t end, const G& f) {
  return m.LaneSum(m.PerLane([&](int64_t lane) {
    decltype(f(first)) own{};
    for (int64_t i = first + lane; i < end; i += kLanes) own += f(i);
    return own;
  }));
}

struct OfStep {
  using Params = TrainParams;
};

// Gathers windows, lengths and the recurrent mask of the step, and zeros `largest` for the backward
// pass.
struct Gather : OfStep {
  SENSORSEQ_HD static int64_t Chunks(const Sizes& s) {
    const int64_t of_x = SliceCount(s.n_timesteps * s.n_channels);
    const int64_t of_mask = SliceCount(int64_t{s.n_directions} * s.hidden_size);
    return of_x > of_mask ? of_x : of_mask;
  }
  SENSORSEQ_HD static int64_t Warps(const TrainParams& p) {
    return p.sizes.n_models * p.sizes.n_windows * Chunks(p.sizes);
  }

  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t warp) {
    const Sizes& s = p.sizes;
    const TrainShape& of_data = p.call.shape;
    const int64_t chunks = Chunks(s), chunk = warp % chunks, n = warp / chunks % s.n_windows;
    const int64_t model = warp / chunks / s.n_windows;
    const Batch batch(p, model);
    int64_t length = 0, from = 0;
    if (n < batch.n) {
      length = -1;
      if (batch.is_valid) length = Find(p, model, RowAt(p, model, batch, n), &from);
    }
    if (chunk == 0) {
      m.Once([&] {
        p.lengths[model * s.n_windows + n] = length;
        if (n > 0) return;
        p.n_windows[model] = batch.n;
        for (int d = 0; d < s.n_directions; ++d) p.largest[model * s.n_directions + d] = 0;
      });
    }
    const int64_t first = chunk * kSlice;
    if (model < s.n_x_models) {
      const int64_t size = length * s.n_channels;
      const float* x = p.call.x + ((p.call.n_x_models == 1 ? 0 : model) * of_data.n_windows *
                                       of_data.n_data_timesteps +
                                   from) *
                                      s.n_channels;
      float* to = p.x + (model * s.n_windows + n) * s.n_timesteps * s.n_channels;
      ForEach(m, first, first + kSlice < size ? first + kSlice : size,
              [&](int64_t i) { to[i] = x[i]; });
    }
    if (p.recurrent_mask == nullptr) return;
    const int64_t size = int64_t{s.n_directions} * s.hidden_size;
    const double probability = HyperOf(p, model)[kRecurrentDropout];
    const CounterRandom random = RandomOf(p, model, RecurrentSite(0));
    float* mask = p.recurrent_mask + (model * s.n_windows + n) * size;
    ForEach(m, first, first + kSlice < size ? first + kSlice : size, [&](int64_t i) {
      mask[i] = static_cast<float>(
          DropoutFactor(random, static_cast<uint64_t>(n * size + i), probability));
    });
  }

 private:
  // Returns the number of steps to train on in a row's window, or -1 if the window, its crop, class
  // or length is out of range. `from` receives the position of the first of these steps among the
  // steps of one model's data.
  SENSORSEQ_HD static int64_t Find(const TrainParams& p, int64_t model, int64_t row,
                                   int64_t* from) {
    const TrainShape& s = p.call.shape;
    const int64_t window = p.call.rows[row];
    const int64_t start = p.call.crop_starts == nullptr ? 0 : p.call.crop_starts[row];
    if (window < 0 || window >= s.n_windows || start < 0 ||
        start > s.n_data_timesteps - s.n_timesteps) {
      return -1;
    }
    const int64_t of_class = ClassOf(p, model, window);
    if (of_class < 0 || of_class >= s.n_classes) return -1;
    *from = window * s.n_data_timesteps + start;
    if (p.call.lengths == nullptr) return s.n_timesteps;
    const int64_t valid = p.call.lengths[window], left = valid - start;
    if (valid < 0 || valid > s.n_data_timesteps) return -1;
    return left < 0 ? 0 : (left < s.n_timesteps ? left : s.n_timesteps);
  }
};

// Computes a window's loss from its pooled vector, and the gradient of the pooled vector.
struct Head : OfStep {
  SENSORSEQ_HD static int64_t Warps(const TrainParams& p) {
    return p.sizes.n_models * p.sizes.n_windows;
  }

  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t at) {
    const int64_t model = at / p.sizes.n_windows, n = at % p.sizes.n_windows;
    if (n >= p.n_windows[model]) return;
    const TrainEpoch<float>& a = p.call;
    const int64_t P = p.pooled_size, K = a.shape.n_classes;
    const Batch batch(p, model);
    const bool is_valid = p.lengths[at] >= 0;
    const int64_t window = is_valid ? a.rows[RowAt(p, model, batch, n)] : 0;
    const int64_t class_index = is_valid ? ClassOf(p, model, window) : 0;
    const double* hyper = HyperOf(p, model);
    const float* weight = a.parameters + (model + 1) * p.n_parameters - K * (P + 1);
    const float* bias = weight + K * P;
    const float* pooled = p.pooled + at * P;
    float *features = p.features + at * P, *grad_pooled = p.grad_pooled + at * P;
    float *logits = p.logits + at * K, *grad_logits = p.grad_logits + at * K;

    const double probability = a.seeds == nullptr ? 0.0 : hyper[kDropout];
    const CounterRandom random =
        a.seeds == nullptr ? CounterRandom(0, 0, 0) : RandomOf(p, model, OutputSite(0));
    const auto Factor = [&](int64_t i) {
      return probability == 0.0 ? 1.0f
                                : static_cast<float>(DropoutFactor(
                                      random, static_cast<uint64_t>(n * P + i), probability));
    };
    ForEach(m, 0, P, [&](int64_t i) { features[i] = pooled[i] * Factor(i); });
    for (int64_t k = 0; k < K; ++k) {
      const double sum = SumOf(m, 0, P, [&](int64_t i) {
        return static_cast<double>(features[i]) * static_cast<double>(weight[k * P + i]);
      });
      m.Once([&] { logits[k] = static_cast<float>(sum + static_cast<double>(bias[k])); });
    }
    m.Once([&] {
      double factor = 1.0;
      if (a.weight != nullptr && is_valid) {
        const int64_t of_weights = a.n_weight_models == 1 ? 0 : model;
        factor = static_cast<double>(a.weight[of_weights * a.shape.n_windows + window]);
      }
      double* grad = p.grad_loss + at * K;
      p.losses[at] = factor * LossAndGradient(a.loss, hyper[kLabelSmoothing], K, class_index,
                                              logits, p.log_p + at * K, grad);
      p.is_correct[at] = LargestLogit(logits, K) == class_index ? 1.0 : 0.0;
      for (int64_t k = 0; k < K; ++k) {
        grad_logits[k] =
            static_cast<float>(factor / static_cast<double>(p.n_windows[model]) * grad[k]);
      }
      if (a.margins != nullptr && batch.is_valid) {
        a.margins[model * a.shape.n_rows + batch.first + n] = Margin(logits, K, class_index);
      }
    });
    m.SyncWarp();
    ForEach(m, 0, P, [&](int64_t i) {
      float sum = 0;
      for (int64_t k = 0; k < K; ++k) sum += grad_logits[k] * weight[k * P + i];
      grad_pooled[i] = sum * Factor(i);
    });
  }
};

// The location of the slots of one parameter.
struct Place {
  const float* slots;  // the first slot
  int64_t stride;      // between slots
  int64_t n_time;      // number of time slots per slot of windows

  SENSORSEQ_HD Place(const TrainParams& p, int64_t model, int64_t at) {
    const Sizes& s = p.sizes;
    const int64_t H = s.hidden_size, C = s.n_channels, rows = kGates * H;
    const int64_t of_direction = rows * (C + H + 2), d = at / of_direction;
    if (d >= s.n_directions) {
      const int64_t P = p.pooled_size, K = p.call.shape.n_classes;
      at -= s.n_directions * of_direction;
      const bool is_weight = at < K * P;
      slots = p.head_slots + model * K * (P + 1) +
              (is_weight ? at / P * (P + 1) + at % P : (at - K * P) * (P + 1) + P);
      stride = s.n_models * K * (P + 1);
      n_time = 1;
      return;
    }
    at -= d * of_direction;
    const int64_t of_model = model * s.n_directions + d;
    const int64_t n_rows = s.n_models * s.n_directions * rows;
    n_time = TimeSlots(s.n_timesteps);
    const bool is_weight = at < rows * (C + H);
    if (is_weight && at >= rows * C) {
      slots = p.hidden_slots + of_model * rows * H + (at - rows * C);
      stride = n_rows * H;
      return;
    }
    // The gradient of each of the two biases is the gradient of their sum.
    const int64_t row = is_weight ? at / C : (at - rows * (C + H)) % rows;
    const int64_t column = is_weight ? at % C : C;
    slots = p.input_slots + (of_model * rows + row) * (C + 1) + column;
    stride = n_rows * (C + 1);
  }

  // Sums the first `n` slots of windows, with all their time slots, in order.
  SENSORSEQ_HD float Sum(int64_t n) const {
    float sum = slots[0];
    for (int64_t slot = 1; slot < n * n_time; ++slot) sum += slots[slot * stride];
    return sum;
  }
};

// The slice of a model's parameters that one warp processes.
struct Slice {
  int64_t model, first, last;
  SENSORSEQ_HD Slice(const TrainParams& p, int64_t warp) {
    const int64_t n = SliceCount(p.n_parameters);
    model = warp / n;
    first = warp % n * kSlice;
    last = first + kSlice < p.n_parameters ? first + kSlice : p.n_parameters;
  }
};
struct OfSlices : OfStep {
  SENSORSEQ_HD static int64_t Warps(const TrainParams& p) {
    return p.sizes.n_models * SliceCount(p.n_parameters);
  }
};
struct OfModels : OfStep {
  SENSORSEQ_HD static int64_t Warps(const TrainParams& p) { return p.sizes.n_models; }
};

// Computes the gradient of every parameter, and the sum of the squared gradients.
struct SumGradients : OfSlices {
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t warp) {
    const Slice slice(p, warp);
    if (p.n_windows[slice.model] == 0) return;
    const int64_t n_slots = TileSlots(p.n_windows[slice.model]);
    float* grads = p.grads + slice.model * p.n_parameters;
    const double sum = SumOf(m, slice.first, slice.last, [&](int64_t i) {
      grads[i] = Place(p, slice.model, i).Sum(n_slots);
      return Square(grads[i]);
    });
    m.Once([&] { p.squares[warp] = sum; });
  }
};

// Measures loss, accuracy and the gradient's norm, before the update.
struct Measure : OfModels {
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t model) {
    const int64_t n_windows = p.n_windows[model];
    double* statistics = StatisticsOf(p, model);
    const double nan = __builtin_nan("");
    m.Once([&] {
      for (int i = 0; i < kStatisticColumns; ++i) statistics[i] = nan;
    });
    if (n_windows == 0) return;
    const double count = static_cast<double>(n_windows);
    const double *losses = p.losses + model * p.sizes.n_windows,
                 *is_correct = p.is_correct + model * p.sizes.n_windows;
    const Two sums =
        SumOf(m, 0, n_windows, [&](int64_t n) { return Two{losses[n], is_correct[n]}; });
    const double loss = sums.first / count;
    const double variance =
        SumOf(m, 0, n_windows, [&](int64_t n) { return Square(losses[n] - loss); });
    const int64_t n_slices = SliceCount(p.n_parameters);
    const double* of_slices = p.squares + model * n_slices;
    const double square = SumOf(m, 0, n_slices, [&](int64_t i) { return of_slices[i]; });
    m.Once([&] {
      p.norm[model] = std::sqrt(square);
      statistics[kLoss] = loss;
      statistics[kLossVariance] = variance / count;
      statistics[kAccuracy] = sums.second / count;
      statistics[kGradNorm] = p.norm[model];
    });
  }
};

// Clips the gradients, applies the optimizer, and updates the average of the weights.
struct MoveParameters : OfSlices {
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t warp) {
    const Slice slice(p, warp);
    const int64_t model = slice.model, Q = p.n_parameters;
    if (p.n_windows[model] == 0) return;
    const TrainEpoch<float>& a = p.call;
    const double* hyper = HyperOf(p, model);
    const int64_t step = a.step_count[model] + 1;
    const double rate =
        a.learning_rate[(a.n_rate_models == 1 ? 0 : model) * a.shape.n_steps + StepOf(p, model)];
    float* state = a.state + model * StateRows(a.optimizer) * Q;
    WithRule<float>(a.optimizer, hyper, rate, step, [&](const auto& rule) {
      Move(m, p, slice, step, [&](int64_t i, float grad, float parameter) {
        return rule.Step(grad, parameter, state + i, Q);
      });
    });
  }

 private:
  // update(i, gradient, parameter) is the parameter after the step.
  template <typename M, typename Update>
  SENSORSEQ_BODY static void Move(M& m, const TrainParams& p, const Slice& slice, int64_t step,
                                  const Update& update) {
    const double* hyper = HyperOf(p, slice.model);
    const bool has_norm = std::isfinite(hyper[kMaxGradNorm]);
    const auto factor = static_cast<float>(ClipFactor(hyper[kMaxGradNorm], p.norm[slice.model]));
    const auto fresh = static_cast<float>(FreshShare(hyper[kEmaDecay], step));
    const int64_t of_model = slice.model * p.n_parameters;
    ForEach(m, slice.first, slice.last, [&](int64_t i) {
      float grad = p.grads[of_model + i];
      if (has_norm) grad *= factor;
      float* parameter = p.call.parameters + of_model + i;
      const float after = update(i, grad, *parameter);
      *parameter = after;
      if (p.call.average != nullptr) {
        float* average = p.call.average + of_model + i;
        *average = Lerp(*average, after, fresh);
      }
    });
  }
};

// Advances to the next step.
struct End : OfModels {
  template <typename M>
  SENSORSEQ_BODY static void Run(M& m, const TrainParams& p, int64_t model) {
    m.Once([&] {
      if (p.n_windows[model] > 0) ++p.call.step_count[model];
      ++p.step[model];
    });
  }
};

}  // namespace sensorseq::cuda
