// SPDX-License-Identifier: MIT
// A layer that learns: exact/rmsprop.py tells the rule, models/online/spec.py (Learning) is the specification.
//
// Master weights have FINE_BITS bits below the int16 weights that multiply.  They lie [inputs, columns], so that what
// belongs to an output is a column: rates, steps and cuts are vectors along a row.
#pragma once

#include "layer.hpp"

namespace gm::GM_ISA {

constexpr int FINE_BITS = 10, FINE_HALF = 1 << (FINE_BITS - 1);
constexpr int DELTA_LIMIT = 1023;      // of gradients by sums: rarer, larger ones are clipped
constexpr int MAX_BATCH_PIXELS = 1024; // pixels of a batch that are learned from, at most
constexpr int SQUARE_SHIFT = 6;        // gradients lose so count bits before they are squared
constexpr int64_t SQUARE_MEMORY = 100; // batches over which the mean square is taken
constexpr int STEP_BITS = 24;
constexpr int64_t STEP_MAX = 1 << 21;
constexpr int64_t MOVE_LIMIT = 8; // no weight moves further than so count times its rate
constexpr int AVERAGE_SHIFT = 2;
constexpr int64_t BIAS_LIMIT = (((int64_t)1 << 27) - 1) << FINE_BITS;

GM_INLINE int64_t floor_divide(int64_t value, int64_t by) { return value / by - (value % by < 0); }

// Square root of 0 <= n < 2**62, rounded down.
static inline int64_t square_root(int64_t n) {
  int64_t root = (int64_t)__builtin_sqrt((double)n); // off by one at most
  while (root * root > n)
    --root;
  while ((root + 1) * (root + 1) <= n)
    ++root;
  return root;
}

// What a row's gradient is multiplied by, in 2**-STEP_BITS; its mean square takes ``total`` in.
static inline int64_t step_size(int64_t total, int64_t elements, int64_t &square, int64_t rate, int64_t count) {
  int64_t now = total / elements;
  square += floor_divide(now - square, smaller(count, SQUARE_MEMORY));
  int64_t root = larger(square_root(larger(square, now)), (int64_t)1); // a sudden gradient is no rare one
  return smaller((rate << STEP_BITS) / (root << SQUARE_SHIFT), STEP_MAX);
}

struct OnlineLayer {
  Layer ahead, coding;       // the weights that learn, those that code: the same, unless a mean of them codes
  int elements;              // of a row's mean square
  int32_t *master, *mean;    // [2 * pairs, columns]
  int64_t *bias, *mean_bias; // [columns], as all below
  int64_t *square, *rate;
  int32_t *backward_shift;
  double *delta_scale;
  int32_t weight_limit, bias_input;
  int16_t *back; // weights, cut, packed the other way round: [columns / 2, back_columns, 2]; null for a first layer
  int back_columns;
};

inline void allocate(Arena &arena, const Layer &layer, bool averaged, bool first, OnlineLayer &learner) {
  const size_t columns = layer.columns, weights = 2 * columns * layer.pairs;
  learner.ahead = layer;
  learner.ahead.weight = arena.allocate<int16_t>(weights);
  learner.ahead.offset = arena.allocate<double>(columns);
  learner.coding = learner.ahead;
  learner.master = arena.allocate<int32_t>(weights), learner.bias = arena.allocate<int64_t>(columns);
  learner.mean = nullptr, learner.mean_bias = nullptr;
  if (averaged) {
    learner.coding.weight = arena.allocate<int16_t>(weights);
    learner.coding.offset = arena.allocate<double>(columns);
    learner.mean = arena.allocate<int32_t>(weights), learner.mean_bias = arena.allocate<int64_t>(columns);
  }
  learner.square = arena.allocate<int64_t>(columns), learner.rate = arena.allocate<int64_t>(columns);
  learner.backward_shift = arena.allocate<int32_t>(columns), learner.delta_scale = arena.allocate<double>(columns);
  learner.back_columns = round_up(2 * layer.pairs, MAX_SUMS);
  learner.back = first ? nullptr : arena.allocate<int16_t>(columns * learner.back_columns);
}

// Working weights of two rows of inputs -> a row of packed pairs.
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

// A row of inputs of ``back``, whose pairs lie ``back_columns`` apart.
GM_INLINE void pack_back(const OnlineLayer &learner, int input) {
  const int columns = learner.ahead.columns;
  const int32_t *row = learner.master + (ptrdiff_t)input * columns;
  alignas(64) int16_t cut[MAX_OUTPUTS];
  for (int m = 0; m < columns; m += REALS) {
    Integers weight =
        ((load<Integers>(row + m) + FINE_HALF) >> FINE_BITS) >> load<Integers>(learner.backward_shift + m);
    store(cut + m, __builtin_convertvector(weight, Shorts));
  }
  int16_t *to = learner.back + 2 * input;
  for (int m = 0; m < columns; m += 2, to += 2 * learner.back_columns)
    memcpy(to, cut + m, 4);
}

inline void fill(const Layer &layer, const gm_rmsprop_layer &rules, OnlineLayer &learner) {
  const int columns = layer.columns, inputs = 2 * layer.pairs;
  memcpy(learner.ahead.weight, layer.weight, sizeof(int16_t) * inputs * columns);
  memcpy(learner.ahead.offset, layer.offset, sizeof(double) * columns);
  learner.elements = round_up(layer.inputs, 8); // part of the format
  learner.weight_limit = rules.weight_limit, learner.bias_input = rules.bias_input;
  for (int k = 0; k < inputs; ++k)
    for (int m = 0; m < columns; ++m)
      learner.master[(ptrdiff_t)k * columns + m] = (int32_t)layer.weight[((ptrdiff_t)(k / 2) * columns + m) * 2 + k % 2]
                                                   << FINE_BITS;
  for (int m = 0; m < columns; ++m) {
    const bool there = m < layer.outputs;
    learner.bias[m] = there ? (int64_t)((layer.offset[m] - 0.5) / layer.scale[m]) << FINE_BITS : 0;
    learner.rate[m] = there ? rules.rate[m] : 1;
    learner.backward_shift[m] = there ? rules.backward_shift[m] : 0;
    learner.delta_scale[m] = there ? rules.delta_scale[m] : 0;
  }
  if (learner.mean) {
    memcpy(learner.coding.weight, layer.weight, sizeof(int16_t) * inputs * columns);
    memcpy(learner.coding.offset, layer.offset, sizeof(double) * columns);
    memcpy(learner.mean, learner.master, sizeof(int32_t) * inputs * columns);
    memcpy(learner.mean_bias, learner.bias, sizeof(int64_t) * columns);
  }
  for (int k = 0; k < inputs && learner.back; ++k)
    pack_back(learner, k);
}

// A thread's scratch for a step of any of some layers.
struct UpdateScratch {
  int32_t *inputs, *deltas;  // pairs of pixels: [MAX_BATCH_PIXELS / 2, inputs], [MAX_BATCH_PIXELS / 2, columns]
  int32_t *gradient;         // [inputs, columns]
  int64_t *squares, *biases; // [columns]
  double *steps, *most;      // [columns]
};

inline UpdateScratch allocate_update_scratch(Arena &arena, int inputs, int columns) {
  const size_t pairs = MAX_BATCH_PIXELS / 2, k = inputs, m = columns;
  return {arena.allocate<int32_t>(pairs * k), arena.allocate<int32_t>(pairs * m), arena.allocate<int32_t>(k * m),
          arena.allocate<int64_t>(m),         arena.allocate<int64_t>(m),         arena.allocate<double>(m),
          arena.allocate<double>(m)};
}

// x int16 [n, stride] -> int32 [(n + 1) / 2, count]: rows in pairs, the last with zeros if n is odd.
static inline void in_pairs(const int16_t *x, ptrdiff_t stride, int n, int count, int32_t *out) {
  for (int i = 0; i < n; i += 2, out += count) {
    const int16_t *first = x + i * stride, *second = i + 1 < n ? first + stride : nullptr;
    for (int k = 0; k < count; ++k)
      out[k] = (first[k] & 0xFFFF) | (second ? (int32_t)second[k] << 16 : 0);
  }
}

// Mean squares and steps of all outputs from the gradient.
static inline void find_steps(OnlineLayer &learner, const UpdateScratch &scratch, int64_t count) {
  const int columns = learner.ahead.columns, inputs = 2 * learner.ahead.pairs;
  for (int m = 0; m < columns; ++m)
    scratch.squares[m] = 0;
  for (int k = 0; k < inputs; ++k)
    for (int m = 0; m < columns; ++m) {
      int64_t v = scratch.gradient[(ptrdiff_t)k * columns + m] >> SQUARE_SHIFT;
      scratch.squares[m] += v * v;
    }
  for (int m = 0; m < columns; ++m) {
    int64_t size = step_size(scratch.squares[m], learner.elements, learner.square[m], learner.rate[m], count);
    scratch.steps[m] = (double)size * (1.0 / (1 << STEP_BITS));
    scratch.most[m] = (double)(MOVE_LIMIT * learner.rate[m]);
  }
}

// Move a row of master weights against its gradient.
GM_INLINE void move_row(const int32_t *gradient, const UpdateScratch &scratch, int columns, int32_t bound,
                        int32_t *master) {
  for (int m = 0; m < columns; m += REALS) {
    Reals most = load<Reals>(scratch.most + m);
    Reals change = times_plus(reals(load<Integers>(gradient + m)), load<Reals>(scratch.steps + m), splat(0.5));
    Integers by = floor_to_integers(clamp(floor(change), -most, most));
    store(master + m, clamp(load<Integers>(master + m) - by, -bound, bound));
  }
}

// Let a row of means follow.
GM_INLINE void follow_row(const int32_t *master, int columns, int32_t *mean) {
  for (int m = 0; m < columns; m += REALS) {
    Integers now = load<Integers>(mean + m);
    store(mean + m, now + ((load<Integers>(master + m) - now) >> AVERAGE_SHIFT));
  }
}

GM_INLINE double offset_of(int64_t bias, double scale) {
  return (double)((bias + FINE_HALF) >> FINE_BITS) * scale + 0.5;
}

static inline void move_bias(OnlineLayer &learner, const UpdateScratch &scratch, const int16_t *delta, int n) {
  const int columns = learner.ahead.columns;
  for (int m = 0; m < columns; ++m)
    scratch.biases[m] = 0;
  for (int i = 0; i < n; ++i)
    for (int m = 0; m < columns; ++m)
      scratch.biases[m] += delta[(ptrdiff_t)i * columns + m];
  for (int m = 0; m < columns; ++m) {
    double change = __builtin_floor((double)(scratch.biases[m] * learner.bias_input) * scratch.steps[m] + 0.5);
    int64_t by = (int64_t)clamp(change, -scratch.most[m], scratch.most[m]) * learner.bias_input;
    learner.bias[m] = clamp(learner.bias[m] - by, -BIAS_LIMIT, BIAS_LIMIT);
    learner.ahead.offset[m] = offset_of(learner.bias[m], learner.ahead.scale[m]);
    if (learner.mean) {
      learner.mean_bias[m] += (learner.bias[m] - learner.mean_bias[m]) >> AVERAGE_SHIFT;
      learner.coding.offset[m] = offset_of(learner.mean_bias[m], learner.ahead.scale[m]);
    }
  }
}

// Learn from n pixels: x int16 [n, x_row] that the layer read, gradients by its sums int16 [n, columns].
static inline void learn(OnlineLayer &learner, const int16_t *x, ptrdiff_t x_row, const int16_t *delta, int n,
                         int64_t count, const UpdateScratch &scratch) {
  const int columns = learner.ahead.columns, inputs = 2 * learner.ahead.pairs, pairs = (n + 1) / 2;
  in_pairs(x, x_row, n, inputs, scratch.inputs);
  in_pairs(delta, columns, n, columns, scratch.deltas);
  multiply_all({reinterpret_cast<const char *>(scratch.inputs), 4, (ptrdiff_t)4 * inputs}, inputs,
               reinterpret_cast<const int16_t *>(scratch.deltas), pairs, columns, scratch.gradient, columns);
  find_steps(learner, scratch, count);
  const int32_t bound = learner.weight_limit << FINE_BITS;
  for (int k = 0; k < inputs; k += 2) {
    const ptrdiff_t even = (ptrdiff_t)k * columns, odd = even + columns;
    move_row(scratch.gradient + even, scratch, columns, bound, learner.master + even);
    move_row(scratch.gradient + odd, scratch, columns, bound, learner.master + odd);
    pack_rows(learner.master + even, learner.master + odd, columns, learner.ahead.weight + even);
    if (learner.mean) {
      follow_row(learner.master + even, columns, learner.mean + even);
      follow_row(learner.master + odd, columns, learner.mean + odd);
      pack_rows(learner.mean + even, learner.mean + odd, columns, learner.coding.weight + even);
    }
    if (learner.back)
      pack_back(learner, k), pack_back(learner, k + 1);
  }
  move_bias(learner, scratch, delta, n);
}

} // namespace gm::GM_ISA
