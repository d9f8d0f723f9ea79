// SPDX-License-Identifier: MIT
// The inputs of a local net, from a canvas of samples: models/local/spec.py is the specification.
#pragma once

#include "memory.hpp"
#include "units.hpp"

namespace gm::GM_ISA {

constexpr int CLAMP = 127;  // no difference to the local mean is larger, in grey levels
constexpr int OUTSIDE = -1; // a sample outside the image
constexpr int MAX_FEATURES = 1024;
constexpr int WIDE = 16;              // samples in a vector
constexpr int MAX_RUN = 2 * WIDE + 2; // pixels of a run

struct Window {
  int channels, features, runs;
  int32_t *run; // [runs, 3]: dy, first dx, pixels
  int near;     // number of inputs of the linear predictor
  int32_t *near_column;
  int32_t *near_weight; // [channels, near]
  int32_t multiplier[MAX_CHANNELS], shift[MAX_CHANNELS];
};

inline void allocate(Arena &arena, int channels, int runs, const gm_layer_data &linear, Window &window) {
  window.channels = channels, window.runs = runs, window.near = linear.columns;
  window.run = arena.allocate<int32_t>(3 * runs);
  window.near_column = arena.allocate<int32_t>(window.near);
  window.near_weight = arena.allocate<int32_t>((size_t)channels * window.near);
}

inline void fill(const int32_t *run, const int32_t *near, const gm_layer_data &linear, Window &window) {
  memcpy(window.run, run, 3 * sizeof(int32_t) * window.runs);
  memcpy(window.near_column, near, sizeof(int32_t) * window.near);
  for (int k = 0; k < window.channels * window.near; ++k)
    window.near_weight[k] = linear.weight[k];
  for (int c = 0; c < window.channels; ++c)
    window.multiplier[c] = linear.multiplier[c], window.shift[c] = linear.shift[c];
}

typedef int16_t WideVector __attribute__((vector_size(2 * WIDE)));

// A run of the window minus the means.  Samples of 8 bits are read WIDE at a time; the last vector may overlap the one
// before, so that no read passes the end.
GM_INLINE void differences(const int16_t *from, int length, const int16_t *means, const Scale &scale, int16_t *out) {
  if (scale.shift == 0 && length >= WIDE) {
    for (int e = 0; e < length; e += WIDE) {
      int at = smaller(e, length - WIDE);
      WideVector value = load<WideVector>(from + at), mean = load<WideVector>(means + at);
      WideVector difference = value - mean, top = WideVector{} + (int16_t)CLAMP;
      difference = difference < top ? difference : top;
      difference = difference > -top ? difference : -top;
      store(out + at, value != (int16_t)OUTSIDE ? difference : WideVector{});
    }
    return;
  }
  for (int e = 0; e < length; ++e) {
    int level = (from[e] - means[e] + ((1 << scale.shift) >> 1)) >> scale.shift;
    out[e] = from[e] == OUTSIDE ? 0 : (int16_t)clamp(level, -CLAMP, CLAMP);
  }
}

GM_INLINE void differences(const int32_t *from, int length, const int32_t *means, const Scale &scale, int16_t *out) {
  for (int e = 0; e < length; ++e) {
    int level = (from[e] - means[e] + ((1 << scale.shift) >> 1)) >> scale.shift;
    int16_t inside = (int16_t)clamp(level, -CLAMP, CLAMP);
    out[e] = from[e] == OUTSIDE ? (int16_t)0 : inside;
  }
}

// The mean of the samples to the left and above; if only one exists, that one; if none does, mid-grey.
template <typename Sample>
GM_INLINE int local_mean(const Sample *here, int channels, ptrdiff_t row_size, int extra_bits) {
  int left = here[-channels], above = here[-row_size];
  left = left == OUTSIDE ? above : left;
  above = above == OUTSIDE ? left : above;
  return left == OUTSIDE ? 128 << extra_bits : (left + above) >> 1;
}

// Features int16 [features] of the pixel whose first sample is ``here``, and the centres of its means, int32 [channels]
// in 1/64 grey level: the local mean plus the linear prediction.
template <typename Sample>
static void features(const Window &window, const Sample *here, ptrdiff_t row_size, const Scale &scale, int16_t *out,
                     int32_t *base) {
  const int channels = window.channels;
  int mean[MAX_CHANNELS];
  Sample means[MAX_CHANNELS * MAX_RUN]; // the means again and again, as long as the longest run
  for (int c = 0; c < channels; ++c)
    mean[c] = local_mean(here + c, channels, row_size, scale.extra_bits);
  for (int e = 0; e < MAX_RUN; ++e)
    for (int c = 0; c < channels; ++c)
      means[e * channels + c] = (Sample)mean[c];
  int16_t *to = out;
  for (int r = 0; r < window.runs; ++r) {
    const int32_t *run = window.run + 3 * r;
    const int length = run[2] * channels;
    differences(here + run[0] * row_size + run[1] * channels, length, means, scale, to);
    to += length;
  }
  for (int c = 0; c < channels; ++c)
    to[c] = (int16_t)((mean[c] >> scale.extra_bits) - 128);
  int32_t near[MAX_FEATURES];
  for (int k = 0; k < window.near; ++k)
    near[k] = out[window.near_column[k]];
  for (int c = 0; c < channels; ++c) {
    const int32_t *weight = window.near_weight + (ptrdiff_t)c * window.near;
    int32_t sum = 0;
    for (int k = 0; k < window.near; ++k)
      sum += near[k] * weight[k];
    int64_t half = (int64_t)1 << (window.shift[c] - 1);
    int64_t correction = ((int64_t)sum * window.multiplier[c] + half) >> window.shift[c];
    base[c] = (int32_t)(((mean[c] * POSITION) >> scale.shift) + correction);
  }
}

} // namespace gm::GM_ISA
