# SPDX-License-Identifier: MIT
"""Code the pixels of one step of a wavefront from the outputs of a net, for compiled loops.

``ranges`` and ``take`` mirror each other: where the coder's quantiles of known samples lie, and samples from a stack.
A nibble is found by bisection of the mixture's cumulative function, in a few places and not in all 16.  The
frequencies are those of mixture.Prediction, or, of several nets, of all their logistics as one mixture, of which each
net has a share that follows how well it foretold the samples before.

Order of a step: channel 0 high nibbles of all its pixels, channel 0 low nibbles, channel 1 high ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..exact import ans, kernels
from ..exact.kernels import component, jit
from ..exact.tables import BYTES, CUMULATIVE_BITS, NIBBLES, POSITION, ROW_TOTAL, SPREAD, TOP, TOTAL_BITS, WEIGHT_BITS
from .mixture import open_channel

Weights = Sequence[np.ndarray | None] | None  # of values, as in coding/histogram.py
HALF = POSITION // 2
SHARE_BITS = 24
SHARE_MEMORY = 9  # a share is about the mean of the last 2**SHARE_MEMORY pixels
SHARE_PIXELS = 1 << 8  # no batch counts for more
SHARE_LEAST = 1 << (SHARE_BITS - 6)


class Voice(NamedTuple):
    """What one net says of the pixels, and its tables."""

    outputs: np.ndarray  # int32 [N, >= outputs]
    base: np.ndarray  # int32 [N, C]
    mixtures: int
    softmax: np.ndarray
    inverse: np.ndarray
    sigmoid: np.ndarray


class Room(NamedTuple):
    """Scratch for the pixels of a step."""

    weights: np.ndarray  # int64 [N, K], of the mixture
    mean: np.ndarray
    inverse: np.ndarray
    left: np.ndarray  # int64 [2 * C, N]
    freq: np.ndarray
    below: np.ndarray  # int64 [N]: cumulative mass at both ends of the high nibble
    above: np.ndarray
    sums: np.ndarray  # int64 [17]
    shares: np.ndarray  # int64 [voices]: of the mixture, in 2**-SHARE_BITS
    worth: np.ndarray  # int64 [voices]: what of the mixture's weights voices had when samples were known, summed up


@jit
def room(widest, mixtures, channels, shares, worth):
    """Scratch for steps of at most ``widest`` pixels; ``shares`` and ``worth`` as in Room."""
    shape, streams = (widest, mixtures), (2 * channels, widest)
    return Room(
        np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.int64),
        np.empty(streams, np.int64), np.empty(streams, np.int64),
        np.empty(widest, np.int64), np.empty(widest, np.int64), np.zeros(NIBBLES + 1, np.int64), shares, worth,
    )  # fmt: skip


def value_weights(weights: Weights, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of values int64 [C, 256], and which channels have any."""
    given = weights or [None] * channels
    values = [np.ones(256, np.int64) if w is None else w for w in given]
    return np.stack(values), np.array([w is not None for w in given])


# -- one nibble ------------------------------------------------------------------------------------------------


@jit
def _cumulative(sample, weights, mean, inverse, sigmoid):
    """tables.cumulative of one pixel, for samples 1 to 255."""
    total = np.int64(0)
    for k in range(weights.shape[0]):
        total += weights[k] * component(sample * POSITION - HALF, mean[k], inverse[k], sigmoid)
    return total


@jit
def _high_end(j, weights, mean, inverse, sigmoid):
    """Where high nibble j begins, for j in 0 to 16: its mark and the cumulative mass there."""
    if j == 0:
        return np.int64(0), np.int64(0)
    if j == NIBBLES:
        return np.int64(ROW_TOTAL), np.int64(TOP)
    mass = _cumulative(16 * j, weights, mean, inverse, sigmoid)
    return ((mass * SPREAD) >> CUMULATIVE_BITS) + j, mass


@jit
def _find_high(wanted, weights, mean, inverse, sigmoid):
    """The high nibble whose range holds the quantile: nibble, left, freq, cumulative mass at both of its ends."""
    low, high = np.int64(0), np.int64(NIBBLES)
    left, right = np.int64(0), np.int64(ROW_TOTAL)
    below, above = np.int64(0), np.int64(TOP)
    likely = 0
    for k in range(weights.shape[0]):
        if weights[k] > weights[likely]:
            likely = k
    # where the likeliest component has its mean, then beside it: two places are enough for most samples
    middle, tried = (mean[likely] + HALF) // (NIBBLES * POSITION), 0
    while high - low > 1:
        if tried >= 2:
            middle = (low + high) >> 1
        middle, tried = min(max(middle, low + 1), high - 1), tried + 1
        mark, mass = _high_end(middle, weights, mean, inverse, sigmoid)
        if mark <= wanted:
            low, left, below = middle, mark, mass
            middle += 1
        else:
            high, right, above = middle, mark, mass
            middle -= 1
    return low, left, right - left, below, above


