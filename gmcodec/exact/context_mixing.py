# SPDX-License-Identifier: MIT
"""Context mixing of binary decisions in integers: the specification, in plain Python.

A decision is predicted from several contexts, each a 64-bit hash of what is known::

      context --hash--> bucket --node--> slot: an adaptive probability and the last decisions (history)
      history --state map--> another adaptive probability, learnt from all contexts of a kind
      both probabilities of every context, and other inputs --weights--> mixed probability
      mixed probability --probability maps--> probability of the decision

Inputs are log odds (``stretch``) in 1/256 nat, and ``squash`` makes a probability of them.  There are WEIGHT_SETS sets
of weights; a small number chooses the weights of each set, and the mean of their predictions is taken.  After the
decision all parts learn from it.  This is the mixing of Mahoney's PAQ (2005) in other numbers.

``make_tables`` computes the tables in integers only, so they are the same on every machine.  Shifts to the right round
down, of negative numbers too.  native/context_mixing.hpp computes the same.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gmcodec.arrays import Int16, Int32, Int64
from gmcodec.exact.decisions import Coder

STRETCH_REACH = 2047  # of inputs, in 1/256 nat
SQUASH_REACH = 2816  # of a mixed input
LOGISTIC_BITS, LOGISTIC_REACH = 19, 4095  # of the table of the logistic function
RECIPROCAL_BITS = 13
SLOT_BITS, STATE_BITS = 18, 20  # of adaptive probabilities
SLOT_LIMIT, STATE_LIMIT = 127, 255  # decisions that they remember
HISTORY_EXACT = 5  # decisions of a slot whose history is known exactly
STATES = 192
STATE_LEVELS = (7, 32, 80, 128, 176, 224, 249)  # bounds of a slot's probability, in 2**-8, in states
BUCKET_SLOTS = 15
WEIGHT_BITS = 16
WEIGHT_REACH = (8 << WEIGHT_BITS) - 1
MIXER_BIAS = 64
WEIGHT_SETS = 4
START_WEIGHT, START_EXTRA = 64190, 6550  # of all contexts together; of other inputs
MAP_NODES, MAP_STEP_BITS, MAP_RATE_BITS = 33, 7, 6
MIXER_RATE_BITS = 8
SLOW_RATE, FAST_RATE = 4 << MIXER_RATE_BITS, 17 << MIXER_RATE_BITS  # of weights
RATE_DECAY_BITS = 9

EXP_BITS = 40
EXP_STEP = 1_095_225_038_176  # exp(-1 / 256) in 2**-40, rounded
HASH_MASK = (1 << 64) - 1
HASH_MULTIPLIER, KEY_MULTIPLIER = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


def clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


# -- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixingTables:
    """The tables, read-only.

    stretch         int16 [4096]: log odds in 1/256 nat of a probability in 2**-12: the least x that ``squash`` makes at
                    least that probability and a half
    squash          int32 [5633]: 2**16 / (1 + exp(-x / 256)) for x from -SQUASH_REACH on; never 0 or 2**16
    reciprocal      int32 [256]: 1 / (i + 3/2) in 2**-13: how far a probability moves after i decisions
    logistic        int32 [8191]: 2**19 / (1 + exp(-x / 256)) for x from -LOGISTIC_REACH on
    inverse_square  int32 [1021]: 2**20 / ((i + 1)**2 + 1), and 1 more, so that none is zero
    """

    stretch: Int16[np.ndarray, " 4096"]
    squash: Int32[np.ndarray, " 5633"]
    reciprocal: Int32[np.ndarray, " 256"]
    logistic: Int32[np.ndarray, " 8191"]
    inverse_square: Int32[np.ndarray, " 1021"]


def exponentials(count: int) -> list[int]:
    """exp(-k / 256) in 2**-40 for k below ``count``, each the one before it times EXP_STEP."""
    values = [1 << EXP_BITS]
    while len(values) < count:
        values.append((values[-1] * EXP_STEP + (1 << (EXP_BITS - 1))) >> EXP_BITS)
    return values


def sigmoids(total: int, reach: int) -> list[int]:
    """total / (1 + exp(-x / 256)) for x from -reach to reach, rounded; values of x and -x sum to ``total``."""
    whole = [(1 << EXP_BITS) + e for e in exponentials(reach + 1)]
    upper = [((total << (EXP_BITS + 1)) + w) // (2 * w) for w in whole]
    return [total - value for value in upper[:0:-1]] + upper


def frozen(values: Sequence[int] | np.ndarray, dtype: type) -> np.ndarray:
    """The values as an array that nobody can write to."""
    array: np.ndarray = np.array(values, dtype)
    array.setflags(write=False)
    return array


@functools.cache
def make_tables() -> MixingTables:
    """The tables, made once."""
    squash = sigmoids(1 << 16, SQUASH_REACH)
    stretch = np.searchsorted(squash, 16 * np.arange(4096) + 8) - SQUASH_REACH
    return MixingTables(
        frozen(np.clip(stretch, -STRETCH_REACH, STRETCH_REACH), np.int16),
        frozen(squash, np.int32),
        frozen([(2 << RECIPROCAL_BITS) // (2 * i + 3) for i in range(256)], np.int32),
        frozen(sigmoids(1 << LOGISTIC_BITS, LOGISTIC_REACH), np.int32),
        frozen([(1 << 20) // ((e + 1) ** 2 + 1) + 1 for e in range(1021)], np.int32),
    )


def squash(tables: MixingTables, x: int) -> int:
    """The probability in 2**-16, 1 to 65535, of log odds in 1/256 nat."""
    return int(tables.squash[SQUASH_REACH + clamp(x, -SQUASH_REACH, SQUASH_REACH)])


def stretch(tables: MixingTables, probability12: int) -> int:
    """Log odds in 1/256 nat of a probability in 2**-12."""
    return int(tables.stretch[probability12])


# -- slots: what was decided in a context --------------------------------------------------------------------------


def combine(code: int, *values: int) -> int:
    """A 64-bit hash of the hash ``code`` and of values, which may be negative."""
    for value in values:
        code = ((code ^ value & HASH_MASK) * HASH_MULTIPLIER) & HASH_MASK
        code ^= code >> 32
    return code


def key(code: int, bits: int = 64) -> int:
    """The highest bits of the 64-bit number by which a hash finds its entry of a table."""
    return ((code * KEY_MULTIPLIER) & HASH_MASK) >> (64 - bits)


def moved(probability: int, bits: int, one: bool, rate: int, rate_bits: int) -> int:
    """A probability of one in 2**-bits after a decision."""
    target = (1 << bits) - 1 if one else 0
    return probability + ((target - probability) * rate >> rate_bits)


class Slot(NamedTuple):
    """What is known of a binary decision in a context."""

    probability: int = 1 << (SLOT_BITS - 1)  # of one, in 2**-18
    seen: int = 0  # decisions, at most SLOT_LIMIT
    history: int = 1  # a one, then the bits of the last decisions, at most six

    def observe(self, tables: MixingTables, one: bool) -> Slot:
        """The slot after a decision."""
        probability = moved(self.probability, SLOT_BITS, one, int(tables.reciprocal[self.seen]), RECIPROCAL_BITS)
        history = 2 * self.history + one
        return Slot(probability, min(self.seen + 1, SLOT_LIMIT), history if history < 128 else history & 63 | 64)

    @property
    def state(self) -> int:
        """All decisions while they are few; then the probability, coarsely, and the last four.  Below STATES."""
        if self.seen <= HISTORY_EXACT:
            return self.history
        level = sum(self.probability >> (SLOT_BITS - 8) >= bound for bound in STATE_LEVELS)
        return 64 + (level << 4 | self.history & 15)


@dataclass
class Bucket:
    """The slots of the 15 nodes of four binary decisions."""

    check: int = 0  # 16 bits of the hash of the context that has the bucket
    slots: list[Slot] = field(default_factory=lambda: [Slot()] * BUCKET_SLOTS)


class Buckets:
    """A hash table of 2**bits buckets.  A context that needs a bucket takes it from the one that had it."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.table: defaultdict[int, Bucket] = defaultdict(Bucket)

    def find(self, hashes: Sequence[int]) -> list[Bucket]:
        """The buckets of contexts.  Two of them may share one."""
        found = []
        for code in hashes:
            bucket, check = self.table[key(code, self.bits)], key(code) >> 16 & 0xFFFF
            if bucket.check != check:
                bucket.check, bucket.slots[:] = check, [Slot()] * BUCKET_SLOTS
            found.append(bucket)
        return found


