# SPDX-License-Identifier: MIT
"""Constants and tables of the frozen PixelCNN++, shared with its specification and the native core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmcodec.models.shared.activations import ACTIVATION_LIMIT, ELU_UNIT, make_elu
from gmcodec.models.shared.tensors import Tensors, check_table, read_tables

INSIDE = 128  # the constant input that marks the inside of an image, in the unit of samples
GATE_UNIT, GATE_REACH = 256, 2047  # the sigmoid table's steps per unit, and its reach in steps
GATE_BITS = 14  # 2**14 is a fully open gate
GATED_LIMIT, GATED_BITS = 2**15 - 1, 4  # of the features that a gate scales, in 1/16 of the stream's unit


@dataclass(frozen=True)
class NetTables:
    """Stored integer tables of the net itself.

    gate int32 [2 * 2047 + 1]: sigmoid(b / 256) * 2**14.  elu int32 [2048]: -elu(-v / 256) * 256, at v.
    """

    gate: np.ndarray
    elu: np.ndarray


def make_net_tables() -> NetTables:
    """The tables, computed in float64 when freezing, never when coding."""
    b = np.arange(-GATE_REACH, GATE_REACH + 1) / GATE_UNIT
    gate = np.rint(2**GATE_BITS / (1 + np.exp(-b))).astype(np.int32)
    return NetTables(gate, make_elu(ACTIVATION_LIMIT, ELU_UNIT))


def read_net_tables(tensors: Tensors) -> NetTables:
    """Tables that ``shared.tensors.write_tables`` wrote.  Raises WeightsError."""
    net: NetTables = read_tables("table", NetTables, tensors)
    for field, size, top in (("gate", 2 * GATE_REACH + 1, 1 << GATE_BITS), ("elu", ACTIVATION_LIMIT + 1, ELU_UNIT)):
        check_table(field, getattr(net, field), size, top)
    return net
