#include "signal/csv_numbers.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace sensorseq::signal {
namespace {

bool IsEnd(char c) { return c == ',' || c == '\n' || c == '\r'; }

// Powers of ten that are exact as doubles.
constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Reads a field with a plain number such as -12.345, then moves *at to its end. Returns false for
// all other fields. If the digits without the point are below 2^53, they and the power of ten are
// exact, so the quotient is the nearest double (Clinger, 1990).
bool ReadPlain(const char** at, const char* end, double* number) {
  const char* p = *at;
  const bool is_negative = *p == '-';
  p += is_negative;
  uint64_t digits = 0;
  const char *first = p, *point = nullptr;
  for (; p < end; ++p) {
    const unsigned digit = static_cast<unsigned char>(*p) - '0';
    if (digit < 10) {
      digits = 10 * digits + digit;
    } else if (*p == '.' && point == nullptr) {
      point = p;
    } else {
      break;
    }
  }
  const int64_t n_digits = p - first - (point != nullptr);
  if (n_digits < 1 || n_digits > 19 || digits > (uint64_t{1} << 53)) return false;
  if (point != nullptr && (point == first || p - point == 1)) return false;
  if (p < end && !IsEnd(*p)) return false;
  const double whole = static_cast<double>(digits);
  const double size = point == nullptr ? whole : whole / kPowers[p - point - 1];
  *number = is_negative ? -size : size;
  *at = p;
  return true;
}

// Reads the field at *at, then moves *at to the comma or line end after the field.
bool ReadField(const char** at, const char* end, double* number) {
  const char* p = *at;
  if (p == end || IsEnd(*p)) {
    *number = std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  if (ReadPlain(at, end, number)) return true;
  while (p < end && (*p == ' ' || *p == '\t')) ++p;
  const auto [stop, problem] = std::from_chars(p, end, *number);
  if (problem != std::errc()) return false;
  if (std::isinf(*number)) return false;
  if (std::isnan(*number)) {  // accepts nan, but not -nan or nan(1)
    if (stop - p != 3 || *p == '-') return false;
    *number = std::numeric_limits<double>::quiet_NaN();
  }
  p = stop;
  while (p < end && (*p == ' ' || *p == '\t')) ++p;
  *at = p;
  return p == end || IsEnd(*p);
}

bool PassOver(const char** at, const char* end) {
  const char* p = *at;
  while (p < end && !IsEnd(*p)) {
    if (*p++ == '"') return false;
  }
  *at = p;
  return true;
}

// Moves *at to the end of its line. Returns whether the rest of the line has n_commas commas and
// neither quotes nor carriage returns.
bool PassOverLine(const char** at, const char* end, int64_t n_commas) {
  const char* p = *at;
  const char* stop = static_cast<const char*>(std::memchr(p, '\n', end - p));
  if (stop == nullptr) stop = end;
  if (stop > p && stop[-1] == '\r') --stop;
  int64_t commas = 0, others = 0;
  for (const char* q = p; q < stop; ++q) {
    commas += *q == ',';
    others += (*q == '"') | (*q == '\r');
  }
  *at = stop;
  return commas == n_commas && others == 0;
}

}  // namespace

int64_t CountLines(const char* text, int64_t n) {
  int64_t count = 1;
  const char *p = text, *end = text + n;
  while ((p = static_cast<const char*>(std::memchr(p, '\n', end - p))) != nullptr) ++count, ++p;
  return count;
}

int64_t ReadNumbers(const char* text, int64_t n, const std::vector<bool>& wanted, int64_t max_rows,
                    double* out) {
  const char *p = text, *end = text + n;
  const int64_t n_columns = static_cast<int64_t>(wanted.size());
  int64_t row = 0, n_read = n_columns;  // number of columns up to the last wanted column
  while (n_read > 0 && !wanted[n_read - 1]) --n_read;
  while (p < end) {
    const bool has_return = *p == '\r';
    if (has_return && end - p > 1 && p[1] != '\n') return -1;
    if (has_return || *p == '\n') {
      p += has_return && end - p > 1 ? 2 : 1;
      continue;
    }
    if (row == max_rows) return -1;
    double* to = n_read > 0 ? out + row : out;  // `out` may be null
    for (int64_t c = 0; c < n_read; ++c) {
      if (!wanted[c]) {
        if (!PassOver(&p, end)) return -1;
      } else {
        if (!ReadField(&p, end, to)) return -1;
        to += max_rows;
      }
      const bool is_last = c + 1 == n_columns;
      if (is_last != (p == end || *p != ',')) return -1;
      p += !is_last;
    }
    if (n_read < n_columns && !PassOverLine(&p, end, n_columns - 1 - n_read)) return -1;
    if (p < end && *p == '\r') ++p;
    if (p < end && *p++ != '\n') return -1;
    ++row;
  }
  return row;
}

}  // namespace sensorseq::signal
