# SPDX-License-Identifier: MIT
"""The model and the coder in one compiled loop, as in local_fused.py, with a model that learns on its way.

Encoder and decoder both go forwards, since what was coded changes the model.  ANS is a stack: the encoder keeps every
symbol's range and pushes them backwards when the tile is done, 48 bytes a pixel of three channels.

Several threads may share a tile (exact/crew.py): each evaluates its part of a step's pixels, goes back through its
part of a batch, and moves the weights of some layers.  A tile has STACKS stacks, whatever the number of threads, each
of a part of every step's pixels, so that two threads can take symbols at once::

    words of a tile, uint32:  number of words of the first stack | those words | those of the second stack
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba.extending import overload

from ..errors import EvaluatorError, WeightsError
from ..exact import ans, crew, evaluators
from ..exact.kernels import jit
from ..exact.learning import Room
from ..exact.tables import BYTES, Scale
from ..threads import Threads
from . import local_learning, mixture_step
from .local_fused import (
    Net,
    Place,
    Progress,
    calls_of,
    locate,
    place_of,
    prepare,
    read_samples,
    report,
    voice_of,
    write_samples,
)
from .local_learning import Batch, Rules, State
from .mixture_step import Weights, value_weights
from .window import Canvas

if TYPE_CHECKING:
    from .local import LocalModel

MOST = 4  # threads that share a tile: a step has about a hundred pixels
CALL_PIXELS = 1 << 12  # coded between two reports of progress, which may end the work: a tenth of a second
STACKS, GROUP = 2, 4  # a stack has a multiple of GROUP of a step's pixels, but for the last; part of the format


class Tile(NamedTuple):
    """What the threads share."""

    net: Net
    place: Place
    rules: Rules
    state: State
    batch: Batch
    canvas: np.ndarray  # flat
    gate: np.ndarray
    worth: np.ndarray  # int64 [MOST, nets]: of every rank, as of mixture_step.Room


class Hand(NamedTuple):
    """A thread's own."""

    rank: int
    ranks: int
    counts: np.ndarray  # int64 [2]: batches learned from, pixels gathered since; the same in every thread
    symbols: np.ndarray  # int64 [STACKS]: where the next step's begin while encoding; the same in every thread
    at: np.ndarray  # int64: positions of a step's pixels
    room: Room
    shares: np.ndarray  # int64 [nets], as of mixture_step.Room; the same in every thread
    worth: np.ndarray


@jit
def _share_out(tiles, hands):
    """Nets' shares of the mixture follow the gathered pixels.  ``update``, which follows, begins with a meeting: until
    then nobody writes again what is read here.
    """
    hand, worth, total = hands[0], tiles[0].worth, np.zeros(len(tiles), np.int64)
    worth[hand.rank] = hand.worth
    hand.worth[:] = 0
    crew.meet(tiles[0].gate, hand.ranks)
    for rank in range(hand.ranks):
        total += worth[rank]
    mixture_step.follow(hand.shares, total, hand.counts[1])


@jit
def evaluate_step(tiles, hands, step):
    """Learn if it is time, then evaluate the hand's part of a step's pixels, with every net.

    Returns how many pixels the step has, where they begin in the batches, and first and end of the hand's part.
    """
    place, rank, ranks, at = tiles[0].place, hands[0].rank, hands[0].ranks, hands[0].at
    n = locate(place, step, at)
    first, end = crew.share(n, rank, ranks, GROUP)
    begin = 0
    due = local_learning.is_due(hands[0].counts, tiles[0].batch, n)  # for all nets: they learn at the same time
    if due and len(tiles) > 1:
        _share_out(tiles, hands)
    for i in range(len(tiles)):
        tile, hand = tiles[i], hands[i]
        if due:
            local_learning.update(tile, hand)
        begin = hand.counts[1]
        hand.counts[1] += n
        local_learning.forward(tile.net, tile.place, tile.canvas, at[first:end], tile.batch, begin + first)
    return n, begin, first, end


