// SPDX-License-Identifier: MIT
// The kinds of a layer in nets that read maps: what becomes of a row of its sums.  models/pixelcnnpp/spec.py and
// models/vae/spec.py are the specification.
#pragma once

#include "layer.hpp"

namespace gm::GM_ISA {

struct MapLayer {
  Arena arena;
  Layer layer;
};

GM_INLINE const Layer &layer_of(const gm_layer *layer) { return reinterpret_cast<const MapLayer *>(layer)->layer; }

// Apply an epilogue to a row of sums and write exactly the layer's outputs.  ``adds``: the epilogue adds to ``out``.
template <typename Epilogue, typename T>
GM_INLINE void finish_row(const Layer &layer, Epilogue epilogue, const int32_t *sums, bool adds, T *out) {
  alignas(64) T row[MAX_OUTPUTS];
  if (adds)
    memcpy(row, out, sizeof(T) * layer.outputs);
  put_row(layer, epilogue, sums, row);
  memcpy(out, row, sizeof(T) * layer.outputs);
}

// models/pixelcnnpp/tables.py has the same names.
constexpr int ELU_ENTRIES = 2048;
constexpr int GATE_REACH = 2047, GATE_BITS = 14;
constexpr int GATED_LIMIT = (1 << 15) - 1, GATED_BITS = 4;

// stream [outputs / 2] += a * sigmoid(b), clamped; a and b are the first and the second half of the rescaled sums.
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
    Reals passed =
        floor(a * look_up(table + GATE_REACH, b) * splat(1.0 / (1 << (GATE_BITS + GATED_BITS))) + splat(0.5));
    Reals before = reals(__builtin_convertvector(load<Shorts>(row + m), Integers));
    Integers result = floor_to_integers(clamp(before + passed, splat(-limit), splat(limit)));
    store(row + m, __builtin_convertvector(result, Shorts));
  }
  memcpy(stream, row, sizeof(int16_t) * half);
}

// Turn a row of sums into the results of a layer of this kind: gmcodec.h, layer_run.
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

// -- activations of n values; the table of ELU holds -elu(-v)
// ------------------------------------------------------------

GM_INLINE void leaky_row(const int16_t *x, ptrdiff_t n, int16_t *out) {
  for (ptrdiff_t m = 0; m < n; ++m)
    out[m] = larger(x[m], (int16_t)(x[m] >> LEAK_SHIFT));
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
