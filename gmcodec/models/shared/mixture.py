# SPDX-License-Identifier: MIT
"""From the outputs of a frozen net to the frequencies of a coder: coupled mixtures of logistics.

The specification in plain numpy is local/spec.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmcodec.arrays import Float64, Int32
from gmcodec.exact.logistic import COUPLING_BITS, LOG_SCALE_UNIT, LOGIT_UNIT, POSITION, Tables, output_groups
from gmcodec.native import Core

Weights = Sequence[np.ndarray | None] | None  # of values, for each channel; see coding/value_weights.py
MIXING_BITS = 24  # mixing weights of an ensemble are in 2**-MIXING_BITS


def value_weights(weights: Weights, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights of values int64 [C, 256], and bool [C]: which channels have any; None if no channel has."""
    listed = weights or [None] * channels
    if all(w is None for w in listed):
        return None
    values = [np.ones(256, np.int64) if w is None else w for w in listed]
    return np.stack(values), np.array([w is not None for w in listed])


class MixtureOutputs:
    """Base of the architectures whose nets output K coupled logistics."""

    channels: int
    mixtures: int

    @property
    def couplings(self) -> int:
        """The number of pairs of channels."""
        return self.channels * (self.channels - 1) // 2

    @property
    def outputs(self) -> int:
        """The number of outputs: logits, means, log-scales, couplings of K logistics, as in exact/logistic.py."""
        return self.mixtures * output_groups(self.channels)


def output_units(config: MixtureOutputs) -> Float64[np.ndarray, " N"]:
    """float64 [outputs]: the unit of each output, a power of two; see exact/logistic.py."""
    k, c = config.mixtures, config.channels
    each = [1 / LOGIT_UNIT, 1 / POSITION, 1 / LOG_SCALE_UNIT, 2.0**-COUPLING_BITS]
    return np.repeat(each, [k, k * c, k * c, k * config.couplings])


class Prediction:
    """Frequencies of N pixels, channel by channel: call ``high``, ``low`` and ``observe`` for each channel in turn.

    outputs  int32 [N, K * groups]: logits, means, log-scales, couplings of K logistics, as in the float nets
    base     int32 [N, C]: the centre of the means in 1/64 grey level
    """

    def __init__(
        self,
        core: Core,
        channels: int,
        tables: Tables,
        outputs: Int32[np.ndarray, "N O"],
        base: Int32[np.ndarray, "N C"],
    ) -> None:
        self._core, self._channels, self._tables, self._outputs, self._base = core, channels, tables, outputs, base
        self._mixtures = outputs.shape[1] // output_groups(channels)
        self._weights = core.priors(outputs, self._mixtures, tables.softmax)
        self.samples = np.zeros((len(outputs), channels), np.int32)
        self._begin_channel(0)

    def _begin_channel(self, channel: int) -> None:
        """Compute means and scales of a channel from the samples of the channels before it."""
        self._channel = channel
        self._mean, self._inverse = self._core.logistics(
            self._outputs, self._base, self.samples, channel, self._mixtures, self._tables.inverse
        )

    def high(self) -> Int32[np.ndarray, "N 16"]:
        """Rows of the high nibble of the channel: int32 [N, 16]."""
        return self._core.rows(self._weights, self._mean, self._inverse, self._tables.sigmoid)

    def low(self, high: Int32[np.ndarray, " N"]) -> Int32[np.ndarray, "N 16"]:
        """Rows of the low nibble listed the high one, int32 [N]: int32 [N, 16]."""
        return self._core.rows(self._weights, self._mean, self._inverse, self._tables.sigmoid, high)

    def observe(self, sample: Int32[np.ndarray, " N"]) -> None:
        """Set the channel's samples, int32 [N], and go on to the next channel."""
        self.samples[:, self._channel] = sample
        if self._channel + 1 < self._channels:
            self._core.observed(sample, self._weights, self._mean, self._inverse, self._tables.sigmoid)
            self._begin_channel(self._channel + 1)
