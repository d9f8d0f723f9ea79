# SPDX-License-Identifier: MIT
"""The specification of the frozen AGAVE without its decoder: what agave/latent_state.py computes, in numpy int64."""

from __future__ import annotations

import numpy as np

from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.ops import Layer
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.vae.frozen import Constants
from gmcodec.models.vae.spec import Spec, coarser, convolution


class AgaveSpec(Spec):
    """The VAE, and the conditions that its f(z) gives the decoder."""

    config: AgaveConfig

    def __init__(
        self, config: AgaveConfig, layers: dict[str, Layer], constants: Constants, tables: LatentTables
    ) -> None:
        super().__init__(config, layers, constants, tables)

    def conditions(self, means: np.ndarray) -> list[np.ndarray]:
        """Conditions from f(z) [H, W, planes]: [H', W', D] for each of ``AgaveConfig.condition_levels``."""
        c = self.config
        x = coarser(means, 4).repeat(c.auxiliary, 0).repeat(c.auxiliary, 1)
        streams = [convolution(self.layers["told.first"], x)]
        for n in range(max(c.condition_levels)):
            streams.append(convolution(self.layers[f"told.shrink.{n}"], self.active(streams[-1]), stride=2))
        found = []
        for n, level in enumerate(c.condition_levels):
            streams[level] = self.residual(streams[level], f"told.{n}", self.active(streams[level]))
            found.append(self.active(streams[level]))
        return found
