// SPDX-License-Identifier: MIT
// A tile while it is coded: where its pixels are, in the order of the wavefront, and what its coders share.
#pragma once

#include "learner.hpp"
#include "net.hpp"
#include "nibbles.hpp"
#include "team.hpp"

namespace gm::GM_ISA {

constexpr int STACKS = 2, GROUP = 4; // a stack has a multiple of GROUP of a step's pixels, but for the last: the format
constexpr int MAX_RANKS = 8;

struct Place {
  gm_place at;
  int steps, most; // of the wavefront; pixels of a step at most
};

GM_INLINE int floor_quotient(int value, int by) { return value / by - (value % by < 0); }

inline Place place_of(const gm_place &at) {
  return {at, at.slope * (at.height - 1) + at.width, smaller(at.height, (at.width + at.slope - 1) / at.slope)};
}

// Rows of a step's pixels: the first, and one behind the last.
GM_INLINE Part rows_of_step(const Place &place, int step) {
  int first = larger(0, -floor_quotient(place.at.width - 1 - step, place.at.slope));
  return {first, smaller(place.at.height - 1, step / place.at.slope) + 1};
}

GM_INLINE int64_t position(const Place &place, int step, int row) {
  return place.at.origin + (int64_t)row * place.at.row_size +
         (int64_t)(step - place.at.slope * row) * place.at.channels;
}

// Positions of a step's pixels, by row; returns how many.
static inline int locate(const Place &place, int step, int64_t *at) {
  const Part rows = rows_of_step(place, step);
  for (int row = rows.first; row < rows.end; ++row)
    at[row - rows.first] = position(place, step, row);
  return larger(0, rows.end - rows.first);
}

template <typename Sample>
static inline void read_samples(const Place &place, const int64_t *at, int n, int32_t *samples) {
  const Sample *from = static_cast<const Sample *>(place.at.samples);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < place.at.channels; ++c)
      samples[i * place.at.channels + c] = from[at[i] + c];
}

template <typename Sample>
static inline void write_samples(const Place &place, const int64_t *at, int n, const int32_t *samples) {
  Sample *to = static_cast<Sample *>(place.at.samples);
  for (int i = 0; i < n; ++i)
    for (int c = 0; c < place.at.channels; ++c)
      to[at[i] + c] = (Sample)samples[i * place.at.channels + c];
}

struct Fixed;  // of a net that stays as it is: fixed.cpp
struct Online; // of nets that learn: online.cpp

struct Tile {
  Arena arena;
  Place place;
  Coding coding;
  Fixed *fixed; // one of both
  Online *online;
};

GM_INLINE Tile &tile_of(gm_tile *tile) { return *reinterpret_cast<Tile *>(tile); }

void lay_out_fixed(Tile &tile, const Net &net);
void lay_out_online(Tile &tile, const gm_net *const *nets, const gm_learning_data *learning, int count, int ranks);

} // namespace gm::GM_ISA
