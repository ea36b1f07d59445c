// One object per process, made on first use and never destroyed, because its users may outlive
// every static object. A forked child makes its own object, because the parent's threads do not
// exist in the child and may have held the object's locks.
#pragma once

#include <pthread.h>

#include <atomic>

namespace sensorseq {

// Whether this process was forked from a process that had loaded this library.
inline std::atomic<bool> is_forked_child{false};

template <typename T>
class PerProcess {
 public:
  static T& Get() {
    (void)kIsRegistered;
    T* found = object.load(std::memory_order_acquire);
    if (found != nullptr) return *found;
    T* made = new T;
    if (object.compare_exchange_strong(found, made)) return *made;
    delete made;  // another thread has made the object in the meantime
    return *found;
  }

 private:
  static void Forget() {
    is_forked_child = true;
    object.store(nullptr);
  }

  static inline std::atomic<T*> object{nullptr};
  static inline const bool kIsRegistered = pthread_atfork(nullptr, nullptr, &Forget) == 0;
};

}  // namespace sensorseq
