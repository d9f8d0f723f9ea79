// SPDX-License-Identifier: MIT
// Code a tile with nets that learn from it: models/online/spec.py is the specification.
//
//   steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
//                            \____ a batch: BATCH pixels or a little more ____/
//
// ``update`` goes backwards through the nets with what ``forward`` kept of the batch, and moves all weights; encoder
// and decoder do it at the same places with the same integers.  Both go forwards, so the encoder keeps intervals.  Each
// thread of a team evaluates its part of a step's pixels, goes back through its part of a batch, and moves the weights
// of some layers.  A tile has STACKS stacks, whatever the number of threads, each of a part of every step's pixels.
#include "gradient.hpp"
#include "tile.hpp"

namespace gm::GM_ISA {

constexpr int BATCH = 100; // pixels from which nets learn
constexpr double CENTRE_LIMIT = 1 << 20;
constexpr int CENTRE_SHIFT = 8;
constexpr int32_t STREAM_GRADIENT_LIMIT = 1 << 30; // of gradients of a stream

// What is kept of gathered pixels, and their gradients by the sums of the layers.
struct Batch {
  int16_t *features;                      // [N, columns]
  int16_t *stream, *inside;               // [blocks + 1, N, width], [blocks, N, width]
  int32_t *outputs, *base;                // [N, output_columns], [N, channels]
  double *centre;                         // [N, channels]: gradients by the base
  int16_t *by_first, *by_inner, *by_last; // [N, width], [2 * blocks, N, width], [N, output_columns]
};

struct OnlineMember {
  const Net *net;
  bool averaged;
  OnlineLayer first, *inner, last;
  double *block_unit;
  Window window;   // its linear predictor moves
  int32_t *linear; // master weights [channels, near]
  int64_t *linear_square, *linear_rate;
  Batch batch;
};

// A thread's own.
struct WorkerState {
  int64_t learned;         // batches so far; the same in every thread, as are the next two
  int gathered;            // pixels since
  int64_t symbols[STACKS]; // where the next step's intervals begin
  int64_t mixing[MAX_MEMBERS], responsibilities[MAX_MEMBERS];
  int64_t *at;
  Mixture mix;
  UpdateScratch update;
  int32_t *stream, *inside; // [BLOCK_PIXELS, width]
  double *gradient;         // [outputs]
  char rest[64];
};

struct Online {
  Team team;
  WorkerState *worker_states;
  OnlineMember *members;
  int count, capacity;                                // nets, pixels of a batch
  int32_t *samples;                                   // [capacity, channels]
  int64_t responsibilities[MAX_WORKERS][MAX_MEMBERS]; // of every worker, for all to add up
};

// -- what a tile starts from -------------------------------------------------------------------------------------

static void allocate(Arena &arena, const Net &net, const gm_rmsprop_net &rmsprop, size_t n, OnlineMember &member) {
  const size_t width = net.width, blocks = net.blocks;
  const Window &window = net.window;
  member.net = &net, member.averaged = rmsprop.averaged, member.window = window;
  member.inner = arena.allocate<OnlineLayer>(2 * blocks);
  member.block_unit = arena.allocate<double>(blocks);
  member.window.near_weight = arena.allocate<int32_t>((size_t)net.channels * window.near);
  member.linear = arena.allocate<int32_t>((size_t)net.channels * window.near);
  member.linear_square = arena.allocate<int64_t>(net.channels);
  member.linear_rate = arena.allocate<int64_t>(net.channels);
  if (arena.failed)
    return;
  allocate(arena, net.first, member.averaged, true, member.first);
  for (size_t b = 0; b < 2 * blocks; ++b)
    allocate(arena, net.inner[b], member.averaged, false, member.inner[b]);
  allocate(arena, net.last, member.averaged, false, member.last);
  Batch &batch = member.batch;
  batch.features = arena.allocate<int16_t>(n * net.columns);
  batch.stream = arena.allocate<int16_t>((blocks + 1) * n * width),
  batch.inside = arena.allocate<int16_t>(blocks * n * width);
  batch.outputs = arena.allocate<int32_t>(n * net.output_columns),
  batch.base = arena.allocate<int32_t>(n * net.channels);
  batch.centre = arena.allocate<double>(n * net.channels), batch.by_first = arena.allocate<int16_t>(n * width);
  batch.by_inner = arena.allocate<int16_t>(2 * blocks * n * width);
  batch.by_last = arena.allocate<int16_t>(n * net.output_columns);
}

static void fill(const Net &net, const gm_rmsprop_net &rmsprop, OnlineMember &member) {
  fill(net.first, rmsprop.layers[0], member.first);
  for (int b = 0; b < 2 * net.blocks; ++b)
    fill(net.inner[b], rmsprop.layers[1 + b], member.inner[b]);
  fill(net.last, rmsprop.layers[1 + 2 * net.blocks], member.last);
  memcpy(member.block_unit, rmsprop.block_unit, sizeof(double) * net.blocks);
  memcpy(member.linear_rate, rmsprop.linear_rate, sizeof(int64_t) * net.channels);
  for (int k = 0; k < net.channels * net.window.near; ++k) {
    member.window.near_weight[k] = net.window.near_weight[k];
    member.linear[k] = net.window.near_weight[k] << FINE_BITS;
  }
}

void allocate_online(Tile &tile, const gm_net *const *nets, const gm_rmsprop_net *rmsprop, int count, int workers) {
  Arena &arena = tile.arena;
  Online *online = tile.online = arena.allocate<Online>(1);
  if (!online)
    return;
  online->team.workers = workers, online->count = count;
  online->capacity = larger(MAX_BATCH_PIXELS, tile.geometry.max_step_pixels);
  online->worker_states = arena.allocate<WorkerState>(workers), online->members = arena.allocate<OnlineMember>(count);
  online->samples = arena.allocate<int32_t>((size_t)online->capacity * tile.geometry.data.channels);
  int mixtures = 0, inputs = 0, columns = 0, outputs = 0, width = 0;
  for (int v = 0; v < count && !arena.failed; ++v) {
    const Net &net = net_of(nets[v]);
    allocate(arena, net, rmsprop[v], online->capacity, online->members[v]);
    mixtures += net.mixtures, width = larger(width, net.width), outputs = larger(outputs, net.output_columns);
    inputs = larger(inputs, larger(net.columns, net.width)), columns = larger(width, outputs);
  }
  for (int worker = 0; worker < workers && !arena.failed; ++worker) {
    WorkerState &own = online->worker_states[worker];
    own.at = arena.allocate<int64_t>(tile.geometry.max_step_pixels);
    own.mix = allocate_mixture(arena, tile.geometry.max_step_pixels, mixtures);
    own.update = allocate_update_scratch(arena, inputs, columns);
    own.stream = arena.allocate<int32_t>((size_t)BLOCK_PIXELS * width),
    own.inside = arena.allocate<int32_t>((size_t)BLOCK_PIXELS * width);
    own.gradient = arena.allocate<double>(outputs);
    for (int v = 0; v < count; ++v)
      own.mixing[v] = ((int64_t)1 << MIXING_BITS) / count;
  }
  for (int v = 0; v < count && !arena.failed; ++v)
    fill(net_of(nets[v]), rmsprop[v], online->members[v]);
}

// -- forward, and back -------------------------------------------------------------------------------------------

GM_INLINE Inputs at_pixel(const int16_t *x, ptrdiff_t stride, int first) { return rows_of(x + first * stride, stride); }

// All layers, for features of n pixels of the batch.
template <bool AHEAD> static void activate(const OnlineMember &member, int capacity, int first, int n) {
  const Net &net = *member.net;
  const Batch &batch = member.batch;
  const ptrdiff_t width = net.width, map = width * capacity, at = first * width;
  auto layer = [](const OnlineLayer &learner) -> const Layer & { return AHEAD ? learner.ahead : learner.coding; };
  run(layer(member.first), Hidden{net.limit}, at_pixel(batch.features, net.columns, first), n, batch.stream + at,
      width);
  for (int b = 0; b < net.blocks; ++b) {
    int16_t *stream = batch.stream + b * map + at, *inside = batch.inside + b * map + at;
    run(layer(member.inner[2 * b]), Hidden{net.limit}, rows_of(stream, width), n, inside, width);
    memcpy(stream + map, stream, sizeof(int16_t) * n * width); // the way back wants what was before, too
    run(layer(member.inner[2 * b + 1]), Residual{net.limit}, rows_of(inside, width), n, stream + map, width);
  }
  run(layer(member.last), Output{net.output_limit}, rows_of(batch.stream + net.blocks * map + at, width), n,
      batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns);
}

// Evaluate n pixels, into the batch from ``first`` on.
template <typename Sample>
static void forward(const Tile &tile, const OnlineMember &member, const int64_t *at, int n, int first) {
  const Sample *samples = static_cast<const Sample *>(tile.geometry.data.samples);
  const Batch &batch = member.batch;
  for (int start = 0; start < n; start += BLOCK_PIXELS) {
    const int count = smaller(BLOCK_PIXELS, n - start);
    for (int i = start; i < start + count; ++i)
      features(member.window, samples + at[i], tile.geometry.data.row_size, tile.coding.scale,
               batch.features + (ptrdiff_t)(first + i) * member.net->columns,
               batch.base + (ptrdiff_t)(first + i) * member.net->channels);
    activate<false>(member, tile.online->capacity, first + start, count);
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
  Reals d = floor(gradient * load<Reals>(scale) + splat(0.5));
  store(out, __builtin_convertvector(floor_to_integers(clamp(d, splat(-DELTA_LIMIT), splat(DELTA_LIMIT))), Shorts));
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
    Reals slope = reals(a >= Integers{} ? Integers{} + 8 : Integers{} + 1) * splat(LEAK);
    store_delta(g * slope, scale + m, out + m);
  }
}

// Add what flows back into a stream, in another unit.
static void add_back(const int32_t *gradient, double unit, int width, int32_t *stream) {
  for (int m = 0; m < width; m += REALS) {
    Reals v = reals(load<Integers>(stream + m)) + floor(reals(load<Integers>(gradient + m)) * splat(unit));
    store(stream + m, floor_to_integers(clamp(v, splat(-STREAM_GRADIENT_LIMIT), splat(STREAM_GRADIENT_LIMIT))));
  }
}

GM_INLINE void multiply_back(const OnlineLayer &learner, const int16_t *delta, int n, int32_t *out, ptrdiff_t width) {
  multiply_all(rows_of(delta, learner.ahead.columns), n, learner.back, learner.ahead.columns / 2, learner.back_columns,
               out, width);
}

// Gradients of n pixels, at most BLOCK_PIXELS, into the batch.
static void backward(const Tile &tile, const OnlineMember &member, const WorkerState &own, int first, int n) {
  const Net &net = *member.net;
  const Batch &batch = member.batch;
  const ptrdiff_t width = net.width, map = width * tile.online->capacity, at = first * width;
  const ptrdiff_t output_columns = net.output_columns, channels = net.channels;
  for (int i = 0; i < n; ++i) {
    const ptrdiff_t p = first + i;
    mixture_gradient(net.tables, tile.coding.scale, net.channels, net.mixtures, batch.outputs + p * output_columns,
                     batch.base + p * channels, tile.online->samples + p * channels, own.gradient,
                     batch.centre + p * channels);
    for (int m = 0; m < net.output_columns; m += REALS)
      store_delta(load<Reals>(own.gradient + m), member.last.delta_scale + m, batch.by_last + p * output_columns + m);
  }
  multiply_back(member.last, batch.by_last + first * output_columns, n, own.stream, width);
  for (int b = net.blocks - 1; b >= 0; --b) {
    const OnlineLayer &up = member.inner[2 * b], &down = member.inner[2 * b + 1];
    int16_t *by_up = batch.by_inner + 2 * b * map + at, *by_down = by_up + map;
    for (int i = 0; i < n; ++i)
      residual_deltas(own.stream + i * width, batch.stream + (b + 1) * map + at + i * width, down.delta_scale,
                      net.limit, net.width, by_down + i * width);
    multiply_back(down, by_down, n, own.inside, width);
    for (int i = 0; i < n; ++i)
      hidden_deltas(own.inside + i * width, batch.inside + b * map + at + i * width, up.delta_scale, net.limit,
                    net.width, by_up + i * width);
    multiply_back(up, by_up, n, own.inside, width);
    for (int i = 0; i < n; ++i)
      add_back(own.inside + i * width, member.block_unit[b], net.width, own.stream + i * width);
  }
  for (int i = 0; i < n; ++i)
    hidden_deltas(own.stream + i * width, batch.stream + at + i * width, member.first.delta_scale, net.limit, net.width,
                  batch.by_first + at + i * width);
}

// -- a step of rmsprop --------------------------------------------------------------------------------------------

// Move the linear predictor.
static void learn_linear(OnlineMember &member, int n, int64_t count) {
  const Window &window = member.window;
  const int near = window.near, channels = window.channels;
  for (int c = 0; c < channels; ++c) {
    int64_t total[MAX_FEATURES] = {}, squares = 0;
    for (int i = 0; i < n; ++i) {
      const int16_t *x = member.batch.features + (ptrdiff_t)i * member.net->columns;
      const int64_t slope = (int64_t)clamp(member.batch.centre[i * channels + c], -CENTRE_LIMIT, CENTRE_LIMIT);
      for (int k = 0; k < near; ++k)
        total[k] += slope * x[window.near_column[k]];
    }
    for (int k = 0; k < near; ++k) {
      total[k] >>= CENTRE_SHIFT;
      squares += (total[k] >> SQUARE_SHIFT) * (total[k] >> SQUARE_SHIFT);
    }
    const int64_t size = step_size(squares, near, member.linear_square[c], member.linear_rate[c], count);
    const int64_t most = MOVE_LIMIT * member.linear_rate[c], bound = ((1 << 15) - 1) << FINE_BITS;
    for (int k = 0; k < near; ++k) {
      int32_t &master = member.linear[c * near + k];
      int64_t change = (total[k] * size + ((int64_t)1 << (STEP_BITS - 1))) >> STEP_BITS;
      master = (int32_t)clamp(master - clamp(change, -most, most), -bound, bound);
      window.near_weight[c * near + k] = (master + FINE_HALF) >> FINE_BITS;
    }
  }
}

// Layer ``task`` of a net, the largest first: 0 first, then those of the blocks, last, the linear predictor.
static void learn_layer(const Tile &tile, OnlineMember &member, int task, int n, const WorkerState &own) {
  const Net &net = *member.net;
  const Batch &batch = member.batch;
  const ptrdiff_t width = net.width, map = width * tile.online->capacity;
  const int64_t count = own.learned;
  if (task == 0)
    return learn(member.first, batch.features, net.columns, batch.by_first, n, count, own.update);
  if (task <= 2 * net.blocks) {
    const int j = task - 1;
    const int16_t *x = (j % 2 ? batch.inside : batch.stream) + j / 2 * map;
    return learn(member.inner[j], x, width, batch.by_inner + j * map, n, count, own.update);
  }
  if (task == 2 * net.blocks + 1)
    return learn(member.last, batch.stream + net.blocks * map, width, batch.by_last, n, count, own.update);
  learn_linear(member, n, count);
}

// Learn from the gathered pixels; none are left.  Workers share the pixels, then the layers.
static void update(Tile &tile, int worker) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  Team &team = online.team;
  const int n = smaller(own.gathered, MAX_BATCH_PIXELS);
  ++own.learned;
  if (online.count > 1)
    for (int v = 0; v < online.count; ++v)
      online.responsibilities[worker][v] = own.responsibilities[v], own.responsibilities[v] = 0;
  wait_for_all(team);
  if (online.count > 1) {
    int64_t total[MAX_MEMBERS] = {};
    for (int r = 0; r < team.workers; ++r)
      for (int v = 0; v < online.count; ++v)
        total[v] += online.responsibilities[r][v];
    update_mixing(own.mixing, total, online.count, own.gathered);
  }
  own.gathered = 0;
  const Span mine = share_of(n, worker, team.workers, GROUP);
  for (int v = 0; v < online.count; ++v)
    for (int start = mine.first; start < mine.end; start += BLOCK_PIXELS) {
      const OnlineMember &member = online.members[v];
      const int count = smaller(BLOCK_PIXELS, mine.end - start);
      if (member.averaged)
        activate<true>(member, online.capacity, start, count);
      backward(tile, member, own, start, count);
    }
  wait_for_all(team);
  for (int task = next_task(team), before = 0, v = 0; v < online.count;) {
    const int tasks = 2 * online.members[v].net->blocks + 3;
    if (task - before >= tasks) {
      before += tasks, ++v;
      continue;
    }
    learn_layer(tile, online.members[v], task - before, n, own);
    task = next_task(team);
  }
  wait_for_all(team);
}

