#include "c_api/c_api_status.h"

#include <cstdio>

namespace sensorseq {
namespace {

thread_local char kept[1024] = "";

}  // namespace

int32_t Keep(int32_t status, const char* sentence) noexcept {
  std::snprintf(kept, sizeof(kept), "%s", sentence);
  return status;
}

}  // namespace sensorseq

const char* sensorseq_error(void) { return sensorseq::kept; }
