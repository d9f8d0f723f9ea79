# SPDX-License-Identifier: MIT
"""The specification of a frozen flow's nets in plain numpy int64: what ade/flow_state.py computes.

Slow and simple: one image, maps are int64 [H, W, F].  tests/models/test_ade_frozen.py compares, number by number.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Int32, Int64, UInt8
from gmcodec.exact import ops
from gmcodec.exact.logistic import LOG_SCALE_UNIT
from gmcodec.exact.ops import Layer
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.tables import COUPLING_LOG_SCALE_MAX
from gmcodec.models.shared.activations import MAP_LIMIT, OUTPUT_LIMIT
from gmcodec.models.vae.spec import MEAN_SHIFT, clamp, convolution

MAX_LOG_SCALE = COUPLING_LOG_SCALE_MAX * LOG_SCALE_UNIT


def kept(config: AdeConfig, name: str, samples: Int64[np.ndarray, "H W C"]) -> Int64[np.ndarray, "H2 W2 F"]:
    """Inputs of a coupling's net, [h, w, F], in 1/16 grey level and clamped, from samples [H, W, C] of its scale."""
    features = [(k // config.channels // 2, k // config.channels % 2, k % config.channels) for k in config.kept(name)]
    inputs = [samples[row::2, column::2, channel] for row, column, channel in features]
    return np.clip((np.stack(inputs, 2) + 8) >> 4, -MAP_LIMIT, MAP_LIMIT)


class Spec:
    """Frozen layers as functions of one image."""

    def __init__(self, config: AdeConfig, layers: dict[str, Layer], elu: Int32[np.ndarray, " N"]) -> None:
        self.config, self.layers, self.elu = config, layers, elu.astype(np.int64)

    def active(self, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W F"]:
        """The non-linearity."""
        if self.config.nonlinearity == "leaky":
            return ops.leaky(x)
        return np.where(x > 0, x, -self.elu[np.maximum(-x, 0)])

    def net(
        self, name: str, x: Int64[np.ndarray, "H W F"]
    ) -> tuple[Int64[np.ndarray, "H W M"], Int64[np.ndarray, "H W M"]]:
        """Means and log-scales, [h, w, M] each, without the linear part."""
        c, layers = self.config, self.layers
        inner = convolution(layers[f"{name}.first"], x, c.window)
        for n in range(c.blocks):
            first = convolution(layers[f"{name}.{n}.first"], self.active(inner), c.kernels[0])
            added = convolution(layers[f"{name}.{n}.second"], self.active(first), c.kernels[1], limit=OUTPUT_LIMIT)
            inner = clamp(inner + added)
        mean, log_scale = np.split(convolution(layers[f"{name}.last"], self.active(inner), 1, limit=OUTPUT_LIMIT), 2, 2)
        return mean, log_scale

    def affine(
        self, n: int, samples: Int64[np.ndarray, "H W C"]
    ) -> tuple[Int64[np.ndarray, "H2 W2 M"], Int64[np.ndarray, "H2 W2 M"]]:
        """Mean, and log-scale in 1/32 nat, of coupling n, [h, w, M], from samples [H, W, C] of its scale."""
        x = kept(self.config, self.config.couplings[n][1], samples)
        mean, log_scale = self.net(f"flow.{n}", x)
        linear = convolution(self.layers[f"flow.{n}.linear"], x, self.config.window, limit=OUTPUT_LIMIT)
        return mean + linear, np.clip(log_scale, -MAX_LOG_SCALE, MAX_LOG_SCALE)

    def noise(
        self, planes: UInt8[np.ndarray, "C H W"]
    ) -> tuple[Int64[np.ndarray, "H2 W2 F"], Int64[np.ndarray, "H2 W2 F"]]:
        """Mean in 1/65536 and log-scale in 1/32 nat of the noise of uint8 [C, H, W], [h, w, 4C]."""
        c, x = self.config.channels, 16 * (planes.transpose(1, 2, 0).astype(np.int64) - 128)
        cells = np.concatenate([x[row::2, column::2] for row in (0, 1) for column in (0, 1)], 2)
        assert cells.shape[2] == 4 * c
        mean, log_scale = self.net("noise", cells)
        return mean << MEAN_SHIFT, log_scale
