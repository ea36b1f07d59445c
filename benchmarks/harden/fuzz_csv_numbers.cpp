// Runs libFuzzer on the number parser. The first two bytes choose the columns; the rest is the
// text. Parsed numbers must stay within the array and be finite or NaN; a single column must agree
// with strtod.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "signal/csv_numbers.h"

namespace {

bool Same(double a, double b) { return (std::isnan(a) && std::isnan(b)) || a == b; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sensorseq::signal::CountLines;
  using sensorseq::signal::ReadNumbers;
  if (size < 3) return 0;
  std::vector<bool> wanted(data[0] % 6);
  int64_t n_wanted = 0;
  for (size_t c = 0; c < wanted.size(); ++c) n_wanted += wanted[c] = data[1] >> c & 1;
  // a copy of exactly this size, so that AddressSanitizer detects every overrun
  const std::vector<char> text(data + 2, data + size);
  const int64_t n = static_cast<int64_t>(text.size()), n_lines = CountLines(text.data(), n);
  std::vector<double> numbers(n_wanted * n_lines, 7.0);
  const int64_t n_rows = ReadNumbers(text.data(), n, wanted, n_lines, numbers.data());
  if (n_rows < -1 || n_rows > n_lines) std::abort();
  for (int64_t c = 0; c < n_wanted; ++c) {
    for (int64_t row = 0; row < n_rows; ++row) {
      if (std::isinf(numbers[c * n_lines + row])) std::abort();
    }
  }
  // one column without quotes or blanks: strtod reads each line
  if (n_rows > 0 && wanted.size() == 1 && n_wanted == 1) {
    int64_t row = 0;
    for (const char *p = text.data(), *end = p + n; p < end;) {
      const char* stop = static_cast<const char*>(std::memchr(p, '\n', end - p));
      if (stop == nullptr) stop = end;
      std::string line(p, stop);
      p = stop + (stop < end);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      char* rest = nullptr;
      if (!Same(std::strtod(line.c_str(), &rest), numbers[row])) std::abort();
      ++row;
    }
    if (row != n_rows) std::abort();
  }
  return 0;
}
