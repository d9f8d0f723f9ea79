# SPDX-License-Identifier: MIT
"""Adaptive density estimation on disk."""

from __future__ import annotations

from gmcodec.errors import WeightsError
from gmcodec.models.ade.config import AdeConfig, read_config
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.ade.tables import SAMPLE_BITS, read_flow_tables
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.layers import Tensors, read_layers, write_layers
from gmcodec.models.shared.tables import read_latent_tables, write_tables
from gmcodec.models.vae.frozen import read_constants


def write(model: AdeModel) -> Tensors:
    tensors = write_layers(model.layers) | write_tables("table", model.tables)
    return tensors | write_tables("constant", model.constants) | write_tables("latent", model.latent_tables)


def read(config: AdeConfig, tensors: Tensors, base: Base | None) -> AdeModel:
    if base is None:
        raise WeightsError("a flow needs the weights of a base")
    tables = read_flow_tables(tensors, 4 * config.channels * 4 ** (config.levels - 1))
    constants, latents = read_constants(tensors, config.vae), read_latent_tables(tensors)
    if latents.bits != SAMPLE_BITS:
        raise WeightsError(f"noise has {SAMPLE_BITS} bits, not {latents.bits}")
    return AdeModel(config, read_layers(tensors, config), constants, tables, latents, base)


FAMILY = Family(kind="ade-1", config=AdeConfig, model=AdeModel, read_config=read_config, write=write, read=read)
