# SPDX-License-Identifier: MIT
"""Bits-back coding: images with latent variables on one stack, so that latents cost their KL divergence only.

::

    push an image x     pop z from q(z | x)          bits come off the stack: they choose z
                        push x with p(x | z)
                        push z with p(z)             uniform, see exact/gaussians.py
    pop it              pop z with p(z), pop x with p(x | z), push z with q(z | x): the bits are back

A batch of images is coded in step, each group of latents and each part of a group at once.  The posterior of a group
depends on the image and on the groups above it (thesis, section 2.10.2), so all latents of a batch are popped before
the image is pushed: what is on the stack must be worth that many bits.

A *chain* is a list of images on one stack.  Its first images, the *seeds*, are coded without latents by the same
model's plain form, until they are worth the latents of a batch.  No bits are wasted: a chain starts from data.

Payload of a chain (numbers are unsigned LEB128): the number of seeds; the number of images of a batch, 0 if all are
seeds; then the 32-bit words, little-endian.  Seeds, in batches of 2**18 pixels, are at the bottom; above them the
other images in their order, batch by batch, the last one maybe smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import GmcFormatError
from .autoregressive import (
    PixelModel,
    Progress,
    Weights,
    open_stack,
    pop,
    push,
    read_varint,
    write_varint,
)
from .stack import Stack

NIBBLE = 4
BATCH_PIXELS = 1 << 18  # of the images coded in step
TRIAL, SEED_EXCESS = 16, 1.05  # images that say what one costs, and how many more seeds than that makes there are
SEED_MARGIN = 1.02, 256  # over the nominal cost of latents: a factor, and bits


class Posterior(Protocol):
    """Of some latents of a batch, of one part of a group."""

    def rows(self, first: np.ndarray, step: int) -> np.ndarray:
        """Frequencies of a nibble, int32 [N, 16]: as ``rows`` in exact/gaussians.py."""


class Walk(Protocol):
    """The way from the first group of latents to the last, for a batch of images."""

    def sizes(self) -> list[int]:
        """How many latents there are in each part, in order."""

    def posterior(self) -> Posterior:
        """Of the next part; only where the images are known."""

    def observe(self, bins: np.ndarray) -> None:
        """Tell the next part, int32 [N]."""

    def given(self) -> PixelModel:
        """The decoder, once all parts are told."""


class LatentModel(Protocol):
    """What bits-back coding needs of a model.  Images of a batch MUST NOT influence one another."""

    @property
    def latent_bits(self) -> int:
        """Of each latent under the prior: a multiple of 4."""

    @property
    def plain(self) -> PixelModel:
        """The model without latents."""

    def takes(self, height: int, width: int) -> bool:
        """Whether an image of this size can have latents; one that cannot is a seed."""

    def walk(self, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> Walk: ...


@dataclass(frozen=True)
class Chain:
    """Payload, and bits of each image, float64 [N]: of what was pushed minus what was popped.

    ``initial_bits``: of the latents of the first batch, which the seeds paid.
    """

    payload: bytes
    bits: np.ndarray
    divergence: np.ndarray  # of which log q - log p of the latents that were drawn
    seeds: int
    initial_bits: float


# -- a batch: push and pop -------------------------------------------------------------------------------


def push_batch(
    stack: Stack,
    planes: np.ndarray,
    model: LatentModel,
    progress: Progress = lambda n: None,
    weights: Weights = None,
    above: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Push uint8 [B, C, H, W]; the bits of each image, float64 [B], and of its latents log q - log p.

    The stack must hold ``latent_cost`` bits at least.  ``weights`` of values as in ``push``; ``above``: finished rows
    that the images lie below.  Mirrors ``pop_batch``, backwards.
    """
    walk, count, bits = model.walk(shape_of(planes), planes), len(planes), model.latent_bits
    drawn, divergence = [], np.zeros(count)
    for _ in walk.sizes():
        bins, cost = pop_posterior(stack, walk.posterior(), bits)
        walk.observe(bins)
        drawn.append(bins)
        divergence += (bits - cost).reshape(count, -1).sum(1)
    primary = push(stack, planes, below(walk.given(), above), progress, weights)
    for bins in reversed(drawn):
        stack.push_uniform(bins, 1 << bits)
    return primary + divergence, divergence


def pop_batch(
    stack: Stack,
    shape: tuple[int, int, int, int],
    model: LatentModel,
    progress: Progress = lambda n: None,
    weights: Weights = None,
    above: np.ndarray | None = None,
) -> np.ndarray:
    """Pop uint8 ``shape`` [B, C, H, W] and give the bits back."""
    walk, drawn = model.walk(shape, None), []
    for size in walk.sizes():
        drawn.append(stack.pop_uniform(size, 1 << model.latent_bits))
        walk.observe(drawn[-1])
    planes = pop(stack, shape, below(walk.given(), above), progress, weights)
    walk, posteriors = model.walk(shape, planes), []
    for bins in drawn:
        posteriors.append(walk.posterior())
        walk.observe(bins)
    for bins, posterior in zip(reversed(drawn), reversed(posteriors), strict=True):
        push_posterior(stack, bins, posterior, model.latent_bits)
    return planes


def below(decoder: Any, above: np.ndarray | None) -> PixelModel:
    """A decoder of strips (strips.py) told of the rows above; any other as it is."""
    return decoder if above is None else decoder.below(above)