// -- the loop: intervals and pop mirror each other
// ---------------------------------------------------------------------

struct Turn {
  int n, begin; // pixels of the step, where they begin in the batch
  Span mine;    // of them
};

// Learn if it is time, then evaluate the worker's part of a step's pixels with every net.
template <typename Sample> static Turn evaluate_step(Tile &tile, int worker, int step) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  const int n = step_pixels(tile.geometry, step, own.at);
  const Span mine = share_of(n, worker, online.team.workers, GROUP);
  if (own.gathered >= BATCH || own.gathered + n > online.capacity)
    update(tile, worker);
  const int begin = own.gathered;
  own.gathered += n;
  for (int v = 0; v < online.count; ++v)
    forward<Sample>(tile, online.members[v], own.at + mine.first, mine.end - mine.first, begin + mine.first);
  return {n, begin, mine};
}

// What all nets say of the pixels of the batch from ``first`` on.
static void member_outputs(const Online &online, int first, MemberOutputs *members) {
  for (int v = 0; v < online.count; ++v) {
    const OnlineMember &member = online.members[v];
    const Net &net = *member.net;
    members[v] = {member.batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns,
                  member.batch.base + (ptrdiff_t)first * net.channels, net.mixtures, net.tables};
  }
}

// Where a stack's pixels of a step of n lie.
GM_INLINE Span stack_of(int n, int stack) { return share_of(n, stack, STACKS, GROUP); }

