# SPDX-License-Identifier: MIT
"""Limits and units of the integers between layers, and the table of the ELU: part of the format of weights."""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Int32

MID_GREY = 128  # grey level that nets see as 0
ACTIVATION_LIMIT = 2047  # no activation of an autoregressive net exceeds it: 12 bits
OUTPUT_LIMIT = 2**17  # no output (a logit, mean, log-scale or coupling) exceeds it
INPUT_LIMIT = 128  # no difference to the local mean exceeds it
ELU_UNIT = 256  # what is 1.0 in the float net, in a PixelCNN++ with ELUs
MAP_LIMIT = 2**14 - 1  # no activation of a net over whole maps (conv.py), and no condition of a pixel, exceeds it
MAP_UNIT = 512  # what is 1.0 in the float net, in a net over whole maps


def make_elu(limit: int, unit: int) -> Int32[np.ndarray, " N"]:
    """-elu(-v / unit) * unit at v = 0 .. limit, int32; computed when freezing, never when coding."""
    return np.rint(-np.expm1(-np.arange(limit + 1) / unit) * unit).astype(np.int32)