class Entry(NamedTuple):
    """What a state means: an entry of a state map, which all contexts of a kind share."""

    probability: int = 1 << (STATE_BITS - 1)  # of one, in 2**-20
    seen: int = 0  # decisions, at most STATE_LIMIT

    def observe(self, tables: MixingTables, one: bool) -> Entry:
        """The entry after a decision.  The rate has two bits fewer, so that products fit in 32 bits."""
        rate = int(tables.reciprocal[self.seen]) >> 2
        probability = moved(self.probability, STATE_BITS, one, rate, RECIPROCAL_BITS - 2)
        return Entry(probability, min(self.seen + 1, STATE_LIMIT))


# -- mixers --------------------------------------------------------------------------------------------------------


class WeightSet:
    """Weights int64 [choices, inputs] in 2**-16, and the rate at which those of each choice learn."""

    def __init__(self, choices: int, contexts: int, extras: int) -> None:
        first = [START_WEIGHT // max(contexts, 6)] * (2 * contexts) + [START_EXTRA] * (extras + 1)
        self.weights = np.tile(np.array(first, np.int64), (choices, 1))
        self.rates = [FAST_RATE] * choices

    def dot(self, choice: int, inputs: Int64[np.ndarray, " inputs"]) -> int:
        """The log odds that the weights make of the inputs.  Each product is rounded by itself."""
        total = int((self.weights[choice] * inputs >> 10).sum())
        return clamp(total >> (WEIGHT_BITS - 10), -STRETCH_REACH, STRETCH_REACH)

    def train(self, choice: int, inputs: Int64[np.ndarray, " inputs"], error: int) -> None:
        """Move weights against the error of the probability, in 2**-16.  Their rate falls from fast to slow."""
        step = error * (self.rates[choice] >> MIXER_RATE_BITS) >> 4
        weights = self.weights[choice] + ((inputs * step + (1 << 13)) >> 14)
        self.weights[choice] = weights.clip(-WEIGHT_REACH, WEIGHT_REACH)
        self.rates[choice] -= (self.rates[choice] - SLOW_RATE + (1 << RATE_DECAY_BITS) - 1) >> RATE_DECAY_BITS


# -- all of it -----------------------------------------------------------------------------------------------------


@dataclass
class Decision:
    """What a decision is predicted from."""

    buckets: Sequence[Bucket]  # of its contexts
    node: int  # of the slots in all of them
    choice: Sequence[int]  # of weights, in each set; to the last one, the largest worth of a seen context is added
    map_choice: Sequence[int]  # of probability maps
    extra: Sequence[int] = ()  # more inputs
    channel: int = 0  # of the state maps


@dataclass
class Prediction:
    """The probability of one, 1 to 65535, and what learning needs of its parts."""

    probability: int
    slots: list[Slot]
    entries: list[Entry]
    inputs: Int64[np.ndarray, " inputs"]
    choice: list[int]
    dots: list[int]
    mixed: int
    nodes: list[int]  # first of the two nodes that are read of each probability map


class Mixing:
    """State maps, weights and probability maps that a kind of decisions shares."""

    def __init__(
        self,
        tables: MixingTables,
        contexts: int,
        extras: int,
        sets: Sequence[int],
        maps: Sequence[int],
        worth: Sequence[int] = (),
    ) -> None:
        """sets: choices of each of the WEIGHT_SETS sets of weights; maps: choices of the two probability maps.

        worth: how much it is worth to have seen each of the first contexts; zero for all others.
        """
        self.tables, self.worth = tables, [*worth, *[0] * (contexts - len(worth))]
        self.entries: dict[tuple[int, int, int], Entry] = {}  # by channel, context, state
        self.sets = [WeightSet(choices, contexts, extras) for choices in sets]
        nodes = [squash(tables, (i - MAP_NODES // 2) << MAP_STEP_BITS) for i in range(MAP_NODES)]
        self.maps = [nodes * choices for choices in maps]

    def predict(self, d: Decision) -> Prediction:
        slots = [bucket.slots[d.node] for bucket in d.buckets]
        entries = [self.entries.get((d.channel, k, slot.state), Entry()) for k, slot in enumerate(slots)]
        inputs = self.inputs(slots, entries, d.extra)
        seen = [worth for worth, slot in zip(self.worth, slots, strict=True) if slot.seen]
        choice = [*d.choice[:-1], d.choice[-1] + max(seen, default=0)]
        dots = [weights.dot(c, inputs) for weights, c in zip(self.sets, choice, strict=True)]
        x = sum(dots) >> 2
        mixed = squash(self.tables, x)
        node, part = divmod(x + (1 << 11), 1 << MAP_STEP_BITS)
        nodes = [c * MAP_NODES + node for c in d.map_choice]
        mapped = 0
        for nodes_of, n in zip(self.maps, nodes, strict=True):
            mapped += (nodes_of[n] * ((1 << MAP_STEP_BITS) - part) + nodes_of[n + 1] * part) >> MAP_STEP_BITS
        probability = clamp((2 * mixed + mapped) >> 2, 1, 65535)
        return Prediction(probability, slots, entries, inputs, choice, dots, mixed, nodes)

    def inputs(self, slots: list[Slot], entries: list[Entry], extra: Sequence[int]) -> Int64[np.ndarray, " inputs"]:
        """Two inputs of each context, zero if it was not seen before, then the other inputs."""
        first = [stretch(self.tables, s.probability >> (SLOT_BITS - 12)) if s.seen else 0 for s in slots]
        second = [
            stretch(self.tables, e.probability >> (STATE_BITS - 12)) if s.seen else 0
            for s, e in zip(slots, entries, strict=True)
        ]
        return np.array([*first, *second, *extra, MIXER_BIAS], np.int64)

    def learn(self, d: Decision, found: Prediction, one: bool) -> None:
        for nodes, n in zip(self.maps, found.nodes, strict=True):
            for i in (n, n + 1):
                nodes[i] += ((65535 if one else 0) - nodes[i]) >> MAP_RATE_BITS
        for weights, choice, dot in zip(self.sets, found.choice, found.dots, strict=True):
            error = ((2 << 16 if one else 0) - squash(self.tables, dot) - found.mixed) >> 1
            weights.train(choice, found.inputs, error)
        for k, (bucket, slot, entry) in enumerate(zip(d.buckets, found.slots, found.entries, strict=True)):
            bucket.slots[d.node] = slot.observe(self.tables, one)
            self.entries[d.channel, k, slot.state] = entry.observe(self.tables, one)

    def decide(self, d: Decision, coder: Coder, one: bool) -> bool:
        """Code a decision and learn from it.  ``one`` is what an encoder wants; what was decided is returned."""
        found = self.predict(d)
        one = coder.decide(found.probability, one)
        self.learn(d, found, one)
        return one
