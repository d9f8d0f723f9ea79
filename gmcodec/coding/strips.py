# SPDX-License-Identifier: MIT
"""Images of any size with latent variables: a tile is cut into strips on one stack, each paying for the one above it.

An image is cut into tiles, as in autoregressive.py, and a tile into *strips* of whole rows.  The strips are coded from
the lowest to the uppermost on one stack, so a decoder goes down and has seen the rows above a strip.  The lowest strip
has no latents: its bits pay for the latents of the strip above it, both together pay for the next one, and so on.
Where latents do not make a tile smaller, the lowest strip is the whole tile.

::

    tile    | strip 1 |  latents        pushed last, popped first; sees nothing above it
            | strip 2 |  latents
            | strip 3 |  none: it pays  pushed first

Payload of an image: as in autoregressive.py.  On the stack of a tile the height of each strip, in rows of cells, 12
bits, lies above the strip itself; 0 stands for the lowest strip, which is the rest of the tile.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from gmcodec.arrays import Float64, UInt8, UInt32
from gmcodec.coding import autoregressive
from gmcodec.coding.autoregressive import Costs, Payload, PixelModel, Weights, open_stack, pixel_bits, pop, push, spread
from gmcodec.coding.bitsback import LatentModel, below, shape_of
from gmcodec.coding.chain import scheme
from gmcodec.coding.flow import FlowModel, Underflow
from gmcodec.coding.stack import Stack
from gmcodec.coding.tiles import squares
from gmcodec.errors import GmcFormatError
from gmcodec.progress import Callback, ignore, without_pixels

ROWS_BITS = 12  # of the height of a strip, in cells
LOWEST_SHARES = 16, 4  # the lowest strip is a 16th of a tile, or if that cannot pay, a quarter
# the sample of a tile on which latents must save bits before they are tried on the whole tile
LATENT_TRIAL_SQUARES, LATENT_TRIAL_SIDE = 4, 64


class Strips(Protocol):
    """What a model needs for images of any size, besides what bits-back or flow coding need.

    Its plain form and its decoders have a method ``below``, which shows them the finished rows above a strip.
    """

    @property
    def cell(self) -> int:
        """Side of the largest cell of latents, in pixels."""

    def with_plain(self, decoder: PixelModel) -> Any:
        """The model with a plain form that was fitted to an image."""


class LatentStrips(LatentModel, Strips, Protocol): ...


class FlowStrips(FlowModel, Strips, Protocol): ...


StripModel = LatentStrips | FlowStrips


def encode_image(
    planes: UInt8[np.ndarray, "C H W"], model: StripModel, threads: int = 1, progress: Callback = ignore
) -> Payload:
    """uint8 [C, H, W] -> payload.  The bytes do not depend on ``threads``."""

    def push_tile(
        tile: np.ndarray, fitted: PixelModel, progress: Callback, weights: Weights, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return push_strips(tile, model.with_plain(fitted), progress, weights)

    return autoregressive.encode(planes, model.plain, threads, progress, push_tile=push_tile)


def decode_image(
    payload: bytes,
    shape: tuple[int, int, int],
    model: StripModel,
    threads: int = 1,
    progress: Callback = ignore,
    costs: Costs = None,
) -> UInt8[np.ndarray, "C H W"]:
    """Inverse of ``encode_image``: uint8 [C, H, W].  Raises GmcFormatError before large allocations.

    ``costs``, float64 [H, W], gets the bits of each pixel; a strip's latents, or its flow, cost its pixels alike.
    """

    def pop_tile(
        words: np.ndarray,
        shape: tuple[int, int, int, int],
        fitted: PixelModel,
        progress: Callback,
        weights: Weights,
        threads: int,
        costs: Costs,
    ) -> np.ndarray:
        return pop_strips(words, shape, model.with_plain(fitted), progress, weights, costs)

    return autoregressive.decode(payload, shape, model.plain, threads, progress, pop_tile, costs)


def push_strips(
    tile: UInt8[np.ndarray, "B C H W"], model: StripModel, progress: Callback, weights: Weights
) -> tuple[UInt32[np.ndarray, " words"], Float64[np.ndarray, " 1"]]:
    """uint8 [1, C, H, W] -> words uint32 and their estimated bits, float64 [1]; latents are used if they save words."""
    stack = Stack()
    bits = push(stack, tile, model.plain, progress, weights)
    stack.push_uniform(np.zeros(1, np.int32), 1 << ROWS_BITS)
    best = stack.words(), bits + ROWS_BITS
    silent = without_pixels(progress)
    for share in LOWEST_SHARES if _may_pay(tile, model, silent, weights) else ():
        found = _push_latents(tile, model, tile.shape[2] // model.cell // share, weights, silent)
        if found is not None:
            return min(best, found, key=lambda coded: len(coded[0]))
    return best


def _may_pay(tile: np.ndarray, model: StripModel, progress: Callback, weights: Weights) -> bool:
    """Whether latents make a few squares of a tile, each coded on its own, smaller."""
    sample = squares(tile[0], LATENT_TRIAL_SQUARES, LATENT_TRIAL_SIDE)
    sample = sample[:, :, : sample.shape[2] // model.cell * model.cell]
    if not sample.size:
        return False
    latents = scheme(model).trial(model, sample, weights).bits.sum()
    return bool(latents < push(Stack(), sample, model.plain, progress, weights).sum())


def _push_latents(
    tile: np.ndarray, model: StripModel, seeds: int, weights: Weights, progress: Callback = ignore
) -> tuple[np.ndarray, np.ndarray] | None:
    """``push_strips`` with latents; None if the lowest strip, ``seeds`` rows of cells, cannot pay for them."""
    height, width = tile.shape[2:]
    cell, stack, bits = model.cell, Stack(), np.zeros(1)
    if height < 2 * cell:
        return None
    row_cost = scheme(model).required_bits(model, tile[:, :, :cell])
    top = (height // cell - max(1, seeds)) * cell
    bits += push(stack, tile[:, :, top:], below(model.plain, tile[:, :, :top]), progress, weights)
    stack.push_uniform(np.zeros(1, np.int32), 1 << ROWS_BITS)
    largest = max(1, scheme(model).batch_pixels // (cell * width))
    while top:
        rows = min(top // cell, stack.bits // row_cost, largest, (1 << ROWS_BITS) - 1)
        words, pushed = stack.words(), None
        while rows and pushed is None:
            strip, above = tile[:, :, top - rows * cell : top], tile[:, :, : top - rows * cell]
            try:
                pushed = scheme(model).push_batch(stack, strip, model, progress, weights, above)
            except Underflow:  # these rows borrow more than the trial row
                stack, rows = Stack(words), rows // 2
        if pushed is None:
            return None
        bits += pushed.bits + ROWS_BITS
        stack.push_uniform(np.array([rows], np.int32), 1 << ROWS_BITS)
        top -= rows * cell
    return stack.words(), bits + ROWS_BITS


def pop_strips(
    words: UInt32[np.ndarray, " words"],
    shape: tuple[int, int, int, int],
    model: StripModel,
    progress: Callback,
    weights: Weights,
    costs: Costs = None,
) -> UInt8[np.ndarray, "B C H W"]:
    """Inverse of ``push_strips``; ``costs`` [1, H, W].  Raises GmcFormatError."""
    stack, top, (_, _, height, width) = open_stack(words), 0, shape
    out = np.empty(shape, np.uint8)
    while top < height:
        before = stack.exact_bits
        rows = model.cell * int(stack.pop_uniform(1, 1 << ROWS_BITS)[0])
        bottom = top + rows if rows else height
        if bottom > height or (rows > model.cell and rows * width > scheme(model).batch_pixels):
            raise GmcFormatError(f"a strip of {rows} rows is larger than the format allows")
        part, above, spent = out[:, :, top:bottom], out[:, :, :top], None if costs is None else costs[:, top:bottom]
        if rows:
            part[:] = scheme(model).pop_batch(stack, shape_of(part), model, progress, weights, above, spent)
        else:
            decoder = below(model.plain, above)
            part[:] = pop(stack, shape_of(part), decoder, progress, weights)
            if spent is not None:
                spent[:] = pixel_bits(part, decoder, progress, weights)
        if spent is not None:
            spread(spent, before - stack.exact_bits - spent.sum())
        top = bottom
    if not stack.is_empty():
        raise GmcFormatError("coded data is left over after the last pixel")
    return out
