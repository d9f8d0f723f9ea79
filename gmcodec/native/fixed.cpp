// SPDX-License-Identifier: MIT
// Code a tile with one net that does not change: models/local/spec.py is the specification.
//
//   a step: features -> net -> logistics -> for each channel: all high nibbles, all low nibbles -> samples
//
// ANS is a stack, so the encoder goes through the steps backwards.
#include "tile.hpp"

namespace gm::GM_ISA {

struct Fixed {
  const Net *net;
  Activations scratch;
  Mixture mix;
  int64_t *offsets;                  // [max_step_pixels]: of a step's pixels
  int32_t *outputs, *base, *samples; // [max_step_pixels, ...]
  Interval *intervals;               // [2 * channels, max_step_pixels]
};

void allocate_fixed(Tile &tile, const Net &net) {
  Arena &arena = tile.arena;
  const size_t pixels = tile.geometry.max_step_pixels;
  Fixed *fixed = tile.fixed = arena.allocate<Fixed>(1);
  if (!fixed)
    return;
  fixed->net = &net;
  fixed->scratch = allocate_activations(arena, net);
  fixed->mix = allocate_mixture(arena, tile.geometry.max_step_pixels, net.mixtures);
  fixed->offsets = arena.allocate<int64_t>(pixels);
  fixed->outputs = arena.allocate<int32_t>(pixels * net.output_columns);
  fixed->base = arena.allocate<int32_t>(pixels * net.channels);
  fixed->samples = arena.allocate<int32_t>(pixels * net.channels);
  fixed->intervals = arena.allocate<Interval>(pixels * 2 * net.channels);
}

static void evaluate(const Tile &tile, int n) {
  const Fixed &fixed = *tile.fixed;
  const Net &net = *fixed.net;
  const int16_t *samples = static_cast<const int16_t *>(tile.geometry.data.samples);
  for (int start = 0; start < n; start += BLOCK_PIXELS)
    evaluate_block(net, samples, tile.geometry.data.row_size, fixed.offsets + start, smaller(BLOCK_PIXELS, n - start),
                   nullptr, fixed.scratch, fixed.outputs + (ptrdiff_t)start * net.output_columns,
                   fixed.base + (ptrdiff_t)start * net.channels);
}

static MemberOutputs net_outputs(const Fixed &fixed) {
  return {fixed.outputs, fixed.net->output_columns, fixed.base, fixed.net->mixtures, fixed.net->tables};
}

constexpr int64_t ALL[1] = {(int64_t)1 << MIXING_BITS}; // the mixing weight of a single net

// Find the intervals of the n pixels at ``offsets``, and return their bits.
static double step_intervals(Tile &tile, int n) {
  Fixed &fixed = *tile.fixed;
  evaluate(tile, n);
  read_samples<int16_t>(tile.geometry, fixed.offsets, n, fixed.samples);
  const MemberOutputs outputs = net_outputs(fixed);
  return find_intervals<false>(fixed.mix, &outputs, 1, ALL, nullptr, fixed.samples, n, tile.coding, fixed.intervals, 0,
                               n);
}

double tile_push(gm_tile *handle, int32_t first, int32_t last, gm_stack *stack, uint32_t *words) {
  Tile &tile = tile_of(handle);
  Stack now = {stack->state, stack->count};
  double bits = 0;
  for (int step = last - 1; step >= first; --step) {
    const int n = step_pixels(tile.geometry, step, tile.fixed->offsets);
    bits += step_intervals(tile, n);
    for (ptrdiff_t i = (ptrdiff_t)2 * tile.coding.channels * n - 1; i >= 0; --i)
      push(now, words, tile.fixed->intervals[i]);
  }
  *stack = {now.state, now.count};
  return bits;
}

void tile_pop(gm_tile *handle, int32_t first, int32_t last, gm_stack *stack, const uint32_t *words) {
  Tile &tile = tile_of(handle);
  Fixed &fixed = *tile.fixed;
  Stack now = {stack->state, stack->count};
  for (int step = first; step < last; ++step) {
    const int n = step_pixels(tile.geometry, step, fixed.offsets);
    evaluate(tile, n);
    const MemberOutputs outputs = net_outputs(fixed);
    pop_samples<false>(fixed.mix, &outputs, 1, ALL, nullptr, fixed.samples, n, tile.coding, now, words);
    write_samples<int16_t>(tile.geometry, fixed.offsets, n, fixed.samples);
  }
  *stack = {now.state, now.count};
}

// Choose one in ``every`` pixels of the ``every`` steps that end with ``step``, pseudo-randomly; returns their number.
static int sampled_step_pixels(const TileGeometry &geometry, int step, int every, int64_t *offsets) {
  int n = 0;
  uint64_t random = (uint64_t)step;
  for (int s = larger(0, step - every + 1); s <= step; ++s) {
    const Span rows = step_rows(geometry, s);
    for (int begin = rows.first; begin < rows.end; begin += every) {
      random = random * 6364136223846793005u + 1442695040888963407u; // Knuth's generator
      const int row = begin + (int)((random >> 33) % (unsigned)every);
      if (row < rows.end && n < geometry.max_step_pixels)
        offsets[n++] = pixel_offset(geometry, s, row);
    }
  }
  return n;
}

void tile_sample(gm_tile *handle, int32_t first, int32_t last, int32_t every, int64_t *pixels, double *bits) {
  Tile &tile = tile_of(handle);
  for (int step = last - 1; step >= first; step -= every, ++pixels, ++bits) {
    const int n = sampled_step_pixels(tile.geometry, step, every, tile.fixed->offsets);
    *pixels = n, *bits = step_intervals(tile, n);
  }
}

int64_t tile_evaluate(gm_tile *handle) {
  Tile &tile = tile_of(handle);
  int64_t total = 0;
  for (int step = 0; step < tile.geometry.steps; ++step) {
    evaluate(tile, step_pixels(tile.geometry, step, tile.fixed->offsets));
    total += tile.fixed->outputs[0];
  }
  return total;
}

void push_intervals(const gm_interval *intervals, int64_t count, gm_stack *stack, uint32_t *words) {
  Stack now = {0, 0};
  while (count-- > 0)
    push(now, words, {intervals[count].start, intervals[count].freq});
  *stack = {now.state, now.count};
}

} // namespace gm::GM_ISA
