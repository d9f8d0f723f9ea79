# SPDX-License-Identifier: MIT
"""Bits-back coding: buried bits come back, a chain is as long as its estimate, and damage is an error."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import toy

from gmcodec.coding import autoregressive, bitsback
from gmcodec.coding.autoregressive import Progress, Weights, encode, write_varint
from gmcodec.coding.bitsback import decode_chain, encode_chain, pop_batch, push_batch
from gmcodec.coding.stack import Stack
from gmcodec.errors import GmcFormatError
from gmcodec.exact.evaluators import EVALUATORS
from gmcodec.models.agave import AgaveModel


def images(count: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([toy.smooth(random, (3, *size)) for _ in range(count)])


def buried(words: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 2**32, words, dtype=np.uint32)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsback, "BATCH_PIXELS", 4 * 256)


@pytest.mark.parametrize("kind", toy.AGAVE)
def test_buried_bits_come_back_and_images_cost_their_estimate(kind: str) -> None:
    model, batch = toy.agave(toy.AGAVE[kind]), images(3)
    stack = Stack(words := buried(3000))
    before = stack.bits
    bits, divergence = push_batch(stack, batch, model)
    assert abs(stack.bits - before - bits.sum()) < 64
    assert (divergence > 0).all()
    assert divergence.sum() < bits.sum()
    assert np.array_equal(pop_batch(stack, batch.shape, model), batch)
    assert np.array_equal(stack.words(), words)


def test_latents_are_chosen_by_what_is_buried() -> None:
    model, batch = toy.agave(toy.AGAVE["two"]), images(2)
    found = set()
    for words in (buried(3000), buried(3000)[::-1]):
        stack = Stack(words)
        push_batch(stack, batch, model)
        found.add(stack.words().tobytes()[-400:])
    assert len(found) == 2


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kind", toy.AGAVE)
def test_chains_round_trip_with_evaluators_in_the_same_bytes(kind: str) -> None:
    batch, coded = images(11), set()
    for name in EVALUATORS if kind == "two" else ("float32", "int16"):  # walks and decoders have tests of their own
        if name == "int8":
            pytest.importorskip("torch", reason="int8 needs torch")
        model = toy.agave(toy.AGAVE[kind], name)
        chain = encode_chain(batch, model)
        assert np.array_equal(decode_chain(chain.payload, batch.shape, model), batch)
        coded.add(chain.payload)
    assert len(coded) == 1
    assert 1 <= chain.seeds < 11
    assert 8 * len(chain.payload) == pytest.approx(chain.bits.sum(), abs=96)
    assert (chain.divergence[: chain.seeds] == 0).all()
    assert (chain.divergence[chain.seeds :] > 0).all()
    sizes = sum(model.walk((min(4, 11 - chain.seeds), 3, 16, 16), None).sizes())
    assert chain.initial_bits == pytest.approx(8 * sizes, rel=0.5)
    assert chain.initial_bits < 8 * sizes


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    ("count", "size", "seeds"),
    [(1, (16, 16), True), (2, (16, 16), True), (9, (8, 24), False), (6, (7, 5), True), (5, (1, 1), True)],
)
def test_few_images_and_those_that_cannot_have_latents_are_seeds(
    count: int, size: tuple[int, int], seeds: bool
) -> None:
    model, batch = toy.agave(toy.AGAVE["two"]), images(count, size)
    chain = encode_chain(batch, model)
    assert np.array_equal(decode_chain(chain.payload, batch.shape, model), batch)
    assert (chain.seeds == count) == seeds
    if seeds:  # a chain costs two bytes more than its images in a batch
        from gmcodec.coding.autoregressive import encode_batch

        plain = b"".join(encode_batch(batch[i : i + 4], model.plain)[0] for i in range(0, count, 4))
        assert chain.initial_bits == 0
        assert len(chain.payload) <= len(plain) + 2


# -- strips of a tile: images of any size --------------------------------------------------------------------

SIZES = [(45, 37), (16, 16), (70, 9), (33, 130)]


def pushed(tile: np.ndarray, model: AgaveModel, seeds: int) -> tuple[np.ndarray, float]:
    found = bitsback._push_latents(tile, model, seeds, None)
    assert found is not None
    return found[0], found[1][0]


@pytest.mark.parametrize("size", SIZES)
def test_strips_round_trip_with_every_evaluator_in_the_same_words(size: tuple[int, int]) -> None:
    tile, coded = images(1, size), set()
    for name in EVALUATORS:
        if name == "int8":
            pytest.importorskip("torch", reason="int8 needs torch")
        model = toy.agave(toy.AGAVE["local"], name)
        words, bits = pushed(tile, model, 1)
        assert np.array_equal(bitsback.pop_strips(words, tile.shape, model, lambda n: None, None), tile)
        assert 32 * len(words) == pytest.approx(bits, abs=96)
        coded.add(words.tobytes())
    assert len(coded) == 1


def test_strips_grow_with_what_pays_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tile, heights = toy.agave(toy.AGAVE["local"]), images(1, (203, 20)), []
    push_strip = bitsback.push_batch

    def watched(stack: Stack, planes: np.ndarray, *rest: object, **more: object) -> object:
        heights.append(planes.shape[2])
        return push_strip(stack, planes, *rest, **more)

    monkeypatch.setattr(bitsback, "push_batch", watched)
    words, _ = pushed(tile, model, 3)
    assert sum(heights) == 200 - 3 * model.cell
    assert len(heights) >= 2
    assert all(a < b for a, b in itertools.pairwise(heights[:-1]))
    monkeypatch.setattr(bitsback, "BATCH_PIXELS", 20 * 16)
    small, _ = pushed(tile, model, 3)
    assert max(heights) > 16 == max(heights[-5:])
    assert np.array_equal(bitsback.pop_strips(small, tile.shape, model, lambda n: None, None), tile)
    with pytest.raises(GmcFormatError, match="larger than the format allows"):
        bitsback.pop_strips(words, tile.shape, model, lambda n: None, None)


def test_latents_that_do_not_pay_are_left_out() -> None:
    """The toy's latents say nothing: an image is its decoder's alone, and 12 bits."""
    model, image = toy.agave(toy.AGAVE["local"]), images(1, (60, 50))[0]
    coded = bitsback.encode_image(image, model)
    alone = encode(image, model.plain)
    assert len(coded.payload) <= len(alone.payload) + 4
    assert coded.estimated_bits == pytest.approx(alone.estimated_bits + 12)
    assert np.array_equal(bitsback.decode_image(coded.payload, image.shape, model), image)
    assert bitsback._push_latents(np.zeros((1, 3, 60, 50), np.uint8), model, 1, None) is None  # black pays for nothing


def test_an_image_of_several_tiles_with_weights_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents in every tile, whatever they cost, of an image that leaves values out and has tiles of its own."""
    model, image = toy.agave(toy.AGAVE["local"]), images(1, (150, 90))[0] // 3 * 3
    monkeypatch.setattr(autoregressive, "ADAPT_FROM", 0)
    monkeypatch.setattr(autoregressive, "tile_shape", lambda height, width: (80, 50))

    def forced(tile: np.ndarray, model: AgaveModel, progress: Progress, weights: Weights) -> object:
        return bitsback._push_latents(tile, model, 1, weights)

    monkeypatch.setattr(bitsback, "push_strips", forced)
    coded = bitsback.encode_image(image, model, threads=2)
    assert coded.payload[0] > 1  # it has weights
    assert 8 * len(coded.payload) == pytest.approx(coded.estimated_bits, abs=4 * 64 + 200)
    assert np.array_equal(bitsback.decode_image(coded.payload, image.shape, model, threads=2), image)


