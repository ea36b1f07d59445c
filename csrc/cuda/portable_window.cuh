// The code that the portable forward and backward passes share: a lane's position, and the window
// of its CTA.
#pragma once

#include "cuda/math.cuh"
#include "cuda/params.h"

namespace sensorseq::cuda {

template <typename M>
class PortableWindow {
 protected:
  using F = typename M::F;
  using U = typename M::U;
  using L = typename M::L;
  using B = typename M::B;

  SENSORSEQ_BODY PortableWindow(M& machine, const Sizes& sizes) : m(machine), s(sizes) {}

  SENSORSEQ_BODY void PlaceLane() {
    thread = m.Lane() + static_cast<uint32_t>(m.Warp() * kLanes);
    unit = thread >> 2;
    q = thread & 3u;
    has_unit = unit < U{} + static_cast<uint32_t>(s.hidden_size);
  }
  // Finds the window. The function is called again where its results are needed again, so that no
  // registers hold them in between.
  SENSORSEQ_BODY void Locate() {
    row = m.Tile();
    model = m.Model();
    direction = m.Direction();
    of_row = model * s.n_windows + row;
    state_at = (of_row * s.n_directions + direction) * s.hidden_size;
  }
  SENSORSEQ_BODY void PlaceWindow(const int64_t* of_models) {
    Locate();
    const int64_t* lengths = LengthsOf(of_models, s, model);
    length = s.n_timesteps;
    poison = F{};
    if (lengths != nullptr) {
      length = m.UniformLong(lengths, row);
      if (length < 0 || length > s.n_timesteps) poison = F{} + __builtin_nanf("");
      length = length < 0 ? 0 : length > s.n_timesteps ? s.n_timesteps : length;
    }
    n_steps = static_cast<int>(length);
    stride = direction == 0 ? 1 : -1;
    hidden_at =
        ((of_row * s.n_timesteps + FirstTime()) * s.n_directions + direction) * s.hidden_size;
  }
  SENSORSEQ_BODY int64_t FirstTime() const { return direction == 0 ? 0 : length - 1; }
  // The offset of a step in arrays with a value for each window, timestep and unit.
  SENSORSEQ_BODY int64_t HiddenAt(int step) const {
    return hidden_at + int64_t{step} * stride * s.n_directions * s.hidden_size;
  }
  SENSORSEQ_BODY int64_t SavedOfWindow(int hidden) const {
    return ((model * s.n_directions + direction) * s.n_windows + row) *
           PortableWindowFloats(s.n_timesteps, hidden);
  }
  SENSORSEQ_BODY bool HasMaximum() const {
    return s.pooling == Pooling::kMax || s.pooling == Pooling::kMeanMax;
  }
  SENSORSEQ_BODY bool HasMean() const {
    return s.pooling == Pooling::kMean || s.pooling == Pooling::kMeanMax;
  }
  // The offset of the direction's first unit in the pooled vector; the maxima of kMeanMax come
  // PooledStride() later.
  SENSORSEQ_BODY int64_t PooledAt() const {
    const int64_t width = PooledStride();
    return of_row * (s.pooling == Pooling::kMeanMax ? 2 * width : width) +
           int64_t{direction} * s.hidden_size;
  }
  SENSORSEQ_BODY int64_t PooledStride() const { return int64_t{s.n_directions} * s.hidden_size; }

  M& m;
  const Sizes& s;
  U thread, unit, q;
  B has_unit;
  int64_t row, model, of_row, state_at, hidden_at, length;
  int direction, n_steps, stride;
  F poison;
};

}  // namespace sensorseq::cuda
