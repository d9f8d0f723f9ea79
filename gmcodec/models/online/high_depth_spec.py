# SPDX-License-Identifier: MIT
"""The specification of samples of up to 16 bits as nibbles, in plain numpy int64.

The rest is in online/spec.py.  tests/models/test_high_depth.py compares with the native core, symbol by symbol.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmcodec.arrays import Int64
from gmcodec.exact import logistic
from gmcodec.exact.logistic import NIBBLES, ROW_TOTAL, SIGMOID_REACH, SPREAD, TOP, Tables, scale_of
from gmcodec.models.local import spec as local_spec
from gmcodec.models.online.spec import observe


def cumulative(edge: np.ndarray, mean: np.ndarray, inverse: np.ndarray, t: Tables) -> np.ndarray:
    """Cumulative logistic at ``edge``, in 1/1024 grey level, interpolated between entries of the table: 0..2**24."""
    u = (edge - mean * 16) * inverse
    whole, part = u >> 20, (u >> 12) & 255
    low = t.sigmoid[np.clip(whole, -SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH].astype(np.int64)
    high = t.sigmoid[np.clip(whole + 1, -SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH].astype(np.int64)
    inside = low + ((high - low) * part >> 8)
    return np.where(whole < -SIGMOID_REACH, t.sigmoid[0], np.where(whole >= SIGMOID_REACH, t.sigmoid[-1], inside))


def nibbles(
    t: Tables,
    outputs: Int64[np.ndarray, "N O"],
    base: Int64[np.ndarray, "C N"],
    samples: Int64[np.ndarray, "C N"],
    bits: int,
    shift: int,
) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " S"]]:
    """Outputs int64 [N, M], base and samples int64 [C, N] -> intervals of all nibbles, int64 each.

    Returns starts and frequencies, channel by channel, pixel by pixel, the highest nibble first.
    """
    scale, count, starts, freq = scale_of(bits, shift), -(-bits // 4), [], []
    mixtures = outputs.shape[1] // logistic.output_groups(len(samples))
    weights = logistic.softmax(outputs[:, :mixtures], t)
    for channel, sample in enumerate(samples):
        mean, inverse = local_spec.logistics(t, outputs, base, samples, channel, scale)

        def mass(value: np.ndarray, weights=weights, mean=mean, inverse=inverse) -> np.ndarray:
            edge = (value * 1024 - 512) >> shift
            return (weights * cumulative(edge[:, None], mean, inverse, t)).sum(1)

        below, above = np.zeros(len(sample), np.int64), np.full(len(sample), TOP)
        for unit in [16**n for n in reversed(range(count))]:
            first = sample // (16 * unit) * (16 * unit)
            symbol = sample // unit % 16
            start, low = _boundary(symbol, first, unit, below, above, mass)
            end, high = _boundary(symbol + 1, first, unit, below, above, mass)
            starts.append(start)
            freq.append(end - start)
            below, above = low, high
        weights = observe(t, sample, weights, mean, inverse, scale)

    def in_order(found: list[np.ndarray]) -> np.ndarray:
        return np.stack(found).reshape(len(samples), count, -1).transpose(0, 2, 1).ravel()

    return in_order(starts), in_order(freq)


def _boundary(
    j: np.ndarray,
    first: np.ndarray,
    unit: int,
    below: np.ndarray,
    above: np.ndarray,
    mass: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Where nibble j, 0 to 16, begins in the row of frequencies, and the mass below it; uniform without any mass."""
    empty, inside = above <= below, mass(first + j * unit)
    start = np.where(empty, j * (SPREAD // NIBBLES), (inside - below) * SPREAD // np.maximum(above - below, 1)) + j
    start = np.where(j == 0, 0, np.where(j == NIBBLES, ROW_TOTAL, start))
    return start, np.where(j == 0, below, np.where(j == NIBBLES, above, np.where(empty, below, inside)))
