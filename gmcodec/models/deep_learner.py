# SPDX-License-Identifier: MIT
"""The loop of local_learner.py for samples of up to 16 bits: the nets of 8 bits, on a scale of the image's own.

What a net of photographs knows holds for photographs of more bits as well once noise has the size that it is used to,
and learning does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import EvaluatorError, GmcFormatError, WeightsError
from ..exact import ans, evaluators
from ..exact.kernels import jit
from ..exact.learning import Room
from ..exact.tables import MAX_SHIFT, Scale, scale_of
from . import deep_step, local_learning
from .local_fused import Net, Place, Progress, calls_of, place_of, prepare, read_samples, report, write_samples
from .local_learner import evaluate_step, push_all
from .local_learning import Batch, State
from .window import Canvas

if TYPE_CHECKING:
    from .local import LocalModel


@jit
def _run(net, place, rules, state, batch, room, canvas, from_step, to_step, nibbles, left, freq, at_symbol):
    """Ranges of the steps' samples, uint32 in coding order from ``at_symbol`` on; returns bits and where they end."""
    at, bits = np.empty(place.widest, np.int64), 0.0
    scratch = deep_step.room(place.widest, place.mixtures)
    for step in range(from_step, to_step):
        n, part = evaluate_step(net, place, rules, state, batch, room, canvas, step, at)
        outputs, base, samples = batch.outputs[part], batch.base[part], batch.samples[part]
        read_samples(canvas, at[:n], samples)
        bits += deep_step.ranges(net, outputs, base, samples, place.scale, nibbles, scratch, left, freq, at_symbol)
        at_symbol += n * place.channels * nibbles
    return bits, at_symbol


@jit
def _pop(net, place, rules, state, batch, room, canvas, from_step, to_step, nibbles, stack, words, left):
    """Pop the steps' samples into the canvas: the new state of the stack, how many words are left."""
    at = np.empty(place.widest, np.int64)
    scratch = deep_step.room(place.widest, place.mixtures)
    for step in range(from_step, to_step):
        n, part = evaluate_step(net, place, rules, state, batch, room, canvas, step, at)
        outputs, base, samples = batch.outputs[part], batch.base[part], batch.samples[part]
        stack, left = deep_step.take(net, outputs, base, samples, place.scale, nibbles, scratch, stack, words, left)
        write_samples(canvas, at[:n], samples)
    return stack, left


class DeepTileCoder:
    """Codes tiles of samples of ``bits`` bits, 8 to 16, with a model that learns from each, starting anew.

    A grey level of the net is 2**shift steps; ``rate`` is one of local_learning.RATES.  Immutable; safe to share by
    threads.  Raises GmcFormatError for other numbers, WeightsError, EvaluatorError.
    """

    def __init__(self, model: LocalModel, bits: int, shift: int, rate: int) -> None:
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(local_learning.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        if model.units is None:
            raise WeightsError("these weights are not made to learn while they code")
        if not evaluators.self_test("int16"):
            raise EvaluatorError("int16 products are wrong on this machine, and models that learn need them")
        self._model, self._net = model, prepare(model)
        self._rules = local_learning.rules(model, self._net, model.units, rate)
        self._scale: Scale = scale_of(bits, shift)
        self._nibbles = -(-bits // 4)

    def push_words(self, planes: np.ndarray, progress: Progress) -> tuple[np.ndarray, float]:
        """A tile uint16 [C, H, W] -> words uint32, and the estimated bits."""
        _, height, width = planes.shape
        canvas, place, net, state, batch, room = self._open(height, width)
        canvas.fill(planes[None])
        left, freq = np.empty((2, self._nibbles * planes.size), np.uint32)
        bits, done, calls = 0.0, 0, calls_of(place)
        for number, (first, last) in enumerate(calls):
            cost, done = _run(
                net, place, self._rules, state, batch, room, canvas.flat, first, last, self._nibbles, left, freq, done
            )
            bits += cost
            report(progress, height * width, number, len(calls))
        return push_all(left, freq), bits

    def pop_words(self, words: np.ndarray, height: int, width: int, progress: Progress) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint16 [C, H, W], and whether the words were used up exactly."""
        canvas, place, net, state, batch, room = self._open(height, width)
        words = np.array(words, np.uint32)
        stack, left = ans.opened(words)
        calls = calls_of(place)
        for number, (first, last) in enumerate(calls):
            stack, left = _pop(
                net, place, self._rules, state, batch, room, canvas.flat, first, last, self._nibbles,
                np.uint64(stack), words, left,
            )  # fmt: skip
            report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(stack) == 0 and left == 0

    def _open(self, height: int, width: int) -> tuple[Canvas, Place, Net, State, Batch, Room]:
        """An empty canvas, its geometry; a net of the tile's own, its state, an empty batch and scratch."""
        canvas = Canvas(self._model.config.window, height, width, 1, np.int32)
        place = place_of(self._model, canvas, self._scale)
        net, state = local_learning.begin(self._model, self._net, self._rules)
        return canvas, place, net, state, local_learning.batch_of(net, place), local_learning.room(net)
