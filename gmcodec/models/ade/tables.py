# SPDX-License-Identifier: MIT
"""Integer tables of a frozen flow: scales of couplings, and frequencies of features.

A feature minus its mean is an integer that is coded in two parts (coding/flow.py): its lowest bits are uniform, the
bits above are a bin, coded as two nibbles; bin 0 stands for everything outside.  Tables are computed once, in float64,
when a net is frozen; they are stored with the weights and never recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, log2
from typing import NamedTuple

import numpy as np

from gmcodec.arrays import Float64, Int32, Int64
from gmcodec.errors import WeightsError
from gmcodec.exact.logistic import LOG_SCALE_UNIT, ROW_TOTAL, SPREAD
from gmcodec.models.shared.activations import MAP_LIMIT, MAP_UNIT, make_elu
from gmcodec.models.shared.tensors import Tensors, check_table, read_tables

SAMPLE_BITS = 8  # of the noise, below a grey level
SAMPLES_UNIT = 32 << SAMPLE_BITS  # integers for a sample of 1.0 in the float net
COUPLING_SCALE_BITS = 10  # a coupling multiplies by R / 2**10, see coding/flow.py
COUPLING_LOG_SCALE_MAX = 4  # nats
MAX_COUPLING_SCALE, MAX_FEATURE_SHIFT = 2**16, 20  # of R of a coupling, and of the uniform bits of a feature
FEATURE_BINS = 256
BINS_PER_DEVIATION = 4  # bins in a typical deviation, at least; with more, the bins would not reach heavy tails


@dataclass(frozen=True)
class FlowTables:
    """Stored integer tables and vectors.

    elu        as in ``Constants``
    scale      int32 [257]: exp(log-scale) * 2**10, at log-scales in 1/32 nat from -4
    shift      int32 [K]: uniform bits of each feature of the coarsest cell
    high, low  int32 [K, 16] and [K, 16, 16]: frequencies of the two nibbles above
    """

    elu: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    high: np.ndarray
    low: np.ndarray


class Gaussians(NamedTuple):
    """Mixtures of M Gaussians around 0, for K features.

    shares, deviations: float64 [M, K], the latter in units of samples.
    """

    shares: np.ndarray
    deviations: np.ndarray

    @property
    def shifts(self) -> np.ndarray:
        """Uniform bits of each feature, int64 [K]."""
        core = (self.shares * np.log2(self.deviations)).sum(0) - log2(BINS_PER_DEVIATION)
        return np.clip(np.floor(core), 0, MAX_FEATURE_SHIFT).astype(np.int64)

    def masses(self) -> Float64[np.ndarray, "N 256"]:
        """Probability of each bin, float64 [K, 256]; bin 0 is everything outside."""
        found = np.zeros((self.shares.shape[1], FEATURE_BINS))
        for shares, deviations in zip(self.shares, self.deviations, strict=True):
            for row, share, d, shift in zip(found, shares, deviations, self.shifts, strict=True):
                edges = ((np.arange(FEATURE_BINS + 1) - FEATURE_BINS // 2) * 2.0**shift - 0.5) / (d * 2**0.5)
                below, above = (np.array([erfc(sign * e) for e in edges]) / 2 for sign in (-1, 1))
                mass = np.where(edges[:-1] < 0, below[1:] - below[:-1], above[:-1] - above[1:])
                mass[0] = below[1] + above[-1]
                row += share * mass
        return found


def make_tables(shifts: Int64[np.ndarray, " N"], masses: Float64[np.ndarray, "N 256"]) -> FlowTables:
    """The tables of a model, from the masses of the bins of K features, float64 [K, 256], in any unit."""
    log_scale = (
        np.arange(-COUPLING_LOG_SCALE_MAX * LOG_SCALE_UNIT, COUPLING_LOG_SCALE_MAX * LOG_SCALE_UNIT + 1)
        / LOG_SCALE_UNIT
    )
    scale = np.rint(np.exp(log_scale) * 2**COUPLING_SCALE_BITS).astype(np.int32)
    nibbles = masses.reshape(len(masses), 16, 16)
    return FlowTables(
        make_elu(MAP_LIMIT, MAP_UNIT),
        scale,
        shifts.astype(np.int32),
        frequencies(nibbles.sum(2)),
        frequencies(nibbles.reshape(-1, 16)).reshape(nibbles.shape),
    )


def frequencies(masses: Float64[np.ndarray, "N 16"]) -> Int32[np.ndarray, "N 16"]:
    """Masses float64 [N, 16] -> frequencies int32 [N, 16], each >= 1, rows summing to 2**24."""
    total = masses.sum(1, keepdims=True)
    share = np.where(total > 0, masses / np.where(total > 0, total, 1), 1 / masses.shape[1])
    rows = np.floor(share * SPREAD).astype(np.int64) + 1
    rows[np.arange(len(rows)), share.argmax(1)] += ROW_TOTAL - rows.sum(1)
    return rows.astype(np.int32)


def read_flow_tables(tensors: Tensors, kinds: int) -> FlowTables:
    """The tables of a flow whose features are of K ``kinds``.  Raises WeightsError."""
    tables: FlowTables = read_tables("table", FlowTables, tensors)
    check_table("elu", tables.elu, MAP_LIMIT + 1, MAP_UNIT)
    check_table("scale", tables.scale, 2 * COUPLING_LOG_SCALE_MAX * LOG_SCALE_UNIT + 1, MAX_COUPLING_SCALE)
    check_table("shift", tables.shift, kinds, MAX_FEATURE_SHIFT)
    if tables.scale.min() < 1:
        raise WeightsError("a coupling multiplies by 0")
    for field, shape in (("high", (kinds, 16)), ("low", (kinds, 16, 16))):
        rows = getattr(tables, field)
        if rows.shape != shape or rows.dtype != np.int32 or rows.min() < 1 or (rows.sum(-1) != ROW_TOTAL).any():
            raise WeightsError(f"table {field} does not hold frequencies")
    return tables
