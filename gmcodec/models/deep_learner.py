# SPDX-License-Identifier: MIT
"""The loop of local_learner.py for samples of up to 16 bits: the nets of 8 bits, on a scale of the image's own.

What a net of photographs knows holds for photographs of more bits as well once noise has the size that it is used to,
and learning does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import GmcFormatError
from ..exact import crew
from ..exact.kernels import jit
from ..exact.tables import MAX_SHIFT, scale_of
from . import deep_step, local_learning
from .local_fused import Progress, write_samples
from .local_learner import GROUP, STACKS, LearningCoder, evaluate_step, keep_samples, piece, push_all

if TYPE_CHECKING:
    from .local import LocalModel


@jit
def _run(tiles, hands, from_step, to_step, nibbles, left, freq, at_symbol):
    """As in local_learner.py."""
    place, batch, bits = tiles[0].place, tiles[0].batch, 0.0
    scratch = deep_step.room(place.widest, place.mixtures)
    for step in range(from_step, to_step):
        n, begin, first, end = evaluate_step(tiles, hands, step)
        keep_samples(tiles, hands, begin, first, end)
        for stack in range(STACKS):
            i, stop, start, many = piece(n, stack, first, end)
            if i < stop:
                part = slice(begin + i, begin + stop)
                bits += deep_step.ranges(
                    tiles[0].net, batch.outputs[part], batch.base[part], batch.samples[part], place.scale, nibbles,
                    scratch, left, freq, at_symbol[stack] + (i - start) * nibbles, many * nibbles,
                )  # fmt: skip
            at_symbol[stack] += place.channels * nibbles * many
    return bits, np.full(1, bits)


@jit
def _pop(tiles, hands, from_step, to_step, nibbles, states, words, left):
    """As in local_learner.py."""
    place, batch, gate, rank, ranks = tiles[0].place, tiles[0].batch, tiles[0].gate, hands[0].rank, hands[0].ranks
    scratch = deep_step.room(place.widest, place.mixtures)
    for step in range(from_step, to_step):
        n, begin, _, _ = evaluate_step(tiles, hands, step)
        if ranks != STACKS:
            crew.meet(gate, ranks)
        for stack in range(STACKS):
            start, stop = crew.share(n, stack, STACKS, GROUP)
            if stack % ranks == rank and start < stop:
                part = slice(begin + start, begin + stop)
                samples = batch.samples[part]
                states[stack], left[stack] = deep_step.take(
                    tiles[0].net, batch.outputs[part], batch.base[part], samples, place.scale, nibbles, scratch,
                    states[stack], words[stack], left[stack],
                )  # fmt: skip
                write_samples(tiles[0].canvas, hands[0].at[start:stop], samples)
        crew.meet(gate, ranks)


class DeepTileCoder(LearningCoder):
    """Codes tiles of samples of ``bits`` bits, 8 to 16, with a model that learns from each, starting anew.

    A grey level of the net is 2**shift steps; ``rate`` is one of local_learning.RATES.  Immutable; safe to share by
    threads.  Raises GmcFormatError for other numbers, WeightsError, EvaluatorError.
    """

    run, pop = staticmethod(_run), staticmethod(_pop)
    dtype = np.int32

    def __init__(self, model: LocalModel, bits: int, shift: int, rate: int) -> None:
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(local_learning.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        super().__init__((model.learning(rate),), scale_of(bits, shift))
        self.nibbles = -(-bits // 4)

    def push_words(self, planes: np.ndarray, progress: Progress, threads: int = 1) -> tuple[np.ndarray, float]:
        """A tile uint16 [C, H, W] -> words uint32, and the estimated bits."""
        left, freq, first, bits = self._ranges(planes, progress, self.nibbles, threads)
        return push_all(left, freq, first), bits[0]

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint16 [C, H, W], and whether the words were used up exactly."""
        return self._popped(words, height, width, progress, self.nibbles, threads)
