// Functions that GCC 12's libstdc++ and headers expect in a C library or libstdc++ from 2020 or
// later. These functions are linked into the libraries of a wheel, so that the libraries load on
// older systems.
#include <pthread.h>

#include <condition_variable>
#include <exception>
#include <mutex>

// Since glibc 2.32: whether the process has only one thread. "No" is always a safe value.
extern "C" {
extern char __libc_single_threaded;
char __libc_single_threaded = 0;
}

// GLIBCXX_3.4.30 has a new version of this function. The definition is weak because a linked
// libstdc++ has one, too.
__attribute__((weak)) void std::condition_variable::wait(
    std::unique_lock<std::mutex>& lock) noexcept {
  pthread_cond_wait(native_handle(), lock.mutex()->native_handle());
}

// CXXABI_1.3.13 added these functions. Older versions have only the copy constructor and the
// destructor, which do the same work.
extern "C" {
void copy_exception(void* to,
                    const void* from) __asm__("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
void release_exception(void* held) __asm__("_ZNSt15__exception_ptr13exception_ptrD1Ev");
}
__attribute__((weak)) void std::__exception_ptr::exception_ptr::_M_addref() noexcept {
  void* never_destroyed = nullptr;
  copy_exception(&never_destroyed, this);
}
__attribute__((weak)) void std::__exception_ptr::exception_ptr::_M_release() noexcept {
  release_exception(this);
}
