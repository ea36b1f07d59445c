// Marks a function that host and device share: one source, compiled for both.
#pragma once

#ifdef __CUDACC__
#define SENSORSEQ_HD __host__ __device__ __forceinline__
#else
#define SENSORSEQ_HD inline
#endif
