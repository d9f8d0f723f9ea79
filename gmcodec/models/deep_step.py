# SPDX-License-Identifier: MIT
"""Code samples of up to 16 bits from the outputs of a net that knows 8: for compiled loops, as mixture_step.py.

A sample lies on the net's grey levels at sample * 2**-shift (tables.Scale).  It is coded as two to four nibbles, the
highest first, each within the mass that is left by those before it::

    4 nibbles:  0 .......... 65536   16 ranges of 4096, of one of them 16 of 256, 16 of 16, 16 of 1

Order of a step: channel 0 of all its pixels, each with all its nibbles, channel 1 ...
deep_spec.py says the same in plain numpy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..exact import ans, kernels
from ..exact.kernels import REACH, jit
from ..exact.tables import INVERSE_BITS, NIBBLES, POSITION, POSITION_BITS, ROW_TOTAL, SPREAD, TOP, TOTAL_BITS
from .mixture import open_channel

FINE = 4  # bits of a place below the 1/64 grey level of means
BETWEEN = 8  # bits between two entries of the logistic table


class Room(NamedTuple):
    """Scratch for the pixels of a step, int64 [N, K] each."""

    weights: np.ndarray  # of the mixture
    mean: np.ndarray
    inverse: np.ndarray


@jit
def room(widest, mixtures):
    """Scratch for steps of at most ``widest`` pixels."""
    shape = (widest, mixtures)
    return Room(np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.int64))


# -- one nibble ------------------------------------------------------------------------------------------------


@jit
def _cumulative(sample, shift, weights, mean, inverse, sigmoid):
    """Mass of the mixture below a sample, in 0..2**38; the logistic table is interpolated."""
    edge = ((sample << (POSITION_BITS + FINE)) - (1 << (POSITION_BITS + FINE - 1))) >> shift
    total = np.int64(0)
    for k in range(weights.shape[0]):
        u = (edge - (mean[k] << FINE)) * inverse[k]
        at = u >> (INVERSE_BITS + FINE)
        if at < -REACH:
            value = np.int64(sigmoid[0])
        elif at >= REACH:
            value = np.int64(sigmoid[2 * REACH])
        else:
            value = np.int64(sigmoid[at + REACH])
            part = (u >> (INVERSE_BITS + FINE - BETWEEN)) & ((1 << BETWEEN) - 1)
            value += ((np.int64(sigmoid[at + REACH + 1]) - value) * part) >> BETWEEN
        total += weights[k] * value
    return total


@jit
def _mark(j, first, unit, below, above, shift, weights, mean, inverse, sigmoid):
    """Where nibble j of a sample begins that is ``first`` without it: its mark, and the mass there; j in 0 to 16."""
    if j == 0:
        return np.int64(0), below
    if j == NIBBLES:
        return np.int64(ROW_TOTAL), above
    if above <= below:  # no mass at all: uniform
        return j * np.int64(SPREAD // NIBBLES) + j, below
    mass = _cumulative(first + j * unit, shift, weights, mean, inverse, sigmoid)
    return (mass - below) * SPREAD // (above - below) + j, mass


@jit
def _observe(samples, channel, scale, weights, mean, inverse, sigmoid):
    """Mixture weights after a channel's samples are known, in place: as learning sees them (mixture_gradient.py)."""
    for n in range(weights.shape[0]):
        sample, total = np.int64(samples[n, channel]), np.int64(0)
        place = (sample * POSITION) >> scale.shift
        for k in range(weights.shape[1]):
            below = kernels.component(place - scale.half, mean[n, k], inverse[n, k], sigmoid) if sample > 0 else 0
            above = np.int64(ROW_TOTAL)
            if sample < scale.top:
                above = kernels.component(place + scale.half, mean[n, k], inverse[n, k], sigmoid)
            weights[n, k] *= above - below + 1
            total += weights[n, k]
        kernels.normalise(weights[n], total)


# -- a step: ranges and take mirror each other ------------------------------------------------------------------


@jit
def ranges(net, outputs, base, samples, scale, nibbles, room, left, freq, first_at, apart):
    """Ranges of the samples int32 [N, C], into left and freq from ``first_at`` on, channels ``apart``; their bits."""
    (n, c), k = samples.shape, room.weights.shape[1]
    weights, mean, inverse = room.weights[:n], room.mean[:n], room.inverse[:n]
    kernels.softmax(outputs, net.softmax, weights)
    bits = 0.0
    for channel in range(c):
        open_channel(outputs, base, samples, channel, c, net.inverse, scale.shift, k, 0, mean, inverse)
        at = first_at + channel * apart
        for i in range(n):
            sample, first, below, above = np.int64(samples[i, channel]), np.int64(0), np.int64(0), np.int64(TOP)
            product = 1.0  # below 2**(24 * 4)
            for nibble in range(nibbles - 1, -1, -1):
                j, unit = (sample >> (4 * nibble)) & 15, np.int64(1) << (4 * nibble)
                w, m, v = weights[i], mean[i], inverse[i]
                mark, low = _mark(j, first, unit, below, above, scale.shift, w, m, v, net.sigmoid)
                following, high = _mark(j + 1, first, unit, below, above, scale.shift, w, m, v, net.sigmoid)
                left[at], freq[at] = mark, following - mark
                product *= freq[at]
                first, below, above, at = first + j * unit, low, high, at + 1
            bits += nibbles * TOTAL_BITS - np.log2(product)
        if channel + 1 < c:
            _observe(samples, channel, scale, weights, mean, inverse, net.sigmoid)
    return bits


@jit
def take(net, outputs, base, samples, scale, nibbles, room, state, words, count):
    """Pop the samples int32 [N, C] of a step: the new state, how many words are left."""
    (n, c), k = samples.shape, room.weights.shape[1]
    weights, mean, inverse = room.weights[:n], room.mean[:n], room.inverse[:n]
    kernels.softmax(outputs, net.softmax, weights)
    for channel in range(c):
        open_channel(outputs, base, samples, channel, c, net.inverse, scale.shift, k, 0, mean, inverse)
        for i in range(n):
            first, below, above = np.int64(0), np.int64(0), np.int64(TOP)
            for nibble in range(nibbles - 1, -1, -1):
                unit, wanted = np.int64(1) << (4 * nibble), ans.quantile(state)
                low, high, left, right = np.int64(0), np.int64(NIBBLES), np.int64(0), np.int64(ROW_TOTAL)
                start, end = below, above
                w, m, v = weights[i], mean[i], inverse[i]
                while high - low > 1:
                    j = (low + high) >> 1
                    mark, mass = _mark(j, first, unit, below, above, scale.shift, w, m, v, net.sigmoid)
                    if mark <= wanted:
                        low, left, start = j, mark, mass
                    else:
                        high, right, end = j, mark, mass
                state, count = ans.pop(state, words, count, left, right - left)
                first, below, above = first + low * unit, start, end
            samples[i, channel] = first
        if channel + 1 < c:
            _observe(samples, channel, scale, weights, mean, inverse, net.sigmoid)
    return state, count
