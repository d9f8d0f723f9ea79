# SPDX-License-Identifier: MIT
"""Code a tile with a local model that stays as it is: the words that ``coding.autoregressive.push`` makes, only faster.

The native core goes through the steps of the wavefront; one thread works on a tile.
"""

from __future__ import annotations

import numpy as np

from gmcodec import native
from gmcodec.exact import ans
from gmcodec.exact.logistic import BYTES
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.mixture import Weights, value_weights
from gmcodec.models.shared.steps import calls_of, report
from gmcodec.models.shared.window import Canvas
from gmcodec.progress import Callback

SAMPLED = 4  # one pixel of so many tells about what a tile takes
CALL_PIXELS = 1 << 15  # coded between two reports of progress, which may end the work


class TileCoder:
    """Codes tiles with a net.  Immutable; safe to share by threads."""

    def __init__(self, config: LocalConfig, net: native.Net) -> None:
        self._config, self._net = config, net

    def _open(self, height: int, width: int, weights: Weights) -> tuple[Canvas, native.Tile, list[tuple[int, int]]]:
        """An empty canvas, the tile on it, the runs of steps that are coded between two reports of progress."""
        canvas = Canvas(self._config.window, height, width)
        values = value_weights(weights, self._config.channels)
        tile = native.Tile([self._net], None, canvas, self._config.slope, BYTES, 2, values, 1)
        return canvas, tile, calls_of(tile.steps, height * width, CALL_PIXELS)

    def push_words(
        self, planes: np.ndarray, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits [1].  Mirrors ``pop_words``, backwards."""
        canvas, tile, calls = self._open(planes.shape[1], planes.shape[2], weights)
        canvas.fill(planes[None])
        state, out, bits = 0, [], 0.0
        for number, (first, last) in enumerate(reversed(calls)):
            state, words, cost = tile.push(first, last, state)
            out.append(words)
            bits += cost
            report(progress, planes[0].size, number, len(calls))
        return ans.words_of(state, out), np.array([bits])

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        canvas, tile, calls = self._open(height, width, weights)
        words = np.array(words, np.uint32)  # of this machine's byte order, whatever file they lie in
        state, count = ans.stack_of(words)
        for number, (first, last) in enumerate(calls):
            state, count = tile.pop(first, last, state, words, count)
            report(progress, height * width, number, len(calls))
        return canvas.planes()[0], state == 0 and count == 0

    def sampled_bits(self, planes: np.ndarray, progress: Callback, weights: Weights) -> tuple[float, float]:
        """About the bits of a tile uint8 [C, H, W], from one of SAMPLED of its pixels, and the variance of that number.

        The variance is that of samples side by side: the tile is no different there (von Neumann 1941).
        """
        canvas, tile, calls = self._open(planes.shape[1], planes.shape[2], weights)
        canvas.fill(planes[None])
        found = []
        each = SAMPLED * calls[0][1]
        for last in range(tile.steps, 0, -each):
            found.append(tile.sample(max(0, last - each), last, SAMPLED))
            progress(0)  # it may end the work
        seen, bits = (np.concatenate(part) for part in zip(*found, strict=True))
        bits, seen = bits[seen > 0], seen[seen > 0]
        more = planes[0].size / max(seen.sum(), 1)
        differences = np.diff(bits / seen) ** 2 / 2 * seen[1:] * seen[:-1]
        return float(bits.sum() * more), float(differences.sum() * more**2)

    def evaluate(self, planes: np.ndarray) -> None:
        """Only the net, for a tile uint8 [C, H, W]: to measure what it takes."""
        canvas, tile, _ = self._open(planes.shape[1], planes.shape[2], None)
        canvas.fill(planes[None])
        tile.evaluate()
