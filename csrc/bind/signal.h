// The functions that fill the module sensorseq._signal, one for each file bind/signal_*.cpp.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <mutex>
#include <string>
#include <utility>

#include "signal/signal_kernels.h"

namespace sensorseq {

// Rows of samples as a dense array. An argument of any other type is converted with a single copy.
// If the copy fails, the constructor raises the error, whereas `ensure` would return null and lose
// the MemoryError.
template <typename T>
using Rows = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

// Raises the exception of sensorseq.errors whose name is `error`.
[[noreturn]] inline void Raise(const char* error, const std::string& sentence) {
  const pybind11::object type = pybind11::module_::import("sensorseq.errors").attr(error);
  PyErr_SetString(type.ptr(), sentence.c_str());
  throw pybind11::error_already_set();
}

// An object that several threads use in turn.
template <typename Object>
struct Shared {
  explicit Shared(Object given) : object(std::move(given)) {}
  Object object;
  std::mutex mutex;
};

// One thread's turn. The constructor waits without the GIL, because the thread whose turn it is may
// need the GIL.
class Turn {
 public:
  explicit Turn(std::mutex& mutex) : lock_(mutex, std::defer_lock) {
    const pybind11::gil_scoped_release release;
    lock_.lock();
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

// Returns the kernels for this processor. Raises an error if SENSORSEQ_CPU_ISA names an unknown or
// unsupported instruction set.
const signal::SignalKernels& ServingKernels();

void BindAugment(pybind11::module_& m);       // signal/augment.h
void BindConvolutions(pybind11::module_& m);  // signal/random_convolutions.h
void BindCsv(pybind11::module_& m);           // signal/csv_numbers.h
void BindMoving(pybind11::module_& m);
void BindResample(pybind11::module_& m);
void BindSections(pybind11::module_& m);
void BindWindow(pybind11::module_& m);  // signal/window.h, signal/moments.h

}  // namespace sensorseq
