# SPDX-License-Identifier: MIT
"""The specification of the local model in plain numpy int64: what local/model.py and the native core compute.

Slow and simple.  Every function works on all pixels [N] of an image at once, in raster order.
tests/models/test_local.py compares ``rows`` with the fast model, number by number.
"""

from __future__ import annotations

import numpy as np

from gmcodec.arrays import Int32, Int64, UInt, UInt8
from gmcodec.exact import logistic, ops
from gmcodec.exact.logistic import BYTES, COUPLING_BITS, LOG_SCALE_MIN, LOG_SCALE_UNIT, POSITION, Scale, Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.tensors import CONDITION_PREFIX
from gmcodec.models.shared.window import CLAMP, OUTSIDE, Window


def shifted(planes: UInt[np.ndarray, "C H W"], dy: int, dx: int) -> Int64[np.ndarray, "N K"]:
    """int64 [C, N]: the sample at (row + dy, column + dx) of every pixel, or OUTSIDE."""
    c, height, width = planes.shape
    out = np.full((c, height, width), OUTSIDE, np.int64)
    for i in range(height):
        for j in range(width):
            y, x = i + dy, j + dx
            if 0 <= y < height and 0 <= x < width:
                out[:, i, j] = planes[:, y, x]
    return out.reshape(c, -1)


def local_mean(planes: UInt[np.ndarray, "C H W"], scale: Scale = BYTES) -> Int64[np.ndarray, "N K"]:
    """int64 [C, N]: mean of left and above, rounded down; if one is outside, the other; if both are, mid-grey."""
    left, above = shifted(planes, 0, -1), shifted(planes, -1, 0)
    left, above = np.where(left == OUTSIDE, above, left), np.where(above == OUTSIDE, left, above)
    return np.where(left == OUTSIDE, 128 << scale.extra_bits, (left + above) >> 1)


def difference(
    planes: UInt[np.ndarray, "C H W"], mean: Int64[np.ndarray, "N K"], offset: tuple[int, int], scale: Scale = BYTES
) -> Int64[np.ndarray, "N K"]:
    """int64 [C, N]: a window pixel minus the local mean, in grey levels, clamped; 0 outside the image."""
    value = shifted(planes, *offset)
    levels = (value - mean + ((1 << scale.shift) >> 1)) >> scale.shift
    return np.where(value == OUTSIDE, 0, np.clip(levels, -CLAMP, CLAMP))


def window_features(
    window: Window, planes: UInt[np.ndarray, "C H W"], scale: Scale = BYTES
) -> Int64[np.ndarray, "N K"]:
    """int64 [N, inputs]: differences of the window in raster order, channels inside, then the means - 128."""
    mean = local_mean(planes, scale)
    differences = [difference(planes, mean, offset, scale) for offset in sorted(window.offsets)]
    return np.concatenate([*differences, (mean >> scale.extra_bits) - 128]).T


