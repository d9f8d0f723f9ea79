# SPDX-License-Identifier: MIT
"""The model and the coder in one compiled loop, as in local_fused.py, with a model that learns on its way.

Encoder and decoder both go forwards, since what was coded changes the model.  ANS is a stack: the encoder keeps every
symbol's range and pushes them backwards when the tile is done, 48 bytes a pixel of three channels.

Several threads may share a tile (exact/crew.py): each evaluates its part of a step's pixels, goes back through its
part of a batch, and moves the weights of some layers.  Only one takes symbols from the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba.extending import overload

from ..errors import EvaluatorError, WeightsError
from ..exact import ans, crew, evaluators, int16
from ..exact.kernels import jit
from ..exact.learning import Room
from ..exact.tables import BYTES, Scale
from . import local_learning, mixture_step
from .local_fused import Net, Place, Progress, calls_of, locate, place_of, prepare, read_samples, report, write_samples
from .local_learning import Batch, Rules, State
from .mixture_step import Voice, Weights, value_weights
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
    canvas: np.ndarray  # flat
    gate: np.ndarray


class Hand(NamedTuple):
    """A thread's own."""

    rank: int
    ranks: int
    counts: np.ndarray  # int64 [2]: batches learned from, pixels gathered since; the same in every thread
    at: np.ndarray  # int64: positions of a step's pixels
    room: Room


@jit
def evaluate_step(tiles, hands, step):
    """Learn if it is time, then evaluate the hand's part of a step's pixels, with every net.

    Returns how many pixels the step has, where they begin in the batches, and first and end of the hand's part.
    """
    place, rank, ranks, at = tiles[0].place, hands[0].rank, hands[0].ranks, hands[0].at
    n = locate(place, step, at)
    first, end = crew.share(n, rank, ranks, int16.ROWS)
    begin = 0
    for i in range(len(tiles)):
        tile, hand = tiles[i], hands[i]
        if local_learning.is_due(hand.counts, tile.batch, n):
            local_learning.update(tile, hand)
        begin = hand.counts[1]  # the same for all nets: they learn from the same pixels at the same time
        hand.counts[1] += n
        local_learning.forward(tile.net, tile.place, tile.canvas, at[first:end], tile.batch, begin + first)
    return n, begin, first, end


@jit
def keep_samples(tiles, hands, begin, first, end):
    """Put the samples of a part of a step, which are on the canvas, where nets learn from them."""
    for i in range(len(tiles)):
        read_samples(tiles[i].canvas, hands[0].at[first:end], tiles[i].batch.samples[begin + first : begin + end])


@jit
def voice_of(tile, part):
    """What a tile's net says of pixels of its batch."""
    net, batch = tile.net, tile.batch
    return Voice(batch.outputs[part], batch.base[part], tile.place.mixtures, net.softmax, net.inverse, net.sigmoid)


def voices_of(tiles, part):  # type: ignore[no-untyped-def]
    """``voice_of`` of every tile, a tuple."""
    return tuple(voice_of(tile, part) for tile in tiles)


@overload(voices_of)
def _voices_of(tiles, part):  # type: ignore[no-untyped-def]
    if len(tiles) == 1:
        return lambda tiles, part: (voice_of(tiles[0], part),)
    return lambda tiles, part: (voice_of(tiles[0], part), voice_of(tiles[1], part))


@jit
def _run(tiles, hands, from_step, to_step, code, left, freq, at_symbol):
    """Ranges of the hand's part of the steps' samples, uint32 in coding order from ``at_symbol`` on.

    Returns their bits, the bits with each net alone (about), and where the ranges end.
    """
    place, batch, bits = tiles[0].place, tiles[0].batch, 0.0
    scratch = mixture_step.room(place.widest, code.mixtures, place.channels, len(tiles))
    for step in range(from_step, to_step):
        n, begin, first, end = evaluate_step(tiles, hands, step)
        keep_samples(tiles, hands, begin, first, end)
        part = slice(begin + first, begin + end)
        bits += mixture_step.ranges(voices_of(tiles, part), batch.samples[part], code.values, code.weighted, scratch)
        for stream in range(2 * place.channels):
            for i in range(end - first):
                to = at_symbol + stream * n + first + i
                left[to], freq[to] = scratch.left[stream, i], scratch.freq[stream, i]
        at_symbol += 2 * place.channels * n
    return bits, scratch.alone, at_symbol


@jit
def _pop(tiles, hands, from_step, to_step, code, stack, words, left):
    """Take the steps' samples into the canvas: the new state of the stack, how many words are left; of hand 0."""
    place, batch, gate, ranks = tiles[0].place, tiles[0].batch, tiles[0].gate, hands[0].ranks
    scratch = mixture_step.room(place.widest, code.mixtures, place.channels, len(tiles))
    for step in range(from_step, to_step):
        n, begin, _, _ = evaluate_step(tiles, hands, step)
        crew.meet(gate, ranks)
        if hands[0].rank == 0:
            part = slice(begin, begin + n)
            samples = batch.samples[part]
            stack, left = mixture_step.take(
                voices_of(tiles, part), samples, code.values, code.weighted, scratch, stack, words, left
            )
            write_samples(tiles[0].canvas, hands[0].at[:n], samples)
            keep_samples(tiles, hands, begin, 0, n)
        crew.meet(gate, ranks)
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
    """How samples of 8 bits become nibbles."""

    values: np.ndarray  # mixture_step.value_weights
    weighted: np.ndarray
    mixtures: int  # of all nets


