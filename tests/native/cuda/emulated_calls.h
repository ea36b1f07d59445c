// Calls as specified in csrc/lstm/lstm_linear_cuda.h, run in the emulator.
#pragma once

#include "cluster.h"
#include "lstm/lstm_linear_cuda.h"

namespace emulated {

using sensorseq::LstmBackward;
using sensorseq::LstmForward;
using sensorseq::LstmShape;
namespace cuda = sensorseq::cuda;

size_t ForwardBytes(const LstmShape& shape, const cuda::Options& options);
size_t BackwardBytes(const LstmShape& shape, const cuda::Options& options);
int64_t SavedFloats(const LstmShape& shape, const cuda::Options& options);

void Forward(const LstmForward<float>& args, const cuda::Options& options,
             const emulator::Options& schedule);
void Backward(const LstmBackward<float>& args, const cuda::Options& options,
              const emulator::Options& schedule);

// For Real = float, Float16 and Bfloat16.
template <typename Real>
void ForwardPortable(const LstmForward<Real>& args, const cuda::Options& options,
                     const emulator::Options& schedule);
void BackwardPortable(const LstmBackward<float>& args, const cuda::Options& options,
                      const emulator::Options& schedule);

// Each function is for one precision. The precisions are compiled separately, which halves the
// compile time.
template <int kPlanes>
void ForwardIn(const LstmForward<float>& args, const cuda::Options& options,
               const emulator::Options& schedule);
template <int kPlanes>
void BackwardIn(const LstmBackward<float>& args, const cuda::Options& options,
                const emulator::Options& schedule);

}  // namespace emulated
