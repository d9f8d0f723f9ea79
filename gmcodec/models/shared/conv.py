# SPDX-License-Identifier: MIT
"""Integer convolutions over maps of features, for frozen nets that are not causal: VAEs and couplings.

Maps are [B, H, W, F], integers within +-16383 in units of 1/512; inside the net of a coupling the unit may be another
power of two, which freezing found.
"""

from __future__ import annotations

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int, Int16, Int32
from gmcodec.exact.ops import Layer
from gmcodec.models.shared.activations import MAP_LIMIT, OUTPUT_LIMIT
from gmcodec.native import OUTPUT, OUTPUT_WIDE, RESIDUAL


def to_activation(x: Int[np.ndarray, "B H W F"], shift: int) -> Int16[np.ndarray, "B H W F"]:
    """x * 2**-shift, rounded and clamped to MAP_LIMIT: int16."""
    rounded = (x.astype(np.int64) + (1 << shift >> 1)) >> shift
    return np.clip(rounded, -MAP_LIMIT, MAP_LIMIT).astype(np.int16)


class ConvLayers:
    """Convolutions over whole maps, int16."""

    def __init__(
        self, layers: dict[str, Layer], elu: Int32[np.ndarray, " N"], nonlinearity: str, core: native.Core
    ) -> None:
        self._core, self._elu = core, None if nonlinearity == "leaky" else elu
        self._prepared = {name: core.layer(layer) for name, layer in layers.items()}

    def active(self, x: Int16[np.ndarray, "B H W F"]) -> Int16[np.ndarray, "B H W F"]:
        """The non-linearity of a map."""
        return self._core.activated(x, self._elu)

    def convolve(
        self, name: str, x: Int16[np.ndarray, "B H W F"], size: int = 3, stride: int = 1
    ) -> Int16[np.ndarray, "B H2 W2 M"]:
        """A layer that sees ``size`` x ``size`` cells, clamped: [B, H, W, F] -> [B, H / stride, W / stride, M]."""
        return self._prepared[name].convolve(OUTPUT, np.ascontiguousarray(x), size, stride, MAP_LIMIT)

    def outputs(self, name: str, x: Int16[np.ndarray, "B H W F"], size: int = 3) -> Int32[np.ndarray, "B H W M"]:
        """``convolve`` with stride 1 and int32 outputs within OUTPUT_LIMIT."""
        return self._prepared[name].convolve(OUTPUT_WIDE, np.ascontiguousarray(x), size, 1, OUTPUT_LIMIT)

    def residual(
        self, x: Int16[np.ndarray, "B H W F"], name: str, inner: Int16[np.ndarray, "B H W F"], size: int = 3
    ) -> Int16[np.ndarray, "B H W F"]:
        """x plus a layer of ``inner``, clamped."""
        out = np.array(x, np.int16, order="C")
        return self._prepared[name].convolve(RESIDUAL, np.ascontiguousarray(inner), size, 1, MAP_LIMIT, out)


def twice(x: Int16[np.ndarray, "B H W F"]) -> Int16[np.ndarray, "B H2 W2 F"]:
    """Repeat every cell twice in rows and columns: [B, H, W, F] -> [B, 2H, 2W, F]."""
    return x.repeat(2, 1).repeat(2, 2)