class LearningCoder:
    """Codes tiles with one net that learns from each, starting anew, or with two.  Immutable; safe to share by threads.

    Those of it say how: ``run`` and ``pop`` are ``_run`` and ``_pop`` here or like them, ``nibbles`` those of a sample.
    """

    run: Any
    pop: Any
    nibbles: int
    dtype: type[np.signedinteger]

    def __init__(self, models: Sequence[LocalModel], scale: Scale = BYTES) -> None:
        """Models that learn, of one slope.  Raises WeightsError, EvaluatorError."""
        if not evaluators.self_test("int16"):
            raise EvaluatorError("int16 products are wrong on this machine, and models that learn need them")
        self._models, self._scale, self._started = tuple(models), scale, []
        if len({(m.channels, m.slope) for m in models}) > 1:
            raise WeightsError("nets of one mixture go through a tile in the same way")
        for model in models:
            if model.units is None or model.rate is None:
                raise WeightsError("these weights are not made to learn while they code")
            net = prepare(model)
            self._started.append((model, net, local_learning.rules(model, net, model.units, model.rate)))

    def _ranges(
        self, planes: np.ndarray, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranges of all nibbles of a tile [C, H, W] in coding order, uint32 twice, and bits as of ``ranges``."""
        _, height, width = planes.shape
        left, freq = np.empty((2, self.nibbles * planes.size), np.uint32)
        bits, done = np.zeros(1 + len(self._models)), 0
        with ExitStack() as stack:
            canvas, tiles, team, pool = self._open(height, width, threads, stack)
            canvas.fill(planes[None])
            calls = calls_of(tiles[0].place)
            for number, (first, last) in enumerate(calls):
                found = crew.work(self.run, tiles, team, pool, first, last, code, left, freq, done)
                done = found[0][2]
                for cost, alone, _ in found:
                    bits += [cost, *alone]
                report(progress, height * width, number, len(calls))
        return left, freq, bits if len(self._models) > 1 else bits[:1]

    def _popped(
        self, words: np.ndarray, height: int, width: int, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, bool]:
        """The tile [C, H, W] of words, and whether the words were used up exactly."""
        words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
        state, left = ans.opened(words)
        with ExitStack() as stack:
            canvas, tiles, team, pool = self._open(height, width, threads, stack)
            calls = calls_of(tiles[0].place)
            for number, (first, last) in enumerate(calls):
                state, left = crew.work(self.pop, tiles, team, pool, first, last, code, np.uint64(state), words, left)[
                    0
                ]
                report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(state) == 0 and left == 0

    def _open(
        self, height: int, width: int, threads: int, stack: ExitStack
    ) -> tuple[Canvas, tuple[Tile, ...], list[tuple[Hand, ...]], ThreadPoolExecutor | None]:
        """An empty canvas; for every net a tile; hands of every thread, whose pool is there until ``stack`` closes."""
        window = max((m.config.window for m in self._models), key=lambda w: w.reach)
        canvas, gate = Canvas(window, height, width, 1, self.dtype), crew.gate()
        ranks = min(threads, MOST)
        tiles: list[Tile] = []
        team: list[list[Hand]] = [[] for _ in range(ranks)]
        for model, net, rules in self._started:
            place = place_of(model, canvas, self._scale)
            own, state = local_learning.begin(model, net, rules)
            tiles.append(Tile(own, place, rules, state, local_learning.batch_of(own, place), canvas.flat, gate))
            for rank in range(ranks):
                at, counts = np.empty(place.widest, np.int64), np.zeros(2, np.int64)
                team[rank].append(Hand(rank, ranks, counts, at, local_learning.room(own)))
        pool = stack.enter_context(ThreadPoolExecutor(ranks - 1)) if ranks > 1 else None
        return canvas, tuple(tiles), [tuple(hands) for hands in team], pool


class LearningTileCoder(LearningCoder):
    """Of samples of 8 bits."""

    run, pop = staticmethod(_run), staticmethod(_pop)
    nibbles, dtype = 2, np.int16

    def push_words(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """A tile uint8 [C, H, W] -> words uint32, and bits as ``ranges`` gives them.

        The words do not depend on ``threads``.
        """
        left, freq, bits = self.ranges(planes, progress, weights, threads)
        return push_all(left, freq), bits

    def ranges(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ranges of all nibbles in coding order, uint32 [2 * C * H * W] twice, and their bits, float64 [1].

        Of several nets: then about the bits that each would need alone.
        """
        return self._ranges(planes, progress, self._code(weights), threads)

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        return self._popped(words, height, width, progress, self._code(weights), threads)

    def _code(self, weights: Weights) -> Code:
        configs = [model.config for model in self._models]
        return Code(*value_weights(weights, configs[0].channels), sum(c.mixtures for c in configs))
