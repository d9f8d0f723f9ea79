# SPDX-License-Identifier: MIT
"""The binding of the native core: the only place that calls the C library (gmcodec.h).

``core()`` is the library with the best instruction set of this processor, or the one that ``GMCODEC_ISA`` names.  It
makes ``Net``, ``Tile`` and ``Layer``, and has the functions that need neither.  The library trusts what it is passed,
so everything is checked here: dtype, layout, size and bounds of every array.  Calls release the GIL.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import NativeError

VARIABLE = "GMCODEC_ISA"
LIBRARY = {"win32": "gmcodec.dll", "darwin": "libgmcodec.dylib"}.get(sys.platform, "libgmcodec.so")
MAX_ROWS, MAX_FEATURES, MAX_MIXTURES, MAX_NEAR, MAX_RUN, MAX_RANKS = 1024, 1024, 32, 1024, 34, 8
HIDDEN, OUTPUT, RESIDUAL, OUTPUT_WIDE, GATE = range(5)  # what follows the sums of a layer
TABLE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 17409}


# -- the structures of gmcodec.h ---------------------------------------------------------------------------------


class _Layer(Structure):
    _fields_ = (
        ("rows", c_int32), ("columns", c_int32), ("weight", c_void_p), ("bias", c_void_p), ("multiplier", c_void_p),
        ("shift", c_void_p),
    )  # fmt: skip


class _Scale(Structure):
    _fields_ = (("shift", c_int32), ("more", c_int32), ("top", c_int32), ("half", c_int32))


class _Net(Structure):
    _fields_ = (
        ("channels", c_int32), ("mixtures", c_int32), ("blocks", c_int32), ("condition", c_int32), ("limit", c_int32),
        ("output_limit", c_int32), ("layers", POINTER(_Layer)), ("conditions", POINTER(_Layer)),
        ("linear", POINTER(_Layer)), ("near", c_void_p), ("runs", c_int32), ("run", c_void_p), ("softmax", c_void_p),
        ("inverse", c_void_p), ("sigmoid", c_void_p),
    )  # fmt: skip


class _Rules(Structure):
    _fields_ = (("scale", c_void_p), ("rate", c_void_p), ("cut", c_void_p), ("limit", c_int32), ("unit", c_int32))


class _Learning(Structure):
    _fields_ = (
        ("layers", POINTER(_Rules)), ("block_unit", c_void_p), ("linear_rate", c_void_p), ("averaged", c_int32)
    )  # fmt: skip


class _Place(Structure):
    _fields_ = (
        ("height", c_int32), ("width", c_int32), ("channels", c_int32), ("slope", c_int32), ("deep", c_int32),
        ("row_size", c_int32), ("origin", c_int64), ("samples", c_void_p),
    )  # fmt: skip


class _Coding(Structure):
    _fields_ = (("scale", _Scale), ("nibbles", c_int32), ("values", c_void_p), ("weighted", c_void_p))


class _Stack(Structure):
    _fields_ = (("state", c_uint64), ("count", c_int64))


_P, _I, _L = c_void_p, c_int32, c_int64
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("net_new", _P, (POINTER(_Net),)),
    ("net_free", None, (_P,)),
    ("net_evaluate", _I, (_P, _P, _L, _P, _L, _P, _P, _P)),
    ("net_features", None, (_P, _P, _L, _P, _L, _P, _P)),
    ("tile_new", _P, (POINTER(_P), POINTER(_Learning), _I, POINTER(_Place), POINTER(_Coding), _I)),
    ("tile_free", None, (_P,)),
    ("tile_push", c_double, (_P, _I, _I, POINTER(_Stack), _P)),
    ("tile_sample", None, (_P, _I, _I, _I, _P, _P)),
    ("tile_pop", None, (_P, _I, _I, POINTER(_Stack), _P)),
    ("tile_evaluate", _L, (_P,)),
    ("tile_symbols", None, (_P, POINTER(_L))),
    ("tile_ranges", c_double, (_P, _I, _I, _I, POINTER(_P))),
    ("tile_take", None, (_P, _I, _I, _I, POINTER(_Stack), POINTER(_P))),
    ("push_ranges", None, (_P, _L, POINTER(_Stack), _P)),
    ("layer_new", _P, (POINTER(_Layer),)),
    ("layer_free", None, (_P,)),
    ("layer_run", None, (_P, _I, _I, _P, _L, _L, _P, _P, _L)),
    ("layer_sums", None, (_P, _P, _L, _L, _P)),
    ("convolve", _I, (_P, _I, _I, _P, _L, _I, _I, _I, _I, _I, _P)),
    ("leaky", None, (_P, _L, _P)),
    ("elu", None, (_P, _L, _P, _P)),
    ("streams_new", _P, (_P,)),  # native/streams.py
    ("streams_free", None, (_P,)),
    ("streams_run", None, (_P, _I, _I, _I, _P, _P)),
    ("softmax", None, (_P, _L, _L, _I, _P, _P)),
    ("open_channel", None, (_P, _L, _P, _P, _L, _I, _I, _I, _P, _P, _P)),
    ("nibble_rows", None, (_P, _P, _P, _L, _I, _P, _P, _P)),
    ("observe", None, (_P, _L, _I, _P, _P, _P, _P)),
    ("reweight", None, (_P, _P, _L, _P)),
    ("gaussian_rows", None, (_P, _L, _P, _P, _L, _P, _L, _P, _L, _P, _P)),
    ("undo_png", None, (_P, _L, _P, _L, _L, _L, _L)),
    ("undo_med", None, (_P, _L, _L, _L, _I)),
)


class _Functions(Structure):
    _fields_ = (("isa", c_char_p), *((name, c_void_p) for name, _, _ in _FUNCTIONS))


# -- the library -------------------------------------------------------------------------------------------------


@functools.cache
def _library() -> ctypes.CDLL:
    path = os.environ.get("GMCODEC_LIBRARY") or Path(__file__).parent / LIBRARY
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeError(f"the native library cannot be loaded; install gmcodec again: {error}") from error
    library.gm_open.restype, library.gm_open.argtypes = POINTER(_Functions), (c_char_p,)
    library.gm_isas.restype, library.gm_isas.argtypes = c_char_p, ()
    return library


def isas() -> list[str]:
    """Instruction sets that the library has and this processor too, the best first."""
    return _library().gm_isas().decode().split(",")  # type: ignore[no-any-return]


def core(isa: str | None = None) -> Core:
    """The library for an instruction set, or the one that GMCODEC_ISA names, or the best.  Raises NativeError."""
    return _core(os.environ.get(VARIABLE, "") if isa is None else isa)


@functools.cache
def _core(isa: str) -> Core:
    table = _library().gm_open(isa.encode())
    if not table:
        raise NativeError(f"{VARIABLE}={isa}: this processor or library does not have it; it has {', '.join(isas())}")
    return Core(table.contents)


def _at(array: np.ndarray, dtype: Any, *shape: int | None) -> int:
    """Address of an array's first element; TypeError or ValueError if it is not as the library needs it."""
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise TypeError(f"expected contiguous {np.dtype(dtype)}, got {array.dtype}{' in strides' * (not array.flags.c_contiguous)}")  # fmt: skip
    if len(shape) != array.ndim or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"expected the shape {shape}, got {array.shape}")
    return array.ctypes.data