@pytest.mark.usefixtures("small_batches")
def test_a_damaged_chain_is_refused_or_decodes_to_something_else() -> None:
    model, batch = toy.agave(toy.AGAVE["two"]), images(7)
    payload = encode_chain(batch, model).payload
    head = bytes(payload[:2])
    for broken, problem in (
        (b"", "ends inside"),
        (head + payload[2:] + b"\x01", "whole number"),
        (write_varint(8) + payload[1:], "do not make a chain"),
        (write_varint(7) + payload[1:], "do not make a chain"),
        (head[:1] + write_varint(0) + payload[2:], "do not make a chain"),
        (head[:1] + write_varint(5) + payload[2:], "larger than the format allows"),
        (payload[:-4] + bytes(4), "zero word"),
        (head + b"\x01\x02\x03\x04" * 4 + payload[2:], "left over"),
    ):
        with pytest.raises(GmcFormatError, match=problem):
            decode_chain(broken, batch.shape, model)
    with pytest.raises(GmcFormatError, match="cannot have latents"):
        decode_chain(payload, (7, 3, 15, 15), model)
    random = np.random.default_rng(2)
    for _ in range(4):
        at = int(random.integers(2, len(payload)))
        flipped = bytearray(payload)
        flipped[at] ^= 1 << int(random.integers(8))
        try:
            assert not np.array_equal(decode_chain(bytes(flipped), batch.shape, model), batch)
        except GmcFormatError:
            pass
