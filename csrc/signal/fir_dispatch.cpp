// Instruction sets best first, and which of them serves.
#include <cstdlib>
#include <cstring>

#include "signal/fir.h"

namespace sensorseq {
namespace signal {

#if defined(__x86_64__)
extern const FirKernels kAvx512FirKernels;
extern const FirKernels kAvx2FirKernels;
#elif defined(__aarch64__)
extern const FirKernels kNeonFirKernels;
#endif
extern const FirKernels kBaselineFirKernels;

namespace {

const FirKernels* const kTable[] = {
#if defined(__x86_64__)
    &kAvx512FirKernels,
    &kAvx2FirKernels,
#elif defined(__aarch64__)
    &kNeonFirKernels,
#endif
    &kBaselineFirKernels,
};
constexpr int64_t kTableRows = sizeof(kTable) / sizeof(kTable[0]);

// Every name of any build: one that is not in this table belongs to another kind of processor.
const char* const kNames[] = {"avx512", "avx2", "neon", "baseline"};

}  // namespace

FirKernelTable AllFirKernels() { return {kTable, kTableRows}; }

const FirKernels* ActiveFirKernels(Status* status) {
  *status = Status::kOk;
  const char* forced = std::getenv("SENSORSEQ_CPU_ISA");
  const bool is_free = forced == nullptr || *forced == '\0';
  for (const FirKernels* kernels : kTable) {
    if ((is_free || std::strcmp(forced, kernels->name) == 0) && kernels->is_supported()) {
      return kernels;
    }
  }
  *status = Status::kUnknownIsa;
  for (const char* name : kNames) {
    if (std::strcmp(forced, name) == 0) *status = Status::kIsaNotSupported;
  }
  return nullptr;
}

}  // namespace signal
}  // namespace sensorseq
