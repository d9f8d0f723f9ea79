// SPDX-License-Identifier: MIT
// Code a tile with nets that learn from it: models/online/spec.py is the specification.
//
//   steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
//                            \____ a batch: BATCH pixels or a little more ____/
//
// ``update`` goes backwards through the nets with what ``forward`` kept of the batch, and moves all weights; encoder
// and decoder do it at the same places with the same integers.  Both go forwards, so the encoder keeps ranges.  Each
// thread of a team evaluates its part of a step's pixels, goes back through its part of a batch, and moves the weights
// of some layers.  A tile has STACKS stacks, whatever the number of threads, each of a part of every step's pixels.
#include "gradient.hpp"
#include "tile.hpp"

namespace gm::GM_ISA {

constexpr int BATCH = 100; // pixels from which nets learn
constexpr double CENTRE_LIMIT = 1 << 20;
constexpr int CENTRE_SHIFT = 8;
constexpr int32_t STREAM_LIMIT = 1 << 30; // of gradients of a stream

// What is kept of gathered pixels, and their gradients by the sums of the layers.
struct Batch {
  int16_t *features;                      // [N, columns]
  int16_t *stream, *inside;               // [blocks + 1, N, width], [blocks, N, width]
  int32_t *outputs, *base;                // [N, output_columns], [N, channels]
  double *centre;                         // [N, channels]: gradients by the base
  int16_t *by_first, *by_inner, *by_last; // [N, width], [2 * blocks, N, width], [N, output_columns]
};

struct Student {
  const Net *net;
  bool averaged;
  Learner first, *inner, last;
  double *block_unit;
  Window window;   // its linear predictor moves
  int32_t *linear; // master weights [channels, near]
  int64_t *linear_square, *linear_rate;
  Batch batch;
};

// A thread's own.
struct Worker {
  int64_t learned;         // batches so far; the same in every thread, as are the next two
  int gathered;            // pixels since
  int64_t symbols[STACKS]; // where the next step's ranges begin
  int64_t mixing[MAX_NETS], responsibilities[MAX_NETS];
  int64_t *at;
  Mixture mix;
  Step step;
  int32_t *stream, *inside; // [BLOCK, width]
  double *gradient;         // [outputs]
  char rest[64];
};

struct Online {
  Team team;
  Worker *workers;
  Student *students;
  int count, capacity;                           // nets, pixels of a batch
  int32_t *samples;                              // [capacity, channels]
  int64_t responsibilities[MAX_RANKS][MAX_NETS]; // of every rank, for all to add up
};

// -- what a tile starts from -------------------------------------------------------------------------------------

static void lay_out(Arena &arena, const Net &net, const gm_learning_data &learning, size_t n, Student &student) {
  const size_t width = net.width, blocks = net.blocks;
  const Window &window = net.window;
  student.net = &net, student.averaged = learning.averaged, student.window = window;
  student.inner = arena.take<Learner>(2 * blocks);
  student.block_unit = arena.take<double>(blocks);
  student.window.near_weight = arena.take<int32_t>((size_t)net.channels * window.near);
  student.linear = arena.take<int32_t>((size_t)net.channels * window.near);
  student.linear_square = arena.take<int64_t>(net.channels);
  student.linear_rate = arena.take<int64_t>(net.channels);
  if (arena.failed)
    return;
  lay_out(arena, net.first, student.averaged, true, student.first);
  for (size_t b = 0; b < 2 * blocks; ++b)
    lay_out(arena, net.inner[b], student.averaged, false, student.inner[b]);
  lay_out(arena, net.last, student.averaged, false, student.last);
  Batch &batch = student.batch;
  batch.features = arena.take<int16_t>(n * net.columns);
  batch.stream = arena.take<int16_t>((blocks + 1) * n * width), batch.inside = arena.take<int16_t>(blocks * n * width);
  batch.outputs = arena.take<int32_t>(n * net.output_columns), batch.base = arena.take<int32_t>(n * net.channels);
  batch.centre = arena.take<double>(n * net.channels), batch.by_first = arena.take<int16_t>(n * width);
  batch.by_inner = arena.take<int16_t>(2 * blocks * n * width);
  batch.by_last = arena.take<int16_t>(n * net.output_columns);
}

static void fill(const Net &net, const gm_learning_data &learning, Student &student) {
  fill(net.first, learning.layers[0], student.first);
  for (int b = 0; b < 2 * net.blocks; ++b)
    fill(net.inner[b], learning.layers[1 + b], student.inner[b]);
  fill(net.last, learning.layers[1 + 2 * net.blocks], student.last);
  memcpy(student.block_unit, learning.block_unit, sizeof(double) * net.blocks);
  memcpy(student.linear_rate, learning.linear_rate, sizeof(int64_t) * net.channels);
  for (int k = 0; k < net.channels * net.window.near; ++k) {
    student.window.near_weight[k] = net.window.near_weight[k];
    student.linear[k] = net.window.near_weight[k] << FINE_BITS;
  }
}

void lay_out_online(Tile &tile, const gm_net *const *nets, const gm_learning_data *learning, int count, int ranks) {
  Arena &arena = tile.arena;
  Online *online = tile.online = arena.take<Online>(1);
  if (!online)
    return;
  online->team.ranks = ranks, online->count = count;
  online->capacity = larger(LEARNT, tile.place.most);
  online->workers = arena.take<Worker>(ranks), online->students = arena.take<Student>(count);
  online->samples = arena.take<int32_t>((size_t)online->capacity * tile.place.at.channels);
  int mixtures = 0, inputs = 0, columns = 0, outputs = 0, width = 0;
  for (int v = 0; v < count && !arena.failed; ++v) {
    const Net &net = net_of(nets[v]);
    lay_out(arena, net, learning[v], online->capacity, online->students[v]);
    mixtures += net.mixtures, width = larger(width, net.width), outputs = larger(outputs, net.output_columns);
    inputs = larger(inputs, larger(net.columns, net.width)), columns = larger(width, outputs);
  }
  for (int rank = 0; rank < ranks && !arena.failed; ++rank) {
    Worker &worker = online->workers[rank];
    worker.at = arena.take<int64_t>(tile.place.most);
    worker.mix = lay_out_mixture(arena, tile.place.most, mixtures);
    worker.step = lay_out_step(arena, inputs, columns);
    worker.stream = arena.take<int32_t>((size_t)BLOCK * width),
    worker.inside = arena.take<int32_t>((size_t)BLOCK * width);
    worker.gradient = arena.take<double>(outputs);
    for (int v = 0; v < count; ++v)
      worker.mixing[v] = ((int64_t)1 << MIXING_BITS) / count;
  }
  for (int v = 0; v < count && !arena.failed; ++v)
    fill(net_of(nets[v]), learning[v], online->students[v]);
}

// -- forward, and back -------------------------------------------------------------------------------------------

GM_INLINE Inputs at_pixel(const int16_t *x, ptrdiff_t stride, int first) { return rows_of(x + first * stride, stride); }

// All layers, for features of n pixels of the batch.
template <bool AHEAD> static void activate(const Student &student, int capacity, int first, int n) {
  const Net &net = *student.net;
  const Batch &batch = student.batch;
  const ptrdiff_t width = net.width, map = width * capacity, at = first * width;
  auto layer = [](const Learner &learner) -> const Layer & { return AHEAD ? learner.ahead : learner.coding; };
  run(layer(student.first), Hidden{net.limit}, at_pixel(batch.features, net.columns, first), n, batch.stream + at,
      width);
  for (int b = 0; b < net.blocks; ++b) {
    int16_t *stream = batch.stream + b * map + at, *inside = batch.inside + b * map + at;
    run(layer(student.inner[2 * b]), Hidden{net.limit}, rows_of(stream, width), n, inside, width);
    memcpy(stream + map, stream, sizeof(int16_t) * n * width); // the way back wants what was before, too
    run(layer(student.inner[2 * b + 1]), Residual{net.limit}, rows_of(inside, width), n, stream + map, width);
  }
  run(layer(student.last), Output{net.output_limit}, rows_of(batch.stream + net.blocks * map + at, width), n,
      batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns);
}

// Evaluate n pixels, into the batch from ``first`` on.
template <typename Sample>
static void forward(const Tile &tile, const Student &student, const int64_t *at, int n, int first) {
  const Sample *samples = static_cast<const Sample *>(tile.place.at.samples);
  const Batch &batch = student.batch;
  for (int start = 0; start < n; start += BLOCK) {
    const int many = smaller(BLOCK, n - start);
    for (int i = start; i < start + many; ++i)
      features(student.window, samples + at[i], tile.place.at.row_size, tile.coding.scale,
               batch.features + (ptrdiff_t)(first + i) * student.net->columns,
               batch.base + (ptrdiff_t)(first + i) * student.net->channels);
    activate<false>(student, tile.online->capacity, first + start, many);
  }
}

// The gradient of a clamp at its bound: what would push an activation further out is dropped.
GM_INLINE Integers inward(Integers gradient, Integers activation, int limit) {
  const Integers zero{};
  Integers up = gradient > zero ? gradient : zero, down = gradient < zero ? gradient : zero;
  gradient = activation >= limit ? up : gradient;
  return activation <= -limit ? down : gradient;
}

GM_INLINE void store_delta(Reals gradient, const double *scale, int16_t *out) {
  Reals d = floor(gradient * load<Reals>(scale) + all(0.5));
  store(out, __builtin_convertvector(floor_to_integers(clamp(d, all(-DELTA_LIMIT), all(DELTA_LIMIT))), Shorts));
}

// Gradients by the sums of a layer without leak, behind a stream's clamp, which holds for the stream from here on.
static void residual_deltas(int32_t *gradient, const int16_t *activation, const double *scale, int limit, int width,
                            int16_t *out) {
  for (int m = 0; m < width; m += REALS) {
    Integers a = __builtin_convertvector(load<Shorts>(activation + m), Integers);
    Integers g = inward(load<Integers>(gradient + m), a, limit);
    store(gradient + m, g);
    store_delta(reals(g), scale + m, out + m);
  }
}

// Gradients by the sums of a hidden layer, whose result was ``activation``.
static void hidden_deltas(const int32_t *gradient, const int16_t *activation, const double *scale, int limit, int width,
                          int16_t *out) {
  for (int m = 0; m < width; m += REALS) {
    Integers a = __builtin_convertvector(load<Shorts>(activation + m), Integers);
    Reals g = reals(inward(load<Integers>(gradient + m), a, limit));
    Reals slope = reals(a >= Integers{} ? Integers{} + 8 : Integers{} + 1) * all(LEAK);
    store_delta(g * slope, scale + m, out + m);
  }
}

// Add what flows back into a stream, in another unit.
static void add_back(const int32_t *gradient, double unit, int width, int32_t *stream) {
  for (int m = 0; m < width; m += REALS) {
    Reals v = reals(load<Integers>(stream + m)) + floor(reals(load<Integers>(gradient + m)) * all(unit));
    store(stream + m, floor_to_integers(clamp(v, all(-STREAM_LIMIT), all(STREAM_LIMIT))));
  }
}

GM_INLINE void multiply_back(const Learner &learner, const int16_t *delta, int n, int32_t *out, ptrdiff_t width) {
  multiply_all(rows_of(delta, learner.ahead.columns), n, learner.back, learner.ahead.columns / 2, learner.back_columns,
               out, width);
}

// Gradients of n pixels, at most BLOCK, into the batch.
static void backward(const Tile &tile, const Student &student, const Worker &worker, int first, int n) {
  const Net &net = *student.net;
  const Batch &batch = student.batch;
  const ptrdiff_t width = net.width, map = width * tile.online->capacity, at = first * width;
  const ptrdiff_t output_columns = net.output_columns, channels = net.channels;
  for (int i = 0; i < n; ++i) {
    const ptrdiff_t p = first + i;
    mixture_gradient(net.tables, tile.coding.scale, net.channels, net.mixtures, batch.outputs + p * output_columns,
                     batch.base + p * channels, tile.online->samples + p * channels, worker.gradient,
                     batch.centre + p * channels);
    for (int m = 0; m < net.output_columns; m += REALS)
      store_delta(load<Reals>(worker.gradient + m), student.last.delta_scale + m,
                  batch.by_last + p * output_columns + m);
  }
  multiply_back(student.last, batch.by_last + first * output_columns, n, worker.stream, width);
  for (int b = net.blocks - 1; b >= 0; --b) {
    const Learner &up = student.inner[2 * b], &down = student.inner[2 * b + 1];
    int16_t *by_up = batch.by_inner + 2 * b * map + at, *by_down = by_up + map;
    for (int i = 0; i < n; ++i)
      residual_deltas(worker.stream + i * width, batch.stream + (b + 1) * map + at + i * width, down.delta_scale,
                      net.limit, net.width, by_down + i * width);
    multiply_back(down, by_down, n, worker.inside, width);
    for (int i = 0; i < n; ++i)
      hidden_deltas(worker.inside + i * width, batch.inside + b * map + at + i * width, up.delta_scale, net.limit,
                    net.width, by_up + i * width);
    multiply_back(up, by_up, n, worker.inside, width);
    for (int i = 0; i < n; ++i)
      add_back(worker.inside + i * width, student.block_unit[b], net.width, worker.stream + i * width);
  }
  for (int i = 0; i < n; ++i)
    hidden_deltas(worker.stream + i * width, batch.stream + at + i * width, student.first.delta_scale, net.limit,
                  net.width, batch.by_first + at + i * width);
}

// -- a step of learning --------------------------------------------------------------------------------------------

// Move the linear predictor.
static void learn_linear(Student &student, int n, int64_t count) {
  const Window &window = student.window;
  const int near = window.near, channels = window.channels;
  for (int c = 0; c < channels; ++c) {
    int64_t total[MAX_FEATURES] = {}, squares = 0;
    for (int i = 0; i < n; ++i) {
      const int16_t *x = student.batch.features + (ptrdiff_t)i * student.net->columns;
      const int64_t slope = (int64_t)clamp(student.batch.centre[i * channels + c], -CENTRE_LIMIT, CENTRE_LIMIT);
      for (int k = 0; k < near; ++k)
        total[k] += slope * x[window.near_column[k]];
    }
    for (int k = 0; k < near; ++k) {
      total[k] >>= CENTRE_SHIFT;
      squares += (total[k] >> SQUARE_SHIFT) * (total[k] >> SQUARE_SHIFT);
    }
    const int64_t size = step_size(squares, near, student.linear_square[c], student.linear_rate[c], count);
    const int64_t most = MOVE * student.linear_rate[c], bound = ((1 << 15) - 1) << FINE_BITS;
    for (int k = 0; k < near; ++k) {
      int32_t &master = student.linear[c * near + k];
      int64_t change = (total[k] * size + ((int64_t)1 << (STEP_BITS - 1))) >> STEP_BITS;
      master = (int32_t)clamp(master - clamp(change, -most, most), -bound, bound);
      window.near_weight[c * near + k] = (master + HALF) >> FINE_BITS;
    }
  }
}

// Layer ``task`` of a net, the largest first: 0 first, then those of the blocks, last, the linear predictor.
static void learn_layer(const Tile &tile, Student &student, int task, int n, const Worker &worker) {
  const Net &net = *student.net;
  const Batch &batch = student.batch;
  const ptrdiff_t width = net.width, map = width * tile.online->capacity;
  const int64_t count = worker.learned;
  if (task == 0)
    return learn(student.first, batch.features, net.columns, batch.by_first, n, count, worker.step);
  if (task <= 2 * net.blocks) {
    const int j = task - 1;
    const int16_t *x = (j % 2 ? batch.inside : batch.stream) + j / 2 * map;
    return learn(student.inner[j], x, width, batch.by_inner + j * map, n, count, worker.step);
  }
  if (task == 2 * net.blocks + 1)
    return learn(student.last, batch.stream + net.blocks * map, width, batch.by_last, n, count, worker.step);
  learn_linear(student, n, count);
}

// Learn from the gathered pixels; none are left.  Workers share the pixels, then the layers.
static void update(Tile &tile, int rank) {
  Online &online = *tile.online;
  Worker &worker = online.workers[rank];
  Team &team = online.team;
  const int n = smaller(worker.gathered, LEARNT);
  ++worker.learned;
  if (online.count > 1)
    for (int v = 0; v < online.count; ++v)
      online.responsibilities[rank][v] = worker.responsibilities[v], worker.responsibilities[v] = 0;
  wait_for_all(team);
  if (online.count > 1) {
    int64_t total[MAX_NETS] = {};
    for (int r = 0; r < team.ranks; ++r)
      for (int v = 0; v < online.count; ++v)
        total[v] += online.responsibilities[r][v];
    update_mixing(worker.mixing, total, online.count, worker.gathered);
  }
  worker.gathered = 0;
  const Part mine = share_of(n, rank, team.ranks, GROUP);
  for (int v = 0; v < online.count; ++v)
    for (int start = mine.first; start < mine.end; start += BLOCK) {
      const Student &student = online.students[v];
      const int many = smaller(BLOCK, mine.end - start);
      if (student.averaged)
        activate<true>(student, online.capacity, start, many);
      backward(tile, student, worker, start, many);
    }
  wait_for_all(team);
  for (int task = next_task(team), before = 0, v = 0; v < online.count;) {
    const int tasks = 2 * online.students[v].net->blocks + 3;
    if (task - before >= tasks) {
      before += tasks, ++v;
      continue;
    }
    learn_layer(tile, online.students[v], task - before, n, worker);
    task = next_task(team);
  }
  wait_for_all(team);
}

// -- the loop: ranges and pop mirror each other ---------------------------------------------------------------------

struct Turn {
  int n, begin; // pixels of the step, where they begin in the batch
  Part mine;    // of them
};

// Learn if it is time, then evaluate the worker's part of a step's pixels with every net.
template <typename Sample> static Turn evaluate_step(Tile &tile, int rank, int step) {
  Online &online = *tile.online;
  Worker &worker = online.workers[rank];
  const int n = locate(tile.place, step, worker.at);
  const Part mine = share_of(n, rank, online.team.ranks, GROUP);
  if (worker.gathered >= BATCH || worker.gathered + n > online.capacity)
    update(tile, rank);
  const int begin = worker.gathered;
  worker.gathered += n;
  for (int v = 0; v < online.count; ++v)
    forward<Sample>(tile, online.students[v], worker.at + mine.first, mine.end - mine.first, begin + mine.first);
  return {n, begin, mine};
}

// What all nets say of the pixels of the batch from ``first`` on.
static void members_of(const Online &online, int first, Member *members) {
  for (int v = 0; v < online.count; ++v) {
    const Student &student = online.students[v];
    const Net &net = *student.net;
    members[v] = {student.batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns,
                  student.batch.base + (ptrdiff_t)first * net.channels, net.mixtures, net.tables};
  }
}

// Where a stack's pixels of a step of n lie.
GM_INLINE Part stack_of(int n, int stack) { return share_of(n, stack, STACKS, GROUP); }

void tile_symbols(const gm_tile *handle, int64_t *symbols) {
  const Tile &tile = *reinterpret_cast<const Tile *>(handle);
  symbols[0] = symbols[1] = 0;
  for (int step = 0; step < tile.place.steps; ++step) {
    const Part rows = rows_of_step(tile.place, step);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Part part = stack_of(larger(0, rows.end - rows.first), stack);
      symbols[stack] += (int64_t)(part.end - part.first) * tile.coding.channels * tile.coding.nibbles;
    }
  }
}

