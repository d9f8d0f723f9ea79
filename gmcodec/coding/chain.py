# SPDX-License-Identifier: MIT
"""A chain: many images on one bits-back stack, where the first images provide the bits that the others borrow.

The first images, the *seeds*, are coded by the model's plain form, without latents or noise.  There are as many seeds
as it takes to put onto the stack what a batch of images pops before it pushes anything.  So no initial bits are wasted.

Payload of a chain, in this order (numbers as in formats/varint.py):

1. the number of seeds;
2. the number of images of a batch, 0 if all images are seeds;
3. 32-bit words, little-endian: the stack.  At its bottom are the seeds, in batches of 2**18 pixels; above them the
   other images in their order, batch by batch; the last batch may be smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import UInt8
from gmcodec.coding import bitsback, flow
from gmcodec.coding.autoregressive import Costs, open_stack, pixel_bits, pop, push, spread
from gmcodec.coding.bitsback import LatentModel, Pushed, Scheme, shape_of
from gmcodec.coding.flow import FlowModel, Underflow
from gmcodec.coding.stack import Stack
from gmcodec.errors import GmcFormatError
from gmcodec.formats import varint
from gmcodec.progress import Callback, ignore, without_pixels

SEED_PIXELS = 1 << 18  # of the seeds that are coded in step, at most
TRIAL_IMAGES = 16  # from which the cost of a seed is estimated
SEED_EXCESS = 1.05  # seeds over what that estimate asks for
ChainModel = LatentModel | FlowModel


@dataclass(frozen=True)
class Chain:
    """A payload, and the bits of each image, float64 [N]: pushed minus popped.

    ``initial_bits``: what the first batch borrowed from the seeds.
    """

    payload: bytes
    bits: np.ndarray
    divergence: np.ndarray  # the part of ``bits`` that is log2 q - log2 p of the latents
    seeds: int
    initial_bits: float


def encode_chain(images: UInt8[np.ndarray, "B C H W"], model: ChainModel, progress: Callback = ignore) -> Chain:
    """uint8 [N, C, H, W] -> payload."""
    count, _, height, width = images.shape
    largest = count // scheme(model).least_batches
    batch = max(1, min(largest, scheme(model).batch_pixels // (height * width)))
    cost = scheme(model).required_bits(model, images[:batch]) if model.supports(height, width) else np.inf
    while True:
        stack, seed_bits = _push_seeds(images, model, cost, progress)
        try:
            found = _push_batches(stack, images[len(seed_bits) :], batch, model, progress)
            break
        except Underflow:  # later images borrow more than the first ones
            cost *= SEED_EXCESS
    bits = np.concatenate([seed_bits, *(pushed.bits for pushed in found)])
    divergence = np.concatenate([np.zeros(len(seed_bits)), *(pushed.parts["latents"] for pushed in found)])
    head = varint.write(len(seed_bits)) + varint.write(batch if found else 0)
    payload = head + stack.words().astype("<u4").tobytes()
    return Chain(payload, bits, divergence, len(seed_bits), found[0].borrowed if found else 0.0)


def decode_chain(
    payload: bytes,
    shape: tuple[int, int, int, int],
    model: ChainModel,
    progress: Callback = ignore,
    costs: Costs = None,
) -> UInt8[np.ndarray, "B C H W"]:
    """Inverse of ``encode_chain``: uint8 ``shape`` [N, C, H, W].  Raises GmcFormatError.

    Memory and time grow with ``shape``, whatever the payload is: the caller must limit it.  ``costs``, float64
    [N, H, W], gets the bits of each pixel; the latents of a batch, or its flow, cost its pixels alike.
    """
    count, _, height, width = shape
    seeds, position = varint.read(payload, 0, "the number of seeds")
    batch, position = varint.read(payload, position, "the size of batches")
    if seeds > count or (batch == 0) != (seeds == count) or batch > count:
        raise GmcFormatError(f"{seeds} seeds and batches of {batch} do not make a chain of {count} images")
    if batch and not model.supports(height, width):
        raise GmcFormatError(f"an image of {width}x{height} pixels cannot have latents of this model")
    if batch * height * width > max(scheme(model).batch_pixels, height * width):
        raise GmcFormatError(f"batches of {batch} images of {width}x{height} are larger than the format allows")
    if (len(payload) - position) % 4:
        raise GmcFormatError(f"{len(payload) - position} bytes are no whole number of 32-bit words")
    stack = open_stack(np.frombuffer(payload, "<u4", offset=position))
    out = np.empty(shape, np.uint8)
    for part in reversed(list(_parts(seeds, count, batch))):
        before, spent = stack.exact_bits, None if costs is None else costs[part]
        out[part] = scheme(model).pop_batch(stack, shape_of(out[part]), model, progress, costs=spent)
        if spent is not None:
            spread(spent, before - stack.exact_bits - spent.sum())
    for part in reversed(list(_parts(0, seeds, SEED_PIXELS // (height * width)))):
        out[part] = pop(stack, shape_of(out[part]), model.plain, progress)
        if costs is not None:
            costs[part] = pixel_bits(out[part], model.plain, progress)
    if not stack.is_empty():
        raise GmcFormatError("coded data is left over after the last image")
    return out


def scheme(model: ChainModel) -> Scheme:
    """How batches of a model are coded."""
    return flow.FLOW if hasattr(model, "flow_state") else bitsback.BITSBACK


def _push_batches(stack: Stack, images: np.ndarray, batch: int, model: ChainModel, progress: Callback) -> list[Pushed]:
    return [scheme(model).push_batch(stack, images[part], model, progress) for part in _parts(0, len(images), batch)]


def _push_seeds(images: np.ndarray, model: ChainModel, cost: float, progress: Callback) -> tuple[Stack, np.ndarray]:
    """A stack of the first images, in their order, and the bits of each: ``cost`` bits together, or all images."""
    count, _, height, width = images.shape
    trial = images[:: -(-count // TRIAL_IMAGES)]
    each = push(Stack(), trial, model.plain, without_pixels(progress)).mean()
    seeds = count if SEED_EXCESS * cost >= count * each else int(SEED_EXCESS * cost / each) + 1
    while True:
        stack, bits = Stack(), np.zeros(seeds)
        for part in _parts(0, seeds, SEED_PIXELS // (height * width)):
            bits[part] = push(stack, images[part], model.plain, progress)
        if seeds == count or bits.sum() >= cost:
            return stack, bits
        seeds = min(count, seeds + seeds // 4 + 1)  # the first images take fewer bits than the trial


def _parts(first: int, last: int, size: int) -> Iterator[slice]:
    starts = range(first, last, max(1, size))
    return (slice(a, b) for a, b in itertools.pairwise((*starts, last)))
