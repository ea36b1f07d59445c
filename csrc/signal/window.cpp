#include "signal/window.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace sensorseq::signal {
namespace {

// Centers and scales are repeated to fill kTile values, so that the loop over values need not track
// the channel of each value.
constexpr int64_t kTile = 384;

template <typename Real, typename Out>
MapLoop<Real, Out> LoopOf(const PassKernels& kernels, Map map) {
  const int at = static_cast<int>(map);
  if constexpr (std::is_same_v<Real, float> && std::is_same_v<Out, float>) {
    return kernels.map_ff[at];
  } else if constexpr (std::is_same_v<Real, float>) {
    return kernels.map_fd[at];
  } else if constexpr (std::is_same_v<Out, float>) {
    return kernels.map_df[at];
  } else {
    return kernels.map_dd[at];
  }
}

template <typename Real, typename Out>
void Locate(const Real* in, const Out* out, int64_t n, int64_t position, NotFinite* found) {
  for (int64_t i = 0; i < n; ++i) {
    if (std::isfinite(out[i])) continue;
    int64_t& first = std::isfinite(in[i]) ? found->overflown : found->given;
    if (first < 0) first = position + i;
  }
}

}  // namespace

template <typename Real, typename Out>
NotFinite MapWindows(const PassKernels& kernels, const WindowMap<Real, Out>& args) {
  if (args.n_channels == 0) return {};
  const int64_t C = args.n_channels;
  const MapLoop<Real, Out> loop = LoopOf<Real, Out>(kernels, args.center == nullptr ? Map::kAsIs
                                                             : args.inverse ? Map::kInverse
                                                                            : Map::kForward);
  double center_tile[kTile] = {}, scale_tile[kTile] = {};
  const double* center = center_tile;
  const double* scale = scale_tile;
  int64_t period = kTile;
  if (args.center != nullptr && C <= kTile) {
    period = kTile / C * C;
    for (int64_t i = 0; i < period; ++i) {
      center_tile[i] = args.center[i % C];
      scale_tile[i] = args.scale[i % C];
    }
  } else if (args.center != nullptr) {
    period = C;
    center = args.center;
    scale = args.scale;
  }
  NotFinite found;
  for (int64_t n = 0; n < args.n_windows; ++n) {
    const int64_t valid = (args.lengths == nullptr ? args.n_timesteps : args.lengths[n]) * C;
    const Real* in = args.values + args.starts[n] * C;
    Out* out = args.out + n * args.n_timesteps * C;
    if (!loop(in, center, scale, period, valid, out)) {
      Locate(in, out, valid, n * args.n_timesteps * C, &found);
    }
    std::fill(out + valid, out + args.n_timesteps * C, Out(0));
  }
  return found;
}

template <typename Real, typename Out>
bool WindowsFit(const WindowMap<Real, Out>& args) {
  for (int64_t n = 0; n < args.n_windows; ++n) {
    const int64_t length = args.lengths == nullptr ? args.n_timesteps : args.lengths[n];
    if (length < 0 || length > args.n_timesteps || length > args.n_samples) return false;
    if (args.starts[n] < 0 || args.starts[n] > args.n_samples - length) return false;
  }
  return true;
}

template bool WindowsFit(const WindowMap<float, float>&);
template bool WindowsFit(const WindowMap<float, double>&);
template bool WindowsFit(const WindowMap<double, float>&);
template bool WindowsFit(const WindowMap<double, double>&);
template NotFinite MapWindows(const PassKernels&, const WindowMap<float, float>&);
template NotFinite MapWindows(const PassKernels&, const WindowMap<float, double>&);
template NotFinite MapWindows(const PassKernels&, const WindowMap<double, float>&);
template NotFinite MapWindows(const PassKernels&, const WindowMap<double, double>&);

}  // namespace sensorseq::signal
