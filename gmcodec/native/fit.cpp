// SPDX-License-Identifier: MIT
// Fit a net to an image by a quasi-Newton search.  models/local/fit.py explains it, models/local/fit_spec.py is the
// specification; see fit.hpp about exactness.
#include "fit.hpp"

namespace gm::GM_ISA {

constexpr int MAX_STEPS = 8, MAX_TRIALS = 5; // more steps no longer make photographs smaller
constexpr double MIN_GAIN = 1e-4;            // a step that gains fewer nats a pixel is the last one
constexpr double MAX_CHANGE = 0x1p20;        // of a parameter; beyond it a step has gone wrong
constexpr int FISHER_ROWS = 4;               // rows and columns of the Fisher matrix whose sums stay in registers
constexpr int FISHER_COLUMNS = 2 * REALS;
constexpr int FISHER_MULTIPLE = 2 * MAX_REALS; // columns of the matrix, and its rows, are a multiple of this
constexpr int FISHER_BLOCK = 4;                // groups of pixels whose slopes stay in the innermost cache

// The arrays of a search.  Vectors are [size]: the parameters, then zeros.
struct Search {
  FitPixels pixels;
  int size;
  double *slopes;           // of a group of pixels: [parameters, MAX_REALS]
  double *sums;             // of slopes, lane by lane: [parameters, MAX_REALS]
  double *block_slopes;     // of each pixel of a block of groups: [FISHER_BLOCK * MAX_REALS, size]
  double *fisher;           // [size, size]: the Fisher matrix, later its factors
  double *theta, *gradient; // the best parameters so far
  double *step, *candidate, *candidate_gradient;
  double *moves,
      *gradient_moves;         // [MAX_STEPS, size]: changes of theta and decreases of the gradient in the steps so far
  double curvature[MAX_STEPS]; // dot products of moves and gradient_moves
};

static Search allocate(Arena &arena, const gm_fit_data &data) {
  Search s{};
  s.pixels = allocate_fit_pixels(arena, data);
  s.size = round_up(s.pixels.parameters, FISHER_MULTIPLE);
  const size_t size = s.size;
  s.slopes = arena.allocate<double>(size * MAX_REALS);
  s.sums = arena.allocate<double>(size * MAX_REALS);
  s.block_slopes = arena.allocate<double>(size * MAX_REALS * FISHER_BLOCK);
  s.fisher = arena.allocate<double>(size * size);
  s.theta = arena.allocate<double>(size);
  s.gradient = arena.allocate<double>(size);
  s.step = arena.allocate<double>(size);
  s.candidate = arena.allocate<double>(size);
  s.candidate_gradient = arena.allocate<double>(size);
  s.moves = arena.allocate<double>(size * MAX_STEPS);
  s.gradient_moves = arena.allocate<double>(size * MAX_STEPS);
  return s;
}

// -- sums over pixels --------------------------------------------------------------------------------------------

GM_INLINE double total(const double *parts) { // [MAX_REALS], in order
  double sum = 0;
  for (int i = 0; i < MAX_REALS; ++i)
    sum += parts[i];
  return sum;
}

static void add(double *to, double factor, const double *from, int count) {
  for (int i = 0; i < count; ++i)
    to[i] += factor * from[i];
}

// Clear the lanes of the last group that have no pixel.
static void clear_rest(Search &s, double *logs, int live) {
  for (int i = live; i < MAX_REALS; ++i) {
    logs[i] = 0;
    for (int j = 0; j < s.pixels.parameters; ++j)
      s.slopes[j * MAX_REALS + i] = 0;
  }
}

// Add the products of the block's slopes to the Fisher matrix; below the diagonal only what fills whole vectors.
static void add_products(Search &s, int pixels) {
  for (int row = 0; row < s.size; row += FISHER_ROWS)
    for (int column = row / FISHER_COLUMNS * FISHER_COLUMNS; column < s.size; column += FISHER_COLUMNS) {
      double *to = s.fisher + (ptrdiff_t)row * s.size + column;
      Reals sums[FISHER_ROWS][2];
      for (int r = 0; r < FISHER_ROWS; ++r)
        sums[r][0] = load<Reals>(to + r * s.size), sums[r][1] = load<Reals>(to + r * s.size + REALS);
      for (int i = 0; i < pixels; ++i) {
        const double *pixel = s.block_slopes + (ptrdiff_t)i * s.size;
        const Reals left = load<Reals>(pixel + column), right = load<Reals>(pixel + column + REALS);
        for (int r = 0; r < FISHER_ROWS; ++r)
          sums[r][0] += pixel[row + r] * left, sums[r][1] += pixel[row + r] * right;
      }
      for (int r = 0; r < FISHER_ROWS; ++r)
        store(to + r * s.size, sums[r][0]), store(to + r * s.size + REALS, sums[r][1]);
    }
}

static void add_fisher(Search &s, int64_t group) {
  const int block = (int)(group % FISHER_BLOCK), live = s.pixels.live(group);
  for (int i = 0; i < live; ++i)
    for (int j = 0; j < s.pixels.parameters; ++j)
      s.block_slopes[(ptrdiff_t)(block * MAX_REALS + i) * s.size + j] = s.slopes[j * MAX_REALS + i];
  if (block == FISHER_BLOCK - 1 || group == s.pixels.groups() - 1)
    add_products(s, block * MAX_REALS + live);
}

// The log-likelihood in nats at theta, and its gradient.  If ``fisher``, the Fisher matrix must be zero, and is summed.
static double likelihood(Search &s, const double *theta, double *gradient, bool fisher = false) {
  double parts[MAX_REALS] = {}, logs[MAX_REALS];
  memset(s.sums, 0, sizeof(double) * s.size * MAX_REALS);
  for (int64_t group = 0; group < s.pixels.groups(); ++group) {
    evaluate_group(s.pixels, group, theta, logs, s.slopes);
    clear_rest(s, logs, s.pixels.live(group));
    add(parts, 1, logs, MAX_REALS);
    add(s.sums, 1, s.slopes, s.pixels.parameters * MAX_REALS);
    if (fisher)
      add_fisher(s, group);
  }
  for (int j = 0; j < s.pixels.parameters; ++j)
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

// Replace the upper triangle of F, whose diagonal it first increases a little, by D and U with F = U^T D^-1 U.  D is
// the diagonal of U.
static void decompose(Search &s) {
  const int count = s.pixels.parameters;
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

// x = F^-1 x.
static void solve(const Search &s, double *x) {
  const int count = s.pixels.parameters;
  for (int i = 0; i < count; ++i) {
    const double *row = s.fisher + (ptrdiff_t)i * s.size;
    add(x + i + 1, -x[i] / row[i], row + i + 1, count - i - 1);
  }
  for (int i = count - 1; i >= 0; --i) {
    const double *row = s.fisher + (ptrdiff_t)i * s.size;
    x[i] = (x[i] - dot(row + i + 1, x + i + 1, count - i - 1)) / row[i];
  }
}

// L-BFGS: the step is the gradient times an estimate of the inverse of the curvature, from the Fisher matrix at the
// start and ``known`` steps since then.
static void choose_step(Search &s, int known) {
  const int count = s.pixels.parameters;
  double factor[MAX_STEPS];
  memcpy(s.step, s.gradient, sizeof(double) * count);
  for (int i = known - 1; i >= 0; --i) {
    factor[i] = dot(s.moves + i * s.size, s.step, count) / s.curvature[i];
    add(s.step, -factor[i], s.gradient_moves + i * s.size, count);
  }
  solve(s, s.step);
  for (int i = 0; i < known; ++i)
    add(s.step, factor[i] - dot(s.gradient_moves + i * s.size, s.step, count) / s.curvature[i], s.moves + i * s.size,
        count);
}

// Try the step, then half of it, and so on, until the likelihood is above the best so far; returns the higher one.
static double try_step(Search &s, double best) {
  const int count = s.pixels.parameters;
  for (int trial = 0; trial < MAX_TRIALS; ++trial) {
    bool bounded = true;
    for (int i = 0; i < count; ++i) {
      s.step[i] *= trial ? 0.5 : 1;
      s.candidate[i] = s.theta[i] + s.step[i];
      bounded = bounded && s.candidate[i] <= MAX_CHANGE && s.candidate[i] >= -MAX_CHANGE; // false for NaN
    }
    const double value = bounded ? likelihood(s, s.candidate, s.candidate_gradient) : best;
    if (value > best)
      return value;
  }
  return best;
}

// Accept the candidate.  Returns whether the step is of use for later steps: its curvature must be positive.
static bool advance(Search &s, int known) {
  const int count = s.pixels.parameters;
  double *move = s.moves + known * s.size, *gradient_move = s.gradient_moves + known * s.size;
  for (int i = 0; i < count; ++i) {
    move[i] = s.step[i];
    gradient_move[i] = s.gradient[i] - s.candidate_gradient[i];
    s.theta[i] = s.candidate[i];
    s.gradient[i] = s.candidate_gradient[i];
  }
  s.curvature[known] = dot(move, gradient_move, count);
  return s.curvature[known] > 0;
}

// Search from theta = 0 on; returns the likelihood at 0.
static double maximise(Search &s) {
  const double start = likelihood(s, s.theta, s.gradient, true);
  decompose(s);
  double best = start;
  for (int step = 0, known = 0; step < MAX_STEPS; ++step) {
    choose_step(s, known);
    const double value = try_step(s, best), gained = value - best;
    if (!(gained > 0))
      break;
    known += advance(s, known);
    best = value;
    if (gained < MIN_GAIN * (double)s.pixels.n)
      break;
  }
  return start;
}

// Round theta to multiples of the quanta.
static void round_changes(Search &s, const double *quanta, double *changes) {
  for (int i = 0; i < s.pixels.parameters; ++i) {
    changes[i] = clamp(s.theta[i] / quanta[i], -MAX_CHANGE, MAX_CHANGE) + TO_INTEGER - TO_INTEGER;
    s.theta[i] = changes[i] * quanta[i];
  }
}

int32_t fit_changes(const gm_fit_data *data, const double *quanta, double *changes, double *gain) {
  Arena arena;
  Search s = allocate(arena, *data);
  if (!arena.failed) {
    fill_fit_pixels(*data, s.pixels);
    const double start = maximise(s);
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
    fill_fit_pixels(*data, s.pixels);
    *value = likelihood(s, theta, gradient, true);
    const int count = s.pixels.parameters;
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < count; ++j)
        fisher[(ptrdiff_t)i * count + j] = s.fisher[(ptrdiff_t)smaller(i, j) * s.size + larger(i, j)];
  }
  arena.release();
  return arena.failed;
}

} // namespace gm::GM_ISA
