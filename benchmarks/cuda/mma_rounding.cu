// Measures how the tensor cores round a sum of products, first for crafted sums around 1 and 2^-24,
// then for random sums, which are compared with models of the adder. A model aligns all addends to
// the largest addend, keeps some extra bits below that addend's last bit, and truncates the sum or
// rounds it to nearest.
#include <functional>

#include "fragments.h"
#include "measure.h"

namespace {

using measure::Number;

constexpr int kRows = 16, kColumns = 8;

template <int kK>
__global__ void Multiply(const __half* a, const __half* b, float* c) {
  const int lane = threadIdx.x;
  a += blockIdx.x * kRows * 16;
  b += blockIdx.x * kColumns * 16;
  c += blockIdx.x * kRows * kColumns;
  uint32_t of_a[4], of_b[2];
  fragments::LoadA(a, 16, lane, of_a);
  fragments::LoadB(b, lane, of_b);
  float sum[4];
  for (int r = 0; r < 4; ++r) {
    sum[r] = c[fragments::CRow(lane, r) * kColumns + fragments::CColumn(lane, r)];
  }
  if constexpr (kK == 16) {
    fragments::Mma(sum, of_a, of_b);
  } else {
    fragments::MmaK8(sum, of_a, of_b);
  }
  for (int r = 0; r < 4; ++r) {
    c[fragments::CRow(lane, r) * kColumns + fragments::CColumn(lane, r)] = sum[r];
  }
}

// One sum: c plus a few products, each with its index k.
struct Case {
  const char* what;
  double c;
  std::vector<std::pair<int, double>> products;  // (k, a power of two)
};

double Power(int exponent) { return std::ldexp(1.0, exponent); }

std::vector<std::pair<int, double>> Repeated(int first, int n, double product) {
  std::vector<std::pair<int, double>> products;
  for (int i = 0; i < n; ++i) products.emplace_back(first + i, product);
  return products;
}

// The products use the first 8 values of k, so they fit both shapes (k8 and k16); `only16` adds
// further cases.
std::vector<Case> Cases(bool only16) {
  std::vector<Case> cases = {
      {"1 + 2^-23", 1.0, {{0, Power(-23)}}},
      {"1 + 2^-24 (tie)", 1.0, {{0, Power(-24)}}},
      {"1 + 2^-24 + 2^-25 (above the tie)", 1.0, {{0, Power(-24)}, {1, Power(-25)}}},
      {"1 + 2 x 2^-24", 1.0, Repeated(0, 2, Power(-24))},
      {"1 + 4 x 2^-25", 1.0, Repeated(0, 4, Power(-25))},
      {"1 + 8 x 2^-26", 1.0, Repeated(0, 8, Power(-26))},
      {"1 - 2^-24", 1.0, {{0, -Power(-24)}}},
      {"1 - 2^-25", 1.0, {{0, -Power(-25)}}},
      {"1 - 2^-26", 1.0, {{0, -Power(-26)}}},
      {"-1 - 2^-24 - 2^-25", -1.0, {{0, -Power(-24)}, {1, -Power(-25)}}},
      {"2^-26 + 1 - 1, c small", Power(-26), {{0, 1.0}, {1, -1.0}}},
      {"1 + 2^-26 - 1, c = 1", 1.0, {{0, Power(-26)}, {1, -1.0}}},
      {"1 + 2^-24 - 1, c = 1", 1.0, {{0, Power(-24)}, {1, -1.0}}},
      {"1 - 1 + 2^-24, c = 0", 0.0, {{0, 1.0}, {1, -1.0}, {2, Power(-24)}}},
      {"1 - 1 + 2^-28, c = 0", 0.0, {{0, 1.0}, {1, -1.0}, {2, Power(-28)}}},
  };
  if (only16) {
    cases.push_back({"1 + 16 x 2^-27", 1.0, Repeated(0, 16, Power(-27))});
    cases.push_back(
        {"1 at k = 0, -1 at k = 8, 2^-26 at k = 1", 0.0, {{0, 1.0}, {8, -1.0}, {1, Power(-26)}}});
    cases.push_back(
        {"1 at k = 0, -1 at k = 8, 2^-26 at k = 9", 0.0, {{0, 1.0}, {8, -1.0}, {9, Power(-26)}}});
  }
  return cases;
}

float Truncated(double x) {
  float y = static_cast<float>(x);
  if (std::fabs(static_cast<double>(y)) > std::fabs(x)) y = std::nextafterf(y, 0.0f);
  return y;
}

// Truncates each addend, then sums exactly. The smallest unit that is kept is `extra` bits below
// the last of the largest addend's 24 bits.
double Aligned(const std::vector<double>& addends, int extra) {
  int largest = -1000;
  for (const double addend : addends) {
    if (addend != 0.0) largest = std::max(largest, std::ilogb(addend));
  }
  if (largest == -1000) return 0.0;
  const double unit = std::ldexp(1.0, largest - 23 - extra);
  double sum = 0.0;
  for (const double addend : addends) sum += std::trunc(addend / unit) * unit;
  return sum;
}

struct Model {
  const char* name;
  std::function<float(const std::vector<double>&)> sum;
};

float InTwoBlocks(const std::vector<double>& addends, int extra) {
  // first c plus the first 8 products, then the result plus the other products
  std::vector<double> first(addends.begin(), addends.begin() + std::min<size_t>(9, addends.size()));
  std::vector<double> second{static_cast<double>(Truncated(Aligned(first, extra)))};
  second.insert(second.end(), addends.begin() + first.size(), addends.end());
  return Truncated(Aligned(second, extra));
}

std::vector<Model> Models() {
  using Addends = std::vector<double>;
  std::vector<Model> models;
  models.push_back({"exact, to nearest", [](const Addends& a) {
                      double sum = 0.0;
                      for (const double addend : a) sum += addend;
                      return static_cast<float>(sum);
                    }});
  models.push_back({"exact, truncated", [](const Addends& a) {
                      double sum = 0.0;
                      for (const double addend : a) sum += addend;
                      return Truncated(sum);
                    }});
  static const char* const kOne[] = {
      "aligned, 0 extra bits, truncated", "aligned, 1 extra bit, truncated",
      "aligned, 2 extra bits, truncated", "aligned, 3 extra bits, truncated"};
  static const char* const kTwo[] = {
      "two blocks of 8, 0 extra bits, truncated", "two blocks of 8, 1 extra bit, truncated",
      "two blocks of 8, 2 extra bits, truncated", "two blocks of 8, 3 extra bits, truncated"};
  for (int extra = 0; extra < 4; ++extra) {
    models.push_back(
        {kOne[extra], [extra](const Addends& a) { return Truncated(Aligned(a, extra)); }});
    models.push_back({kTwo[extra], [extra](const Addends& a) { return InTwoBlocks(a, extra); }});
  }
  return models;
}

template <int kK>
std::vector<float> Run(const std::vector<__half>& a, const std::vector<__half>& b,
                       const std::vector<float>& c) {
  measure::Buffer<__half> device_a(a), device_b(b);
  measure::Buffer<float> device_c(c);
  Multiply<kK><<<static_cast<int>(c.size() / (kRows * kColumns)), 32>>>(
      device_a.get(), device_b.get(), device_c.get());
  CHECK_KERNEL("Multiply");
  return device_c.host();
}

template <int kK>
void RunCases(std::vector<std::string>& rows) {
  for (const Case& one : Cases(kK == 16)) {
    std::vector<__half> a(kRows * 16, __float2half(0.0f)), b(kColumns * 16, __float2half(0.0f));
    std::vector<float> c(kRows * kColumns, static_cast<float>(one.c));
    double exact = one.c;
    for (const auto& [k, product] : one.products) {
      // both factors are normal halves
      const int exponent = std::ilogb(product), of_a = exponent / 2;
      const float sign = product < 0 ? -1.0f : 1.0f;
      for (int row = 0; row < kRows; ++row) {
        a[row * 16 + k] = __float2half(sign * static_cast<float>(Power(of_a)));
      }
      for (int column = 0; column < kColumns; ++column) {
        b[column * 16 + k] = __float2half(static_cast<float>(Power(exponent - of_a)));
      }
      exact += product;
    }
    const std::vector<float> found = Run<kK>(a, b, c);
    bool same = true;
    for (const float value : found) same = same && value == found[0];
    char text[512];
    std::snprintf(text, sizeof text,
                  "{\"what\": \"k%d: %s\", \"found\": %.10g, \"to_nearest\": %.10g, "
                  "\"truncated\": %.10g, \"same_everywhere\": %s}",
                  kK, one.what, static_cast<double>(found[0]),
                  static_cast<double>(static_cast<float>(exact)),
                  static_cast<double>(Truncated(exact)), same ? "true" : "false");
    rows.push_back(text);
  }
}

// Returns false if there are errors that rounding cannot explain. Sums that fit no model are
// reported.
template <int kK>
bool RunRandom(std::mt19937_64& random, std::vector<std::string>& rows) {
  constexpr int kProblems = 512;
  std::uniform_int_distribution<int> mantissa(-2047, 2047), exponent(-4, 0);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  // products are multiples of 2^-30 below 1, and c is a multiple of 2^-40, so sums are exact in
  // double
  const auto draw = [&] {
    return __float2half(std::ldexp(static_cast<float>(mantissa(random)), exponent(random) - 11));
  };
  std::vector<__half> a(size_t{kProblems} * kRows * 16), b(size_t{kProblems} * kColumns * 16);
  std::vector<float> c(size_t{kProblems} * kRows * kColumns);
  for (__half& value : a) value = draw();
  for (__half& value : b) value = draw();
  for (float& value : c) value = std::ldexp(std::round(std::ldexp(uniform(random), 40)), -40);
  const std::vector<float> found = Run<kK>(a, b, c);
  const std::vector<Model> models = Models();
  std::vector<int64_t> n_equal(models.size(), 0);
  double lost = 0.0, total = 0.0, largest_error = 0.0;
  for (size_t i = 0; i < c.size(); ++i) {
    const size_t problem = i / (kRows * kColumns);
    const size_t row = i / kColumns % kRows, column = i % kColumns;
    std::vector<double> addends{static_cast<double>(c[i])};
    double exact = addends[0];
    for (int k = 0; k < kK; ++k) {
      addends.push_back(
          static_cast<double>(__half2float(a[(problem * kRows + row) * 16 + k])) *
          static_cast<double>(__half2float(b[(problem * kColumns + column) * 16 + k])));
      exact += addends.back();
    }
    for (size_t m = 0; m < models.size(); ++m) n_equal[m] += models[m].sum(addends) == found[i];
    lost += std::fabs(exact) - std::fabs(static_cast<double>(found[i]));
    total += std::fabs(exact);
    double largest = std::fabs(exact);
    for (const double addend : addends) largest = std::max(largest, std::fabs(addend));
    const double unit = std::ldexp(1.0, std::ilogb(largest) - 23);
    largest_error =
        std::max(largest_error, std::fabs(static_cast<double>(found[i]) - exact) / unit);
  }
  std::string text =
      "{\"what\": \"k" + std::to_string(kK) +
      ": random sums, share that a model explains\", \"n\": " + std::to_string(c.size()) +
      ", \"shrinkage_in_2^-23\": " + Number(std::ldexp(lost / total, 23)) +
      ", \"largest_error_in_units_of_the_largest_addend\": " + Number(largest_error);
  for (size_t m = 0; m < models.size(); ++m) {
    text += std::string(", \"") + models[m].name +
            "\": " + Number(static_cast<double>(n_equal[m]) / static_cast<double>(c.size()));
  }
  rows.push_back(text + "}");
  return largest_error < 2.0 * kK;
}

}  // namespace

int main() {
  const std::string device = measure::DeviceJson();
  const uint64_t seed = measure::FreshSeed();
  std::mt19937_64 random(seed);
  std::vector<std::string> rows;
  RunCases<16>(rows);
  RunCases<8>(rows);
  bool right = RunRandom<16>(random, rows);
  right = RunRandom<8>(random, rows) && right;
  measure::Print("mma_rounding", device, seed, right, rows);
  return right ? 0 : 1;
}
