# SPDX-License-Identifier: MIT
"""Fuzz targets of the native core: toy nets decode words of tiles and streams.

The first bytes of an input choose net, shape, threads and instruction set.  Some choices decode twice, with another
instruction set and another number of threads, and both results must be the same.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import toy
from entry import Entry, Input, agree

from gmcodec import native
from gmcodec.coding import autoregressive, chain, strips, value_weights
from gmcodec.exact.ops import Layer
from gmcodec.formats import varint
from gmcodec.models.local import fit as local_fit
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.online.tile_coder import OnlineTileCoder
from gmcodec.progress import ignore

BEST, PLAINEST = native.isas()[0], native.isas()[-1]
ISA_CHOICES = ((BEST,), (PLAINEST,), (BEST, PLAINEST))
Decoders = tuple[tuple[tuple[str, int], ...], ...]  # choices of decoders, each with an instruction set and threads
ONE_THREAD: Decoders = tuple(tuple((isa, 1) for isa in isas) for isas in ISA_CHOICES)
TWO_THREADS: Decoders = (((BEST, 2),), ((PLAINEST, 1), (BEST, 2)))
SHAPES = ((1, 1), (2, 5), (5, 2), (8, 13))  # online nets begin to learn at the hundredth pixel
CHANNELS = (3, 1)
AMPLIFYING_BITS = 4  # by which the results of some nets are shifted, so that they reach their limits
VALUE_WEIGHTS = value_weights.WEIGHTS[(np.arange(256) * 7) % 16]
IMAGE_KINDS = ("smooth", "noise", "extremes")


def word_bytes(words: np.ndarray) -> bytes:
    """Words as bytes, as ``Input.words`` reads them."""
    return words.astype("<u4").tobytes()


def images(channels: int, shape: tuple[int, int], count: int = 1) -> Iterator[np.ndarray]:
    """Batches uint8 [count, C, H, W], one of each kind."""
    for kind in IMAGE_KINDS:
        yield np.stack([toy.image(kind, (channels, *shape), seed) for seed in range(count)])


def combined(*options: Sequence[object]) -> Iterator[tuple[int, ...]]:
    """All combinations of options, as their numbers."""
    return itertools.product(*(range(len(o)) for o in options))


# -- fixed nets: tile_pop ----------------------------------------------------------------


@functools.cache
def fixed(channels: int, isa: str = BEST, amplified: bool = False) -> LocalModel:
    made = toy.model(channels, isa)
    return LocalModel(FrozenLocal(made.config, amplify(made.layers), made.tables), made.core) if amplified else made


def amplify(layers: dict[str, Layer]) -> dict[str, Layer]:
    """Layers whose results mostly reach their limits."""
    return {
        n: la if n == "linear" else replace(la, shift=la.shift - np.int32(AMPLIFYING_BITS)) for n, la in layers.items()
    }


def decode_tile(data: bytes) -> None:
    choices = Input(data)
    channels, shape, weighted, isas, amplified = choices.each(
        CHANNELS, SHAPES, (False, True), ISA_CHOICES, (False, True)
    )
    words, values = choices.words(), [VALUE_WEIGHTS] * channels if weighted else None
    where = (1, channels, *shape)
    agree(
        partial(autoregressive.pop_words, words, where, fixed(channels, isa, amplified), ignore, values) for isa in isas
    )


def seeds_of_tile() -> Iterator[bytes]:
    for number, (c, s, weighted) in enumerate(combined(CHANNELS, SHAPES, (False, True))):
        for planes in images(CHANNELS[c], SHAPES[s]):
            values = [VALUE_WEIGHTS | 1] * CHANNELS[c] if weighted else None
            amplified = number // 2 % 2
            words, _ = autoregressive.push_words(planes, fixed(CHANNELS[c], BEST, bool(amplified)), ignore, values)
            yield bytes([c, s, weighted, number % len(ISA_CHOICES), amplified]) + word_bytes(words)


CHANGE_BYTES = (1, 2, 4)  # of a change of a weight, in an input


def decode_changes(data: bytes) -> None:
    """Decode words with a net whose weights are changed, on several instruction sets."""
    choices = Input(data)
    channels, shape, isas, size = choices.each(CHANNELS, SHAPES, ISA_CHOICES, CHANGE_BYTES)
    rest, config = choices.rest(), toy.CONFIGS[channels]
    count = config.outputs + channels * channels * config.neighbours
    changes = np.zeros(count, np.int64)
    found = np.frombuffer(rest[: len(rest) // size * size], f"<i{size}")[:count].astype(np.int64)
    changes[: len(found)] = np.clip(found, -local_fit.MAX_CHANGE, local_fit.MAX_CHANGE)
    packed, words = local_fit.pack(changes), Input(rest[len(found) * size :]).words()
    where = (1, channels, *shape)
    nets = [fixed(channels, isa).adapted(packed) for isa in isas]
    agree(partial(autoregressive.pop_words, words, where, net, ignore) for net in nets)


def seeds_of_changes() -> Iterator[bytes]:
    random = np.random.default_rng(0)
    for c, s, size in combined(CHANNELS, SHAPES, CHANGE_BYTES):
        words, _ = autoregressive.push_words(next(images(CHANNELS[c], SHAPES[s])), fixed(CHANNELS[c]), ignore)
        count = toy.CONFIGS[CHANNELS[c]].outputs + CHANNELS[c] ** 2 * 4
        changes = random.integers(-9, 10, count).astype(f"<i{CHANGE_BYTES[size]}")
        yield bytes([c, s, s, size]) + changes.tobytes() + word_bytes(words)


# -- nets that learn, 8 bits and more: tile_pop_online ---------------------------------------------------


@functools.cache
def learnable(channels: int, isa: str = BEST, seed: int = 0, amplified: bool = False) -> LocalModel:
    made = toy.learnable(channels, seed, 16 if seed else 9).frozen
    layers = amplify(made.layers) if amplified else made.layers
    return LocalModel(FrozenLocal(made.config, layers, made.tables, made.gradient_units), native.core(isa))


@functools.cache
def online(
    channels: int, isa: str, members: int, rate: int, averaged: bool, mirror: int, amplified: bool
) -> OnlineTileCoder:
    nets = [learnable(channels, isa, seed, amplified) for seed in range(members)]
    return OnlineModel(nets, [(rate + seed) % 8 for seed in range(members)], averaged, mirror).tile_coder


def decode_online(decoders: Decoders, data: bytes) -> None:
    choices = Input(data)
    channels, (height, width), weighted, how = choices.each(CHANNELS, SHAPES, (False, True), decoders)
    net = choices.each((1, 2), range(8), (False, True), range(4), (False, True))
    words, values = choices.words(), [VALUE_WEIGHTS] * channels if weighted else None
    autoregressive.check_words(words)

    def pop(isa: str, threads: int) -> np.ndarray:
        return online(channels, isa, *net).pop_words(words, height, width, ignore, values, threads)[0]

    agree(partial(pop, *each) for each in how)


def seeds_of_online() -> Iterator[bytes]:
    for number, (c, s, members) in enumerate(combined(CHANNELS, SHAPES, (1, 2))):
        rate, averaged, mirror, amplified = number % 8, number // 2 % 2, number % 4, number // 3 % 2
        coder = online(CHANNELS[c], BEST, members + 1, rate, bool(averaged), mirror, bool(amplified))
        for planes in images(CHANNELS[c], SHAPES[s]):
            words, _ = coder.push_words(planes[0], ignore, None)
            yield bytes([c, s, 0, number, members, rate, averaged, mirror, amplified]) + word_bytes(words)


@functools.cache
def high_depth(channels: int, isa: str, bits: int, shift: int, rate: int, amplified: bool) -> OnlineTileCoder:
    return OnlineModel([learnable(channels, isa, 0, amplified)], [5]).high_depth_coder(bits, shift, rate)


def decode_high_depth(decoders: Decoders, data: bytes) -> None:
    choices = Input(data)
    channels, (height, width), how = choices.each(CHANNELS, SHAPES, decoders)
    net = choices.each(range(8, 17), range(9), range(8), (False, True))
    words = choices.words()
    autoregressive.check_words(words)

    def pop(isa: str, threads: int) -> np.ndarray:
        return high_depth(channels, isa, *net).pop_words(words, height, width, ignore, None, threads)[0]

    agree(partial(pop, *each) for each in how)


def seeds_of_high_depth() -> Iterator[bytes]:
    for number, (c, s) in enumerate(combined(CHANNELS, SHAPES)):
        bits, shift, rate, amplified = number % 9, number * 2 % 9, number % 8, number // 2 % 2
        for planes in images(CHANNELS[c], SHAPES[s]):
            deeper = (planes[0].astype(np.uint16) << bits) + (planes[0] & (1 << bits) - 1)
            words, _ = high_depth(CHANNELS[c], BEST, 8 + bits, shift, rate, bool(amplified)).push_words(deeper, ignore)
            yield bytes([c, s, number, bits, shift, rate, amplified]) + word_bytes(words)


# -- streams, latents and flows --------------------------------------------------------------------------

PIXELCNN_NETS, AGAVE_NETS, ADE_NETS = tuple(toy.PIXELCNN), tuple(toy.AGAVE), tuple(toy.FLOWS)
BATCHES = (1, 2, 4)
SMALL_SHAPES, COUNTS = ((1, 1), (2, 5), (4, 4)), (1, 3)
CELLS, STRIP = ((4, 4), (8, 8)), ((5, 6), (9, 9))  # shapes of the images of a chain, and of an image in strips


@functools.cache
def streams(name: str, isa: str = BEST) -> Any:
    return toy.pixelcnn(toy.PIXELCNN[name], isa)


def decode_streams(data: bytes) -> None:
    choices = Input(data)
    name, shape, count, isas = choices.each(PIXELCNN_NETS, SMALL_SHAPES, COUNTS, ISA_CHOICES)
    words, where = choices.words(), (count, toy.PIXELCNN[name].channels, *shape)
    agree(partial(autoregressive.pop_words, words, where, streams(name, isa), ignore) for isa in isas)


def seeds_of_streams() -> Iterator[bytes]:
    for n, s, count in combined(PIXELCNN_NETS, SMALL_SHAPES, COUNTS):
        for batch in images(toy.PIXELCNN[PIXELCNN_NETS[n]].channels, SMALL_SHAPES[s], COUNTS[count]):
            words, _ = autoregressive.push_words(batch, streams(PIXELCNN_NETS[n]), ignore)
            yield bytes([n, s, count, s]) + word_bytes(words)


@functools.cache
def latents(name: str, isa: str = BEST) -> Any:
    return toy.agave(toy.AGAVE[name], isa) if name in AGAVE_NETS else toy.ade(toy.FLOWS[name], isa)


def decode_chain(names: tuple[str, ...], data: bytes) -> None:
    """Decode a chain of images with a model that has latents."""
    choices = Input(data)
    name, shape, count, isas = choices.each(names, CELLS, BATCHES, ISA_CHOICES)
    payload = choices.rest()

    def decode(isa: str) -> np.ndarray:
        return chain.decode_chain(payload, (count, 3, *shape), latents(name, isa), ignore)

    agree(partial(decode, isa) for isa in isas)


def decode_strips(names: tuple[str, ...], data: bytes) -> None:
    choices = Input(data)
    name, shape, isas = choices.each(names, STRIP, ISA_CHOICES)
    payload = choices.rest()
    agree(partial(strips.decode_image, payload, (3, *shape), latents(name, isa), 1, ignore) for isa in isas)


def seeds_of_chain(names: tuple[str, ...]) -> Iterator[bytes]:
    """Chains.  Some batches stand on random words, because the first batch of a flow needs more bits than it has."""
    for n, s, count in combined(names, CELLS, BATCHES):
        model, images_ = latents(names[n]), list(images(3, CELLS[s], BATCHES[count]))
        for batch in images_:
            yield bytes([n, s, count, count]) + chain.encode_chain(batch, model, ignore).payload
        if model.supports(*CELLS[s]):
            head = varint.write(0) + varint.write(len(images_[0]))
            yield bytes([n, s, count, 2]) + head + word_bytes(pushed(images_[0], model))


def pushed(batch: np.ndarray, model: Any) -> np.ndarray:
    """Words of a batch on a stack of random words."""
    stack = random_stack(batch, model)
    chain.scheme(model).push_batch(stack, batch, model, ignore)
    return stack.words()


def random_stack(batch: np.ndarray, model: Any) -> autoregressive.Stack:
    return autoregressive.Stack.random(np.random.default_rng(0), chain.scheme(model).required_bits(model, batch) + 256)


def seeds_of_strips(names: tuple[str, ...]) -> Iterator[bytes]:
    for n, s in combined(names, STRIP):
        model = latents(names[n])
        for planes in images(3, STRIP[s]):
            yield bytes([n, s, s]) + strips.encode_image(planes[0], model, 1, ignore).data
            words = one_strip(planes, model)
            head = varint.write(0) + b"".join(map(varint.write, (*STRIP[s], len(words))))
            yield bytes([n, s, s]) + head + word_bytes(words)


def one_strip(planes: np.ndarray, model: Any) -> np.ndarray:
    """Words of a tile whose uppermost strip has latents, on a stack of random words."""
    rows = planes.shape[2] // model.cell
    stack = random_stack(planes[:, :, : rows * model.cell], model)
    autoregressive.push(stack, planes[:, :, rows * model.cell :], model.plain, ignore)
    stack.push_uniform(np.zeros(1, np.int32), 1 << strips.ROWS_BITS)
    strip, above = planes[:, :, : rows * model.cell], planes[:, :, :0]
    chain.scheme(model).push_batch(stack, strip, model, ignore, None, above)
    stack.push_uniform(np.array([rows], np.int32), 1 << strips.ROWS_BITS)
    return stack.words()


ENTRIES = (
    Entry("tile", decode_tile, seeds_of_tile),
    Entry("changes", decode_changes, seeds_of_changes),
    Entry("online", partial(decode_online, ONE_THREAD), seeds_of_online),
    Entry("online-threads", partial(decode_online, TWO_THREADS), seeds_of_online),
    Entry("high-depth", partial(decode_high_depth, ONE_THREAD), seeds_of_high_depth),
    Entry("high-depth-threads", partial(decode_high_depth, TWO_THREADS), seeds_of_high_depth),
    Entry("streams", decode_streams, seeds_of_streams, 256),
    Entry("agave-chain", partial(decode_chain, AGAVE_NETS), partial(seeds_of_chain, AGAVE_NETS)),
    Entry("agave-strips", partial(decode_strips, ("local",)), partial(seeds_of_strips, ("local",))),
    Entry("ade-chain", partial(decode_chain, ADE_NETS), partial(seeds_of_chain, ADE_NETS)),
    Entry("ade-strips", partial(decode_strips, ADE_NETS), partial(seeds_of_strips, ADE_NETS)),
)
