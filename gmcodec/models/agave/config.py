# SPDX-License-Identifier: MIT
"""AGAVE, the auxiliary guided autoregressive variational autoencoder (thesis, chapter 3): its architecture.

::

    image --bottom up--> features --.                      auxiliary image y: eq. 3.17
                                    v                          ^
             constant --top down, latent groups z_1 .. z_G--> f(z) --conditioner--> PixelCNN++ --> image

For photographs of any size the decoder is a local net.  The decoder sees the latents only through f(z).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmcodec.models.local import config as local
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.pixelcnnpp import config as pixelcnnpp
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.shared.family import plain_values
from gmcodec.models.vae.config import VAEConfig

DecoderConfig = PixelCNNConfig | LocalConfig


@dataclass(frozen=True, kw_only=True)
class AgaveConfig(VAEConfig):
    """Architecture; stored with the weights."""

    decoder: DecoderConfig | None  # with a condition; None: a plain VAE of y

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder and (self.decoder.channels != self.channels or not self.decoder.condition):
            raise ValueError("the decoder must have a condition, and the channels of the VAE")

    @property
    def condition_levels(self) -> list[int]:
        """Resolutions of the conditions: one for every position of a PixelCNN++, one for a local net."""
        if isinstance(self.decoder, PixelCNNConfig):
            return [level for _, level, _ in self.decoder.positions]
        return [0] if self.decoder else []

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every integer layer but the decoder's; in files the conditioner is called ``told``."""
        shapes, size = super().layer_shapes(), 9
        if self.decoder:
            features = self.decoder.condition
            shapes["told.first"] = features, size * self.planes
            shapes |= {f"told.shrink.{n}": (features, size * features) for n in range(max(self.condition_levels))}
            shapes |= {f"told.{n}": (features, size * features) for n in range(len(self.condition_levels))}
        return shapes


def read_config(values: Mapping[str, Any]) -> AgaveConfig:
    """From plain values.  Raises KeyError, TypeError, ValueError, WeightsError."""
    plain = plain_values(values, AgaveConfig)
    if (decoder := plain["decoder"]) is not None:
        plain["decoder"] = (pixelcnnpp if "filters" in decoder else local).read_config(decoder)
    return AgaveConfig(**plain)
