# SPDX-License-Identifier: MIT
"""AGAVE on disk.  Layers that the decoder shares with its base are not stored again."""

from __future__ import annotations

from gmcodec.errors import WeightsError
from gmcodec.exact.logistic import Tables
from gmcodec.models.agave.config import AgaveConfig, read_config
from gmcodec.models.agave.latent_state import Decoder
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import read_net_tables
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.layers import Tensors, read_layers, write_layers
from gmcodec.models.shared.tables import read_latent_tables, read_mixture_tables, write_tables
from gmcodec.models.vae.frozen import read_constants

DECODER_PREFIX = "decoder."  # of the names of the decoder's layers


def write(model: AgaveModel) -> Tensors:
    tensors = write_layers(model.layers) | write_tables("table", model.tables)
    tensors |= write_tables("constant", model.constants) | write_tables("latent", model.latent_tables)
    if model.decoder:
        shared = model.base.model.layers if model.base else {}
        own = {name: layer for name, layer in model.decoder.layers.items() if name not in shared}
        tensors |= write_layers(own, DECODER_PREFIX)
    if isinstance(model.decoder, PixelCNNModel) and model.base is None:
        tensors |= write_tables("table", model.decoder.net_tables)
    return tensors


def read(config: AgaveConfig, tensors: Tensors, base: Base | None) -> AgaveModel:
    tables, latent_tables = read_mixture_tables(tensors), read_latent_tables(tensors)
    decoder = _read_decoder(config, tensors, tables, base) if config.decoder else None
    layers, constants = read_layers(tensors, config), read_constants(tensors, config)
    return AgaveModel(config, layers, constants, tables, latent_tables, decoder, base)


def _read_decoder(config: AgaveConfig, tensors: Tensors, tables: Tables, base: Base | None) -> Decoder:
    shared = base.model if base else None
    if shared is not None and type(shared.config) is not type(config.decoder):
        raise WeightsError(f"{base.name if base else ''} is not a decoder of this architecture")
    assert config.decoder is not None
    layers = read_layers(tensors, config.decoder, DECODER_PREFIX, shared.layers if shared is not None else {})
    if isinstance(config.decoder, LocalConfig):
        return LocalModel(FrozenLocal(config.decoder, layers, tables))
    net_tables = shared.net_tables if shared is not None else read_net_tables(tensors)
    return PixelCNNModel(config.decoder, layers, tables, net_tables, base=shared)


FAMILY = Family(kind="agave-1", config=AgaveConfig, model=AgaveModel, read_config=read_config, write=write, read=read)
