# SPDX-License-Identifier: MIT
"""Learning in integers: a layer's weights follow the gradient, the same on every machine.

A layer that learns keeps ``master`` weights with FINE_BITS bits below the int16 weights that it multiplies with.
From a batch of pixels, with x the layer's inputs and d the gradient of the cost by its sums (int16 each)::

    g      = d^T x                                            int32 [M, K]: an int16 product like any other
    square = a running mean of g**2 over a row                int64 [M]
    master = master - rate * g / sqrt(square)                 a step of known size, whatever the unit of d

That is the RMSProp of Tieleman and Hinton (2012) with one mean a row.  Nothing can overflow: ``limit`` bounds every
weight so that the sums of both passes stay in int32, DELTA_LIMIT and LEARNT bound g.  models/online/spec.py says all
of it in plain numpy, native/learner.hpp does it.
"""

from __future__ import annotations

from gmcodec.exact.ops import INT32_BOUND, Layer

FINE_BITS = 10  # of a master weight, below the working one's
DELTA_LIMIT = 1023  # of d: rarer, larger gradients are clipped
LEARNT = 1024  # pixels of a batch that are learned from, at most
SQUARE_SHIFT = 6  # g loses so many bits before it is squared
MEMORY = 100  # batches over which the mean is taken
STEP_BITS = 24
STEP_MAX = 2**21  # so that a step's product with g stays below 2**53
CLIP = 8  # no weight moves further than so many times the rate
BIAS_ROOM = 2**27  # of the int32 sums, for the bias
SUM_LIMIT = 2**30  # of gradients of a stream


def weight_limit(rows: int, columns: int, input_limit: int) -> int:
    """What no weight of such a layer may exceed, so that W x + bias and W^T d stay below 2**31."""
    return min(2**15 - 1, (INT32_BOUND - BIAS_ROOM) // max(columns * input_limit, rows * DELTA_LIMIT))


def limit(layer: Layer) -> int:
    """``weight_limit`` of a layer."""
    rows, columns = layer.weight.shape
    return weight_limit(rows, columns, layer.input_limit)
