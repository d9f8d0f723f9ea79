# SPDX-License-Identifier: MIT
"""Compiled parts of the frozen PixelCNN++: gates, non-linearities, what the upper stream sees of a pixel.

pixelcnnpp_spec.py says the same in plain numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..exact import kernels
from ..exact.kernels import jit
from .local_kernels import CLAMP
from .window import OUTSIDE

ACTIVATION_LIMIT = 2047  # 12-bit streams and activations; part of the format of the weights
OUTPUT_LIMIT = 2**17
INPUT_LIMIT = 128
CONDITION_LIMIT = 2**14 - 1  # of what a condition tells the blocks
CONDITION_UNIT = 512  # integers per unit of it
ONE = 128  # the one that tells the inside of an image from the outside, in the unit of samples
GATE_UNIT, GATE_REACH = 256, 2047  # the sigmoid table's steps per unit, and its reach in steps
GATE_BITS = 14  # 2**14 is a fully open gate
GATED_LIMIT, GATED_BITS = 2**15 - 1, 4  # what passes a gate comes in 1/16 of the stream's unit
ELU_UNIT = 256  # integers per unit of every activation of a net with ELUs


@dataclass(frozen=True)
class NetTables:
    """Stored integer tables of the net itself.

    gate int32 [2 * 2047 + 1]: sigmoid(b / 256) * 2**14.  elu int32 [2048]: -elu(-v / 256) * 256, at v.
    """

    gate: np.ndarray
    elu: np.ndarray


def make_net_tables() -> NetTables:
    """The tables, from float64 mathematics: called when freezing, never when coding."""
    b = np.arange(-GATE_REACH, GATE_REACH + 1) / GATE_UNIT
    gate = np.rint(2**GATE_BITS / (1 + np.exp(-b))).astype(np.int32)
    return NetTables(gate, make_elu(ACTIVATION_LIMIT, ELU_UNIT))


def make_elu(limit: int, unit: int) -> np.ndarray:
    """-elu(-v / unit) * unit at v = 0 .. limit, int32: called when freezing, never when coding."""
    return np.rint(-np.expm1(-np.arange(limit + 1) / unit) * unit).astype(np.int32)


@jit
def gate(acc, scale, offset, table, limit, stream):
    """stream [N, F] += a * sigmoid(b), clamped, in place; a and b are the halves of acc [N, 2F] after rescaling."""
    top, widest, reach = np.float64(limit), np.float64(GATED_LIMIT), np.float64(GATE_REACH)
    half = stream.shape[1]
    for n in range(stream.shape[0]):
        for m in range(half):
            a = np.floor(np.float64(acc[n, m]) * scale[m] + offset[m])
            b = np.floor(np.float64(acc[n, half + m]) * scale[half + m] + offset[half + m])
            a = min(max(a, -widest), widest)
            b = min(max(b, -reach), reach)
            share = np.float64(table[np.int64(b) + GATE_REACH])
            passed = np.floor(a * share * 2.0 ** -(GATE_BITS + GATED_BITS) + 0.5)
            stream[n, m] = min(max(np.float64(stream[n, m]) + passed, -top), top)


@jit
def leaky(stream, out):
    """ops.leaky; [N, F] -> [N, F]."""
    for n in range(stream.shape[0]):
        for m in range(stream.shape[1]):
            v = np.float64(stream[n, m])
            out[n, m] = max(v, np.floor(v * kernels.LEAK))


@jit
def elu(stream, table, out):
    """ELU of every value, [N, F] -> [N, F], and, where ``out`` is twice as wide, of its negative."""
    features = stream.shape[1]
    for n in range(stream.shape[0]):
        for m in range(features):
            v = np.int64(stream[n, m])
            out[n, m] = v if v > 0 else -table[-v]
            if out.shape[1] > features:
                out[n, features + m] = -v if v < 0 else -table[v]


@jit
def planes(samples, row, out):
    """What the upper stream sees of a row: out [W, B, 2C + 1] from samples int16 [B, H, W, C], this row the last known.

    Samples minus 128, their differences to the local mean, and a one.
    """
    count, _, width, channels = samples.shape
    for j in range(width):
        for b in range(count):
            for c in range(channels):
                left = samples[b, row, j - 1, c] if j else OUTSIDE
                above = samples[b, row - 1, j, c] if row else OUTSIDE
                left = above if left == OUTSIDE else left
                above = left if above == OUTSIDE else above
                mean = 128 if left == OUTSIDE else (left + above) >> 1
                x = np.int64(samples[b, row, j, c])
                out[j, b, c] = x - 128
                out[j, b, channels + c] = min(max(x - mean, -CLAMP), CLAMP)
            out[j, b, 2 * channels] = ONE