@jit
def keep_samples(tiles, hands, begin, first, end):
    """Put the samples of a part of a step, which are on the canvas, where nets learn from them."""
    for i in range(len(tiles)):
        read_samples(tiles[i].canvas, hands[0].at[first:end], tiles[i].batch.samples[begin + first : begin + end])


# -- how samples are coded: those of 8 bits below, others in deep_learner.py ----------------------------------------


def open_code(code, tiles, hands):  # type: ignore[no-untyped-def]
    """Scratch for the pixels of a step."""
    raise NotImplementedError


def find_ranges(code, tiles, part, scratch, left, freq, at, before, many):  # type: ignore[no-untyped-def]
    """Ranges of the samples of a part of a batch, into left and freq; returns their bits.

    The symbols of the step and the stack begin at ``at``; of its ``many`` pixels so many are ``before`` the part.
    """
    raise NotImplementedError


def take_samples(code, tiles, part, scratch, state, words, left):  # type: ignore[no-untyped-def]
    """Pop the samples of a part of a batch into the first tile's: the new state, how many words are left."""
    raise NotImplementedError


def coded_as(code, kind):  # type: ignore[no-untyped-def]
    """Whether the type of ``code`` that numba sees is a named tuple of this kind."""
    return getattr(code, "instance_class", None) is kind


class Code(NamedTuple):
    """How samples of 8 bits become nibbles."""

    values: np.ndarray  # mixture_step.value_weights
    weighted: np.ndarray
    mixtures: int  # of all nets
    nibbles: int = 2


@jit
def _voice(tile, part):
    return voice_of(tile.net, tile.place, tile.batch.outputs[part], tile.batch.base[part])


def voices_of(tiles, part):  # type: ignore[no-untyped-def]
    """What every tile's net says of pixels of its batch, a tuple."""
    return tuple(_voice(tile, part) for tile in tiles)


@overload(voices_of)
def _voices_of(tiles, part):  # type: ignore[no-untyped-def]
    if len(tiles) == 1:
        return lambda tiles, part: (_voice(tiles[0], part),)
    return lambda tiles, part: (_voice(tiles[0], part), _voice(tiles[1], part))


@overload(open_code)
def _open_code(code, tiles, hands):  # type: ignore[no-untyped-def]
    if not coded_as(code, Code):
        return None
    return lambda code, tiles, hands: mixture_step.room(
        tiles[0].place.widest, code.mixtures, tiles[0].place.channels, hands[0].shares, hands[0].worth
    )


@overload(find_ranges)
def _find_ranges(code, tiles, part, scratch, left, freq, at, before, many):  # type: ignore[no-untyped-def]
    if not coded_as(code, Code):
        return None

    def found(code, tiles, part, scratch, left, freq, at, before, many):  # type: ignore[no-untyped-def]
        voices, samples = voices_of(tiles, part), tiles[0].batch.samples[part]
        bits = mixture_step.ranges(voices, samples, code.values, code.weighted, scratch)
        n = samples.shape[0]
        for stream in range(2 * samples.shape[1]):
            to = at + stream * many + before
            left[to : to + n] = scratch.left[stream, :n]
            freq[to : to + n] = scratch.freq[stream, :n]
        return bits

    return found


@overload(take_samples)
def _take_samples(code, tiles, part, scratch, state, words, left):  # type: ignore[no-untyped-def]
    if not coded_as(code, Code):
        return None
    return lambda code, tiles, part, scratch, state, words, left: mixture_step.take(
        voices_of(tiles, part), tiles[0].batch.samples[part], code.values, code.weighted, scratch, state, words, left
    )


# -- the loop: run and pop mirror each other -------------------------------------------------------------------


@jit
def piece(n, stack, first, end):
    """Of the pixels ``first`` to ``end`` of a step of n: the first and the end of those in a stack, where it begins,
    and how many pixels of the step it has."""
    start, stop = crew.share(n, stack, STACKS, GROUP)
    return max(first, start), min(end, stop), start, stop - start


@jit
def pixels_of(place, stack):
    """How many pixels of a tile are in a stack."""
    total, at = 0, np.empty(place.widest, np.int64)
    for step in range(place.steps):
        n = locate(place, step, at)
        total += piece(n, stack, 0, n)[3]
    return total


