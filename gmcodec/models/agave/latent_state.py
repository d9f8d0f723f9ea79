# SPDX-License-Identifier: MIT
"""The frozen AGAVE over a batch of images: latents of the VAE, then a decoder conditioned on f(z)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gmcodec import native
from gmcodec.arrays import UInt8
from gmcodec.exact.logistic import LOG_SCALE_UNIT, POSITION, Tables
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.streams import Conditions
from gmcodec.models.shared.activations import MAP_UNIT, MID_GREY
from gmcodec.models.shared.conv import to_activation
from gmcodec.models.shared.mixture import Prediction
from gmcodec.models.vae.frozen import FrozenVAE
from gmcodec.models.vae.latent_state import LatentState, bottom_up

Decoder = PixelCNNModel | LocalModel

MEANS_UNIT = 128 * POSITION  # integers for 1.0, of f(z): in 1/64 grey level, where samples are within -1..1
MEANS_SHIFT = (MEANS_UNIT // MAP_UNIT).bit_length() - 1
WIDE_LOG_SCALE = 5 * LOG_SCALE_UNIT  # of samples about which nothing is known


class FrozenAgave(NamedTuple):
    """A frozen AGAVE in the native core: ``vae.config`` is an AgaveConfig; without a decoder it is a plain VAE."""

    vae: FrozenVAE
    tables: Tables
    decoder: Decoder | None
    core: native.Core

    @property
    def config(self) -> AgaveConfig:
        assert isinstance(self.vae.config, AgaveConfig)
        return self.vae.config

    def factorised(self, means: np.ndarray | None) -> FactorisedDecoder:
        """The decoder of a plain VAE."""
        return FactorisedDecoder(self.core, self.tables, means, self.vae.constants.log_scale, self.config.channels)


class AgaveState(LatentState):
    """Latents of images, and the decoder conditioned on them."""

    def __init__(
        self, model: FrozenAgave, shape: tuple[int, int, int, int], planes: UInt8[np.ndarray, "B C H W"] | None
    ) -> None:
        """``shape``: [B, C, H, W]; ``planes``: the images, if posteriors are needed."""
        cell = model.config.cell
        count, _, height, width = shape
        padded = -(-height // cell) * cell, -(-width // cell) * cell  # whole cells
        up = None
        if planes is not None:
            more = padded[0] - height, padded[1] - width
            planes = np.pad(planes, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), "edge")
            up = bottom_up(model.vae, planes.transpose(0, 2, 3, 1).astype(np.int16) - np.int16(MID_GREY))
        super().__init__(model.vae, count, padded, up)
        self._model, self._shape = model, shape

    def decoder(self) -> Decoder | FactorisedDecoder:
        """The decoder conditioned on f(z)."""
        model = self._model
        if model.decoder is None:
            return model.factorised(self.means())
        conditions = self.conditions()
        if isinstance(model.decoder, PixelCNNModel):
            return model.decoder.conditioned_on(by_position(model.decoder.config, conditions))
        return model.decoder.conditioned_on(conditions[0][:, : self._shape[2], : self._shape[3]])

    def conditions(self) -> list[np.ndarray]:
        """Conditions from f(z), integers [B, H', W', D] for each of ``AgaveConfig.condition_levels``."""
        c, conv = self._model.config, self._model.vae.conv
        x = to_activation(self.means(), MEANS_SHIFT).repeat(c.auxiliary, 1).repeat(c.auxiliary, 2)
        streams = [conv.convolve("told.first", x)]
        for n in range(max(c.condition_levels)):
            streams.append(conv.convolve(f"told.shrink.{n}", conv.active(streams[-1]), stride=2))
        found = []
        for n, level in enumerate(c.condition_levels):
            streams[level] = conv.residual(streams[level], f"told.{n}", conv.active(streams[level]))
            found.append(conv.active(streams[level]))
        return found


def by_position(decoder: PixelCNNConfig, conditions: list[np.ndarray]) -> Conditions:
    """``AgaveState.conditions`` in the layout of a PixelCNN++."""
    cells_first = [np.ascontiguousarray(x.transpose(1, 2, 0, 3)) for x in conditions]
    return dict(zip(decoder.positions, cells_first, strict=True))


class FactorisedDecoder:
    """The decoder of a plain VAE: independent samples, one logistic each (eq. 3.17 with 256 colours).

    ``means`` from ``AgaveState.means``; None: mid-grey with wide logistics.
    """

    slope = 0
    tile_coder = None

    def __init__(
        self, core: native.Core, tables: Tables, means: np.ndarray | None, log_scale: np.ndarray, channels: int
    ) -> None:
        self._core, self._tables, self.channels = core, tables, channels
        self._means = None if means is None else means.reshape(-1, means.shape[3]).astype(np.int32)
        log_scales = np.full(channels, WIDE_LOG_SCALE) if means is None else np.broadcast_to(log_scale, channels)
        couplings = channels * (channels - 1) // 2
        self._outputs = np.concatenate([np.zeros(1 + channels), log_scales, np.zeros(couplings)]).astype(np.int32)

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        return b""

    def adapted(self, changes: bytes) -> FactorisedDecoder:
        return self

    def canvas(self, height: int, width: int, count: int = 1) -> FactorisedCanvas:
        return FactorisedCanvas(count, self.channels, height, width)

    def predict(self, canvas: FactorisedCanvas, pixels: np.ndarray) -> Prediction:
        base = np.full((len(pixels), self.channels), MID_GREY * POSITION, np.int32)
        if self._means is not None:
            base += self._means[pixels]
        return Prediction(self._core, self.channels, self._tables, np.tile(self._outputs, (len(pixels), 1)), base)


class FactorisedCanvas:
    """The canvas of independent samples, which need no features of other samples."""

    def __init__(self, count: int, channels: int, height: int, width: int) -> None:
        self._samples = np.zeros((count, height * width, channels), np.uint8)
        self._shape = count, height, width, channels

    def fill(self, planes: np.ndarray) -> None:
        pass

    def write(self, pixels: np.ndarray, samples: np.ndarray) -> None:
        self._samples.reshape(-1, self._samples.shape[2])[pixels] = samples

    def planes(self) -> np.ndarray:
        return self._samples.reshape(self._shape).transpose(0, 3, 1, 2)
