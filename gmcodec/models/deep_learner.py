# SPDX-License-Identifier: MIT
"""The loop of local_learner.py for samples of up to 16 bits: the nets of 8 bits, on a scale of the image's own.

What a net of photographs knows holds for photographs of more bits as well once noise has the size that it is used to,
and learning does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba.extending import overload

from ..errors import GmcFormatError
from ..exact.tables import MAX_SHIFT, scale_of
from . import deep_step, local_learning
from .local_fused import Progress
from .local_learner import LearningCoder, coded_as, find_ranges, open_code, push_all, take_samples

if TYPE_CHECKING:
    from .local import LocalModel


class DeepCode(NamedTuple):
    """How samples of more bits become nibbles."""

    nibbles: int


@overload(open_code)
def _open_code(code, tiles, hands):  # type: ignore[no-untyped-def]
    if not coded_as(code, DeepCode):
        return None
    return lambda code, tiles, hands: deep_step.room(tiles[0].place.widest, tiles[0].place.mixtures)


@overload(find_ranges)
def _find_ranges(code, tiles, part, scratch, left, freq, at, before, many):  # type: ignore[no-untyped-def]
    if not coded_as(code, DeepCode):
        return None

    def found(code, tiles, part, scratch, left, freq, at, before, many):  # type: ignore[no-untyped-def]
        tile, nibbles = tiles[0], code.nibbles
        return deep_step.ranges(
            tile.net, tile.batch.outputs[part], tile.batch.base[part], tile.batch.samples[part], tile.place.scale,
            nibbles, scratch, left, freq, at + before * nibbles, many * nibbles,
        )  # fmt: skip

    return found


@overload(take_samples)
def _take_samples(code, tiles, part, scratch, state, words, left):  # type: ignore[no-untyped-def]
    if not coded_as(code, DeepCode):
        return None
    return lambda code, tiles, part, scratch, state, words, left: deep_step.take(
        tiles[0].net, tiles[0].batch.outputs[part], tiles[0].batch.base[part], tiles[0].batch.samples[part],
        tiles[0].place.scale, code.nibbles, scratch, state, words, left,
    )  # fmt: skip


class DeepTileCoder(LearningCoder):
    """Codes tiles of samples of ``bits`` bits, 8 to 16, with a model that learns from each, starting anew.

    A grey level of the net is 2**shift steps; ``rate`` is one of local_learning.RATES.  Immutable; safe to share by
    threads.  Raises GmcFormatError for other numbers, WeightsError, EvaluatorError.
    """

    dtype = np.int32

    def __init__(self, model: LocalModel, bits: int, shift: int, rate: int) -> None:
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(local_learning.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        super().__init__((model.learning(rate),), scale_of(bits, shift))
        self._code = DeepCode(-(-bits // 4))

    def push_words(self, planes: np.ndarray, progress: Progress, threads: int = 1) -> tuple[np.ndarray, float]:
        """A tile uint16 [C, H, W] -> words uint32, and the estimated bits."""
        left, freq, first, bits = self._ranges(planes, progress, self._code, threads)
        return push_all(left, freq, first), bits

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint16 [C, H, W], and whether the words were used up exactly."""
        return self._popped(words, height, width, progress, self._code, threads)
