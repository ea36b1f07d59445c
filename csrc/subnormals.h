// What a thread does with subnormal numbers while it runs a task.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sensorseq {

enum class Subnormals {
  kZero,  // as operands and as results
  kKept,
};

// In float they are zero: gradients that vanish over a long window become subnormal, and on many
// processors each such operand costs over a hundred cycles. In double they are kept.
template <typename Real>
constexpr Subnormals kSubnormalsOf =
    std::is_same<Real, float>::value ? Subnormals::kZero : Subnormals::kKept;

// Sets this thread so and, when it ends, back to what the caller had.
class SubnormalsGuard {
 public:
  explicit SubnormalsGuard(Subnormals wanted) : callers_(Read()) {
    Write(wanted == Subnormals::kZero ? callers_ | kFlush : callers_ & ~kFlush);
  }
  ~SubnormalsGuard() { Write(callers_); }
  SubnormalsGuard(const SubnormalsGuard&) = delete;
  SubnormalsGuard& operator=(const SubnormalsGuard&) = delete;

 private:
#if defined(__x86_64__)
  using Control = uint32_t;                            // MXCSR
  static constexpr Control kFlush = 1 << 15 | 1 << 6;  // results (FTZ), operands (DAZ)
  static Control Read() { return _mm_getcsr(); }
  static void Write(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  using Control = uint64_t;                   // FPCR
  static constexpr Control kFlush = 1 << 24;  // results and operands (FZ)
  static Control Read() {
    Control control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void Write(Control control) {
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
  }
#else
  using Control = int;  // another processor keeps its ways
  static constexpr Control kFlush = 0;
  static Control Read() { return 0; }
  static void Write(Control) {}
#endif

  const Control callers_;
};

}  // namespace sensorseq
