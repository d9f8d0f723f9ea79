# SPDX-License-Identifier: MIT
"""Integer layers over maps of features, for frozen nets that see all sides: VAEs and couplings.

Maps are [B, H, W, F], integers within +-16383 worth 1/512 each, or what freezing found inside the net of a coupling.
"""

from __future__ import annotations

import itertools

import numpy as np

from ..exact import kernels
from ..exact.evaluators import Evaluator
from ..exact.ops import Layer
from . import maps_kernels, pixelcnnpp_kernels

# every activation has the unit and the limit of what a PixelCNN++ is told
UNIT, ACTIVATION_LIMIT = pixelcnnpp_kernels.CONDITION_UNIT, pixelcnnpp_kernels.CONDITION_LIMIT
OUTPUT_LIMIT = 2**17  # of means and log-scales
ROWS = 4096  # cells that a layer is evaluated for at once


def to_activation(x: np.ndarray, shift: int) -> np.ndarray:
    """Round away ``shift`` bits and clamp."""
    return np.clip((x.astype(np.int64) + (1 << shift >> 1)) >> shift, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class Maps:
    """Layers over whole maps."""

    def __init__(self, layers: dict[str, Layer], elu: np.ndarray, nonlinearity: str, evaluator: Evaluator) -> None:
        self.dtype = evaluator.dtype
        self._elu = None if nonlinearity == "leaky" else elu
        self._prepared = {name: (evaluator.prepare(layer), *kernels.affine(layer)) for name, layer in layers.items()}

    def active(self, x: np.ndarray) -> np.ndarray:
        """The non-linearity of a map."""
        flat, out = x.reshape(-1, x.shape[-1]), np.empty_like(x)
        if self._elu is None:
            pixelcnnpp_kernels.leaky(flat, out.reshape(flat.shape))
        else:
            pixelcnnpp_kernels.elu(flat, self._elu, out.reshape(flat.shape))
        return out

    def convolve(
        self, name: str, x: np.ndarray, size: int = 3, stride: int = 1, limit: int = ACTIVATION_LIMIT
    ) -> np.ndarray:
        """A layer that sees ``size`` x ``size`` cells, clamped: [B, H, W, F] -> [B, H / stride, W / stride, M]."""
        product, scale, offset = self._prepared[name]
        x = np.ascontiguousarray(x)
        count, height, width, _ = x.shape
        rows, columns = -(-height // stride), -(-width // stride)
        out = np.empty((count, rows, columns, len(scale)), self.dtype if limit == ACTIVATION_LIMIT else np.int32)
        flat = out.reshape(-1, len(scale))
        images, band = max(1, ROWS // (rows * columns)), max(1, ROWS // columns)  # or rows of an image
        for first, top in itertools.product(range(0, count, images), range(0, rows, band)):
            many, high = min(images, count - first), min(band, rows - top)
            place = slice((first * rows + top) * columns, ((first + many - 1) * rows + top + high) * columns)
            if size == stride == 1:
                inputs = x.reshape(-1, x.shape[3])[place]
            else:
                inputs = np.empty((many * high * columns, size * size * x.shape[3]), x.dtype)
                maps_kernels.gather(x, size, stride, first, top, high, inputs)
            kernels.output(product(inputs), scale, offset, limit, flat[place])
        return out

    def residual(self, x: np.ndarray, name: str, inner: np.ndarray, size: int = 3) -> np.ndarray:
        """x plus a layer of ``inner``, clamped."""
        added = self.convolve(name, inner, size, limit=OUTPUT_LIMIT)
        return np.clip(added + x, -ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(self.dtype)


def twice(x: np.ndarray) -> np.ndarray:
    """Every cell becomes four."""
    return x.repeat(2, 1).repeat(2, 2)
