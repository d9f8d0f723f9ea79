// SPDX-License-Identifier: MIT
// The log-likelihood of some pixels, and its slopes, as a function of parameters: changes of a net's last biases and of
// its linear predictor.  models/local/fit_spec.py is the specification.
//
// Unlike all other code, this is floating point with rounding.  Yet every machine computes the same numbers: each lane
// of a vector is one pixel, computed by + - * / in a fixed order, and the order of sums over pixels does not depend on
// the length of vectors.
#pragma once

#include "gmcodec.h"
#include "memory.hpp"
#include "smooth.hpp"
#include "window.hpp"

namespace gm::GM_ISA {

constexpr double MASS_FLOOR = 0x1p-24; // least mass of any value, so that outliers do not dominate the fit

// The pixels, in groups of MAX_REALS.  A row holds one number of each pixel of a group: the outputs, centres and
// samples, then the inputs of the linear predictor.  float holds them exactly.  After the last pixel there are zeros.
struct FitPixels {
  int64_t n;
  int channels, mixtures, outputs, near;
  int parameters; // number of outputs, then of the predictor's weights [channels, near]
  int rows;       // numbers of a pixel
  float *values;  // [groups, rows, MAX_REALS]

  int64_t groups() const { return (n + MAX_REALS - 1) / MAX_REALS; }
  const float *group(int64_t g) const { return values + g * rows * MAX_REALS; }
  int live(int64_t g) const { return (int)smaller<int64_t>(MAX_REALS, n - g * MAX_REALS); }
};

inline FitPixels allocate_fit_pixels(Arena &arena, const gm_fit_data &data) {
  FitPixels s{};
  const int c = data.channels;
  s.n = data.n, s.channels = c, s.mixtures = data.mixtures, s.near = data.near_count;
  s.outputs = data.mixtures * (1 + 2 * c + c * (c - 1) / 2);
  s.parameters = s.outputs + c * s.near;
  s.rows = s.outputs + 2 * c + s.near;
  s.values = arena.allocate<float>((size_t)s.groups() * s.rows * MAX_REALS);
  return s;
}

inline void fill_fit_pixels(const gm_fit_data &data, FitPixels &s) {
  for (int64_t i = 0; i < s.n; ++i) {
    float *to = s.values + i / MAX_REALS * s.rows * MAX_REALS + i % MAX_REALS;
    const int32_t *outputs = data.outputs + i * s.outputs;
    const int16_t *features = data.features + i * data.feature_count;
    for (int j = 0; j < s.outputs; ++j, to += MAX_REALS)
      *to = (float)(outputs[j] * data.units[j]);
    for (int c = 0; c < s.channels; ++c, to += MAX_REALS)
      *to = (float)(data.base[i * s.channels + c] * (1.0 / POSITION));
    for (int c = 0; c < s.channels; ++c, to += MAX_REALS)
      *to = data.target[c * s.n + i];
    for (int j = 0; j < s.near; ++j, to += MAX_REALS)
      *to = features[data.near[j]];
  }
}

// REALS pixels of a group, and their slopes at theta.  CHANNELS is a template parameter so that loops are unrolled.
template <int CHANNELS> struct PixelVector {
  const int mixtures, near;
  const float *values; // [rows, MAX_REALS]
  const double *theta; // [parameters]
  double *slopes;      // results: [parameters, MAX_REALS]
  Reals residual[CHANNELS], by_base[CHANNELS];
  Reals weight[MAX_MIXTURES], joint[MAX_MIXTURES];
  Reals by_mean[CHANNELS][MAX_MIXTURES], by_scale[CHANNELS][MAX_MIXTURES];

  // It leaves the arrays uninitialised, because they are large and mostly unused.
  PixelVector(const FitPixels &pixels, const float *numbers, const double *changes, double *to)
      : mixtures(pixels.mixtures), near(pixels.near), values(numbers), theta(changes), slopes(to) {}

  // Outputs come in groups of K: the logits, each channel's means, each one's log-scales, each two channels' couplings.
  static constexpr int mean_group(int channel) { return 1 + channel; }
  static constexpr int scale_group(int channel) { return 1 + CHANNELS + channel; }
  static constexpr int coupling_group(int channel, int before) {
    return 1 + 2 * CHANNELS + channel * (channel - 1) / 2 + before;
  }
  static constexpr int GROUPS = coupling_group(CHANNELS, 0);

  int outputs() const { return GROUPS * mixtures; }
  Reals value(int at) const { return reals(load<Floats>(values + at * MAX_REALS)); }
  Reals base(int channel) const { return value(outputs() + channel); }
  Reals target(int channel) const { return value(outputs() + CHANNELS + channel); }
  Reals difference(int at) const { return value(outputs() + 2 * CHANNELS + at); }
  Reals output(int group, int k) const { return value(group * mixtures + k) + theta[group * mixtures + k]; }

  void put_slope(int group, int k, Reals slope) { store(slopes + (group * mixtures + k) * MAX_REALS, slope); }
};

template <int CHANNELS> GM_INLINE void find_residuals(PixelVector<CHANNELS> &p) {
  const double *change = p.theta + p.outputs();
  Reals centre[CHANNELS];
  for (int c = 0; c < CHANNELS; ++c)
    centre[c] = p.base(c);
  for (int j = 0; j < p.near; ++j)
    for (int c = 0; c < CHANNELS; ++c)
      centre[c] += change[c * p.near + j] * p.difference(j);
  for (int c = 0; c < CHANNELS; ++c)
    p.residual[c] = p.target(c) - centre[c], p.by_base[c] = splat(0);
}

template <int CHANNELS> GM_INLINE void find_weights(PixelVector<CHANNELS> &p) {
  Reals largest = p.output(0, 0), total{};
  for (int k = 1; k < p.mixtures; ++k)
    largest = maximum(largest, p.output(0, k));
  for (int k = 0; k < p.mixtures; ++k)
    total += p.weight[k] = exponential(p.output(0, k) - largest);
  for (int k = 0; k < p.mixtures; ++k)
    p.joint[k] = p.weight[k] /= total;
}

// A logistic's mass from 1/2 below a sample to 1/2 above it, and its slopes.  ``off``: the sample minus the mean.
// Samples 0 and 255 have all mass beyond them, too.
template <int CHANNELS>
GM_INLINE void find_mass(PixelVector<CHANNELS> &p, int channel, int k, Reals off, Reals inverse) {
  const Reals target = p.target(channel), one = splat(1), none = splat(0);
  Reals a = (off + 0.5) * inverse, b = (off - 0.5) * inverse;
  Reals ea = exponential(a < 0 ? a : -a), eb = exponential(b < 0 ? b : -b);
  Reals quotient = 1 / ((1 + ea) * (1 + eb)), qa = quotient * (1 + eb), qb = quotient * (1 + ea); // 1 / (1 + e)
  Reals above = a < 0 ? ea * qa : qa, below = b < 0 ? eb * qb : qb;
  Reals da = ea * qa * qa, db = eb * qb * qb; // derivatives of the logistic function
  above = target > 254.5 ? one : above, da = target > 254.5 ? none : da;
  below = target < 0.5 ? none : below, db = target < 0.5 ? none : db;
  Reals mass = above - below + MASS_FLOOR, inverse_mass = 1 / mass;
  p.joint[k] *= mass;
  p.by_mean[channel][k] = inverse * (db - da) * inverse_mass;
  p.by_scale[channel][k] = (b * db - a * da) * inverse_mass;
}

template <int CHANNELS> GM_INLINE void find_logistics(PixelVector<CHANNELS> &p, int k) {
  for (int c = 0; c < CHANNELS; ++c) {
    Reals mean = p.output(p.mean_group(c), k);
    for (int before = 0; before < c; ++before)
      mean += p.output(p.coupling_group(c, before), k) * p.residual[before];
    Reals scale = clamp(p.output(p.scale_group(c), k), splat(LOG_SCALE_MIN), splat(LOG_SCALE_MAX));
    find_mass(p, c, k, p.residual[c] - mean, exponential(-scale));
  }
}

// ``posterior``: of logistic k, given the pixel.
template <int CHANNELS> GM_INLINE void put_slopes(PixelVector<CHANNELS> &p, int k, Reals posterior) {
  p.put_slope(0, k, posterior - p.weight[k]);
  for (int c = 0; c < CHANNELS; ++c) {
    Reals by_mean = p.by_mean[c][k] * posterior;
    p.put_slope(p.mean_group(c), k, by_mean);
    p.put_slope(p.scale_group(c), k, p.by_scale[c][k] * posterior);
    p.by_base[c] += by_mean;
    for (int before = 0; before < c; ++before) {
      p.put_slope(p.coupling_group(c, before), k, by_mean * p.residual[before]);
      p.by_base[before] -= by_mean * p.output(p.coupling_group(c, before), k);
    }
  }
}

template <int CHANNELS> GM_INLINE void put_predictor_slopes(const PixelVector<CHANNELS> &p) {
  double *to = p.slopes + (ptrdiff_t)p.outputs() * MAX_REALS;
  for (int j = 0; j < p.near; ++j, to += MAX_REALS)
    for (int c = 0; c < CHANNELS; ++c)
      store(to + c * p.near * MAX_REALS, p.by_base[c] * p.difference(j));
}

template <int CHANNELS>
inline void evaluate(const FitPixels &pixels, int64_t group, const double *theta, double *logs, double *slopes) {
  for (int lane = 0; lane < MAX_REALS; lane += REALS) {
    PixelVector<CHANNELS> p(pixels, pixels.group(group) + lane, theta, slopes + lane);
    find_residuals(p);
    find_weights(p);
    Reals total{};
    for (int k = 0; k < p.mixtures; ++k) {
      find_logistics(p, k);
      total += p.joint[k];
    }
    store(logs + lane, logarithm(total));
    const Reals inverse_total = 1 / total;
    for (int k = 0; k < p.mixtures; ++k)
      put_slopes(p, k, p.joint[k] * inverse_total);
    put_predictor_slopes(p);
  }
}

// The log-likelihoods of a group's pixels, [MAX_REALS], and their slopes, [parameters, MAX_REALS].
inline void evaluate_group(const FitPixels &pixels, int64_t group, const double *theta, double *logs, double *slopes) {
  const auto run = pixels.channels == 3 ? evaluate<3> : pixels.channels == 2 ? evaluate<2> : evaluate<1>;
  run(pixels, group, theta, logs, slopes);
}

} // namespace gm::GM_ISA
