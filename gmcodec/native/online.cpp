// SPDX-License-Identifier: MIT
// Code a tile with nets that learn from it: models/online/spec.py is the specification.
//
//   steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
//                            \____ a batch: BATCH pixels or a little more ____/
//
// ``forward`` keeps the activations of a batch.  ``update`` goes backwards through the nets with them and changes all
// weights; encoder and decoder do so after the same steps and with the same integers.  The encoder must learn in coding
// order too, so it keeps all intervals and pushes them at the end.
//
// Each worker of a thread team evaluates its share of a step's pixels, goes backwards through its share of a batch, and
// updates some of the layers.  Whatever the number of workers, a tile has STACKS stacks, and each stack has its share
// of every step's pixels.
#include "gradient.hpp"
#include "tile.hpp"

namespace gm::GM_ISA {

constexpr int BATCH = 100;               // nets learn once a batch has this many pixels
constexpr double CENTRE_LIMIT = 1 << 20; // models/online/rules.py
constexpr int CENTRE_SHIFT = 8;

// Of N gathered pixels: the activations, and the gradients with respect to each layer's sums, ``by_first`` and so on.
struct Batch {
  int16_t *features;                      // [N, columns]
  int16_t *stream, *inside;               // [blocks + 1, N, width], [blocks, N, width]
  int32_t *outputs, *base;                // [N, output_columns], [N, channels]
  double *centre;                         // [N, channels]: gradients with respect to the base
  int16_t *by_first, *by_inner, *by_last; // [N, width], [2 * blocks, N, width], [N, output_columns]
};

// A member of the ensemble, with the layers that it learns.
struct OnlineMember {
  const Net *net;
  bool averaged;
  OnlineLayer first, *inner, last;
  double *block_unit;
  Window window;   // with a linear predictor of its own
  int32_t *linear; // master weights of the linear predictor, [channels, near]
  int64_t *linear_square, *linear_rate;
  Batch batch;
};

// What a worker alone reads and writes; functions call it ``own``.
struct WorkerState {
  int64_t updates;             // number of updates so far; this and the next three are the same for every worker
  int gathered;                // pixels since the last update
  int64_t symbols[STACKS];     // index of the next step's first interval
  int64_t mixing[MAX_MEMBERS]; // mixing weights
  int64_t responsibilities[MAX_MEMBERS]; // of the worker's pixels since the last update
  int64_t *offsets;                      // of a step's pixels
  Mixture mix;
  UpdateScratch update;
  int32_t *stream, *inside; // [BLOCK_PIXELS, width]
  double *gradient;         // [outputs]
  char padding[64];         // keeps two workers out of one cache line
};

struct Online {
  ThreadTeam team;
  WorkerState *worker_states;
  OnlineMember *members;
  int member_count, capacity;                         // capacity: pixels of a batch
  int32_t *samples;                                   // [capacity, channels]
  int64_t responsibilities[MAX_WORKERS][MAX_MEMBERS]; // of every worker: all workers add them up
};

// -- memory, and the weights that a tile begins with
// -------------------------------------------------------------------------------------

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
  batch.stream = arena.allocate<int16_t>((blocks + 1) * n * width);
  batch.inside = arena.allocate<int16_t>(blocks * n * width);
  batch.outputs = arena.allocate<int32_t>(n * net.output_columns);
  batch.base = arena.allocate<int32_t>(n * net.channels);
  batch.centre = arena.allocate<double>(n * net.channels);
  batch.by_first = arena.allocate<int16_t>(n * width);
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
  online->team.workers = workers, online->member_count = count;
  online->capacity = larger(MAX_BATCH_PIXELS, tile.geometry.max_step_pixels);
  online->worker_states = arena.allocate<WorkerState>(workers);
  online->members = arena.allocate<OnlineMember>(count);
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
    own.offsets = arena.allocate<int64_t>(tile.geometry.max_step_pixels);
    own.mix = allocate_mixture(arena, tile.geometry.max_step_pixels, mixtures);
    own.update = allocate_update_scratch(arena, inputs, columns);
    own.stream = arena.allocate<int32_t>((size_t)BLOCK_PIXELS * width);
    own.inside = arena.allocate<int32_t>((size_t)BLOCK_PIXELS * width);
    own.gradient = arena.allocate<double>(outputs);
    for (int v = 0; v < count; ++v)
      own.mixing[v] = ((int64_t)1 << MIXING_BITS) / count;
  }
  for (int v = 0; v < count && !arena.failed; ++v)
    fill(net_of(nets[v]), rmsprop[v], online->members[v]);
}

