// Tests random changes to windows: the bits of a window do not depend on other windows, and padding
// is neither read nor written. Arrays end where their allocation ends.
#include <cmath>
#include <random>
#include <vector>

#include "harness.h"
#include "signal/augment.h"

namespace {

using harness::Array;
using harness::Check;
using harness::Exact;
using sensorseq::signal::Augmentation;
using sensorseq::signal::AugmentWindows;
using sensorseq::signal::Philox;

void FillNormal(Philox& random, int64_t n, double* out) {  // sums of twelve uniform numbers
  for (int64_t i = 0; i < n; ++i) {
    out[i] = -6;
    for (int k = 0; k < 12; ++k) out[i] += random.NextDouble();
  }
}

Array Drawn(std::mt19937* random, int64_t n) {
  std::normal_distribution<double> normal(1.0, 2.0);
  Array values(n);
  for (double& value : values) value = normal(*random);
  return values;
}

void CheckWindows(int64_t N, int64_t T, int64_t C, int64_t K) {
  std::mt19937 random(static_cast<unsigned>(N + 10 * T + 100 * C));
  Array order(C), sign(C, 1.0), lengths(N), indices(N), copies(N);
  for (int64_t c = 0; c < C; ++c) order[c] = static_cast<double>(C - 1 - c);
  sign[0] = -1;
  for (int64_t n = 0; n < N; ++n) {
    lengths[n] = static_cast<double>(random() % (T + 1));
    indices[n] = static_cast<double>(random() % 1000);
    copies[n] = static_cast<double>(n);
  }
  const int64_t n_axes = C / 3;
  Array axis(3 * n_axes);
  for (int64_t i = 0; i < 3 * n_axes; ++i) axis[i] = static_cast<double>(C - 1 - i);
  Exact<double> spline(Drawn(&random, 4 * (K - 1) * K)), signs(sign);
  Exact<int64_t> orders(order), steps(lengths), index(indices), copy(copies), axes(axis);
  const Augmentation how = {0.1,
                            0.2,
                            0.1 / static_cast<double>(K),
                            0.2,
                            0.4,
                            0.3,
                            K,
                            spline.data(),
                            orders.data(),
                            signs.data(),
                            30.0,
                            n_axes,
                            axes.data()};
  AugmentWindows windows = {N,           T,  C,       steps.data(), index.data(),
                            copy.data(), 77, nullptr, &FillNormal};
  Array values = Drawn(&random, N * T * C);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t i = static_cast<int64_t>(lengths[n]) * C; i < T * C; ++i) {
      values[n * T * C + i] = std::nan("");  // padding
    }
  }
  Exact<float> whole(values), threaded(values);
  Check(Augment(how, windows, 1, whole.data()) == -1, "every valid value is finite");
  Check(Augment(how, windows, 4, threaded.data()) == -1, "every valid value is finite, on threads");
  for (int64_t n = 0; n < N; ++n) {
    Exact<float> alone(Array(values.begin() + n * T * C, values.begin() + (n + 1) * T * C));
    AugmentWindows one = {
        1, T, C, steps.data() + n, index.data() + n, copy.data() + n, 77, nullptr, &FillNormal};
    Augment(how, one, 1, alone.data());
    for (int64_t i = 0; i < T * C; ++i) {
      const float value = whole.data()[n * T * C + i];
      const bool is_padding = i >= static_cast<int64_t>(lengths[n]) * C;
      Check(std::isnan(value) == is_padding, "valid steps are numbers, padding is kept");
      Check(is_padding || value == alone.data()[i], "a window alone has the same bits");
      Check(is_padding || value == threaded.data()[n * T * C + i], "and on any thread");
    }
  }
}

void CheckWhatIsNotFinite() {
  Exact<double> spline(size_t{8});
  const Augmentation how = {0.1, 0, 0, 0, 0, 0, 2, spline.data(), nullptr, nullptr, 0, 0, nullptr};
  Exact<int64_t> lengths(Array{3, 4, 4}), numbers(Array{0, 1, 2});
  const AugmentWindows windows = {
      3, 4, 2, lengths.data(), numbers.data(), numbers.data(), 1, nullptr, &FillNormal};
  for (int64_t at : {-1, 23, 17, 8}) {
    for (int64_t n_threads : {1, 3}) {
      Array values(24, 1.0);
      values[7] = std::nan("");  // beyond the first length
      if (at >= 0) values[at] = HUGE_VAL;
      if (at >= 0) values[23] = HUGE_VAL;
      Exact<double> x(values);
      Check(Augment(how, windows, n_threads, x.data()) == at, "the first bad value is found");
    }
  }
}

}  // namespace

int main() {
  for (int64_t T : {1, 2, 3, 4, 9, 33}) {
    for (int64_t C : {1, 2, 5, 40}) {
      CheckWindows(5, T, C, 3 + T % 4);
    }
  }
  CheckWindows(0, 5, 2, 3);
  CheckWhatIsNotFinite();
  return harness::Finish();
}