template <typename Sample>
static double find_tile_ranges(Tile &tile, int rank, int first, int last, Range *const *ranges) {
  Online &online = *tile.online;
  Worker &worker = online.workers[rank];
  const int channels = tile.coding.channels;
  double bits = 0;
  for (int step = first; step < last; ++step) {
    const Turn turn = evaluate_step<Sample>(tile, rank, step);
    int32_t *samples = online.samples + (ptrdiff_t)turn.begin * channels;
    read_samples<Sample>(tile.place, worker.at + turn.mine.first, turn.mine.end - turn.mine.first,
                         samples + (ptrdiff_t)turn.mine.first * channels);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Part whole = stack_of(turn.n, stack);
      const int from = larger(turn.mine.first, whole.first), many = whole.end - whole.first;
      const int n = smaller(turn.mine.end, whole.end) - from;
      if (n > 0) {
        Member members[MAX_NETS];
        members_of(online, turn.begin + from, members);
        bits +=
            find_ranges<sizeof(Sample) == 4>(worker.mix, members, online.count, worker.mixing, worker.responsibilities,
                                             samples + (ptrdiff_t)from * channels, n, tile.coding,
                                             ranges[stack] + worker.symbols[stack], from - whole.first, many);
      }
      worker.symbols[stack] += (int64_t)channels * tile.coding.nibbles * many;
    }
  }
  return bits;
}

