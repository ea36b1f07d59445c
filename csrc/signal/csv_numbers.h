// Reads numbers from comma-separated text, the usual format of recordings, in one pass and without
// copies.
#pragma once

#include <cstdint>
#include <vector>

namespace sensorseq::signal {

// An upper bound on the number of rows: the line feeds of the text plus one.
int64_t CountLines(const char* text, int64_t n);

// Reads rows of wanted.size() fields from text[0, n) to out (wanted columns, max_rows). Every
// number is the double nearest to its text. Empty fields, and nan in any letter case, are read as
// NaN. Empty lines are skipped. Returns the number of rows, or -1 if the text contains anything
// else: quotes, strings in wanted columns, a row of a different length, or a number beyond the
// range of double.
int64_t ReadNumbers(const char* text, int64_t n, const std::vector<bool>& wanted, int64_t max_rows,
                    double* out);

}  // namespace sensorseq::signal
