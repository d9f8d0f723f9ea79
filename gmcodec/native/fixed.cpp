// SPDX-License-Identifier: MIT
// Code a tile with a net that stays as it is: models/local/spec.py.
//
//   step: features -> net -> logistics -> for each channel: all high nibbles, all low nibbles -> samples
//
// ANS is a stack: the encoder walks the steps backwards.
#include "tile.hpp"

namespace gm::GM_ISA {

struct Fixed {
  const Net *net;
  Activations room;
  Mixture mix;
  int64_t *at;                       // [most]
  int32_t *outputs, *base, *samples; // [most, ...]
  Range *ranges;                     // [2 * channels, most]
};

void lay_out_fixed(Tile &tile, const Net &net) {
  Arena &arena = tile.arena;
  const size_t most = tile.place.most;
  Fixed *fixed = tile.fixed = arena.take<Fixed>(1);
  if (!fixed)
    return;
  fixed->net = &net;
  fixed->room = lay_out_activations(arena, net);
  fixed->mix = lay_out_mixture(arena, tile.place.most, net.mixtures);
  fixed->at = arena.take<int64_t>(most);
  fixed->outputs = arena.take<int32_t>(most * net.output_columns);
  fixed->base = arena.take<int32_t>(most * net.channels);
  fixed->samples = arena.take<int32_t>(most * net.channels);
  fixed->ranges = arena.take<Range>(most * 2 * net.channels);
}

static void evaluate(const Tile &tile, int n) {
  const Fixed &fixed = *tile.fixed;
  const Net &net = *fixed.net;
  const int16_t *samples = static_cast<const int16_t *>(tile.place.at.samples);
  for (int start = 0; start < n; start += BLOCK)
    evaluate_block(net, samples, tile.place.at.row_size, fixed.at + start, smaller(BLOCK, n - start), nullptr,
                   fixed.room, fixed.outputs + (ptrdiff_t)start * net.output_columns,
                   fixed.base + (ptrdiff_t)start * net.channels);
}

static Member member(const Fixed &fixed) {
  return {fixed.outputs, fixed.net->output_columns, fixed.base, fixed.net->mixtures, fixed.net->tables};
}

constexpr int64_t ALL[1] = {(int64_t)1 << MIXING_BITS}; // one net has all of the mixture

// Ranges of the samples of n pixels that are located; their bits.
static double ranges_of_step(Tile &tile, int n) {
  Fixed &fixed = *tile.fixed;
  evaluate(tile, n);
  read_samples<int16_t>(tile.place, fixed.at, n, fixed.samples);
  const Member said = member(fixed);
  return find_ranges<false>(fixed.mix, &said, 1, ALL, nullptr, fixed.samples, n, tile.coding, fixed.ranges, 0, n);
}

double tile_push(gm_tile *handle, int32_t first, int32_t last, gm_stack *stack, uint32_t *words) {
  Tile &tile = tile_of(handle);
  Stack now = {stack->state, stack->count};
  double bits = 0;
  for (int step = last - 1; step >= first; --step) {
    const int n = locate(tile.place, step, tile.fixed->at);
    bits += ranges_of_step(tile, n);
    for (ptrdiff_t i = (ptrdiff_t)2 * tile.coding.channels * n - 1; i >= 0; --i)
      push(now, words, tile.fixed->ranges[i]);
  }
  *stack = {now.state, now.count};
  return bits;
}

void tile_pop(gm_tile *handle, int32_t first, int32_t last, gm_stack *stack, const uint32_t *words) {
  Tile &tile = tile_of(handle);
  Fixed &fixed = *tile.fixed;
  Stack now = {stack->state, stack->count};
  for (int step = first; step < last; ++step) {
    const int n = locate(tile.place, step, fixed.at);
    evaluate(tile, n);
    const Member said = member(fixed);
    pop_samples<false>(fixed.mix, &said, 1, ALL, nullptr, fixed.samples, n, tile.coding, now, words);
    write_samples<int16_t>(tile.place, fixed.at, n, fixed.samples);
  }
  *stack = {now.state, now.count};
}

// One in ``every`` pixels of the ``every`` steps that end with ``step``, as if by chance; returns how many.
static int locate_some(const Place &place, int step, int every, int64_t *at) {
  int n = 0;
  uint64_t chance = (uint64_t)step;
  for (int s = larger(0, step - every + 1); s <= step; ++s) {
    const Part rows = rows_of_step(place, s);
    for (int begin = rows.first; begin < rows.end; begin += every) {
      chance = chance * 6364136223846793005u + 1442695040888963407u; // Knuth's generator
      const int row = begin + (int)((chance >> 33) % (unsigned)every);
      if (row < rows.end && n < place.most)
        at[n++] = position(place, s, row);
    }
  }
  return n;
}

void tile_sample(gm_tile *handle, int32_t first, int32_t last, int32_t every, int64_t *pixels, double *bits) {
  Tile &tile = tile_of(handle);
  for (int step = last - 1; step >= first; step -= every, ++pixels, ++bits) {
    const int n = locate_some(tile.place, step, every, tile.fixed->at);
    *pixels = n, *bits = ranges_of_step(tile, n);
  }
}

int64_t tile_evaluate(gm_tile *handle) {
  Tile &tile = tile_of(handle);
  int64_t total = 0;
  for (int step = 0; step < tile.place.steps; ++step) {
    evaluate(tile, locate(tile.place, step, tile.fixed->at));
    total += tile.fixed->outputs[0];
  }
  return total;
}

void push_ranges(const gm_range *ranges, int64_t count, gm_stack *stack, uint32_t *words) {
  Stack now = {0, 0};
  while (count-- > 0)
    push(now, words, {ranges[count].start, ranges[count].freq});
  *stack = {now.state, now.count};
}

} // namespace gm::GM_ISA
