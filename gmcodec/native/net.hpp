// SPDX-License-Identifier: MIT
// A frozen local net: window -> features -> layers -> outputs.  models/local/spec.py is the specification.
//
//   first, then blocks times: stream += down(up(stream)), then last
#pragma once

#include "layer.hpp"
#include "mixture.hpp"

namespace gm::GM_ISA {

constexpr int BLOCK_PIXELS =
    64; // pixels that go through a layer together, so that their activations stay in a core's cache

// A net as it was loaded.  Online tiles learn in copies of its layers.
struct Net {
  Arena arena;
  int channels, mixtures, blocks;
  int width, columns, outputs, output_columns; // of the stream; of features; of outputs, and these filled up
  int limit, output_limit, condition;
  Layer first, last, *inner, *conditions; // inner: up and down of each block in turn
  Window window;
  Tables tables;
};

inline void allocate(const gm_net_data &data, Net &net) {
  Arena &arena = net.arena;
  const gm_layer_data *layers = data.layers;
  net.channels = data.channels, net.mixtures = data.mixtures, net.blocks = data.blocks;
  net.limit = data.limit, net.output_limit = data.output_limit;
  net.condition = data.conditions ? round_up(data.condition, 2) : 0;
  net.inner = arena.allocate<Layer>(2 * data.blocks + 1);
  net.conditions = arena.allocate<Layer>(data.blocks + 1);
  if (arena.failed)
    return;
  allocate(arena, layers[0], net.first);
  for (int b = 0; b < 2 * data.blocks; ++b)
    allocate(arena, layers[1 + b], net.inner[b]);
  allocate(arena, layers[1 + 2 * data.blocks], net.last);
  for (int b = 0; b <= data.blocks && net.condition; ++b)
    allocate(arena, data.conditions[b], net.conditions[b]);
  net.width = net.first.columns, net.columns = round_up(data.layers[0].columns, 2);
  net.outputs = layers[1 + 2 * data.blocks].rows, net.output_columns = net.last.columns;
  Window &window = net.window;
  allocate(arena, data.channels, data.runs, *data.linear, window);
  window.features = layers[0].columns;
  net.tables.softmax = arena.allocate<int32_t>(SOFTMAX_ENTRIES);
  net.tables.inverse = arena.allocate<int32_t>(INVERSE_ENTRIES);
  net.tables.sigmoid = arena.allocate<int32_t>(2 * SIGMOID_REACH + 1);
}

inline void copy(const int32_t *to, const int32_t *from, size_t count) {
  memcpy(const_cast<int32_t *>(to), from, count * sizeof(int32_t));
}

inline void fill(const gm_net_data &data, Net &net) {
  fill(data.layers[0], net.first);
  for (int b = 0; b < 2 * data.blocks; ++b)
    fill(data.layers[1 + b], net.inner[b]);
  fill(data.layers[1 + 2 * data.blocks], net.last);
  for (int b = 0; b <= data.blocks && net.condition; ++b)
    fill(data.conditions[b], net.conditions[b]);
  fill(data.run, data.near, *data.linear, net.window);
  copy(net.tables.softmax, data.softmax, SOFTMAX_ENTRIES);
  copy(net.tables.inverse, data.inverse, INVERSE_ENTRIES);
  copy(net.tables.sigmoid, data.sigmoid, 2 * SIGMOID_REACH + 1);
}

// Scratch for a block of pixels.
struct Activations {
  int16_t *features, *stream, *inside; // [BLOCK_PIXELS, columns], [BLOCK_PIXELS, width] twice
  int32_t *outputs;                    // [BLOCK_PIXELS, output_columns]
};

inline Activations allocate_activations(Arena &arena, const Net &net) {
  return {arena.allocate<int16_t>((size_t)BLOCK_PIXELS * round_up(net.columns, 32)),
          arena.allocate<int16_t>((size_t)BLOCK_PIXELS * net.width),
          arena.allocate<int16_t>((size_t)BLOCK_PIXELS * net.width),
          arena.allocate<int32_t>((size_t)BLOCK_PIXELS * net.output_columns)};
}

// Outputs [n, output_columns] and base [n, channels] of at most BLOCK_PIXELS pixels, which begin at
// samples[offsets[i]].
static inline void evaluate_block(const Net &net, const int16_t *samples, ptrdiff_t row_size, const int64_t *offsets,
                                  int n, const int16_t *condition, const Activations &scratch, int32_t *outputs,
                                  int32_t *base) {
  const ptrdiff_t columns = net.columns, width = net.width;
  for (int i = 0; i < n; ++i)
    features(net.window, samples + offsets[i], row_size, BYTES, scratch.features + i * columns,
             base + i * net.channels);
  run(net.first, Hidden{net.limit}, rows_of(scratch.features, columns), n, scratch.stream, width);
  for (int b = 0; b <= net.blocks; ++b) {
    if (b) {
      const Layer &up = net.inner[2 * b - 2], &down = net.inner[2 * b - 1];
      run(up, Hidden{net.limit}, rows_of(scratch.stream, width), n, scratch.inside, width);
      run(down, Residual{net.limit}, rows_of(scratch.inside, width), n, scratch.stream, width);
    }
    if (condition)
      run(net.conditions[b], Residual{net.limit}, rows_of(condition, net.condition), n, scratch.stream, width);
  }
  run(net.last, Output{net.output_limit}, rows_of(scratch.stream, width), n, outputs, net.output_columns);
}

// gm_net is opaque in the C API.
GM_INLINE const Net &net_of(const gm_net *net) { return *reinterpret_cast<const Net *>(net); }

} // namespace gm::GM_ISA
