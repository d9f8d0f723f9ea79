# SPDX-License-Identifier: MIT
"""The model and the coder in one compiled loop, as in local_fused.py, with a model that learns on its way.

Encoder and decoder both go forwards, since what was coded changes the model.  ANS is a stack: the encoder keeps every
symbol's range and pushes them backwards when the tile is done, 48 bytes a pixel of three channels.

Several threads may share a tile (exact/crew.py): each evaluates its part of a step's pixels, goes back through its
part of a batch, and moves the weights of some layers.  Only one takes symbols from the stack.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..exact import ans, crew
from ..exact.kernels import jit
from ..exact.lanes import LANES
from ..exact.learning import Room
from ..exact.tables import BYTES, Scale
from . import local_learning, mixture_step, regression
from .local_fused import Net, Place, Progress, calls_of, locate, place_of, prepare, read_samples, report, write_samples
from .local_learning import Batch, Rules, State
from .mixture_step import Weights, value_weights
from .regression import Known
from .window import Canvas

if TYPE_CHECKING:
    from .local import LocalModel

MOST = 4  # threads that share a tile: a step has about a hundred pixels


class Tile(NamedTuple):
    """What the threads share."""

    net: Net
    place: Place
    rules: Rules
    state: State
    batch: Batch
    known: Known
    canvas: np.ndarray  # flat
    gate: np.ndarray


class Hand(NamedTuple):
    """A thread's own."""

    rank: int
    ranks: int
    counts: np.ndarray  # int64 [2]: batches learned from, pixels gathered since; the same in every thread
    at: np.ndarray  # int64: positions of a step's pixels
    room: Room
    regression: regression.Room


@jit
def evaluate_step(tile, hand, step):
    """Learn if it is time, then evaluate the hand's part of a step's pixels.

    Returns how many pixels the step has, where they begin in the batch, and first and end of the hand's part.
    """
    n = locate(tile.place, step, hand.at)
    if local_learning.is_due(hand.counts, tile.batch, n):
        local_learning.update(tile, hand)
    begin = hand.counts[1]
    hand.counts[1] += n
    first, end = crew.share(n, hand.rank, hand.ranks, LANES)
    if tile.place.regression:
        regression.predict(tile.canvas, tile.place, tile.known, step, first, end, hand.regression)
    at = hand.at[first:end]
    local_learning.forward(tile.net, tile.place, tile.known, tile.canvas, at, tile.batch, begin + first)
    return n, begin, first, end


@jit
def finish_step(tile, hand, step, first, end):
    """When the samples of a part of a step are known."""
    if tile.place.regression:
        regression.finish(tile.canvas, tile.place, tile.known, step, first, end)


@jit
def _run(tile, hand, from_step, to_step, code, left, freq, at_symbol):
    """Ranges of the hand's part of the steps' samples, uint32 in coding order from ``at_symbol`` on: bits, the end."""
    place, batch, bits = tile.place, tile.batch, 0.0
    scratch = mixture_step.room(place.widest, place.mixtures, place.channels)
    for step in range(from_step, to_step):
        n, begin, first, end = evaluate_step(tile, hand, step)
        part = slice(begin + first, begin + end)
        outputs, base, samples = batch.outputs[part], batch.base[part], batch.samples[part]
        read_samples(tile.canvas, hand.at[first:end], samples)
        finish_step(tile, hand, step, first, end)
        bits += mixture_step.ranges(tile.net, outputs, base, samples, code.values, code.weighted, scratch)
        for stream in range(2 * place.channels):
            for i in range(end - first):
                to = at_symbol + stream * n + first + i
                left[to], freq[to] = scratch.left[stream, i], scratch.freq[stream, i]
        at_symbol += 2 * place.channels * n
        if place.regression:
            crew.meet(tile.gate, hand.ranks)
    return bits, at_symbol


@jit
def _pop(tile, hand, from_step, to_step, code, stack, words, left):
    """Take the steps' samples into the canvas: the new state of the stack, how many words are left; of hand 0."""
    place, batch = tile.place, tile.batch
    scratch = mixture_step.room(place.widest, place.mixtures, place.channels)
    for step in range(from_step, to_step):
        n, begin, _, _ = evaluate_step(tile, hand, step)
        crew.meet(tile.gate, hand.ranks)
        if hand.rank == 0:
            part = slice(begin, begin + n)
            samples = batch.samples[part]
            stack, left = mixture_step.take(
                tile.net, batch.outputs[part], batch.base[part], samples, code.values, code.weighted, scratch,
                stack, words, left,
            )  # fmt: skip
            write_samples(tile.canvas, hand.at[:n], samples)
            finish_step(tile, hand, step, 0, n)
        crew.meet(tile.gate, hand.ranks)
    return stack, left


