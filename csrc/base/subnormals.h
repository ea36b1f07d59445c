// How a thread treats subnormal numbers while it runs a task.
#pragma once

#include <cstdint>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sensorseq {

enum class Subnormals {
  kZero,  // treated as zero, both as operands and as results
  kKept,
};

// In float, subnormal numbers are treated as zero, because gradients that vanish over a long window
// become subnormal, and on many processors each subnormal operand costs over a hundred cycles. In
// double, subnormal numbers are kept.
template <typename Real>
constexpr Subnormals kSubnormalsOf =
    std::is_same<Real, float>::value ? Subnormals::kZero : Subnormals::kKept;

// Sets this thread's mode for as long as the object exists, and then restores the earlier mode.
class SubnormalsGuard {
 public:
  explicit SubnormalsGuard(Subnormals wanted) : before_(Read()) {
    if (depth++ == 0) outside = before_;
    Write(wanted == Subnormals::kZero ? before_ | kFlush : before_ & ~kFlush);
  }
  ~SubnormalsGuard() {
    --depth;
    Write(before_);
  }
  SubnormalsGuard(const SubnormalsGuard&) = delete;
  SubnormalsGuard& operator=(const SubnormalsGuard&) = delete;

  // As long as this object exists, the calling thread has the mode that it had outside all guards.
  // A Pause is for code that may start a thread, because a new thread inherits and keeps the mode
  // of the thread that starts it.
  class Pause {
   public:
    Pause() : before_(Read()) {
      if (depth > 0) Write(outside);
    }
    ~Pause() { Write(before_); }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    const uint64_t before_;
  };

 private:
#if defined(__x86_64__)
  static constexpr uint64_t kFlush =
      1 << 15 | 1 << 6;  // bits FTZ (results) and DAZ (operands) of MXCSR
  static uint64_t Read() { return _mm_getcsr(); }
  static void Write(uint64_t control) { _mm_setcsr(static_cast<uint32_t>(control)); }
#elif defined(__aarch64__)
  static constexpr uint64_t kFlush = 1 << 24;  // FPCR bit for results and operands (FZ)
  static uint64_t Read() {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void Write(uint64_t control) {
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
  }
#else  // other processors keep their mode
  static constexpr uint64_t kFlush = 0;
  static uint64_t Read() { return 0; }
  static void Write(uint64_t) {}
#endif

  static inline thread_local int64_t depth = 0;     // number of guards on this thread
  static inline thread_local uint64_t outside = 0;  // the mode before the first guard

  const uint64_t before_;
};

}  // namespace sensorseq
