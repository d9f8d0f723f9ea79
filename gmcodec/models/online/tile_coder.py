# SPDX-License-Identifier: MIT
"""Code a tile with local nets that learn on their way: spec.py is the specification, the native core does the work.

Coded pixels change the nets, so encoder and decoder both go forwards.  ANS is a stack, so the encoder keeps the
intervals of all symbols (48 bytes for a pixel of three channels of 8 bits) and pushes them backwards at the end.

Several threads may share a tile: each evaluates its share of a step's pixels, goes back through its share of a batch,
and moves the weights of some layers.  A tile always has two stacks.  Each holds a part of every step's pixels, so that
two threads can pop at once::

    words of a tile, uint32:  number of words of the first stack | those words | those of the second stack

Nets trained on 8 bits code samples of more bits, too, on a scale that suits the image: once the noise has the size that
a net was trained on, its predictions hold, and learning improves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from gmcodec import native
from gmcodec.arrays import Float64, Shaped, UInt, UInt32
from gmcodec.exact import ans
from gmcodec.exact.logistic import Scale
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.mixture import Weights, value_weights
from gmcodec.models.shared.window import Canvas, report, split_steps
from gmcodec.progress import Callback
from gmcodec.threads import Threads

T = TypeVar("T")
MAX_TILE_THREADS = 4  # of a tile: a step has only about a hundred pixels
ONLINE_CALL_PIXELS = 1 << 12  # of a call, between two reports of progress, which may stop the work: 0.1 s


class Member(NamedTuple):
    """A net and the rules by which it learns."""

    config: LocalConfig
    net: native.Net
    rules: native.RmspropNet


class ThreadTeam:
    """The threads that share a tile; worker 0 is the calling thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        # not a shared pool: workers wait for one another, so all of them must run at once
        self._others = Threads(count - 1) if count > 1 else None

    def run(self, work: Callable[[int], T]) -> list[T]:
        """The results of ``work(0)``, ``work(1)``, ..., done side by side."""
        others = [self._others.submit(work, worker) for worker in range(1, self.count)] if self._others else []
        return [work(0), *(other.result() for other in others)]

    def __enter__(self) -> ThreadTeam:
        return self

    def __exit__(self, *_: object) -> None:
        if self._others:
            self._others.shutdown()


