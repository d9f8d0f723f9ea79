// SPDX-License-Identifier: MIT
// The gradient of a pixel's cost with respect to a net's outputs: online.spec.mixture_gradient is the specification.
//
// The cost is -log p in nats, where p is the probability in a mixture of coupled logistics.  Let pi be the mixture
// weights before any sample is known, r those after all are known, a and b the edges of a sample on a logistic,
// s = sigma(a), t = sigma(b).  Then the derivatives are
//
//   by a logit       pi - r
//   by a mean        r (1 - s - t) / scale                        since sigma' = sigma (1 - sigma)
//   by a log-scale   r (b sigma'(b) - a sigma'(a)) / (t - s)
//   by a coupling    (derivative by the mean) * (residual of the earlier channel)
//
// all times 2**16.  Quotients by t - s are clamped to the reach of the table; float64 rounds no quotient that small up
// to an integer.  A product for a coupling is exact, or so large that it is clamped.
//
// Names: by_mean, say, is the derivative with respect to a mean.
#pragma once

#include "mixture.hpp"

namespace gm::GM_ISA {

constexpr double COUPLING_GRADIENT_LIMIT = 137438953472.0; // 2**37

GM_INLINE double scaled(double value, int shift) { return __builtin_floor(value * power(-shift)); }
GM_INLINE Reals scaled(Reals value, int shift) { return floor(value * splat(power(-shift))); }

// u sigma'(u), in units of 2**-24 / 512.
GM_INLINE Reals sloped(Reals u, Reals sigma) { return u * scaled(sigma * (splat(ROW_TOTAL) - sigma), TOTAL_BITS); }

// The logistics of a channel of a pixel, the edges of its sample on them, and the masses below these edges.
struct Edges {
  alignas(64) double mean[MAX_LOGISTICS], inverse[MAX_LOGISTICS];
  alignas(64) double lower[MAX_LOGISTICS], upper[MAX_LOGISTICS], below[MAX_LOGISTICS], above[MAX_LOGISTICS];
};

// A pixel's gradients: float64 ``out`` [outputs] by the outputs, ``centre`` [channels] by the base.
static inline void mixture_gradient(const Tables &tables, const Scale &scale, int channels, int mixtures,
                                    const int32_t *outputs, const int32_t *base, const int32_t *samples, double *out,
                                    double *centre) {
  const int size = round_up(mixtures, MAX_REALS);
  const int32_t *sigmoid = tables.sigmoid + SIGMOID_REACH;
  alignas(64) double prior[MAX_LOGISTICS] = {}, weight[MAX_LOGISTICS];
  Edges edges[MAX_CHANNELS];
  softmax(outputs, mixtures, tables.softmax, prior);
  memcpy(weight, prior, sizeof weight);
  for (int c = 0; c < channels; ++c) {
    Edges &e = edges[c];
    for (int k = mixtures; k < size; ++k)
      e.mean[k] = 0, e.inverse[k] = 0;
    channel_logistics(outputs, base, samples, c, channels, mixtures, tables.inverse, scale.shift, e.mean, e.inverse);
    const double at = (double)((int64_t)samples[c] * POSITION >> scale.shift);
    Reals total{};
    for (int k = 0; k < size; k += REALS) {
      Reals mean = load<Reals>(e.mean + k), inverse = load<Reals>(e.inverse + k);
      Reals a = table_index(splat(at - scale.half_width), mean, inverse),
            b = table_index(splat(at + scale.half_width), mean, inverse);
      Reals s = samples[c] > 0 ? look_up(sigmoid, a) : Reals{};
      Reals t = samples[c] < scale.max_sample ? look_up(sigmoid, b) : splat(ROW_TOTAL);
      store(e.lower + k, a), store(e.upper + k, b), store(e.below + k, s), store(e.above + k, t);
      Reals known = load<Reals>(weight + k) * (t - s + splat(1));
      store(weight + k, known);
      total += known;
    }
    normalise(weight, size, sum(total));
    centre[c] = 0;
  }
  for (int k = 0; k < mixtures; ++k)
    out[k] = (prior[k] - weight[k]) * 4;
  for (int c = 0; c < channels; ++c) {
    const Edges &e = edges[c];
    alignas(64) double by_mean[MAX_LOGISTICS], by_scale[MAX_LOGISTICS];
    for (int k = 0; k < size; k += REALS) {
      Reals r = load<Reals>(weight + k), s = load<Reals>(e.below + k), t = load<Reals>(e.above + k);
      Reals inside = scaled(r * (splat(ROW_TOTAL) - s - t), WEIGHT_BITS);
      store(by_mean + k, scaled(inside * load<Reals>(e.inverse + k), 27));
      Reals ratio =
          floor((sloped(load<Reals>(e.upper + k), t) - sloped(load<Reals>(e.lower + k), s)) / (t - s + splat(1)));
      store(by_scale + k, scaled(r * clamp(ratio, splat(-SIGMOID_REACH), splat(SIGMOID_REACH)), 7));
    }
    for (int k = 0; k < mixtures; ++k) {
      out[mixtures * (1 + c) + k] = by_mean[k];
      out[mixtures * (1 + channels + c) + k] = by_scale[k];
      centre[c] += by_mean[k];
    }
    for (int p = 0; p < c; ++p) {
      const int first = mixtures * (1 + 2 * channels + c * (c - 1) / 2 + p);
      const double residual = (double)(((int64_t)samples[p] * POSITION >> scale.shift) - base[p]);
      for (int k = 0; k < mixtures; ++k) {
        double change = scaled(by_mean[k] * residual, 6);
        out[first + k] = clamp(change, -COUPLING_GRADIENT_LIMIT, COUPLING_GRADIENT_LIMIT);
        centre[p] -= scaled(by_mean[k] * outputs[first + k], COUPLING_BITS);
      }
    }
  }
}

} // namespace gm::GM_ISA
