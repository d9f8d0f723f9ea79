# SPDX-License-Identifier: MIT
"""Compiled part of the local model: window -> features.

local_spec.py says the same in plain numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ..exact.kernels import jit
from ..exact.tables import POSITION
from .window import OUTSIDE

CLAMP = 127
WIDE = 16  # samples in a vector


@jit
def _differences(canvas, first, length, means, level, half, out, row, column):
    """A run of the window, minus the means, to ``out[row, column:]``."""
    for e in range(length):
        value = np.int32(canvas[first + e])
        difference = min(max((value - means[e] + half) >> level, -CLAMP), CLAMP)
        out[row, column + e] = 0 if value == OUTSIDE else difference


@intrinsic
def _wide_differences(typingctx: Any, canvas: Any, at: Any, means: Any, mean_at: Any, out: Any, to: Any) -> Any:
    """WIDE of ``_differences`` of samples of 8 bits, int16 in and out: compilers do not find it in runs this short."""
    signature = types.void(canvas, types.intp, means, types.intp, out, types.intp)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(16), WIDE)

        def place(number: int) -> Any:
            data = context.make_array(sig.args[number])(context, builder, args[number]).data
            return builder.bitcast(builder.gep(data, [args[number + 1]]), kind.as_pointer())

        def number(value: int) -> Any:
            return ir.Constant(kind, [value] * WIDE)

        def bounded(order: str, value: Any, bound: Any) -> Any:
            return builder.select(builder.icmp_signed(order, value, bound), value, bound)

        value, mean = (builder.load(place(p), align=2) for p in (0, 2))
        difference = bounded(">", bounded("<", builder.sub(value, mean), number(CLAMP)), number(-CLAMP))
        known = builder.icmp_signed("!=", value, number(OUTSIDE))
        builder.store(builder.select(known, difference, number(0)), place(4), align=2)
        return context.get_dummy_value()

    return signature, emit


def _run(canvas, first, length, means, level, half, out, row, column):  # type: ignore[no-untyped-def]
    """``_differences``, in vectors where there are any."""


@overload(_run)
def _run_of(canvas, first, length, means, level, half, out, row, column):  # type: ignore[no-untyped-def]
    if not (canvas.dtype == out.dtype == types.int16 and out.layout == "C"):
        return lambda canvas, first, length, means, level, half, out, row, column: _differences(
            canvas, first, length, means, level, half, out, row, column
        )

    def run(canvas, first, length, means, level, half, out, row, column):  # type: ignore[no-untyped-def]
        if level != 0 or length < WIDE:
            _differences(canvas, first, length, means, level, half, out, row, column)
            return
        to = row * out.shape[1] + column
        for e in range(0, length - WIDE + 1, WIDE):
            _wide_differences(canvas, first + e, means, e, out, to + e)  # type: ignore[call-arg]
        if length % WIDE:
            e = length - WIDE  # some of them again: nothing is written beyond the run
            _wide_differences(canvas, first + e, means, e, out, to + e)  # type: ignore[call-arg]

    return run


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
    repeated = np.empty(run_length.max(), canvas.dtype)
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
        for e in range(0, repeated.shape[0], channels):
            for c in range(channels):
                repeated[e + c] = mean[c]
        position = 0
        for run in range(run_start.shape[0]):
            _run(canvas, here + run_start[run], run_length[run], repeated, level, half, out, n, position)
            position += run_length[run]
        for c in range(channels):
            out[n, position + c] = (mean[c] >> scale.more) - 128
            acc = np.int64(0)
            for k in range(near.shape[0]):
                acc += np.int64(out[n, near[k]]) * near_weight[c, k]
            shift = np.int64(near_shift[c])
            step = (acc * near_multiplier[c] + (np.int64(1) << (shift - 1))) >> shift
            base[n, c] = ((mean[c] * POSITION) >> level) + step
