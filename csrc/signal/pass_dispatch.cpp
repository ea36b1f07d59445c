// Instruction sets best first, and which of them serves.
#include <cstdlib>
#include <cstring>

#include "signal/pass.h"

namespace sensorseq::signal {

#if defined(__x86_64__)
extern const PassKernels kAvx512PassKernels;
extern const PassKernels kAvx2PassKernels;
#endif
extern const PassKernels kBaselinePassKernels;

namespace {

const PassKernels* const kTable[] = {
#if defined(__x86_64__)
    &kAvx512PassKernels,
    &kAvx2PassKernels,
#endif
    &kBaselinePassKernels,
};
constexpr int64_t kTableRows = sizeof(kTable) / sizeof(kTable[0]);

// Every name of any build: one that is not in this table belongs to another kind of processor.
const char* const kNames[] = {"avx512", "avx2", "neon", "baseline"};

}  // namespace

PassKernelTable AllPassKernels() { return {kTable, kTableRows}; }

const PassKernels* ActivePassKernels(Status* status) {
  *status = Status::kOk;
  const char* forced = std::getenv("SENSORSEQ_CPU_ISA");
  const bool is_free = forced == nullptr || *forced == '\0';
  for (const PassKernels* kernels : kTable) {
    if ((is_free || std::strcmp(forced, kernels->name) == 0) && kernels->is_supported()) {
      return kernels;
    }
  }
#if defined(__aarch64__)
  if (std::strcmp(forced, "neon") == 0) return &kBaselinePassKernels;  // it is Advanced SIMD
#endif
  *status = Status::kUnknownIsa;
  for (const char* name : kNames) {
    if (std::strcmp(forced, name) == 0) *status = Status::kIsaNotSupported;
  }
  return nullptr;
}

}  // namespace sensorseq::signal
