// SPDX-License-Identifier: MIT
// Layers of nets that see maps of features: models/pixelcnnpp_spec.py and models/agave_spec.py.
#include "layer.hpp"
#include "window.hpp"

namespace gm::GM_ISA {

struct MapLayer {
  Arena arena;
  Layer layer;
};

GM_INLINE const Layer &layer_of(const gm_layer *layer) { return reinterpret_cast<const MapLayer *>(layer)->layer; }

gm_layer *layer_new(const gm_layer_data *data) {
  MapLayer *layer = Arena::make<MapLayer>();
  if (!layer)
    return nullptr;
  lay_out(layer->arena, *data, layer->layer);
  if (layer->arena.failed) {
    Arena arena = layer->arena;
    arena.release();
    return nullptr;
  }
  fill(*data, layer->layer);
  return reinterpret_cast<gm_layer *>(layer);
}

void layer_free(gm_layer *layer) {
  if (layer) {
    Arena arena = reinterpret_cast<MapLayer *>(layer)->arena;
    arena.release();
  }
}

// What becomes of a row of sums, filled up, written to as many elements as the layer has outputs.
template <typename After, typename T>
GM_INLINE void finish_row(const Layer &layer, int limit, const int32_t *sums, bool adds, T *out) {
  alignas(64) T row[MAX_COLUMNS];
  if (adds)
    memcpy(row, out, sizeof(T) * layer.outputs);
  for (int m = 0; m < layer.columns; m += REALS) {
    Reals acc = reals(load<Integers>(sums + m));
    After::put(limit, times_plus(acc, load<Reals>(layer.scale + m), load<Reals>(layer.offset + m)), row + m, row + m);
  }
  memcpy(out, row, sizeof(T) * layer.outputs);
}

constexpr int GATE_REACH = 2047, GATED_LIMIT = (1 << 15) - 1, GATE_SHIFT = 14 + 4;

// stream [outputs / 2] += a * sigmoid(b), clamped; a and b are the halves of the rescaled sums.
GM_INLINE void gate_row(const Layer &layer, int limit, const int32_t *sums, const int32_t *table, int16_t *stream) {
  alignas(64) double v[MAX_COLUMNS + WHOLE];
  for (int m = 0; m < layer.columns; m += REALS)
    store(v + m, floor(times_plus(reals(load<Integers>(sums + m)), load<Reals>(layer.scale + m),
                                  load<Reals>(layer.offset + m))));
  const int half = layer.outputs / 2;
  alignas(64) int16_t row[MAX_COLUMNS / 2 + WHOLE];
  memcpy(row, stream, sizeof(int16_t) * half);
  for (int m = 0; m < half; m += REALS) {
    Reals a = clamp(load<Reals>(v + m), all(-GATED_LIMIT), all(GATED_LIMIT));
    Reals b = clamp(load<Reals>(v + half + m), all(-GATE_REACH), all(GATE_REACH));
    Reals passed = floor(a * look_up(table + GATE_REACH, b) * all(1.0 / (1 << GATE_SHIFT)) + all(0.5));
    Reals before = reals(__builtin_convertvector(load<Shorts>(row + m), Integers));
    Integers after = floor_to_integers(clamp(before + passed, all(-limit), all(limit)));
    store(row + m, __builtin_convertvector(after, Shorts));
  }
  memcpy(stream, row, sizeof(int16_t) * half);
}

void layer_run(const gm_layer *handle, int32_t kind, int32_t limit, const int16_t *x, int64_t x_row, int64_t n,
               const int32_t *table, void *out, int64_t out_row) {
  const Layer &layer = layer_of(handle);
  alignas(64) int32_t sums[TILE_ROWS * MAX_COLUMNS];
  for (int64_t first = 0; first < n; first += TILE_ROWS) {
    const int rows = (int)smaller<int64_t>(TILE_ROWS, n - first);
    multiply(rows_of(x + first * x_row, x_row), rows, layer.weight, layer.pairs, layer.columns, sums, layer.columns);
    for (int r = 0; r < rows; ++r) {
      const int32_t *acc = sums + r * layer.columns;
      int16_t *to = static_cast<int16_t *>(out) + (first + r) * out_row;
      if (kind == GM_HIDDEN)
        finish_row<Hidden>(layer, limit, acc, false, to);
      else if (kind == GM_OUTPUT)
        finish_row<Output>(layer, limit, acc, false, to);
      else if (kind == GM_RESIDUAL)
        finish_row<Residual>(layer, limit, acc, true, to);
      else if (kind == GM_OUTPUT_WIDE)
        finish_row<Output>(layer, limit, acc, false, static_cast<int32_t *>(out) + (first + r) * out_row);
      else
        gate_row(layer, limit, acc, table, to);
    }
  }
}

void layer_sums(const gm_layer *handle, const int16_t *x, int64_t x_row, int64_t n, int32_t *out) {
  const Layer &layer = layer_of(handle);
  alignas(64) int32_t sums[TILE_ROWS * MAX_COLUMNS];
  for (int64_t first = 0; first < n; first += TILE_ROWS) {
    const int rows = (int)smaller<int64_t>(TILE_ROWS, n - first);
    multiply(rows_of(x + first * x_row, x_row), rows, layer.weight, layer.pairs, layer.columns, sums, layer.columns);
    for (int r = 0; r < rows; ++r)
      memcpy(out + (first + r) * layer.outputs, sums + r * layer.columns, sizeof(int32_t) * layer.outputs);
  }
}

void gather(const int16_t *x, int32_t height, int32_t width, int32_t features, int32_t size, int32_t stride,
            int64_t first, int32_t top, int32_t rows, int64_t n, int16_t *out) {
  const int columns = (width + stride - 1) / stride, reach = size / 2;
  const size_t cell = sizeof(int16_t) * features, run = cell * size;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t image = first + i / ((int64_t)rows * columns);
    const int place = (int)(i % ((int64_t)rows * columns));
    const int y = (top + place / columns) * stride - reach, left = place % columns * stride - reach;
    const int from = larger(left, 0), end = smaller(left + size, width);
    for (int dy = 0; dy < size; ++dy, out += size * features) {
      if (y + dy < 0 || y + dy >= height || end <= from) {
        memset(out, 0, run);
        continue;
      }
      const int16_t *source = x + ((image * height + y + dy) * width + from) * features;
      memset(out, 0, cell * (from - left));
      memcpy(out + (ptrdiff_t)(from - left) * features, source, cell * (end - from));
      memset(out + (ptrdiff_t)(end - left) * features, 0, cell * (left + size - end));
    }
  }
}