@jit
def _find_low(wanted, first, below, above, weights, mean, inverse, sigmoid):
    """The low nibble whose range holds the quantile, of values from ``first`` on: nibble, left, freq."""
    low, high = np.int64(0), np.int64(NIBBLES)
    left, right = np.int64(0), np.int64(ROW_TOTAL)
    while high - low > 1:
        middle = (low + high) >> 1
        mark = _low_mark(middle, first, below, above, weights, mean, inverse, sigmoid)
        if mark <= wanted:
            low, left = middle, mark
        else:
            high, right = middle, mark
    return low, left, right - left


@jit
def _low_mark(j, first, below, above, weights, mean, inverse, sigmoid):
    """tables.shares: where low nibble j begins, for j in 0 to 16."""
    mass = np.int64(0)
    if 0 < j < NIBBLES:
        mass = _cumulative(first + j, weights, mean, inverse, sigmoid)
    return _share(j, below, above, mass)


@jit
def _share(j, below, above, mass):
    """``_low_mark`` where the cumulative mass is ``mass``."""
    if j == 0:
        return np.int64(0)
    if j == NIBBLES:
        return np.int64(ROW_TOTAL)
    if above <= below:  # no mass at all: uniform
        return j * np.int64(SPREAD // NIBBLES) + j
    return (mass - below) * SPREAD // (above - below) + j


@jit
def _weighted_sums(high, below, above, values, weights, mean, inverse, sigmoid, sums):
    """Of an image that has weights of values: low nibbles' frequencies times those, summed up, int64 [17] out."""
    first = 16 * high
    sums[:] = 0
    for k in range(weights.shape[0]):
        w, m, v = weights[k], mean[k], inverse[k]
        for j in range(1, NIBBLES):
            sums[j] += w * component((first + j) * POSITION - HALF, m, v, sigmoid)
    before, total = np.int64(0), np.int64(0)
    for j in range(1, NIBBLES + 1):
        mark = _share(np.int64(j), below, above, sums[j])
        total += (mark - before) * values[first + j - 1]
        sums[j], before = total, mark


@jit
def _weighted_mark(j, sums):
    """kernels.reweight: where low nibble j begins, for j in 0 to 16; the last sum must not be 0."""
    return sums[j] * SPREAD // sums[NIBBLES] + j


@jit
def _find_weighted(wanted, sums):
    """The low nibble whose range holds the quantile: nibble, left, freq."""
    low = np.int64(0)
    while sums[low + 1] * SPREAD < (wanted - low) * sums[NIBBLES]:  # _weighted_mark(low + 1) <= wanted, not divided
        low += 1
    left = _weighted_mark(low, sums)
    return low, left, _weighted_mark(low + 1, sums) - left


# -- a step: ranges and take mirror each other ------------------------------------------------------------------


@jit
def _priors(voices, shares, weights):
    """Weights of all voices' logistics, int64 [N, K] out."""
    first, total = 0, np.int64(0)
    for v in range(len(voices)):
        kernels.softmax_of(voices[v].outputs, voices[v].softmax, first, voices[v].mixtures, weights)
        share = shares[v] >> (SHARE_BITS - WEIGHT_BITS)
        total += share << WEIGHT_BITS
        for n in range(weights.shape[0] if len(voices) > 1 else 0):
            for k in range(first, first + voices[v].mixtures):
                weights[n, k] *= share
        first += voices[v].mixtures
    for n in range(weights.shape[0] if len(voices) > 1 else 0):
        kernels.normalise(weights[n], total)


@jit
def _open(voices, samples, channel, mean, inverse):
    """open_channel of all voices."""
    first = 0
    for v in range(len(voices)):
        voice = voices[v]
        open_channel(
            voice.outputs, voice.base, samples, channel, samples.shape[1], voice.inverse, BYTES.shift, voice.mixtures,
            first, mean, inverse,
        )  # fmt: skip
        first += voice.mixtures


@jit
def _count_worth(voices, weights, worth):
    """By Bayes' rule: what voices have of the mixture's weights when all is known is how well each foretold it."""
    first = 0
    for v in range(len(voices)):
        for n in range(weights.shape[0]):
            for k in range(first, first + voices[v].mixtures):
                worth[v] += weights[n, k]
        first += voices[v].mixtures


@jit
def follow(shares, worth, pixels):
    """Move the shares int64 [voices] to what voices were worth for so many pixels: a step of expectation-maximisation
    (Dempster et al. 1977) that forgets.
    """
    for v in range(shares.shape[0]):
        mean = (worth[v] << (SHARE_BITS - WEIGHT_BITS)) // pixels
        moved = shares[v] + (((mean - shares[v]) * min(pixels, SHARE_PIXELS)) >> SHARE_MEMORY)
        shares[v] = max(moved, SHARE_LEAST)


@jit
def ranges(voices, samples, values, weighted, room):
    """Ranges of the samples int32 [N, C], into room.left and room.freq; returns their bits."""
    n, c = samples.shape
    weights, mean, inverse, left, freq = room.weights[:n], room.mean[:n], room.inverse[:n], room.left, room.freq
    sigmoid, sums = voices[0].sigmoid, room.sums
    _priors(voices, room.shares, weights)
    for channel in range(c):
        _open(voices, samples, channel, mean, inverse)
        for i in range(n):
            high, low = np.int64(samples[i, channel]) >> 4, np.int64(samples[i, channel]) & 15
            w, m, v = weights[i], mean[i], inverse[i]
            mark, below = _high_end(high, w, m, v, sigmoid)
            following, above = _high_end(high + 1, w, m, v, sigmoid)
            left[2 * channel, i], freq[2 * channel, i] = mark, following - mark
            if weighted[channel]:
                _weighted_sums(high, below, above, values[channel], w, m, v, sigmoid, sums)
            if weighted[channel] and sums[NIBBLES]:
                mark, following = _weighted_mark(low, sums), _weighted_mark(low + 1, sums)
            else:
                mark = _low_mark(low, 16 * high, below, above, w, m, v, sigmoid)
                following = _low_mark(low + 1, 16 * high, below, above, w, m, v, sigmoid)
            left[2 * channel + 1, i], freq[2 * channel + 1, i] = mark, following - mark
        if channel + 1 < c or len(voices) > 1:
            kernels.observe(samples[:, channel], weights, mean, inverse, sigmoid)
    bits = 0.0
    for i in range(n):
        product = 1.0  # one logarithm a pixel; below 2**(24 * 6)
        for stream in range(2 * c):
            product *= freq[stream, i]
        bits += 2 * c * TOTAL_BITS - np.log2(product)
    if len(voices) > 1:
        _count_worth(voices, weights, room.worth)
    return bits


@jit
def take(voices, samples, values, weighted, room, state, words, count):
    """Pop the samples int32 [N, C] of a step: the new state, how many words are left."""
    n, c = samples.shape
    weights, mean, inverse, below, above = room.weights[:n], room.mean[:n], room.inverse[:n], room.below, room.above
    sigmoid, sums = voices[0].sigmoid, room.sums
    _priors(voices, room.shares, weights)
    for channel in range(c):
        _open(voices, samples, channel, mean, inverse)
        for i in range(n):
            found = _find_high(ans.quantile(state), weights[i], mean[i], inverse[i], sigmoid)
            samples[i, channel], left, freq, below[i], above[i] = found
            state, count = ans.pop(state, words, count, left, freq)
        for i in range(n):
            high, w, m, v = np.int64(samples[i, channel]), weights[i], mean[i], inverse[i]
            if weighted[channel]:
                _weighted_sums(high, below[i], above[i], values[channel], w, m, v, sigmoid, sums)
            if weighted[channel] and sums[NIBBLES]:
                low, left, freq = _find_weighted(ans.quantile(state), sums)
            else:
                low, left, freq = _find_low(ans.quantile(state), 16 * high, below[i], above[i], w, m, v, sigmoid)
            state, count = ans.pop(state, words, count, left, freq)
            samples[i, channel] = 16 * high + low
        if channel + 1 < c or len(voices) > 1:
            kernels.observe(samples[:, channel], weights, mean, inverse, sigmoid)
    if len(voices) > 1:
        _count_worth(voices, weights, room.worth)
    return state, count
