// SPDX-License-Identifier: MIT
// A tile while it is coded: its pixels in the order of the wavefront, and what fixed.cpp and online.cpp share.
#pragma once

#include "net.hpp"
#include "nibbles.hpp"
#include "rmsprop.hpp"
#include "team.hpp"

namespace gm::GM_ISA {

constexpr int STACKS = 2;      // of an online tile: part of the format
constexpr int PIXEL_GROUP = 4; // pixels of a step are shared out in groups of 4: for the stacks, part of the format
constexpr int MAX_WORKERS = 8;

struct TileGeometry {
  gm_tile_geometry data;
  int steps;           // of the wavefront
  int max_step_pixels; // the largest number of pixels in a step
};

GM_INLINE int floor_quotient(int value, int by) { return value / by - (value % by < 0); }

inline TileGeometry tile_geometry(const gm_tile_geometry &data) {
  return {data, data.slope * (data.height - 1) + data.width,
          smaller(data.height, (data.width + data.slope - 1) / data.slope)};
}

// The rows in which a step has a pixel.
GM_INLINE Span step_rows(const TileGeometry &geometry, int step) {
  int first = larger(0, -floor_quotient(geometry.data.width - 1 - step, geometry.data.slope));
  return {first, smaller(geometry.data.height - 1, step / geometry.data.slope) + 1};
}

GM_INLINE int64_t pixel_offset(const TileGeometry &geometry, int step, int row) {
  return geometry.data.origin + (int64_t)row * geometry.data.row_size +
         (int64_t)(step - geometry.data.slope * row) * geometry.data.channels;
}

// The offsets of a step's pixels, row by row; returns their number.
static inline int step_pixels(const TileGeometry &geometry, int step, int64_t *offsets) {
  const Span rows = step_rows(geometry, step);
  for (int row = rows.first; row < rows.end; ++row)
    offsets[row - rows.first] = pixel_offset(geometry, step, row);
  return larger(0, rows.end - rows.first);
}

template <typename Sample>
static inline void read_samples(const TileGeometry &geometry, const int64_t *offsets, int n, int32_t *samples) {
  const Sample *from = static_cast<const Sample *>(geometry.data.samples);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < geometry.data.channels; ++c)
      samples[i * geometry.data.channels + c] = from[offsets[i] + c];
}

template <typename Sample>
static inline void write_samples(const TileGeometry &geometry, const int64_t *offsets, int n, const int32_t *samples) {
  Sample *to = static_cast<Sample *>(geometry.data.samples);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < geometry.data.channels; ++c)
      to[offsets[i] + c] = (Sample)samples[i * geometry.data.channels + c];
}

struct Fixed;  // state of a tile whose net does not change: fixed.cpp
struct Online; // state of a tile whose nets learn: online.cpp

struct Tile {
  Arena arena;
  TileGeometry geometry;
  Coding coding;
  Fixed *fixed; // either this or ``online`` is null
  Online *online;
};

GM_INLINE Tile &tile_of(gm_tile *tile) { return *reinterpret_cast<Tile *>(tile); }

void allocate_fixed(Tile &tile, const Net &net);
void allocate_online(Tile &tile, const gm_net *const *nets, const gm_rmsprop_net *rmsprop, int count, int workers);

} // namespace gm::GM_ISA
