#include "signal/window.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace sensorseq::signal {
namespace {

// Centers and scales are repeated over so many values, so that the loop over values need not know
// which channel each is of.
constexpr int64_t kTile = 384;

// 0 for a finite value, anything else for NaN and infinity: x - x is +0 or NaN.
template <typename Out>
auto BitsIfNotFinite(Out x) {
  using Bits = std::conditional_t<sizeof(Out) == 4, uint32_t, uint64_t>;
  const Out difference = x - x;
  Bits bits;
  std::memcpy(&bits, &difference, sizeof bits);
  return bits;
}

struct AsIs {
  double operator()(double x, double, double) const { return x; }
};
struct Forward {
  double operator()(double x, double center, double scale) const { return (x - center) / scale; }
};
struct Inverse {
  double operator()(double x, double center, double scale) const { return x * scale + center; }
};

// Maps n values, whose centers and scales repeat with `period`; whether all of them are finite.
template <typename Map, typename Real, typename Out>
bool MapValues(const Real* __restrict__ in, const double* __restrict__ center,
               const double* __restrict__ scale, int64_t period, int64_t n, Out* __restrict__ out) {
  decltype(BitsIfNotFinite(Out())) not_finite = 0;
  for (int64_t first = 0; first < n; first += period) {
    const int64_t count = std::min(period, n - first);
    const Real* __restrict__ from = in + first;
    Out* __restrict__ to = out + first;
    for (int64_t i = 0; i < count; ++i) {
      const Out mapped = static_cast<Out>(Map()(static_cast<double>(from[i]), center[i], scale[i]));
      to[i] = mapped;
      not_finite |= BitsIfNotFinite(mapped);
    }
  }
  return not_finite == 0;
}

template <typename Real, typename Out>
void Locate(const Real* in, const Out* out, int64_t n, int64_t position, NotFinite* found) {
  for (int64_t i = 0; i < n; ++i) {
    if (std::isfinite(out[i])) continue;
    int64_t& first = std::isfinite(in[i]) ? found->overflown : found->given;
    if (first < 0) first = position + i;
  }
}

template <typename Map, typename Real, typename Out>
NotFinite MapAll(const WindowMap<Real, Out>& args) {
  const int64_t C = args.n_channels;
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
    if (!MapValues<Map>(in, center, scale, period, valid, out)) {
      Locate(in, out, valid, n * args.n_timesteps * C, &found);
    }
    std::fill(out + valid, out + args.n_timesteps * C, Out(0));
  }
  return found;
}

}  // namespace

template <typename Real, typename Out>
bool WindowsFit(const WindowMap<Real, Out>& args) {
  for (int64_t n = 0; n < args.n_windows; ++n) {
    const int64_t length = args.lengths == nullptr ? args.n_timesteps : args.lengths[n];
    if (length < 0 || length > args.n_timesteps || length > args.n_samples) return false;
    if (args.starts[n] < 0 || args.starts[n] > args.n_samples - length) return false;
  }
  return true;
}

template <typename Real, typename Out>
NotFinite MapWindows(const WindowMap<Real, Out>& args) {
  if (args.n_channels == 0) return {};
  if (args.center == nullptr) return MapAll<AsIs>(args);
  return args.inverse ? MapAll<Inverse>(args) : MapAll<Forward>(args);
}

template bool WindowsFit(const WindowMap<float, float>&);
template bool WindowsFit(const WindowMap<float, double>&);
template bool WindowsFit(const WindowMap<double, float>&);
template bool WindowsFit(const WindowMap<double, double>&);
template NotFinite MapWindows(const WindowMap<float, float>&);
template NotFinite MapWindows(const WindowMap<float, double>&);
template NotFinite MapWindows(const WindowMap<double, float>&);
template NotFinite MapWindows(const WindowMap<double, double>&);

}  // namespace sensorseq::signal
