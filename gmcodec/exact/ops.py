# SPDX-License-Identifier: MIT
"""The specification of integer layers, in plain numpy int64.

The native core (native/layer.hpp) computes exactly these integers.  A layer is::

    acc = W x + bias                                   W int8 (or int16), x within +-input_limit
    y   = (acc * multiplier + 2**(shift - 1)) >> shift   per output row; >> rounds down

followed by a leaky ReLU, an addition or a clamp, as the net has them.  Nothing here can overflow:
``Layer.check`` proves it from the weights when a net is made and again when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import Int, Int64, Integer
from gmcodec.errors import WeightsError

LEAK_SHIFT = 3  # leaky ReLU: max(v, v >> 3), a slope of 1/8
INT32_BOUND = 2**31


@dataclass(frozen=True)
class Layer:
    """One frozen linear layer.

    weight int8 or int16 [M, K]; bias int32 [M]; multiplier int32 [M], in 1..2**15; shift int32 [M],
    in 1..46; ``input_limit``: the largest |x|.
    """

    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    input_limit: int

    @property
    def product_bound(self) -> int:
        """The largest |W x| over all allowed x; no partial sum is larger."""
        return int(np.abs(self.weight.astype(np.int64)).sum(1).max(initial=0)) * self.input_limit

    def check(self, name: str) -> None:
        """Prove that no integer of this layer overflows.  Raises WeightsError."""
        if self.weight.ndim != 2 or self.weight.dtype not in (np.int8, np.int16):
            raise WeightsError(f"{name}: weights must be a matrix of int8 or int16")
        m = len(self.weight)
        for field in (self.bias, self.multiplier, self.shift):
            if field.shape != (m,) or field.dtype != np.int32:
                raise WeightsError(f"{name}: bias, multiplier and shift must be int32 of length {m}")
        bound = self.product_bound + int(np.abs(self.bias.astype(np.int64)).max(initial=0))
        if bound >= INT32_BOUND:
            raise WeightsError(f"{name}: accumulator bound {bound} is not below 2**31")
        if not ((self.multiplier >= 1) & (self.multiplier <= 2**15)).all():
            raise WeightsError(f"{name}: a multiplier is outside 1..2**15")
        if not ((self.shift >= 1) & (self.shift <= 46)).all():
            raise WeightsError(f"{name}: a shift is outside 1..46")


def product(layer: Layer, x: Integer[np.ndarray, "N K"]) -> Int64[np.ndarray, "N M"]:
    """W x for rows x: int [N, K] -> int64 [N, M]."""
    return x.astype(np.int64) @ layer.weight.T.astype(np.int64)


def rescale(acc: Int64[np.ndarray, " ..."], layer: Layer) -> Int64[np.ndarray, " ..."]:
    """int64 [N, M] -> int64 [N, M]: add the bias and rescale, rounding half up."""
    shift = layer.shift.astype(np.int64)
    return ((acc + layer.bias) * layer.multiplier + (np.int64(1) << (shift - 1))) >> shift


def leaky(v: Int64[np.ndarray, " ..."]) -> Int64[np.ndarray, " ..."]:
    """Leaky ReLU with slope 1/8, rounding down."""
    return np.maximum(v, v >> LEAK_SHIFT)


def hidden(acc: Int64[np.ndarray, " ..."], layer: Layer, limit: int) -> Int64[np.ndarray, " ..."]:
    """Rescale, leaky ReLU, clamp to +-limit."""
    return np.clip(leaky(rescale(acc, layer)), -limit, limit)


def residual(
    acc: Int64[np.ndarray, " ..."], layer: Layer, limit: int, stream: Int[np.ndarray, " ..."]
) -> Int64[np.ndarray, " ..."]:
    """Rescale, add to the residual stream, clamp to +-limit."""
    return np.clip(stream.astype(np.int64) + rescale(acc, layer), -limit, limit)


def output(acc: Int64[np.ndarray, " ..."], layer: Layer, limit: int) -> Int64[np.ndarray, " ..."]:
    """Rescale and clamp to +-limit."""
    return np.clip(rescale(acc, layer), -limit, limit)
