# SPDX-License-Identifier: MIT
"""Code a tile with local models that learn on their way: online/spec.py says how, the native core does it.

Encoder and decoder both go forwards, since what was coded changes the models.  ANS is a stack: the encoder keeps every
symbol's range and pushes them backwards when the tile is done, 48 bytes a pixel of three channels of 8 bits.

Several threads may share a tile: each evaluates its part of a step's pixels, goes back through its part of a batch,
and moves the weights of some layers.  A tile has two stacks, whatever the number of threads, each of a part of every
step's pixels, so that two threads can take symbols at once::

    words of a tile, uint32:  number of words of the first stack | those words | those of the second stack

Samples of more than 8 bits are coded by the nets of 8, on a scale of the image's own: what a net of photographs knows
holds for photographs of more bits as well once noise has the size that it is used to, and learning does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gmcodec import native
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact import ans
from gmcodec.exact.logistic import BYTES, MAX_SHIFT, Scale, scale_of
from gmcodec.models.local.tile_coder import Callback, calls_of, report
from gmcodec.models.online import rules
from gmcodec.models.shared.mixture import Weights, value_weights
from gmcodec.models.shared.window import Canvas
from gmcodec.threads import Threads

if TYPE_CHECKING:
    from gmcodec.models.local.frozen import LocalModel

T = TypeVar("T")
MOST = 4  # threads that share a tile: a step has about a hundred pixels
CALL_PIXELS = 1 << 12  # coded between two reports of progress, which may end the work: a tenth of a second


class Team:
    """The threads that share a tile; the first is the one that calls."""

    def __init__(self, count: int) -> None:
        self.count = count
        # a pool of theirs alone: one that had to wait for a thread would keep all waiting
        self._others = Threads(count - 1) if count > 1 else None

    def work(self, part: Callable[[int], T]) -> list[T]:
        """What ``part`` gives every rank, side by side."""
        others = [self._others.submit(part, rank) for rank in range(1, self.count)] if self._others else []
        return [part(0), *(other.result() for other in others)]

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._others:
            self._others.shutdown()


class OnlineCoder:
    """Codes tiles with one net that learns from each, starting anew, or with two.  Immutable; safe to share by threads.

    A grey level of the nets is 2**scale.shift steps of samples.
    """

    def __init__(self, models: Sequence[LocalModel], scale: Scale, nibbles: int, dtype: type[np.signedinteger]) -> None:
        """Models that learn, of one slope; ``dtype`` of samples on the canvas.  Raises WeightsError."""
        self._models, self._scale, self._nibbles, self._dtype = tuple(models), scale, nibbles, dtype
        if len({(m.channels, m.slope) for m in models}) > 1:
            raise WeightsError("nets of one mixture go through a tile in the same way")
        self._learning = [rules.rules(model) for model in models]

    def _open(self, height: int, width: int, weights: Weights, ranks: int) -> tuple[Canvas, native.Tile]:
        """An empty canvas and the tile on it."""
        window = max((m.config.window for m in self._models), key=lambda w: w.reach)
        canvas = Canvas(window, height, width, 1, self._dtype)
        values = value_weights(weights, window.channels)
        nets = [m.net for m in self._models]
        slope = self._models[0].slope
        return canvas, native.Tile(nets, self._learning, canvas, slope, self._scale, self._nibbles, values, ranks)

    def ranges(
        self, planes: np.ndarray, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[tuple[np.ndarray, np.ndarray], float]:
        """Ranges of all nibbles of a tile [C, H, W] in coding order, uint32 [symbols, 2] (left, freq) of both stacks;
        their bits.
        """
        _, height, width = planes.shape
        with Team(min(threads, MOST)) as team:
            canvas, tile = self._open(height, width, weights, team.count)
            canvas.fill(planes[None])
            ranges = np.empty((tile.symbols[0], 2), np.uint32), np.empty((tile.symbols[1], 2), np.uint32)
            calls, bits = calls_of(tile.steps, height * width, CALL_PIXELS), 0.0
            for number, (first, last) in enumerate(calls):
                bits += sum(team.work(partial(tile.find_ranges, first=first, last=last, ranges=ranges)))
                report(progress, height * width, number, len(calls))
        return ranges, bits

    def push(self, planes: np.ndarray, progress: Callback, weights: Weights, threads: int) -> tuple[np.ndarray, float]:
        """A tile [C, H, W] -> words uint32, and the estimated bits.  The words do not depend on ``threads``."""
        ranges, bits = self.ranges(planes, progress, weights, threads)
        return joined([self._models[0].core.pushed(part) for part in ranges]), bits

    def pop(
        self, words: np.ndarray, height: int, width: int, progress: Callback, weights: Weights, threads: int
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push``: the tile [C, H, W], and whether the words were used up exactly."""
        parts = split(words)
        stacks = native.Stacks(parts, [ans.opened(part) for part in parts])
        with Team(min(threads, MOST)) as team:
            canvas, tile = self._open(height, width, weights, team.count)
            calls = calls_of(tile.steps, height * width, CALL_PIXELS)
            for number, (first, last) in enumerate(calls):
                team.work(partial(tile.pop_online, first=first, last=last, stacks=stacks))
                report(progress, height * width, number, len(calls))
        return canvas.planes()[0], stacks.empty


class OnlineTileCoder(OnlineCoder):
    """Of samples of 8 bits; tiles are coded ``mirrored``."""

    def __init__(self, models: Sequence[LocalModel], mirror: int = 0) -> None:
        super().__init__(models, BYTES, 2, np.int16)
        self._mirror = mirror

    def push_words(
        self, planes: np.ndarray, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits [1]."""
        words, bits = self.push(mirrored(planes, self._mirror), progress, weights, threads)
        return words, np.array([bits])

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        planes, finished = self.pop(words, height, width, progress, weights, threads)
        return mirrored(planes, self._mirror), finished


class DeepTileCoder(OnlineCoder):
    """Of samples of ``bits`` bits, 8 to 16, with one net.

    A grey level of the net is 2**shift steps; ``rate`` is one of online.rules.RATES.  Raises GmcFormatError for
    other numbers, WeightsError.
    """

    def __init__(self, model: LocalModel, bits: int, shift: int, rate: int) -> None:
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(rules.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        super().__init__((model.learning(rate),), scale_of(bits, shift), -(-bits // 4), np.int32)

    def push_words(self, planes: np.ndarray, progress: Callback, threads: int = 1) -> tuple[np.ndarray, float]:
        """A tile uint16 [C, H, W] -> words uint32, and the estimated bits."""
        return self.push(planes, progress, None, threads)

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Callback, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint16 [C, H, W], and whether the words were used up exactly."""
        return self.pop(words, height, width, progress, None, threads)


def mirrored(planes: np.ndarray, mirror: int) -> np.ndarray:
    """A tile [C, H, W] whose columns (bit 0) and rows (bit 1) are in reverse order; its own inverse."""
    planes = planes[:, :, ::-1] if mirror & 1 else planes
    return planes[:, ::-1] if mirror & 2 else planes


def joined(stacks: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """A tile's words uint32 from state and words of both stacks."""
    parts = [ans.closed(state, [words]) for state, words in stacks]
    if not any(map(len, parts)):
        return parts[0]
    return np.concatenate([np.array([len(parts[0])], np.uint32), *parts])


def split(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of ``joined``: the words of both stacks, as good as any words say."""
    words = np.array(words, np.uint32)  # of this machine's byte order, whatever file they lie in
    first = min(int(words[0]), len(words) - 1) if len(words) else 0
    return words[1 : first + 1], words[first + 1 :]
