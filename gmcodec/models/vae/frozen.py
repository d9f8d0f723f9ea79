# SPDX-License-Identifier: MIT
"""The parts of a frozen VAE, and the base class of frozen models with latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmcodec.exact.gaussian import LatentTables
from gmcodec.models.shared.activations import MAP_LIMIT, MAP_UNIT
from gmcodec.models.shared.conv import ConvLayers
from gmcodec.models.shared.family import MAX_CONFIG_NUMBER
from gmcodec.models.shared.tensors import Tensors, check_table, check_vector, read_tables
from gmcodec.models.vae.config import VAEConfig


@dataclass(frozen=True)
class Constants:
    """Integer vectors of the VAE besides its layers.

    top        int32 [F]: the features that the way down starts from, in 1/512
    log_scale  int32 [planes]: of the logistics of y in grey levels, in 1/32 nat
    elu        int32 [16384]: -elu(-v / 512) * 512, at v
    """

    top: np.ndarray
    log_scale: np.ndarray
    elu: np.ndarray


def read_constants(tensors: Tensors, config: VAEConfig) -> Constants:
    """Constants that ``shared.tensors.write_tables`` wrote.  Raises WeightsError."""
    constants: Constants = read_tables("constant", Constants, tensors)
    for field, size, top in (("top", config.filters[-1], MAP_LIMIT), ("log_scale", config.planes, MAX_CONFIG_NUMBER)):
        check_vector(field, getattr(constants, field), size, top)
    check_table("elu", constants.elu, MAP_LIMIT + 1, MAP_UNIT)
    return constants


class FrozenVAE(NamedTuple):
    """A VAE in the native core, for latent_state.py."""

    config: VAEConfig
    conv: ConvLayers
    constants: Constants
    latent_tables: LatentTables


class LatentModel:
    """Base class of AGAVE and ADE: images consist of cells, and latents have tables."""

    config: Any
    latent_tables: LatentTables

    @property
    def channels(self) -> int:
        return int(self.config.channels)

    @property
    def latent_bits(self) -> int:
        """Bits of each latent under the prior."""
        return self.latent_tables.bits

    @property
    def cell(self) -> int:
        """Side of a cell of the coarsest resolution, in pixels."""
        return int(self.config.cell)

    def has_whole_cells(self, height: int, width: int) -> bool:
        """Whether an image consists of whole cells."""
        return height % self.cell == 0 and width % self.cell == 0
