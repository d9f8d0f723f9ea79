// SPDX-License-Identifier: MIT
// A layer as nets of maps have it, and what follows a row of its sums: models/pixelcnnpp/spec.py, models/vae/spec.py.
#pragma once

#include "layer.hpp"

namespace gm::GM_ISA {

struct MapLayer {
  Arena arena;
  Layer layer;
};

GM_INLINE const Layer &layer_of(const gm_layer *layer) { return reinterpret_cast<const MapLayer *>(layer)->layer; }

// What becomes of a row of sums, written to as count elements as the layer has outputs.  ``adds``: to what is there.
template <typename After, typename T>
GM_INLINE void finish_row(const Layer &layer, After after, const int32_t *sums, bool adds, T *out) {
  alignas(64) T row[MAX_OUTPUTS];
  if (adds)
    memcpy(row, out, sizeof(T) * layer.outputs);
  put_row(layer, after, sums, row);
  memcpy(out, row, sizeof(T) * layer.outputs);
}

constexpr int ELU_ENTRIES = 2048; // of the activations of streams
constexpr int GATE_REACH = 2047, GATED_LIMIT = (1 << 15) - 1, GATE_SHIFT = 14 + 4;

// stream [outputs / 2] += a * sigmoid(b), clamped; a and b are the halves of the rescaled sums.
GM_INLINE void gate_row(const Layer &layer, int limit, const int32_t *sums, const int32_t *table, int16_t *stream) {
  alignas(64) double v[MAX_OUTPUTS + MAX_REALS];
  for (int m = 0; m < layer.columns; m += REALS)
    store(v + m, floor(times_plus(reals(load<Integers>(sums + m)), load<Reals>(layer.scale + m),
                                  load<Reals>(layer.offset + m))));
  const int half = layer.outputs / 2;
  alignas(64) int16_t row[MAX_OUTPUTS / 2 + MAX_REALS];
  memcpy(row, stream, sizeof(int16_t) * half);
  for (int m = 0; m < half; m += REALS) {
    Reals a = clamp(load<Reals>(v + m), splat(-GATED_LIMIT), splat(GATED_LIMIT));
    Reals b = clamp(load<Reals>(v + half + m), splat(-GATE_REACH), splat(GATE_REACH));
    Reals passed = floor(a * look_up(table + GATE_REACH, b) * splat(1.0 / (1 << GATE_SHIFT)) + splat(0.5));
    Reals before = reals(__builtin_convertvector(load<Shorts>(row + m), Integers));
    Integers after = floor_to_integers(clamp(before + passed, splat(-limit), splat(limit)));
    store(row + m, __builtin_convertvector(after, Shorts));
  }
  memcpy(stream, row, sizeof(int16_t) * half);
}

// One of GM_HIDDEN to GM_GATE of a row of sums.
GM_INLINE void finish(const Layer &layer, int kind, int limit, const int32_t *sums, const int32_t *table, void *out) {
  int16_t *to = static_cast<int16_t *>(out);
  if (kind == GM_HIDDEN)
    finish_row(layer, Hidden{limit}, sums, false, to);
  else if (kind == GM_OUTPUT)
    finish_row(layer, Output{limit}, sums, false, to);
  else if (kind == GM_RESIDUAL)
    finish_row(layer, Residual{limit}, sums, true, to);
  else if (kind == GM_OUTPUT_WIDE)
    finish_row(layer, Output{limit}, sums, false, static_cast<int32_t *>(out));
  else
    gate_row(layer, limit, sums, table, to);
}

// -- activations of n values; ELU by a table of -elu(-v) ------------------------------------------------------------

GM_INLINE void leaky_row(const int16_t *x, ptrdiff_t n, int16_t *out) {
  for (ptrdiff_t m = 0; m < n; ++m)
    out[m] = larger(x[m], (int16_t)(x[m] >> 3));
}

GM_INLINE void elu_row(const int16_t *x, ptrdiff_t n, const int32_t *table, int16_t *out) {
  for (ptrdiff_t m = 0; m < n; ++m)
    out[m] = x[m] > 0 ? x[m] : (int16_t)-table[-x[m]];
}

GM_INLINE void elu_of_negative(const int16_t *x, ptrdiff_t n, const int32_t *table, int16_t *out) {
  for (ptrdiff_t m = 0; m < n; ++m)
    out[m] = x[m] < 0 ? (int16_t)-x[m] : (int16_t)-table[x[m]];
}

} // namespace gm::GM_ISA
