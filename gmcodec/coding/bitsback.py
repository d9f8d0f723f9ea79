# SPDX-License-Identifier: MIT
"""Bits-back coding: images with latent variables on one stack, so that latents cost their KL divergence only.

::

    push an image x     pop z from q(z | x)          bits come off the stack: they choose z
                        push x with p(x | z)
                        push z with p(z)             uniform, see exact/gaussian.py
    pop it              pop z with p(z), pop x with p(x | z), push z with q(z | x): the bits are back

A batch of images is coded in step.  Latents come in groups, and a group in one part or more (a part for each channel if
the posterior is a flow).  The posterior of a group depends on the image and on the groups before it (thesis, section
2.10.2), so all latents of a batch are popped before the image is pushed.  The stack must hold enough bits for that;
chain.py and strips.py see to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from gmcodec.arrays import Float64, Int32, UInt8
from gmcodec.coding.autoregressive import Costs, PixelModel, Weights, pixel_bits, pop, push
from gmcodec.coding.stack import Stack
from gmcodec.progress import Callback, ignore

NIBBLE_BITS = 4
SEED_MARGIN = 1.02, 256  # what a stack must hold beyond the nominal cost of latents: a factor, and bits


class Posterior(Protocol):
    """The posterior of one part of a group of latents, of all images of a batch."""

    def rows(self, first: np.ndarray, step: int) -> np.ndarray:
        """Frequencies of a nibble, int32 [N, 16]; see ``rows`` in exact/gaussian.py."""


class LatentState(Protocol):
    """What is known so far of the latents of a batch of images, from the first group to the last."""

    def sizes(self) -> list[int]:
        """The number of latents of each part, in order."""

    def posterior(self) -> Posterior:
        """The posterior of the next part; only if the images are known."""

    def observe(self, bins: np.ndarray) -> None:
        """Set the next part: bins int32 [N]."""

    def decoder(self) -> PixelModel:
        """The decoder conditioned on the latents; all parts must be known."""


class LatentModel(Protocol):
    """What bits-back coding needs of a model.  Images of a batch MUST NOT influence one another."""

    @property
    def latent_bits(self) -> int:
        """Bits of each latent under the prior: a multiple of 4."""

    @property
    def plain(self) -> PixelModel:
        """The model without latents."""

    def supports(self, height: int, width: int) -> bool:
        """Whether an image of this size can have latents.  One that cannot is coded as a seed (chain.py)."""

    def latent_state(self, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> LatentState: ...


class Pushed(NamedTuple):
    """The cost of a batch: bits of each image, float64 [B], pushed minus popped."""

    parts: Mapping[str, np.ndarray]  # by name; "latents" is log q - log p of the sampled latents
    borrowed: float  # bits popped before anything was pushed, of all images together

    @property
    def bits(self) -> np.ndarray:
        return sum(self.parts.values(), np.zeros(1))


class Scheme(NamedTuple):
    """How chain.py and strips.py code batches of a kind of model."""

    batch_pixels: int  # of the images that are coded in step, at most
    least_batches: int  # of a chain; more batches are smaller and need fewer seeds
    trial: Callable[..., Pushed]
    required_bits: Callable[..., int]
    push_batch: Callable[..., Pushed]
    pop_batch: Callable[..., np.ndarray]


# -- a batch: push and pop -------------------------------------------------------------------------------


def push_batch(
    stack: Stack,
    planes: UInt8[np.ndarray, "B C H W"],
    model: LatentModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: UInt8[np.ndarray, "B C R W"] | None = None,
) -> Pushed:
    """Push uint8 [B, C, H, W].  Inverse of ``pop_batch``.

    The stack must hold at least ``latent_cost`` bits.  ``weights`` of values as in ``push``; ``above``: the finished
    rows above the images, uint8 [B, C, rows, W].
    """
    state, bits = model.latent_state(shape_of(planes), planes), model.latent_bits
    latents, divergence = pop_posteriors(stack, state, len(planes), bits)
    primary = push(stack, planes, below(state.decoder(), above), progress, weights)
    for bins in reversed(latents):
        stack.push_uniform(bins, 1 << bits)
    borrowed = bits * sum(state.sizes()) - divergence.sum()
    return Pushed({"samples": primary, "latents": divergence}, float(borrowed))


def pop_batch(
    stack: Stack,
    shape: tuple[int, int, int, int],
    model: LatentModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: UInt8[np.ndarray, "B C R W"] | None = None,
    costs: Costs = None,
) -> UInt8[np.ndarray, "B C H W"]:
    """Pop uint8 ``shape`` [B, C, H, W] and give the bits back.

    ``costs``, float64 [B, H, W], gets what each pixel takes once the latents are known.
    """
    state = model.latent_state(shape, None)
    latents = pop_priors(stack, state, model.latent_bits)
    decoder = below(state.decoder(), above)
    planes = pop(stack, shape, decoder, progress, weights)
    if costs is not None:
        costs[:] = pixel_bits(planes, decoder, progress, weights)
    push_posteriors(stack, model.latent_state(shape, planes), latents, model.latent_bits)
    return planes


def pop_posteriors(
    stack: Stack, state: LatentState, count: int, bits: int
) -> tuple[list[np.ndarray], Float64[np.ndarray, " N"]]:
    """Pop all parts from their posteriors: their bins, and log2 q - log2 p of each of ``count`` images, float64."""
    latents, divergence = [], np.zeros(count)
    for _ in state.sizes():
        bins, cost = pop_posterior(stack, state.posterior(), bits)
        state.observe(bins)
        latents.append(bins)
        divergence += (bits - cost).reshape(count, -1).sum(1)
    return latents, divergence


def push_posteriors(stack: Stack, state: LatentState, latents: list[np.ndarray], bits: int) -> None:
    """Inverse of ``pop_posteriors``."""
    posteriors = []
    for bins in latents:
        posteriors.append(state.posterior())
        state.observe(bins)
    for bins, posterior in zip(reversed(latents), reversed(posteriors), strict=True):
        push_posterior(stack, bins, posterior, bits)


def pop_priors(stack: Stack, state: LatentState, bits: int) -> list[np.ndarray]:
    """Pop all parts by their prior."""
    latents = []
    for size in state.sizes():
        latents.append(stack.pop_uniform(size, 1 << bits))
        state.observe(latents[-1])
    return latents


def below(decoder: Any, above: UInt8[np.ndarray, "B C R W"] | None) -> PixelModel:
    """The decoder that also sees the rows ``above`` (strips.py); without rows, the decoder itself."""
    return decoder if above is None else decoder.below(above)


def _nibbles(bits: int) -> Iterator[int]:
    """The shift of each nibble of a bin, from the highest."""
    return iter(range(bits - NIBBLE_BITS, -1, -NIBBLE_BITS))


def pop_posterior(
    stack: Stack, posterior: Posterior, bits: int
) -> tuple[Int32[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """Pop bins int32 [N]; returns also their cost -log2 q, float64 [N] bits."""
    bins: np.ndarray | int = 0
    cost: np.ndarray | float = 0.0
    for shift in _nibbles(bits):
        rows = posterior.rows(np.asarray(bins, np.int64), 1 << shift)
        nibble = stack.pop(rows)
        cost = cost + 24 - np.log2(rows[np.arange(len(rows)), nibble])
        bins = bins + (nibble << shift)
    return np.asarray(bins, np.int32), np.asarray(cost)


def push_posterior(stack: Stack, bins: Int32[np.ndarray, " N"], posterior: Posterior, bits: int) -> None:
    """Inverse of ``pop_posterior``."""
    for shift in reversed(list(_nibbles(bits))):
        above = (bins >> (shift + NIBBLE_BITS)) << (shift + NIBBLE_BITS)
        stack.push((bins >> shift) & 15, posterior.rows(above.astype(np.int64), 1 << shift))


def trial(model: LatentModel, images: UInt8[np.ndarray, "B C H W"], weights: Weights = None) -> Pushed:
    """What images uint8 [B, C, H, W] cost on a stack of random words, which choose the latents."""
    stack = Stack.random(np.random.default_rng(0), required_bits(model, images))
    return push_batch(stack, images, model, weights=weights)


def required_bits(model: LatentModel, images: np.ndarray) -> int:
    """Bits that a stack should hold before images uint8 [B, C, H, W] are pushed."""
    return latent_cost(model, shape_of(images))


def latent_cost(model: LatentModel, shape: tuple[int, int, int, int]) -> int:
    """``required_bits`` for images of this shape."""
    factor, more = SEED_MARGIN
    return int(factor * model.latent_bits * sum(model.latent_state(shape, None).sizes())) + more


def shape_of(planes: UInt8[np.ndarray, "B C H W"]) -> tuple[int, int, int, int]:
    count, channels, height, width = planes.shape
    return count, channels, height, width


BITSBACK = Scheme(1 << 18, 1, trial, required_bits, push_batch, pop_batch)
