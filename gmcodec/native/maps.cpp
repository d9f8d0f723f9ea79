// SPDX-License-Identifier: MIT
// Layers of nets that read maps of features: models/pixelcnnpp/spec.py and models/vae/spec.py are the specification.
#include "finish.hpp"

namespace gm::GM_ISA {

gm_layer *layer_new(const gm_layer_data *data) {
  MapLayer *layer = Arena::make<MapLayer>();
  if (!layer)
    return nullptr;
  allocate(layer->arena, *data, layer->layer);
  if ((layer = Arena::complete(layer)))
    fill(*data, layer->layer);
  return reinterpret_cast<gm_layer *>(layer);
}

void layer_free(gm_layer *layer) { Arena::destroy(reinterpret_cast<MapLayer *>(layer)); }

GM_INLINE void *row_of(void *out, int32_t kind, int64_t at) {
  return static_cast<char *>(out) + at * (kind == GM_OUTPUT_WIDE ? sizeof(int32_t) : sizeof(int16_t));
}

void layer_run(const gm_layer *handle, int32_t kind, int32_t limit, const int16_t *x, int64_t x_row, int64_t n,
               const int32_t *table, void *out, int64_t out_row) {
  const Layer &layer = layer_of(handle);
  each_row(layer, rows_of(x, x_row), n, [&](int64_t row, const int32_t *sums) {
    finish(layer, kind, limit, sums, table, row_of(out, kind, row * out_row));
  });
}

void layer_sums(const gm_layer *handle, const int16_t *x, int64_t x_row, int64_t n, int32_t *out) {
  const Layer &layer = layer_of(handle);
  each_row(layer, rows_of(x, x_row), n, [&](int64_t row, const int32_t *sums) {
    memcpy(out + row * layer.outputs, sums, sizeof(int32_t) * layer.outputs);
  });
}

struct Grid {
  int height, width, features, size, stride;
};

// Copy the window around output cell (i, j) of an image to out [size * size * features]; cells outside are zero.
static void gather(const Grid &grid, const int16_t *image, int i, int j, int16_t *out) {
  const int y = i * grid.stride - grid.size / 2, left = j * grid.stride - grid.size / 2;
  const int from = larger(left, 0), end = smaller(left + grid.size, grid.width);
  const size_t cell = sizeof(int16_t) * grid.features;
  for (int dy = 0; dy < grid.size; ++dy, out += grid.size * grid.features) {
    if (y + dy < 0 || y + dy >= grid.height || end <= from) {
      memset(out, 0, cell * grid.size);
      continue;
    }
    memset(out, 0, cell * (from - left));
    memcpy(out + (ptrdiff_t)(from - left) * grid.features,
           image + ((ptrdiff_t)(y + dy) * grid.width + from) * grid.features, cell * (end - from));
    memset(out + (ptrdiff_t)(end - left) * grid.features, 0, cell * (left + grid.size - end));
  }
}

int32_t convolve(const gm_layer *handle, int32_t kind, int32_t limit, const int16_t *x, int64_t images, int32_t height,
                 int32_t width, int32_t features, int32_t size, int32_t stride, void *out) {
  const Layer &layer = layer_of(handle);
  const int rows = (height + stride - 1) / stride, columns = (width + stride - 1) / stride;
  const Grid grid = {height, width, features, size, stride};
  const int64_t n = images * rows * columns, area = (int64_t)rows * columns;
  Arena arena;
  int16_t *inputs = arena.allocate<int16_t>((size_t)REGISTER_ROWS * 2 * layer.pairs);
  for (int64_t first = 0; first < n && inputs; first += REGISTER_ROWS) {
    const int count = (int)smaller<int64_t>(REGISTER_ROWS, n - first);
    for (int r = 0; r < count; ++r) {
      const int64_t image = (first + r) / area, cell = (first + r) % area;
      gather(grid, x + image * height * width * features, (int)(cell / columns), (int)(cell % columns),
             inputs + (ptrdiff_t)r * 2 * layer.pairs);
    }
    each_row(layer, rows_of(inputs, 2 * layer.pairs), count, [&](int64_t row, const int32_t *sums) {
      finish(layer, kind, limit, sums, nullptr, row_of(out, kind, (first + row) * layer.outputs));
    });
  }
  arena.release();
  return !inputs;
}

void leaky(const int16_t *x, int64_t n, int16_t *out) { leaky_row(x, n, out); }

void elu(const int16_t *x, int64_t n, const int32_t *table, int16_t *out) { elu_row(x, n, table, out); }

} // namespace gm::GM_ISA
