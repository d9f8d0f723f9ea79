# SPDX-License-Identifier: MIT
"""Bits-back coding: buried bits come back, a chain is as long as its estimate, and damage is an error."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from gmcodec import native
from gmcodec.coding import bitsback
from gmcodec.coding.bitsback import pop_batch, push_batch
from gmcodec.coding.chain import decode_chain, encode_chain
from gmcodec.coding.stack import Stack
from gmcodec.errors import GmcFormatError
from gmcodec.formats import varint


def images(count: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([toy.smooth(random, (3, *size)) for _ in range(count)])


def buried(words: int) -> np.ndarray:
    return np.random.default_rng(1).integers(1, 2**32, words, dtype=np.uint32)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsback, "BITSBACK", bitsback.BITSBACK._replace(batch_pixels=4 * 256))


@pytest.mark.parametrize("kind", toy.AGAVE)
def test_buried_bits_come_back_and_images_cost_their_estimate(kind: str) -> None:
    model, batch = toy.agave(toy.AGAVE[kind]), images(3)
    stack = Stack(words := buried(3000))
    before = stack.bits
    pushed = push_batch(stack, batch, model)
    bits, divergence = pushed.bits, pushed.parts["latents"]
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
def test_chains_round_trip_with_instruction_sets_in_the_same_bytes(kind: str) -> None:
    batch, coded = images(11), set()
    for isa in native.isas() if kind == "two" else (None,):  # walks and decoders have tests of their own
        model = toy.agave(toy.AGAVE[kind], isa)
        chain = encode_chain(batch, model)
        assert np.array_equal(decode_chain(chain.payload, batch.shape, model), batch)
        coded.add(chain.payload)
    assert len(coded) == 1
    assert 1 <= chain.seeds < 11
    assert 8 * len(chain.payload) == pytest.approx(chain.bits.sum(), abs=96)
    assert (chain.divergence[: chain.seeds] == 0).all()
    assert (chain.divergence[chain.seeds :] > 0).all()
    sizes = sum(model.latent_state((min(4, 11 - chain.seeds), 3, 16, 16), None).sizes())
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


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_a_damaged_chain_is_refused_or_decodes_to_something_else() -> None:
    model, batch = toy.agave(toy.AGAVE["two"]), images(7)
    payload = encode_chain(batch, model).payload
    head = bytes(payload[:2])
    for broken, problem in (
        (b"", "ends inside"),
        (head + payload[2:] + b"\x01", "whole number"),
        (varint.write(8) + payload[1:], "do not make a chain"),
        (varint.write(7) + payload[1:], "do not make a chain"),
        (head[:1] + varint.write(0) + payload[2:], "do not make a chain"),
        (head[:1] + varint.write(5) + payload[2:], "larger than the format allows"),
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