template <typename Sample>
static void pop_tile(Tile &tile, int rank, int first, int last, gm_stack *stacks, const uint32_t *const *words) {
  Online &online = *tile.online;
  Worker &worker = online.workers[rank];
  const int channels = tile.coding.channels, ranks = online.team.ranks;
  for (int step = first; step < last; ++step) {
    const Turn turn = evaluate_step<Sample>(tile, rank, step);
    if (ranks != STACKS) // else a thread's pixels are those of its stack
      wait_for_all(online.team);
    for (int stack = rank; stack < STACKS; stack += ranks) {
      const Part part = stack_of(turn.n, stack);
      const int n = part.end - part.first;
      if (n <= 0)
        continue;
      Member members[MAX_NETS];
      members_of(online, turn.begin + part.first, members);
      int32_t *samples = online.samples + (ptrdiff_t)(turn.begin + part.first) * channels;
      Stack now = {stacks[stack].state, stacks[stack].count};
      pop_samples<sizeof(Sample) == 4>(worker.mix, members, online.count, worker.mixing, worker.responsibilities,
                                       samples, n, tile.coding, now, words[stack]);
      stacks[stack] = {now.state, now.count};
      write_samples<Sample>(tile.place, worker.at + part.first, n, samples);
    }
    wait_for_all(online.team);
  }
}

double tile_ranges(gm_tile *handle, int32_t rank, int32_t first, int32_t last, gm_range *const *ranges) {
  Tile &tile = tile_of(handle);
  Range *const *out = reinterpret_cast<Range *const *>(ranges);
  return tile.place.at.high_depth ? find_tile_ranges<int32_t>(tile, rank, first, last, out)
                                  : find_tile_ranges<int16_t>(tile, rank, first, last, out);
}

void tile_pop_online(gm_tile *handle, int32_t rank, int32_t first, int32_t last, gm_stack *stacks,
                     const uint32_t *const *words) {
  Tile &tile = tile_of(handle);
  tile.place.at.high_depth ? pop_tile<int32_t>(tile, rank, first, last, stacks, words)
                           : pop_tile<int16_t>(tile, rank, first, last, stacks, words);
}

} // namespace gm::GM_ISA
