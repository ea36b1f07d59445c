// A pause between two reads of a value that another thread will write.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sensorseq {

inline void Relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace sensorseq
