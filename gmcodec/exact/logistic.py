# SPDX-License-Identifier: MIT
"""Mixtures of logistics as integer frequencies: the specification, in plain numpy int64.

A sample of 8 bits is coded as two nibbles: the high four bits, then the low four bits given the
high ones, each with a row of 16 frequencies that are >= 1 and sum to exactly 2**24::

      cumulative mixture at   -1/2   15.5   31.5        239.5  255.5
                               |------|------|--- ... ---|------|      16 high nibbles
                                      |||||||||                        16 low nibbles of one of them

Units: positions and means in 1/64 grey level; log-scales in 1/32 nat above ``LOG_SCALE_MIN``; logits in
1/64 nat.  Mixture weights sum to 2**14 and the logistic table holds sigma(u / 512) * 2**24, so a
cumulative value is an integer below 2**38; no number comes near the limits of int64.  ``make_tables``
makes the tables once, when a net is frozen; they are stored with the weights and never recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gmcodec.arrays import Int32, Int64, Integer

TOTAL_BITS = 24
ROW_TOTAL = 1 << TOTAL_BITS
NIBBLES = 16
SPREAD = ROW_TOTAL - NIBBLES  # frequency to share out by mass, after each of the 16 entries has got its 1

POSITION = 64  # units of a position per grey level
LOG_SCALE_MIN, LOG_SCALE_MAX, LOG_SCALE_UNIT = -4, 6, 32
LOGIT_UNIT = 64
COUPLING_BITS = 12
MIXTURE_WEIGHT_BITS = 14
SIGMOID_UNIT = 512  # entries of the logistic table per unit
SIGMOID_REACH = 17 * SIGMOID_UNIT  # of the logistic table to either side, in entries
INVERSE_BITS = 16
CUMULATIVE_BITS = MIXTURE_WEIGHT_BITS + TOTAL_BITS
TOP = 1 << CUMULATIVE_BITS  # cumulative value of everything


class Scale(NamedTuple):
    """How samples lie on the grey levels that a net was trained on."""

    shift: int  # a grey level is 2**shift steps of samples
    extra_bits: int  # bits of a sample beyond 8
    max_sample: int
    half_width: int  # of a sample, in 1/64 grey level, as the gradient sees it


BYTES = Scale(0, 0, 255, POSITION // 2)
MAX_SHIFT = 8
MIN_HALF_WIDTH = 4  # narrower samples would have no gradient


def scale_of(bits: int, shift: int) -> Scale:
    """The scale of samples of 8 to 16 ``bits``, which are coded as whole nibbles."""
    return Scale(shift, bits - 8, (1 << 4 * -(-bits // 4)) - 1, max(POSITION // 2 >> shift, MIN_HALF_WIDTH))


@dataclass(frozen=True)
class Tables:
    """Stored integer tables.

    softmax int32 [1024]: exp(-d / 64) * 2**16.  inverse int32 [321]: exp(-log scale) * 2**16, in entries
    of the logistic table per unit of a position.  sigmoid int32 [2 * 17 * 512 + 1]: non-decreasing.
    """

    softmax: np.ndarray
    inverse: np.ndarray
    sigmoid: np.ndarray


def output_groups(channels: int) -> int:
    """Outputs for each logistic: a logit, a mean and a log-scale of each channel, a coupling of each two channels."""
    return 1 + 2 * channels + channels * (channels - 1) // 2


def make_tables() -> Tables:
    """The tables, from float64 mathematics: called when freezing, never when coding."""
    d = np.arange(1024) / LOGIT_UNIT
    log_scale = np.arange((LOG_SCALE_MAX - LOG_SCALE_MIN) * LOG_SCALE_UNIT + 1) / LOG_SCALE_UNIT + LOG_SCALE_MIN
    u = np.arange(-SIGMOID_REACH, SIGMOID_REACH + 1) / SIGMOID_UNIT
    return Tables(
        np.rint(np.exp(-d) * 2**16).astype(np.int32),
        np.rint(np.exp(-log_scale) * SIGMOID_UNIT / POSITION * 2**INVERSE_BITS).astype(np.int32),
        np.rint(ROW_TOTAL / (1 + np.exp(-u))).astype(np.int32),
    )


def normalise(weights: Int64[np.ndarray, "N K"]) -> Int64[np.ndarray, "N K"]:
    """Non-negative int64 [N, K], some > 0, sums below 2**40 -> int64 [N, K], rows sum to 2**14.

    The remainder after rounding down goes to the first of the largest weights.
    """
    scaled = (weights << MIXTURE_WEIGHT_BITS) // weights.sum(1, keepdims=True)
    rows = np.arange(len(weights))
    scaled[rows, weights.argmax(1)] += (1 << MIXTURE_WEIGHT_BITS) - scaled.sum(1)
    return scaled


def softmax(logits: Integer[np.ndarray, "N K"], tables: Tables) -> Int64[np.ndarray, "N K"]:
    """int [N, K] logits in 1/64 nat -> int64 [N, K] mixture weights."""
    logits = logits.astype(np.int64)
    below = np.minimum(logits.max(1, keepdims=True) - logits, len(tables.softmax) - 1)
    return normalise(tables.softmax[below].astype(np.int64))


def logistic_cumulative(edge: np.ndarray, mean: np.ndarray, inverse: np.ndarray, tables: Tables) -> np.ndarray:
    """Logistic cumulative value at ``edge``, in 0..2**24; all int64, broadcast together."""
    u = ((edge - mean) * inverse) >> INVERSE_BITS
    return tables.sigmoid[np.clip(u, -SIGMOID_REACH, SIGMOID_REACH) + SIGMOID_REACH].astype(np.int64)


def cumulative(
    sample: Int64[np.ndarray, " N"],
    weights: Int64[np.ndarray, "N K"],
    mean: Int64[np.ndarray, "N K"],
    inverse: Int64[np.ndarray, "N K"],
    tables: Tables,
) -> Int64[np.ndarray, " N"]:
    """Mixture mass strictly below ``sample``: int64 [N] in 0..2**38; 0 at 0 and 2**38 at 256."""
    edge = (sample * POSITION - POSITION // 2)[:, None]
    inside = (weights * logistic_cumulative(edge, mean, inverse, tables)).sum(1)
    return np.where(sample <= 0, 0, np.where(sample >= 256, TOP, inside))


def high_rows(
    weights: Int64[np.ndarray, "N K"], mean: Int64[np.ndarray, "N K"], inverse: Int64[np.ndarray, "N K"], tables: Tables
) -> Int32[np.ndarray, "N 16"]:
    """Frequencies of the high nibble: int32 [N, 16].  weights, mean, inverse int64 [N, K]."""
    n = len(weights)
    starts = [
        ((cumulative(np.full(n, 16 * j), weights, mean, inverse, tables) * SPREAD) >> CUMULATIVE_BITS) + j
        for j in range(NIBBLES + 1)
    ]
    return np.diff(np.stack(starts, 1), axis=1).astype(np.int32)


def low_rows(
    high: Integer[np.ndarray, " N"],
    weights: Int64[np.ndarray, "N K"],
    mean: Int64[np.ndarray, "N K"],
    inverse: Int64[np.ndarray, "N K"],
    tables: Tables,
) -> Int32[np.ndarray, "N 16"]:
    """Frequencies of the low nibble given the high one, int [N]: int32 [N, 16]."""
    first = high.astype(np.int64) * 16
    return nibble_frequencies([cumulative(first + j, weights, mean, inverse, tables) for j in range(NIBBLES + 1)])


def nibble_frequencies(masses: list[np.ndarray]) -> np.ndarray:
    """Frequencies of a nibble, int32 [N, 16], from the cumulative masses at its 17 boundaries, int64 [N] each."""
    below, mass = masses[0], masses[-1] - masses[0]
    starts = []
    for j, boundary in enumerate(masses):
        # a nibble without any mass is coded uniformly
        share = np.where(mass > 0, (boundary - below) * SPREAD // np.maximum(mass, 1), j * (SPREAD // NIBBLES))
        starts.append(share + j)
    return np.diff(np.stack(starts, 1), axis=1).astype(np.int32)


def observe(
    sample: Integer[np.ndarray, " N"],
    weights: Int64[np.ndarray, "N K"],
    mean: Int64[np.ndarray, "N K"],
    inverse: Int64[np.ndarray, "N K"],
    tables: Tables,
) -> Int64[np.ndarray, "N K"]:
    """Mixture weights, by Bayes' rule, once a channel's sample is known: int64 [N, K]."""
    x = sample.astype(np.int64)[:, None]
    edge = x * POSITION - POSITION // 2
    below = np.where(x == 0, 0, logistic_cumulative(edge, mean, inverse, tables))
    above = np.where(x == 255, ROW_TOTAL, logistic_cumulative(edge + POSITION, mean, inverse, tables))
    return normalise(weights * (above - below + 1))