// -- forward and backward pass
// -------------------------------------------------------------------------------------------

GM_INLINE Inputs at_pixel(const int16_t *x, ptrdiff_t stride, int first) { return rows_of(x + first * stride, stride); }

// Run all layers on the features of n pixels of the batch.
template <bool LATEST> static void activate(const OnlineMember &member, int capacity, int first, int n) {
  const Net &net = *member.net;
  const Batch &batch = member.batch;
  const ptrdiff_t width = net.width, map = width * capacity, at = first * width;
  auto chosen = [](const OnlineLayer &layer) -> const Layer & { return LATEST ? layer.latest : layer.coding; };
  run(chosen(member.first), Hidden{net.limit}, at_pixel(batch.features, net.columns, first), n, batch.stream + at,
      width);
  for (int b = 0; b < net.blocks; ++b) {
    int16_t *stream = batch.stream + b * map + at, *inside = batch.inside + b * map + at;
    run(chosen(member.inner[2 * b]), Hidden{net.limit}, rows_of(stream, width), n, inside, width);
    memcpy(stream + map, stream, sizeof(int16_t) * n * width); // the backward pass needs the stream before every block
    run(chosen(member.inner[2 * b + 1]), Residual{net.limit}, rows_of(inside, width), n, stream + map, width);
  }
  run(chosen(member.last), Output{net.output_limit}, rows_of(batch.stream + net.blocks * map + at, width), n,
      batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns);
}

// Evaluate n pixels; they enter the batch at ``first``.
template <typename Sample>
static void forward(const Tile &tile, const OnlineMember &member, const int64_t *offsets, int n, int first) {
  const Sample *samples = static_cast<const Sample *>(tile.geometry.data.samples);
  const Batch &batch = member.batch;
  for (int start = 0; start < n; start += BLOCK_PIXELS) {
    const int count = smaller(BLOCK_PIXELS, n - start);
    for (int i = start; i < start + count; ++i)
      features(member.window, samples + offsets[i], tile.geometry.data.row_size, tile.coding.scale,
               batch.features + (ptrdiff_t)(first + i) * member.net->columns,
               batch.base + (ptrdiff_t)(first + i) * member.net->channels);
    activate<false>(member, tile.online->capacity, first + start, count);
  }
}

// The gradient through a clamp: where an activation is at its bound, drop what would push it further out.
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

// Gradients by the sums of a layer that was added to the stream.  The gradient goes through the stream's clamp in
// place, for this layer and for all before it.
static void residual_deltas(int32_t *gradient, const int16_t *activation, const double *scale, int limit, int width,
                            int16_t *out) {
  for (int m = 0; m < width; m += REALS) {
    Integers a = __builtin_convertvector(load<Shorts>(activation + m), Integers);
    Integers g = inward(load<Integers>(gradient + m), a, limit);
    store(gradient + m, g);
    store_delta(reals(g), scale + m, out + m);
  }
}

// Gradients by the sums of a hidden layer whose result was ``activation``.
static void hidden_deltas(const int32_t *gradient, const int16_t *activation, const double *scale, int limit, int width,
                          int16_t *out) {
  for (int m = 0; m < width; m += REALS) {
    Integers a = __builtin_convertvector(load<Shorts>(activation + m), Integers);
    Reals g = reals(inward(load<Integers>(gradient + m), a, limit));
    Reals slope = reals(a >= Integers{} ? Integers{} + 8 : Integers{} + 1) * splat(LEAK);
    store_delta(g * slope, scale + m, out + m);
  }
}

// Add a block's gradient to that of the stream; ``unit`` turns one unit into the other.
static void add_to_stream(const int32_t *gradient, double unit, int width, int32_t *stream) {
  for (int m = 0; m < width; m += REALS) {
    Reals v = reals(load<Integers>(stream + m)) + floor(reals(load<Integers>(gradient + m)) * splat(unit));
    store(stream + m, floor_to_integers(clamp(v, splat(-STREAM_GRADIENT_LIMIT), splat(STREAM_GRADIENT_LIMIT))));
  }
}

GM_INLINE void multiply_backward(const OnlineLayer &layer, const int16_t *delta, int n, int32_t *out, ptrdiff_t width) {
  multiply_all(rows_of(delta, layer.latest.columns), n, layer.backward_weight, layer.latest.columns / 2,
               layer.backward_columns, out, width);
}

