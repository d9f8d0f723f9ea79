// SPDX-License-Identifier: MIT
// A layer that learns by RMSProp: exact/rmsprop.py explains it, models/online/spec.py is the specification.
//
// Master weights have FINE_BITS more bits than the int16 weights that multiply.  They lie [inputs, columns], so that
// numbers of an output, such as its rate and its step, are elements of a vector along a row.
#pragma once

#include "layer.hpp"

namespace gm::GM_ISA {

constexpr int FINE_BITS = 10, FINE_HALF = 1 << (FINE_BITS - 1);
// exact/rmsprop.py has the same names.
constexpr int DELTA_LIMIT = 1023;
constexpr int MAX_BATCH_PIXELS = 1024;
constexpr int SQUARE_SHIFT = 6;
constexpr int64_t SQUARE_MEMORY = 100;
constexpr int STEP_BITS = 24;
constexpr int64_t STEP_MAX = 1 << 21;
constexpr int64_t MOVE_LIMIT = 8;
constexpr int64_t BIAS_ROOM = 1 << 27;
constexpr int32_t STREAM_GRADIENT_LIMIT = 1 << 30;
constexpr int64_t BIAS_LIMIT = (BIAS_ROOM - 1) << FINE_BITS;
constexpr int AVERAGE_SHIFT = 2; // an averaged weight moves by a quarter of its distance from the latest one

GM_INLINE int64_t floor_divide(int64_t value, int64_t by) { return value / by - (value % by < 0); }

// The square root of 0 <= n < 2**62, rounded down.
static inline int64_t square_root(int64_t n) {
  int64_t root = (int64_t)__builtin_sqrt((double)n); // off by at most one
  while (root * root > n)
    --root;
  while ((root + 1) * (root + 1) <= n)
    ++root;
  return root;
}

// Update a row's mean square with the sum of squares of a batch; returns the factor from gradient to step, in
// 2**-STEP_BITS.
static inline int64_t step_size(int64_t total, int64_t elements, int64_t &square, int64_t rate, int64_t count) {
  int64_t now = total / elements;
  square += floor_divide(now - square, smaller(count, SQUARE_MEMORY));
  int64_t root =
      larger(square_root(larger(square, now)), (int64_t)1); // a sudden large gradient must not make a large step
  return smaller((rate << STEP_BITS) / (root << SQUARE_SHIFT), STEP_MAX);
}

struct OnlineLayer {
  Layer latest, coding;      // the weights after the last update; those that code, which may be a mean of them
  int elements;              // number of elements in a row's mean square
  int32_t *master, *mean;    // [2 * pairs, columns]
  int64_t *bias, *mean_bias; // [columns], as are the arrays below
  int64_t *square, *rate;
  int32_t *backward_shift;
  double *delta_scale;
  int32_t weight_limit, bias_input;
  int16_t *backward_weight; // shifted weights, packed for the backward pass: [columns / 2, backward_columns, 2]
  int backward_columns;
};

inline void allocate(Arena &arena, const Layer &frozen, bool averaged, bool first, OnlineLayer &layer) {
  const size_t columns = frozen.columns, weights = 2 * columns * frozen.pairs;
  layer.latest = frozen;
  layer.latest.weight = arena.allocate<int16_t>(weights);
  layer.latest.offset = arena.allocate<double>(columns);
  layer.coding = layer.latest;
  layer.master = arena.allocate<int32_t>(weights);
  layer.bias = arena.allocate<int64_t>(columns);
  layer.mean = nullptr, layer.mean_bias = nullptr;
  if (averaged) {
    layer.coding.weight = arena.allocate<int16_t>(weights);
    layer.coding.offset = arena.allocate<double>(columns);
    layer.mean = arena.allocate<int32_t>(weights);
    layer.mean_bias = arena.allocate<int64_t>(columns);
  }
  layer.square = arena.allocate<int64_t>(columns);
  layer.rate = arena.allocate<int64_t>(columns);
  layer.backward_shift = arena.allocate<int32_t>(columns);
  layer.delta_scale = arena.allocate<double>(columns);
  layer.backward_columns = round_up(2 * frozen.pairs, MAX_SUMS);
  layer.backward_weight = first ? nullptr : arena.allocate<int16_t>(columns * layer.backward_columns);
}

// Round the master weights of two inputs to int16 and pack them as a row of pairs.
GM_INLINE void pack_rows(const int32_t *even, const int32_t *odd, int columns, int16_t *packed) {
  for (int m = 0; m < columns; m += REALS) {
    Integers low = (load<Integers>(even + m) + FINE_HALF) >> FINE_BITS,
             high = (load<Integers>(odd + m) + FINE_HALF) >> FINE_BITS;
    store(reinterpret_cast<int32_t *>(packed) + m, (low & 0xFFFF) | (high << 16));
  }
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pairs of int16 are written as int32, the first of them in the low half"
#endif

// Round, shift and pack the weights of an input for the backward pass.
GM_INLINE void pack_backward(const OnlineLayer &layer, int input) {
  const int columns = layer.latest.columns;
  const int32_t *row = layer.master + (ptrdiff_t)input * columns;
  alignas(64) int16_t shifted[MAX_OUTPUTS];
  for (int m = 0; m < columns; m += REALS) {
    Integers weight = ((load<Integers>(row + m) + FINE_HALF) >> FINE_BITS) >> load<Integers>(layer.backward_shift + m);
    store(shifted + m, __builtin_convertvector(weight, Shorts));
  }
  int16_t *to = layer.backward_weight + 2 * input;
  for (int m = 0; m < columns; m += 2, to += 2 * layer.backward_columns)
    memcpy(to, shifted + m, 4);
}

inline void fill(const Layer &frozen, const gm_rmsprop_layer &rmsprop, OnlineLayer &layer) {
  const int columns = frozen.columns, inputs = 2 * frozen.pairs;
  memcpy(layer.latest.weight, frozen.weight, sizeof(int16_t) * inputs * columns);
  memcpy(layer.latest.offset, frozen.offset, sizeof(double) * columns);
  layer.elements = round_up(frozen.inputs, 8); // part of the format
  layer.weight_limit = rmsprop.weight_limit, layer.bias_input = rmsprop.bias_input;
  for (int k = 0; k < inputs; ++k)
    for (int m = 0; m < columns; ++m)
      layer.master[(ptrdiff_t)k * columns + m] = (int32_t)frozen.weight[((ptrdiff_t)(k / 2) * columns + m) * 2 + k % 2]
                                                 << FINE_BITS;
  for (int m = 0; m < columns; ++m) {
    const bool there = m < frozen.outputs;
    layer.bias[m] = there ? (int64_t)((frozen.offset[m] - 0.5) / frozen.scale[m]) << FINE_BITS : 0;
    layer.rate[m] = there ? rmsprop.rate[m] : 1;
    layer.backward_shift[m] = there ? rmsprop.backward_shift[m] : 0;
    layer.delta_scale[m] = there ? rmsprop.delta_scale[m] : 0;
  }
  if (layer.mean) {
    memcpy(layer.coding.weight, frozen.weight, sizeof(int16_t) * inputs * columns);
    memcpy(layer.coding.offset, frozen.offset, sizeof(double) * columns);
    memcpy(layer.mean, layer.master, sizeof(int32_t) * inputs * columns);
    memcpy(layer.mean_bias, layer.bias, sizeof(int64_t) * columns);
  }
  for (int k = 0; k < inputs && layer.backward_weight; ++k)
    pack_backward(layer, k);
}

// A worker's scratch to update a layer; its sizes are the largest of all layers.
struct UpdateScratch {
  int32_t *inputs, *deltas;  // pairs of pixels: [MAX_BATCH_PIXELS / 2, inputs], [MAX_BATCH_PIXELS / 2, columns]
  int32_t *gradient;         // [inputs, columns]
  int64_t *squares, *biases; // [columns]
  double *steps, *max_move;  // [columns]
};

inline UpdateScratch allocate_update_scratch(Arena &arena, int inputs, int columns) {
  const size_t pairs = MAX_BATCH_PIXELS / 2, k = inputs, m = columns;
  return {arena.allocate<int32_t>(pairs * k), arena.allocate<int32_t>(pairs * m), arena.allocate<int32_t>(k * m),
          arena.allocate<int64_t>(m),         arena.allocate<int64_t>(m),         arena.allocate<double>(m),
          arena.allocate<double>(m)};
}

// x int16 [n, stride] -> int32 [(n + 1) / 2, count]: pairs of rows; for an odd n the last one's partner is zero.
static inline void in_pairs(const int16_t *x, ptrdiff_t stride, int n, int count, int32_t *out) {
  for (int i = 0; i < n; i += 2, out += count) {
    const int16_t *first = x + i * stride, *second = i + 1 < n ? first + stride : nullptr;
    for (int k = 0; k < count; ++k)
      out[k] = (first[k] & 0xFFFF) | (second ? (int32_t)second[k] << 16 : 0);
  }
}

// Update the mean squares of all outputs with the gradient, and find their steps.
static inline void find_steps(OnlineLayer &layer, const UpdateScratch &scratch, int64_t count) {
  const int columns = layer.latest.columns, inputs = 2 * layer.latest.pairs;
  for (int m = 0; m < columns; ++m)
    scratch.squares[m] = 0;
  for (int k = 0; k < inputs; ++k)
    for (int m = 0; m < columns; ++m) {
      int64_t v = scratch.gradient[(ptrdiff_t)k * columns + m] >> SQUARE_SHIFT;
      scratch.squares[m] += v * v;
    }
  for (int m = 0; m < columns; ++m) {
    int64_t size = step_size(scratch.squares[m], layer.elements, layer.square[m], layer.rate[m], count);
    scratch.steps[m] = (double)size * (1.0 / (1 << STEP_BITS));
    scratch.max_move[m] = (double)(MOVE_LIMIT * layer.rate[m]);
  }
}

// Move a row of master weights against the gradient.
GM_INLINE void move_row(const int32_t *gradient, const UpdateScratch &scratch, int columns, int32_t bound,
                        int32_t *master) {
  for (int m = 0; m < columns; m += REALS) {
    Reals max_move = load<Reals>(scratch.max_move + m);
    Reals change = times_plus(reals(load<Integers>(gradient + m)), load<Reals>(scratch.steps + m), splat(0.5));
    Integers by = floor_to_integers(clamp(floor(change), -max_move, max_move));
    store(master + m, clamp(load<Integers>(master + m) - by, -bound, bound));
  }
}

// Move a row of averaged weights towards the latest ones.
GM_INLINE void average_row(const int32_t *master, int columns, int32_t *mean) {
  for (int m = 0; m < columns; m += REALS) {
    Integers now = load<Integers>(mean + m);
    store(mean + m, now + ((load<Integers>(master + m) - now) >> AVERAGE_SHIFT));
  }
}

GM_INLINE double offset_of(int64_t bias, double scale) {
  return (double)((bias + FINE_HALF) >> FINE_BITS) * scale + 0.5;
}

static inline void move_bias(OnlineLayer &layer, const UpdateScratch &scratch, const int16_t *delta, int n) {
  const int columns = layer.latest.columns;
  for (int m = 0; m < columns; ++m)
    scratch.biases[m] = 0;
  for (int i = 0; i < n; ++i)
    for (int m = 0; m < columns; ++m)
      scratch.biases[m] += delta[(ptrdiff_t)i * columns + m];
  for (int m = 0; m < columns; ++m) {
    double change = __builtin_floor((double)(scratch.biases[m] * layer.bias_input) * scratch.steps[m] + 0.5);
    int64_t by = (int64_t)clamp(change, -scratch.max_move[m], scratch.max_move[m]) * layer.bias_input;
    layer.bias[m] = clamp(layer.bias[m] - by, -BIAS_LIMIT, BIAS_LIMIT);
    layer.latest.offset[m] = offset_of(layer.bias[m], layer.latest.scale[m]);
    if (layer.mean) {
      layer.mean_bias[m] += (layer.bias[m] - layer.mean_bias[m]) >> AVERAGE_SHIFT;
      layer.coding.offset[m] = offset_of(layer.mean_bias[m], layer.latest.scale[m]);
    }
  }
}

// Learn from n pixels: x int16 [n, x_row], the layer's inputs, and ``delta`` int16 [n, columns], gradients by its sums.
// ``count``: the number of this update.
static inline void update_layer(OnlineLayer &layer, const int16_t *x, ptrdiff_t x_row, const int16_t *delta, int n,
                                int64_t count, const UpdateScratch &scratch) {
  const int columns = layer.latest.columns, inputs = 2 * layer.latest.pairs, pairs = (n + 1) / 2;
  in_pairs(x, x_row, n, inputs, scratch.inputs);
  in_pairs(delta, columns, n, columns, scratch.deltas);
  multiply_all({reinterpret_cast<const char *>(scratch.inputs), 4, (ptrdiff_t)4 * inputs}, inputs,
               reinterpret_cast<const int16_t *>(scratch.deltas), pairs, columns, scratch.gradient, columns);
  find_steps(layer, scratch, count);
  const int32_t bound = layer.weight_limit << FINE_BITS;
  for (int k = 0; k < inputs; k += 2) {
    const ptrdiff_t even = (ptrdiff_t)k * columns, odd = even + columns;
    move_row(scratch.gradient + even, scratch, columns, bound, layer.master + even);
    move_row(scratch.gradient + odd, scratch, columns, bound, layer.master + odd);
    pack_rows(layer.master + even, layer.master + odd, columns, layer.latest.weight + even);
    if (layer.mean) {
      average_row(layer.master + even, columns, layer.mean + even);
      average_row(layer.master + odd, columns, layer.mean + odd);
      pack_rows(layer.mean + even, layer.mean + odd, columns, layer.coding.weight + even);
    }
    if (layer.backward_weight)
      pack_backward(layer, k), pack_backward(layer, k + 1);
  }
  move_bias(layer, scratch, delta, n);
}

} // namespace gm::GM_ISA