void tile_symbols(const gm_tile *handle, int64_t *symbols) {
  const Tile &tile = *reinterpret_cast<const Tile *>(handle);
  symbols[0] = symbols[1] = 0;
  for (int step = 0; step < tile.geometry.steps; ++step) {
    const Span rows = step_rows(tile.geometry, step);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Span part = stack_of(larger(0, rows.end - rows.first), stack);
      symbols[stack] += (int64_t)(part.end - part.first) * tile.coding.channels * tile.coding.nibbles;
    }
  }
}

template <typename Sample>
static double find_tile_intervals(Tile &tile, int worker, int first, int last, Interval *const *intervals) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  const int channels = tile.coding.channels;
  double bits = 0;
  for (int step = first; step < last; ++step) {
    const Turn turn = evaluate_step<Sample>(tile, worker, step);
    int32_t *samples = online.samples + (ptrdiff_t)turn.begin * channels;
    read_samples<Sample>(tile.geometry, own.at + turn.mine.first, turn.mine.end - turn.mine.first,
                         samples + (ptrdiff_t)turn.mine.first * channels);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Span whole = stack_of(turn.n, stack);
      const int from = larger(turn.mine.first, whole.first), count = whole.end - whole.first;
      const int n = smaller(turn.mine.end, whole.end) - from;
      if (n > 0) {
        MemberOutputs members[MAX_MEMBERS];
        member_outputs(online, turn.begin + from, members);
        bits += find_intervals<sizeof(Sample) == 4>(own.mix, members, online.count, own.mixing, own.responsibilities,
                                                    samples + (ptrdiff_t)from * channels, n, tile.coding,
                                                    intervals[stack] + own.symbols[stack], from - whole.first, count);
      }
      own.symbols[stack] += (int64_t)channels * tile.coding.nibbles * count;
    }
  }
  return bits;
}

