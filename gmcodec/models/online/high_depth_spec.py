# SPDX-License-Identifier: MIT
"""Samples of up to 16 bits as nibbles: the specification, in plain numpy int64.

tests/models/test_high_depth.py compares, symbol by symbol; online/spec.py has the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmcodec.exact import logistic
from gmcodec.exact.logistic import NIBBLES, ROW_TOTAL, SIGMOID_REACH, SPREAD, TOP, Tables, scale_of
from gmcodec.models.local import spec as local_spec
from gmcodec.models.online.spec import observe


def component(edge: np.ndarray, mean: np.ndarray, inverse: np.ndarray, t: Tables) -> np.ndarray:
    """Logistic cumulative value at ``edge`` in 1/1024 grey level, between the entries of the table: 0..2**24."""
    u = (edge - mean * 16) * inverse
    whole, part = u >> 20, (u >> 12) & 255
    low = t.sigmoid[np.clip(whole, -SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH].astype(np.int64)
    high = t.sigmoid[np.clip(whole + 1, -SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH].astype(np.int64)
    inside = low + ((high - low) * part >> 8)
    return np.where(whole < -SIGMOID_REACH, t.sigmoid[0], np.where(whole >= SIGMOID_REACH, t.sigmoid[-1], inside))


def nibbles(
    t: Tables, outputs: np.ndarray, base: np.ndarray, samples: np.ndarray, bits: int, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """Outputs int64 [N, M], base and samples int64 [C, N] -> start_of and freq of all nibbles: by channel, by pixel,
    the highest first.
    """
    scale, count, start_of, freq = scale_of(bits, shift), -(-bits // 4), [], []
    mixtures = outputs.shape[1] // logistic.output_groups(len(samples))
    weights = logistic.softmax(outputs[:, :mixtures], t)
    for channel, sample in enumerate(samples):
        mean, inverse = local_spec.logistics(t, outputs, base, samples, channel, scale)

        def mass(value: np.ndarray, weights=weights, mean=mean, inverse=inverse) -> np.ndarray:
            edge = (value * 1024 - 512) >> shift
            return (weights * component(edge[:, None], mean, inverse, t)).sum(1)

        below, above = np.zeros(len(sample), np.int64), np.full(len(sample), TOP)
        for unit in [16**n for n in reversed(range(count))]:
            first = sample // (16 * unit) * (16 * unit)
            symbol = sample // unit % 16
            start, low = _boundary(symbol, first, unit, below, above, mass)
            end, high = _boundary(symbol + 1, first, unit, below, above, mass)
            start_of.append(start)
            freq.append(end - start)
            below, above = low, high
        weights = observe(t, sample, weights, mean, inverse, scale)

    def in_order(found: list[np.ndarray]) -> np.ndarray:
        return np.stack(found).reshape(len(samples), count, -1).transpose(0, 2, 1).ravel()

    return in_order(start_of), in_order(freq)


def _boundary(
    j: np.ndarray,
    first: np.ndarray,
    unit: int,
    below: np.ndarray,
    above: np.ndarray,
    mass: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Where nibble j, 0 to 16, begins: its mark, and the mass there; samples whose range has no mass are uniform."""
    empty, inside = above <= below, mass(first + j * unit)
    share = np.where(empty, j * (SPREAD // NIBBLES), (inside - below) * SPREAD // np.maximum(above - below, 1)) + j
    share = np.where(j == 0, 0, np.where(j == NIBBLES, ROW_TOTAL, share))
    return share, np.where(j == 0, below, np.where(j == NIBBLES, above, np.where(empty, below, inside)))
