# SPDX-License-Identifier: MIT
"""PixelCNN++ on disk."""

from __future__ import annotations

from gmcodec.models.pixelcnnpp.config import PixelCNNConfig, read_config
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import read_net_tables
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.layers import Tensors, read_layers, write_layers
from gmcodec.models.shared.tables import read_mixture_tables, write_tables


def write(model: PixelCNNModel) -> Tensors:
    tables = write_tables("table", model.tables) | write_tables("table", model.net_tables)
    return write_layers(model.layers) | tables


def read(config: PixelCNNConfig, tensors: Tensors, base: Base | None) -> PixelCNNModel:
    return PixelCNNModel(config, read_layers(tensors, config), read_mixture_tables(tensors), read_net_tables(tensors))


FAMILY = Family(
    kind="pixelcnnpp-1", config=PixelCNNConfig, model=PixelCNNModel, read_config=read_config, write=write, read=read
)
