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

from gmcodec.arrays import Int, Int16, Int32, Int64
from gmcodec.native.library import (
    GATE,
    MAX_FEATURES,
    MAX_MIXTURES,
    MAX_NEAR,
    MAX_OUTPUTS,
    MAX_RUN,
    OUTPUT_WIDE,
    RESIDUAL,
    TABLE_SIZES,
    InstructionSet,
    _address,
    _c_array,
    _even_columns,
    _in_range,
    _Layer,
    _Net,
    _output_address,
)


@dataclass(frozen=True)
class LayerArrays:
    """The arrays of a frozen layer (exact/ops.py) with ``weight`` int16.  Layer.check must have accepted it."""

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, layer: Any) -> LayerArrays:
        """The arrays of an exact.ops.Layer."""
        return cls(np.ascontiguousarray(layer.weight, np.int16), *(
            np.ascontiguousarray(a, np.int32) for a in (layer.bias, layer.multiplier, layer.shift)
        ))  # fmt: skip

    def structure(self) -> _Layer:
        rows, columns = self.weight.shape
        if not 0 < rows <= MAX_OUTPUTS or not columns:
            raise ValueError(f"a layer of {rows} x {columns} is not possible")
        each = (_address(array, np.int32, rows) for array in (self.bias, self.multiplier, self.shift))
        return _Layer(rows, columns, _address(self.weight, np.int16, rows, columns), *each)