// Compute the gradients of n pixels of the batch, at most BLOCK_PIXELS.
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
  multiply_backward(member.last, batch.by_last + first * output_columns, n, own.stream, width);
  for (int b = net.blocks - 1; b >= 0; --b) {
    const OnlineLayer &up = member.inner[2 * b], &down = member.inner[2 * b + 1];
    int16_t *by_up = batch.by_inner + 2 * b * map + at, *by_down = by_up + map;
    for (int i = 0; i < n; ++i)
      residual_deltas(own.stream + i * width, batch.stream + (b + 1) * map + at + i * width, down.delta_scale,
                      net.limit, net.width, by_down + i * width);
    multiply_backward(down, by_down, n, own.inside, width);
    for (int i = 0; i < n; ++i)
      hidden_deltas(own.inside + i * width, batch.inside + b * map + at + i * width, up.delta_scale, net.limit,
                    net.width, by_up + i * width);
    multiply_backward(up, by_up, n, own.inside, width);
    for (int i = 0; i < n; ++i)
      add_to_stream(own.inside + i * width, member.block_unit[b], net.width, own.stream + i * width);
  }
  for (int i = 0; i < n; ++i)
    hidden_deltas(own.stream + i * width, batch.stream + at + i * width, member.first.delta_scale, net.limit, net.width,
                  batch.by_first + at + i * width);
}

// -- updates --------------------------------------------------------------------------------------------

// Update the linear predictor.
static void update_linear(OnlineMember &member, int n, int64_t count) {
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
    const int64_t max_move = MOVE_LIMIT * member.linear_rate[c], bound = ((1 << 15) - 1) << FINE_BITS;
    for (int k = 0; k < near; ++k) {
      int32_t &master = member.linear[c * near + k];
      int64_t change = (total[k] * size + ((int64_t)1 << (STEP_BITS - 1))) >> STEP_BITS;
      master = (int32_t)clamp(master - clamp(change, -max_move, max_move), -bound, bound);
      window.near_weight[c * near + k] = (master + FINE_HALF) >> FINE_BITS;
    }
  }
}

// Update layer number ``task`` of a member: first, those of the blocks, last, the linear predictor.  The largest comes
// first, so that no worker waits long for another.
static void update_task(const Tile &tile, OnlineMember &member, int task, int n, const WorkerState &own) {
  const Net &net = *member.net;
  const Batch &batch = member.batch;
  const ptrdiff_t width = net.width, map = width * tile.online->capacity;
  const int64_t count = own.updates;
  if (task == 0)
    return update_layer(member.first, batch.features, net.columns, batch.by_first, n, count, own.update);
  if (task <= 2 * net.blocks) {
    const int j = task - 1;
    const int16_t *x = (j % 2 ? batch.inside : batch.stream) + j / 2 * map;
    return update_layer(member.inner[j], x, width, batch.by_inner + j * map, n, count, own.update);
  }
  if (task == 2 * net.blocks + 1)
    return update_layer(member.last, batch.stream + net.blocks * map, width, batch.by_last, n, count, own.update);
  update_linear(member, n, count);
}

// Learn from the gathered pixels and begin a new batch.  The workers share the pixels, then the layers.
static void update(Tile &tile, int worker) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  ThreadTeam &team = online.team;
  const int n = smaller(own.gathered, MAX_BATCH_PIXELS);
  ++own.updates;
  if (online.member_count > 1)
    for (int v = 0; v < online.member_count; ++v)
      online.responsibilities[worker][v] = own.responsibilities[v], own.responsibilities[v] = 0;
  wait_at_barrier(team);
  if (online.member_count > 1) {
    int64_t total[MAX_MEMBERS] = {};
    for (int r = 0; r < team.workers; ++r)
      for (int v = 0; v < online.member_count; ++v)
        total[v] += online.responsibilities[r][v];
    update_mixing(own.mixing, total, online.member_count, own.gathered);
  }
  own.gathered = 0;
  const Span mine = share_of(n, worker, team.workers, PIXEL_GROUP);
  for (int v = 0; v < online.member_count; ++v)
    for (int start = mine.first; start < mine.end; start += BLOCK_PIXELS) {
      const OnlineMember &member = online.members[v];
      const int count = smaller(BLOCK_PIXELS, mine.end - start);
      if (member.averaged)
        activate<true>(member, online.capacity, start, count);
      backward(tile, member, own, start, count);
    }
  wait_at_barrier(team);
  for (int task = next_task(team), before = 0, v = 0; v < online.member_count;) {
    const int tasks = 2 * online.members[v].net->blocks + 3;
    if (task - before >= tasks) {
      before += tasks, ++v;
      continue;
    }
    update_task(tile, online.members[v], task - before, n, own);
    task = next_task(team);
  }
  wait_at_barrier(team);
}

