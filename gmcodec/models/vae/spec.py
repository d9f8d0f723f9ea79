# SPDX-License-Identifier: MIT
"""The specification of a frozen VAE: what vae/latent_state.py computes, in plain numpy int64.

Slow and without tricks: one image, maps are int64 [H, W, F].  tests/models/test_agave_frozen.py compares, number by
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import Int64, UInt8
from gmcodec.exact import ops
from gmcodec.exact.gaussian import (
    LATENT_LOG_SCALE_MAX,
    LATENT_LOG_SCALE_MIN,
    LATENT_LOG_SCALE_UNIT,
    LATENT_SCALE_BITS,
    LatentTables,
)
from gmcodec.exact.ops import Layer
from gmcodec.models.shared.activations import MAP_LIMIT, OUTPUT_LIMIT
from gmcodec.models.vae.config import VAEConfig
from gmcodec.models.vae.frozen import Constants

MEAN_SHIFT = 4  # from means in 1/4096, as nets output them, to 1/65536


def convolution(
    layer: Layer, x: Int64[np.ndarray, "H W F"], size: int = 3, stride: int = 1, limit: int = MAP_LIMIT
) -> Int64[np.ndarray, "H2 W2 M"]:
    """Rescaled and clamped outputs [H / stride, W / stride, M]; zero outside the image."""
    h, w, f = x.shape
    r = size // 2
    padded = np.zeros((h + 2 * r, w + 2 * r, f), np.int64)
    padded[r : r + h, r : r + w] = x
    taps = [padded[dy : dy + h : stride, dx : dx + w : stride] for dy in range(size) for dx in range(size)]
    inputs = np.concatenate(taps, 2)
    rows = ops.rescale(ops.product(layer, inputs.reshape(-1, inputs.shape[2])), layer)
    return np.clip(rows.reshape(*inputs.shape[:2], -1), -limit, limit)


def clamp(x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W F"]:
    return np.clip(x, -MAP_LIMIT, MAP_LIMIT)


def coarser(x: Int64[np.ndarray, "H W F"], shift: int) -> Int64[np.ndarray, "H W F"]:
    """x * 2**-shift, rounded half up and clamped."""
    return clamp((x + (1 << shift >> 1)) >> shift)


@dataclass(frozen=True)
class Group:
    """Posteriors of a group of latents, [H, W, L] each: means in 1/65536, log-scales in 1/32 nat."""

    mean: np.ndarray
    log_scale: np.ndarray


class Spec:
    """Frozen layers and tables as functions of one image."""

    def __init__(self, config: VAEConfig, layers: dict[str, Layer], constants: Constants, tables: LatentTables) -> None:
        self.config, self.layers, self.constants, self.tables = config, layers, constants, tables

    def active(self, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W F"]:
        """The non-linearity."""
        if self.config.nonlinearity == "leaky":
            return ops.leaky(x)
        return np.where(x > 0, x, -self.constants.elu.astype(np.int64)[np.maximum(-x, 0)])

    def residual(
        self, x: Int64[np.ndarray, "H W F"], name: str, inner: Int64[np.ndarray, "H W F"]
    ) -> Int64[np.ndarray, "H W F"]:
        return clamp(x + convolution(self.layers[name], inner, limit=OUTPUT_LIMIT))

    def split(self, name: str, *maps: np.ndarray) -> tuple[Int64[np.ndarray, "C H W"], Int64[np.ndarray, "C H W"]]:
        """Means in 1/65536, and clamped log-scales in 1/32 nat, of a layer of concatenated maps."""
        mean, log_scale = np.split(convolution(self.layers[name], np.concatenate(maps, 2), limit=OUTPUT_LIMIT), 2, 2)
        return mean << MEAN_SHIFT, np.clip(
            log_scale, LATENT_LOG_SCALE_MIN * LATENT_LOG_SCALE_UNIT, LATENT_LOG_SCALE_MAX * LATENT_LOG_SCALE_UNIT
        )

    def index(self, log_scale: Int64[np.ndarray, " ..."]) -> Int64[np.ndarray, " ..."]:
        return np.clip(log_scale - LATENT_LOG_SCALE_MIN * LATENT_LOG_SCALE_UNIT, 0, len(self.tables.scale) - 1)

    def scaled(self, x: Int64[np.ndarray, " ..."], log_scale: Int64[np.ndarray, " ..."]) -> Int64[np.ndarray, " ..."]:
        return (x * self.tables.scale[self.index(log_scale)]) >> LATENT_SCALE_BITS

    def features(self, planes: UInt8[np.ndarray, "C H W"]) -> list[list[np.ndarray]]:
        """The features of the way up, from uint8 [C, H, W]."""
        c, x = self.config, planes.transpose(1, 2, 0).astype(np.int64) - 128
        x = convolution(self.layers["first"], x, 2 * c.stride + 1, c.stride)
        found: list[list[np.ndarray]] = []
        for level, blocks in enumerate(c.groups):
            if level:
                x = convolution(self.layers[f"shrink.{level - 1}"], self.active(x), stride=2)
            found.append([])
            for n in range(blocks):
                inner = convolution(self.layers[f"up.{level}.{n}.first"], self.active(x))
                x = self.residual(x, f"up.{level}.{n}.second", self.active(inner))
                found[-1].append(self.active(x))
        return found

    def down(
        self, bins: Sequence[np.ndarray], planes: UInt8[np.ndarray, "C H W"]
    ) -> tuple[list[Group], Int64[np.ndarray, "H2 W2 F"]]:
        """Posteriors of all groups, given their latents ``bins``, [H, W, L] each, and f(z) [H, W, planes]."""
        c, up = self.config, self.features(planes)
        size = c.cell
        x = np.tile(self.constants.top.astype(np.int64), (planes.shape[1] // size, planes.shape[2] // size, 1))
        groups, before = [], len(c.filters) - 1
        for k, ((level, n), group_bins) in enumerate(zip(c.stages, bins, strict=True)):
            name = f"stages.{k}"
            if level < before:
                x, before = convolution(self.layers[f"grow.{level}"], self.active(x).repeat(2, 0).repeat(2, 1)), level
            active, up_features = self.active(x), up[level][-1 - n]
            mean, log_scale = self.split(f"{name}.posterior", up_features, active)
            z = e = self.tables.values[group_bins].astype(np.int64)
            if c.posterior == "iaf":
                mean, log_scale = self.flow(f"{name}.flow", e, up_features, mean, log_scale)
            if k:
                prior, scale = self.split(f"{name}.prior", active)
                z = prior + self.scaled(e, scale)
            inner = convolution(self.layers[f"{name}.inner"], np.concatenate([active, coarser(z, 7)], 2))
            x = self.residual(x, f"{name}.second", self.active(inner))
            groups.append(Group(mean, log_scale))
        for n in range(c.doublings):
            x = convolution(self.layers[f"finer.{n}"], self.active(x).repeat(2, 0).repeat(2, 1))
        return groups, convolution(self.layers["last"], self.active(x), limit=OUTPUT_LIMIT)

    def flow(
        self,
        name: str,
        e: Int64[np.ndarray, "H W F"],
        up_features: np.ndarray,
        mean: Int64[np.ndarray, "H W F"],
        log_scale: Int64[np.ndarray, "H W F"],
    ) -> tuple[Int64[np.ndarray, "H W F"], Int64[np.ndarray, "H W F"]]:
        """Posteriors of e behind a flow, one channel after another: eq. 2.60 and its inverse."""
        e0, mean, log_scale = np.zeros_like(e), mean.copy(), log_scale.copy()
        for i in range(e.shape[2]):
            inner = convolution(self.layers[f"{name}.first"], np.concatenate([coarser(e0, 7), up_features], 2))
            shift, scale = (part[:, :, i] for part in self.split(f"{name}.last", self.active(inner)))
            mean[:, :, i] = shift + self.scaled(mean[:, :, i], scale)
            log_scale[:, :, i] += scale
            e0[:, :, i] = ((e[:, :, i] - shift) * self.tables.inverse[self.index(scale)]) >> LATENT_SCALE_BITS
        return mean, log_scale