def centre(window: Window, linear: Layer, planes: UInt8[np.ndarray, "C H W"]) -> Int64[np.ndarray, "N K"]:
    """int64 [C, N], in 1/64 grey level: local mean plus linear prediction from the nearest pixels."""
    mean = local_mean(planes)
    nearest = window.offsets[: linear.weight.shape[1] // window.channels]
    near = np.concatenate([difference(planes, mean, offset) for offset in nearest])
    return mean * POSITION + ops.rescale(ops.product(linear, near.T), linear).T


def activations(
    config: LocalConfig, layers: dict[str, Layer], x: Int64[np.ndarray, "N F"], condition: np.ndarray | None = None
) -> tuple[list[np.ndarray], list[np.ndarray], Int64[np.ndarray, "N O"]]:
    """Features int64 [N, inputs], condition [N, D] or None -> activations, int64 each.

    Returns the stream before every block and after the last one, [N, width] each; the insides of the blocks, [N, width]
    each; and the outputs [N, outputs].
    """
    streams, inner, layer = [], [], layers["first"]
    stream = ops.hidden(ops.product(layer, x), layer, ACTIVATION_LIMIT)
    for b in range(config.blocks + 1):
        if b:
            up, down = layers[f"up.{b - 1}"], layers[f"down.{b - 1}"]
            inner.append(ops.hidden(ops.product(up, stream), up, ACTIVATION_LIMIT))
            stream = ops.residual(ops.product(down, inner[-1]), down, ACTIVATION_LIMIT, stream)
        if condition is not None:
            layer = layers[f"{CONDITION_PREFIX}{b}"]
            stream = ops.residual(ops.product(layer, condition), layer, ACTIVATION_LIMIT, stream)
        streams.append(stream)
    layer = layers["last"]
    return streams, inner, ops.output(ops.product(layer, stream), layer, OUTPUT_LIMIT)


def net(
    config: LocalConfig, layers: dict[str, Layer], x: Int64[np.ndarray, "N F"], condition: np.ndarray | None = None
) -> Int64[np.ndarray, "N O"]:
    """Outputs of ``activations``."""
    return activations(config, layers, x, condition)[2]


def logistics(
    t: Tables,
    outputs: Int64[np.ndarray, "N O"],
    base: Int64[np.ndarray, "C N"],
    samples: Int64[np.ndarray, "C N"],
    channel: int,
    scale: Scale = BYTES,
) -> tuple[Int64[np.ndarray, "N K"], Int64[np.ndarray, "N K"]]:
    """Means and inverse scales of a channel, int64 [N, K] each, given the samples [C, N] of those before it.

    Net outputs of a pixel, K numbers each: logits; means of every channel; log-scales of every channel;
    couplings of the pairs (1, 0), (2, 0), (2, 1).
    """
    channels = len(samples)
    groups = outputs.reshape(len(outputs), logistic.output_groups(channels), -1)
    mean = base[channel][:, None] + groups[:, 1 + channel]
    pair = 1 + 2 * channels + channel * (channel - 1) // 2
    for previous in range(channel):
        residual = (samples[previous] * POSITION >> scale.shift) - base[previous]
        mean = mean + ((groups[:, pair + previous] * residual[:, None]) >> COUPLING_BITS)
    log_scale = groups[:, 1 + channels + channel]
    index = np.clip(log_scale - LOG_SCALE_MIN * LOG_SCALE_UNIT, 0, len(t.inverse) - 1)
    return mean, t.inverse[index].astype(np.int64)


def mixture_rows(
    t: Tables, outputs: Int64[np.ndarray, "N O"], base: Int64[np.ndarray, "C N"], planes: UInt8[np.ndarray, "C H W"]
) -> Int32[np.ndarray, "C2 N 16"]:
    """Net outputs int64 [H * W, outputs] -> int32 [2 * C, H * W, 16]: frequencies of each channel's two nibbles."""
    samples = planes.reshape(len(planes), -1).astype(np.int64)
    mixtures = outputs.shape[1] // logistic.output_groups(len(planes))
    weights = logistic.softmax(outputs[:, :mixtures], t)
    out = []
    for channel, sample in enumerate(samples):
        mean, inverse = logistics(t, outputs, base, samples, channel)
        out.append(logistic.high_rows(weights, mean, inverse, t))
        out.append(logistic.low_rows(sample >> 4, weights, mean, inverse, t))
        weights = logistic.observe(sample, weights, mean, inverse, t)
    return np.stack(out)


def rows(
    config: LocalConfig,
    layers: dict[str, Layer],
    t: Tables,
    planes: UInt8[np.ndarray, "C H W"],
    condition: np.ndarray | None = None,
) -> Int32[np.ndarray, "C2 N 16"]:
    """uint8 [C, H, W] -> int32 [2 * C, H * W, 16]: frequencies of the high and the low nibble of each channel."""
    outputs = net(config, layers, window_features(config.window, planes), condition)
    return mixture_rows(t, outputs, centre(config.window, layers["linear"], planes), planes)