void leaky(const int16_t *x, int64_t n, int32_t features, int16_t *out) {
  for (int64_t i = 0; i < n * features; ++i)
    out[i] = larger(x[i], (int16_t)(x[i] >> 3));
}

void elu(const int16_t *x, int64_t n, int32_t features, const int32_t *table, int32_t both, int16_t *out) {
  for (int64_t i = 0; i < n; ++i, x += features, out += features * (both ? 2 : 1))
    for (int m = 0; m < features; ++m) {
      out[m] = x[m] > 0 ? x[m] : (int16_t)-table[-x[m]];
      if (both)
        out[features + m] = x[m] < 0 ? (int16_t)-x[m] : (int16_t)-table[x[m]];
    }
}

constexpr int16_t ONE = 128; // tells the inside of an image from the outside, in the unit of samples

void planes(const int16_t *samples, int64_t images, int64_t image_size, int64_t row_size, int32_t row, int32_t width,
            int32_t channels, int16_t *out) {
  for (int j = 0; j < width; ++j)
    for (int64_t b = 0; b < images; ++b, out += 2 * channels + 1) {
      const int16_t *here = samples + b * image_size + row * row_size + (ptrdiff_t)j * channels;
      for (int c = 0; c < channels; ++c) {
        int left = j ? here[c - channels] : OUTSIDE, above = row ? here[c - row_size] : OUTSIDE;
        left = left == OUTSIDE ? above : left;
        above = above == OUTSIDE ? left : above;
        const int mean = left == OUTSIDE ? 128 : (left + above) >> 1;
        out[c] = (int16_t)(here[c] - 128);
        out[channels + c] = (int16_t)clamp(here[c] - mean, -CLAMP, CLAMP);
      }
      out[2 * channels] = ONE;
    }
}

} // namespace gm::GM_ISA