// -- the loop over steps: find_tile_intervals and pop_tile mirror each other -----------------------------------------

// A step's n pixels, their place in the batch, and the worker's share of them.
struct StepShare {
  int n, begin;
  Span mine;
};

// Learn if the batch is large enough, then evaluate every net for the worker's share of the step's pixels.
template <typename Sample> static StepShare evaluate_step(Tile &tile, int worker, int step) {
  Online &online = *tile.online;
  WorkerState &own = online.worker_states[worker];
  const int n = step_pixels(tile.geometry, step, own.offsets);
  const Span mine = share_of(n, worker, online.team.workers, PIXEL_GROUP);
  if (own.gathered >= BATCH || own.gathered + n > online.capacity)
    update(tile, worker);
  const int begin = own.gathered;
  own.gathered += n;
  for (int v = 0; v < online.member_count; ++v)
    forward<Sample>(tile, online.members[v], own.offsets + mine.first, mine.end - mine.first, begin + mine.first);
  return {n, begin, mine};
}

// The outputs of all members for the pixels of the batch from ``first`` on.
static void member_outputs(const Online &online, int first, MemberOutputs *members) {
  for (int v = 0; v < online.member_count; ++v) {
    const OnlineMember &member = online.members[v];
    const Net &net = *member.net;
    members[v] = {member.batch.outputs + (ptrdiff_t)first * net.output_columns, net.output_columns,
                  member.batch.base + (ptrdiff_t)first * net.channels, net.mixtures, net.tables};
  }
}

// A stack's share of a step's n pixels.
GM_INLINE Span stack_share(int n, int stack) { return share_of(n, stack, STACKS, PIXEL_GROUP); }

void tile_symbols(const gm_tile *handle, int64_t *symbols) {
  const Tile &tile = *reinterpret_cast<const Tile *>(handle);
  symbols[0] = symbols[1] = 0;
  for (int step = 0; step < tile.geometry.steps; ++step) {
    const Span rows = step_rows(tile.geometry, step);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Span part = stack_share(larger(0, rows.end - rows.first), stack);
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
    const StepShare share = evaluate_step<Sample>(tile, worker, step);
    int32_t *samples = online.samples + (ptrdiff_t)share.begin * channels;
    read_samples<Sample>(tile.geometry, own.offsets + share.mine.first, share.mine.end - share.mine.first,
                         samples + (ptrdiff_t)share.mine.first * channels);
    for (int stack = 0; stack < STACKS; ++stack) {
      const Span whole = stack_share(share.n, stack);
      const int from = larger(share.mine.first, whole.first), count = whole.end - whole.first;
      const int n = smaller(share.mine.end, whole.end) - from;
      if (n > 0) {
        MemberOutputs members[MAX_MEMBERS];
        member_outputs(online, share.begin + from, members);
        bits +=
            find_intervals<sizeof(Sample) == 4>(own.mix, members, online.member_count, own.mixing, own.responsibilities,
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
    const StepShare share = evaluate_step<Sample>(tile, worker, step);
    if (workers != STACKS) // else a worker pops just the pixels that it evaluated
      wait_at_barrier(online.team);
    for (int stack = worker; stack < STACKS; stack += workers) {
      const Span part = stack_share(share.n, stack);
      const int n = part.end - part.first;
      if (n <= 0)
        continue;
      MemberOutputs members[MAX_MEMBERS];
      member_outputs(online, share.begin + part.first, members);
      int32_t *samples = online.samples + (ptrdiff_t)(share.begin + part.first) * channels;
      Stack now = {stacks[stack].state, stacks[stack].count};
      pop_samples<sizeof(Sample) == 4>(own.mix, members, online.member_count, own.mixing, own.responsibilities, samples,
                                       n, tile.coding, now, words[stack]);
      stacks[stack] = {now.state, now.count};
      write_samples<Sample>(tile.geometry, own.offsets + part.first, n, samples);
    }
    wait_at_barrier(online.team);
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
