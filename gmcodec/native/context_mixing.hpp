// SPDX-License-Identifier: MIT
// The parts of a coder that mixes contexts: exact/context_mixing.py is the specification.
//
//   context --hash--> bucket --node--> slot (adaptive probability and bit history) --> inputs
//   inputs, weights chosen by small contexts --> mixed probability --> probability maps --> probability of a decision
#pragma once

#include "decisions.hpp"
#include "memory.hpp"

namespace gm::GM_ISA {

// -- units -------------------------------------------------------------------------------------------------------

constexpr int STRETCH_REACH = 2047; // of inputs, in 1/256 nat
constexpr int SQUASH_REACH = 2816;  // of a mixed input
constexpr int RECIPROCAL_BITS = 13;
constexpr int SLOT_BITS = 18, STATE_BITS = 20;     // of adaptive probabilities
constexpr int SLOT_LIMIT = 127, STATE_LIMIT = 255; // decisions that they remember
constexpr int HISTORY_EXACT = 5;                   // decisions of a slot whose history is known exactly
constexpr int STATES = 192;
constexpr int WEIGHT_BITS = 16, WEIGHT_REACH = (8 << WEIGHT_BITS) - 1;
constexpr int MAX_CONTEXTS = 24, MAX_EXTRAS = 7, MIXER_BIAS = 64;
constexpr int EXTRA_INPUTS = 2 * MAX_CONTEXTS; // where they begin: two inputs of each context are before them
constexpr int MAX_INPUTS = 64, WEIGHT_SETS = 4;
constexpr int START_WEIGHT = 64190, START_EXTRA = 6550; // of all contexts together; of other inputs
constexpr int MAP_NODES = 33, MAP_STEP_BITS = 7, MAP_RATE_BITS = 6;
constexpr int MIXER_RATE_BITS = 8, SLOW_RATE = 4 << MIXER_RATE_BITS,
              FAST_RATE = 17 << MIXER_RATE_BITS; // of weights, in 2**-26
constexpr int RATE_DECAY_BITS = 9;

constexpr uint64_t HASH_MULTIPLIER = 0x9E3779B97F4A7C15u, KEY_MULTIPLIER = 0xBF58476D1CE4E5B9u;

typedef gm_mixing_tables MixingTables;

GM_INLINE int squash(const MixingTables &tables, int x) {
  return tables.squash[SQUASH_REACH + clamp(x, -SQUASH_REACH, SQUASH_REACH)];
}
GM_INLINE int stretch(const MixingTables &tables, int probability12) { return tables.stretch[probability12]; }

GM_INLINE uint64_t combine(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * HASH_MULTIPLIER;
  return hash ^ hash >> 32;
}

// -- slots: what was decided in a context -------------------------------------------------------------------------

// 18 bits: probability of one, minus a half; 7 bits: decisions seen; 7 bits: history - 1.  A new slot is 0.
typedef uint32_t Slot;

// The slots of a decision's contexts, in parts.  Loops over them become vector instructions.
struct SlotParts {
  int32_t probability[MAX_CONTEXTS], seen[MAX_CONTEXTS], history[MAX_CONTEXTS]; // a one, then up to six decisions
};

GM_INLINE void split(const Slot *slots, SlotParts &parts) {
  for (int k = 0; k < MAX_CONTEXTS; ++k) {
    parts.probability[k] = (int32_t)(slots[k] >> 14 ^ 1u << (SLOT_BITS - 1));
    parts.seen[k] = (int32_t)(slots[k] >> 7 & 127);
    parts.history[k] = (int32_t)(slots[k] & 127) + 1;
  }
}

// The slots after a decision.
GM_INLINE void observe(const int32_t *reciprocal, const SlotParts &parts, bool one, Slot *slots) {
  const int32_t target = one ? (1 << SLOT_BITS) - 1 : 0;
  for (int k = 0; k < MAX_CONTEXTS; ++k) {
    const int32_t p = parts.probability[k], seen = parts.seen[k], longer = 2 * parts.history[k] + one;
    const int32_t moved = p + ((target - p) * reciprocal[k] >> RECIPROCAL_BITS);
    const int32_t history = longer < 128 ? longer : (longer & 63) | 64;
    slots[k] = ((uint32_t)moved ^ 1u << (SLOT_BITS - 1)) << 14 |
               (uint32_t)(seen < SLOT_LIMIT ? seen + 1 : SLOT_LIMIT) << 7 | (uint32_t)(history - 1);
  }
}

// While few decisions were seen, all of them; then the probability, coarsely, and the last four.
GM_INLINE void find_states(const SlotParts &parts, int32_t *states) {
  for (int k = 0; k < MAX_CONTEXTS; ++k) {
    const int32_t p = parts.probability[k] >> (SLOT_BITS - 8);
    const int32_t level = (p >= 7) + (p >= 32) + (p >= 80) + (p >= 128) + (p >= 176) + (p >= 224) + (p >= 249);
    const int32_t late = 64 + (level << 4 | (parts.history[k] & 15));
    states[k] = parts.seen[k] <= HISTORY_EXACT ? parts.history[k] : late;
  }
}

// The slots of the 15 nodes of four binary decisions, in a cache line.
struct Bucket {
  uint16_t check, unused;
  Slot slot[15];
};

struct Buckets {
  Bucket *bucket;
  int bits;
};

GM_INLINE void prefetch(const Buckets &buckets, const uint64_t *hash, int count) {
  for (int k = 0; k < count; ++k)
    __builtin_prefetch(buckets.bucket + (hash[k] * KEY_MULTIPLIER >> (64 - buckets.bits)), 1);
}

// The buckets of contexts.  Another context that had one loses it.  ``bucket`` has room for MAX_CONTEXTS.
GM_INLINE void find(const Buckets &buckets, const uint64_t *hash, int count, Bucket **bucket) {
  uint64_t key[MAX_CONTEXTS];
  for (int k = 0; k < count; ++k) {
    key[k] = hash[k] * KEY_MULTIPLIER;
    bucket[k] = buckets.bucket + (key[k] >> (64 - buckets.bits));
    __builtin_prefetch(bucket[k], 1);
  }
  for (int k = 0; k < count; ++k) {
    // New memory that is read before it is written costs two page faults, and the second one stops all threads.
    bucket[k]->unused = 0;
    const uint16_t check = (uint16_t)(key[k] >> 16);
    if (bucket[k]->check != check) {
      *bucket[k] = {};
      bucket[k]->check = check;
    }
  }
}

// -- state maps: what a history means, learnt from all contexts of a kind ------------------------------------------

// The entries of a decision: 20 bits: probability of one, minus a half; 12 bits: decisions seen.
GM_INLINE void observe_states(const int32_t *reciprocal, bool one, uint32_t *entries) {
  const int32_t target = one ? (1 << STATE_BITS) - 1 : 0;
  for (int k = 0; k < MAX_CONTEXTS; ++k) {
    const int32_t p = (int32_t)(entries[k] >> 12 ^ 1u << (STATE_BITS - 1)), seen = (int32_t)(entries[k] & 4095);
    const int32_t moved = p + ((target - p) * (reciprocal[k] >> 2) >> (RECIPROCAL_BITS - 2));
    entries[k] =
        ((uint32_t)moved ^ 1u << (STATE_BITS - 1)) << 12 | (uint32_t)(seen < STATE_LIMIT ? seen + 1 : STATE_LIMIT);
  }
}

// -- mixers --------------------------------------------------------------------------------------------------------

struct WeightSet {
  int32_t weight[MAX_INPUTS]; // in 2**-16
  int32_t rate;
  int32_t unused[15];
};

GM_INLINE int dot(const int32_t *weight, const int32_t *input) {
  int sum = 0;
  for (int i = 0; i < MAX_INPUTS; ++i)
    sum += weight[i] * input[i] >> 10;
  return clamp(sum >> (WEIGHT_BITS - 10), -STRETCH_REACH, STRETCH_REACH);
}

GM_INLINE void train(int32_t *weight, const int32_t *input, int error) {
  for (int i = 0; i < MAX_INPUTS; ++i)
    weight[i] = clamp(weight[i] + ((input[i] * error + (1 << 13)) >> 14), -WEIGHT_REACH, WEIGHT_REACH);
}

// -- all of it -----------------------------------------------------------------------------------------------------

struct Mixing {
  int contexts, extras;
  int32_t worth[MAX_CONTEXTS];  // of having seen a context: the last set of weights is chosen by the largest
  uint32_t *map;                // [channels, contexts, STATES]
  WeightSet *sets[WEIGHT_SETS]; // [choices of the set]
  uint16_t *probability_map[2]; // [choices of the map, MAP_NODES]
};

inline Mixing allocate_mixing(Arena &arena, int contexts, int extras, int channels, const int *sets, const int *maps) {
  Mixing mixing{contexts, extras, {}, nullptr, {}, {}};
  mixing.map = arena.allocate<uint32_t>((size_t)channels * contexts * STATES);
  for (int s = 0; s < WEIGHT_SETS; ++s)
    mixing.sets[s] = arena.allocate<WeightSet>(sets[s]);
  for (int m = 0; m < 2; ++m)
    mixing.probability_map[m] = arena.allocate<uint16_t>((size_t)maps[m] * MAP_NODES);
  return mixing;
}

inline void fill(WeightSet &set, int contexts, int extras) {
  for (int k = 0; k < contexts; ++k)
    set.weight[k] = set.weight[MAX_CONTEXTS + k] = START_WEIGHT / larger(contexts, 6);
  for (int k = 0; k <= extras; ++k)
    set.weight[EXTRA_INPUTS + k] = START_EXTRA;
  set.rate = FAST_RATE;
}

inline void fill(const MixingTables &tables, Mixing &mixing, const int *sets, const int *maps) {
  for (int s = 0; s < WEIGHT_SETS; ++s)
    for (int i = 0; i < sets[s]; ++i)
      fill(mixing.sets[s][i], mixing.contexts, mixing.extras);
  for (int m = 0; m < 2; ++m)
    for (int i = 0; i < maps[m] * MAP_NODES; ++i)
      mixing.probability_map[m][i] = (uint16_t)squash(tables, (i % MAP_NODES - MAP_NODES / 2) << MAP_STEP_BITS);
}

// A decision: what it is predicted from, and what ``learn`` needs of the prediction.  Where there are fewer than
// MAX_CONTEXTS contexts, the other slots are 0.
struct Decision {
  Slot *slot[MAX_CONTEXTS];
  int channel;               // of the state maps
  int choice[WEIGHT_SETS];   // of weights
  int map_choice[2];         // of probability maps
  int extra[MAX_EXTRAS];     // more inputs
  int32_t input[MAX_INPUTS]; // zero where there is none
  Slot value[MAX_CONTEXTS];
  SlotParts parts;
  int32_t state[MAX_CONTEXTS];
  uint32_t entry[MAX_CONTEXTS]; // of the state maps
  int dots[WEIGHT_SETS], mixed;
  uint16_t *node[2];
};

GM_INLINE uint32_t *map_of(const Mixing &mixing, const Decision &d) {
  return mixing.map + (ptrdiff_t)d.channel * mixing.contexts * STATES;
}

GM_INLINE void gather(const MixingTables &tables, const Mixing &mixing, Decision &d) {
  for (int k = 0; k < mixing.contexts; ++k)
    d.value[k] = *d.slot[k];
  split(d.value, d.parts);
  find_states(d.parts, d.state);
  const uint32_t *map = map_of(mixing, d);
  int most = 0;
  for (int k = 0; k < mixing.contexts; ++k) {
    d.entry[k] = map[k * STATES + d.state[k]];
    const bool seen = d.parts.seen[k] != 0;
    d.input[k] = seen ? stretch(tables, d.parts.probability[k] >> (SLOT_BITS - 12)) : 0;
    d.input[MAX_CONTEXTS + k] = seen ? stretch(tables, (int)(d.entry[k] >> 20 ^ 1u << 11)) : 0;
    most = seen ? larger(most, mixing.worth[k]) : most;
  }
  d.choice[WEIGHT_SETS - 1] += most;
  for (int k = 0; k < mixing.extras; ++k)
    d.input[EXTRA_INPUTS + k] = d.extra[k];
  d.input[EXTRA_INPUTS + mixing.extras] = MIXER_BIAS;
}

// The probability of one, 1 to 65535.
GM_INLINE int predict(const MixingTables &tables, const Mixing &mixing, Decision &d) {
  gather(tables, mixing, d);
  int sum = 0;
  for (int s = 0; s < WEIGHT_SETS; ++s)
    sum += d.dots[s] = dot(mixing.sets[s][d.choice[s]].weight, d.input);
  const int x = sum >> 2;
  d.mixed = squash(tables, x);
  const int place = x + (1 << 11), node = place >> MAP_STEP_BITS, part = place & ((1 << MAP_STEP_BITS) - 1);
  int mapped = 0;
  for (int m = 0; m < 2; ++m) {
    const uint16_t *at = d.node[m] = mixing.probability_map[m] + d.map_choice[m] * MAP_NODES + node;
    mapped += (at[0] * ((1 << MAP_STEP_BITS) - part) + at[1] * part) >> MAP_STEP_BITS;
  }
  return clamp((2 * d.mixed + mapped) >> 2, 1, 65535);
}

GM_INLINE void learn_slots(const MixingTables &tables, const Mixing &mixing, Decision &d, bool one) {
  int32_t slot_rate[MAX_CONTEXTS] = {}, state_rate[MAX_CONTEXTS] = {};
  for (int k = 0; k < mixing.contexts; ++k) {
    slot_rate[k] = tables.reciprocal[d.parts.seen[k]];
    state_rate[k] = tables.reciprocal[d.entry[k] & 4095];
  }
  observe(slot_rate, d.parts, one, d.value);
  observe_states(state_rate, one, d.entry);
  uint32_t *map = map_of(mixing, d);
  for (int k = 0; k < mixing.contexts; ++k) {
    *d.slot[k] = d.value[k];
    map[k * STATES + d.state[k]] = d.entry[k];
  }
}

GM_INLINE void learn(const MixingTables &tables, const Mixing &mixing, Decision &d, bool one) {
  for (int m = 0; m < 2; ++m)
    for (int i = 0; i < 2; ++i)
      d.node[m][i] = (uint16_t)(d.node[m][i] + (((one ? 65535 : 0) - d.node[m][i]) >> MAP_RATE_BITS));
  const int target = one ? 65536 : 0;
  for (int s = 0; s < WEIGHT_SETS; ++s) {
    WeightSet &set = mixing.sets[s][d.choice[s]];
    const int error = (2 * target - squash(tables, d.dots[s]) - d.mixed) >> 1;
    train(set.weight, d.input, error * (set.rate >> MIXER_RATE_BITS) >> 4);
    set.rate -= (set.rate - SLOW_RATE + (1 << RATE_DECAY_BITS) - 1) >> RATE_DECAY_BITS;
  }
  learn_slots(tables, mixing, d, one);
}

template <typename Coder>
GM_INLINE bool decide(const MixingTables &tables, const Mixing &mixing, Decision &d, Coder &coder, bool one) {
  one = coder.code((uint32_t)predict(tables, mixing, d), one);
  learn(tables, mixing, d, one);
  return one;
}

} // namespace gm::GM_ISA
