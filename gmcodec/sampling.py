# SPDX-License-Identifier: MIT
"""Samples of a frozen model: images that its decoder makes of random bits.

Symbols popped from a stack of random words are distributed as the model predicts.  So a decoder is a sampler, and it
uses the same integers as when it decodes files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmcodec.arrays import UInt8
from gmcodec.coders import coder_of
from gmcodec.coding import bitsback, flow
from gmcodec.coding.autoregressive import pop
from gmcodec.coding.stack import Stack
from gmcodec.image import reading
from gmcodec.models import registry
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.registry import Loaded
from gmcodec.progress import ignore

GAP = 2  # pixels between images on a page
# bits of the random stack: for each sample or latent, of which none takes more on average, and in addition
SAMPLING_BITS, SAMPLING_MARGIN = 12, 2048


def sample(loaded: Loaded, count: int, height: int, width: int, seed: int = 0) -> UInt8[np.ndarray, "B C H W"]:
    """Images sampled from a model without latents, or from a flow: uint8 [count, C, height, width].

    Raises ValueError for a size that the model does not support, and for models of graphics.
    """
    shape = count, loaded.entry.channels, height, width
    if loaded.entry.net:
        raise ValueError(f"{loaded.entry.name} draws no pictures, its net does: {loaded.entry.net}")
    if isinstance(loaded.model, AdeModel):
        stack = Stack.random(np.random.default_rng(seed), flow.TRIAL_BITS * int(np.prod(shape)))
        return flow.sample(stack, shape, loaded.model)
    stack = Stack.random(np.random.default_rng(seed), SAMPLING_BITS * int(np.prod(shape)) + SAMPLING_MARGIN)
    return pop(stack, shape, coder_of(loaded).model, ignore)


def sample_latents(
    model: AgaveModel,
    rows: int,
    columns: int,
    height: int,
    width: int,
    seed: int = 0,
    images: UInt8[np.ndarray, "B C H W"] | None = None,
) -> tuple[UInt8[np.ndarray, "B C H W"], UInt8[np.ndarray, "R S C H W"]]:
    """Sample latents for each row, then several images given these (thesis, Figures 3.3 and 3.5).

    Latents come from the posterior of ``images`` uint8 [rows, C, height, width], else from the prior.  Returns f(z),
    uint8 [rows, C, height, width], and the images, uint8 [rows, columns, C, height, width].  Raises ValueError for a
    size that cannot have latents.
    """
    random, shape = np.random.default_rng(seed), (rows, model.channels, height, width)
    state = model.latent_state(shape, images)
    sizes = state.sizes()
    stack = Stack.random(random, SAMPLING_BITS * sum(sizes) + SAMPLING_MARGIN)
    parts = []
    for size in sizes:
        if images is None:
            bins = stack.pop_uniform(size, 1 << model.latent_bits)
        else:
            bins, _ = bitsback.pop_posterior(stack, state.posterior(), model.latent_bits)
        state.observe(bins)
        parts.append(bins)
    means = np.clip(np.rint(state.means() / 64 + 128), 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
    side = model.config.auxiliary
    means = means.repeat(side, 2).repeat(side, 3)[:, :, :height, :width]
    many = rows * columns, *shape[1:]
    again = model.latent_state(many, None)  # type: ignore[arg-type]
    for bins in parts:
        again.observe(bins.reshape(rows, -1).repeat(columns, 0).ravel())
    stack = Stack.random(random, SAMPLING_BITS * int(np.prod(many)) + SAMPLING_MARGIN)
    pictures = pop(stack, many, again.decoder(), ignore)  # type: ignore[arg-type]
    return np.broadcast_to(means, shape), pictures.reshape(rows, columns, *shape[1:])


def sample_page(
    model: str, rows: int, columns: int, size: int, seed: int = 0, source: Path | None = None
) -> np.ndarray:
    """A page of samples of an installed model, uint8 [height, width, C].

    With ``source``, a mosaic, each row shows one of its first squares, f(z) of it, and samples given its latents.
    Raises ValueError for an unknown model or sizes that do not fit, WeightsError, ImageReadError.
    """
    loaded = registry.named(model)
    if not isinstance(loaded.model, AgaveModel):
        if source is not None:
            raise ValueError(f"{model} has no f(z) to reconstruct")
        pictures = sample(loaded, rows * columns, size, size, seed)
        return grid(pictures.reshape(rows, columns, *pictures.shape[1:]))
    images = None if source is None else _squares(source, rows, size, loaded.entry.channels)
    means, pictures = sample_latents(loaded.model, rows, columns, size, size, seed, images)
    before = [means[:, None]] if images is None else [images[:, None], means[:, None]]
    return grid(np.concatenate([*before, pictures], 1))


def _squares(source: Path, count: int, size: int, channels: int) -> np.ndarray:
    """The first squares of a mosaic, uint8 [count, C, size, size].  Raises ValueError."""
    mosaic = reading.to_array(reading.read(source))
    columns = mosaic.shape[1] // size
    if mosaic.dtype != np.uint8 or mosaic.ndim != 3 or mosaic.shape[2] != channels:
        raise ValueError(f"{source} is not an image of {channels} channels of 8 bits")
    if mosaic.shape[0] // size * columns < count:
        raise ValueError(f"{source} does not hold {count} squares of {size}x{size}")
    places = [divmod(number, columns) for number in range(count)]
    squares = [mosaic[size * y : size * (y + 1), size * x : size * (x + 1)] for y, x in places]
    return np.stack(squares).transpose(0, 3, 1, 2)


def grid(pictures: UInt8[np.ndarray, "R S C H W"]) -> UInt8[np.ndarray, "C2 H2 W2"]:
    """Images uint8 [rows, columns, C, H, W] -> one on white, uint8 [height, width, C]."""
    rows, columns, channels, height, width = pictures.shape
    page = np.full((rows, height + GAP, columns, width + GAP, channels), 255, np.uint8)
    page[:, :height, :, :width] = pictures.transpose(0, 3, 1, 4, 2)
    return page.reshape(rows * (height + GAP), columns * (width + GAP), channels)[:-GAP, :-GAP]
