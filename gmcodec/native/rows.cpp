// SPDX-License-Identifier: MIT
// Rows of frequencies for coding/stack.py: exact/logistic.py and exact/gaussian.py are the specification.
#include "gmcodec.h"
#include "mixture.hpp"
#include "nibbles.hpp"

namespace gm::GM_ISA {

// The logistics of a pixel.  Some of weight zero fill up whole vectors.
struct Pixel {
  alignas(64) double weight[MAX_LOGISTICS], mean[MAX_LOGISTICS], inverse[MAX_LOGISTICS];
  Logistics logistics;
};

GM_INLINE void load_pixel(Pixel &p, const int64_t *weight, const int64_t *mean, const int64_t *inverse, int k,
                          const int32_t *sigmoid) {
  const int size = round_up(k, MAX_REALS);
  for (int i = 0; i < size; ++i) {
    p.weight[i] = i < k ? (double)weight[i] : 0;
    p.mean[i] = i < k ? (double)mean[i] : 0;
    p.inverse[i] = i < k ? (double)inverse[i] : 0;
  }
  p.logistics = {size, p.weight, p.mean, p.inverse, sigmoid + SIGMOID_REACH};
}

void softmax_rows(const int32_t *outputs, int64_t row, int64_t n, int32_t k, const int32_t *table, int64_t *weights) {
  double weight[MAX_LOGISTICS];
  for (int64_t i = 0; i < n; ++i) {
    softmax(outputs + i * row, k, table, weight);
    for (int j = 0; j < k; ++j)
      weights[i * k + j] = (int64_t)weight[j];
  }
}

void channel_rows(const int32_t *outputs, int64_t row, const int32_t *base, const int32_t *samples, int64_t n,
                  int32_t channel, int32_t channels, int32_t k, const int32_t *inverse_table, int64_t *mean,
                  int64_t *inverse) {
  double means[MAX_LOGISTICS], inverses[MAX_LOGISTICS];
  for (int64_t i = 0; i < n; ++i) {
    channel_logistics(outputs + i * row, base + i * channels, samples + i * channels, channel, channels, k,
                      inverse_table, BYTES.shift, means, inverses);
    for (int j = 0; j < k; ++j)
      mean[i * k + j] = (int64_t)means[j], inverse[i * k + j] = (int64_t)inverses[j];
  }
}

// A row of frequencies, from the masses at its 17 boundaries.
GM_INLINE void put_frequencies(const int64_t *masses, int32_t *row) {
  int64_t before = 0;
  for (int j = 1; j <= NIBBLES; ++j) {
    int64_t end = j == NIBBLES ? ROW_TOTAL : interval_start(j, masses[j], masses[0], masses[NIBBLES]);
    row[j - 1] = (int32_t)(end - before);
    before = end;
  }
}

void nibble_rows(const int64_t *weights, const int64_t *mean, const int64_t *inverse, int64_t n, int32_t k,
                 const int32_t *sigmoid, const int32_t *high, int32_t *rows) {
  Pixel p;
  for (int64_t i = 0; i < n; ++i) {
    load_pixel(p, weights + i * k, mean + i * k, inverse + i * k, k, sigmoid);
    const int64_t first = high ? (int64_t)high[i] * 16 : 0, unit = high ? 1 : 16;
    int64_t masses[NIBBLES + 1];
    for (int64_t j = 0; j <= NIBBLES; ++j) {
      const int64_t sample = first + j * unit;
      masses[j] = sample <= 0 ? 0 : sample >= 256 ? TOP : mass_below(p.logistics, sample, BYTES);
    }
    put_frequencies(masses, rows + i * NIBBLES);
  }
}

void observe_rows(const int32_t *samples, int64_t n, int32_t k, const int64_t *mean, const int64_t *inverse,
                  const int32_t *sigmoid, int64_t *weights) {
  Pixel p;
  for (int64_t i = 0; i < n; ++i) {
    load_pixel(p, weights + i * k, mean + i * k, inverse + i * k, k, sigmoid);
    observe(p.logistics, samples[i], BYTES);
    for (int j = 0; j < k; ++j)
      weights[i * k + j] = (int64_t)p.weight[j];
  }
}

void reweight(int32_t *rows, const int32_t *high, int64_t n, const int64_t *values) {
  for (int64_t i = 0; i < n; ++i, rows += NIBBLES) {
    const int64_t *value = values + (int64_t)high[i] * 16;
    int64_t total = 0, part = 0, before = 0;
    for (int j = 0; j < NIBBLES; ++j)
      total += rows[j] * value[j];
    for (int j = 0; j < NIBBLES && total; ++j) {
      part += rows[j] * value[j];
      int64_t end = part * SPREAD / total + j + 1;
      rows[j] = (int32_t)(end - before);
      before = end;
    }
  }
}

// exact/gaussian.py has the same names.
constexpr int64_t NORMAL_REACH = (int64_t)6 << 16;
constexpr int NORMAL_BETWEEN_BITS = 8, LATENT_SCALE_BITS = 16;

void gaussian_rows(const int64_t *first, int64_t step, const int64_t *mean, const int64_t *log_scale, int64_t n,
                   const int32_t *edges, int64_t edges_count, const int32_t *normal, int64_t normal_count,
                   const int32_t *inverse, int32_t *rows) {
  for (int64_t i = 0; i < n; ++i) {
    int64_t masses[NIBBLES + 1];
    for (int64_t j = 0; j <= NIBBLES; ++j) {
      const int64_t bin = first[i] + j * step;
      if (bin <= 0 || bin > edges_count) {
        masses[j] = bin <= 0 ? 0 : ROW_TOTAL;
        continue;
      }
      int64_t u = ((edges[bin - 1] - mean[i]) * inverse[log_scale[i]]) >> LATENT_SCALE_BITS;
      u = clamp(u, -NORMAL_REACH, NORMAL_REACH) + NORMAL_REACH;
      const int64_t entry = u >> NORMAL_BETWEEN_BITS, between = u & ((1 << NORMAL_BETWEEN_BITS) - 1);
      const int64_t below = normal[entry], above = normal[smaller(entry + 1, normal_count - 1)];
      masses[j] = below + (((above - below) * between) >> NORMAL_BETWEEN_BITS);
    }
    put_frequencies(masses, rows + i * NIBBLES);
  }
}

} // namespace gm::GM_ISA
