# SPDX-License-Identifier: MIT
"""What integers between layers are worth, and the table of the ELU.  All of it is part of the format of weights."""

from __future__ import annotations

import numpy as np

ACTIVATION_LIMIT = 2047  # no activation of an autoregressive net exceeds it: 12 bits
OUTPUT_LIMIT = 2**17  # no output (a logit, mean, log-scale or coupling) exceeds it
INPUT_LIMIT = 128  # no difference to the local mean exceeds it
ELU_UNIT = 256  # integers that are 1 in a PixelCNN++ with ELUs
MAP_LIMIT = 2**14 - 1  # no activation of a net over whole maps (conv.py), and no condition of a pixel, exceeds it
MAP_UNIT = 512  # integers that are 1 there


def make_elu(limit: int, unit: int) -> np.ndarray:
    """-elu(-v / unit) * unit at v = 0 .. limit, int32: called when freezing, never when coding."""
    return np.rint(-np.expm1(-np.arange(limit + 1) / unit) * unit).astype(np.int32)
