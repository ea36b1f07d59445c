// Numbers of comma-separated text, which files of recordings mostly are: one pass, no copies.
#pragma once

#include <cstdint>
#include <vector>

namespace sensorseq::signal {

// At least the rows of the text: its line feeds, and one.
int64_t CountLines(const char* text, int64_t n);

// Reads rows of wanted.size() fields from text[0, n) to out (wanted columns, max_rows). Every
// number is the double nearest to its text; an empty field, nan and NaN are NaN. Empty lines are no
// rows. Returns the number of rows, or -1 if the text holds anything else: quotes, words in wanted
// columns, a row of other length, what no finite double holds.
int64_t ReadNumbers(const char* text, int64_t n, const std::vector<bool>& wanted, int64_t max_rows,
                    double* out);

}  // namespace sensorseq::signal