@jit
def _push(left, freq, words):
    """Push all symbols, the last first: the state, and how many words were written."""
    state, count = np.uint64(0), 0
    for i in range(left.shape[0] - 1, -1, -1):
        state, count = ans.push(state, words, count, np.int64(left[i]), np.int64(freq[i]))
    return state, count


def push_all(left: np.ndarray, freq: np.ndarray) -> np.ndarray:
    """Words uint32 of a stack of all symbols, whose ranges are uint32 in coding order."""
    words = np.empty(len(left), np.uint32)  # a word a nibble at most
    state, count = _push(left, freq, words)
    return ans.closed(state, [words[:count].copy()])


class Code(NamedTuple):
    """How samples of 8 bits become nibbles: mixture_step.value_weights."""

    values: np.ndarray
    weighted: np.ndarray


class LearningCoder:
    """Codes tiles with a model that learns from each, starting anew.  Immutable; safe to share by threads.

    Those of it say how: ``run`` and ``pop`` are ``_run`` and ``_pop`` here or like them, ``nibbles`` those of a sample.
    """

    run: Any
    pop: Any
    nibbles: int
    dtype: type[np.signedinteger]

    def __init__(self, model: LocalModel, exponents: dict[str, np.ndarray], rate: int, scale: Scale = BYTES) -> None:
        self._model, self._net, self._scale = model, prepare(model), scale
        self._rules = local_learning.rules(model, self._net, exponents, rate)

    def _ranges(
        self, planes: np.ndarray, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Ranges of all nibbles of a tile [C, H, W] in coding order, uint32 twice, and their bits."""
        _, height, width = planes.shape
        left, freq = np.empty((2, self.nibbles * planes.size), np.uint32)
        bits, done = 0.0, 0
        with ExitStack() as stack:
            canvas, tile, team, pool = self._open(height, width, threads, stack)
            canvas.fill(planes[None])
            calls = calls_of(tile.place)
            for number, (first, last) in enumerate(calls):
                found = crew.hands(
                    lambda rank, a=first, b=last, at=done: self.run(tile, team[rank], a, b, code, left, freq, at),
                    pool, len(team),
                )  # fmt: skip
                bits, done = bits + sum(cost for cost, _ in found), found[0][1]
                report(progress, height * width, number, len(calls))
        return left, freq, bits

    def _popped(
        self, words: np.ndarray, height: int, width: int, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, bool]:
        """The tile [C, H, W] of words, and whether the words were used up exactly."""
        words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
        state, left = ans.opened(words)
        with ExitStack() as stack:
            canvas, tile, team, pool = self._open(height, width, threads, stack)
            calls = calls_of(tile.place)
            for number, (first, last) in enumerate(calls):
                state, left = crew.hands(
                    lambda rank, a=first, b=last, s=np.uint64(state), n=left: self.pop(
                        tile, team[rank], a, b, code, s, words, n
                    ),
                    pool, len(team),
                )[0]  # fmt: skip
                report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(state) == 0 and left == 0

    def _open(
        self, height: int, width: int, threads: int, stack: ExitStack
    ) -> tuple[Canvas, Tile, list[Hand], ThreadPoolExecutor | None]:
        """An empty canvas; a tile with a net of its own; hands, and who they belong to until ``stack`` is closed."""
        config = self._model.config
        canvas = Canvas(config.window, height, width, 1, self.dtype)
        place = place_of(self._model, canvas, self._scale)
        net, state = local_learning.begin(self._model, self._net, self._rules)
        batch, known = local_learning.batch_of(net, place), regression.known(config, canvas)
        tile = Tile(net, place, self._rules, state, batch, known, canvas.flat, crew.gate())
        ranks = min(threads, MOST)
        team = [
            Hand(rank, ranks, np.zeros(2, np.int64), np.empty(place.widest, np.int64), local_learning.room(net),
                 regression.room(known))
            for rank in range(ranks)
        ]  # fmt: skip
        pool = stack.enter_context(ThreadPoolExecutor(ranks - 1)) if ranks > 1 else None
        return canvas, tile, team, pool


class LearningTileCoder(LearningCoder):
    """Of samples of 8 bits."""

    run, pop = staticmethod(_run), staticmethod(_pop)
    nibbles, dtype = 2, np.int16

    def push_words(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, float]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits.  The words do not depend on ``threads``."""
        left, freq, bits = self.ranges(planes, progress, weights, threads)
        return push_all(left, freq), bits

    def ranges(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Ranges of all nibbles in coding order, uint32 [2 * C * H * W] twice, and their bits."""
        return self._ranges(planes, progress, Code(*value_weights(weights, len(planes))), threads)

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        code = Code(*value_weights(weights, self._model.channels))
        return self._popped(words, height, width, progress, code, threads)
