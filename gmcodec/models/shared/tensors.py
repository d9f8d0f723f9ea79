# SPDX-License-Identifier: MIT
"""Frozen layers and integer tables of an architecture: written as named tensors, read back, and checked.

The native core does not check indices into a table, so a table's length and range are checked when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from gmcodec.arrays import Int32
from gmcodec.errors import WeightsError
from gmcodec.exact import gaussian
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.logistic import ROW_TOTAL, Tables
from gmcodec.exact.ops import Layer

CONDITION_PREFIX = "condition."  # of the names of layers that read a condition
FIELDS = ("weight", "bias", "multiplier", "shift")
Layers = dict[str, Layer]
Tensors = dict[str, np.ndarray]


class LayerShapes(Protocol):
    """What an architecture says of its integer layers."""

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every layer, by name, in the order in which they are stored."""

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""


def check_layers(config: LayerShapes, layers: Mapping[str, Layer]) -> None:
    """Prove that no sum of a layer overflows.  Raises WeightsError, also for layers that do not fit."""
    for name, shape in config.layer_shapes().items():
        layer = layers[name]
        layer.check(name)
        if layer.weight.shape != shape or layer.input_limit != config.input_limit(name):
            raise WeightsError(f"{name}: shape {layer.weight.shape} does not fit the architecture")


# -- write and read mirror each other ----------------------------------------------------------------------


def write_layers(layers: Mapping[str, Layer], prefix: str = "") -> Tensors:
    """Four tensors a layer: ``first.weight``, ``first.bias``, ..."""
    return {f"{prefix}{name}.{f}": np.ascontiguousarray(getattr(layer, f))
            for name, layer in layers.items() for f in FIELDS}  # fmt: skip


def read_layers(tensors: Tensors, config: LayerShapes, prefix: str = "", known: Mapping[str, Layer] = {}) -> Layers:
    """The layers of an architecture; those that are ``known`` need no tensors.  Raises KeyError."""
    layers = dict(known)
    for name in config.layer_shapes():
        if name not in known:
            weight, bias, multiplier, shift = (tensors[f"{prefix}{name}.{f}"] for f in FIELDS)
            layers[name] = Layer(weight, bias, multiplier, shift, config.input_limit(name))
    return layers


# -- tables --------------------------------------------------------------------------------------------------

MIXTURE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 2 * 17 * 512 + 1}
LATENT_BINS = (2**4, 2**8, 2**12, 2**16)  # latents are coded in nibbles


def write_tables(prefix: str, tables: Any) -> Tensors:
    """A tensor for each field of a dataclass."""
    return {f"{prefix}.{f.name}": getattr(tables, f.name) for f in fields(tables)}


def read_tables(prefix: str, kind: type, tensors: Tensors) -> Any:
    """Inverse of ``write_tables``, unchecked.  Raises KeyError."""
    return kind(*(tensors[f"{prefix}.{f.name}"] for f in fields(kind)))


def read_mixture_tables(tensors: Tensors) -> Tables:
    """The tables of mixtures of logistics.  Raises WeightsError."""
    tables: Tables = read_tables("table", Tables, tensors)
    for field, size in MIXTURE_SIZES.items():
        check_table(field, getattr(tables, field), size, 2**26)
    if (np.diff(tables.sigmoid) < 0).any() or tables.sigmoid[-1] > ROW_TOTAL or tables.softmax[0] < 1:
        raise WeightsError("a table is not monotone")
    return tables


def read_latent_tables(tensors: Tensors) -> LatentTables:
    """The tables of latents.  Raises WeightsError."""
    tables: LatentTables = read_tables("latent", LatentTables, tensors)
    bins = len(tables.values)
    if bins not in LATENT_BINS:
        raise WeightsError(f"{bins} bins of latents are not a power of 16")
    for field, size in (("edges", bins - 1), ("values", bins)):
        check_vector(field, getattr(tables, field), size, 8 * gaussian.LATENT_POSITION)
    reach = gaussian.NORMAL_DEVIATIONS * gaussian.NORMAL_UNIT
    scales = (gaussian.LATENT_LOG_SCALE_MAX - gaussian.LATENT_LOG_SCALE_MIN) * gaussian.LATENT_LOG_SCALE_UNIT + 1
    for field, size, top in (
        ("normal", 2 * reach + 1, ROW_TOTAL),
        ("scale", scales, 2**19),
        ("inverse", scales, 2**25),
    ):
        check_table(field, getattr(tables, field), size, top)
    if (np.diff(tables.edges) < 0).any() or (np.diff(tables.normal) < 0).any():
        raise WeightsError("a table is not monotone")
    return tables


def check_vector(field: str, values: Int32[np.ndarray, " N"], size: int, top: int) -> None:
    """Raise WeightsError unless int32 [size] within +-top."""
    if values.shape != (size,) or values.dtype != np.int32 or (np.abs(values.astype(np.int64)) > top).any():
        raise WeightsError(f"{field} is not int32 [{size}] in its range")


def check_table(field: str, table: Int32[np.ndarray, " T"], size: int, top: int) -> None:
    """Raise WeightsError unless int32 [size] in 0..top."""
    if table.shape != (size,) or table.dtype != np.int32 or table.min() < 0 or table.max() > top:
        raise WeightsError(f"table {field} is not int32 [{size}] in its range")
