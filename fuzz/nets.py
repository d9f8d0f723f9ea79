# SPDX-License-Identifier: MIT
"""Fuzz targets of what the native core decodes: words of tiles and streams, by toy nets.

The first bytes of an input choose net, shape, threads and instruction set.  Some choices decode twice, by another
instruction set and another number of threads: both must come to the same.
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
from entry import Entry, Input, agree, ignore

from gmcodec import native
from gmcodec.coding import autoregressive, chain, strips, value_weights
from gmcodec.exact.ops import Layer
from gmcodec.formats import varint
from gmcodec.models.local import fit as local_fit
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.online.tile_coder import OnlineTileCoder

BEST, WORST = native.isas()[0], native.isas()[-1]
ISAS = ((BEST,), (WORST,), (BEST, WORST))
Ways = tuple[tuple[tuple[str, int], ...], ...]  # instruction set and threads, of each way to decode
ALONE: Ways = tuple(tuple((isa, 1) for isa in isas) for isas in ISAS)
TOGETHER: Ways = (((BEST, 2),), ((WORST, 1), (BEST, 2)))
SHAPES = ((1, 1), (2, 5), (5, 2), (8, 13))  # nets learn from the hundredth pixel on
CHANNELS = (3, 1)
LOUD = 4  # bits by which the layers of some nets amplify
VALUES = value_weights.WEIGHTS[(np.arange(256) * 7) % 16]
KINDS = ("smooth", "noise", "extremes")


def le(words: np.ndarray) -> bytes:
    return words.astype("<u4").tobytes()


def images(channels: int, shape: tuple[int, int], count: int = 1) -> Iterator[np.ndarray]:
    """uint8 [count, C, H, W], one of each kind."""
    for kind in KINDS:
        yield np.stack([toy.image(kind, (channels, *shape), seed) for seed in range(count)])


def combined(*options: Sequence[object]) -> Iterator[tuple[int, ...]]:
    """Numbers of all combinations of options."""
    return itertools.product(*(range(len(o)) for o in options))


# -- nets that stay as they are: tile_pop ----------------------------------------------------------------


@functools.cache
def fixed(channels: int, isa: str = BEST, loud: bool = False) -> LocalModel:
    made = toy.model(channels, isa)
    return LocalModel(FrozenLocal(made.config, louder(made.layers), made.tables), made.core) if loud else made


def louder(layers: dict[str, Layer]) -> dict[str, Layer]:
    """Layers whose results mostly reach their bounds."""
    return {n: la if n == "linear" else replace(la, shift=la.shift - np.int32(LOUD)) for n, la in layers.items()}


def decode_tile(data: bytes) -> None:
    given = Input(data)
    channels, shape, weighted, isas, loud = given.each(CHANNELS, SHAPES, (False, True), ISAS, (False, True))
    words, values = given.words(), [VALUES] * channels if weighted else None
    where = (1, channels, *shape)
    agree(partial(autoregressive.pop_words, words, where, fixed(channels, isa, loud), ignore, values) for isa in isas)


def seeds_of_tile() -> Iterator[bytes]:
    for number, (c, s, weighted) in enumerate(combined(CHANNELS, SHAPES, (False, True))):
        for planes in images(CHANNELS[c], SHAPES[s]):
            values = [VALUES | 1] * CHANNELS[c] if weighted else None
            loud = number // 2 % 2
            words, _ = autoregressive.push_words(planes, fixed(CHANNELS[c], BEST, bool(loud)), ignore, values)
            yield bytes([c, s, weighted, number % len(ISAS), loud]) + le(words)


SIZES = (1, 2, 4)  # bytes of a change, in an input


def decode_changes(data: bytes) -> None:
    """A net with any changes that pass its checks decodes any words, on every instruction set to the same."""
    given = Input(data)
    channels, shape, isas, size = given.each(CHANNELS, SHAPES, ISAS, SIZES)
    rest, config = given.rest(), toy.CONFIGS[channels]
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
    for c, s, size in combined(CHANNELS, SHAPES, SIZES):
        words, _ = autoregressive.push_words(next(images(CHANNELS[c], SHAPES[s])), fixed(CHANNELS[c]), ignore)
        count = toy.CONFIGS[CHANNELS[c]].outputs + CHANNELS[c] ** 2 * 4
        changes = random.integers(-9, 10, count).astype(f"<i{SIZES[size]}")
        yield bytes([c, s, s, size]) + changes.tobytes() + le(words)


# -- nets that learn, 8 bits and more: tile_pop_online ---------------------------------------------------


@functools.cache
def learnable(channels: int, isa: str = BEST, seed: int = 0, loud: bool = False) -> LocalModel:
    made = toy.learnable(channels, seed, 16 if seed else 9).frozen
    layers = louder(made.layers) if loud else made.layers
    return LocalModel(FrozenLocal(made.config, layers, made.tables, made.gradient_units), native.core(isa))


@functools.cache
def online(
    channels: int, isa: str, members: int, rate: int, averaged: bool, mirror: int, loud: bool
) -> OnlineTileCoder:
    nets = [learnable(channels, isa, seed, loud) for seed in range(members)]
    return OnlineModel(nets, [(rate + seed) % 8 for seed in range(members)], averaged, mirror).tile_coder


def decode_online(ways: Ways, data: bytes) -> None:
    given = Input(data)
    channels, (height, width), weighted, how = given.each(CHANNELS, SHAPES, (False, True), ways)
    net = given.each((1, 2), range(8), (False, True), range(4), (False, True))
    words, values = given.words(), [VALUES] * channels if weighted else None
    autoregressive.check_words(words)

    def pop(isa: str, threads: int) -> np.ndarray:
        return online(channels, isa, *net).pop_words(words, height, width, ignore, values, threads)[0]

    agree(partial(pop, *each) for each in how)


def seeds_of_online() -> Iterator[bytes]:
    for number, (c, s, members) in enumerate(combined(CHANNELS, SHAPES, (1, 2))):
        rate, averaged, mirror, loud = number % 8, number // 2 % 2, number % 4, number // 3 % 2
        coder = online(CHANNELS[c], BEST, members + 1, rate, bool(averaged), mirror, bool(loud))
        for planes in images(CHANNELS[c], SHAPES[s]):
            words, _ = coder.push_words(planes[0], ignore, None)
            yield bytes([c, s, 0, number, members, rate, averaged, mirror, loud]) + le(words)


@functools.cache
def high_depth(channels: int, isa: str, bits: int, shift: int, rate: int, loud: bool) -> OnlineTileCoder:
    return OnlineModel([learnable(channels, isa, 0, loud)], [5]).high_depth_coder(bits, shift, rate)


def decode_high_depth(ways: Ways, data: bytes) -> None:
    given = Input(data)
    channels, (height, width), how = given.each(CHANNELS, SHAPES, ways)
    net = given.each(range(8, 17), range(9), range(8), (False, True))
    words = given.words()
    autoregressive.check_words(words)

    def pop(isa: str, threads: int) -> np.ndarray:
        return high_depth(channels, isa, *net).pop_words(words, height, width, ignore, None, threads)[0]

    agree(partial(pop, *each) for each in how)


def seeds_of_high_depth() -> Iterator[bytes]:
    for number, (c, s) in enumerate(combined(CHANNELS, SHAPES)):
        bits, shift, rate, loud = number % 9, number * 2 % 9, number % 8, number // 2 % 2
        for planes in images(CHANNELS[c], SHAPES[s]):
            deeper = (planes[0].astype(np.uint16) << bits) + (planes[0] & (1 << bits) - 1)
            words, _ = high_depth(CHANNELS[c], BEST, 8 + bits, shift, rate, bool(loud)).push_words(deeper, ignore)
            yield bytes([c, s, number, bits, shift, rate, loud]) + le(words)


# -- streams, latents and flows --------------------------------------------------------------------------

STREAMS, LATENTS, FLOWS = tuple(toy.PIXELCNN), tuple(toy.AGAVE), tuple(toy.FLOWS)
BATCHES = (1, 2, 4)
SMALL, COUNTS = ((1, 1), (2, 5), (4, 4)), (1, 3)
CELLS, STRIP = ((4, 4), (8, 8)), ((5, 6), (9, 9))  # of images of a chain, and of one that is cut into strips


@functools.cache
def streams(name: str, isa: str = BEST) -> Any:
    return toy.pixelcnn(toy.PIXELCNN[name], isa)


def decode_streams(data: bytes) -> None:
    given = Input(data)
    name, shape, count, isas = given.each(STREAMS, SMALL, COUNTS, ISAS)
    words, where = given.words(), (count, toy.PIXELCNN[name].channels, *shape)
    agree(partial(autoregressive.pop_words, words, where, streams(name, isa), ignore) for isa in isas)


def seeds_of_streams() -> Iterator[bytes]:
    for n, s, count in combined(STREAMS, SMALL, COUNTS):
        for batch in images(toy.PIXELCNN[STREAMS[n]].channels, SMALL[s], COUNTS[count]):
            words, _ = autoregressive.push_words(batch, streams(STREAMS[n]), ignore)
            yield bytes([n, s, count, s]) + le(words)


@functools.cache
def latents(name: str, isa: str = BEST) -> Any:
    return toy.agave(toy.AGAVE[name], isa) if name in LATENTS else toy.ade(toy.FLOWS[name], isa)


def decode_chain(names: tuple[str, ...], data: bytes) -> None:
    """A chain of images, or an image in strips, of models with latents."""
    given = Input(data)
    name, shape, count, isas = given.each(names, CELLS, BATCHES, ISAS)
    payload = given.rest()

    def decode(isa: str) -> np.ndarray:
        return chain.decode_chain(payload, (count, 3, *shape), latents(name, isa), ignore)

    agree(partial(decode, isa) for isa in isas)


def decode_strips(names: tuple[str, ...], data: bytes) -> None:
    given = Input(data)
    name, shape, isas = given.each(names, STRIP, ISAS)
    payload = given.rest()
    agree(partial(strips.decode_image, payload, (3, *shape), latents(name, isa), 1, ignore) for isa in isas)


def seeds_of_chain(names: tuple[str, ...]) -> Iterator[bytes]:
    """Of a flow, whose first batch borrows more than a few images have, some batches stand on random words."""
    for n, s, count in combined(names, CELLS, BATCHES):
        model, images_ = latents(names[n]), list(images(3, CELLS[s], BATCHES[count]))
        for batch in images_:
            yield bytes([n, s, count, count]) + chain.encode_chain(batch, model, ignore).payload
        if model.supports(*CELLS[s]):
            head = varint.write(0) + varint.write(len(images_[0]))
            yield bytes([n, s, count, 2]) + head + le(pushed(images_[0], model))


def pushed(batch: np.ndarray, model: Any) -> np.ndarray:
    """Words of a batch on random ones; nobody reads what is left of those."""
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
            yield bytes([n, s, s]) + head + le(words)


def one_strip(planes: np.ndarray, model: Any) -> np.ndarray:
    """Words of a tile whose uppermost strip has latents, on random ones."""
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
    Entry("online", partial(decode_online, ALONE), seeds_of_online),
    Entry("online-threads", partial(decode_online, TOGETHER), seeds_of_online),
    Entry("high-depth", partial(decode_high_depth, ALONE), seeds_of_high_depth),
    Entry("high-depth-threads", partial(decode_high_depth, TOGETHER), seeds_of_high_depth),
    Entry("streams", decode_streams, seeds_of_streams, 256),
    Entry("agave-chain", partial(decode_chain, LATENTS), partial(seeds_of_chain, LATENTS)),
    Entry("agave-strips", partial(decode_strips, ("local",)), partial(seeds_of_strips, ("local",))),
    Entry("ade-chain", partial(decode_chain, FLOWS), partial(seeds_of_chain, FLOWS)),
    Entry("ade-strips", partial(decode_strips, FLOWS), partial(seeds_of_strips, FLOWS)),
)
