// SPDX-License-Identifier: MIT
// Fit a net to an image: models/local/fit.py says why, models/local/fit_spec.py how.  Numbers: see fit.hpp.
#include "fit.hpp"

namespace gm::GM_ISA {

constexpr int STEPS = 8, TRIALS = 5; // more steps no longer make photographs smaller
constexpr double ENOUGH = 1e-4;      // a step that gains fewer nats a pixel is the last one
constexpr double LARGEST = 0x1p20;   // of changes; beyond, a step has gone wrong
constexpr int FISHER_ROWS = 4;       // of a tile of the Fisher matrix that stays in registers
constexpr int FISHER_COLUMNS = 2 * REALS;
constexpr int FISHER_MULTIPLE = 2 * MAX_REALS; // columns are a multiple of this, whole tiles of any vectors
constexpr int FISHER_BLOCK = 4;                // groups of pixels whose slopes stay in the first cache

// What the search has in memory; vectors [size], of which the first ``parameters`` are not zero.
struct Search {
  Sample sample;
  int size;
  double *slopes;           // of a group: [parameters, MAX_REALS]
  double *sums;             // of slopes: [parameters, MAX_REALS]
  double *pixels;           // slopes of a block's pixels: [FISHER_BLOCK * MAX_REALS, size]
  double *fisher;           // [size, size]; then its factors
  double *theta, *gradient; // where the search is
  double *step, *there, *gradient_there;
  double *moves, *turns;   // [STEPS, size] of the steps so far: of theta, and of the gradient, downwards
  double curvature[STEPS]; // moves * turns
};

static Search allocate(Arena &arena, const gm_fit_data &data) {
  Search s{};
  s.sample = allocate_pixels(arena, data);
  s.size = round_up(s.sample.parameters, FISHER_MULTIPLE);
  const size_t size = s.size;
  s.slopes = arena.allocate<double>(size * MAX_REALS), s.sums = arena.allocate<double>(size * MAX_REALS);
  s.pixels = arena.allocate<double>(size * MAX_REALS * FISHER_BLOCK), s.fisher = arena.allocate<double>(size * size);
  s.theta = arena.allocate<double>(size), s.gradient = arena.allocate<double>(size),
  s.step = arena.allocate<double>(size);
  s.there = arena.allocate<double>(size), s.gradient_there = arena.allocate<double>(size);
  s.moves = arena.allocate<double>(size * STEPS), s.turns = arena.allocate<double>(size * STEPS);
  return s;
}

// -- sums over pixels --------------------------------------------------------------------------------------------

GM_INLINE double total(const double *parts) { // of MAX_REALS, in their order
  double sum = 0;
  for (int i = 0; i < MAX_REALS; ++i)
    sum += parts[i];
  return sum;
}

static void add(double *to, double factor, const double *from, int count) {
  for (int i = 0; i < count; ++i)
    to[i] += factor * from[i];
}

// Zeros where the last group has no pixels.
static void clear_rest(Search &s, double *logs, int live) {
  for (int i = live; i < MAX_REALS; ++i) {
    logs[i] = 0;
    for (int j = 0; j < s.sample.parameters; ++j)
      s.slopes[j * MAX_REALS + i] = 0;
  }
}

// The upper triangle and a little more of the sum of pixels' products.
static void add_products(Search &s, int pixels) {
  for (int row = 0; row < s.size; row += FISHER_ROWS)
    for (int column = row / FISHER_COLUMNS * FISHER_COLUMNS; column < s.size; column += FISHER_COLUMNS) {
      double *to = s.fisher + (ptrdiff_t)row * s.size + column;
      Reals sums[FISHER_ROWS][2];
      for (int r = 0; r < FISHER_ROWS; ++r)
        sums[r][0] = load<Reals>(to + r * s.size), sums[r][1] = load<Reals>(to + r * s.size + REALS);
      for (int i = 0; i < pixels; ++i) {
        const double *pixel = s.pixels + (ptrdiff_t)i * s.size;
        const Reals left = load<Reals>(pixel + column), right = load<Reals>(pixel + column + REALS);
        for (int r = 0; r < FISHER_ROWS; ++r)
          sums[r][0] += pixel[row + r] * left, sums[r][1] += pixel[row + r] * right;
      }
      for (int r = 0; r < FISHER_ROWS; ++r)
        store(to + r * s.size, sums[r][0]), store(to + r * s.size + REALS, sums[r][1]);
    }
}

static void add_fisher(Search &s, int64_t group) {
  const int block = (int)(group % FISHER_BLOCK), live = s.sample.live(group);
  for (int i = 0; i < live; ++i)
    for (int j = 0; j < s.sample.parameters; ++j)
      s.pixels[(ptrdiff_t)(block * MAX_REALS + i) * s.size + j] = s.slopes[j * MAX_REALS + i];
  if (block == FISHER_BLOCK - 1 || group == s.sample.groups() - 1)
    add_products(s, block * MAX_REALS + live);
}

// Log-likelihood in nats at theta, and its gradient; with the sum of pixels' products of slopes, if that is zero now.
static double likelihood(Search &s, const double *theta, double *gradient, bool fisher = false) {
  double parts[MAX_REALS] = {}, logs[MAX_REALS];
  memset(s.sums, 0, sizeof(double) * s.size * MAX_REALS);
  for (int64_t group = 0; group < s.sample.groups(); ++group) {
    evaluate_group(s.sample, group, theta, logs, s.slopes);
    clear_rest(s, logs, s.sample.live(group));
    add(parts, 1, logs, MAX_REALS);
    add(s.sums, 1, s.slopes, s.sample.parameters * MAX_REALS);
    if (fisher)
      add_fisher(s, group);
  }
  for (int j = 0; j < s.sample.parameters; ++j)
    gradient[j] = total(s.sums + j * MAX_REALS);
  return total(parts);
}

// -- steps -------------------------------------------------------------------------------------------------------

static double dot(const double *a, const double *b, int count) {
  double sum = 0;
  for (int i = 0; i < count; ++i)
    sum += a[i] * b[i];
  return sum;
}

// Upper triangle of F with a little more on its diagonal -> factors D and U with F = U^T / D U: row i is D's element,
// on the diagonal, and U's.
static void decompose(Search &s) {
  const int count = s.sample.parameters;
  for (int i = 0; i < count; ++i) {
    double &own = s.fisher[(ptrdiff_t)i * (s.size + 1)];
    own = own * 1.001 + 1;
  }
  for (int i = 0; i < count; ++i) {
    const double *pivot = s.fisher + (ptrdiff_t)i * s.size;
    for (int j = i + 1; j < count; ++j)
      add(s.fisher + (ptrdiff_t)j * s.size + j, -pivot[j] / pivot[i], pivot + j, count - j);
  }
}

static void solve(const Search &s, double *x) {
  const int count = s.sample.parameters;
  for (int i = 0; i < count; ++i) {
    const double *row = s.fisher + (ptrdiff_t)i * s.size;
    add(x + i + 1, -x[i] / row[i], row + i + 1, count - i - 1);
  }
  for (int i = count - 1; i >= 0; --i) {
    const double *row = s.fisher + (ptrdiff_t)i * s.size;
    x[i] = (x[i] - dot(row + i + 1, x + i + 1, count - i - 1)) / row[i];
  }
}

// The gradient times what the Fisher matrix of the start and ``known`` steps since say of the curvature's inverse.
static void choose_step(Search &s, int known) {
  const int count = s.sample.parameters;
  double factor[STEPS];
  memcpy(s.step, s.gradient, sizeof(double) * count);
  for (int i = known - 1; i >= 0; --i) {
    factor[i] = dot(s.moves + i * s.size, s.step, count) / s.curvature[i];
    add(s.step, -factor[i], s.turns + i * s.size, count);
  }
  solve(s, s.step);
  for (int i = 0; i < known; ++i)
    add(s.step, factor[i] - dot(s.turns + i * s.size, s.step, count) / s.curvature[i], s.moves + i * s.size, count);
}

// Take the step, or half of it, and so on: the likelihood there, if it is more than the best so far, else that.
static double try_step(Search &s, double best) {
  const int count = s.sample.parameters;
  for (int trial = 0; trial < TRIALS; ++trial) {
    bool small = true;
    for (int i = 0; i < count; ++i) {
      s.step[i] *= trial ? 0.5 : 1;
      s.there[i] = s.theta[i] + s.step[i];
      small = small && s.there[i] <= LARGEST && s.there[i] >= -LARGEST; // and a number
    }
    const double value = small ? likelihood(s, s.there, s.gradient_there) : best;
    if (value > best)
      return value;
  }
  return best;
}

// Go where the step led; returns whether something was learnt about the curvature.
static bool advance(Search &s, int known) {
  const int count = s.sample.parameters;
  double *move = s.moves + known * s.size, *turn = s.turns + known * s.size;
  for (int i = 0; i < count; ++i) {
    move[i] = s.step[i];
    turn[i] = s.gradient[i] - s.gradient_there[i];
    s.theta[i] = s.there[i];
    s.gradient[i] = s.gradient_there[i];
  }
  s.curvature[known] = dot(move, turn, count);
  return s.curvature[known] > 0;
}

// From theta = 0; returns the likelihood there.
static double climb(Search &s) {
  const double start = likelihood(s, s.theta, s.gradient, true);
  decompose(s);
  double best = start;
  for (int step = 0, known = 0; step < STEPS; ++step) {
    choose_step(s, known);
    const double value = try_step(s, best), gained = value - best;
    if (!(gained > 0))
      break;
    known += advance(s, known);
    best = value;
    if (gained < ENOUGH * (double)s.sample.n)
      break;
  }
  return start;
}

static void round_changes(Search &s, const double *quanta, double *changes) {
  for (int i = 0; i < s.sample.parameters; ++i) {
    changes[i] = clamp(s.theta[i] / quanta[i], -LARGEST, LARGEST) + TO_INTEGER - TO_INTEGER;
    s.theta[i] = changes[i] * quanta[i];
  }
}

int32_t fit_changes(const gm_fit_data *data, const double *quanta, double *changes, double *gain) {
  Arena arena;
  Search s = allocate(arena, *data);
  if (!arena.failed) {
    fill_sample(*data, s.sample);
    const double start = climb(s);
    round_changes(s, quanta, changes);
    *gain = likelihood(s, s.theta, s.gradient) - start;
  }
  arena.release();
  return arena.failed;
}

int32_t fit_likelihood(const gm_fit_data *data, const double *theta, double *value, double *gradient, double *fisher) {
  Arena arena;
  Search s = allocate(arena, *data);
  if (!arena.failed) {
    fill_sample(*data, s.sample);
    *value = likelihood(s, theta, gradient, true);
    const int count = s.sample.parameters;
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < count; ++j)
        fisher[(ptrdiff_t)i * count + j] = s.fisher[(ptrdiff_t)smaller(i, j) * s.size + larger(i, j)];
  }
  arena.release();
  return arena.failed;
}

} // namespace gm::GM_ISA