class Layer:
    """A frozen layer in the library: x int16 [N, K] -> W x, or what its kind makes of it.  Immutable."""

    def __init__(self, core: InstructionSet, arrays: LayerArrays) -> None:
        self.core, (self.rows, self.columns) = core, arrays.weight.shape
        self.handle = core.made(core.layer_new(byref(arrays.structure())))
        weakref.finalize(self, core.layer_free, self.handle).atexit = False  # at exit a thread may still use it

    def sums(self, x: Int16[np.ndarray, "N K"]) -> Int32[np.ndarray, "N M"]:
        """W x: int32 [N, rows]."""
        _address(x, np.int16, None, self.columns)
        x, out = _even_columns(x), np.empty((len(x), self.rows), np.int32)
        self.core.layer_sums(self.handle, x.ctypes.data, x.shape[1], len(x), out.ctypes.data)
        return out

    def _output(
        self, kind: int, limit: int, shape: tuple[int, ...], out: np.ndarray | None, table: np.ndarray | None = None
    ) -> np.ndarray:
        """The array for the results [*shape, outputs]: ``out`` or a new one.  Raises ValueError, TypeError."""
        rows, dtype = self.rows // 2 if kind == GATE else self.rows, np.int32 if kind == OUTPUT_WIDE else np.int16
        if out is None:
            if kind in (RESIDUAL, GATE):
                raise ValueError("there is nothing to add to")
            out = np.empty((*shape, rows), dtype)
        if kind not in range(GATE + 1):
            raise ValueError(f"nothing of kind {kind} follows sums")
        if not 0 < limit < (2**18 if kind == OUTPUT_WIDE else 2**15) or (kind == GATE) != (table is not None):
            raise ValueError(f"limit {limit} or a table does not fit")
        _output_address(out, dtype, *shape, rows)
        return out

    def run(
        self,
        kind: int,
        x: Int16[np.ndarray, "N K"],
        limit: int,
        out: Int16[np.ndarray, "N M"] | None = None,
        table: np.ndarray | None = None,
    ) -> Int[np.ndarray, "N M"]:
        """Write the results to ``out`` [N, rows]; RESIDUAL and GATE add to it.  GATE has half as many rows."""
        _address(x, np.int16, None, self.columns)
        out = self._output(kind, limit, x.shape[:1], out, table)
        gate = None if table is None else _address(table, np.int32, 4095)
        x = _even_columns(x)
        self.core.layer_run(
            self.handle, kind, limit, x.ctypes.data, x.shape[1], len(x), gate, out.ctypes.data, out.shape[1]
        )
        return out

    def convolve(
        self,
        kind: int,
        x: Int16[np.ndarray, "B H W F"],
        size: int,
        stride: int,
        limit: int,
        out: Int16[np.ndarray, "B H2 W2 M"] | None = None,
    ) -> Int[np.ndarray, "B H2 W2 M"]:
        """The same of windows of x [B, H, W, F] around every stride-th cell: [B, H / stride, W / stride, rows].

        Any kind but GATE.
        """
        count, height, width, features = x.shape
        if size < 1 or size % 2 == 0 or stride < 1 or size * size * features != self.columns or kind == GATE:
            raise ValueError(f"a layer of {self.columns} inputs cannot see windows of {size} of {x.shape}")
        out = self._output(kind, limit, (count, -(-height // stride), -(-width // stride)), out)
        failed = self.core.convolve(
            self.handle, kind, limit, _address(x, np.int16, count, height, width, features), count, height, width,
            features, size, stride, out.ctypes.data,
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
        near: Int64[np.ndarray, " P"],
        runs: Int64[np.ndarray, "R 3"],
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
        _address(runs, np.int32, None, 3)
        samples = int(runs[:, 2].sum()) * channels
        lengths = _in_range(runs[:, 2], 1, MAX_RUN, "pixels of a run")
        if samples + channels != features or features > MAX_FEATURES or not len(lengths):
            raise ValueError(f"a window of {samples} samples does not fit {features} features")
        if linear.weight.shape != (channels, len(near)) or not 0 < mixtures <= MAX_MIXTURES or len(near) > MAX_NEAR:
            raise ValueError("the linear predictor or the mixture does not fit the net")
        if not (0 < limits[0] < 2**15 and 0 < limits[1] <= 2**17):
            raise ValueError(f"limits {limits} are too large")
        near = np.ascontiguousarray(_in_range(near, 0, features - 1, "features of the predictor"), np.int32)
        table_addresses = [_address(getattr(tables, name), np.int32, size) for name, size in TABLE_SIZES.items()]
        parts = _c_array([layer.structure() for layer in layers], _Layer)
        condition_layers = _c_array([layer.structure() for layer in conditions], _Layer) if conditions else None
        data = _Net(
            channels, mixtures, blocks, self.condition, *limits, parts, condition_layers,
            ctypes.pointer(linear.structure()),
            _address(near, np.int32, None), len(runs), runs.ctypes.data, *table_addresses,
        )  # fmt: skip
        self.core, self.channels, self.blocks, self.outputs = core, channels, blocks, mixtures * groups
        self.sizes = sizes
        self.handle = core.made(core.net_new(byref(data)))
        weakref.finalize(self, core.net_free, self.handle).atexit = False  # at exit a thread may still use it
        # the pixels that bound what a window reads: both ends of every run, and the two whose mean is the local mean
        ends = np.stack([runs[:, 1], runs[:, 1] + runs[:, 2] - 1], 1)
        near_rows, near_columns = np.array([0, 0, -1]), np.array([-1, 0, 0])
        self._rows = np.concatenate([np.repeat(runs[:, 0], 2), near_rows]).astype(np.int64)
        self._columns = np.concatenate([ends.ravel(), near_columns]).astype(np.int64)

    def within(self, up: int, aside: int) -> bool:
        """Whether the window reaches at most ``up`` rows up and ``aside`` columns to either side."""
        return bool(-up <= self._rows.min() and self._rows.max() <= 0 and np.abs(self._columns).max() <= aside)

    def evaluate(
        self, samples: Int16[np.ndarray, " N"], row_size: int, offsets: np.ndarray, condition: np.ndarray | None
    ) -> tuple[Int32[np.ndarray, "P M"], Int32[np.ndarray, "P C"]]:
        """Outputs int32 [N, outputs] and centres of means int32 [N, channels] of the pixels that begin at
        samples[offsets], int16 and int64 [N]; condition int16 [N, D] or None.  Raises ValueError where a window would
        leave the samples.
        """
        self._check_windows(samples, row_size, offsets)
        n = len(offsets)
        outputs, base = np.empty((n, self.outputs), np.int32), np.empty((n, self.channels), np.int32)
        condition_address = None
        if condition is not None:
            _address(condition, np.int16, n, self.condition)
            condition = _even_columns(condition)
            condition_address = condition.ctypes.data
        failed = self.core.net_evaluate(
            self.handle, _address(samples, np.int16, None), row_size, _address(offsets, np.int64, n), n,
            condition_address, _output_address(outputs, np.int32, n, self.outputs),
            _output_address(base, np.int32, n, self.channels),
        )  # fmt: skip
        if failed:
            raise MemoryError
        return outputs, base

    def features(
        self, samples: Int16[np.ndarray, " N"], row_size: int, offsets: np.ndarray
    ) -> tuple[Int16[np.ndarray, "P F"], Int32[np.ndarray, "P C"]]:
        """The features that the net reads, int16 [N, features], and the centres of means; see ``evaluate``."""
        self._check_windows(samples, row_size, offsets)
        n, width = len(offsets), self.sizes[0][1]
        found, base = np.empty((n, width), np.int16), np.empty((n, self.channels), np.int32)
        self.core.net_features(
            self.handle, _address(samples, np.int16, None), row_size, _address(offsets, np.int64, n), n,
            found.ctypes.data, base.ctypes.data,
        )  # fmt: skip
        return found, base

    def _check_windows(self, samples: np.ndarray, row_size: int, offsets: np.ndarray) -> None:
        """Raises ValueError where a window would leave the samples."""
        reach = self._rows * row_size + self._columns * self.channels
        _in_range(offsets, -int(reach.min()), samples.size - self.channels - int(reach.max()), "pixels")
