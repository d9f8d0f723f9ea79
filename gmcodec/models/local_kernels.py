# SPDX-License-Identifier: MIT
"""Compiled part of the local model: window -> features.

local_spec.py says the same in plain numpy.
"""

from __future__ import annotations

import numpy as np

from ..exact.kernels import jit
from ..exact.tables import POSITION
from .window import OUTSIDE

CLAMP = 127


@jit
def features(
    canvas, row_size, at, channels, run_start, run_length, near, near_weight, near_multiplier, near_shift, scale,
    out, base,
):  # fmt: skip
    """Features and centre of the pixels whose first sample is ``canvas[at[n]]``.

    canvas int16 or int32, flat, rows of ``row_size`` samples; scale: tables.Scale.  out [N, inputs] of any numeric
    type; base int32 [N, C]: local mean plus linear prediction, in 1/64 grey level.
    """
    level, half = np.int32(scale.shift), np.int32((1 << scale.shift) >> 1)
    mean = np.empty(channels, np.int32)
    repeated = np.empty(run_length.max(), np.int32)
    for n in range(at.shape[0]):
        here = at[n]
        for c in range(channels):
            left = np.int32(canvas[here - channels + c])
            above = np.int32(canvas[here - row_size + c])
            if left == OUTSIDE:
                left = above
            if above == OUTSIDE:
                above = left
            mean[c] = (128 << scale.more) if left == OUTSIDE else (left + above) >> 1
        for e in range(repeated.shape[0]):
            repeated[e] = mean[e % channels]
        position = 0
        for run in range(run_start.shape[0]):
            first = here + run_start[run]
            for e in range(run_length[run]):
                value = np.int32(canvas[first + e])
                difference = min(max((value - repeated[e] + half) >> level, -CLAMP), CLAMP)
                out[n, position + e] = 0 if value == OUTSIDE else difference
            position += run_length[run]
        for c in range(channels):
            out[n, position + c] = (mean[c] >> scale.more) - 128
            acc = np.int64(0)
            for k in range(near.shape[0]):
                acc += np.int64(out[n, near[k]]) * near_weight[c, k]
            shift = np.int64(near_shift[c])
            step = (acc * near_multiplier[c] + (np.int64(1) << (shift - 1))) >> shift
            base[n, c] = ((mean[c] * POSITION) >> level) + step
