# SPDX-License-Identifier: MIT
"""Which values an image uses: weights that a file may carry beside its learned code.

A photograph edited with levels, contrast or another colour space has a histogram like a comb: some of the 256
values are rare, or missing.  A net that predicts one pixel at a time does not know; the encoder does::

    counts  |.:|.:|.:|. :|.:|      weight of a value = its count against the smooth curve, in half octaves;
            0 ............ 255     none at all for a value that never occurs

The low nibble's frequencies are multiplied by the weights of the sixteen values that it chooses among, in
integers (``native.Core.reweighted``).  High nibbles are left alone: a comb has several teeth in each.

Sent: which channels have weights, as the bits of a number, and 32-bit words: an ANS stack of 256 levels (0..15) for
each such channel in turn, each under adaptive frequencies given the level before it (``_rows``).
"""

from __future__ import annotations

import numpy as np

from gmcodec.coding.stack import ROW_TOTAL, Stack
from gmcodec.errors import GmcFormatError

VALUES, LEVELS, NEUTRAL = 256, 16, 8
# level -> weight: nothing, then half octaves, 2**((level - 8) / 2) * 64; part of the format
WEIGHTS = np.array([0, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724], np.int64)
SPREAD = ROW_TOTAL - LEVELS
PRIOR = 8.0  # counts added to both sides, so that rare values do not look like teeth
TOOTHED = 0.03  # share of pixels off the smooth curve from which a model is asked
STEP = 6  # what a seen level adds to its frequency


# -- choosing weights ------------------------------------------------------------------------------------


def levels(used: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Weight levels uint8 [256] of a channel.

    ``used`` bool [256]: the values that the whole image has.  ``counts`` and ``expected`` float64 [256]: how often a
    sample of the image has each value, and how often the model thought so.  What the model knows by itself (peaks,
    clipped whites) is in both and makes no weight.  Floats are allowed: levels are sent.
    """
    ratio = (counts + PRIOR) / (expected + PRIOR)
    out = np.clip(np.rint(NEUTRAL + 2 * np.log2(ratio)), 1, LEVELS - 1).astype(np.uint8)
    out[~used] = 0
    return out


def expectation(rows: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How often each value is expected, float64 [256]: low-nibble rows int32 [N, 16] of high nibbles int32 [N]."""
    order = np.argsort(high.astype(np.uint8), kind="stable")  # sums of neighbours are much faster than scattered ones
    found, starts = np.unique(high[order], return_index=True)
    total = np.zeros((16, 16), np.int64)
    total[found] = np.add.reduceat(rows[order], starts, dtype=np.int64)
    return total.ravel() / ROW_TOTAL


def toothed(counts: np.ndarray) -> bool:
    """Whether a histogram, int64 [256], looks like a comb: a cheap test before the costly one.

    Neighbouring values of a natural histogram differ by chance only; 0 and 255 collect what was clipped.
    """
    inner = counts[1:-1].astype(float)
    curve = np.convolve(inner, [0.25, 0.5, 0.25], "same")
    chance = np.sqrt(0.4 * curve.sum() * np.count_nonzero(curve))  # expected sum of |inner - curve|, generously
    return bool(np.abs(inner - curve).sum() > chance + TOOTHED * inner.sum())


# -- sending weights: pack and unpack mirror each other ----------------------------------------------------


def pack(levels: np.ndarray) -> tuple[int, np.ndarray]:
    """Levels uint8 [C, 256] -> the byte of channels that are not neutral, and words uint32."""
    mask = sum(1 << c for c, row in enumerate(levels) if (row != NEUTRAL).any())
    sent = levels[[bool(mask >> c & 1) for c in range(len(levels))]].ravel().astype(np.int32)
    if not mask:
        return 0, np.zeros(0, np.uint32)
    counts, before, seen = _fresh(), NEUTRAL, np.empty((len(sent), LEVELS), np.int64)
    for i, level in enumerate(sent.tolist()):
        seen[i] = counts[before]
        counts[before, level] += STEP
        before = level
    stack = Stack()
    stack.push(sent, _rows(seen))
    return mask, stack.words()


def unpack(mask: int, words: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of ``pack``: uint8 [C, 256].  Raises GmcFormatError."""
    out = np.full((channels, VALUES), NEUTRAL, np.uint8)
    if mask >> channels:
        raise GmcFormatError(f"histogram weights for channels {mask:#x} of {channels}")
    if not mask:
        return out
    if len(words) == 0 or words[-1] == 0:
        raise GmcFormatError("histogram weights are missing, or end in a zero word")
    stack, counts, before = Stack(words), _fresh(), NEUTRAL
    for c in range(channels):
        for value in range(VALUES if mask >> c & 1 else 0):
            level = int(stack.pop(_rows(counts[None, before]))[0])
            counts[before, level] += STEP
            out[c, value] = before = level
    if not stack.is_empty():
        raise GmcFormatError("data is left over after the histogram weights")
    return out


def _fresh() -> np.ndarray:
    """Counts of level given level before: the same level is likely from the start."""
    return np.ones((LEVELS, LEVELS), np.int64) + STEP * np.eye(LEVELS, dtype=np.int64)


def _rows(counts: np.ndarray) -> np.ndarray:
    """Frequencies int32 [N, 16] in proportion to counts, each >= 1, rows summing to 2**24."""
    marks = np.cumsum(counts, 1) * SPREAD // counts.sum(1, keepdims=True) + np.arange(1, LEVELS + 1)
    return np.diff(marks, prepend=0).astype(np.int32)
