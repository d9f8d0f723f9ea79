// SPDX-License-Identifier: MIT
// Code the samples of some pixels nibble by nibble, the highest first.  Each nibble divides the interval of mass that
// the nibbles before it have chosen.
//
// ``find_intervals`` and ``pop_samples`` mirror each other: the first turns known samples into the coder's intervals,
// the second pops samples from a stack.  Order within a channel: for samples of 8 bits, the high nibbles of all pixels,
// then the low ones; for samples of more bits, all nibbles of a pixel, then those of the next.
#pragma once

#include "mixture.hpp"

namespace gm::GM_ISA {

// How samples become nibbles: gm_coding.
struct Coding {
  Scale scale;
  int channels;
  int nibbles;             // of a sample
  const int64_t *values;   // [C, 256]: weights of 8-bit values; null if no channel has any
  const uint8_t *weighted; // [C]: which channels have weights
};

// Between two nibbles: the first quantile of the upper one, and the mixture's mass there.
struct Boundary {
  int64_t start, mass;
};

GM_INLINE int64_t interval_start(int64_t j, int64_t mass, int64_t below, int64_t above) {
  if (above <= below) // no mass at all: uniform
    return j * (SPREAD / NIBBLES) + j;
  return (mass - below) * SPREAD / (above - below) + j;
}

// The boundary below nibble j, 0 to 16.  A sample with nibble j has one of the ``unit`` values from first + j * unit
// on;
// ``below`` and ``above`` are the masses below nibbles 0 and 16.
template <bool HIGH_DEPTH>
GM_INLINE Boundary boundary(const Logistics &p, int64_t j, int64_t first, int64_t unit, int64_t below, int64_t above,
                            const Scale &scale) {
  if (j == 0)
    return {0, below};
  if (j == NIBBLES)
    return {ROW_TOTAL, above};
  if (above <= below)
    return {interval_start(j, below, below, above), below};
  int64_t mass = HIGH_DEPTH ? fine_mass_below(p, first + j * unit, scale) : mass_below(p, first + j * unit, scale);
  return {interval_start(j, mass, below, above), mass};
}

// Running sums [17] of low nibbles' frequencies times the weights of their values: coding/value_weights.py.
static inline void weighted_sums(const Logistics &p, int64_t first, int64_t below, int64_t above, const Scale &scale,
                                 const int64_t *values, int64_t *sums) {
  int64_t before = 0;
  sums[0] = 0;
  for (int64_t j = 1; j <= NIBBLES; ++j) {
    int64_t end = boundary<false>(p, j, first, 1, below, above, scale).start;
    sums[j] = sums[j - 1] + (end - before) * values[first + j - 1];
    before = end;
  }
}

GM_INLINE int64_t weighted_start(int64_t j, const int64_t *sums) { return sums[j] * SPREAD / sums[NIBBLES] + j; }

GM_INLINE Interval interval_between(int64_t start, int64_t end) { return {(uint32_t)start, (uint32_t)(end - start)}; }

// -- one nibble --------------------------------------------------------------------------------------------------

// The interval of nibble j.  ``below`` and ``above`` become the masses at its ends.
template <bool HIGH_DEPTH>
GM_INLINE Interval find_interval(const Logistics &p, int64_t j, int64_t first, int64_t unit, int64_t &below,
                                 int64_t &above, const Scale &scale) {
  Boundary low = boundary<HIGH_DEPTH>(p, j, first, unit, below, above, scale);
  Boundary high = boundary<HIGH_DEPTH>(p, j + 1, first, unit, below, above, scale);
  below = low.mass, above = high.mass;
  return interval_between(low.start, high.start);
}

// Inverse: the nibble whose interval holds the quantile.  The search starts at the mean of the heaviest logistic.
template <bool HIGH_DEPTH>
GM_INLINE int64_t find_nibble(const Logistics &p, int64_t wanted, int64_t likely, int64_t first, int64_t unit,
                              int64_t &below, int64_t &above, const Scale &scale, Interval &found) {
  int64_t low = 0, high = NIBBLES, middle = likely;
  Boundary left{0, below}, right{ROW_TOTAL, above};
  for (int tried = 0; high - low > 1; ++tried) {
    if (tried >= 2)
      middle = (low + high) >> 1;
    middle = clamp(middle, low + 1, high - 1);
    Boundary here = boundary<HIGH_DEPTH>(p, middle, first, unit, below, above, scale);
    if (here.start <= wanted)
      low = middle++, left = here;
    else
      high = middle--, right = here;
  }
  below = left.mass, above = right.mass;
  found = interval_between(left.start, right.start);
  return low;
}

GM_INLINE int64_t find_weighted(const int64_t *sums, int64_t wanted, Interval &found) {
  int64_t low = 0;
  while (low < NIBBLES - 1 && weighted_start(low + 1, sums) <= wanted)
    ++low;
  found = interval_between(weighted_start(low, sums), weighted_start(low + 1, sums));
  return low;
}

GM_INLINE int64_t likely_sample(const Logistics &p, const Scale &scale) {
  int likely = 0;
  for (int k = 1; k < p.size; ++k)
    likely = p.weight[k] > p.weight[likely] ? k : likely;
  double start = clamp(p.mean[likely] + POSITION / 2, 0.0, (double)(1 << 24));
  return ((int64_t)start << scale.shift) / POSITION;
}

// -- the samples of some pixels of a step: find_intervals and pop_samples mirror each other -------------------------

// The bits of intervals.  It multiplies frequencies first, so that it needs few logarithms.
struct Cost {
  double bits = 0, product = 1;
  void add(Interval interval) {
    product *= interval.freq;
    bits += TOTAL_BITS;
    if (product > 1e200)
      flush();
  }
  void flush() { bits -= __builtin_log2(product), product = 1; }
};

// Write the intervals of samples int32 [n, C] and return their bits.  The stack has ``count`` pixels of this step,
// whose intervals begin at ``out``; these n pixels follow the first ``before`` of them.
template <bool HIGH_DEPTH>
static double find_intervals(Mixture &mix, const MemberOutputs *members, int member_count, const int64_t *mixing,
                             int64_t *responsibilities, const int32_t *samples, int n, const Coding &coding,
                             Interval *out, int before, int count) {
  const int channels = coding.channels, rounds = HIGH_DEPTH ? 1 : 2, group = coding.nibbles / rounds;
  const Tables &tables = members[0].tables;
  Cost cost;
  prior_weights(mix, members, member_count, mixing, n);
  for (int channel = 0; channel < channels; ++channel) {
    mixture_logistics(mix, members, member_count, samples, channel, channels, coding.scale.shift, n);
    Interval *to = out + (ptrdiff_t)channel * coding.nibbles * count;
    const bool weighted = !HIGH_DEPTH && coding.values && coding.weighted[channel];
    for (int i = 0; i < n; ++i) {
      const Logistics p = logistics(mix, i, tables);
      const int64_t sample = samples[(ptrdiff_t)i * channels + channel];
      int64_t first = 0, below = 0, above = TOP;
      for (int nibble = coding.nibbles - 1; nibble >= 0; --nibble) {
        const int64_t j = (sample >> (4 * nibble)) & 15, unit = (int64_t)1 << (4 * nibble);
        Interval found{};
        int64_t sums[NIBBLES + 1];
        if (weighted && nibble == 0)
          weighted_sums(p, first, below, above, coding.scale, coding.values + channel * 256, sums);
        if (weighted && nibble == 0 && sums[NIBBLES])
          found = interval_between(weighted_start(j, sums), weighted_start(j + 1, sums));
        else
          found = find_interval<HIGH_DEPTH>(p, j, first, unit, below, above, coding.scale);
        first += j * unit;
        const int number = coding.nibbles - 1 - nibble, round = number / group;
        to[(ptrdiff_t)round * count + (ptrdiff_t)(before + i) * group + number % group] = found;
        cost.add(found);
      }
      if (channel + 1 < channels || member_count > 1)
        observe(p, sample, coding.scale);
    }
  }
  if (member_count > 1)
    add_responsibilities(mix, members, member_count, n, responsibilities);
  cost.flush();
  return cost.bits;
}

// Pop samples int32 [n, C] from a stack.
template <bool HIGH_DEPTH>
static void pop_samples(Mixture &mix, const MemberOutputs *members, int member_count, const int64_t *mixing,
                        int64_t *responsibilities, int32_t *samples, int n, const Coding &coding, Stack &stack,
                        const uint32_t *words) {
  const int channels = coding.channels, rounds = HIGH_DEPTH ? 1 : 2, group = coding.nibbles / rounds;
  const Tables &tables = members[0].tables;
  prior_weights(mix, members, member_count, mixing, n);
  for (int channel = 0; channel < channels; ++channel) {
    mixture_logistics(mix, members, member_count, samples, channel, channels, coding.scale.shift, n);
    const bool weighted = !HIGH_DEPTH && coding.values && coding.weighted[channel];
    for (int i = 0; i < n; ++i)
      mix.first[i] = 0, mix.below[i] = 0, mix.above[i] = TOP;
    for (int round = 0; round < rounds; ++round) {
      for (int i = 0; i < n; ++i) {
        const Logistics p = logistics(mix, i, tables);
        const int64_t likely = likely_sample(p, coding.scale);
        int64_t first = mix.first[i];
        for (int number = 0; number < group; ++number) {
          const int nibble = coding.nibbles - 1 - round * group - number;
          const int64_t unit = (int64_t)1 << (4 * nibble), wanted = quantile(stack);
          Interval found{};
          int64_t j, sums[NIBBLES + 1];
          if (weighted && nibble == 0)
            weighted_sums(p, first, mix.below[i], mix.above[i], coding.scale, coding.values + channel * 256, sums);
          if (weighted && nibble == 0 && sums[NIBBLES])
            j = find_weighted(sums, wanted, found);
          else
            j = find_nibble<HIGH_DEPTH>(p, wanted, (likely - first) >> (4 * nibble), first, unit, mix.below[i],
                                        mix.above[i], coding.scale, found);
          pop(stack, words, found);
          first += j * unit;
        }
        mix.first[i] = first;
        samples[(ptrdiff_t)i * channels + channel] = (int32_t)first;
      }
    }
    for (int i = 0; i < n && (channel + 1 < channels || member_count > 1); ++i)
      observe(logistics(mix, i, tables), mix.first[i], coding.scale);
  }
  if (member_count > 1)
    add_responsibilities(mix, members, member_count, n, responsibilities);
}

} // namespace gm::GM_ISA