@jit
def _run(tiles, hands, from_step, to_step, code, left, freq):
    """Ranges of the hand's part of the steps' samples, uint32 in coding order; returns their bits."""
    place, symbols, bits = tiles[0].place, hands[0].symbols, 0.0
    scratch = open_code(code, tiles, hands)
    for step in range(from_step, to_step):
        n, begin, first, end = evaluate_step(tiles, hands, step)
        keep_samples(tiles, hands, begin, first, end)
        for stack in range(STACKS):
            i, stop, start, many = piece(n, stack, first, end)
            if i < stop:
                part = slice(begin + i, begin + stop)
                bits += find_ranges(code, tiles, part, scratch, left, freq, symbols[stack], i - start, many)
            symbols[stack] += place.channels * code.nibbles * many
    return bits


@jit
def _pop(tiles, hands, from_step, to_step, code, states, words, left):
    """Take the steps' samples into the canvas, from words as of ``split``.

    Moved on: the states of the stacks, uint64 [STACKS], and how many words are left of each, int64 [STACKS].
    """
    gate, rank, ranks = tiles[0].gate, hands[0].rank, hands[0].ranks
    scratch = open_code(code, tiles, hands)
    for step in range(from_step, to_step):
        n, begin, _, _ = evaluate_step(tiles, hands, step)
        if ranks != STACKS:  # else a thread's pixels are those of its stack
            crew.meet(gate, ranks)
        for stack in range(STACKS):
            start, stop, _, _ = piece(n, stack, 0, n)
            if stack % ranks == rank and start < stop:
                part = slice(begin + start, begin + stop)
                states[stack], left[stack] = take_samples(
                    code, tiles, part, scratch, states[stack], words[stack], left[stack]
                )
                write_samples(tiles[0].canvas, hands[0].at[start:stop], tiles[0].batch.samples[part])
                keep_samples(tiles, hands, begin, start, stop)
        crew.meet(gate, ranks)


@jit
def _push(left, freq, words):
    """Push all symbols, the last first: the state, and how many words were written."""
    state, count = np.uint64(0), 0
    for i in range(left.shape[0] - 1, -1, -1):
        state, count = ans.push(state, words, count, np.int64(left[i]), np.int64(freq[i]))
    return state, count


def mirrored(planes: np.ndarray, mirror: int) -> np.ndarray:
    """A tile [C, H, W] whose columns (bit 0) and rows (bit 1) are in reverse order; its own inverse."""
    planes = planes[:, :, ::-1] if mirror & 1 else planes
    return planes[:, ::-1] if mirror & 2 else planes


def push_all(left: np.ndarray, freq: np.ndarray, first: int) -> np.ndarray:
    """A tile's words uint32, from the ranges of its symbols, uint32; so many are of the first stack."""
    words = np.empty(len(left), np.uint32)  # a word a nibble at most
    stacks = []
    for part in (slice(0, first), slice(first, None)):
        state, count = _push(left[part], freq[part], words)
        stacks.append(ans.closed(state, [words[:count].copy()]))
    if not any(map(len, stacks)):
        return stacks[0]
    return np.concatenate([np.array([len(stacks[0])], np.uint32), *stacks])