def _into(array: np.ndarray, dtype: Any, *shape: int | None) -> int:
    """``_at`` of an array that the library writes to."""
    if not array.flags.writeable:
        raise ValueError("the array cannot be written")
    return _at(array, dtype, *shape)


def _within(array: np.ndarray, low: int, high: int, what: str) -> np.ndarray:
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise ValueError(f"{what} must lie in {low}..{high}")
    return array


def _paired(x: np.ndarray) -> np.ndarray:
    """int16 [N, K], filled up with a zero if K is odd: the library reads pairs."""
    return x if x.shape[1] % 2 == 0 else np.ascontiguousarray(np.pad(x, ((0, 0), (0, 1))))


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


@dataclass(frozen=True)
class Rules:
    """How a layer learns: gm_rules_data.  float64, int64 and int32 [rows], and two numbers."""

    scale: np.ndarray
    rate: np.ndarray
    cut: np.ndarray
    limit: int
    unit: int


@dataclass(frozen=True)
class Learning:
    """How a net learns: gm_learning_data.  ``layers`` first, up and down of every block, last."""

    layers: tuple[Rules, ...]
    block_unit: np.ndarray  # float64 [blocks]
    linear_rate: np.ndarray  # int64 [channels]
    averaged: bool


def _array(structures: Sequence[Any], kind: Any) -> Any:
    return (kind * len(structures))(*structures)


