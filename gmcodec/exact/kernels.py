# SPDX-License-Identifier: MIT
"""Compiled twins of ops.py and tables.py: the same integers, several times faster.

Arrays of activations may be float32 or float64 that hold integers (so that BLAS can multiply them) or
integers.  Layers are rescaled in float64, without rounding (``affine`` says why); the rest is int64.  Compiled
code is cached on disk by numba.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core import caching, event

from .ops import LEAK_SHIFT, Layer
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

log = logging.getLogger("gmcodec.compiling")  # the command line listens
REACH = SIGMOID_REACH * SIGMOID_UNIT
LEAK = 2.0**-LEAK_SHIFT


def _stamp() -> str:
    """Changes with any source of compiled code: numba only looks at the file of the function itself."""
    files = sorted(p for p in Path(__file__).parent.parent.rglob("*.py") if p.parent.name in ("exact", "models"))
    found = repr([(p.name, s.st_size, s.st_mtime_ns) for p in files for s in (p.stat(),)])
    return hashlib.sha256(found.encode()).hexdigest()[:10]


STAMP = _stamp()


class _Places(caching.CompileResultCacheImpl):
    """Where compiled code may be kept; without a home, numba would make a folder named ~ in the current one."""

    _locator_classes = [  # type: ignore[assignment]  # noqa: RUF012
        caching.UserProvidedCacheLocator,
        caching.InTreeCacheLocator,
        *([caching.UserWideCacheLocator] if os.path.isabs(os.path.expanduser("~")) else []),
    ]


class Kept(caching.FunctionCache):
    """Compiled code on disk; where it cannot be read it is made again, where it cannot be written it is not kept.

    Files are named by the sources they were made from: what numba keeps cannot even be read once a module is gone.
    """

    _impl_class = _Places

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        file = self._cache_file
        base = f"{file._index_name.removesuffix('.nbi')}-{STAMP}"
        file._index_name, file._data_name_pattern = f"{base}.nbi", f"{base}.{{number:d}}.nbc"
        file._index_path = os.path.join(file._cache_path, file._index_name)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises nearly everything
            log.debug("compiled code cannot be read: %s", error)
            with suppress(OSError):
                self.flush()  # a damaged index would keep out what is compiled now
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, a folder that is gone
            log.debug("compiled code is not kept: %s", error)


def jit(function: Any) -> Any:
    """Compile a function when it is first called, and keep it on disk, if that can be, until our sources change."""
    compiled: Any = njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    with suppress(RuntimeError, OSError):  # there is no place for it
        compiled._cache = Kept(function)
    return compiled


class _Told(event.Listener):
    """Says in the log, once, that a first run takes long."""

    said = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = event.data.get("dispatcher")
        if not self.said and dispatcher is not None and dispatcher.py_func.__module__.startswith("gmcodec."):
            self.said = True
            log.info("compiling for this processor, once: about a minute")

    def on_end(self, event: event.Event) -> None:
        pass


TOLD = _Told()
event.register("numba:compile", TOLD)


def affine(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Float64 [M] ``scale`` and ``offset`` with floor(acc * scale + offset) = ops.rescale, exactly.

    acc * multiplier, bias * multiplier and their sum with 2**(shift - 1) are integers below 2**47 (Layer.check),
    times 2**-shift, a power of two: float64 holds every one of them without rounding, whatever the order and
    whether or not the processor fuses.  Processors have vector instructions for this, few have them for int64.
    """
    scale = np.ldexp(layer.multiplier.astype(np.float64), -layer.shift)
    return scale, layer.bias * scale + 0.5


@jit
def hidden(acc, scale, offset, limit, out):
    """ops.hidden; acc [N, M] -> out [N, M] of any numeric type."""
    top = np.float64(limit)
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            v = np.floor(np.float64(acc[n, m]) * scale[m] + offset[m])
            v = max(v, np.floor(v * LEAK))
            out[n, m] = min(max(v, -top), top)


@jit
def residual(acc, scale, offset, limit, stream):
    """ops.residual, in place on ``stream`` [N, M]."""
    top = np.float64(limit)
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            v = np.float64(stream[n, m]) + np.floor(np.float64(acc[n, m]) * scale[m] + offset[m])
            stream[n, m] = min(max(v, -top), top)


@jit
def output(acc, scale, offset, limit, out):
    """ops.output; out int32 [N, M]."""
    top = np.float64(limit)
    for n in range(acc.shape[0]):
        for m in range(acc.shape[1]):
            v = np.floor(np.float64(acc[n, m]) * scale[m] + offset[m])
            out[n, m] = min(max(v, -top), top)


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
    softmax_of(logits, table, 0, weights.shape[1], weights)


@jit
def softmax_of(logits, table, first, components, weights):
    """``softmax`` of so many logits into weights int64 [N, >= K], from column ``first`` on."""
    for n in range(weights.shape[0]):
        top = logits[n, 0]
        for k in range(components):
            top = max(top, logits[n, k])
        total = np.int64(0)
        for k in range(components):
            weights[n, first + k] = table[min(top - logits[n, k], table.shape[0] - 1)]
            total += weights[n, first + k]
        normalise(weights[n, first : first + components], total)


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


@njit(inline="always")
def shares(marks, rows, n):
    """tables.shares of one pixel; marks int64 [17], rows int32 [N, 16] out, of which row n."""
    start, mass, before = marks[0], marks[NIBBLES] - marks[0], np.int64(0)
    for j in range(1, NIBBLES + 1):
        mark = np.int64(j) * (SPREAD // NIBBLES) + j
        if mass > 0:
            mark = (marks[j] - start) * SPREAD // mass + j
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
        shares(marks, rows, n)


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


@jit
def reweight(rows, high, weights):
    """Multiply low-nibble frequencies by the weights of their values, in place.

    rows int32 [N, 16], summing to 2**24 and staying so, every entry >= 1; high int32 [N]; weights int64 [256].
    A row whose values all weigh nothing is left as it is.  Products stay below 2**58.
    """
    for n in range(rows.shape[0]):
        first = np.int64(high[n]) * 16
        total = np.int64(0)
        for j in range(NIBBLES):
            total += rows[n, j] * weights[first + j]
        if total == 0:
            continue
        part = before = np.int64(0)
        for j in range(NIBBLES):
            part += rows[n, j] * weights[first + j]
            mark = part * SPREAD // total + (j + 1)
            rows[n, j] = mark - before
            before = mark
