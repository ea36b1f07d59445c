// Converts exceptions in the functions of c_api.h to a status and an error message.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "base/status.h"
#include "c_api/c_api.h"
#include "isa/table.h"

namespace sensorseq {

struct Refusal {
  int32_t status;
  std::string sentence;
};

// Stores the message that sensorseq_error returns on this thread, truncated if it is too long for
// the buffer. Returns `status`.
int32_t Keep(int32_t status, const char* sentence) noexcept;

template <typename F>
int32_t Guarded(F function) noexcept {
  try {
    function();
    return SENSORSEQ_OK;
  } catch (const Refusal& refusal) {
    return Keep(refusal.status, refusal.sentence.c_str());
  } catch (const std::bad_alloc& error) {
    return Keep(SENSORSEQ_NO_MEMORY, error.what());
  } catch (const std::length_error& error) {  // from a vector
    return Keep(SENSORSEQ_NO_MEMORY, error.what());
  } catch (const std::exception& error) {
    return Keep(SENSORSEQ_FAILED, error.what());
  }
}

inline void Require(bool is_right, const char* sentence) {
  if (!is_right) throw Refusal{SENSORSEQ_BAD_VALUE, sentence};
}

// Returns the active row of the table; throws if there is none.
template <typename Row>
const Row& Serving(const IsaTable<Row>& table) {
  Status status;
  const Row* row = table.Active(&status);
  if (row == nullptr) throw Refusal{SENSORSEQ_BAD_ENVIRONMENT, table.Refusal(status)};
  return *row;
}

}  // namespace sensorseq
