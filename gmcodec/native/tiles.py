# SPDX-License-Identifier: MIT
"""Tiles while the native library codes them, and the constants by which nets learn from them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import byref, c_int64
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmcodec.arrays import Float64, Int64, UInt32
from gmcodec.native.library import (
    _P,
    MAX_VALUE_WEIGHT,
    MAX_WORKERS,
    _address,
    _c_array,
    _Coding,
    _in_range,
    _output_address,
    _RmspropLayer,
    _RmspropNet,
    _Scale,
    _Stack,
    _TileGeometry,
)
from gmcodec.native.nets import Net


@dataclass(frozen=True)
class RmspropLayer:
    """How a layer learns: gm_rmsprop_layer.  Arrays are [rows]."""

    delta_scale: np.ndarray  # float64
    rate: np.ndarray  # int64
    backward_shift: np.ndarray  # int32
    weight_limit: int
    bias_input: int


@dataclass(frozen=True)
class RmspropNet:
    """How a net learns: gm_rmsprop_net.  ``layers``: first, up and down of every block, last."""

    layers: tuple[RmspropLayer, ...]
    block_unit: np.ndarray  # float64 [blocks]
    linear_rate: np.ndarray  # int64 [channels]
    averaged: bool


class Tile:
    """A tile while it is coded, step by step of the wavefront: by one fixed net, or by nets that learn from it."""

    def __init__(
        self,
        nets: Sequence[Net],
        rmsprop: Sequence[RmspropNet] | None,
        canvas: Any,
        slope: int,
        scale: tuple[int, int, int, int],
        nibbles: int,
        values: tuple[np.ndarray, np.ndarray] | None,
        workers: int,
    ) -> None:
        """rmsprop: how each net learns, or None for one fixed net; canvas: window.Canvas of one tile; scale:
        logistic.Scale; values: weights int64 [C, 256] of values, and which channels have any, bool [C]; workers:
        threads that share the work.  Raises ValueError, TypeError, NativeError.
        """
        if not nets:
            raise ValueError("a tile has a net")
        core = nets[0].core
        high_depth = canvas.samples.dtype == np.int32
        if not 1 <= workers <= MAX_WORKERS or len(nets) > (1 if high_depth or rmsprop is None else 2):
            raise ValueError(f"{workers} threads or {len(nets)} nets for a tile")
        margin = (canvas.row_size // canvas.channels - canvas.width) // 2
        if slope < 1 or not all(n.within(margin, margin) for n in nets):
            raise ValueError("windows of a tile's nets must fit its margins")
        if any(n.channels != canvas.channels or n.core is not core for n in nets):
            raise ValueError("nets of a tile must fit its channels and each other")
        fits_8 = (nibbles, *scale[:3]) == (2, 0, 0, 255)
        fits_16 = 2 <= nibbles <= 4 and 0 <= scale[0] <= 8 and 0 <= scale[1] <= 8 and scale[2] == 16**nibbles - 1
        if not (fits_16 if high_depth else fits_8) or (high_depth and (rmsprop is None or values is not None)):
            raise ValueError(f"{nibbles} nibbles do not fit the samples")
        origin = int(canvas.locate(np.zeros(1, np.int64))[0])
        geometry = _TileGeometry(
            canvas.height, canvas.width, canvas.channels, slope, high_depth, canvas.row_size, origin,
            _output_address(canvas.flat, np.int32 if high_depth else np.int16, None),
        )  # fmt: skip
        coding = _Coding(_Scale(*scale), nibbles, None, None)
        if values is not None:
            coding.values = _address(
                _in_range(values[0], 0, MAX_VALUE_WEIGHT, "weights of values"), np.int64, canvas.channels, 256
            )
            coding.weighted = _address(values[1].view(np.uint8), np.uint8, canvas.channels)
        constants = None
        if rmsprop is not None:
            constants = _c_array([_rmsprop(n, r) for n, r in zip(nets, rmsprop, strict=True)], _RmspropNet)
        handles = _c_array([n.handle for n in nets], _P)
        self._core, self._keep_alive = core, (tuple(nets), canvas)  # the library keeps addresses in them
        self._handle = core.made(core.tile_new(handles, constants, len(nets), byref(geometry), byref(coding), workers))
        weakref.finalize(self, core.tile_free, self._handle).atexit = False  # at exit a thread may still use it
        self.steps = slope * (canvas.height - 1) + canvas.width
        self._max_step_pixels = min(canvas.height, -(-canvas.width // slope))
        self._pixel_nibbles, self._workers = canvas.channels * nibbles, workers
        self._learns, self._next_step = rmsprop is not None, [0] * workers
        counts = (c_int64 * 2)()
        core.tile_symbols(self._handle, counts)
        self.symbols: tuple[int, int] = (counts[0], counts[1])  # nibbles in each of the two stacks

    def _check_steps(self, first: int, last: int, learns: bool, worker: int = 0) -> None:
        if self._learns != learns or not 0 <= first <= last <= self.steps or not 0 <= worker < self._workers:
            raise ValueError(f"steps {first} to {last} of {self.steps}, thread {worker} of {self._workers}")

    def _check_next(self, first: int, last: int, worker: int) -> None:
        """Nets learn from the steps, so each worker must come to every step once, in order."""
        self._check_steps(first, last, True, worker)
        if first != self._next_step[worker]:
            raise ValueError(f"step {self._next_step[worker]} is the next, not {first}")

    # -- a fixed net: push and pop mirror each other

    def push(self, first: int, last: int, state: int) -> tuple[int, UInt32[np.ndarray, " N"], float]:
        """Push the steps last - 1 down to first onto a stack of this state: the new state, the words uint32 that it
        wrote, and the bits of the steps.
        """
        self._check_steps(first, last, False)
        nibbles = self._pixel_nibbles * self._max_step_pixels * (last - first)
        words = np.empty(nibbles + 1, np.uint32)  # a nibble takes at most a word
        stack = _Stack(state, 0)
        bits = self._core.tile_push(self._handle, first, last, byref(stack), words.ctypes.data)
        return stack.state, words[: stack.count].copy(), bits

    def pop(
        self, first: int, last: int, state: int, words: UInt32[np.ndarray, " words"], count: int
    ) -> tuple[int, int]:
        """Pop the steps first to last - 1 into the canvas, from a stack of this state and the first ``count`` of the
        ``words`` uint32: the new state and count.
        """
        self._check_steps(first, last, False)
        if not 0 <= count <= len(words):
            raise ValueError(f"{count} of {len(words)} words")
        stack = _Stack(state, count)
        self._core.tile_pop(self._handle, first, last, byref(stack), _address(words, np.uint32, None))
        return stack.state, stack.count

    def sample(self, first: int, last: int, every: int) -> tuple[Int64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """Choose about one pixel in ``every`` of each group of ``every`` steps: each group's number of chosen pixels,
        int64, and their bits, float64; the last group first.
        """
        self._check_steps(first, last, False)
        groups = -(-(last - first) // every)
        pixels, bits = np.empty(groups, np.int64), np.empty(groups)
        self._core.tile_sample(self._handle, first, last, every, pixels.ctypes.data, bits.ctypes.data)
        return pixels, bits

    def evaluate(self) -> int:
        """Evaluate the net at every pixel and code nothing, to measure its speed."""
        self._check_steps(0, 0, False)
        return int(self._core.tile_evaluate(self._handle))

    # -- nets that learn: find_intervals and pop_online mirror each other

    def find_intervals(self, worker: int, first: int, last: int, intervals: tuple[np.ndarray, np.ndarray]) -> float:
        """Write the intervals of the worker's share of the steps to ``intervals``, uint32 [symbols, 2] of each stack,
        and return their bits.  Every worker must call it, in a thread of its own.
        """
        self._check_next(first, last, worker)
        addresses = [_output_address(r, np.uint32, n, 2) for r, n in zip(intervals, self.symbols, strict=True)]
        self._next_step[worker] = last
        return float(self._core.tile_intervals(self._handle, worker, first, last, _c_array(addresses, _P)))

    def pop_online(self, worker: int, first: int, last: int, stacks: Stacks) -> None:
        """Pop the worker's share of the steps into the canvas.  Every worker must call it, in a thread of its own."""
        self._check_next(first, last, worker)
        addresses = [_address(words, np.uint32, None) for words in stacks.words]
        self._next_step[worker] = last
        self._core.tile_pop_online(self._handle, worker, first, last, stacks.structures, _c_array(addresses, _P))


