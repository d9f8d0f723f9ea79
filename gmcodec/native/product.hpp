// SPDX-License-Identifier: MIT
// Products of int16 matrices with int32 sums.  Layer.check has proved that sums stay below 2**31.
//
// Weights [M, K] are packed as [K / 2, columns, 2], where columns is M rounded up to whole vectors.  So one instruction
// multiplies a pair of inputs by the weights of several outputs.
#pragma once

#include "simd.hpp"

namespace gm::GM_ISA {

constexpr int MAX_SUMS = 16; // the largest SUMS of any instruction set: packed outputs are a multiple of it

// sums[r][v] += inputs of row r times weights of vector v, for all pairs.  Most of the time is spent in this loop.
template <int ROWS, int VECTORS>
GM_INLINE void add_pairs(Sums (&sums)[ROWS][VECTORS], const char *x, ptrdiff_t row, ptrdiff_t step,
                         const int16_t *weight, int pairs, ptrdiff_t columns) {
  for (int pair = 0; pair < pairs; ++pair) {
    Weights weights[VECTORS];
    for (int v = 0; v < VECTORS; ++v)
      weights[v] = load_weights(weight + pair * 2 * columns + 2 * SUMS * v);
    for (int r = 0; r < ROWS; ++r) {
      int32_t both;
      memcpy(&both, x + r * row + pair * step, sizeof both);
      for (int v = 0; v < VECTORS; ++v)
        sums[r][v] = add_pair(sums[r][v], weights[v], both);
    }
  }
}

// The inputs of a product: those of row n and a pair, two int16, lie at data + n * row + pair * step.
struct Inputs {
  const char *data;
  ptrdiff_t row, step; // bytes

  GM_INLINE_MEMBER Inputs after(int rows) const { return {data + rows * row, row, step}; }

  GM_INLINE_MEMBER void fetch(int) const {} // the processor prefetches contiguous rows by itself

  template <int ROWS, int VECTORS>
  GM_INLINE_MEMBER void add(Sums (&sums)[ROWS][VECTORS], const int16_t *weight, int pairs, ptrdiff_t columns) const {
    add_pairs(sums, data, row, step, weight, pairs, columns);
  }
};

GM_INLINE Inputs rows_of(const int16_t *x, ptrdiff_t stride) { // [N, stride]
  return {reinterpret_cast<const char *>(x), 2 * stride, 4};
}

// ROWS x VECTORS sums over all pairs, in registers.  X: Inputs, or a type like it.
template <int ROWS, int VECTORS, typename X>
GM_INLINE void register_tile(X x, const int16_t *weight, int pairs, ptrdiff_t columns, int32_t *out,
                             ptrdiff_t out_row) {
  Sums sums[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      sums[r][v] = no_sums();
  x.template add<ROWS, VECTORS>(sums, weight, pairs, columns);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      store_sums(out + r * out_row + SUMS * v, sums[r][v]);
}

template <int ROWS, typename X>
GM_INLINE void register_tiles(X x, const int16_t *weight, int pairs, int columns, int32_t *out, ptrdiff_t out_row) {
  for (int column = 0; column < columns;) {
    int left = (columns - column) / SUMS;
    const int16_t *from = weight + 2 * column;
    if (REGISTER_VECTORS >= 4 && left >= 4) {
      register_tile<ROWS, smaller(REGISTER_VECTORS, 4)>(x, from, pairs, columns, out + column, out_row);
      column += 4 * SUMS;
    } else if (REGISTER_VECTORS >= 3 && left >= 3 && left != 4) { // for 4, twice 2 are faster than 3 and 1
      register_tile<ROWS, smaller(REGISTER_VECTORS, 3)>(x, from, pairs, columns, out + column, out_row);
      column += 3 * SUMS;
    } else if (left >= 2) {
      register_tile<ROWS, 2>(x, from, pairs, columns, out + column, out_row);
      column += 2 * SUMS;
    } else {
      register_tile<ROWS, 1>(x, from, pairs, columns, out + column, out_row);
      column += SUMS;
    }
  }
}

// out int32 [rows, out_row] = x times packed weights [pairs, columns, 2]; rows at most REGISTER_ROWS.
template <typename X>
static __attribute__((noinline)) void multiply(X x, int rows, const int16_t *weight, int pairs, int columns,
                                               int32_t *out, ptrdiff_t out_row) {
  if (rows == REGISTER_ROWS)
    return register_tiles<REGISTER_ROWS>(x, weight, pairs, columns, out, out_row);
  for (; rows >= 4 && REGISTER_ROWS > 4; rows -= 4, x = x.after(4), out += 4 * out_row)
    register_tiles<4>(x, weight, pairs, columns, out, out_row);
  for (; rows > 0; --rows, x = x.after(1), out += out_row)
    register_tiles<1>(x, weight, pairs, columns, out, out_row);
}

// The same for any number of rows.
static inline void multiply_all(Inputs x, int rows, const int16_t *weight, int pairs, int columns, int32_t *out,
                                ptrdiff_t out_row) {
  for (int first = 0; first < rows; first += REGISTER_ROWS)
    multiply(x.after(first), smaller(REGISTER_ROWS, rows - first), weight, pairs, columns, out + first * out_row,
             out_row);
}

// weight [M, K] -> packed [pairs, columns, 2], zero where there is no weight.
static inline void pack(const int16_t *weight, int m, int k, int columns, int16_t *packed) {
  for (int row = 0; row < m; ++row)
    for (int column = 0; column < k; ++column)
      packed[((ptrdiff_t)(column / 2) * columns + row) * 2 + column % 2] = weight[(ptrdiff_t)row * k + column];
}

} // namespace gm::GM_ISA
