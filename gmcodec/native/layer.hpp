// SPDX-License-Identifier: MIT
// One frozen linear layer and what follows its sums: exact/ops.py is the specification.
//
//   y = floor(acc * scale + offset)      scale = multiplier * 2**-shift, offset = bias * scale + 1/2
//
// acc * multiplier, bias * multiplier and their sum with 2**(shift - 1) are integers below 2**47 (Layer.check), times
// a power of two: float64 holds every one of them without rounding, whatever the order.
#pragma once

#include "gmcodec.h"
#include "memory.hpp"
#include "product.hpp"

namespace gm::GM_ISA {

constexpr double LEAK = 0.125; // leaky ReLU: max(v, v >> 3)

struct Layer {
  int columns, pairs;     // outputs round_up up to whole vectors; pairs of inputs
  int outputs, inputs;    // as they were
  int16_t *weight;        // packed
  double *scale, *offset; // [columns]
};

inline void allocate(Arena &arena, const gm_layer_data &data, Layer &layer) {
  layer.outputs = data.rows, layer.inputs = data.columns;
  layer.columns = round_up(data.rows, MAX_SUMS), layer.pairs = (data.columns + 1) / 2;
  layer.weight = arena.allocate<int16_t>((size_t)2 * layer.pairs * layer.columns);
  layer.scale = arena.allocate<double>(layer.columns);
  layer.offset = arena.allocate<double>(layer.columns);
}

inline void fill(const gm_layer_data &data, Layer &layer) {
  pack(data.weight, data.rows, data.columns, layer.columns, layer.weight);
  for (int m = 0; m < data.rows; ++m) {
    layer.scale[m] = data.multiplier[m] / (double)((int64_t)1 << data.shift[m]);
    layer.offset[m] = data.bias[m] * layer.scale[m] + 0.5;
  }
}

// -- what follows the sums: ``put`` gets an output's exact result and where it goes ---------------------------------

// Leaky ReLU and clamp.  What is clamped first has scratch for the leak.
struct Hidden {
  int limit;
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const {
    Integers whole = floor_to_integers(clamp(v, splat(-8.0 * limit - 8), splat(limit)));
    Integers leaked = whole >> 3;
    whole = clamp(whole > leaked ? whole : leaked, -limit, limit);
    store(out, __builtin_convertvector(whole, Shorts));
  }
};

// Added to what is there, and clamped.  Rounded down first: a sum with a fraction of 46 bits would not be exact.
struct Residual {
  static constexpr int FAR = 1 << 16; // whatever is in the stream, clamped
  int limit;
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const {
    Integers whole = floor_to_integers(clamp(v, splat(-FAR), splat(FAR)));
    whole = clamp(whole + __builtin_convertvector(load<Shorts>(out), Integers), -limit, limit);
    store(out, __builtin_convertvector(whole, Shorts));
  }
};

// Clamped.
struct Output {
  int limit;
  GM_INLINE_MEMBER Integers of(Reals v) const { return floor_to_integers(clamp(v, splat(-limit), splat(limit))); }
  GM_INLINE_MEMBER void put(Reals v, int32_t *out) const { store(out, of(v)); }
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const { store(out, __builtin_convertvector(of(v), Shorts)); }
};

// All outputs of a row of sums, round_up up: ``out`` has scratch for the layer's columns.
template <typename After, typename T>
GM_INLINE void put_row(const Layer &layer, After after, const int32_t *sums, T *out) {
  for (int m = 0; m < layer.columns; m += REALS) {
    Reals acc = reals(load<Integers>(sums + m));
    after.put(times_plus(acc, load<Reals>(layer.scale + m), load<Reals>(layer.offset + m)), out + m);
  }
}

constexpr int MAX_OUTPUTS = 1024; // of a layer

// The sums of n rows of inputs, row by row: then(row, sums).  X: Inputs, or others that can do the same.
template <typename X, typename Then> GM_INLINE void each_row(const Layer &layer, X x, int64_t n, Then then) {
  alignas(64) int32_t sums[TILE_ROWS * MAX_OUTPUTS];
  for (int64_t first = 0; first < n; first += TILE_ROWS, x = x.after(TILE_ROWS)) {
    const int rows = (int)smaller<int64_t>(TILE_ROWS, n - first);
    x.after(rows).fetch((int)smaller<int64_t>(TILE_ROWS, n - first - rows));
    multiply(x, rows, layer.weight, layer.pairs, layer.columns, sums, layer.columns);
    for (int r = 0; r < rows; ++r)
      then(first + r, sums + r * layer.columns);
  }
}

// out [n, stride] = After(W x); rows of ``out`` have scratch for the layer's columns.
template <typename After, typename T>
static void run(const Layer &layer, After after, Inputs x, int n, T *out, ptrdiff_t stride) {
  each_row(layer, x, n, [&](int64_t row, const int32_t *sums) { put_row(layer, after, sums, out + row * stride); });
}

} // namespace gm::GM_ISA
