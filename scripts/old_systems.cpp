// Linked into the libraries of a wheel, so that they load on systems older than the compiler's:
// what GCC 12's libstdc++ and headers take from a C library or libstdc++ of 2020 and later.
#include <pthread.h>

#include <condition_variable>
#include <mutex>

// glibc 2.32: whether the process has one thread. It may always have more.
extern "C" {
extern char __libc_single_threaded;
char __libc_single_threaded = 0;
}

// GLIBCXX_3.4.30 is another version of the same function. Weak: a libstdc++ linked in has its own.
__attribute__((weak)) void std::condition_variable::wait(
    std::unique_lock<std::mutex>& lock) noexcept {
  pthread_cond_wait(native_handle(), lock.mutex()->native_handle());
}
