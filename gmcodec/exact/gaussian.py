# SPDX-License-Identifier: MIT
"""Latents as integers: bins of equal mass under N(0, 1), and Gaussians over them as integer frequencies.

A latent is the number of a bin, n nibbles of 4 bits, so its prior is uniform.  A posterior N(mean, scale**2) is coded
nibble by nibble, from the highest, each with a row of 16 frequencies >= 1 that sum to exactly 2**24, as samples are in
exact/logistic.py.

Units: positions, means and bin values in 1/65536; log-scales in 1/32 nat above ``LATENT_LOG_SCALE_MIN``.  The normal
table holds Phi(u / 256) * 2**24, and values between two entries are interpolated.  No number comes near the limits of
int64.  ``make_latent_tables`` makes the tables once, when a net is frozen; they are stored with the weights and never
recomputed.  The codec runs ``native.Core.latent_rows`` in place of ``rows``.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from gmcodec.arrays import Int32, Int64
from gmcodec.exact.logistic import NIBBLES, ROW_TOTAL, nibble_frequencies

LATENT_POSITION = 1 << 16  # units per standard deviation of the prior
LATENT_LOG_SCALE_MIN, LATENT_LOG_SCALE_MAX, LATENT_LOG_SCALE_UNIT = -6, 2, 32
NORMAL_UNIT, NORMAL_DEVIATIONS = 256, 6  # entries of the normal table per deviation; its reach to either side
NORMAL_BETWEEN_BITS = 8  # bits of a position between two entries of the normal table
LATENT_SCALE_BITS = 16  # fraction bits of the tables of scales and of inverse scales
NORMAL_REACH = NORMAL_DEVIATIONS * LATENT_POSITION  # of the normal table to either side, as a position
LATENT_MEAN_LIMIT = 1 << 21  # the largest |mean| of a posterior


@dataclass(frozen=True)
class LatentTables:
    """Stored integer tables, int32.

    edges [2**bits - 1]: positions between two bins.  values [2**bits]: medians of the bins.  normal [2 * 6 * 256 + 1]:
    non-decreasing.
    scale, inverse [257]: exp(log-scale) and exp(-log-scale), * 2**16.
    """

    edges: np.ndarray
    values: np.ndarray
    normal: np.ndarray
    scale: np.ndarray
    inverse: np.ndarray

    @property
    def bits(self) -> int:
        """Bits of a latent, a multiple of 4."""
        return len(self.values).bit_length() - 1


def make_latent_tables(bits: int) -> LatentTables:
    """The tables, from float64 mathematics: called when freezing, never when coding."""
    normal, count = NormalDist(), 1 << bits
    u = np.arange(-NORMAL_DEVIATIONS * NORMAL_UNIT, NORMAL_DEVIATIONS * NORMAL_UNIT + 1) / NORMAL_UNIT
    log_scale = (
        np.arange((LATENT_LOG_SCALE_MAX - LATENT_LOG_SCALE_MIN) * LATENT_LOG_SCALE_UNIT + 1) / LATENT_LOG_SCALE_UNIT
        + LATENT_LOG_SCALE_MIN
    )

    def integers(values: object) -> np.ndarray:
        return np.rint(values).astype(np.int32)  # type: ignore[call-overload]

    return LatentTables(
        integers([normal.inv_cdf(k / count) * LATENT_POSITION for k in range(1, count)]),
        integers([normal.inv_cdf((k + 0.5) / count) * LATENT_POSITION for k in range(count)]),
        integers([normal.cdf(x) * ROW_TOTAL for x in u]),
        integers(np.exp(log_scale) * 2**LATENT_SCALE_BITS),
        integers(np.exp(-log_scale) * 2**LATENT_SCALE_BITS),
    )


@dataclass(frozen=True)
class Gaussians:
    """Posteriors of N latents: ``mean`` int64 [N] in 1/65536, ``log_scale`` int64 [N], an index of the tables."""

    mean: np.ndarray
    log_scale: np.ndarray


def scale_index(log_scale: Int64[np.ndarray, " ..."]) -> Int64[np.ndarray, " ..."]:
    """Table indices of log-scales in 1/32 nat, clamped to what the tables hold: int64."""
    top = (LATENT_LOG_SCALE_MAX - LATENT_LOG_SCALE_MIN) * LATENT_LOG_SCALE_UNIT
    return np.clip(log_scale.astype(np.int64) - LATENT_LOG_SCALE_MIN * LATENT_LOG_SCALE_UNIT, 0, top)


def times_scale(
    x: Int64[np.ndarray, " ..."], index: Int64[np.ndarray, " ..."], tables: LatentTables
) -> Int64[np.ndarray, " ..."]:
    """x * exp(log-scale), rounding down: int64."""
    return (x.astype(np.int64) * tables.scale[index]) >> LATENT_SCALE_BITS


def over_scale(
    x: Int64[np.ndarray, " ..."], index: Int64[np.ndarray, " ..."], tables: LatentTables
) -> Int64[np.ndarray, " ..."]:
    """x / exp(log-scale), rounding down: int64."""
    return (x.astype(np.int64) * tables.inverse[index]) >> LATENT_SCALE_BITS


def cumulative(
    bins: Int64[np.ndarray, " ..."], gaussians: Gaussians, tables: LatentTables
) -> Int64[np.ndarray, " ..."]:
    """Mass below the bins, int64 [N] in 0..2**24; ``bins`` in 0..2**bits."""
    last, normal = len(tables.edges) - 1, tables.normal.astype(np.int64)
    edge = tables.edges[np.clip(bins - 1, 0, last)].astype(np.int64)
    u = (
        np.clip(over_scale(edge - gaussians.mean, gaussians.log_scale, tables), -NORMAL_REACH, NORMAL_REACH)
        + NORMAL_REACH
    )
    entry, between = u >> NORMAL_BETWEEN_BITS, u & ((1 << NORMAL_BETWEEN_BITS) - 1)
    above = normal[np.minimum(entry + 1, len(normal) - 1)]
    inside = normal[entry] + (((above - normal[entry]) * between) >> NORMAL_BETWEEN_BITS)
    return np.where(bins <= 0, 0, np.where(bins > last + 1, ROW_TOTAL, inside))


def rows(
    first: Int64[np.ndarray, " ..."], step: int, gaussians: Gaussians, tables: LatentTables
) -> Int32[np.ndarray, " ..."]:
    """Frequencies of a nibble, int32 [N, 16]: entry j stands for the ``step`` bins from first + j * step on.

    ``first`` int64 [N]: the first bin that the higher nibbles leave possible; ``step``: a power of 16.
    """
    return nibble_frequencies([cumulative(first + j * step, gaussians, tables) for j in range(NIBBLES + 1)])
