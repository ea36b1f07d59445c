// Checks properties that tests of a complete layer would not reveal: the errors of the functions of
// csrc/cuda/math.cuh over the range of their arguments, and the addresses of an x that is too
// large for memory.
#include <algorithm>
#include <set>

#include "cuda/forward.cuh"
#include "cuda/math.cuh"
#include "emulator.h"
#include "harness.h"

using namespace emulator;
using harness::Check;

namespace {

struct Worst {
  double relative = 0;
  void operator()(float ours, double exact) {
    const double error =
        std::fabs(static_cast<double>(ours) - exact) / std::max(std::fabs(exact), 1e-30);
    relative = error <= relative ? relative : error;  // a NaN is kept
  }
};

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

void CheckCells(Machine& m) {
  Worst tanh, gates, cell;
  for (int n = 0; n < 4000; ++n) {
    F x, c, i, f, g, o, c_new, h_new;
    for (int l = 0; l < kLanes; ++l) {
      // absolute values from 2^-20 to 2^4, of either sign
      const float size = std::exp2(static_cast<float>((n * 32 + l) % 24013) / 24013 * 24 - 20);
      x[l] = n % 2 == 0 ? size : -size;
      c[l] = 0;
    }
    const F of_tanh = sensorseq::cuda::Tanh<true>(m, x);
    sensorseq::cuda::Cell<true>(m, x, x, x, x, c, &i, &f, &g, &o, &c_new, &h_new);
    for (int l = 0; l < kLanes; ++l) {
      const double exact = x[l], new_cell = Sigmoid(exact) * std::tanh(exact);
      tanh(of_tanh[l], std::tanh(exact));
      gates(g[l], std::tanh(exact));
      for (const F* gate : {&i, &f, &o}) gates((*gate)[l], Sigmoid(exact));
      cell(c_new[l], new_cell);
      cell(h_new[l], Sigmoid(exact) * std::tanh(new_cell));
    }
  }
  std::printf("tanh %.3g, gates %.3g, cell and state %.3g, relative\n", tanh.relative,
              gates.relative, cell.relative);
  Check(tanh.relative < 2.5e-7, "tanh to two units in the last place");
  Check(gates.relative < 1.2e-6, "gates to ten");
  Check(cell.relative < 2.4e-6, "cell and state to twenty");
}

// Near zero, only the polynomial is used, whose error is at most one unit in the last place.
void CheckTanhNearZero(Machine& m) {
  Worst tanh;
  for (int n = 0; n < 4000; ++n) {
    F x;
    for (int l = 0; l < kLanes; ++l) {
      x[l] = static_cast<float>(n * 32 + l + 1) / (4000 * 32 + 1) * 0.5f;
    }
    const F of_tanh = sensorseq::cuda::Tanh<true>(m, x);
    for (int l = 0; l < kLanes; ++l) tanh(of_tanh[l], std::tanh(static_cast<double>(x[l])));
  }
  std::printf("tanh up to 1/2: %.3g\n", tanh.relative);
  Check(tanh.relative < 1e-7, "tanh near zero");
}

// Records the words of x that a warp requests; stops the warp before it waits for them.
std::set<int64_t> g_read;
struct Reader : Machine {
  using Machine::Machine;
  void CopyAsyncWord(const U&, const float*, const L& at, const B& valid) {
    for (int l = 0; l < kLanes; ++l) {
      if (valid[l]) g_read.insert(at[l]);
    }
  }
  template <int kLeft>
  void WaitAsync() {
    throw Fault("stopped");
  }
};

// Tests, in both directions, a row with more words than a 32-bit integer can count and the rows
// next to it.
void CheckLongRows() {
  using namespace sensorseq::cuda;
  using V = ForwardVariant<1, 64>;
  const int64_t T = (int64_t{1} << 27) + 20, C = 16, block = V::kInputBlock * C;
  const std::vector<int64_t> lengths = {T, 5, T - 2};
  const std::vector<float> zeros(100000);
  ForwardParams p{};
  p.sizes.n_models = p.sizes.n_x_models = 1;
  p.sizes.n_windows = 3;
  p.sizes.n_timesteps = T;
  p.sizes.n_channels = C;
  p.sizes.hidden_size = 64;
  p.sizes.n_directions = 2;
  p.lengths = lengths.data();
  p.x = p.packed_input = zeros.data();
  p.packed = zeros.data();
  for (int direction = 0; direction < 2; ++direction) {
    std::set<int64_t> expected;
    for (int64_t n = 0; n < 3; ++n) {
      const int64_t words = lengths[n] * C;
      const int64_t begin = direction == 0 ? 0 : std::max<int64_t>(words - block, 0);
      for (int64_t i = begin; i < std::min(begin + block, words); ++i) {
        expected.insert(n * T * C + i);
      }
    }
    g_read.clear();
    const ForwardShared<V> shared(C, false);
    Cluster cluster(V::kCtas, V::kWarps, shared.total, {});
    try {
      cluster.Run([&](int rank, int warp) {
        Reader m(cluster, rank, warp, 0, direction, 0);
        Forward<Reader, V, false>(m, p).Run();
      });
    } catch (const Fault& fault) {
      Check(std::string(fault.what()) == "stopped", fault.what());
    }
    Check(g_read == expected, "x is read where T C passes 2^31");
  }
}

}  // namespace

int main() {
  Cluster cluster(1, 1, 128, {});
  Machine m(cluster, 0, 0, 0, 0, 0);
  CheckCells(m);
  CheckTanhNearZero(m);
  CheckLongRows();
  return harness::Finish();
}
