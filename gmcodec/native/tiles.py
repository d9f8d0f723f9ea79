# SPDX-License-Identifier: MIT
"""Tiles while they are coded by the native library, and how nets learn from them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from ctypes import byref, c_int64
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmcodec.native.library import (
    _P,
    MAX_RANKS,
    MAX_WEIGHT,
    _array,
    _at,
    _Coding,
    _into,
    _Learning,
    _Place,
    _Rules,
    _Scale,
    _Stack,
    _within,
)
from gmcodec.native.nets import Net


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
        """canvas: window.Canvas of one tile; scale: logistic.Scale; values: int64 [C, 256] and bool [C];
        ranks: threads that share the work.  Raises ValueError, TypeError, NativeError.
        """
        if not nets:
            raise ValueError("a tile has a net")
        core = nets[0].core
        high_depth = canvas.samples.dtype == np.int32
        if not 1 <= ranks <= MAX_RANKS or len(nets) > (1 if high_depth or learning is None else 2):
            raise ValueError(f"{ranks} threads or {len(nets)} nets for a tile")
        margin = (canvas.row_size // canvas.channels - canvas.width) // 2
        if slope < 1 or not all(n.within(margin, margin) for n in nets):
            raise ValueError("windows of a tile's nets must fit its margins")
        if any(n.channels != canvas.channels or n.core is not core for n in nets):
            raise ValueError("nets of a tile must fit its channels and each other")
        bytes_ = (nibbles, *scale[:3]) == (2, 0, 0, 255)
        levels = 2 <= nibbles <= 4 and 0 <= scale[0] <= 8 and 0 <= scale[1] <= 8 and scale[2] == 16**nibbles - 1
        if not (levels if high_depth else bytes_) or (high_depth and (learning is None or values is not None)):
            raise ValueError(f"{nibbles} nibbles do not fit the samples")
        where = int(canvas.locate(np.zeros(1, np.int64))[0])
        place = _Place(
            canvas.height, canvas.width, canvas.channels, slope, high_depth, canvas.row_size, where,
            _into(canvas.flat, np.int32 if high_depth else np.int16, None),
        )  # fmt: skip
        coding = _Coding(_Scale(*scale), nibbles, None, None)
        if values is not None:
            coding.values = _at(_within(values[0], 0, MAX_WEIGHT, "weights of values"), np.int64, canvas.channels, 256)
            coding.weighted = _at(values[1].view(np.uint8), np.uint8, canvas.channels)
        rules = None
        if learning is not None:
            rules = _array([_rules(n, r) for n, r in zip(nets, learning, strict=True)], _Learning)
        handles = _array([n.handle for n in nets], _P)
        self._core, self._kept = core, (tuple(nets), canvas)  # the library has addresses in them
        self._handle = core.made(core.tile_new(handles, rules, len(nets), byref(place), byref(coding), ranks))
        weakref.finalize(self, core.tile_free, self._handle).atexit = False  # threads may be in it then
        self.steps = slope * (canvas.height - 1) + canvas.width
        self._most = min(canvas.height, -(-canvas.width // slope))
        self._nibbles, self._ranks = canvas.channels * nibbles, ranks  # of a pixel
        self._learns, self._next = learning is not None, [0] * ranks
        counts = (c_int64 * 2)()
        core.tile_symbols(self._handle, counts)
        self.symbols: tuple[int, int] = (counts[0], counts[1])  # nibbles in each of the two stacks

    def _check(self, first: int, last: int, learns: bool, rank: int = 0) -> None:
        if self._learns != learns or not 0 <= first <= last <= self.steps or not 0 <= rank < self._ranks:
            raise ValueError(f"steps {first} to {last} of {self.steps}, thread {rank} of {self._ranks}")

    def _follow(self, first: int, last: int, rank: int) -> None:
        """Steps that nets learn from come one after the other, once."""
        self._check(first, last, True, rank)
        if first != self._next[rank]:
            raise ValueError(f"step {self._next[rank]} is the next, not {first}")

    # -- a net that stays as it is: push and pop mirror each other

    def push(self, first: int, last: int, state: int) -> tuple[int, np.ndarray, float]:
        """Push the steps last - 1 down to first: the state, words uint32, bits."""
        self._check(first, last, False)
        words = np.empty(self._nibbles * self._most * (last - first) + 1, np.uint32)  # a word a nibble at most
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

    # -- nets that learn: find_intervals and pop_online mirror each other

    def find_intervals(self, rank: int, first: int, last: int, intervals: tuple[np.ndarray, np.ndarray]) -> float:
        """This rank's part of the steps, into uint32 [symbols, 2] of both stacks; bits.  All ranks must call it."""
        self._follow(first, last, rank)
        where = [_into(r, np.uint32, n, 2) for r, n in zip(intervals, self.symbols, strict=True)]
        self._next[rank] = last
        return float(self._core.tile_ranges(self._handle, rank, first, last, _array(where, _P)))

    def pop_online(self, rank: int, first: int, last: int, stacks: Stacks) -> None:
        """This rank's part of the steps, into the canvas.  All ranks must call it."""
        self._follow(first, last, rank)
        where = [_at(words, np.uint32, None) for words in stacks.words]
        self._next[rank] = last
        self._core.tile_pop_online(self._handle, rank, first, last, stacks.structures, _array(where, _P))


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
