# SPDX-License-Identifier: MIT
"""Frozen layers and local nets in the native library."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmcodec.native.library import (
    GATE,
    MAX_FEATURES,
    MAX_MIXTURES,
    MAX_NEAR,
    MAX_ROWS,
    MAX_RUN,
    OUTPUT_WIDE,
    RESIDUAL,
    TABLE_SIZES,
    InstructionSet,
    _array,
    _at,
    _into,
    _Layer,
    _Net,
    _paired,
    _within,
)


@dataclass(frozen=True)
class LayerArrays:
    """A frozen layer as exact/ops.py has it, ``weight`` int16; proved by Layer.check."""

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, layer: Any) -> LayerArrays:
        """Of an exact.ops.Layer."""
        return cls(np.ascontiguousarray(layer.weight, np.int16), *(
            np.ascontiguousarray(a, np.int32) for a in (layer.bias, layer.multiplier, layer.shift)
        ))  # fmt: skip

    def structure(self) -> _Layer:
        rows, columns = self.weight.shape
        if not 0 < rows <= MAX_ROWS or not columns:
            raise ValueError(f"a layer of {rows} x {columns} is not possible")
        each = (_at(array, np.int32, rows) for array in (self.bias, self.multiplier, self.shift))
        return _Layer(rows, columns, _at(self.weight, np.int16, rows, columns), *each)


class Layer:
    """A frozen layer in the library: x int16 [N, K] -> its sums and what follows.  Immutable."""

    def __init__(self, core: InstructionSet, arrays: LayerArrays) -> None:
        self.core, (self.rows, self.columns) = core, arrays.weight.shape
        self.handle = core.made(core.layer_new(byref(arrays.structure())))
        weakref.finalize(self, core.layer_free, self.handle).atexit = False  # threads may be in it then

    def sums(self, x: np.ndarray) -> np.ndarray:
        """W x: int32 [N, rows]."""
        _at(x, np.int16, None, self.columns)
        x, out = _paired(x), np.empty((len(x), self.rows), np.int32)
        self.core.layer_sums(self.handle, x.ctypes.data, x.shape[1], len(x), out.ctypes.data)
        return out

    def _output(
        self, kind: int, limit: int, shape: tuple[int, ...], out: np.ndarray | None, table: np.ndarray | None = None
    ) -> np.ndarray:
        """Where the results of cells [*shape] go, checked."""
        rows, dtype = self.rows // 2 if kind == GATE else self.rows, np.int32 if kind == OUTPUT_WIDE else np.int16
        if out is None:
            if kind in (RESIDUAL, GATE):
                raise ValueError("there is nothing to add to")
            out = np.empty((*shape, rows), dtype)
        if kind not in range(GATE + 1):
            raise ValueError(f"nothing of kind {kind} follows sums")
        if not 0 < limit < (2**18 if kind == OUTPUT_WIDE else 2**15) or (kind == GATE) != (table is not None):
            raise ValueError(f"limit {limit} or a table does not fit")
        _into(out, dtype, *shape, rows)
        return out

    def run(
        self, kind: int, x: np.ndarray, limit: int, out: np.ndarray | None = None, table: np.ndarray | None = None
    ) -> np.ndarray:
        """One of HIDDEN, OUTPUT, RESIDUAL, OUTPUT_WIDE, GATE: into or onto ``out`` [N, rows], or half as many."""
        _at(x, np.int16, None, self.columns)
        out = self._output(kind, limit, x.shape[:1], out, table)
        gates = None if table is None else _at(table, np.int32, 4095)
        x = _paired(x)
        self.core.layer_run(
            self.handle, kind, limit, x.ctypes.data, x.shape[1], len(x), gates, out.ctypes.data, out.shape[1]
        )
        return out

    def convolve(
        self, kind: int, x: np.ndarray, size: int, stride: int, limit: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The same, but GATE, of windows of x [B, H, W, F] around every stride-th cell: [B, H / stride, W / stride,
        rows].
        """
        count, height, width, features = x.shape
        if size < 1 or size % 2 == 0 or stride < 1 or size * size * features != self.columns or kind == GATE:
            raise ValueError(f"a layer of {self.columns} inputs cannot see windows of {size} of {x.shape}")
        out = self._output(kind, limit, (count, -(-height // stride), -(-width // stride)), out)
        failed = self.core.convolve(
            self.handle, kind, limit, _at(x, np.int16, count, height, width, features), count, height, width, features,
            size, stride, out.ctypes.data,
        )  # fmt: skip
        if failed:
            raise MemoryError
        return out


class Net:
    """A frozen local net in the library.  Immutable; safe to share by threads."""

    def __init__(
        self,
        core: InstructionSet,
        layers: Sequence[LayerArrays],
        conditions: Sequence[LayerArrays],
        linear: LayerArrays,
        near: np.ndarray,
        runs: np.ndarray,
        tables: Any,
        channels: int,
        mixtures: int,
        limits: tuple[int, int],
    ) -> None:
        """``layers``: first, up and down of every block, last; ``conditions``: one more than blocks, or none.

        near int32 [K]; runs int32 [R, 3]: dy, first dx, pixels; tables: logistic.Tables; limits of activations and
        outputs.  Raises ValueError, TypeError, NativeError.
        """
        blocks = len(layers) // 2 - 1
        sizes = [layer.weight.shape for layer in layers]
        width, features = sizes[0]
        groups = 1 + 2 * channels + channels * (channels - 1) // 2
        inner = [(width, width)] * (2 * blocks)
        if sizes != [(width, features), *inner, (mixtures * groups, width)] or not 1 <= channels <= 3:
            raise ValueError(f"layers of {sizes} make no net of {channels} channels and {mixtures} logistics")
        self.condition = conditions[0].weight.shape[1] if conditions else 0
        if conditions and [c.weight.shape for c in conditions] != [(width, self.condition)] * (blocks + 1):
            raise ValueError("layers of the condition do not fit the net")
        runs = np.ascontiguousarray(runs, np.int32)
        _at(runs, np.int32, None, 3)
        samples = int(runs[:, 2].sum()) * channels
        lengths = _within(runs[:, 2], 1, MAX_RUN, "pixels of a run")
        if samples + channels != features or features > MAX_FEATURES or not len(lengths):
            raise ValueError(f"a window of {samples} samples does not fit {features} features")
        if linear.weight.shape != (channels, len(near)) or not 0 < mixtures <= MAX_MIXTURES or len(near) > MAX_NEAR:
            raise ValueError("the linear predictor or the mixture does not fit the net")
        if not (0 < limits[0] < 2**15 and 0 < limits[1] <= 2**17):
            raise ValueError(f"limits {limits} are too large")
        near = np.ascontiguousarray(_within(near, 0, features - 1, "features of the predictor"), np.int32)
        found = [_at(getattr(tables, name), np.int32, size) for name, size in TABLE_SIZES.items()]
        parts = _array([layer.structure() for layer in layers], _Layer)
        told = _array([layer.structure() for layer in conditions], _Layer) if conditions else None
        data = _Net(
            channels, mixtures, blocks, self.condition, *limits, parts, told, ctypes.pointer(linear.structure()),
            _at(near, np.int32, None), len(runs), runs.ctypes.data, *found,
        )  # fmt: skip
        self.core, self.channels, self.blocks, self.outputs = core, channels, blocks, mixtures * groups
        self.sizes = sizes
        self.handle = core.made(core.net_new(byref(data)))
        weakref.finalize(self, core.net_free, self.handle).atexit = False  # threads may be in it then
        # offsets of the first and the last sample of every run, and of those that the local mean is of
        ends = np.stack([runs[:, 1], runs[:, 1] + runs[:, 2] - 1], 1)
        near_rows, near_columns = np.array([0, 0, -1]), np.array([-1, 0, 0])
        self._rows = np.concatenate([np.repeat(runs[:, 0], 2), near_rows]).astype(np.int64)
        self._columns = np.concatenate([ends.ravel(), near_columns]).astype(np.int64)

    def within(self, up: int, aside: int) -> bool:
        """Whether the window reaches no further than so many rows up and columns to the sides."""
        return bool(-up <= self._rows.min() and self._rows.max() <= 0 and np.abs(self._columns).max() <= aside)

    def evaluate(
        self, samples: np.ndarray, row_size: int, at: np.ndarray, condition: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs int32 [N, outputs] and centres of means int32 [N, channels] of pixels whose first samples are
        samples[at], int16 and int64 [N], their windows inside ``samples``; condition int16 [N, D] or nothing.
        """
        self._reach(samples, row_size, at)
        n = len(at)
        outputs, base = np.empty((n, self.outputs), np.int32), np.empty((n, self.channels), np.int32)
        told = None
        if condition is not None:
            _at(condition, np.int16, n, self.condition)
            condition = _paired(condition)
            told = condition.ctypes.data
        failed = self.core.net_evaluate(
            self.handle, _at(samples, np.int16, None), row_size, _at(at, np.int64, n), n, told,
            _into(outputs, np.int32, n, self.outputs), _into(base, np.int32, n, self.channels),
        )  # fmt: skip
        if failed:
            raise MemoryError
        return outputs, base

    def features(self, samples: np.ndarray, row_size: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the net reads of the same pixels, int16 [N, features], and the centres of means int32 [N, channels]."""
        self._reach(samples, row_size, at)
        n, width = len(at), self.sizes[0][1]
        found, base = np.empty((n, width), np.int16), np.empty((n, self.channels), np.int32)
        self.core.net_features(
            self.handle, _at(samples, np.int16, None), row_size, _at(at, np.int64, n), n, found.ctypes.data,
            base.ctypes.data,
        )  # fmt: skip
        return found, base

    def _reach(self, samples: np.ndarray, row_size: int, at: np.ndarray) -> None:
        """Raise ValueError where a window would leave the samples."""
        offsets = self._rows * row_size + self._columns * self.channels
        _within(at, -int(offsets.min()), samples.size - self.channels - int(offsets.max()), "pixels")
