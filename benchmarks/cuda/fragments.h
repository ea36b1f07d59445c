// The matrix elements that each lane holds in mma.sync m16n8k16 and wgmma's m64 (16 rows per warp).
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace fragments {

// The row and column of A (16 x 16) whose element is in this half of a lane's word.
__host__ __device__ constexpr int ARow(int lane, int word) { return lane / 4 + 8 * (word % 2); }
__host__ __device__ constexpr int AColumn(int lane, int word, int half) {
  return 2 * (lane % 4) + half + 8 * (word / 2);
}
// The row k and column n of B (16 x 8) whose element is in this half of a lane's word.
__host__ __device__ constexpr int BRow(int lane, int word, int half) {
  return 2 * (lane % 4) + half + 8 * word;
}
__host__ __device__ constexpr int BColumn(int lane) { return lane / 4; }
// The row and column of C (16 x 8) whose element is in a lane's register r.
__host__ __device__ constexpr int CRow(int lane, int r) { return lane / 4 + 8 * (r / 2); }
__host__ __device__ constexpr int CColumn(int lane, int r) { return 2 * (lane % 4) + r % 2; }

__device__ inline uint32_t Pack(__half low, __half high) {
  return static_cast<uint32_t>(__half_as_ushort(low)) |
         (static_cast<uint32_t>(__half_as_ushort(high)) << 16);
}

// a is (16, row_stride), of which the first 16 columns are used; b is (8, 16), indexed [n][k].
__device__ inline void LoadA(const __half* a, int row_stride, int lane, uint32_t (&words)[4]) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const __half* row = a + ARow(lane, w) * row_stride;
    words[w] = Pack(row[AColumn(lane, w, 0)], row[AColumn(lane, w, 1)]);
  }
}

__device__ inline void LoadB(const __half* b, int lane, uint32_t (&words)[2]) {
#pragma unroll
  for (int w = 0; w < 2; ++w) {
    const __half* column = b + BColumn(lane) * 16;
    words[w] = Pack(column[BRow(lane, w, 0)], column[BRow(lane, w, 1)]);
  }
}

__device__ inline void Mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Uses only the first 8 columns of A (words 0 and 1) and the first 8 rows of B (word 0).
__device__ inline void MmaK8(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

}  // namespace fragments