class Net:
    """A frozen local net in the library.  Immutable; safe to share by threads."""

    def __init__(
        self,
        core: Core,
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

        near int32 [K]; runs int32 [R, 3]: dy, first dx, pixels; tables: exact.tables.Tables; limits of activations and
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
        samples = int(runs[:, 2].sum()) * channels
        if samples + channels != features or features > MAX_FEATURES or runs[:, 2].max() > MAX_RUN:
            raise ValueError(f"a window of {samples} samples does not fit {features} features")
        if linear.weight.shape != (channels, len(near)) or not 0 < mixtures <= MAX_MIXTURES or len(near) > MAX_NEAR:
            raise ValueError("the linear predictor or the mixture does not fit the net")
        if not (0 < limits[0] < 2**15 and 0 < limits[1] <= 2**17):
            raise ValueError(f"limits {limits} are too large")
        near = np.ascontiguousarray(_within(near, 0, features - 1, "features of the predictor"), np.int32)
        runs = np.ascontiguousarray(runs, np.int32)
        found = [_at(getattr(tables, name), np.int32, size) for name, size in TABLE_SIZES.items()]
        parts = _array([layer.structure() for layer in layers], _Layer)
        told = _array([layer.structure() for layer in conditions], _Layer) if conditions else None
        data = _Net(
            channels, mixtures, blocks, self.condition, *limits, parts, told, ctypes.pointer(linear.structure()),
            _at(near, np.int32, None), len(runs), _at(runs, np.int32, None, 3), *found,
        )  # fmt: skip
        self.core, self.channels, self.blocks, self.outputs = core, channels, blocks, mixtures * groups
        self.sizes = sizes
        self.handle = core.made(core.net_new(byref(data)))
        weakref.finalize(self, core.net_free, self.handle)
        self._rows = np.abs(runs[:, 0]).max(initial=0)

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
        reach = self._rows * row_size + self._rows * self.channels
        _within(at, reach, samples.size - self.channels, "pixels")


class Tile:
    """A tile while it is coded: steps of the wavefront in order, by one net, or by nets that learn on their way."""

    def __init__(
        self,
        nets: Sequence[Net],
        learning: Sequence[Learning] | None,
        canvas: Any,
        slope: int,
        scale: tuple[int, int, int, int],
        nibbles: int,
        values: tuple[np.ndarray, np.ndarray] | None,
        ranks: int,
    ) -> None:
        """canvas: models.window.Canvas of one tile; scale: exact.tables.Scale; values: int64 [C, 256] and bool [C];
        ranks: threads that share the work.  Raises ValueError, TypeError, NativeError.
        """
        core, net = nets[0].core, nets[0]
        deep = canvas.samples.dtype == np.int32
        if not 1 <= ranks <= MAX_RANKS or not 1 <= len(nets) <= 2 or (deep and len(nets) > 1):
            raise ValueError(f"{ranks} threads or {len(nets)} nets for a tile")
        if any(n.channels != canvas.channels or n.core is not core for n in nets):
            raise ValueError("nets of a tile must fit its channels and each other")
        if (not deep and (nibbles, scale[0], scale[2]) != (2, 0, 255)) or not 2 <= nibbles <= 4:
            raise ValueError(f"{nibbles} nibbles do not fit the samples")
        where = int(canvas.locate(np.zeros(1, np.int64))[0])
        place = _Place(
            canvas.height, canvas.width, canvas.channels, slope, deep, canvas.row_size, where,
            _into(canvas.flat, np.int32 if deep else np.int16, None),
        )  # fmt: skip
        coding = _Coding(_Scale(*scale), nibbles, None, None)
        if values is not None:
            coding.values = _at(values[0], np.int64, canvas.channels, 256)
            coding.weighted = _at(values[1].view(np.uint8), np.uint8, canvas.channels)
        rules = None if learning is None else _array([_rules(n, r) for n, r in zip(nets, learning, strict=True)], _Learning)  # fmt: skip
        handles = _array([n.handle for n in nets], _P)
        self._core, self._kept = core, (tuple(nets), canvas)  # the library has addresses in them
        self._handle = core.made(core.tile_new(handles, rules, len(nets), byref(place), byref(coding), ranks))
        weakref.finalize(self, core.tile_free, self._handle)
        self.steps = slope * (canvas.height - 1) + canvas.width
        self._most = min(canvas.height, -(-canvas.width // slope))
        self._symbols, self._ranks = canvas.channels * nibbles, ranks
        self._learns = learning is not None

    def _check(self, first: int, last: int, learns: bool, rank: int = 0) -> None:
        if self._learns != learns or not 0 <= first <= last <= self.steps or not 0 <= rank < self._ranks:
            raise ValueError(f"steps {first} to {last} of {self.steps}, thread {rank} of {self._ranks}")

    # -- a net that stays as it is: push and pop mirror each other

    def push(self, first: int, last: int, state: int) -> tuple[int, np.ndarray, float]:
        """Push the steps last - 1 down to first: the state, words uint32, bits."""
        self._check(first, last, False)
        words = np.empty(self._symbols * self._most * (last - first) + 1, np.uint32)  # a word a nibble at most
        stack = _Stack(state, 0)
        bits = self._core.tile_push(self._handle, first, last, byref(stack), words.ctypes.data)
        return stack.state, words[: stack.count].copy(), bits

    def pop(self, first: int, last: int, state: int, words: np.ndarray, count: int) -> tuple[int, int]:
        """Pop the steps first to last - 1 into the canvas: the state, how many of uint32 ``words`` are left."""
        self._check(first, last, False)
        if not 0 <= count <= len(words):
            raise ValueError(f"{count} of {len(words)} words")
        stack = _Stack(state, count)
        self._core.tile_pop(self._handle, first, last, byref(stack), _at(words, np.uint32, None))
        return stack.state, stack.count

    def sample(self, first: int, last: int, every: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each ``every`` steps, the last first: how many pixels were chosen, int64, and their bits, float64."""
        self._check(first, last, False)
        groups = -(-(last - first) // every)
        pixels, bits = np.empty(groups, np.int64), np.empty(groups)
        self._core.tile_sample(self._handle, first, last, every, pixels.ctypes.data, bits.ctypes.data)
        return pixels, bits

    def evaluate(self) -> int:
        """The net alone, to measure it."""
        self._check(0, 0, False)
        return int(self._core.tile_evaluate(self._handle))

    # -- nets that learn: find_ranges and take mirror each other

    def symbols(self) -> tuple[int, int]:
        """Nibbles in each of the two stacks."""
        counts = (c_int64 * 2)()
        self._core.tile_symbols(self._handle, counts)
        return counts[0], counts[1]

    def find_ranges(self, rank: int, first: int, last: int, ranges: tuple[np.ndarray, np.ndarray]) -> float:
        """This rank's part of the steps, into uint32 [symbols, 2] of both stacks; bits.  All ranks must call it."""
        self._check(first, last, True, rank)
        where = [_into(r, np.uint32, n, 2) for r, n in zip(ranges, self.symbols(), strict=True)]
        return float(self._core.tile_ranges(self._handle, rank, first, last, _array(where, _P)))

    def take(self, rank: int, first: int, last: int, stacks: Stacks) -> None:
        """This rank's part of the steps, into the canvas.  All ranks must call it."""
        self._check(first, last, True, rank)
        where = [_at(words, np.uint32, None) for words in stacks.words]
        self._core.tile_take(self._handle, rank, first, last, stacks.structures, _array(where, _P))


def _rules(net: Net, learning: Learning) -> _Learning:
    if len(learning.layers) != len(net.sizes):
        raise ValueError("rules do not fit the net")
    each = [
        _Rules(_at(r.scale, np.float64, n), _at(r.rate, np.int64, n), _at(r.cut, np.int32, n), r.limit, r.unit)
        for r, (n, _) in zip(learning.layers, net.sizes, strict=True)
    ]
    unit, rate = _at(learning.block_unit, np.float64, net.blocks), _at(learning.linear_rate, np.int64, net.channels)
    return _Learning(_array(each, _Rules), unit, rate, learning.averaged)


class Stacks:
    """The two stacks of a tile whose nets learn, while it is decoded."""

    def __init__(self, words: Sequence[np.ndarray], opened: Sequence[tuple[int, int]]) -> None:
        """words uint32 each; ``opened``: state and how many words are left, as of exact.ans."""
        if len(words) != 2 or any(not 0 <= count <= len(w) for w, (_, count) in zip(words, opened, strict=True)):
            raise ValueError("a tile has two stacks")
        self.words = [np.ascontiguousarray(w, np.uint32) for w in words]
        self.structures = _array([_Stack(state, count) for state, count in opened], _Stack)

    @property
    def empty(self) -> bool:
        """Whether all has been popped."""
        return not any(s.state or s.count for s in self.structures)


class Layer:
    """A frozen layer in the library: x int16 [N, K] -> its sums and what follows.  Immutable."""

    def __init__(self, core: Core, arrays: LayerArrays) -> None:
        self.core, (self.rows, self.columns) = core, arrays.weight.shape
        self.handle = core.made(core.layer_new(byref(arrays.structure())))
        weakref.finalize(self, core.layer_free, self.handle)

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


class Core:
    """The functions of one instruction set."""

    def __init__(self, table: _Functions) -> None:
        self.isa: str = table.isa.decode()
        for name, result, arguments in _FUNCTIONS:
            kind = ctypes.CFUNCTYPE(result, *arguments)
            setattr(self, name, kind(getattr(table, name)))

    def __getattr__(self, name: str) -> Any:  # for mypy: the functions above
        raise AttributeError(name)

    @staticmethod
    def made(handle: int | None) -> int:
        if not handle:
            raise MemoryError("the native library has not enough memory")
        return handle

    def layer(self, layer: Any) -> Layer:
        """An exact.ops.Layer, ready."""
        return Layer(self, LayerArrays.of(layer))

    def pushed(self, ranges: np.ndarray) -> tuple[int, np.ndarray]:
        """State and words, uint32, of a stack with all ranges uint32 [N, 2] (left, freq), the first on top."""
        words, stack = np.empty(len(ranges) + 1, np.uint32), _Stack(0, 0)
        self.push_ranges(_at(ranges, np.uint32, None, 2), len(ranges), byref(stack), words.ctypes.data)
        return stack.state, words[: stack.count].copy()

    # -- maps of features

    def activated(self, x: np.ndarray, table: np.ndarray | None) -> np.ndarray:
        """Leaky ReLU of x int16, or ELU by a table int32 of -elu(-v); |x| is below the table's length."""
        out, where = np.empty(x.shape, np.int16), _at(x, np.int16, *x.shape)
        if table is None:
            self.leaky(where, x.size, out.ctypes.data)
        else:
            _within(x, 1 - len(table), len(table) - 1, "values")
            self.elu(where, x.size, _at(table, np.int32, None), out.ctypes.data)
        return out

    # -- rows of frequencies

    def priors(self, outputs: np.ndarray, k: int, softmax: np.ndarray) -> np.ndarray:
        """Mixture weights int64 [N, k] from outputs int32 [N, >= k]."""
        n, row = outputs.shape
        if not 0 < k <= min(MAX_MIXTURES, row):
            raise ValueError(f"{k} logistics of {row} outputs")
        weights = np.empty((n, k), np.int64)
        table = _at(softmax, np.int32, TABLE_SIZES["softmax"])
        self.softmax(_at(outputs, np.int32, n, row), row, n, k, table, weights.ctypes.data)
        return weights

    def logistics(
        self, outputs: np.ndarray, base: np.ndarray, samples: np.ndarray, channel: int, k: int, inverse: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and inverse scales int64 [N, k] of a channel, given samples int32 [N, C] of those before it."""
        (n, row), channels = outputs.shape, base.shape[1]
        if not 0 <= channel < channels or row < k * (1 + 2 * channels + channels * (channels - 1) // 2):
            raise ValueError(f"channel {channel} of {channels} from {row} outputs")
        mean, scale = np.empty((2, n, k), np.int64)
        self.open_channel(
            _at(outputs, np.int32, n, row), row, _at(base, np.int32, n, channels), _at(samples, np.int32, n, channels),
            n, channel, channels, k, _at(inverse, np.int32, TABLE_SIZES["inverse"]), mean.ctypes.data,
            scale.ctypes.data,
        )  # fmt: skip
        return mean, scale

    def rows(
        self, weights: np.ndarray, mean: np.ndarray, inverse: np.ndarray, sigmoid: np.ndarray,
        high: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Frequencies int32 [N, 16] of the high nibble, or of the low one given int32 [N] high ones in 0..15."""
        n, k = weights.shape
        out = np.empty((n, 16), np.int32)
        given = None if high is None else _at(_within(high, 0, 15, "nibbles"), np.int32, n)
        self.nibble_rows(
            *(_at(a, np.int64, n, k) for a in (weights, mean, inverse)), n, k,
            _at(sigmoid, np.int32, TABLE_SIZES["sigmoid"]), given, out.ctypes.data,
        )  # fmt: skip
        return out

    def observed(
        self, sample: np.ndarray, weights: np.ndarray, mean: np.ndarray, inverse: np.ndarray, sigmoid: np.ndarray
    ) -> None:
        """Bayes' rule, in place on weights int64 [N, k]: sample int32 [N] in 0..255."""
        n, k = weights.shape
        self.observe(
            _at(_within(sample, 0, 255, "samples"), np.int32, n), n, k, _at(mean, np.int64, n, k),
            _at(inverse, np.int64, n, k), _at(sigmoid, np.int32, TABLE_SIZES["sigmoid"]), _into(weights, np.int64, n, k),
        )  # fmt: skip

    def reweighted(self, rows: np.ndarray, high: np.ndarray, values: np.ndarray) -> None:
        """Multiply low nibbles' frequencies int32 [N, 16] by weights int64 [256] of their values, in place."""
        n = len(rows)
        given = _at(_within(high, 0, 15, "nibbles"), np.int32, n)
        self.reweight(_into(rows, np.int32, n, 16), given, n, _at(values, np.int64, 256))

    def latent_rows(self, first: np.ndarray, step: int, mean: np.ndarray, log_scale: np.ndarray, tables: Any) -> np.ndarray:  # fmt: skip
        """exact.gaussians.rows: int32 [N, 16]; first, mean, log_scale int64 [N], exact.gaussians.LatentTables."""
        n, out = len(first), np.empty((len(first), 16), np.int32)
        _within(log_scale, 0, len(tables.inverse) - 1, "log-scales")
        edges, normal = tables.edges, tables.normal
        self.gaussian_rows(
            _at(first, np.int64, n), step, _at(mean, np.int64, n), _at(log_scale, np.int64, n), n,
            _at(edges, np.int32, None), len(edges), _at(normal, np.int32, 3073), len(normal),
            _at(tables.inverse, np.int32, None), out.ctypes.data,
        )  # fmt: skip
        return out

    # -- filters

    def undone_png(self, filtered: np.ndarray, step: int) -> np.ndarray:
        """uint8 [H, 1 + B], each row's kind 0 to 4 first -> uint8 [H, B]."""
        height, width = filtered.shape[0], filtered.shape[1] - 1
        kinds = np.ascontiguousarray(_within(filtered[:, 0], 0, 4, "row filters"))
        rows = np.array(filtered[:, 1:], order="C")
        self.undo_png(_into(rows, np.uint8, height, width), width, kinds.ctypes.data, 1, height, width, step)
        return rows

    def undone_med(self, residual: np.ndarray, mask: int) -> None:
        """Residuals int32 [C, H, W] -> samples, in place, modulo mask + 1."""
        self.undo_med(_into(residual, np.int32, None, None, None), *residual.shape, mask)
