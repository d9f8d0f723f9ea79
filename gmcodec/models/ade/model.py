# SPDX-License-Identifier: MIT
"""The frozen adaptive density estimation, as coding uses it, without torch.

The float net is float.py, the specification of the flow's nets is spec.py.  flow_state.py takes images through the
flow, vae/latent_state.py holds the latents of their features.
"""

from __future__ import annotations

import copy
from typing import Any

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.ops import Layer
from gmcodec.models.ade.config import VAE_PREFIX, AdeConfig, read_config
from gmcodec.models.ade.flow_state import FlowState, FrozenFlow
from gmcodec.models.ade.tables import SAMPLE_BITS, FlowTables, read_flow_tables
from gmcodec.models.shared.conv import ConvLayers
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.tensors import (
    Tensors,
    check_layers,
    read_latent_tables,
    read_layers,
    write_layers,
    write_tables,
)
from gmcodec.models.vae.frozen import Constants, FrozenVAE, LatentModel, read_constants


class AdeModel(LatentModel):
    """A frozen model in the native core.  Immutable; safe to share by threads."""

    def __init__(
        self,
        config: AdeConfig,
        layers: dict[str, Layer],
        constants: Constants,
        tables: FlowTables,
        latent_tables: LatentTables,
        base: Base,
        core: native.Core | None = None,
    ) -> None:
        if config.classes:
            raise WeightsError("a model that depends on a class must be frozen for one of them")
        check_layers(config, layers)
        if base.model.channels != config.channels:
            raise WeightsError(f"{base.name} does not code {config.channels} channels")
        self.config, self.layers, self.constants, self.tables = config, layers, constants, tables
        self.latent_tables, self.base = latent_tables, base
        self.core = core or native.core()
        flow = {name: layers[name] for name in config.flow_shapes()}
        inner = {name: layers[f"{VAE_PREFIX}{name}"] for name in config.vae.layer_shapes()}
        self.conv = ConvLayers(flow, tables.elu, config.nonlinearity, self.core)
        conv = ConvLayers(inner, constants.elu, config.vae.nonlinearity, self.core)
        self.vae = FrozenVAE(config.vae, conv, constants, latent_tables)

    @property
    def plain(self) -> Any:
        """The autoregressive model of the seeds, which pay for the first noise and latents."""
        return self.base.model

    def supports(self, height: int, width: int) -> bool:
        """Whether an image can have latents: it must consist of whole cells."""
        return self.has_whole_cells(height, width)

    @property
    def any_size(self) -> bool:
        """Whether the model codes images of any size, strip by strip: always, since the base codes the margins."""
        return True

    def with_plain(self, decoder: Any) -> AdeModel:
        """The model with its base fitted to an image."""
        model = copy.copy(self)
        model.base = self.base._replace(model=decoder)
        return model

    def flow_state(self, shape: tuple[int, int, int, int]) -> FlowState:
        """A batch of images ``shape`` [B, C, H, W].  Raises ValueError unless they consist of whole cells."""
        if not self.supports(*shape[2:]):
            size, cell = f"{shape[3]}x{shape[2]}", self.cell
            raise ValueError(f"an image of {size} pixels does not consist of cells of {cell}x{cell}")
        return FlowState(FrozenFlow(self.config, self.conv, self.tables, self.vae), shape)


# -- on disk: write and read mirror each other ---------------------------------------------------------------


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
