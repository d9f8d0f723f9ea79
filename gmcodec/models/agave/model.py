# SPDX-License-Identifier: MIT
"""The frozen AGAVE, as coding uses it, without torch.

The float net is float.py, the specification of the VAE is vae/spec.py; latent_state.py holds the latents of a batch.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from gmcodec import native
from gmcodec.arrays import UInt8
from gmcodec.errors import WeightsError
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.agave.config import AgaveConfig, read_config
from gmcodec.models.agave.latent_state import AgaveState, Decoder, FactorisedDecoder, FrozenAgave
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import read_net_tables
from gmcodec.models.shared.conv import ConvLayers
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.tensors import (
    Tensors,
    check_layers,
    read_latent_tables,
    read_layers,
    read_mixture_tables,
    write_layers,
    write_tables,
)
from gmcodec.models.vae.frozen import Constants, FrozenVAE, LatentModel, read_constants


class AgaveModel(LatentModel):
    """A frozen AGAVE in the native core.  Immutable; safe to share by threads."""

    def __init__(
        self,
        config: AgaveConfig,
        layers: dict[str, Layer],
        constants: Constants,
        tables: Tables,
        latent_tables: LatentTables,
        decoder: Decoder | None,
        base: Base | None = None,
        core: native.Core | None = None,
    ) -> None:
        check_layers(config, layers)
        if decoder and config.decoder != decoder.config:
            raise WeightsError("the decoder is not the one of the architecture")
        if config.decoder is None and config.auxiliary > 1:
            raise WeightsError("a VAE of smaller images does not code images")
        self.config, self.layers, self.constants, self.decoder = config, layers, constants, decoder
        self.tables, self.latent_tables, self.base = tables, latent_tables, base
        self.core = core or native.core()
        self.conv = ConvLayers(layers, constants.elu, config.nonlinearity, self.core)

    @property
    def frozen(self) -> FrozenAgave:
        vae = FrozenVAE(self.config, self.conv, self.constants, self.latent_tables)
        return FrozenAgave(vae, self.tables, self.decoder, self.core)

    @property
    def plain(self) -> Decoder | FactorisedDecoder:
        """The model without latents: the decoder without a condition, or wide logistics."""
        return self.decoder or self.frozen.factorised(None)

    def supports(self, height: int, width: int) -> bool:
        """Whether an image can have latents: it must consist of whole cells, unless the decoder is a local net."""
        return self.any_size or self.has_whole_cells(height, width)

    @property
    def any_size(self) -> bool:
        """Whether the model codes images of any size, strip by strip."""
        return isinstance(self.decoder, LocalModel)

    def with_plain(self, decoder: Any) -> AgaveModel:
        """The model with its decoder fitted to an image."""
        model = copy.copy(self)
        model.decoder = decoder
        return model

    def latent_state(self, shape: tuple[int, int, int, int], planes: UInt8[np.ndarray, "B C H W"] | None) -> AgaveState:
        """The latents of images ``shape`` [B, C, H, W], none of them known; with ``planes`` there are posteriors.

        Raises ValueError for images that cannot have latents.
        """
        if not self.supports(*shape[2:]):
            size, cell = f"{shape[3]}x{shape[2]}", self.cell
            raise ValueError(f"an image of {size} pixels does not consist of cells of {cell}x{cell}")
        return AgaveState(self.frozen, shape, planes)


# -- on disk: write and read mirror each other ---------------------------------------------------------------

DECODER_PREFIX = "decoder."  # how names of the decoder's layers start


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
