# SPDX-License-Identifier: MIT
"""The frozen flow over a batch of images: means and scales of its couplings, and the VAE of the features.

Samples and features are int64, in 1/256 of a grey level relative to 128: cells [B, H', W', 4C].  Nets see them in 1/16
(shared/conv.py).  coding/flow.py applies the couplings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gmcodec.arrays import Int, Int32, Int64, Integer, UInt8
from gmcodec.exact import gaussian
from gmcodec.exact.gaussian import Gaussians
from gmcodec.exact.logistic import LOG_SCALE_UNIT
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.tables import COUPLING_LOG_SCALE_MAX, SAMPLE_BITS, FlowTables
from gmcodec.models.shared.activations import MID_GREY
from gmcodec.models.shared.conv import ConvLayers, to_activation
from gmcodec.models.vae.frozen import FrozenVAE
from gmcodec.models.vae.latent_state import LatentState, PosteriorFrequencies, bottom_up, split_latents

MAP_SHIFT = 4  # lowest bits of a sample, which nets do not see


def cells(x: Integer[np.ndarray, "B H W C"]) -> Integer[np.ndarray, "B H2 W2 F"]:
    """[B, H, W, C] -> [B, H/2, W/2, 4C], the channels of a position together."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)


def pixels(x: Int64[np.ndarray, "B H W F"]) -> Int64[np.ndarray, "B H2 W2 C"]:
    """Inverse of ``cells``."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)


class Affine(NamedTuple):
    """What a coupling does to N samples: (x - mean) * scale / 2**10, int64 [N] each, scales above 0."""

    mean: np.ndarray
    scale: np.ndarray


class FrozenFlow(NamedTuple):
    """A frozen flow in the native core, and the VAE of its features."""

    config: AdeConfig
    conv: ConvLayers
    tables: FlowTables
    vae: FrozenVAE


class FlowState:
    """Images on their way through the flow, in either direction.  Vectors hold image after image, cell after cell."""

    def __init__(self, model: FrozenFlow, shape: tuple[int, int, int, int]) -> None:
        count, channels, height, width = shape
        self._model, self._count, self._size = model, count, (height // 2, width // 2)
        self._x: np.ndarray = np.zeros((count, height // 2, width // 2, 4 * channels), np.int64)

    # -- images and their noise ----------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """The number of samples of the batch."""
        return self._x.size

    def noise(self, planes: UInt8[np.ndarray, "B C H W"]) -> PosteriorFrequencies | None:
        """Posteriors of the noise of uint8 [B, C, H, W]; None where it is uniform."""
        model = self._model
        if not model.config.noise:
            return None
        x = (cells(planes.transpose(0, 2, 3, 1)).astype(np.int16) - np.int16(MID_GREY)) << (SAMPLE_BITS - MAP_SHIFT)
        mean, log_scale = split_latents(self._inner("noise", x))
        index, limit = gaussian.scale_index(log_scale), gaussian.LATENT_MEAN_LIMIT
        return PosteriorFrequencies(
            Gaussians(np.clip(mean, -limit, limit).ravel(), index.ravel()), model.vae.latent_tables
        )

    def from_pixels(self, planes: UInt8[np.ndarray, "B C H W"], noise: Int[np.ndarray, " N"]) -> None:
        """Start from images uint8 [B, C, H, W] and the noise of every sample, int32 [N] in 0..255."""
        x = cells(planes.transpose(0, 2, 3, 1)).astype(np.int64) - MID_GREY
        self._x = (x << SAMPLE_BITS) + noise.reshape(x.shape)

    def to_pixels(self) -> tuple[Int64[np.ndarray, "B C H W"], Int32[np.ndarray, " N"]]:
        """Inverse of ``from_pixels``: grey levels int64 [B, C, H, W], some maybe out of range, and the noise."""
        grey = pixels((self._x >> SAMPLE_BITS) + MID_GREY).transpose(0, 3, 1, 2)
        return grey, (self._x & ((1 << SAMPLE_BITS) - 1)).astype(np.int32).ravel()

    # -- couplings -----------------------------------------------------------------------------------------

    @property
    def couplings(self) -> int:
        """The number of couplings."""
        return len(self._model.config.couplings)

    def affine(self, n: int) -> Affine:
        """What coupling n does to the samples that it changes, computed from the others."""
        model, (level, name) = self._model, self._model.config.couplings[n]
        kept = to_activation(self._at(level)[..., model.config.kept(name)], MAP_SHIFT)
        outputs = self._inner(f"flow.{n}", kept)
        mean, log_scale = np.split(outputs, 2, 3)
        mean = mean + model.conv.outputs(f"flow.{n}.linear", kept, model.config.window)
        top = COUPLING_LOG_SCALE_MAX * LOG_SCALE_UNIT
        return Affine(mean.ravel(), model.tables.scale[np.clip(log_scale, -top, top) + top].astype(np.int64).ravel())

    def changed(self, n: int) -> Int64[np.ndarray, " N"]:
        """The samples that coupling n changes, int64 [N]."""
        level, name = self._model.config.couplings[n]
        return self._at(level)[..., self._model.config.changed(name)].ravel()

    def change(self, n: int, values: Int64[np.ndarray, " N"]) -> None:
        """Replace the samples that ``changed`` returns."""
        level, name = self._model.config.couplings[n]
        changed, x = self._model.config.changed(name), self._at(level)
        x[..., changed] = values.reshape(*x.shape[:3], len(changed))
        self._put(level, x)

    def _at(self, level: int) -> np.ndarray:
        """The cells of a scale, which lie at position a of the scale before; the finest are a view, others a copy."""
        return self._x if level == 0 else cells(self._at(level - 1)[..., : self._model.config.channels])

    def _put(self, level: int, x: np.ndarray) -> None:
        """Inverse of ``_at``."""
        if level:
            finer = self._at(level - 1)
            finer[..., : self._model.config.channels] = pixels(x)
            self._put(level - 1, finer)
        else:
            self._x = x

    def _inner(self, name: str, x: np.ndarray) -> np.ndarray:
        """Outputs of a net without its linear part: means and log-scales, int64 [B, H', W', 2M]."""
        conv, c = self._model.conv, self._model.config
        inner = conv.convolve(f"{name}.first", x, c.window)
        for n in range(c.blocks):
            first = conv.active(conv.convolve(f"{name}.{n}.first", conv.active(inner), c.kernels[0]))
            inner = conv.residual(inner, f"{name}.{n}.second", first, c.kernels[1])
        return conv.outputs(f"{name}.last", conv.active(inner), 1).astype(np.int64)

    # -- features and latents ------------------------------------------------------------------------------

    def features(self) -> Int64[np.ndarray, " N"]:
        """The features behind all couplings, int64 [N]."""
        return self._x.ravel()

    def set_features(self, values: Int64[np.ndarray, " N"]) -> None:
        """Start from features int64 [N], for the way back."""
        self._x = values.reshape(self._x.shape)

    def latent_state(self, known: bool) -> LatentState:
        """The latents of the features; there are posteriors if the features are ``known``."""
        model, up = self._model, None
        if known:
            x = to_activation(self._x, MAP_SHIFT)
            up = bottom_up(model.vae, x)
        return LatentState(model.vae, self._count, self._size, up)

    def kinds(self) -> Int64[np.ndarray, " N"]:
        """The kind of each feature, int64 [N]: its index in the coarsest cell, and into the tables of features."""
        side = 1 << (self._model.config.levels - 1)
        rows, columns = (np.arange(n) % side for n in self._size)
        features = np.arange(self._x.shape[3])
        one = (features * side + rows[:, None, None]) * side + columns[:, None]
        return np.tile(one.ravel(), self._count)
