// SPDX-License-Identifier: MIT
// Contexts of images of one bit, from many pixels around: models/graphics/bilevel_spec.py is the specification.
#pragma once

#include "context_mixing.hpp"

namespace gm::GM_ISA {

constexpr int TEMPLATES = 13, TEMPLATE_ROWS = 6;

// The pixels of a context: ``left`` pixels to the left in this row; in each row above, the nearest first, the pixel
// above and ``sides`` pixels to either side of it, or none if that is -1.
struct Template {
  int left, sides[TEMPLATE_ROWS];
};

constexpr Template TEMPLATE[TEMPLATES] = {
    {4, {3, 2, -1, -1, -1, -1}}, {2, {1, 1, -1, -1, -1, -1}},   {6, {4, 3, 2, -1, -1, -1}},
    {7, {5, 4, 3, 2, -1, -1}},   {8, {6, 5, 4, 3, 2, 1}},       {3, {2, 2, 2, 1, 1, 0}},
    {1, {1, 1, 1, 1, 1, 1}},     {12, {2, -1, -1, -1, -1, -1}}, {2, {6, 2, -1, -1, -1, -1}},
    {3, {3, 3, 3, 3, -1, -1}},   {10, {8, 6, 5, 4, 3, 2}},      {16, {-1, -1, -1, -1, -1, -1}},
    {4, {4, 4, 4, 4, 4, 4}},
};
constexpr Template PLACE_TEMPLATE = {6, {5, 4, 4, 3, 3, 3}}; // of places that match

GM_INLINE uint64_t row_bits(const uint32_t *from, int count) {
  uint64_t bits = 0;
  for (int i = 0; i < count; ++i)
    bits = bits << 1 | (from[i] & 1);
  return bits;
}

static inline uint64_t template_hash(const uint32_t *here, int64_t stride, const Template &pixels, uint64_t number) {
  uint64_t hash = combine(number, row_bits(here - pixels.left, pixels.left));
  for (int row = 0; row < TEMPLATE_ROWS; ++row) {
    const int side = pixels.sides[row];
    if (side >= 0)
      hash = combine(hash, row_bits(here - (row + 1) * stride - side, 2 * side + 1));
  }
  return hash;
}

} // namespace gm::GM_ISA
