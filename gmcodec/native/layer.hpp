// SPDX-License-Identifier: MIT
// A frozen linear layer: exact/ops.py is the specification.  The sums W x are rescaled, then an epilogue is applied:
//
//   y = floor(acc * scale + offset)      scale = multiplier * 2**-shift, offset = bias * scale + 1/2
//
// acc * multiplier, bias * multiplier and their sum with 2**(shift - 1) are integers below 2**47 (Layer.check), times
// a power of two.  float64 holds each of them without rounding, so the order of operations does not matter.
#pragma once

#include "gmcodec.h"
#include "memory.hpp"
#include "product.hpp"

namespace gm::GM_ISA {

constexpr int LEAK_SHIFT = 3; // leaky ReLU: max(v, v >> 3)
constexpr double LEAK = 1.0 / (1 << LEAK_SHIFT);
constexpr int MAX_OUTPUTS = 1024; // of a layer

struct Layer {
  int columns, pairs;     // outputs, rounded up to whole vectors; pairs of inputs
  int outputs, inputs;    // those of the net
  int16_t *weight;        // packed: product.hpp
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

// -- epilogues: ``put`` gets rescaled sums, not yet rounded down, and writes the results
// ---------------------------------

// Leaky ReLU and clamp.  The first clamp, to what fits an integer, leaves the result of the second one as it is.
struct Hidden {
  int limit;
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const {
    Integers whole = floor_to_integers(clamp(v, splat(-8.0 * limit - 8), splat(limit)));
    Integers leaked = whole >> LEAK_SHIFT;
    whole = clamp(whole > leaked ? whole : leaked, -limit, limit);
    store(out, __builtin_convertvector(whole, Shorts));
  }
};

// Add to the stream, and clamp.  It rounds down before it adds, because a sum with a fraction of 46 bits would not be
// exact.
struct Residual {
  static constexpr int FAR = 1 << 16; // beyond it any sum with an int16 is clamped
  int limit;
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const {
    Integers whole = floor_to_integers(clamp(v, splat(-FAR), splat(FAR)));
    whole = clamp(whole + __builtin_convertvector(load<Shorts>(out), Integers), -limit, limit);
    store(out, __builtin_convertvector(whole, Shorts));
  }
};

// Clamp.
struct Output {
  int limit;
  GM_INLINE_MEMBER Integers of(Reals v) const { return floor_to_integers(clamp(v, splat(-limit), splat(limit))); }
  GM_INLINE_MEMBER void put(Reals v, int32_t *out) const { store(out, of(v)); }
  GM_INLINE_MEMBER void put(Reals v, int16_t *out) const { store(out, __builtin_convertvector(of(v), Shorts)); }
};

// Apply the epilogue to a row of sums.  ``out`` must have room for the layer's columns.
template <typename Epilogue, typename T>
GM_INLINE void put_row(const Layer &layer, Epilogue epilogue, const int32_t *sums, T *out) {
  for (int m = 0; m < layer.columns; m += REALS) {
    Reals acc = reals(load<Integers>(sums + m));
    epilogue.put(times_plus(acc, load<Reals>(layer.scale + m), load<Reals>(layer.offset + m)), out + m);
  }
}

// Compute the sums of n rows of inputs and call then(row, sums) for each row.  X: Inputs, or a type like it.
template <typename X, typename Then> GM_INLINE void each_row(const Layer &layer, X x, int64_t n, Then then) {
  alignas(64) int32_t sums[REGISTER_ROWS * MAX_OUTPUTS];
  for (int64_t first = 0; first < n; first += REGISTER_ROWS, x = x.after(REGISTER_ROWS)) {
    const int rows = (int)smaller<int64_t>(REGISTER_ROWS, n - first);
    x.after(rows).fetch((int)smaller<int64_t>(REGISTER_ROWS, n - first - rows));
    multiply(x, rows, layer.weight, layer.pairs, layer.columns, sums, layer.columns);
    for (int r = 0; r < rows; ++r)
      then(first + r, sums + r * layer.columns);
  }
}

// out [n, stride] = epilogue(W x).  Rows of ``out`` must have room for the layer's columns.
template <typename Epilogue, typename T>
static void run(const Layer &layer, Epilogue epilogue, Inputs x, int n, T *out, ptrdiff_t stride) {
  each_row(layer, x, n, [&](int64_t row, const int32_t *sums) { put_row(layer, epilogue, sums, out + row * stride); });
}

} // namespace gm::GM_ISA
