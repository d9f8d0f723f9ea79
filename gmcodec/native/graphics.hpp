// SPDX-License-Identifier: MIT
// The pixel model of graphics: models/graphics/spec.py is the specification.
//
//   pixel --runs--> channels --numbers and contexts--> bits --mixing--> decisions
#pragma once

#include "bilevel.hpp"
#include "net_input.hpp"

namespace gm::GM_ISA {

constexpr int GRAPHICS_CHANNELS = 4;
constexpr int MARGIN = 16; // pixels left and right of a row
constexpr int MAX_RUN_PIXELS = 4096;
constexpr int PREDICTORS = 7, ADAPTIVE_TAPS = 24, LEVELS = 15;
constexpr int PAIR_BITS = 16;                            // of the table of pixel pairs
constexpr int GRAPHICS_EXTRAS = 6;                       // and one more with a net
constexpr int LOGISTIC_BITS = 19, LOGISTIC_REACH = 4095; // of the table of the logistic function
constexpr int LOGISTIC_SLOPE = 90834 << 8; // at a mean error of 1/2048 grey level: 2 ln 2 * 256 nats, in 1/8 grey level
constexpr int MIN_SCALE = 307;             // of errors, in 1/2048 grey level
constexpr int ADAPTIVE_STEP = 2400, ENERGY_START = 1000;
enum { PIXEL_CONTEXTS = 14, ALL_CONTEXTS = 21 };
constexpr uint32_t PIXEL_MASK = (1u << PIXEL_CONTEXTS) - 1; // of the contexts that do not depend on the channel

// Neighbours, by where they lie: W is left, N above.
struct Neighbours {
  uint32_t w, ww, www, n, nn, nw, ne, nee, nne, nnw, nww;
};

struct Match { // an earlier place whose surroundings were the same
  int64_t at;  // of the pixel that it predicts; unless ``length`` is 0
  int length;
};

// What the samples of a channel are predicted to be, before contexts.
struct Numbers {
  int guess[PREDICTORS];          // of simple predictors
  int blended;                    // of all of them, in 1/8
  int level;                      // of the errors nearby, 0 to LEVELS - 1
  int adapted;                    // of the adaptive linear predictor, in 1/16
  int tap[ADAPTIVE_TAPS], energy; // its inputs, and the sum of their squares
};

// The adaptive scales of the errors of a channel, by level, in 1/2048.
struct Scales {
  int blended[LEVELS], adapted[LEVELS];
};

struct Graphics {
  Arena arena;
  MixingTables tables;
  int width, height, channels, depth, green; // depth: bits of a sample; green: its channel, or -1
  uint32_t contexts;                         // a bit for each that is used
  int templates;                             // of pixels, for images of one bit
  int64_t stride;
  uint32_t *pixels; // of the first pixel
  Buckets buckets;
  uint32_t *places; // of the pixel after a hash of eleven neighbours, plus 1
  int place_bits;
  uint64_t *pairs;    // the last two pixels after a hash of W and N
  int16_t *errors[2]; // [width + 2 * MARGIN, channels, PREDICTORS + 1] of rows of even and odd numbers
  int32_t *weights;   // [channels, ADAPTIVE_TAPS] of the adaptive predictors, in 2**-16
  Scales *scales;     // [channels]
  int guessing;       // 0: no pixel is guessed; 1: those of long matches; 2: those of short ones or with W = N too
  Mixing runs, guesses, bits;
  Match match;
  NetInput net;
};

GM_INLINE int sample(uint32_t pixel, int channel) { return (int)(pixel >> (8 * channel) & 255); }
GM_INLINE int to_byte(int value) { return clamp(value, 0, 255); }
GM_INLINE int magnitude(int value) { return value < 0 ? -value : value; }
GM_INLINE int log2_floor(int value) { return 31 - __builtin_clz((unsigned)value); }

GM_INLINE Neighbours neighbours(const uint32_t *here, int64_t stride) {
  const uint32_t *above = here - stride, *top = above - stride;
  return {here[-1], here[-2], here[-3], above[0], top[0], above[-1], above[1], above[2], top[1], top[-1], above[-2]};
}

// Which neighbours are equal, a bit for each pair.
GM_INLINE int equalities(const Neighbours &p) {
  return (p.w == p.n) | (p.w == p.nw) << 1 | (p.n == p.nw) << 2 | (p.n == p.ne) << 3 | (p.n == p.nn) << 4 |
         (p.w == p.ww) << 5;
}

GM_INLINE int match_level(int length) {
  return (length >= 1) + (length >= 2) + (length >= 4) + (length >= 8) + (length >= 16) + (length >= 32) +
         (length >= 128);
}

GM_INLINE uint64_t six_hash(const Neighbours &p) {
  return combine(combine(combine(combine(combine(combine(3, p.w), p.n), p.nw), p.ne), p.ww), p.nn);
}
GM_INLINE uint64_t eleven_hash(const Neighbours &p) {
  return combine(combine(combine(combine(combine(six_hash(p), p.nne), p.nee), p.www), p.nnw), p.nww);
}

// -- numbers -------------------------------------------------------------------------------------------------------

GM_INLINE void simple_guesses(const Neighbours &p, int c, int *guess) {
  const int w = sample(p.w, c), n = sample(p.n, c), nw = sample(p.nw, c), ne = sample(p.ne, c);
  guess[0] = w + n - nw;
  guess[1] = n + ne - sample(p.nne, c);
  guess[2] = w + ((ne - n) >> 1);
  guess[3] = 2 * n - sample(p.nn, c);
  guess[4] = 2 * w - sample(p.ww, c);
  guess[5] = (w + n + 1) >> 1;
  guess[6] = w + ne - n;
}

// Colours are corrected by what the same predictors got wrong in the colours before them.
GM_INLINE void correct_guesses(const Neighbours &p, uint32_t pixel, int green, int c, int *guess) {
  int other[PREDICTORS], errors[PREDICTORS] = {};
  for (int earlier = green; earlier < c; ++earlier) {
    simple_guesses(p, earlier, other);
    for (int j = 0; j < PREDICTORS; ++j)
      errors[j] += sample(pixel, earlier) - other[j];
  }
  for (int j = 0; j < PREDICTORS; ++j)
    guess[j] += c - green == 2 ? errors[j] >> 1 : errors[j];
}

GM_INLINE int16_t *errors_at(const Graphics &g, int row, int column, int channel) {
  return g.errors[row & 1] + ((ptrdiff_t)(column + MARGIN) * g.channels + channel) * (PREDICTORS + 1);
}

// A mean weighted by the inverse squares of the errors that each predictor made nearby.
GM_INLINE void blend(const Graphics &g, int row, int column, int c, Numbers &numbers) {
  const int16_t *w = errors_at(g, row, column - 1, c), *n = errors_at(g, row - 1, column, c),
                *nw = errors_at(g, row - 1, column - 1, c), *ne = errors_at(g, row - 1, column + 1, c);
  int64_t total = 0, sum = 0;
  for (int j = 0; j < PREDICTORS; ++j) {
    const int64_t weight = g.tables.inverse_square[w[j] + n[j] + nw[j] + ne[j]];
    total += weight, sum += weight * numbers.guess[j];
  }
  numbers.blended = (int)((8 * sum + (total >> 1)) / total);
  const int error = 2 * w[PREDICTORS] + 2 * n[PREDICTORS] + nw[PREDICTORS] + ne[PREDICTORS];
  static constexpr int BOUNDS[LEVELS - 1] = {7, 24, 50, 90, 152, 248, 395, 622, 972, 1512, 2344, 3629, 5612, 8674};
  numbers.level = 0;
  for (int bound : BOUNDS)
    numbers.level += error >= bound;
}

// The inputs of the adaptive predictor: neighbours minus the mean of W and N, in half grey levels.
GM_INLINE void gather_taps(const Graphics &g, const Neighbours &p, uint32_t pixel, int c, Numbers &numbers) {
  const uint32_t near[10] = {p.w, p.n, p.nw, p.ne, p.ww, p.nn, p.nne, p.nee, p.nww, p.www};
  const int centre = sample(p.w, c) + sample(p.n, c);
  int count = 0;
  for (uint32_t other : near)
    numbers.tap[count++] = 2 * sample(other, c) - centre;
  for (int earlier = g.green; g.green >= 0 && earlier < c; ++earlier) {
    const uint32_t beside[4] = {pixel, p.w, p.nw, p.ne};
    for (uint32_t other : beside)
      numbers.tap[count++] = 2 * sample(other, earlier) - centre;
  }
  numbers.tap[count++] = (numbers.blended >> 2) - centre;
  while (count < ADAPTIVE_TAPS)
    numbers.tap[count++] = 0;
  const int32_t *weight = g.weights + c * ADAPTIVE_TAPS;
  int64_t sum = 0;
  int energy = ENERGY_START;
  for (int i = 0; i < ADAPTIVE_TAPS; ++i)
    sum += (int64_t)weight[i] * numbers.tap[i], energy += numbers.tap[i] * numbers.tap[i];
  numbers.adapted = clamp(8 * centre + (int)(sum >> 13), 0, 255 * 16);
  numbers.energy = energy;
}

// Normalised least mean squares, and the errors and scales that later pixels are coded with.
GM_INLINE void learn_numbers(const Graphics &g, int row, int column, int c, int value, const Numbers &numbers) {
  int16_t *errors = errors_at(g, row, column, c);
  for (int j = 0; j < PREDICTORS; ++j)
    errors[j] = (int16_t)magnitude(numbers.guess[j] - value);
  const int blended_error = magnitude(numbers.blended - 8 * value), adapted_error = 16 * value - numbers.adapted;
  errors[PREDICTORS] = (int16_t)blended_error;
  Scales &scales = g.scales[c];
  int &blended = scales.blended[numbers.level], &adapted = scales.adapted[numbers.level];
  blended = larger(blended + ((256 * blended_error - blended) >> 6), MIN_SCALE);
  adapted = larger(adapted + ((128 * magnitude(adapted_error) - adapted) >> 6), MIN_SCALE);
  const int64_t factor = ((int64_t)ADAPTIVE_STEP * adapted_error << 12) / numbers.energy;
  int32_t *weight = g.weights + c * ADAPTIVE_TAPS;
  for (int i = 0; i < ADAPTIVE_TAPS; ++i)
    weight[i] = clamp(weight[i] + (int)(factor * numbers.tap[i] >> 12), -WEIGHT_REACH, WEIGHT_REACH);
}

// A logistic distribution of a sample: what its mass says of each bit, from the highest on.
struct Distribution {
  int centre, slope; // in 1/8; in 1/256 nat per 1/8, in 2**-8
  int below, above;
};

GM_INLINE Distribution distribution(int centre, int scale) {
  return {centre, LOGISTIC_SLOPE / scale, 0, 1 << LOGISTIC_BITS};
}

// The mass below ``edge``, in 1/8.
GM_INLINE int mass_below(const MixingTables &tables, const Distribution &d, int edge) {
  const int x = (edge - d.centre) * d.slope >> 8;
  return tables.logistic[LOGISTIC_REACH + clamp(x, -LOGISTIC_REACH, LOGISTIC_REACH)];
}

GM_INLINE int bit_input(const MixingTables &tables, const Distribution &d, int middle) {
  const uint32_t upper = (uint32_t)(d.above - middle + 1), whole = (uint32_t)(d.above - d.below + 2);
  return stretch(tables, (int)(smaller(upper << 12, (whole << 12) - 1) / whole));
}

} // namespace gm::GM_ISA
