// SPDX-License-Identifier: MIT
// Run the streams of a PixelCNN++ over a batch of images.  models/pixelcnnpp/streams.py makes the program of steps;
// models/pixelcnnpp/spec.py specifies its results.
//
// A step reads its inputs in place: the cells of a tap, image by image, are rows of a matrix.
#include "finish.hpp"
#include "window.hpp"

namespace gm::GM_ISA {

constexpr int MAX_TAPS = 256;
constexpr int16_t ONE = 128; // a feature that is one inside an image and zero outside, in the unit of samples

struct Map {
  int16_t *data; // [depth, columns + 2 * margin, images, features]
  int depth, columns, margin, features;
};

struct Streams {
  Arena arena;
  gm_streams_data data; // of its pointers only those to samples and known maps are used; the arrays below are copies
  Map *map;
  gm_step *step;
  Window window;
  int32_t *gate, *elu;
};

static gm_step *copy_steps(Arena &arena, const gm_streams_data &data) {
  gm_step *steps = arena.allocate<gm_step>(data.steps);
  for (int n = 0; n < data.steps && steps; ++n) {
    steps[n] = data.step[n];
    gm_tap *taps = arena.allocate<gm_tap>(steps[n].taps);
    if (taps)
      memcpy(taps, steps[n].tap, sizeof(gm_tap) * steps[n].taps);
    steps[n].tap = taps;
  }
  return steps;
}

static Map *make_maps(Arena &arena, const gm_streams_data &data) {
  Map *maps = arena.allocate<Map>(data.maps);
  for (int n = 0; n < data.maps && maps; ++n) {
    const gm_map &from = data.map[n];
    const size_t size = (size_t)from.depth * (from.columns + 2 * from.margin) * data.images * from.features;
    // no step writes to a known map
    int16_t *cells = from.known ? const_cast<int16_t *>(from.known) : arena.allocate<int16_t>(size);
    maps[n] = {cells, from.depth, from.columns, from.margin, from.features};
  }
  return maps;
}

static int32_t *copy_table(Arena &arena, const int32_t *from, size_t count) {
  int32_t *table = arena.allocate<int32_t>(count);
  if (table)
    memcpy(table, from, sizeof(int32_t) * count);
  return table;
}

gm_streams *streams_new(const gm_streams_data *data) {
  Streams *streams = Arena::make<Streams>();
  if (!streams)
    return nullptr;
  Arena &arena = streams->arena;
  streams->data = *data;
  streams->step = copy_steps(arena, *data);
  streams->map = make_maps(arena, *data);
  streams->gate = copy_table(arena, data->gate, 2 * GATE_REACH + 1);
  streams->elu = copy_table(arena, data->elu, ELU_ENTRIES);
  allocate(arena, data->channels, data->runs, *data->linear, streams->window);
  if ((streams = Arena::complete(streams)))
    fill(data->run, data->near, *data->linear, streams->window);
  return reinterpret_cast<gm_streams *>(streams);
}

void streams_free(gm_streams *streams) { Arena::destroy(reinterpret_cast<Streams *>(streams)); }

// The cells of all images at a row and a column of a map.
GM_INLINE int16_t *cells(const Streams &s, int number, int row, int column) {
  const Map &map = s.map[number];
  const ptrdiff_t line = (row % map.depth + map.depth) % map.depth;
  return map.data + ((line * (map.columns + 2 * map.margin) + column + map.margin) * s.data.images) * map.features;
}

// The inputs of a product that come from several taps; ``row``: bytes from one row to the next, the same in each tap.
struct TapInputs {
  const char *const *data;
  int taps, pairs; // of each tap
  ptrdiff_t row, offset;

  GM_INLINE_MEMBER TapInputs after(int rows) const { return {data, taps, pairs, row, offset + rows * row}; }

  // Prefetch the next rows: all maps together do not fit the inner caches.
  GM_INLINE_MEMBER void fetch(int rows) const {
    for (int tap = 0; tap < taps; ++tap)
      for (ptrdiff_t at = 0; at < rows * row; at += 64)
        __builtin_prefetch(data[tap] + offset + at);
  }