def _rmsprop(net: Net, rmsprop: RmspropNet) -> _RmspropNet:
    if len(rmsprop.layers) != len(net.sizes):
        raise ValueError("the layers' constants do not fit the net")
    layers = [
        _RmspropLayer(
            _address(layer.delta_scale, np.float64, n), _address(layer.rate, np.int64, n),
            _address(layer.backward_shift, np.int32, n), layer.weight_limit, layer.bias_input,
        )
        for layer, (n, _) in zip(rmsprop.layers, net.sizes, strict=True)
    ]  # fmt: skip
    block_unit = _address(rmsprop.block_unit, np.float64, net.blocks)
    linear_rate = _address(rmsprop.linear_rate, np.int64, net.channels)
    return _RmspropNet(_c_array(layers, _RmspropLayer), block_unit, linear_rate, rmsprop.averaged)


class Stacks:
    """The two stacks of a tile whose nets learn, while it is decoded."""

    def __init__(self, words: Sequence[np.ndarray], opened: Sequence[tuple[int, int]]) -> None:
        """words: uint32 of each stack; opened: each stack's state and number of words, from ``exact.ans.stack_of``."""
        if len(words) != 2 or any(not 0 <= count <= len(w) for w, (_, count) in zip(words, opened, strict=True)):
            raise ValueError("a tile has two stacks")
        self.words = [np.ascontiguousarray(w, np.uint32) for w in words]
        self.structures = _c_array([_Stack(state, count) for state, count in opened], _Stack)

    @property
    def empty(self) -> bool:
        """Whether both stacks have been popped to their end."""
        return not any(s.state or s.count for s in self.structures)
