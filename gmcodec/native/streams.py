# SPDX-License-Identifier: MIT
"""The binding of the streams of a PixelCNN++ (gm_streams_data in gmcodec.h): a program of steps over maps.

The library trusts its arguments; they are checked here, once, when the streams are made.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmcodec.arrays import Int32, Int64
from gmcodec.native.library import (
    GATE,
    HIDDEN,
    MAX_FEATURES,
    MAX_NEAR,
    MAX_RUN,
    OUTPUT,
    OUTPUT_WIDE,
    RESIDUAL,
    _address,
    _c_array,
    _in_range,
    _Layer,
    _output_address,
)
from gmcodec.native.nets import Layer, LayerArrays

COPY, LEAKY, ELU, CONCAT_ELU = range(4)  # activations
MAX_TAPS, ELU_ENTRIES, GATE_ENTRIES = 256, 2048, 4095


class _Map(Structure):
    _fields_ = (
        ("depth", c_int32), ("columns", c_int32), ("margin", c_int32), ("features", c_int32), ("known", c_void_p)
    )  # fmt: skip


class _Tap(Structure):
    _fields_ = (("map", c_int32), ("row", c_int32), ("column", c_int32))


class _Step(Structure):
    _fields_ = (
        ("layer", c_void_p), ("kind", c_int32), ("limit", c_int32), ("level", c_int32), ("scale", c_int32),
        ("parity", c_int32), ("taps", c_int32), ("tap", POINTER(_Tap)), ("out", c_int32), ("active", c_int32),
        ("activation", c_int32),
    )  # fmt: skip


class _Streams(Structure):
    _fields_ = (
        ("images", c_int32), ("width", c_int32), ("channels", c_int32), ("maps", c_int32), ("steps", c_int32),
        ("upper", c_int32), ("block_columns", c_int32), ("map", POINTER(_Map)), ("step", POINTER(_Step)),
        ("planes", c_int32),
        ("windows", c_int32), ("samples", c_void_p), ("image_size", c_int64), ("row_size", c_int64),
        ("linear", POINTER(_Layer)), ("near", c_void_p), ("runs", c_int32), ("run", c_void_p), ("gate", c_void_p),
        ("elu", c_void_p),
    )  # fmt: skip


@dataclass(frozen=True)
class Map:
    """gm_map.  ``known``: cells int16 [depth, columns, images, features] of a map that no step writes; no margin."""

    depth: int
    columns: int
    margin: int
    features: int
    known: np.ndarray | None = None


class Tap(NamedTuple):
    """gm_tap: the number of a map, and how many rows and columns away the cell lies."""

    map: int
    row: int
    column: int


@dataclass(frozen=True)
class Step:
    """gm_step.  ``out`` and ``active``: numbers of maps, -1 for none."""

    layer: Layer
    kind: int
    limit: int
    level: int
    taps: tuple[Tap, ...]
    out: int = -1
    active: int = -1
    activation: int = COPY
    scale: int = 0
    parity: int = 0


class Streams:
    """The streams of a batch of images while it is coded.  One thread at a time."""

    def __init__(
        self,
        canvas: Any,
        maps: Sequence[Map],
        steps: Sequence[Step],
        upper: int,
        block_columns: int,
        planes: int,
        windows: int,
        linear: LayerArrays,
        near: Int64[np.ndarray, " P"],
        runs: Int64[np.ndarray, "R 3"],
        gate: Int32[np.ndarray, " G"],
        elu: Int32[np.ndarray, " E"],
    ) -> None:
        """canvas: window.Canvas, whose samples are int16; the rest as in gm_streams_data.

        Raises ValueError, TypeError, NativeError.
        """
        core, samples = steps[0].layer.core, canvas.samples
        images, _, _, channels = samples.shape
        reach = canvas.samples.shape[1] - canvas.height
        self._core, self._height, self._width, self._images, self._channels = (
            core, canvas.height, canvas.width, images, channels,
        )  # fmt: skip
        self._check_window(reach, maps[windows], linear, near, runs)
        if min(images, canvas.width, block_columns) < 1 or not 0 <= upper < len(steps) or reach < 1:
            raise ValueError("streams need images, steps and margins")
        if maps[planes].features < 2 * channels + 1 or maps[planes].columns < canvas.width:
            raise ValueError("the map of what the upper stream sees is too small")
        if maps[planes].known is not None or maps[windows].known is not None:
            raise ValueError("the library writes to these maps: they cannot be known")
        if maps[windows].columns < canvas.width:
            raise ValueError("the map of windows is too small")
        for step in steps:
            self._check_step(step, maps, step is steps[-1])
        near, runs = np.ascontiguousarray(near, np.int32), np.ascontiguousarray(runs, np.int32)
        at = _address(samples, np.int16, images, None, None, channels)
        strides = [s // 2 for s in samples.strides]
        first = reach * strides[1] + reach * strides[2]
        data = _Streams(
            images, canvas.width, channels, len(maps), len(steps), upper, block_columns,
            _c_array([self._map(m) for m in maps], _Map), _c_array([_step(s) for s in steps], _Step), planes, windows,
            at + 2 * first, strides[0], strides[1], ctypes.pointer(linear.structure()),
            _address(near, np.int32, None), len(runs), _address(runs, np.int32, None, 3),
            _address(gate, np.int32, GATE_ENTRIES), _address(elu, np.int32, ELU_ENTRIES),
        )  # fmt: skip
        self._handle = core.made(core.streams_new(byref(data)))
        weakref.finalize(self, core.streams_free, self._handle).atexit = False  # at exit a thread may still use it
        self.outputs = steps[-1].layer.rows
        # the library keeps addresses in them
        self._keep_alive = samples, [m.known for m in maps], [step.layer for step in steps]

    def _check_window(self, reach: int, windows: Map, linear: LayerArrays, near: np.ndarray, runs: np.ndarray) -> None:
        features = (int(runs[:, 2].sum()) + 1) * self._channels
        inside = (runs[:, 0] >= -reach) & (runs[:, 1] >= -reach) & (runs[:, 1] + runs[:, 2] <= reach + 1)
        if not inside.all() or (runs[:, 0] > 0).any() or (runs[:, 2] < 1).any() or runs[:, 2].max() > MAX_RUN:
            raise ValueError("the window does not fit the canvas")
        if not 1 <= self._channels <= 3 or not features <= min(windows.features, MAX_FEATURES):
            raise ValueError(f"{features} features of a window do not fit")
        if linear.weight.shape != (self._channels, len(near)) or len(near) > MAX_NEAR:
            raise ValueError("the linear predictor does not fit")
        _in_range(near, 0, features - 1, "features of the predictor")

    def _map(self, m: Map) -> _Map:
        if m.depth < 1 or m.columns < 1 or m.margin < 0 or m.features < 1 or m.features % 2:
            raise ValueError(f"a map cannot be {m}")
        if m.known is None:
            return _Map(m.depth, m.columns, m.margin, m.features, None)
        if m.margin:
            raise ValueError("a map that is known has no margins")
        return _Map(
            m.depth, m.columns, 0, m.features, _address(m.known, np.int16, m.depth, m.columns, self._images, m.features)
        )

    def _check_step(self, step: Step, maps: Sequence[Map], last: bool) -> None:
        if step.layer.core is not self._core or not 1 <= len(step.taps) <= MAX_TAPS:
            raise ValueError("a step's layer or inputs are not possible")
        if not 0 <= step.level < 16 or step.scale not in (-1, 0, 1) or not 0 <= step.parity < 4:
            raise ValueError("a step's place is not possible")
        if not all(0 <= tap.map < len(maps) for tap in step.taps):
            raise ValueError("a step reads maps that are not there")
        cells = -(-self._width >> step.level)  # in a row that the step makes
        features = maps[step.taps[0].map].features
        if features * len(step.taps) != step.layer.columns:
            raise ValueError(f"{len(step.taps)} inputs of {features} do not fit a layer of {step.layer.columns}")
        last_column = 2 * (cells - 1) if step.scale > 0 else (cells - 1) >> -step.scale
        for tap in step.taps:
            source = maps[tap.map]
            if source.features != features or source.margin + tap.column < 0:
                raise ValueError(f"{tap} does not fit its step")
            if last_column + tap.column >= source.columns + source.margin:
                raise ValueError(f"{tap} lies outside its map")
        self._check_results(step, maps, cells, last)

    def _check_results(self, step: Step, maps: Sequence[Map], cells: int, last: bool) -> None:
        if (step.kind == OUTPUT_WIDE) != last or step.kind not in (HIDDEN, OUTPUT, RESIDUAL, OUTPUT_WIDE, GATE):
            raise ValueError("the last step and no other gives the outputs")
        if not 0 < step.limit < (2**18 if last else ELU_ENTRIES):
            raise ValueError(f"a step's limit cannot be {step.limit}")
        if last:
            if step.level or step.scale:
                raise ValueError("outputs are those of pixels")
            return
        if (
            step.out < 0 and (step.kind in (RESIDUAL, GATE) or step.active < 0)
        ) or not COPY <= step.activation <= CONCAT_ELU:
            raise ValueError("a step has no place for its results")
        made = step.layer.rows // 2 if step.kind == GATE else step.layer.rows
        for number, size in ((step.out, made), (step.active, made * (1 + (step.activation == CONCAT_ELU)))):
            if number < -1 or number >= len(maps):
                raise ValueError(f"there is no map {number}")
            if number >= 0 and (
                maps[number].features < size or maps[number].columns < cells or maps[number].known is not None
            ):
                raise ValueError(f"the results of a step do not fit {maps[number]}")

    def run(self, row: int, first: int, last: int) -> tuple[Int32[np.ndarray, "N M"], Int32[np.ndarray, "N C"]]:
        """Outputs int32 [N * B, outputs] and centres int32 [N * B, C] of columns first to last - 1 of a row."""
        if not 0 <= row < self._height or not 0 <= first < last <= self._width:
            raise ValueError(f"columns {first} to {last} of row {row}")
        n = (last - first) * self._images
        outputs, base = np.empty((n, self.outputs), np.int32), np.empty((n, self._channels), np.int32)
        self._core.streams_run(
            self._handle, row, first, last, _output_address(outputs, np.int32, n, self.outputs),
            _output_address(base, np.int32, n, self._channels),
        )  # fmt: skip
        return outputs, base


def _step(s: Step) -> _Step:
    taps = _c_array([_Tap(*tap) for tap in s.taps], _Tap)
    return _Step(
        s.layer.handle, s.kind, s.limit, s.level, s.scale, s.parity, len(s.taps), taps, s.out, s.active, s.activation
    )
