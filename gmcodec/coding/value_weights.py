# SPDX-License-Identifier: MIT
"""Weights of sample values: what an encoder tells the decoder about a sparse histogram.

Editing (levels, contrast, another colour space) leaves a photograph with a sparse histogram: some of the 256 values
are rare or missing.  A net that predicts one pixel at a time cannot know that; the encoder does::

    counts  |.:|.:|.:|. :|.:|      weight of a value = its count over the count that the model expects,
            0 ............ 255     in half octaves; 0 for a value that never occurs

The frequencies of a low nibble are multiplied by the weights of the sixteen values that it chooses among, in integers
(``native.Core.reweighted``).  High nibbles stay as they are, since every sixteen values include some frequent ones.

A file holds, for the channels that have weights:

1. which channels these are, as the bits of a number;
2. 32-bit words: an ANS stack of 256 weight indices (0..15) for each such channel in turn.  The frequencies of an
   index are adaptive and depend on the index before it (``_frequencies``).
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Float64, Int32, UInt8, UInt32
from gmcodec.coding.stack import ROW_TOTAL, Stack
from gmcodec.errors import GmcFormatError

VALUES, INDEX_COUNT, NEUTRAL_INDEX = 256, 16, 8
# weight index -> weight: 0, then half octaves, 2**((index - 8) / 2) * 64; part of the format
WEIGHTS = np.array([0, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724], np.int64)
SHARED_TOTAL = ROW_TOTAL - INDEX_COUNT  # to distribute once every index has a frequency of 1
PSEUDOCOUNT = 8.0  # added to both counts: what rare values do by chance gives them no weight
SPARSE_SHARE = 0.03  # share of pixels off a smooth curve from which weights are computed
COUNT_STEP = 6  # what an index adds to its count each time it occurs


# -- choosing weights ------------------------------------------------------------------------------------


def weight_indices(used: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Weight indices uint8 [256] of a channel.

    used      bool [256]: the values that occur in the whole image
    counts    float64 [256]: how often each value occurs in a sample of the image
    expected  float64 [256]: how often the model expects it there

    What the model predicts by itself (peaks, clipped whites) is in both counts and gives no weight.  Floats are
    allowed here, since the file holds the indices.
    """
    ratio = (counts + PSEUDOCOUNT) / (expected + PSEUDOCOUNT)
    out = np.clip(np.rint(NEUTRAL_INDEX + 2 * np.log2(ratio)), 1, INDEX_COUNT - 1).astype(np.uint8)
    out[~used] = 0
    return out


def expectation(rows: Int32[np.ndarray, "N 16"], high: Int32[np.ndarray, " N"]) -> Float64[np.ndarray, " 256"]:
    """How often the model expects each value, float64 [256], from its rows of low nibbles int32 [N, 16].

    ``high``: the high nibbles int32 [N] that the rows belong to.
    """
    order = np.argsort(high.astype(np.uint8), kind="stable")  # sums over neighbours are much faster
    found, starts = np.unique(high[order], return_index=True)
    total = np.zeros((16, 16), np.int64)
    total[found] = np.add.reduceat(rows[order], starts, dtype=np.int64)
    return total.ravel() / ROW_TOTAL


def is_sparse(counts: np.ndarray) -> bool:
    """Whether a histogram, int64 [256], is sparse: a cheap test, before weights are computed with a model.

    In the histogram of an unedited photograph neighbouring values differ by chance only.  0 and 255 are left out, since
    they collect clipped samples.
    """
    inner = counts[1:-1].astype(float)
    curve = np.convolve(inner, [0.25, 0.5, 0.25], "same")
    chance = np.sqrt(0.4 * curve.sum() * np.count_nonzero(curve))  # of |inner - curve|, rather too large
    return bool(np.abs(inner - curve).sum() > chance + SPARSE_SHARE * inner.sum())


# -- weights in a file: pack and unpack mirror each other --------------------------------------------------


def pack(indices: np.ndarray) -> tuple[int, UInt32[np.ndarray, " N"]]:
    """Indices uint8 [C, 256] -> the bit mask of channels that have weights, and words uint32."""
    mask = sum(1 << c for c, row in enumerate(indices) if (row != NEUTRAL_INDEX).any())
    sent = indices[[bool(mask >> c & 1) for c in range(len(indices))]].ravel().astype(np.int32)
    if not mask:
        return 0, np.zeros(0, np.uint32)
    counts, before, rows = _initial_counts(), NEUTRAL_INDEX, np.empty((len(sent), INDEX_COUNT), np.int64)
    for i, index in enumerate(sent.tolist()):
        rows[i] = counts[before]
        counts[before, index] += COUNT_STEP
        before = index
    stack = Stack()
    stack.push(sent, _frequencies(rows))
    return mask, stack.words()


def unpack(mask: int, words: UInt32[np.ndarray, " words"], channels: int) -> UInt8[np.ndarray, "N 256"]:
    """Inverse of ``pack``: uint8 [C, 256].  Raises GmcFormatError."""
    out = np.full((channels, VALUES), NEUTRAL_INDEX, np.uint8)
    if mask >> channels:
        raise GmcFormatError(f"histogram weights for channels {mask:#x} of {channels}")
    if not mask:
        return out
    if len(words) == 0 or words[-1] == 0:
        raise GmcFormatError("histogram weights are missing, or end in a zero word")
    stack, counts, before = Stack(words), _initial_counts(), NEUTRAL_INDEX
    for c in range(channels):
        for value in range(VALUES if mask >> c & 1 else 0):
            index = int(stack.pop(_frequencies(counts[None, before]))[0])
            counts[before, index] += COUNT_STEP
            out[c, value] = before = index
    if not stack.is_empty():
        raise GmcFormatError("data is left over after the histogram weights")
    return out


def _initial_counts() -> np.ndarray:
    """Counts of an index by the index before it, int64 [16, 16]: at first, repeating it is the likeliest."""
    return np.ones((INDEX_COUNT, INDEX_COUNT), np.int64) + COUNT_STEP * np.eye(INDEX_COUNT, dtype=np.int64)


def _frequencies(counts: np.ndarray) -> np.ndarray:
    """Frequencies int32 [N, 16] in proportion to counts, each >= 1, rows summing to 2**24."""
    marks = np.cumsum(counts, 1) * SHARED_TOTAL // counts.sum(1, keepdims=True) + np.arange(1, INDEX_COUNT + 1)
    return np.diff(marks, prepend=0).astype(np.int32)