def _nibbles(bits: int) -> Iterator[int]:
    """How far each nibble of a bin is shifted, from the highest."""
    return iter(range(bits - NIBBLE, -1, -NIBBLE))


def pop_posterior(stack: Stack, posterior: Posterior, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins int32 [N] that the stack chooses, and what they cost, float64 [N]."""
    bins: np.ndarray | int = 0
    cost: np.ndarray | float = 0.0
    for shift in _nibbles(bits):
        rows = posterior.rows(np.asarray(bins, np.int64), 1 << shift)
        nibble = stack.pop(rows)
        cost = cost + 24 - np.log2(rows[np.arange(len(rows)), nibble])
        bins = bins + (nibble << shift)
    return np.asarray(bins, np.int32), np.asarray(cost)


def push_posterior(stack: Stack, bins: np.ndarray, posterior: Posterior, bits: int) -> None:
    """Inverse of ``pop_posterior``."""
    for shift in reversed(list(_nibbles(bits))):
        above = (bins >> (shift + NIBBLE)) << (shift + NIBBLE)
        stack.push((bins >> shift) & 15, posterior.rows(above.astype(np.int64), 1 << shift))


# -- a chain: encode and decode --------------------------------------------------------------------------


def latent_cost(model: LatentModel, shape: tuple[int, int, int, int]) -> int:
    """Bits that a stack should hold before a batch is pushed."""
    factor, more = SEED_MARGIN
    return int(factor * model.latent_bits * sum(model.walk(shape, None).sizes())) + more


def encode_chain(images: np.ndarray, model: LatentModel, progress: Progress = lambda n: None) -> Chain:
    """uint8 [N, C, H, W] -> payload."""
    count, _, height, width = images.shape
    batch = max(1, min(count, BATCH_PIXELS // (height * width)))
    cost = latent_cost(model, shape_of(images[:batch])) if model.takes(height, width) else np.inf
    stack, seed_bits = _push_seeds(images, model, cost, progress)
    seeds, bits = len(seed_bits), np.zeros(count)
    bits[:seeds] = seed_bits
    divergence, initial = np.zeros(count), 0.0
    for part in _parts(seeds, count, batch):
        bits[part], divergence[part] = push_batch(stack, images[part], model, progress)
    if seeds < count:
        first = slice(seeds, min(seeds + batch, count))
        sizes = model.walk(shape_of(images[first]), None).sizes()
        initial = float(model.latent_bits * sum(sizes) - divergence[first].sum())
    head = write_varint(seeds) + write_varint(batch if seeds < count else 0)
    return Chain(head + stack.words().astype("<u4").tobytes(), bits, divergence, seeds, initial)


def decode_chain(
    payload: bytes, shape: tuple[int, int, int, int], model: LatentModel, progress: Progress = lambda n: None
) -> np.ndarray:
    """Inverse of ``encode_chain``: uint8 ``shape`` [N, C, H, W].  Raises GmcFormatError.

    Memory and time grow with ``shape``, whatever the payload: its limits are the caller's business.
    """
    count, _, height, width = shape
    seeds, position = read_varint(payload, 0)
    batch, position = read_varint(payload, position)
    if seeds > count or (batch == 0) != (seeds == count) or batch > count:
        raise GmcFormatError(f"{seeds} seeds and batches of {batch} do not make a chain of {count} images")
    if batch and not model.takes(height, width):
        raise GmcFormatError(f"an image of {width}x{height} pixels cannot have latents of this model")
    if batch * height * width > max(BATCH_PIXELS, height * width):
        raise GmcFormatError(f"batches of {batch} images of {width}x{height} are larger than the format allows")
    if (len(payload) - position) % 4:
        raise GmcFormatError(f"{len(payload) - position} bytes are no whole number of 32-bit words")
    stack = open_stack(np.frombuffer(payload, "<u4", offset=position))
    out = np.empty(shape, np.uint8)
    for part in reversed(list(_parts(seeds, count, batch))):
        out[part] = pop_batch(stack, shape_of(out[part]), model, progress)
    for part in reversed(list(_parts(0, seeds, BATCH_PIXELS // (height * width)))):
        out[part] = pop(stack, shape_of(out[part]), model.plain, progress)
    if not stack.is_empty():
        raise GmcFormatError("coded data is left over after the last image")
    return out


def _push_seeds(images: np.ndarray, model: LatentModel, cost: float, progress: Progress) -> tuple[Stack, np.ndarray]:
    """A stack of the first images, in their order, worth ``cost`` bits or all there are, and the bits of each."""
    count, _, height, width = images.shape
    trial = images[:: -(-count // TRIAL)]
    each = push(Stack(), trial, model.plain, lambda n: None).mean()
    seeds = count if SEED_EXCESS * cost >= count * each else int(SEED_EXCESS * cost / each) + 1
    while True:
        stack, bits = Stack(), np.zeros(seeds)
        for part in _parts(0, seeds, BATCH_PIXELS // (height * width)):
            bits[part] = push(stack, images[part], model.plain, progress)
        if seeds == count or bits.sum() >= cost:
            return stack, bits
        seeds = min(count, seeds + seeds // 4 + 1)  # the first images need fewer bits than others


def _parts(first: int, last: int, size: int) -> Iterator[slice]:
    starts = range(first, last, max(1, size))
    return (slice(a, b) for a, b in itertools.pairwise((*starts, last)))


def shape_of(planes: np.ndarray) -> tuple[int, int, int, int]:
    count, channels, height, width = planes.shape
    return count, channels, height, width
