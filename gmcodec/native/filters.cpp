// SPDX-License-Identifier: MIT
// Undo the filters of conventional methods, sample by sample.  coding/filters.py applies them.
#include "gmcodec.h"
#include "simd.hpp"

namespace gm::GM_ISA {

enum { NONE, SUB, UP, AVERAGE, PAETH }; // the numbers in a PNG

GM_INLINE int distance(int a, int b) { return a > b ? a - b : b - a; }

GM_INLINE int paeth(int left, int up, int diagonal) {
  int dl = distance(up, diagonal), du = distance(left, diagonal), dd = left + up - 2 * diagonal;
  dd = dd < 0 ? -dd : dd;
  return dl <= du && dl <= dd ? left : du <= dd ? up : diagonal;
}

void undo_png(uint8_t *rows, int64_t row_size, const uint8_t *kinds, int64_t kind_size, int64_t height, int64_t width,
              int64_t step) {
  for (int64_t i = 0; i < height; ++i) {
    uint8_t *row = rows + i * row_size;
    const uint8_t *above = row - row_size;
    const int kind = kinds[i * kind_size];
    for (int64_t j = 0; j < width && kind != NONE; ++j) {
      const int left = j >= step ? row[j - step] : 0, up = i ? above[j] : 0;
      int prediction = kind == SUB ? left : kind == UP ? up : (left + up) >> 1;
      if (kind == PAETH)
        prediction = paeth(left, up, i && j >= step ? above[j - step] : 0);
      row[j] = (uint8_t)(row[j] + prediction);
    }
  }
}

void undo_med(int32_t *planes, int64_t channels, int64_t height, int64_t width, int32_t mask) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < height; ++i) {
      int32_t *row = planes + (c * height + i) * width;
      const int32_t *above = row - width;
      for (int64_t j = 0; j < width; ++j) {
        int prediction = i && !j ? above[0] : j && !i ? row[j - 1] : 0;
        if (i && j) {
          const int left = row[j - 1], up = above[j];
          prediction = clamp(left + up - above[j - 1], smaller(left, up), larger(left, up));
        }
        row[j] = (row[j] + prediction) & mask;
      }
    }
}

} // namespace gm::GM_ISA
