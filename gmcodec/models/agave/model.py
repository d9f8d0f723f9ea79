# SPDX-License-Identifier: MIT
"""The frozen AGAVE, as coding uses it, without torch.

The float net is float.py, the specification of the VAE is vae/spec.py; latent_state.py holds the latents of a batch.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.latent_state import AgaveState, Decoder, FactorisedDecoder, FrozenAgave
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.conv import ConvLayers
from gmcodec.models.shared.family import Base
from gmcodec.models.shared.layers import check_layers
from gmcodec.models.vae.frozen import Constants, FrozenVAE, LatentModel


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

    def latent_state(self, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> AgaveState:
        """The latents of images ``shape`` [B, C, H, W], none of them known; with ``planes`` there are posteriors.

        Raises ValueError for images that cannot have latents.
        """
        if not self.supports(*shape[2:]):
            size, cell = f"{shape[3]}x{shape[2]}", self.cell
            raise ValueError(f"an image of {size} pixels does not consist of cells of {cell}x{cell}")
        return AgaveState(self.frozen, shape, planes)
