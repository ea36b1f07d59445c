// The epoch engine checks its arguments, and runs the steps of each model one after the other.
// train_epoch_step.h has one step, train_epoch_layout.h the arrays.
#include "lstm/train_epoch.h"

#include <atomic>

#include "cpu/dispatch.h"
#include "cpu/train_epoch_layout.h"
#include "cpu/train_epoch_step.h"
#include "cpu/train_head.h"

namespace sensorseq {
namespace {

template <typename Real>
struct Context {
  const TrainEpoch<Real>& args;
  const TrainKernels<Real>& kernels;
  size_t lane_bytes;
  std::atomic<int64_t> next_model{0};
  std::atomic<int32_t> status{0};  // the status of a step that failed, if any
};

// Takes one model after another until none is left, and runs all steps of each model.
template <typename Real>
void LaneTask(void* pointer, int64_t index) {
  auto& context = *static_cast<Context<Real>*>(pointer);
  const TrainEpoch<Real>& a = context.args;
  Lane<Real> lane;
  CarveLane(a.shape,
            static_cast<char*>(a.workspace) + static_cast<size_t>(index) * context.lane_bytes,
            &lane);
  const Parallel parallel = a.n_lanes == 1 ? a.parallel : Parallel{};
  for (int64_t model; (model = context.next_model.fetch_add(1)) < a.shape.n_models;) {
    for (int64_t step = a.first_step; step < a.first_step + a.n_steps; ++step) {
      const Status status = EpochStep<Real>(a, model, step, lane, parallel, context.kernels).Run();
      if (status != Status::kOk) {
        context.status = static_cast<int32_t>(status);
        return;
      }
    }
  }
}

bool IsCount(int64_t n, int64_t n_models) { return n == 1 || n == n_models; }

}  // namespace

int64_t ParameterCount(const TrainShape& shape) {
  return HeadOffset(shape) + shape.n_classes * (PooledWidth(shape) + 1);
}

template <typename Real>
Status CheckSizes(const TrainEpoch<Real>& a) {
  const TrainShape& s = a.shape;
  if (s.n_models < 1 || s.n_windows < 0 || s.n_data_timesteps < 0 || s.n_timesteps < 0 ||
      s.n_timesteps > s.n_data_timesteps || s.n_channels < 0 || s.hidden_size < 1 ||
      s.n_directions < 1 || s.n_directions > 2 || s.n_layers < 1 || s.n_layers > kMaxLayers ||
      s.n_classes < 1 || s.pooling == Pooling::kNone || s.n_rows < 0 || s.n_steps < 0 ||
      s.max_batch < 0 || a.first_step < 0 || a.n_steps < 0 ||
      a.n_steps > s.n_steps - a.first_step || a.n_lanes < 1 || a.n_lanes > s.n_models ||
      !IsCount(a.n_x_models, s.n_models) || !IsCount(a.n_class_models, s.n_models) ||
      !IsCount(a.n_weight_models, s.n_models) || !IsCount(a.n_row_models, s.n_models) ||
      !IsCount(a.n_rate_models, s.n_models)) {
    return Status::kInvalidShape;
  }
  return Status::kOk;
}
template Status CheckSizes(const TrainEpoch<float>&);
template Status CheckSizes(const TrainEpoch<double>&);

template <typename Real>
Status CheckValues(const TrainEpoch<Real>& a) {
  const TrainShape& s = a.shape;
  for (int64_t n = 0; a.lengths != nullptr && n < s.n_windows; ++n) {
    if (a.lengths[n] < 0 || a.lengths[n] > s.n_data_timesteps) return Status::kLengthOutOfRange;
  }
  for (int64_t n = 0; n < a.n_class_models * s.n_windows; ++n) {
    if (a.class_index[n] < 0 || a.class_index[n] >= s.n_classes) return Status::kClassOutOfRange;
  }
  for (int64_t model = 0; model < a.n_row_models; ++model) {
    const int64_t* offsets = a.offsets + model * (s.n_steps + 1);
    for (int64_t step = a.first_step; step < a.first_step + a.n_steps; ++step) {
      const int64_t first = offsets[step], last = offsets[step + 1];
      if (first < 0 || last < first || last > s.n_rows || last - first > s.max_batch) {
        return Status::kOffsetsOutOfOrder;
      }
      if (s.head_norm == HeadNorm::kBatch && last - first == 1) return Status::kBatchTooSmall;
      for (int64_t i = model * s.n_rows + first; i < model * s.n_rows + last; ++i) {
        const int64_t start = a.crop_starts == nullptr ? 0 : a.crop_starts[i];
        if (a.rows[i] < 0 || a.rows[i] >= s.n_windows || start < 0 ||
            start > s.n_data_timesteps - s.n_timesteps) {
          return Status::kRowOutOfRange;
        }
      }
    }
  }
  return Status::kOk;
}
template Status CheckValues(const TrainEpoch<float>&);
template Status CheckValues(const TrainEpoch<double>&);

size_t train_epoch_workspace_bytes(const TrainShape& shape, int64_t n_lanes, size_t real_bytes) {
  const size_t bytes =
      real_bytes == sizeof(float) ? LaneBytes<float>(shape) : LaneBytes<double>(shape);
  return static_cast<size_t>(n_lanes) * bytes;
}

template <typename Real>
Status train_epoch(const TrainEpoch<Real>& args) {
  Status status = CheckSizes(args);
  if (status == Status::kOk) status = CheckValues(args);
  if (status != Status::kOk) return status;
  const Kernels* kernels = ActiveKernels(&status);
  if (kernels == nullptr) return status;
  Context<Real> context{args, KernelsFor(*kernels, Real()), LaneBytes<Real>(args.shape)};
  RunTasks(args.parallel, args.n_lanes, &LaneTask<Real>, &context, kSubnormalsOf<Real>);
  return static_cast<Status>(context.status.load());
}
template Status train_epoch(const TrainEpoch<float>&);
template Status train_epoch(const TrainEpoch<double>&);

}  // namespace sensorseq
