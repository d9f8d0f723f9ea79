# SPDX-License-Identifier: MIT
"""Local nets on disk."""

from __future__ import annotations

from gmcodec.models.local.config import LocalConfig, read_config
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.layers import Tensors, read_layers, write_layers
from gmcodec.models.shared.tables import read_mixture_tables, write_tables

UNITS_PREFIX = "gradient."  # of the names of units of gradients


def write(model: LocalModel) -> Tensors:
    units = model.frozen.gradient_units or {}
    tables = write_tables("table", model.tables)
    return write_layers(model.layers) | tables | {f"{UNITS_PREFIX}{name}": unit for name, unit in units.items()}


def read(config: LocalConfig, tensors: Tensors, base: Base | None) -> LocalModel:
    layers = read_layers(tensors, config)
    units = {name: tensors[f"{UNITS_PREFIX}{name}"] for name in layers if f"{UNITS_PREFIX}{name}" in tensors}
    return LocalModel(FrozenLocal(config, layers, read_mixture_tables(tensors), units or None))


FAMILY = Family(kind="local-1", config=LocalConfig, model=LocalModel, read_config=read_config, write=write, read=read)
