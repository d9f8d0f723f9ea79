# SPDX-License-Identifier: MIT
"""The specification of the frozen PixelCNN++ in plain numpy int64: what pixelcnnpp/streams.py computes.

Slow and simple: whole images, layer by layer, like the float net; maps of features are int64 [H, W, F].
tests/models/test_pixelcnnpp_frozen.py compares, number by number.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Int64, UInt8
from gmcodec.exact import ops
from gmcodec.exact.ops import Layer
from gmcodec.models.local import spec as local_spec
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.pixelcnnpp.streams import Conditions, position
from gmcodec.models.pixelcnnpp.tables import GATE_BITS, GATE_REACH, GATED_BITS, GATED_LIMIT, INSIDE, NetTables
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.tensors import CONDITION_PREFIX

UPPER = [
    (dy, dx) for dy in (-1, 0) for dx in (-1, 0, 1)
]  # offsets (row, column) that a layer of a stream sees, in raster order
LEFT = [(dy, dx) for dy in (-1, 0) for dx in (-1, 0)]
TAPS = {"upper": UPPER, "left": LEFT}


def shifted(x: Int64[np.ndarray, "H W F"], dy: int, dx: int) -> Int64[np.ndarray, "H W F"]:
    """[H, W, F]: the features at (row + dy, column + dx) of every cell, zero outside."""
    h, w = x.shape[:2]
    out = np.zeros_like(x)
    for i in range(max(0, -dy), min(h, h - dy)):
        for j in range(max(0, -dx), min(w, w - dx)):
            out[i, j] = x[i + dy, j + dx]
    return out


def linear(layer: Layer, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W C"]:
    """Rescaled outputs [H, W, M] of inputs [H, W, K]."""
    h, w, _ = x.shape
    return ops.rescale(ops.product(layer, x.reshape(h * w, -1)), layer).reshape(h, w, -1)


def convolution(
    layer: Layer, x: Int64[np.ndarray, "H W F"], stream: str, sides: list[np.ndarray], stride: int = 1
) -> Int64[np.ndarray, "H2 W2 M"]:
    """A shifted convolution [H, W, M] of x, and of side inputs at the cell itself."""
    inputs = np.concatenate([*(shifted(x, dy, dx) for dy, dx in TAPS[stream]), *sides], 2)
    return linear(layer, inputs[::stride, ::stride])


def transposed(
    layer: Layer, x: Int64[np.ndarray, "H W F"], stream: str, height: int, width: int
) -> Int64[np.ndarray, "H2 W2 M"]:
    """A transposed convolution of stride 2: cell (i, j) of x reaches rows 2i, 2i + 1 and columns around 2j."""
    taps = layer.weight.reshape(len(layer.weight), len(TAPS[stream]), -1).astype(np.int64)
    acc = np.zeros((height, width, len(taps)), np.int64)
    left = 1 if stream == "upper" else 0
    for i, j in np.ndindex(*x.shape[:2]):
        for number, (dy, dx) in enumerate(TAPS[stream]):
            row, column = 2 * i + dy + 1, 2 * j + dx + 1 - left
            if 0 <= row < height and 0 <= column < width:
                acc[row, column] += taps[:, number] @ x[i, j]
    return ops.rescale(acc.reshape(height * width, -1), layer).reshape(acc.shape)


def clamp(x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W F"]:
    return np.clip(x, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class Spec:
    """Frozen layers and tables as functions of whole images.  ``conditions``: [H', W', D] of each position."""

    def __init__(
        self, config: PixelCNNConfig, layers: dict[str, Layer], tables: NetTables, conditions: Conditions | None = None
    ) -> None:
        self.config, self.layers, self.tables, self.conditions = config, layers, tables, conditions

    def activation(self, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W M"]:
        """The non-linearity of features that are not clamped yet."""
        if self.config.nonlinearity == "leaky":
            return clamp(ops.leaky(x))
        x, table = clamp(x), self.tables.elu.astype(np.int64)

        def elu(v: np.ndarray) -> np.ndarray:
            return np.where(v > 0, v, -table[np.maximum(-v, 0)])

        return np.concatenate([elu(x), elu(-x)], 2) if self.config.nonlinearity == "concat_elu" else elu(x)

    def gated(
        self,
        name: str,
        stream: str,
        x: Int64[np.ndarray, "H W F"],
        active: Int64[np.ndarray, "H W M"],
        sides: list[np.ndarray],
    ) -> Int64[np.ndarray, "H W F"]:
        """x + a * sigmoid(b)."""
        first, second = self.layers[f"{name}.first"], self.layers[f"{name}.second"]
        inner = self.activation(convolution(first, active, stream, sides))
        a, b = np.split(convolution(second, inner, stream, []), 2, 2)
        share = self.tables.gate[np.clip(b, -GATE_REACH, GATE_REACH) + GATE_REACH].astype(np.int64)
        passed = np.clip(a, -GATED_LIMIT, GATED_LIMIT) * share
        bits = GATE_BITS + GATED_BITS
        return self.conditioned(name, clamp(x + ((passed + (1 << (bits - 1))) >> bits)))

    def pointwise(self, way: str, count: int, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W M"]:
        for n in range(count):
            first, second = self.layers[f"fine_{way}.{n}.first"], self.layers[f"fine_{way}.{n}.second"]
            x = clamp(x + linear(second, self.activation(linear(first, x))))
            x = self.conditioned(f"fine_{way}.{n}", x)
        return x

    def conditioned(self, name: str, x: Int64[np.ndarray, "H W F"]) -> Int64[np.ndarray, "H W F"]:
        """x plus the block's layer of the condition."""
        if self.conditions is None:
            return x
        return clamp(x + linear(self.layers[f"{CONDITION_PREFIX}{name}"], self.conditions[position(name)]))

    def first_upper(self, planes: UInt8[np.ndarray, "C H W"]) -> Int64[np.ndarray, "H2 W2 F"]:
        """The upper stream before any block, from uint8 [C, H, W]."""
        c, (h, w) = self.config, planes.shape[1:]
        mean = local_spec.local_mean(planes).reshape(planes.shape)
        difference = np.clip(planes - mean, -local_spec.CLAMP, local_spec.CLAMP)
        known = np.concatenate([planes.astype(np.int64) - 128, difference, np.full((1, h, w), INSIDE)]).transpose(
            1, 2, 0
        )
        near = range(-c.columns, c.columns + 1)
        taps = [shifted(known, -dy, dx) for dy in range(c.rows, 0, -1) for dx in near]
        return clamp(linear(self.layers["first_upper"], np.concatenate(taps, 2)))

    def outputs(self, planes: UInt8[np.ndarray, "C H W"]) -> Int64[np.ndarray, "N K"]:
        """uint8 [C, H, W] -> int64 [H * W, outputs]."""
        c, layers, act = self.config, self.layers, self.activation
        h, w = planes.shape[1:]
        u = self.first_upper(planes)
        window = local_spec.window_features(c.window, planes).reshape(h, w, -1)
        ul = clamp(linear(layers["first_left"], window))
        streams: list[tuple[np.ndarray, np.ndarray]] = []  # activations
        if c.upper:
            ul = self.pointwise("down", c.blocks[0], act(ul))
            streams.append((act(u), ul))
        for level in c.levels:
            if level:
                above, left = streams[-1]
                u = clamp(convolution(layers[f"shrink_upper.{level - 1}"], above, "upper", [], 2))
                ul = clamp(convolution(layers[f"shrink_left.{level - 1}"], left, "left", [], 2))
            streams.append((act(u), act(ul)))
            for n in range(c.blocks[level]):
                above, left = streams[-1]
                u = self.gated(f"down_upper.{level}.{n}", "upper", u, above, [])
                ul = self.gated(f"down_left.{level}.{n}", "left", ul, left, [act(u)])
                streams.append((act(u), act(ul)))
        streams.pop()
        for level in reversed(c.levels):
            for n in range(c.ups[level]):
                above, left = streams.pop()
                u = self.gated(f"up_upper.{level}.{n}", "upper", u, act(u), [above])
                ul = self.gated(f"up_left.{level}.{n}", "left", ul, act(ul), [act(u), left])
            if level > c.levels[0]:
                size = streams[-1][0].shape[:2]
                u = clamp(transposed(layers[f"grow_upper.{level - 1}"], act(u), "upper", *size))
                ul = clamp(transposed(layers[f"grow_left.{level - 1}"], act(ul), "left", *size))
        ul = act(ul)
        if c.upper:
            ul = clamp(streams.pop()[1] + transposed(layers["grow_left.0"], ul, "left", h, w))
            ul = self.pointwise("up", c.ups[0], ul)
        out = linear(layers["last"], ul).reshape(h * w, -1)
        return np.clip(out, -OUTPUT_LIMIT, OUTPUT_LIMIT)
