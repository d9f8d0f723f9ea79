# SPDX-License-Identifier: MIT
"""Bits-back coding: images with latent variables on one stack, so that latents cost their KL divergence only.

::

    push an image x     pop z from q(z | x)          bits come off the stack: they choose z
                        push x with p(x | z)
                        push z with p(z)             uniform, see exact/gaussian.py
    pop it              pop z with p(z), pop x with p(x | z), push z with q(z | x): the bits are back

A batch of images is coded in step, each group of latents and each part of a group at once.  The posterior of a group
depends on the image and on the groups above it (thesis, section 2.10.2), so all latents of a batch are popped before
the image is pushed: what is on the stack must be worth that many bits.

chain.py and strips.py make sure that it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from gmcodec.coding.autoregressive import Costs, PixelModel, Weights, pixel_bits, pop, push
from gmcodec.coding.stack import Stack
from gmcodec.progress import Callback, ignore

NIBBLE = 4
BATCH_PIXELS, LEAST_BATCHES = 1 << 18, 1  # of the images coded in step; of a chain
SEED_MARGIN = 1.02, 256  # over the nominal cost of latents: a factor, and bits


class Posterior(Protocol):
    """Of some latents of a batch, of one part of a group."""

    def rows(self, first: np.ndarray, step: int) -> np.ndarray:
        """Frequencies of a nibble, int32 [N, 16]: as ``rows`` in exact/gaussian.py."""


class LatentState(Protocol):
    """The latents of a batch of images, from the first group to the last: what is known of them so far."""

    def sizes(self) -> list[int]:
        """How many latents there are in each part, in order."""

    def posterior(self) -> Posterior:
        """Of the next part; only where the images are known."""

    def observe(self, bins: np.ndarray) -> None:
        """The next part is known: int32 [N]."""

    def decoder(self) -> PixelModel:
        """The decoder conditioned on the latents, once all parts are known."""


class LatentModel(Protocol):
    """What bits-back coding needs of a model.  Images of a batch MUST NOT influence one another."""

    @property
    def latent_bits(self) -> int:
        """Of each latent under the prior: a multiple of 4."""

    @property
    def plain(self) -> PixelModel:
        """The model without latents."""

    def supports(self, height: int, width: int) -> bool:
        """Whether an image of this size can have latents; one that cannot is a seed."""

    def latent_state(self, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> LatentState: ...


class Pushed(NamedTuple):
    """What a batch cost: bits of each image, float64 [B], of what was pushed minus what was popped."""

    parts: Mapping[str, np.ndarray]  # by what they are of; "latents": log q - log p of those that were drawn
    borrowed: float  # bits that came off the stack before anything was pushed onto it, all images together

    @property
    def bits(self) -> np.ndarray:
        return sum(self.parts.values(), np.zeros(1))


# -- a batch: push and pop -------------------------------------------------------------------------------


def push_batch(
    stack: Stack,
    planes: np.ndarray,
    model: LatentModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: np.ndarray | None = None,
) -> Pushed:
    """Push uint8 [B, C, H, W].

    The stack must hold ``latent_cost`` bits at least.  ``weights`` of values as in ``push``; ``above``: finished rows
    that the images lie below.  Mirrors ``pop_batch``, backwards.
    """
    state, bits = model.latent_state(shape_of(planes), planes), model.latent_bits
    drawn, divergence = pop_posteriors(stack, state, len(planes), bits)
    primary = push(stack, planes, below(state.decoder(), above), progress, weights)
    for bins in reversed(drawn):
        stack.push_uniform(bins, 1 << bits)
    borrowed = bits * sum(state.sizes()) - divergence.sum()
    return Pushed({"samples": primary, "latents": divergence}, float(borrowed))


def pop_batch(
    stack: Stack,
    shape: tuple[int, int, int, int],
    model: LatentModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: np.ndarray | None = None,
    costs: Costs = None,
) -> np.ndarray:
    """Pop uint8 ``shape`` [B, C, H, W] and give the bits back.

    ``costs``, float64 [B, H, W], gets what each pixel takes once the latents are known.
    """
    state = model.latent_state(shape, None)
    drawn = pop_priors(stack, state, model.latent_bits)
    decoder = below(state.decoder(), above)
    planes = pop(stack, shape, decoder, progress, weights)
    if costs is not None:
        costs[:] = pixel_bits(planes, decoder, progress, weights)
    push_posteriors(stack, model.latent_state(shape, planes), drawn, model.latent_bits)
    return planes


def pop_posteriors(stack: Stack, state: LatentState, count: int, bits: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Pop all parts from their posteriors; what was drawn, and log q - log p of each of ``count`` images, float64."""
    drawn, divergence = [], np.zeros(count)
    for _ in state.sizes():
        bins, cost = pop_posterior(stack, state.posterior(), bits)
        state.observe(bins)
        drawn.append(bins)
        divergence += (bits - cost).reshape(count, -1).sum(1)
    return drawn, divergence


def push_posteriors(stack: Stack, state: LatentState, drawn: list[np.ndarray], bits: int) -> None:
    """Inverse of ``pop_posteriors``."""
    posteriors = []
    for bins in drawn:
        posteriors.append(state.posterior())
        state.observe(bins)
    for bins, posterior in zip(reversed(drawn), reversed(posteriors), strict=True):
        push_posterior(stack, bins, posterior, bits)


def pop_priors(stack: Stack, state: LatentState, bits: int) -> list[np.ndarray]:
    """Pop all parts by their prior."""
    drawn = []
    for size in state.sizes():
        drawn.append(stack.pop_uniform(size, 1 << bits))
        state.observe(drawn[-1])
    return drawn


def below(decoder: Any, above: np.ndarray | None) -> PixelModel:
    """A decoder of strips (strips.py) that sees the rows above; any other as it is."""
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


def trial(model: LatentModel, images: np.ndarray, weights: Weights = None) -> Pushed:
    """What images uint8 [B, C, H, W] would cost on a stack of random words, which choose the latents."""
    stack = Stack.random(np.random.default_rng(0), needed(model, images))
    return push_batch(stack, images, model, weights=weights)


def needed(model: LatentModel, images: np.ndarray) -> int:
    """Bits that a stack should hold before images uint8 [B, C, H, W] are pushed."""
    return latent_cost(model, shape_of(images))


def latent_cost(model: LatentModel, shape: tuple[int, int, int, int]) -> int:
    """The same, for images of this shape."""
    factor, more = SEED_MARGIN
    return int(factor * model.latent_bits * sum(model.latent_state(shape, None).sizes())) + more


def shape_of(planes: np.ndarray) -> tuple[int, int, int, int]:
    count, channels, height, width = planes.shape
    return count, channels, height, width
