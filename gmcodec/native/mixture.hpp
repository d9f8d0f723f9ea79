// SPDX-License-Identifier: MIT
// From the outputs of nets to mixtures of logistics: exact/logistic.py and models/local/spec.py are the specification.
//
// Several nets, the members of an ensemble, may predict the same pixels.  Their logistics make one mixture, in which
// each member has a mixing weight.  All numbers are integers in float64.  Only products that lie beyond the ends of the
// logistic table can exceed 2**53; they are clamped to the end, so their rounding does not matter.
#pragma once

#include "ans.hpp"
#include "window.hpp"

namespace gm::GM_ISA {

constexpr int NIBBLES = 16;
constexpr int64_t SPREAD = ROW_TOTAL - NIBBLES; // frequency to share out after each of 16 symbols has got its 1
constexpr int WEIGHT_BITS = 14;
constexpr int64_t TOP = (int64_t)1 << (WEIGHT_BITS + TOTAL_BITS); // mass of everything
constexpr int SOFTMAX_ENTRIES = 1024, INVERSE_ENTRIES = (LOG_SCALE_MAX - LOG_SCALE_MIN) * LOG_SCALE_UNIT + 1;
constexpr int SIGMOID_REACH = 17 * 512; // of the logistic table to either side, in entries
constexpr int COUPLING_BITS = 12, INVERSE_BITS = 16;
constexpr int MAX_MEMBERS = 2, MAX_LOGISTICS = MAX_MEMBERS * MAX_MIXTURES;
constexpr int MIXING_BITS = 24, MIXING_RATE_BITS = 9;
constexpr int64_t MAX_MIXING_PIXELS = 1 << 8, MIN_MIXING_WEIGHT = 1 << (MIXING_BITS - 6);

GM_INLINE double power(int exponent) { return __builtin_ldexp(1.0, exponent); }

struct Tables {
  const int32_t *softmax, *inverse, *sigmoid;
};

// A member's outputs for N pixels.
struct MemberOutputs {
  const int32_t *outputs; // [N, stride]: logits, means, log-scales, couplings of K logistics
  ptrdiff_t stride;
  const int32_t *base; // [N, C]
  int mixtures;
  Tables tables;
};

// Scratch: the logistics of N pixels, [N, size].  Some of weight zero fill up whole vectors.
struct Mixture {
  int size;
  double *weight, *mean, *inverse;
  int64_t *first, *below, *above; // [N]: a sample's nibbles so far, and the masses at both ends of their interval
};

inline Mixture allocate_mixture(Arena &arena, int pixels, int mixtures) {
  Mixture mix;
  mix.size = round_up(mixtures, MAX_REALS);
  size_t count = (size_t)pixels * mix.size;
  mix.weight = arena.allocate<double>(count);
  mix.mean = arena.allocate<double>(count);
  mix.inverse = arena.allocate<double>(count);
  mix.first = arena.allocate<int64_t>(pixels);
  mix.below = arena.allocate<int64_t>(pixels);
  mix.above = arena.allocate<int64_t>(pixels);
  return mix;
}

// Scale non-negative weights with this total to a total of 2**14; the remainder goes to the first of the largest.
// Weights are below 2**39 and quotients at most 2**14, so float64 never rounds a quotient up to an integer.
GM_INLINE void normalise(double *weight, int size, double total) {
  int largest = 0;
  for (int k = 1; k < size; ++k)
    largest = weight[k] > weight[largest] ? k : largest;
  Reals assigned{};
  for (int k = 0; k < size; k += REALS) {
    Reals scaled_weight = floor(load<Reals>(weight + k) * splat(1 << WEIGHT_BITS) / splat(total));
    store(weight + k, scaled_weight);
    assigned += scaled_weight;
  }
  weight[largest] += (1 << WEIGHT_BITS) - sum(assigned);
}

// A member's mixture weights for a pixel before any sample is known: logistic.softmax.
GM_INLINE void softmax(const int32_t *logits, int mixtures, const int32_t *table, double *weight) {
  int32_t top = logits[0];
  for (int k = 1; k < mixtures; ++k)
    top = larger(top, logits[k]);
  double total = 0;
  for (int k = 0; k < mixtures; ++k) {
    int64_t below = smaller((int64_t)top - logits[k], (int64_t)SOFTMAX_ENTRIES - 1);
    weight[k] = table[below], total += weight[k];
  }
  double assigned = 0;
  int largest = 0;
  for (int k = 1; k < mixtures; ++k)
    largest = weight[k] > weight[largest] ? k : largest;
  for (int k = 0; k < mixtures; ++k)
    weight[k] = __builtin_floor(weight[k] * (1 << WEIGHT_BITS) / total), assigned += weight[k];
  weight[largest] += (1 << WEIGHT_BITS) - assigned;
}

// Mixture weights of n pixels before any sample is known.  ``mixing``: the members' mixing weights, in 2**-MIXING_BITS.
static inline void prior_weights(Mixture &mix, const MemberOutputs *members, int member_count, const int64_t *mixing,
                                 int n) {
  for (int i = 0; i < n; ++i) {
    double *weight = mix.weight + (ptrdiff_t)i * mix.size, total = 0;
    int first = 0;
    for (int v = 0; v < member_count; ++v) {
      const MemberOutputs &member = members[v];
      softmax(member.outputs + i * member.stride, member.mixtures, member.tables.softmax, weight + first);
      double member_weight = (double)(mixing[v] >> (MIXING_BITS - WEIGHT_BITS));
      total += member_weight * (1 << WEIGHT_BITS);
      for (int k = first; k < first + member.mixtures && member_count > 1; ++k)
        weight[k] *= member_weight;
      first += member.mixtures;
    }
    if (member_count > 1)
      normalise(weight, mix.size, total);
  }
}

// A member's means and inverse scales for a channel of a pixel, given the samples [C] of earlier channels.
GM_INLINE void channel_logistics(const int32_t *outputs, const int32_t *base, const int32_t *samples, int channel,
                                 int channels, int mixtures, const int32_t *inverse_table, int shift, double *mean,
                                 double *inverse) {
  const int32_t *means = outputs + mixtures * (1 + channel);
  const int32_t *scales = outputs + mixtures * (1 + channels + channel);
  const int32_t *couplings = outputs + mixtures * (1 + 2 * channels + channel * (channel - 1) / 2);
  for (int k = 0; k < mixtures; ++k) {
    mean[k] = (double)base[channel] + means[k];
    int index = clamp(scales[k] - LOG_SCALE_MIN * LOG_SCALE_UNIT, 0, INVERSE_ENTRIES - 1);
    inverse[k] = inverse_table[index];
  }
  for (int before = 0; before < channel; ++before, couplings += mixtures) {
    double residual = (double)(((int64_t)samples[before] * POSITION >> shift) - base[before]);
    for (int k = 0; k < mixtures; ++k)
      mean[k] += __builtin_floor(couplings[k] * residual * (1.0 / (1 << COUPLING_BITS)));
  }
}

// The same for all members and n pixels; samples [N, C].
static inline void mixture_logistics(Mixture &mix, const MemberOutputs *members, int member_count,
                                     const int32_t *samples, int channel, int channels, int shift, int n) {
  for (int i = 0; i < n; ++i) {
    ptrdiff_t at = (ptrdiff_t)i * mix.size;
    for (int v = 0; v < member_count; at += members[v].mixtures, ++v)
      channel_logistics(members[v].outputs + i * members[v].stride, members[v].base + (ptrdiff_t)i * channels,
                        samples + (ptrdiff_t)i * channels, channel, channels, members[v].mixtures,
                        members[v].tables.inverse, shift, mix.mean + at, mix.inverse + at);
  }
}

// Where an edge lies on logistics, in entries of the logistic table from its middle, clamped to its ends.
GM_INLINE Reals table_index(Reals edge, Reals mean, Reals inverse) {
  Reals u = floor((edge - mean) * inverse * splat(1.0 / (1 << INVERSE_BITS)));
  return clamp(u, splat(-SIGMOID_REACH), splat(SIGMOID_REACH));
}

// One pixel's logistics.
struct Logistics {
  int size;
  double *weight;
  const double *mean, *inverse;
  const int32_t *sigmoid; // the middle of the table
};

GM_INLINE Logistics logistics(const Mixture &mix, ptrdiff_t i, const Tables &tables) {
  ptrdiff_t at = i * mix.size;
  return {mix.size, mix.weight + at, mix.mean + at, mix.inverse + at, tables.sigmoid + SIGMOID_REACH};
}

// The mixture's mass below a sample of 8 bits, in 0..2**38: logistic.cumulative.
GM_INLINE int64_t mass_below(const Logistics &p, int64_t sample, const Scale &) {
  Reals edge = splat((double)(sample * POSITION - POSITION / 2)), total{};
  for (int k = 0; k < p.size; k += REALS) {
    Reals u = table_index(edge, load<Reals>(p.mean + k), load<Reals>(p.inverse + k));
    total += load<Reals>(p.weight + k) * look_up(p.sigmoid, u);
  }
  return (int64_t)sum(total);
}

constexpr int EDGE_BITS = 4;            // fraction bits of an edge, in the unit of means
constexpr int SIGMOID_BETWEEN_BITS = 8; // bits of a position between two entries of the logistic table
constexpr int SIGMOID_BETWEEN = 1 << SIGMOID_BETWEEN_BITS;

// The same for a sample of more than 8 bits, whose edges lie between entries of the table, so it is interpolated:
// models/online/high_depth_spec.py.
GM_INLINE int64_t fine_mass_below(const Logistics &p, int64_t sample, const Scale &scale) {
  int64_t at = (sample * (POSITION << EDGE_BITS) - (POSITION << EDGE_BITS) / 2) >> scale.shift;
  Reals edge = splat((double)at), total{};
  for (int k = 0; k < p.size; k += REALS) {
    Reals u = (edge - load<Reals>(p.mean + k) * splat(1 << EDGE_BITS)) * load<Reals>(p.inverse + k);
    u = floor(u * splat(power(SIGMOID_BETWEEN_BITS - INVERSE_BITS - EDGE_BITS)));
    u = clamp(u, splat(-SIGMOID_REACH * (double)SIGMOID_BETWEEN), splat(SIGMOID_REACH * (double)SIGMOID_BETWEEN));
    Reals entry = minimum(floor(u * splat(1.0 / SIGMOID_BETWEEN)), splat(SIGMOID_REACH - 1));
    Reals low = look_up(p.sigmoid, entry), high = look_up(p.sigmoid + 1, entry);
    Reals value = low + floor((high - low) * (u - entry * splat(SIGMOID_BETWEEN)) * splat(1.0 / SIGMOID_BETWEEN));
    total += load<Reals>(p.weight + k) * value;
  }
  return (int64_t)sum(total);
}

// Update mixture weights in place by Bayes' rule, given a sample: logistic.observe, online.spec.observe.
GM_INLINE void observe(const Logistics &p, int64_t sample, const Scale &scale) {
  double at = (double)(sample * POSITION >> scale.shift);
  Reals lower = splat(at - scale.half_width), upper = splat(at + scale.half_width), total{};
  for (int k = 0; k < p.size; k += REALS) {
    Reals mean = load<Reals>(p.mean + k), inverse = load<Reals>(p.inverse + k);
    Reals below = sample > 0 ? look_up(p.sigmoid, table_index(lower, mean, inverse)) : Reals{};
    Reals above = sample < scale.max_sample ? look_up(p.sigmoid, table_index(upper, mean, inverse)) : splat(ROW_TOTAL);
    Reals weight = load<Reals>(p.weight + k) * (above - below + splat(1));
    store(p.weight + k, weight);
    total += weight;
  }
  normalise(p.weight, p.size, sum(total));
}

// Add the members' responsibilities for n pixels: each member's part of the mixture weights after all samples are
// known.
static inline void add_responsibilities(const Mixture &mix, const MemberOutputs *members, int member_count, int n,
                                        int64_t *responsibilities) {
  for (int i = 0; i < n; ++i) {
    const double *weight = mix.weight + (ptrdiff_t)i * mix.size;
    for (int v = 0; v < member_count; weight += members[v].mixtures, ++v)
      for (int k = 0; k < members[v].mixtures; ++k)
        responsibilities[v] += (int64_t)weight[k];
  }
}

// Move the mixing weights towards the members' mean responsibilities for this number of pixels: online EM.
static inline void update_mixing(int64_t *mixing, const int64_t *responsibilities, int member_count, int64_t pixels) {
  for (int v = 0; v < member_count; ++v) {
    int64_t mean = (responsibilities[v] << (MIXING_BITS - WEIGHT_BITS)) / pixels;
    int64_t moved = mixing[v] + (((mean - mixing[v]) * smaller(pixels, MAX_MIXING_PIXELS)) >> MIXING_RATE_BITS);
    mixing[v] = larger(moved, MIN_MIXING_WEIGHT);
  }
}

} // namespace gm::GM_ISA