  template <int ROWS, int VECTORS>
  GM_INLINE_MEMBER void add(Sums (&sums)[ROWS][VECTORS], const int16_t *weight, int, ptrdiff_t columns) const {
    for (int tap = 0; tap < taps; ++tap)
      add_pairs(sums, data[tap] + offset, row, 4, weight + tap * pairs * 2 * columns, pairs, columns);
  }
};

GM_INLINE void activate(const Streams &s, int activation, const int16_t *x, int n, int16_t *out) {
  if (activation == GM_COPY)
    memmove(out, x, sizeof(int16_t) * n);
  else if (activation == GM_LEAKY)
    leaky_row(x, n, out);
  else
    elu_row(x, n, s.elu, out);
  if (activation == GM_CONCAT_ELU)
    elu_of_negative(x, n, s.elu, out + n);
}

// Run a step at n cells from (row, column) on.  They are contiguous, and so are the cells of each tap.
static void run_cells(const Streams &s, const gm_step &step, int row, int column, int64_t n, int32_t *outputs) {
  const Layer &layer = layer_of(step.layer);
  const char *taps[MAX_TAPS];
  for (int t = 0; t < step.taps; ++t) {
    const gm_tap &tap = step.tap[t];
    const int i = step.scale > 0 ? 2 * row : row >> -step.scale;
    const int j = step.scale > 0 ? 2 * column : column >> -step.scale;
    taps[t] = reinterpret_cast<const char *>(cells(s, tap.map, i + tap.row, j + tap.column));
  }
  const int features = s.map[step.tap[0].map].features, made = step.kind == GM_GATE ? layer.outputs / 2 : layer.outputs;
  const TapInputs x = {taps, step.taps, features / 2, (ptrdiff_t)sizeof(int16_t) * features, 0};
  int16_t *out = step.out < 0 ? nullptr : cells(s, step.out, row, column);
  int16_t *active = step.active < 0 ? nullptr : cells(s, step.active, row, column);
  const int out_row = out ? s.map[step.out].features : 0, active_row = active ? s.map[step.active].features : 0;
  alignas(64) int16_t temporary[MAX_OUTPUTS];
  each_row(layer, x, n, [&](int64_t r, const int32_t *sums) {
    if (outputs)
      return finish(layer, GM_OUTPUT_WIDE, step.limit, sums, nullptr, outputs + r * layer.outputs);
    int16_t *to = out ? out + r * out_row : temporary;
    finish(layer, step.kind, step.limit, sums, s.gate, to);
    if (active)
      activate(s, step.activation, to, made, active + r * active_row);
  });
}

// Run a step at the cells whose first pixel is one of ``first`` to last - 1 of a row of pixels.
static void run_step(const Streams &s, const gm_step &step, int row, int first, int last, int32_t *outputs) {
  const int whole = (1 << step.level) - 1, images = s.data.images;
  if (row & whole)
    return;
  const int i = row >> step.level, end = (last + whole) >> step.level;
  int begin = (first + whole) >> step.level;
  if (step.scale == 0) {
    if (begin < end)
      run_cells(s, step, i, begin, (int64_t)(end - begin) * images, step.kind == GM_OUTPUT_WIDE ? outputs : nullptr);
    return;
  }
  if (step.scale < 0 && (i & 1) != step.parity >> 1)
    return;
  if (step.scale < 0)
    begin += (begin ^ step.parity) & 1;
  for (int j = begin; j < end; j += step.scale < 0 ? 2 : 1)
    run_cells(s, step, i, j, images, nullptr);
}

GM_INLINE const int16_t *pixel(const Streams &s, int64_t image, int row, int column) {
  return s.data.samples + image * s.data.image_size + row * s.data.row_size + (ptrdiff_t)column * s.data.channels;
}

// Fill in the upper stream's inputs of a known row: samples minus 128, differences to the local mean, a one.
static void fill_planes(const Streams &s, int row) {
  const int channels = s.data.channels, features = s.map[s.data.planes].features;
  for (int j = 0; j < s.data.width; ++j) {
    int16_t *out = cells(s, s.data.planes, row, j);
    for (int image = 0; image < s.data.images; ++image, out += features) {
      const int16_t *here = pixel(s, image, row, j);
      for (int c = 0; c < channels; ++c) {
        const int mean = local_mean(here + c, channels, s.data.row_size, 0);
        out[c] = (int16_t)(here[c] - 128);
        out[channels + c] = (int16_t)clamp(here[c] - mean, -CLAMP, CLAMP);
      }
      out[2 * channels] = ONE;
    }
  }
}

// Fill in the left stream's inputs, the windows, and find the centres of the means.
static void fill_windows(const Streams &s, int row, int first, int last, int32_t *base) {
  const int columns = s.map[s.data.windows].features;
  for (int j = first; j < last; ++j) {
    int16_t *out = cells(s, s.data.windows, row, j);
    for (int image = 0; image < s.data.images; ++image, out += columns, base += s.data.channels)
      features(s.window, pixel(s, image, row, j), s.data.row_size, BYTES, out, base);
  }
}

void streams_run(gm_streams *handle, int32_t row, int32_t first, int32_t last, int32_t *outputs, int32_t *base) {
  const Streams &s = *reinterpret_cast<const Streams *>(handle);
  const gm_streams_data &data = s.data;
  if (first == 0 && row > 0)
    fill_planes(s, row - 1);
  for (int n = 0; n < data.upper && first == 0; ++n)
    run_step(s, s.step[n], row, 0, data.width, nullptr);
  const ptrdiff_t made = layer_of(s.step[data.steps - 1].layer).outputs, images = data.images;
  for (int j = first; j < last; j += data.block_columns) {
    const int end = smaller(j + data.block_columns, last);
    const ptrdiff_t at = (j - first) * images;
    fill_windows(s, row, j, end, base + at * data.channels);
    for (int n = data.upper; n < data.steps; ++n)
      run_step(s, s.step[n], row, j, end, outputs + at * made);
  }
}

} // namespace gm::GM_ISA
