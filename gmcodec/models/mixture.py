# SPDX-License-Identifier: MIT
"""From the outputs of a frozen net to the frequencies that a coder asks for: coupled mixtures of logistics.

local_spec.py says the same in plain numpy.
"""

from __future__ import annotations

import numpy as np

from ..exact import kernels
from ..exact.kernels import jit
from ..exact.tables import (
    BYTES,
    COUPLING_BITS,
    LOG_SCALE_MIN,
    LOG_SCALE_UNIT,
    LOGIT_UNIT,
    NIBBLES,
    POSITION,
    Tables,
    output_groups,
)

LOG_SCALE_ZERO = -LOG_SCALE_MIN * LOG_SCALE_UNIT  # table index of log scale 0


@jit
def open_channel(outputs, base, samples, c, channels, inverse_table, shift, components, first, mean, inverse):
    """Means and inverse scales, int64 [N, >= K] out, of channel c given the samples int32 [N, C] before it.

    ``shift``: of Scale; ``components``: K of this net, whose place begins at column ``first``.
    """
    first_mean = components * (1 + c)
    first_scale = components * (1 + channels + c)
    first_coupling = components * (1 + 2 * channels + c * (c - 1) // 2)
    for n in range(mean.shape[0]):
        for k in range(components):
            m = np.int64(base[n, c]) + outputs[n, first_mean + k]
            for previous in range(c):
                residual = ((np.int64(samples[n, previous]) * POSITION) >> shift) - base[n, previous]
                m += (outputs[n, first_coupling + previous * components + k] * residual) >> COUPLING_BITS
            mean[n, first + k] = m
            index = np.int64(outputs[n, first_scale + k]) + LOG_SCALE_ZERO
            inverse[n, first + k] = inverse_table[min(max(index, 0), inverse_table.shape[0] - 1)]


class MixtureOutputs:
    """What architectures share whose nets give K coupled logistics."""

    channels: int
    mixtures: int

    @property
    def couplings(self) -> int:
        """Pairs of channels."""
        return self.channels * (self.channels - 1) // 2

    @property
    def outputs(self) -> int:
        """Rows of the output: logits, means, log-scales, couplings of K logistics, as in exact/tables.py."""
        return self.mixtures * output_groups(self.channels)


def output_units(config: MixtureOutputs) -> np.ndarray:
    """float64 [outputs]: what one integer of each output row is worth, powers of two: see exact/tables.py."""
    k, c = config.mixtures, config.channels
    each = [1 / LOGIT_UNIT, 1 / POSITION, 1 / LOG_SCALE_UNIT, 2.0**-COUPLING_BITS]
    return np.repeat(each, [k, k * c, k * c, k * config.couplings])


class Prediction:
    """Frequencies of N pixels, channel by channel.  Call high, low, observe in turn for each channel.

    outputs int32 [N, K * rows]: logits, means, log-scales, couplings of K logistics, as in the float nets; base int32
    [N, C]: the centre of the means in 1/64 grey level.
    """

    def __init__(self, channels: int, tables: Tables, outputs: np.ndarray, base: np.ndarray) -> None:
        n, k = len(outputs), outputs.shape[1] // output_groups(channels)
        self._channels, self._tables, self._outputs, self._base = channels, tables, outputs, base
        self._weights = np.empty((n, k), np.int64)
        self._mean = np.empty((n, k), np.int64)
        self._inverse = np.empty((n, k), np.int64)
        self.samples = np.zeros((n, channels), np.int32)
        self._channel = 0
        kernels.softmax(outputs, self._tables.softmax, self._weights)

    def high(self) -> np.ndarray:
        """Rows of the high nibble of the next channel: int32 [N, 16]."""
        t = self._tables
        open_channel(
            self._outputs, self._base, self.samples, self._channel, self._channels, t.inverse, BYTES.shift,
            self._mean.shape[1], 0, self._mean, self._inverse,
        )  # fmt: skip
        rows = np.empty((len(self.samples), NIBBLES), np.int32)
        kernels.high_rows(self._weights, self._mean, self._inverse, t.sigmoid, rows)
        return rows

    def low(self, high: np.ndarray) -> np.ndarray:
        """Rows of the low nibble given the high one, int32 [N]: int32 [N, 16]."""
        rows = np.empty((len(self.samples), NIBBLES), np.int32)
        kernels.low_rows(high, self._weights, self._mean, self._inverse, self._tables.sigmoid, rows)
        return rows

    def observe(self, sample: np.ndarray) -> None:
        """Tell the channel's samples, int32 [N]; the next channel follows."""
        self.samples[:, self._channel] = sample
        self._channel += 1
        if self._channel < self._channels:
            kernels.observe(sample, self._weights, self._mean, self._inverse, self._tables.sigmoid)
