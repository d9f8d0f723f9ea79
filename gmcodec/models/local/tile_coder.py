# SPDX-License-Identifier: MIT
"""Code a tile with a local model that does not learn: the same words as ``coding.autoregressive.push``, but faster.

The native core goes through the steps of the wavefront.  One thread works on a tile.
"""

from __future__ import annotations

import numpy as np

from gmcodec import native
from gmcodec.arrays import Float64, UInt8, UInt32
from gmcodec.exact import ans
from gmcodec.exact.logistic import BYTES
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.mixture import Weights, value_weights
from gmcodec.models.shared.window import Canvas, report, split_steps
from gmcodec.progress import Callback

SAMPLE_EVERY = 4  # pixels of a tile, of which one is sampled
LOCAL_CALL_PIXELS = 1 << 15  # of a call, between two reports of progress, which may stop the work


class TileCoder:
    """Codes tiles with a net.  Immutable; safe to share by threads."""

    def __init__(self, config: LocalConfig, net: native.Net) -> None:
        self._config, self._net = config, net

    def _open(self, height: int, width: int, weights: Weights) -> tuple[Canvas, native.Tile, list[tuple[int, int]]]:
        """An empty canvas, the tile on it, and the steps of each call, between which progress is reported."""
        canvas = Canvas(self._config.window, height, width)
        values = value_weights(weights, self._config.channels)
        tile = native.Tile([self._net], None, canvas, self._config.slope, BYTES, 2, values, 1)
        return canvas, tile, split_steps(tile.steps, height * width, LOCAL_CALL_PIXELS)

    def push_words(
        self, planes: UInt8[np.ndarray, "C H W"], progress: Callback, weights: Weights, threads: int = 1
    ) -> tuple[UInt32[np.ndarray, " words"], Float64[np.ndarray, " 1"]]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits [1].  Inverse of ``pop_words``."""
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
        self,
        words: UInt32[np.ndarray, " words"],
        height: int,
        width: int,
        progress: Callback,
        weights: Weights,
        threads: int = 1,
    ) -> tuple[UInt8[np.ndarray, "C H W"], bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        canvas, tile, calls = self._open(height, width, weights)
        words = np.array(words, np.uint32)  # a copy in the byte order of this machine
        state, count = ans.stack_of(words)
        for number, (first, last) in enumerate(calls):
            state, count = tile.pop(first, last, state, words, count)
            report(progress, height * width, number, len(calls))
        return canvas.planes()[0], state == 0 and count == 0

    def sampled_bits(
        self, planes: UInt8[np.ndarray, "C H W"], progress: Callback, weights: Weights
    ) -> tuple[float, float]:
        """Estimated bits of a tile uint8 [C, H, W], from one in SAMPLE_EVERY of its pixels, and their variance.

        The variance comes from differences between neighbouring samples, where the tile hardly changes (von Neumann
        1941).
        """
        canvas, tile, calls = self._open(planes.shape[1], planes.shape[2], weights)
        canvas.fill(planes[None])
        found = []
        each = SAMPLE_EVERY * calls[0][1]
        for last in range(tile.steps, 0, -each):
            found.append(tile.sample(max(0, last - each), last, SAMPLE_EVERY))
            progress(0)  # may stop the work
        counts, bits = (np.concatenate(part) for part in zip(*found, strict=True))
        bits, counts = bits[counts > 0], counts[counts > 0]
        factor = planes[0].size / max(counts.sum(), 1)
        variances = np.diff(bits / counts) ** 2 / 2 * counts[1:] * counts[:-1]
        return float(bits.sum() * factor), float(variances.sum() * factor**2)

    def evaluate(self, planes: np.ndarray) -> None:
        """Evaluate only the net for a tile uint8 [C, H, W], to measure its time."""
        canvas, tile, _ = self._open(planes.shape[1], planes.shape[2], None)
        canvas.fill(planes[None])
        tile.evaluate()
