# SPDX-License-Identifier: MIT
"""Learning in integers: a layer's weights follow the gradient, the same on every machine.

A layer that learns keeps ``master`` weights with FINE_BITS bits below the int16 weights that it multiplies with.
From a batch of pixels, with x the layer's inputs and d the gradient of the cost by its sums (int16 each)::

    g      = d^T x                                            int32 [M, K]: an int16 product like any other
    square = a running mean of g**2 over a row                int64 [M]
    master = master - rate * g / sqrt(square)                 a step of known size, whatever the unit of d

That is the RMSProp of Tieleman and Hinton (2012) with one mean a row.  Nothing can overflow: ``limit`` bounds every
weight so that the sums of both passes stay in int32, DELTA_LIMIT and LEARNT bound g.  Float64 is used as in
kernels.py, for integers and powers of two below 2**53 only.  learning_spec.py says the same in plain numpy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import int16
from .kernels import LEAK, jit
from .ops import INT32_BOUND, Layer

FINE_BITS = 10  # of a master weight, below the working one's
DELTA_LIMIT = 1023  # of d: rarer, larger gradients are clipped
LEARNT = 1024  # pixels of a batch that are learned from, at most
SQUARE_SHIFT = 6  # g loses so many bits before it is squared
MEMORY = 100  # batches over which the mean is taken
STEP_BITS = 24
STEP_MAX = 2**21  # so that a step's product with g stays below 2**53
CLIP = 8  # no weight moves further than so many times the rate
MEAN_SHIFT = 2  # a mean of weights moves by a 2**-MEAN_SHIFT of what is missing
BIAS_ROOM = 2**27  # of the int32 sums, for the bias
SUM_LIMIT = 2**30  # of gradients of a stream
HALF = 1 << (FINE_BITS - 1)


def weight_limit(rows: int, columns: int, input_limit: int) -> int:
    """What no weight of such a layer may exceed, so that W x + bias and W^T d stay below 2**31."""
    return min(2**15 - 1, (INT32_BOUND - BIAS_ROOM) // max(columns * input_limit, rows * DELTA_LIMIT))


def limit(layer: Layer) -> int:
    """``weight_limit`` of a layer."""
    rows, columns = layer.weight.shape
    return weight_limit(rows, columns, layer.input_limit)


@jit
def square_root(n):
    """Square root of 0 <= n < 2**62, rounded down."""
    root = np.int64(np.sqrt(np.float64(n)))  # off by one at most
    while root * root > n:
        root -= 1
    while (root + 1) * (root + 1) <= n:
        root += 1
    return root


# -- gradients on their way back -------------------------------------------------------------------------------


@jit
def _clip(v):
    return np.int16(min(max(v, -float(DELTA_LIMIT)), float(DELTA_LIMIT)))


@jit
def _inward(g, activation, bound):
    """The gradient of an activation at its bound: what would push it further out is dropped."""
    if activation >= bound:
        return max(g, np.int32(0))
    if activation <= -bound:
        return min(g, np.int32(0))
    return g


@jit
def deltas(gradient, scale, out):
    """d int16 [N, M] out: of sums, from the gradient [N, M] of what is made of them; below 2**38."""
    for n in range(gradient.shape[0]):
        for m in range(gradient.shape[1]):
            out[n, m] = _clip(np.floor(np.float64(gradient[n, m]) * scale[m] + 0.5))


@jit
def hidden_deltas(gradient, scale, activation, bound, out):
    """``deltas`` behind kernels.hidden, whose result was ``activation`` int16 [N, M]."""
    for n in range(gradient.shape[0]):
        for m in range(gradient.shape[1]):
            g = np.float64(_inward(gradient[n, m], activation[n, m], bound))
            slope = 1.0 if activation[n, m] >= 0 else LEAK
            out[n, m] = _clip(np.floor(g * slope * scale[m] + 0.5))


@jit
def clamp_back(gradient, activation, bound):
    """Back through the clamp of kernels.residual, in place on ``gradient`` int32 [N, M]."""
    for n in range(gradient.shape[0]):
        for m in range(gradient.shape[1]):
            gradient[n, m] = _inward(gradient[n, m], activation[n, m], bound)


@jit
def add_back(gradient, scale, out):
    """Add what flows back into a stream, int32 [N, M] in another unit, to ``out`` int32 [N, M]."""
    top = np.float64(SUM_LIMIT)
    for n in range(gradient.shape[0]):
        for m in range(gradient.shape[1]):
            v = np.float64(out[n, m]) + np.floor(np.float64(gradient[n, m]) * scale)
            out[n, m] = np.int32(min(max(v, -top), top))


# -- a step ----------------------------------------------------------------------------------------------------


class Room(NamedTuple):
    """Flat scratch of ``product``."""

    left: np.ndarray  # int32
    right: np.ndarray
    gradient: np.ndarray


def room(rows: int, columns: int) -> Room:
    """Scratch for layers of at most so many rows and columns."""
    pairs = (LEARNT + 1) // 2
    return Room(*(np.empty(size, np.int32) for size in (rows * pairs, columns * pairs, rows * columns)))


@jit
def _in_pairs(x, out):
    """x int16 [N, K] -> out int32 [pairs, K]: rows in pairs, the last with zeros if N is odd."""
    n = x.shape[0]
    for pair in range(n // 2):
        for k in range(x.shape[1]):
            out[pair, k] = int16.pair_of(x[2 * pair, k], x[2 * pair + 1, k])
    if n % 2:
        for k in range(x.shape[1]):
            out[n // 2, k] = int16.pair_of(x[n - 1, k], np.int16(0))


@jit
def product(delta, x, room):
    """g int32 [M, K] = d^T x, from int16 [N, M] and int16 [N, K]; N at most LEARNT, K filled to whole vectors."""
    pixels, rows = delta.shape
    columns, pairs = x.shape[1], (pixels + 1) // 2
    left = room.left[: pairs * rows].reshape((pairs, rows))
    right = room.right[: pairs * columns].reshape((pairs, columns))
    out = room.gradient[: rows * columns].reshape((rows, columns))
    _in_pairs(delta, left)
    _in_pairs(x, right)
    int16.multiply_pairs(left, right, out)
    return out


@jit
def step_sizes(gradient, square, rate, count, steps):
    """What a row's gradient is multiplied by, float64 [M] out; ``square`` int64 [M] takes batch ``count`` in."""
    for m in range(gradient.shape[0]):
        total = np.int64(0)
        for k in range(gradient.shape[1]):
            v = np.int64(gradient[m, k]) >> SQUARE_SHIFT
            total += v * v
        now = total // gradient.shape[1]
        square[m] += (now - square[m]) // min(count, MEMORY)
        root = max(square_root(max(square[m], now)), 1)  # a sudden gradient is not taken for a rare one
        size = min((rate[m] << STEP_BITS) // (root << SQUARE_SHIFT), STEP_MAX)
        steps[m] = np.float64(size) * 2.0**-STEP_BITS


@jit
def move(gradient, steps, rate, bound, master):
    """Move the master weights int32 [M, K]; no working weight will exceed ``bound``."""
    top = np.float64(bound << FINE_BITS)
    for m in range(gradient.shape[0]):
        most = np.float64(CLIP * rate[m])
        for k in range(gradient.shape[1]):
            change = np.floor(np.float64(gradient[m, k]) * steps[m] + 0.5)
            v = np.float64(master[m, k]) - min(max(change, -most), most)
            master[m, k] = np.int32(min(max(v, -top), top))


@jit
def _offset(bias, scale):
    """Of kernels.affine, for a master bias."""
    return np.float64((bias + HALF) >> FINE_BITS) * scale + 0.5


@jit
def move_bias(delta, steps, rate, unit, scale, master, offset):
    """Move the bias, int64 [M] with FINE_BITS: a weight whose input is always ``unit``.  ``offset``: kernels.affine."""
    top, total = np.int64(BIAS_ROOM - 1) << FINE_BITS, np.zeros(delta.shape[1], np.int32)
    for n in range(delta.shape[0]):
        for m in range(delta.shape[1]):
            total[m] += delta[n, m]
    for m in range(delta.shape[1]):
        most = np.float64(CLIP * rate[m])
        change = np.floor(np.float64(np.int64(total[m]) * unit) * steps[m] + 0.5)
        v = master[m] - np.int64(min(max(change, -most), most)) * unit
        master[m] = min(max(v, -top), top)
        offset[m] = _offset(master[m], scale[m])


@jit
def average(master, bias, mean, mean_bias, scale, packed, offset):
    """Let the means, of weights int32 [M, K] and bias int64 [M], follow; then what codes with them: ``packed`` as of
    ``repack``, ``offset`` as of ``move_bias``.
    """
    for m in range(master.shape[0]):
        for k in range(master.shape[1]):
            mean[m, k] += (master[m, k] - mean[m, k]) >> np.int32(MEAN_SHIFT)
        mean_bias[m] += (bias[m] - mean_bias[m]) >> MEAN_SHIFT
        offset[m] = _offset(mean_bias[m], scale[m])
    repack(mean, packed)


@jit
def _working(master):
    return (master + np.int32(HALF)) >> np.int32(FINE_BITS)  # in 32 bits: twice the lanes of 64


@jit
def repack(master, packed):
    """int16.pack of the working weights."""
    pairs = packed.view(np.int32).reshape(packed.shape[:2])
    for m in range(master.shape[0]):
        for pair in range(pairs.shape[0]):
            pairs[pair, m] = int16.pair_of(_working(master[m, 2 * pair]), _working(master[m, 2 * pair + 1]))


@jit
def repack_back(master, cut, packed):
    """int16.pack of the transposed working weights, each row of which is first cut by so many bits, int64 [M]."""
    pairs = packed.view(np.int32).reshape(packed.shape[:2])
    for pair in range(pairs.shape[0]):
        m = 2 * pair
        first, second = np.int32(cut[m]), np.int32(cut[m + 1])
        for k in range(master.shape[1]):
            pairs[pair, k] = int16.pair_of(_working(master[m, k]) >> first, _working(master[m + 1, k]) >> second)
