# SPDX-License-Identifier: MIT
"""RMSProp in integers: a layer learns from a batch of pixels, with the same result on every machine.

The layer multiplies with int16 weights.  It keeps ``master`` weights, which have FINE_BITS more bits.  Let x be the
layer's inputs and d the gradient of the cost with respect to its sums, int16 each::

    g      = d^T x                                            int32 [M, K]: an int16 product like any other
    square = a running mean of g**2 over a row                int64 [M]
    master = master - rate * g / sqrt(square)                 a step whose size does not depend on the unit of d

That is the RMSProp of Tieleman and Hinton (2012) with one mean a row.  Nothing can overflow: ``limit`` bounds every
weight so that the sums of the forward and the backward pass stay in int32; DELTA_LIMIT and MAX_BATCH_PIXELS bound g.
models/online/spec.py is the whole specification in plain numpy, native/rmsprop.hpp computes it.
"""

from __future__ import annotations

from gmcodec.exact.ops import INT32_BOUND, Layer

FINE_BITS = 10  # fraction bits of a master weight
DELTA_LIMIT = 1023  # the largest |d|: larger gradients are rare, and clipped
MAX_BATCH_PIXELS = 1024  # a layer learns from the first ones of a larger batch
SQUARE_SHIFT = 6  # bits that g loses before it is squared
SQUARE_MEMORY = 100  # batches over which the mean of squares is taken
STEP_BITS = 24
STEP_MAX = 2**21  # so that a step's product with g stays below 2**53
MOVE_LIMIT = 8  # a batch moves no weight by more than 8 times the rate
BIAS_ROOM = 2**27  # part of an int32 sum that is kept for the bias
STREAM_GRADIENT_LIMIT = 2**30  # the largest gradient with respect to the residual stream


def weight_limit(rows: int, columns: int, input_limit: int) -> int:
    """The largest |weight| of a layer of this size with which W x + bias and W^T d stay below 2**31."""
    return min(2**15 - 1, (INT32_BOUND - BIAS_ROOM) // max(columns * input_limit, rows * DELTA_LIMIT))


def limit(layer: Layer) -> int:
    """``weight_limit`` of a layer."""
    rows, columns = layer.weight.shape
    return weight_limit(rows, columns, layer.input_limit)