class OnlineTileCoder:
    """Codes tiles with nets that start anew with every tile.  Immutable; safe to share by threads."""

    def __init__(
        self, members: Sequence[Member], scale: Scale, nibbles: int, dtype: type[np.signedinteger], mirror: int = 0
    ) -> None:
        """One net, or, for samples of 8 bits, two of the same slope.

        scale    a grey level of the nets is 2**scale.shift sample values
        nibbles  of a sample
        dtype    of the canvas
        mirror   how tiles are ``mirrored``
        """
        self._members, self._scale, self._nibbles, self._dtype = tuple(members), scale, nibbles, dtype
        self._mirror = mirror

    def _open(self, height: int, width: int, weights: Weights, threads: int) -> tuple[Canvas, native.Tile]:
        """An empty canvas and the tile on it."""
        first = self._members[0].config
        window = max((member.config.window for member in self._members), key=lambda w: w.reach)
        canvas = Canvas(window, height, width, 1, self._dtype)
        values = value_weights(weights, window.channels)
        nets, rules = [member.net for member in self._members], [member.rules for member in self._members]
        return canvas, native.Tile(nets, rules, canvas, first.slope, self._scale, self._nibbles, values, threads)

    def intervals(
        self, planes: UInt[np.ndarray, "C H W"], progress: Callback, weights: Weights = None, threads: int = 1
    ) -> tuple[tuple[np.ndarray, np.ndarray], float]:
        """Intervals of all nibbles of a tile [C, H, W] in coding order, for each of both stacks, and their bits.

        Intervals are uint32 [symbols, 2]: start and frequency, in 2**-24.
        """
        _, height, width = planes.shape
        with ThreadTeam(min(threads, MAX_TILE_THREADS)) as team:
            canvas, tile = self._open(height, width, weights, team.count)
            canvas.fill(mirrored(planes, self._mirror)[None])
            found = np.empty((tile.symbols[0], 2), np.uint32), np.empty((tile.symbols[1], 2), np.uint32)
            calls, bits = split_steps(tile.steps, height * width, ONLINE_CALL_PIXELS), 0.0
            for number, (first, last) in enumerate(calls):
                bits += sum(team.run(partial(tile.find_intervals, first=first, last=last, intervals=found)))
                report(progress, height * width, number, len(calls))
        return found, bits

    def push_words(
        self, planes: UInt[np.ndarray, "C H W"], progress: Callback, weights: Weights = None, threads: int = 1
    ) -> tuple[UInt32[np.ndarray, " words"], Float64[np.ndarray, " 1"]]:
        """A tile [C, H, W] -> words uint32, and the estimated bits [1].  The words do not depend on ``threads``."""
        found, bits = self.intervals(planes, progress, weights, threads)
        core = self._members[0].net.core
        return joined([core.pushed(part) for part in found]), np.array([bits])

    def pixel_bits(
        self, planes: np.ndarray, progress: Callback, weights: Weights = None, threads: int = 1
    ) -> np.ndarray:
        """Bits of each pixel of a tile [C, H, W], all its channels together: float64 [H, W]."""
        channels, height, width = planes.shape
        found, _ = self.intervals(planes, progress, weights, threads)
        step = (self._members[0].config.slope * np.arange(height)[:, None] + np.arange(width)).ravel()
        order, counts = np.argsort(step, kind="stable"), np.bincount(step)
        within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = within < np.repeat(-(-counts // 8) * 4, counts)  # the part of a step whose nibbles the first stack has
        out = np.zeros(len(order))
        for intervals, mine in zip(found, (first, ~first), strict=True):
            bits, rows = 24 - np.log2(intervals[:, 1]), channels * self._nibbles
            if self._dtype == np.int32:  # a sample's nibbles lie side by side; else those of a step's pixels do
                bits, rows = bits.reshape(-1, self._nibbles).sum(1), channels
            pixels = order[mine]
            count = np.bincount(step[pixels], minlength=len(counts))
            before, many = np.repeat(np.cumsum(count) - count, count), np.repeat(count, count)
            place = before * rows + np.arange(len(pixels)) - before
            for row in range(rows):
                out[pixels] += bits[place + row * many]
        return mirrored(out.reshape(1, height, width), self._mirror)[0]

    def pop_words(
        self,
        words: UInt32[np.ndarray, " words"],
        height: int,
        width: int,
        progress: Callback,
        weights: Weights = None,
        threads: int = 1,
    ) -> tuple[UInt[np.ndarray, "C H W"], bool]:
        """Inverse of ``push_words``: the tile [C, H, W], and whether the words were used up exactly."""
        parts = split(words)
        stacks = native.Stacks(parts, [ans.stack_of(part) for part in parts])
        with ThreadTeam(min(threads, MAX_TILE_THREADS)) as team:
            canvas, tile = self._open(height, width, weights, team.count)
            calls = split_steps(tile.steps, height * width, ONLINE_CALL_PIXELS)
            for number, (first, last) in enumerate(calls):
                team.run(partial(tile.pop_online, first=first, last=last, stacks=stacks))
                report(progress, height * width, number, len(calls))
        return mirrored(canvas.planes()[0], self._mirror), stacks.empty


def mirrored(planes: Shaped[np.ndarray, "C H W"], mirror: int) -> Shaped[np.ndarray, "C H W"]:
    """A tile [C, H, W] whose columns (bit 0) and rows (bit 1) are in reverse order; its own inverse."""
    planes = planes[:, :, ::-1] if mirror & 1 else planes
    return planes[:, ::-1] if mirror & 2 else planes


def joined(stacks: Sequence[tuple[int, np.ndarray]]) -> UInt32[np.ndarray, " N"]:
    """A tile's words uint32 from state and words of both stacks."""
    parts = [ans.words_of(state, [words]) for state, words in stacks]
    if not any(map(len, parts)):
        return parts[0]
    return np.concatenate([np.array([len(parts[0])], np.uint32), *parts])


def split(words: UInt32[np.ndarray, " words"]) -> tuple[UInt32[np.ndarray, " first"], UInt32[np.ndarray, " second"]]:
    """Inverse of ``joined``: the words of both stacks.  Any words can be split."""
    words = np.array(words, np.uint32)  # a copy in the byte order of this machine
    first = min(int(words[0]), len(words) - 1) if len(words) else 0
    return words[1 : first + 1], words[first + 1 :]
