# SPDX-License-Identifier: MIT
"""What every pixel of a decoded payload cost, in bits: the encoder's probabilities again, without a stack.

Costs come from the same integer frequencies that the coder used, so a map adds up to the model's own estimate.  Bytes
that belong to no pixel (changes fitted to the image, weights and lists of values) are spread evenly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmcodec.coding import autoregressive, high_depth
from gmcodec.coding.autoregressive import PixelModel, Weights, tiles, wavefront
from gmcodec.coding.stack import PRECISION
from gmcodec.progress import Callback, ignore

CHUNK = 8192  # pixels evaluated at once
NIBBLES = 2  # of a sample of 8 bits


def pixel_costs(
    payload: bytes, planes: np.ndarray, model: PixelModel, threads: int = 1, progress: Callback = ignore
) -> np.ndarray:
    """Bits of the pixels of uint8 [C, H, W], which ``payload`` decodes to: float64 [H, W]."""
    fitted, weights, tile, words = autoregressive.open_payload(payload, _shape(planes), model)
    costs = np.empty(planes.shape[1:])
    for y, x in tiles(*planes.shape[1:], tile):
        part = np.ascontiguousarray(planes[:, y, x])
        if hasattr(fitted.tile_coder, "intervals"):
            costs[y, x] = _learning(part, fitted.tile_coder, NIBBLES, fitted.slope, progress, weights, threads)
        else:
            costs[y, x] = _fixed(part, fitted, weights, progress)
    return costs + _side_bits(payload, words) / costs.size


def high_depth_costs(
    payload: bytes, planes: np.ndarray, model: Any, threads: int = 1, progress: Callback = ignore
) -> np.ndarray:
    """Bits of the pixels of uint16 [C, H, W], which ``payload`` decodes to: float64 [H, W]."""
    coder, lists, tile, words, bits = high_depth.open_payload(payload, _shape(planes), model)
    ranks, costs = high_depth.to_ranks(planes, lists), np.empty(planes.shape[1:])
    for y, x in tiles(*planes.shape[1:], tile):
        part = np.ascontiguousarray(ranks[:, y, x])
        costs[y, x] = _learning(part, coder, -(-bits // 4), model.slope, progress, None, threads)
    return costs + _side_bits(payload, words) / costs.size


def even_costs(payload: bytes, planes: np.ndarray) -> np.ndarray:
    """The payload's bits, shared evenly by the pixels: float64 [H, W].

    For methods that do not tell what a pixel cost: conventional ones, and models with latents, where bits go back and
    forth between pixels and latents.
    """
    return np.full(planes.shape[1:], 8 * len(payload) / planes[0].size)


def _learning(
    tile: np.ndarray, coder: Any, nibbles: int, slope: int | None, progress: Callback, weights: Weights, threads: int
) -> np.ndarray:
    """Of a tile [C, h, w] that teaches the net: from the intervals of its nibbles in coding order."""
    channels, height, width = tile.shape
    intervals, _ = coder.intervals(tile, progress, weights, threads)
    bits = [PRECISION - np.log2(part[:, 1].astype(np.float64)) for part in intervals]
    order, starts = wavefront(height, width, slope)
    costs, at = np.zeros(height * width), [0, 0]
    for step in np.split(order, starts[1:-1]):
        half = -(-len(step) // 8) * 4
        for stack, pixels in enumerate((step[:half], step[half:])):
            end = at[stack] + channels * nibbles * len(pixels)
            if len(pixels):
                costs[pixels] += bits[stack][at[stack] : end].reshape(-1, len(pixels)).sum(0)
            at[stack] = end
    return coder.unmirrored(costs.reshape(height, width))


def _fixed(tile: np.ndarray, model: PixelModel, weights: Weights, progress: Callback) -> np.ndarray:
    """Of a tile uint8 [C, h, w] with a model that stays as it is."""
    channels, height, width = tile.shape
    canvas = model.canvas(height, width)
    canvas.fill(tile[None])
    samples, costs = tile.reshape(channels, -1).astype(np.int32), np.zeros(height * width)
    for first in range(0, height * width, CHUNK):
        pixels = np.arange(first, min(first + CHUNK, height * width))
        prediction, row = model.predict(canvas, pixels), np.arange(len(pixels))
        for channel, sample in enumerate(samples[:, pixels]):
            high, low = sample >> 4, sample & 15
            rows = prediction.high()
            costs[pixels] -= np.log2(rows[row, high]) - PRECISION
            rows = autoregressive.low_rows(prediction, high, weights, channel)
            costs[pixels] -= np.log2(rows[row, low]) - PRECISION
            prediction.observe(sample)
        progress(len(pixels))
    return costs.reshape(height, width)


def _side_bits(payload: bytes, words: list[np.ndarray]) -> float:
    """Bits of a payload that are not words of its tiles."""
    return 8.0 * len(payload) - 32.0 * sum(map(len, words))


def _shape(planes: np.ndarray) -> tuple[int, int, int]:
    channels, height, width = planes.shape
    return channels, height, width