template <typename Sample>
static void pop_tile(Tile &tile, int worker, int first, int last, gm_stack *stacks, const uint32_t *const *words) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  const int channels = tile.coding.channels, workers = online.team.workers;
  for (int step = first; step < last; ++step) {
    const Turn turn = evaluate_step<Sample>(tile, worker, step);
    if (workers != STACKS) // else a thread's pixels are those of its stack
      wait_for_all(online.team);
    for (int stack = worker; stack < STACKS; stack += workers) {
      const Span part = stack_of(turn.n, stack);
      const int n = part.end - part.first;
      if (n <= 0)
        continue;
      MemberOutputs members[MAX_MEMBERS];
      member_outputs(online, turn.begin + part.first, members);
      int32_t *samples = online.samples + (ptrdiff_t)(turn.begin + part.first) * channels;
      Stack now = {stacks[stack].state, stacks[stack].count};
      pop_samples<sizeof(Sample) == 4>(own.mix, members, online.count, own.mixing, own.responsibilities, samples, n,
                                       tile.coding, now, words[stack]);
      stacks[stack] = {now.state, now.count};
      write_samples<Sample>(tile.geometry, own.at + part.first, n, samples);
    }
    wait_for_all(online.team);
  }
}

double tile_intervals(gm_tile *handle, int32_t worker, int32_t first, int32_t last, gm_interval *const *intervals) {
  Tile &tile = tile_of(handle);
  Interval *const *out = reinterpret_cast<Interval *const *>(intervals);
  return tile.geometry.data.high_depth ? find_tile_intervals<int32_t>(tile, worker, first, last, out)
                                       : find_tile_intervals<int16_t>(tile, worker, first, last, out);
}

void tile_pop_online(gm_tile *handle, int32_t worker, int32_t first, int32_t last, gm_stack *stacks,
                     const uint32_t *const *words) {
  Tile &tile = tile_of(handle);
  tile.geometry.data.high_depth ? pop_tile<int32_t>(tile, worker, first, last, stacks, words)
                                : pop_tile<int16_t>(tile, worker, first, last, stacks, words);
}

} // namespace gm::GM_ISA