def split(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words of both stacks of a tile."""
    words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
    first = min(int(words[0]), len(words) - 1) if len(words) else 0
    return words[1 : first + 1], words[first + 1 :]


class LearningCoder:
    """Codes tiles with one net that learns from each, starting anew, or with two.  Immutable; safe to share by threads.

    Those of it say how with a ``code``: see ``find_ranges`` and ``take_samples``.
    """

    dtype: type[np.signedinteger]  # of samples on the canvas

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
            self._started.append(
                (model, net, local_learning.rules(model, net, model.units, model.rate, model.averaged))
            )

    def _ranges(
        self, planes: np.ndarray, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Ranges of all nibbles of a tile [C, H, W], uint32 twice: those of the first stack in coding order, then those
        of the other; how many are of the first; bits."""
        _, height, width = planes.shape
        left, freq = np.empty((2, code.nibbles * planes.size), np.uint32)
        bits = 0.0
        with ExitStack() as stack:
            canvas, tiles, team, pool = self._open(height, width, threads, stack)
            canvas.fill(planes[None])
            calls = calls_of(tiles[0].place, CALL_PIXELS)
            first = pixels_of(tiles[0].place, 0) * len(planes) * code.nibbles
            for hands in team:
                hands[0].symbols[:] = 0, first
            for number, (begin, end) in enumerate(calls):
                bits += sum(crew.work(_run, tiles, team, pool, begin, end, code, left, freq))
                report(progress, height * width, number, len(calls))
        return left, freq, first, bits

    def _popped(
        self, words: np.ndarray, height: int, width: int, progress: Progress, code: Any, threads: int
    ) -> tuple[np.ndarray, bool]:
        """The tile [C, H, W] of words, and whether the words were used up exactly."""
        parts = split(words)
        found = [ans.opened(part) for part in parts]
        states, left = np.array([s for s, _ in found], np.uint64), np.array([n for _, n in found], np.int64)
        with ExitStack() as stack:
            canvas, tiles, team, pool = self._open(height, width, threads, stack)
            calls = calls_of(tiles[0].place, CALL_PIXELS)
            for number, (begin, end) in enumerate(calls):
                crew.work(_pop, tiles, team, pool, begin, end, code, states, parts, left)
                report(progress, height * width, number, len(calls))
        return canvas.planes()[0], not states.any() and not left.any()

    def _open(
        self, height: int, width: int, threads: int, stack: ExitStack
    ) -> tuple[Canvas, tuple[Tile, ...], list[tuple[Hand, ...]], Threads | None]:
        """An empty canvas; for every net a tile; hands of every thread, whose pool is there until ``stack`` closes."""
        window = max((m.config.window for m in self._models), key=lambda w: w.reach)
        canvas, gate, nets = Canvas(window, height, width, 1, self.dtype), crew.gate(), len(self._models)
        worth = np.zeros((MOST, nets), np.int64)
        ranks = min(threads, MOST)
        tiles: list[Tile] = []
        team: list[list[Hand]] = [[] for _ in range(ranks)]
        for model, net, rules in self._started:
            place = place_of(model, canvas, self._scale)
            own, state = local_learning.begin(model, net, rules)
            tiles.append(Tile(own, place, rules, state, local_learning.batch_of(own, place), canvas.flat, gate, worth))
            for rank in range(ranks):
                at, counts, symbols = np.empty(place.widest, np.int64), *np.zeros((2, 2), np.int64)
                shares, hoard = (
                    np.full(nets, (1 << mixture_step.SHARE_BITS) // nets, np.int64),
                    np.zeros(nets, np.int64),
                )
                team[rank].append(Hand(rank, ranks, counts, symbols, at, local_learning.room(own), shares, hoard))
        pool = stack.enter_context(Threads(ranks - 1)) if ranks > 1 else None
        return canvas, tuple(tiles), [tuple(hands) for hands in team], pool


class LearningTileCoder(LearningCoder):
    """Of samples of 8 bits; tiles are coded ``mirrored``."""

    dtype = np.int16

    def __init__(self, models: Sequence[LocalModel], mirror: int = 0) -> None:
        super().__init__(models)
        self._mirror = mirror

    def push_words(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits [1].

        The words do not depend on ``threads``.
        """
        left, freq, first, bits = self.ranges(planes, progress, weights, threads)
        return push_all(left, freq, first), np.array([bits])

    def ranges(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Ranges of all nibbles, uint32 [2 * C * H * W] twice: those of the first stack in coding order, then those of
        the other; how many are of the first; their bits.
        """
        return self._ranges(mirrored(planes, self._mirror), progress, self._code(weights), threads)

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        planes, finished = self._popped(words, height, width, progress, self._code(weights), threads)
        return mirrored(planes, self._mirror), finished

    def _code(self, weights: Weights) -> Code:
        configs = [model.config for model in self._models]
        return Code(*value_weights(weights, configs[0].channels), sum(c.mixtures for c in configs))
