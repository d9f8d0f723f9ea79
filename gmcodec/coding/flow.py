# SPDX-License-Identifier: MIT
"""Flow coding: images through a bijection of integers; the bits that it would round away go onto the stack.

::

    push an image x    pop the noise u                  x + u on a grid of 1/256
                       h = f(x + u), one coupling after another: pop r, push s (below)
                       pop z from q(z | h)              bits-back, as in bitsback.py
                       push h - mean(z), nearly Gaussian
                       push z                           uniform
    pop it             the same backwards

A coupling multiplies by R / 2**10 without loss (the modular affine transformation of Zhang et al. 2021)::

    x --> x * R + r = h * 2**10 + s      r < R is popped, s < 2**10 is pushed: log2(2**10 / R) bits

These bits are minus the logarithm of the coupling's determinant, as in the change of variables.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from gmcodec.arrays import Float64, Int64, UInt8
from gmcodec.coding.autoregressive import Costs, PixelModel, Weights, pixel_bits, pop, push
from gmcodec.coding.bitsback import (
    SEED_MARGIN,
    Posterior,
    Pushed,
    Scheme,
    below,
    pop_posterior,
    pop_posteriors,
    pop_priors,
    push_posterior,
    push_posteriors,
    shape_of,
)
from gmcodec.coding.stack import PRECISION, Stack
from gmcodec.errors import GmcFormatError
from gmcodec.progress import Callback, ignore

TRIAL_BITS = 64  # that a trial's stack holds for each sample: on average no sample takes more
COUPLING_SCALE_BITS = 10  # a coupling multiplies by R / 2**10
FEATURE_BINS = 256  # of a feature's upper bits, coded as two nibbles; its lower bits are uniform
ESCAPE_BITS = 2 * PRECISION  # of a feature outside all bins
RESERVE_BITS = 128  # that the stack must still hold after every pop


class Affine(Protocol):
    """What a coupling does to N samples: (x - mean) * scale / 2**10, int64 [N] each, scales above 0."""

    @property
    def mean(self) -> np.ndarray: ...
    @property
    def scale(self) -> np.ndarray: ...


class FlowState(Protocol):
    """A batch of images on its way through the flow, in either direction.  Vectors hold image after image."""

    @property
    def samples(self) -> int: ...
    @property
    def couplings(self) -> int: ...
    def noise(self, planes: np.ndarray) -> Posterior | None: ...
    def from_pixels(self, planes: np.ndarray, noise: np.ndarray) -> None: ...
    def to_pixels(self) -> tuple[np.ndarray, np.ndarray]: ...
    def affine(self, n: int) -> Affine: ...
    def changed(self, n: int) -> np.ndarray: ...
    def change(self, n: int, values: np.ndarray) -> None: ...
    def features(self) -> np.ndarray: ...
    def set_features(self, values: np.ndarray) -> None: ...
    def latent_state(self, known: bool) -> Any: ...  # a LatentState; ``means`` of the features, once all are known
    def kinds(self) -> np.ndarray: ...


class FeatureTables(Protocol):
    """Tables of the features of K kinds: ``shift`` int32 [K], ``high`` int32 [K, 16], ``low`` int32 [K, 16, 16]."""

    @property
    def shift(self) -> np.ndarray: ...
    @property
    def high(self) -> np.ndarray: ...
    @property
    def low(self) -> np.ndarray: ...


class FlowModel(Protocol):
    """What flow coding needs of a model.  Images of a batch MUST NOT influence one another."""

    @property
    def latent_bits(self) -> int:
        """Bits of each latent under the prior, and of the noise of each sample."""

    @property
    def plain(self) -> PixelModel:
        """The model of the seeds, which pay for the first batch (chain.py)."""

    @property
    def cell(self) -> int:
        """Side of the largest cell, in pixels."""

    @property
    def tables(self) -> Any: ...  # FeatureTables
    def supports(self, height: int, width: int) -> bool: ...
    def flow_state(self, shape: tuple[int, int, int, int]) -> FlowState: ...


class Underflow(Exception):
    """More bits were popped than the stack held."""


# -- a batch: push and pop -------------------------------------------------------------------------------


def push_batch(
    stack: Stack,
    planes: UInt8[np.ndarray, "B C H W"],
    model: FlowModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: np.ndarray | None = None,
) -> Pushed:
    """Push uint8 [B, C, H, W].  Inverse of ``pop_batch``.

    The plain model codes the columns right of the last whole cell, with ``weights`` and the rows ``above`` as in
    bitsback.py.  Raises Underflow when the stack does not hold enough bits; the stack is then damaged.
    """
    planes, margin = _split_margin(planes, model)
    margin_bits = np.zeros(len(planes))
    if margin.size:
        margin_bits = push(stack, margin, _margin_model(model, margin, above), progress, weights)
    if not planes.size:
        return Pushed({"plain": margin_bits, "latents": np.zeros(len(planes))}, 0.0)
    state, count, bits = model.flow_state(shape_of(planes)), len(planes), model.latent_bits
    before = lowest = stack.bits

    def each(values: np.ndarray) -> np.ndarray:
        return values.reshape(count, -1).sum(1)

    posterior = state.noise(planes)
    if posterior is None:
        noise, noise_bits = stack.pop_uniform(state.samples, 1 << bits), np.full(count, -bits * planes[0].size)
    else:
        noise, cost = pop_posterior(stack, posterior, bits)
        noise_bits = -each(cost)
    lowest = check_stack(stack, lowest)
    state.from_pixels(planes, noise)
    moved = np.zeros(count)
    for n in range(state.couplings):
        progress(0)  # may end the work
        affine = state.affine(n)
        changed, level = push_affine(stack, state.changed(n), affine)
        lowest = min(lowest, level)
        state.change(n, changed)
        moved += each(COUPLING_SCALE_BITS - np.log2(affine.scale))
    latents = state.latent_state(True)
    bins, divergence = pop_posteriors(stack, latents, count, bits)
    lowest = check_stack(stack, lowest)
    rest = state.features() - latents.means().ravel()
    features = each(push_features(stack, rest, state.kinds(), model.tables))
    for part in reversed(bins):
        stack.push_uniform(part, 1 << bits)
    progress(planes[:, 0].size)
    parts = {"plain": margin_bits, "noise": noise_bits, "couplings": moved, "features": features, "latents": divergence}
    return Pushed(parts, float(before - lowest))


def pop_batch(
    stack: Stack,
    shape: tuple[int, int, int, int],
    model: FlowModel,
    progress: Callback = ignore,
    weights: Weights = None,
    above: np.ndarray | None = None,
    costs: Costs = None,
) -> UInt8[np.ndarray, "B C H W"]:
    """Pop uint8 ``shape`` [B, C, H, W] and give the bits back.  Raises GmcFormatError.

    ``costs``, float64 [B, H, W], gets what each pixel beside whole cells takes; those within, the same share each.
    """
    out, before = np.empty(shape, np.uint8), stack.exact_bits
    planes, margin = _split_margin(out, model)
    if planes.size:
        planes[:] = _pop_cells(stack, shape_of(planes), model)
        progress(planes[:, 0].size)
        if costs is not None:
            costs[:, :, : planes.shape[3]] = (before - stack.exact_bits) / planes[:, 0].size
            progress(planes[:, 0].size)
    if margin.size:
        beside = _margin_model(model, margin, above)
        margin[:] = pop(stack, shape_of(margin), beside, progress, weights)
        if costs is not None:
            costs[:, :, planes.shape[3] :] = pixel_bits(margin, beside, progress, weights)
    return out


def _split_margin(planes: np.ndarray, model: FlowModel) -> tuple[np.ndarray, np.ndarray]:
    """Views of the whole cells, and of the columns right of them."""
    width = planes.shape[3] // model.cell * model.cell
    return planes[:, :, :, :width], planes[:, :, :, width:]


def _margin_model(model: FlowModel, margin: np.ndarray, above: np.ndarray | None) -> PixelModel:
    """The plain model for the columns right of the last whole cell."""
    return below(model.plain, None if above is None else above[:, :, :, -margin.shape[3] :])


def _pop_cells(stack: Stack, shape: tuple[int, int, int, int], model: FlowModel) -> np.ndarray:
    bits = model.latent_bits
    state, bins = _pop_features(stack, shape, model)
    push_posteriors(stack, state.latent_state(True), bins, bits)
    for n in reversed(range(state.couplings)):
        state.change(n, pop_affine(stack, state.changed(n), state.affine(n)))
    grey, noise = state.to_pixels()
    if grey.min(initial=0) < 0 or grey.max(initial=0) > 255:
        raise GmcFormatError("a sample lies outside 0..255")
    planes = grey.astype(np.uint8)
    noise_posterior = state.noise(planes)
    if noise_posterior is None:
        stack.push_uniform(noise, 1 << bits)
    else:
        push_posterior(stack, noise, noise_posterior, bits)
    return planes


def sample(stack: Stack, shape: tuple[int, int, int, int], model: FlowModel) -> UInt8[np.ndarray, "B C H W"]:
    """Samples of the model, from a stack of random words: uint8 ``shape``; values out of range are clipped.

    The stack must hold ``TRIAL_BITS`` a sample.
    """
    state, _ = _pop_features(stack, shape, model)
    for n in reversed(range(state.couplings)):
        state.change(n, pop_affine(stack, state.changed(n), state.affine(n)))
    return np.clip(state.to_pixels()[0], 0, 255).astype(np.uint8)


def _pop_features(
    stack: Stack, shape: tuple[int, int, int, int], model: FlowModel
) -> tuple[FlowState, list[np.ndarray]]:
    """Images as features, before any coupling is undone, and the bins of their latents."""
    state = model.flow_state(shape)
    latents = state.latent_state(False)
    bins = pop_priors(stack, latents, model.latent_bits)
    state.set_features(pop_features(stack, state.kinds(), model.tables) + latents.means().ravel())
    return state, bins


# -- couplings and features: push and pop ----------------------------------------------------------------


def push_affine(stack: Stack, x: Int64[np.ndarray, " N"], affine: Affine) -> tuple[Int64[np.ndarray, " N"], int]:
    """Samples int64 [N] -> what a coupling makes of them, and the fewest bits that the stack held meanwhile."""
    r = stack.pop_below(affine.scale)
    lowest = check_stack(stack, stack.bits)
    total = (x - affine.mean) * affine.scale + r
    stack.push_uniform((total & ((1 << COUPLING_SCALE_BITS) - 1)).astype(np.int32), 1 << COUPLING_SCALE_BITS)
    return total >> COUPLING_SCALE_BITS, lowest


def pop_affine(stack: Stack, h: Int64[np.ndarray, " N"], affine: Affine) -> Int64[np.ndarray, " N"]:
    """Inverse of ``push_affine``."""
    total = (h << COUPLING_SCALE_BITS) + stack.pop_uniform(len(h), 1 << COUPLING_SCALE_BITS)
    x, r = np.divmod(total, affine.scale)
    stack.push_below(r, affine.scale)
    return x + affine.mean


def push_features(
    stack: Stack, rest: Int64[np.ndarray, " N"], kinds: Int64[np.ndarray, " N"], tables: FeatureTables
) -> Float64[np.ndarray, " N"]:
    """Push features minus their means, int64 [N]; returns the bits of each, float64 [N].

    The lowest ``shift`` bits of a number are uniform.  The bits above them, plus 128, are a bin, 1..255.  If they lie
    outside that range, the bin is 0, and they are pushed in full, with an offset.
    """
    shift = tables.shift[kinds].astype(np.int64)
    above = rest >> shift
    bins = above + FEATURE_BINS // 2
    escaped = (bins < 1) | (bins >= FEATURE_BINS)
    bins[escaped] = 0
    raw = above[escaped] + (1 << (ESCAPE_BITS - 1))
    for part in (raw & ((1 << PRECISION) - 1), raw >> PRECISION):
        stack.push_uniform(part.astype(np.int32), 1 << PRECISION)
    stack.push_below(rest & ((1 << shift) - 1), 1 << shift)
    high, low = bins >> 4, bins & 15
    of_high, of_low = tables.high[kinds], tables.low[kinds, high]
    stack.push(low.astype(np.int32), of_low)
    stack.push(high.astype(np.int32), of_high)
    row = np.arange(len(bins))
    bits = 2 * PRECISION - np.log2(of_high[row, high]) - np.log2(of_low[row, low])
    return bits + shift + ESCAPE_BITS * escaped


def pop_features(stack: Stack, kinds: Int64[np.ndarray, " N"], tables: FeatureTables) -> Int64[np.ndarray, " N"]:
    """Inverse of ``push_features``."""
    shift = tables.shift[kinds].astype(np.int64)
    high = stack.pop(tables.high[kinds])
    bins = high.astype(np.int64) * 16 + stack.pop(tables.low[kinds, high])
    lowest = stack.pop_below(1 << shift)
    above, escaped = bins - FEATURE_BINS // 2, bins == 0
    count = int(escaped.sum())
    upper, lower = (stack.pop_uniform(count, 1 << PRECISION).astype(np.int64) for _ in range(2))
    above[escaped] = (upper << PRECISION) + lower - (1 << (ESCAPE_BITS - 1))
    return (above << shift) + lowest


def check_stack(stack: Stack, lowest: int) -> int:
    """The smaller of ``lowest`` and the bits on the stack.  Raises Underflow when too many may have been popped."""
    if stack.bits < RESERVE_BITS:
        raise Underflow
    return min(lowest, stack.bits)


def trial(model: FlowModel, images: UInt8[np.ndarray, "B C H W"], weights: Weights = None) -> Pushed:
    """What images uint8 [B, C, H, W] cost on a stack of random words."""
    stack = Stack.random(np.random.default_rng(0), TRIAL_BITS * images.size)
    return push_batch(stack, images, model, weights=weights)


def required_bits(model: FlowModel, images: np.ndarray) -> int:
    """Bits that a stack should hold before images like these, uint8 [B, C, H, W], are pushed, by a trial."""
    factor, more = SEED_MARGIN
    return int(factor * trial(model, images).borrowed) + more


# small batches: the first one borrows as many bits as the seeds must have
FLOW = Scheme(1 << 14, 8, trial, required_bits, push_batch, pop_batch)
