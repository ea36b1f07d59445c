// A table with one row of function pointers per instruction set, and the choice of the active row.
// Row has the members `name`, which is a value of SENSORSEQ_CPU_ISA, and `is_supported`.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/status.h"

namespace sensorseq {

inline bool IsNeverSupported() { return false; }

// The row of an instruction set for a kind of processor that this build does not target.
template <typename Row>
constexpr Row AbsentRow(const char* name) {
  Row row{};
  row.name = name;
  row.is_supported = &IsNeverSupported;
  return row;
}

template <typename Row>
struct IsaTable {
  const Row* const* rows;  // best first; the last serves every processor
  int64_t n_rows;

  // The active row: the one that SENSORSEQ_CPU_ISA names, otherwise the best that this processor
  // supports. The environment variable is read at each call, so that a test can force each row in
  // turn. Returns null on error.
  const Row* Active(Status* status) const {
    const char* forced = std::getenv("SENSORSEQ_CPU_ISA");
    const bool is_free = forced == nullptr || *forced == '\0';
    *status = Status::kUnknownIsa;
    for (int64_t i = 0; i < n_rows; ++i) {
      if (!is_free && std::strcmp(forced, rows[i]->name) != 0) continue;
      *status = rows[i]->is_supported() ? Status::kOk : Status::kIsaNotSupported;
      if (*status == Status::kOk) return rows[i];
    }
    return nullptr;
  }

  // A message that explains why there is no active row and lists the known rows.
  std::string Refusal(Status status) const {
    std::string sentence = std::string("sensorseq: ") + StatusText(status) + ". Known:";
    for (int64_t i = 0; i < n_rows; ++i) {
      sentence += std::string(i > 0 ? ", " : " ") + rows[i]->name +
                  (rows[i]->is_supported() ? "" : " (not on this processor)");
    }
    return sentence + ".";
  }
};

}  // namespace sensorseq
