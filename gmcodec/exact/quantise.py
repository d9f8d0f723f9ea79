# SPDX-License-Identifier: MIT
"""From a trained float layer to a frozen integer layer, with the accumulator bound proved.

Weights become integers of ``bits`` bits with a scale per output row: 13 bits in local nets, 8 in others, more in first
layers and linear predictors.  Activations are integers of 12 bits; in VAEs and flows, of 15.  The row scale is
max|w| / (2**(bits - 1) - 1), as in fake quantisation during training.  Where the sum of |w| would then break a bound,
the row gets a coarser scale.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Float64, Int32
from gmcodec.errors import FreezeError, WeightsError
from gmcodec.exact.ops import Layer

LAYER_MULTIPLIER_BITS = 15
SUM_BOUND = 2**24  # default bound of a layer's sums; stored weights were frozen with it


def dyadic(ratio: Float64[np.ndarray, " N"]) -> tuple[Int32[np.ndarray, " N"], Int32[np.ndarray, " N"]]:
    """multiplier int32 in 2**14..2**15, shift int32 in 1..46 with multiplier / 2**shift nearest to ratio."""
    exponent = np.floor(np.log2(np.maximum(ratio, 2.0**-31)))
    shift = np.clip(LAYER_MULTIPLIER_BITS - 1 - exponent, 1, 46).astype(np.int64)
    multiplier = np.clip(np.rint(ratio * 2.0**shift), 1, 2**LAYER_MULTIPLIER_BITS).astype(np.int64)
    return multiplier.astype(np.int32), shift.astype(np.int32)


def freeze_layer(
    name: str,
    weight: Float64[np.ndarray, "M K"],
    bias: Float64[np.ndarray, " M"],
    input_unit: float,
    output_unit: float | np.ndarray,
    input_limit: int,
    bits: int = 8,
    bound: int = SUM_BOUND,
) -> Layer:
    """Integer layer for ``y = weight x + bias``.

    weight float [M, K], bias float [M]; x is given in integers worth ``input_unit``, y comes out in
    integers worth ``output_unit`` (a number, or one for each row).  |weight x| stays below ``bound``.  Raises
    FreezeError when weights are not finite, a scale cannot be represented, or a bound does not hold.
    """
    weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise FreezeError(f"{name}: the weights are not finite")
    largest = 2 ** (bits - 1) - 1
    scale = np.abs(weight).max(1) / largest
    # a row of almost zeros must still be able to represent its bias, and its scale must not vanish
    scale = np.maximum(scale, np.maximum(np.abs(bias) * 2.0**-22 / input_unit, 2.0**-30 * output_unit / input_unit))
    integers = np.rint(weight / scale[:, None])
    # rows whose sum would leave the range of exact products
    over = np.abs(integers).sum(1) * input_limit / (bound - 1)
    coarse = over > 1
    scale[coarse] *= over[coarse] * 1.02
    integers = np.rint(weight / scale[:, None])
    if (coarse & ~integers.any(1)).any():
        raise FreezeError(f"{name}: a row has too many weights to stay within the bound")

    ratio = scale * input_unit / output_unit
    if (ratio >= 2.0**14).any():
        raise FreezeError(f"{name}: a row scale is too large ({ratio.max():.3g} output units per product)")
    multiplier, shift = dyadic(ratio)
    dtype = np.int8 if bits == 8 else np.int16
    in_acc = np.rint(bias / (scale * input_unit))
    layer = Layer(integers.astype(dtype), in_acc.astype(np.int32), multiplier, shift, input_limit)
    try:
        layer.check(name)
    except WeightsError as error:
        raise FreezeError(str(error)) from error
    if layer.product_bound >= bound:
        raise FreezeError(f"{name}: product bound {layer.product_bound} is not below {bound}")
    return layer
