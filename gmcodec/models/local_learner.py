# SPDX-License-Identifier: MIT
"""The model and the coder in one compiled loop, as in local_fused.py, with a model that learns on its way.

Encoder and decoder both go forwards, since what was coded changes the model.  ANS is a stack: the encoder keeps every
symbol's range and pushes them backwards when the tile is done, 48 bytes a pixel of three channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..exact import ans
from ..exact.kernels import jit
from ..exact.learning import Room
from . import local_learning, mixture_step
from .local_fused import Net, Place, Progress, locate, open_tile, prepare, read_samples, report, write_samples
from .local_learning import Batch, State
from .mixture_step import Weights

if TYPE_CHECKING:
    from .local import LocalModel


@jit
def evaluate_step(net, place, rules, state, batch, room, canvas, step, at):
    """Learn if it is time, then evaluate a step's pixels: how many, and where in the batch."""
    n = locate(place, step, at)
    if local_learning.is_due(state, batch, n):
        local_learning.update(net, place, rules, state, batch, room)
    first = state.counts[1]
    local_learning.forward(net, place, canvas, at[:n], batch, first)
    state.counts[1] += n
    return n, slice(first, first + n)


@jit
def _run(net, place, rules, state, batch, room, canvas, from_step, to_step, values, weighted, left, freq, at_symbol):
    """Ranges of the steps' samples, uint32 in coding order from ``at_symbol`` on; returns bits and where they end."""
    at, bits = np.empty(place.widest, np.int64), 0.0
    scratch = mixture_step.room(place.widest, place.mixtures, place.channels)
    for step in range(from_step, to_step):
        n, part = evaluate_step(net, place, rules, state, batch, room, canvas, step, at)
        outputs, base, samples = batch.outputs[part], batch.base[part], batch.samples[part]
        read_samples(canvas, at[:n], samples)
        bits += mixture_step.ranges(net, outputs, base, samples, values, weighted, scratch)
        for stream in range(2 * place.channels):
            for i in range(n):
                left[at_symbol], freq[at_symbol] = scratch.left[stream, i], scratch.freq[stream, i]
                at_symbol += 1
    return bits, at_symbol


@jit
def _push(left, freq, words):
    """Push all symbols, the last first: the state, and how many words were written."""
    state, count = np.uint64(0), 0
    for i in range(left.shape[0] - 1, -1, -1):
        state, count = ans.push(state, words, count, np.int64(left[i]), np.int64(freq[i]))
    return state, count


@jit
def _pop(net, place, rules, state, batch, room, canvas, from_step, to_step, values, weighted, stack, words, left):
    """Pop the steps' samples into the canvas: the new state of the stack, how many words are left."""
    at = np.empty(place.widest, np.int64)
    scratch = mixture_step.room(place.widest, place.mixtures, place.channels)
    for step in range(from_step, to_step):
        n, part = evaluate_step(net, place, rules, state, batch, room, canvas, step, at)
        outputs, base, samples = batch.outputs[part], batch.base[part], batch.samples[part]
        stack, left = mixture_step.take(net, outputs, base, samples, values, weighted, scratch, stack, words, left)
        write_samples(canvas, at[:n], samples)
    return stack, left


def push_all(left: np.ndarray, freq: np.ndarray) -> np.ndarray:
    """Words uint32 of a stack of all symbols, whose ranges are uint32 in coding order."""
    words = np.empty(len(left), np.uint32)  # a word a nibble at most
    state, count = _push(left, freq, words)
    return ans.closed(state, [words[:count].copy()])


class LearningTileCoder:
    """Codes tiles with a model that learns from each, starting anew.  Immutable; safe to share by threads."""

    def __init__(self, model: LocalModel, exponents: dict[str, np.ndarray], rate: int) -> None:
        self._model, self._net = model, prepare(model)
        self._rules = local_learning.rules(model, self._net, exponents, rate)

    def push_words(self, planes: np.ndarray, progress: Progress, weights: Weights) -> tuple[np.ndarray, float]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits."""
        left, freq, bits = self.ranges(planes, progress, weights)
        return push_all(left, freq), bits

    def ranges(self, planes: np.ndarray, progress: Progress, weights: Weights) -> tuple[np.ndarray, np.ndarray, float]:
        """Ranges of all nibbles in coding order, uint32 [2 * C * H * W] twice, and their bits."""
        _, height, width = planes.shape
        canvas, place, calls, values, weighted = open_tile(self._model, height, width, weights)
        canvas.fill(planes[None])
        net, state, batch, room = self._begin(place)
        left, freq = np.empty((2, 2 * planes.size), np.uint32)
        bits, done = 0.0, 0
        for number, (first, last) in enumerate(calls):
            cost, done = _run(
                net, place, self._rules, state, batch, room, canvas.flat, first, last, values, weighted,
                left, freq, done,
            )  # fmt: skip
            bits += cost
            report(progress, height * width, number, len(calls))
        return left, freq, bits

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        canvas, place, calls, values, weighted = open_tile(self._model, height, width, weights)
        net, state, batch, room = self._begin(place)
        words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
        stack, left = ans.opened(words)
        for number, (first, last) in enumerate(calls):
            stack, left = _pop(
                net, place, self._rules, state, batch, room, canvas.flat, first, last, values, weighted,
                np.uint64(stack), words, left,
            )  # fmt: skip
            report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(stack) == 0 and left == 0

    def _begin(self, place: Place) -> tuple[Net, State, Batch, Room]:
        """A net of a tile's own, its state, an empty batch and scratch."""
        net, state = local_learning.begin(self._model, self._net, self._rules)
        return net, state, local_learning.batch_of(net, place), local_learning.room(net)
