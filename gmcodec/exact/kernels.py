# SPDX-License-Identifier: MIT
"""Compiled twins of ops.py and tables.py: the same integers, several times faster.

Arrays of activations may be float32 or float64 that hold integers (so that BLAS can multiply them) or
integers; arithmetic here is int64 throughout.  Compiled code is cached on disk by numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .ops import LEAK_SHIFT
from .tables import (
    CUMULATIVE_BITS,
    INVERSE_BITS,
    NIBBLES,
    POSITION,
    ROW_TOTAL,
    SIGMOID_REACH,
    SIGMOID_UNIT,
    SPREAD,
    TOP,
    WEIGHT_BITS,
)

REACH = SIGMOID_REACH * SIGMOID_UNIT
jit = njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")


@jit
def hidden(acc, bias, multiplier, shift, limit, out):
    """ops.hidden; acc [N, M] -> out [N, M] of any numeric type."""
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            s = np.int64(shift[m])
            v = ((np.int64(acc[n, m]) + bias[m]) * multiplier[m] + (np.int64(1) << (s - 1))) >> s
            v = max(v, v >> LEAK_SHIFT)
            out[n, m] = min(max(v, -limit), limit)


@jit
def residual(acc, bias, multiplier, shift, limit, stream):
    """ops.residual, in place on ``stream`` [N, M]."""
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            s = np.int64(shift[m])
            v = ((np.int64(acc[n, m]) + bias[m]) * multiplier[m] + (np.int64(1) << (s - 1))) >> s
            stream[n, m] = min(max(np.int64(stream[n, m]) + v, -limit), limit)


@jit
def output(acc, bias, multiplier, shift, limit, out):
    """ops.output; out int32 [N, M]."""
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            s = np.int64(shift[m])
            v = ((np.int64(acc[n, m]) + bias[m]) * multiplier[m] + (np.int64(1) << (s - 1))) >> s
            out[n, m] = min(max(v, -limit), limit)


@jit
def normalise(weights, total):
    """tables.normalise of one row, in place."""
    largest, left = 0, np.int64(1) << WEIGHT_BITS
    for k in range(weights.shape[0]):
        if weights[k] > weights[largest]:
            largest = k
    for k in range(weights.shape[0]):
        weights[k] = (weights[k] << WEIGHT_BITS) // total
        left -= weights[k]
    weights[largest] += left


@jit
def softmax(logits, table, weights):
    """tables.softmax; logits int32 [N, >= K], weights int64 [N, K] out."""
    for n in range(weights.shape[0]):
        top = logits[n, 0]
        for k in range(weights.shape[1]):
            top = max(top, logits[n, k])
        total = np.int64(0)
        for k in range(weights.shape[1]):
            weights[n, k] = table[min(top - logits[n, k], table.shape[0] - 1)]
            total += weights[n, k]
        normalise(weights[n], total)


@jit
def component(edge, mean, inverse, sigmoid):
    """tables.component of one number."""
    u = ((edge - mean) * inverse) >> INVERSE_BITS
    return np.int64(sigmoid[min(max(u, -REACH), REACH) + REACH])


@jit
def high_rows(weights, mean, inverse, sigmoid, rows):
    """tables.high_rows; rows int32 [N, 16] out."""
    marks = np.empty(NIBBLES + 1, np.int64)
    for n in range(weights.shape[0]):
        marks[:] = 0
        for k in range(weights.shape[1]):
            w, m, v = weights[n, k], mean[n, k], inverse[n, k]
            for j in range(1, NIBBLES):
                marks[j] += w * component(np.int64(j * 16 * POSITION - POSITION // 2), m, v, sigmoid)
        marks[NIBBLES] = TOP
        before = np.int64(0)
        for j in range(1, NIBBLES + 1):
            mark = ((marks[j] * SPREAD) >> CUMULATIVE_BITS) + j
            rows[n, j - 1] = mark - before
            before = mark


@jit
def low_rows(high, weights, mean, inverse, sigmoid, rows):
    """tables.low_rows; high int32 [N]; rows int32 [N, 16] out."""
    marks = np.empty(NIBBLES + 1, np.int64)
    for n in range(weights.shape[0]):
        first = np.int64(high[n]) * 16
        marks[:] = 0
        for k in range(weights.shape[1]):
            w, m, v = weights[n, k], mean[n, k], inverse[n, k]
            for j in range(NIBBLES + 1):
                marks[j] += w * component((first + j) * POSITION - POSITION // 2, m, v, sigmoid)
        if first == 0:
            marks[0] = 0
        if first == 240:
            marks[NIBBLES] = TOP
        start, mass, before = marks[0], marks[NIBBLES] - marks[0], np.int64(0)
        for j in range(1, NIBBLES + 1):
            mark = np.int64(j) * (SPREAD // NIBBLES) + j
            if mass > 0:
                mark = (marks[j] - start) * SPREAD // mass + j
            rows[n, j - 1] = mark - before
            before = mark


@jit
def observe(sample, weights, mean, inverse, sigmoid):
    """tables.observe, in place on ``weights`` int64 [N, K]; sample int32 [N]."""
    for n in range(weights.shape[0]):
        x = np.int64(sample[n])
        edge = x * POSITION - POSITION // 2
        total = np.int64(0)
        for k in range(weights.shape[1]):
            below, above = np.int64(0), np.int64(ROW_TOTAL)
            if x > 0:
                below = component(edge, mean[n, k], inverse[n, k], sigmoid)
            if x < 255:
                above = component(edge + POSITION, mean[n, k], inverse[n, k], sigmoid)
            weights[n, k] *= above - below + 1
            total += weights[n, k]
        normalise(weights[n], total)
