# SPDX-License-Identifier: MIT
"""The specification of what a net of photographs adds to the model of graphics: one more input of the mixer.

The net is a local net (models/local/spec.py), which never changes.  It sees the last channels of all pixels before this
one, in the order of its own channels.  Of each bit of a sample it says how much of its mixture's mass lies in the upper
half of what the bits before have left.  It is not asked where contexts know enough: see ``ImageCoder.needs_net``.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Int64
from gmcodec.exact import context_mixing as mixing
from gmcodec.exact import logistic
from gmcodec.exact.context_mixing import MixingTables
from gmcodec.models.graphics.numbers_spec import sample
from gmcodec.models.local import spec as local
from gmcodec.models.local.frozen import FrozenLocal

MASS_BITS = 24  # of a mass, of the bits that the probability of a bit is made of


class NetInput:
    """What a net says of the pixels of an image."""

    def __init__(self, net: FrozenLocal, tables: MixingTables, size: tuple[int, int], channels: int) -> None:
        """size: rows and columns of the image; channels: of its pixels, of which the net has the last ones."""
        self.net, self.tables = net, tables
        self.channels, self.first = net.config.channels, channels - net.config.channels
        self.planes = np.zeros((self.channels, *size), np.uint8)  # of pixels that are known

    def put(self, row: int, column: int, pixel: int) -> None:
        """A pixel that is known from now on."""
        self.planes[:, row, column] = [sample(pixel, self.first + c) for c in range(self.channels)]

    def begin_pixel(self, row: int, column: int) -> None:
        """Evaluate the net, on the part of the image that its window may see."""
        config, layers, reach = self.net.config, self.net.layers, self.net.config.reach
        top, left = max(row - reach, 0), max(column - reach, 0)
        seen = self.planes[:, top : row + 1, left : column + reach + 1]
        here = [(row - top) * seen.shape[2] + column - left]
        features = local.window_features(config.window, seen)[here]
        self.outputs = local.net(config, layers, features)
        self.base = local.centre(config.window, layers["linear"], seen)[:, here]
        self.weights = logistic.softmax(self.outputs[:, : config.mixtures], self.net.tables)
        self.known = np.zeros((self.channels, 1), np.int64)

    def begin_sample(self, channel: int) -> None:
        """``channel``: of the pixel."""
        c = channel - self.first
        self.mean, self.inverse = local.logistics(self.net.tables, self.outputs, self.base, self.known, c)
        self.below, self.above = 0, logistic.TOP

    def mass_below(self, value: int) -> int:
        return int(
            logistic.cumulative(self._array(value), self.weights, self.mean, self.inverse, self.net.tables).item()
        )

    def input(self, middle: int) -> int:
        """The log odds of a bit that is one above the mass ``middle``."""
        shift = logistic.CUMULATIVE_BITS - MASS_BITS
        whole, upper = self.above - self.below >> shift, self.above - middle >> shift
        return mixing.stretch(self.tables, min((upper + 1 << 12) // (whole + 2), 4095))

    def end_sample(self, channel: int, value: int) -> None:
        self.known[channel - self.first] = value
        self.weights = logistic.observe(self._array(value), self.weights, self.mean, self.inverse, self.net.tables)

    @staticmethod
    def _array(value: int) -> Int64[np.ndarray, " 1"]:
        return np.array([value], np.int64)
