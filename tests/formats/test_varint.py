# SPDX-License-Identifier: MIT
"""Numbers of variable length: one spelling each, wherever one stands.  tests/hostile/README.md numbers the attacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

from gmcodec.coders import GraphicsCoder
from gmcodec.coding import autoregressive, chain, graphics, high_depth, reduction
from gmcodec.errors import GmcFormatError, TruncatedFileError
from gmcodec.formats import gma, gmc, varint
from gmcodec.formats.gma import GROUP, SINGLE, Block
from gmcodec.formats.gmc import Header, Part
from gmcodec.image import metadata
from gmcodec.image.metadata import Text
from gmcodec.models.local import fit as local_fit


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_numbers_round_trip(value: int, rest: bytes) -> None:
    data = varint.write(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert varint.read(rest + data + rest, len(rest), "it") == (value, len(rest) + len(data))
    for cut in range(len(data)):
        with pytest.raises(TruncatedFileError, match="ends inside it"):
            varint.read(data[:cut], 0, "it")


@given(st.integers(-(2**62), 2**62 - 1))
def test_signed_numbers_round_trip(value: int) -> None:
    assert varint.read_signed(varint.write_signed(value), 0, "it")[0] == value


def test_bytes() -> None:
    assert [varint.write(n).hex() for n in (0, 1, 127, 128, 300, 2**63 - 1)] == [
        "00", "01", "7f", "8001", "ac02", "ff" * 8 + "7f",
    ]  # fmt: skip
    assert [varint.write_signed(n).hex() for n in (0, -1, 1, -2, 64)] == ["00", "01", "02", "03", "8001"]


@pytest.mark.parametrize("value", [-1, 2**63])
def test_numbers_that_no_file_holds(value: int) -> None:
    with pytest.raises(GmcFormatError, match="outside"):
        varint.write(value)


@pytest.mark.parametrize("data", [b"\x80\0", b"\x81\0", b"\x80\x80\0", b"\xff" * 8 + b"\0"])
def test_padding_is_refused(data: bytes) -> None:
    with pytest.raises(GmcFormatError, match="padding"):
        varint.read(data, 0, "it")


@pytest.mark.parametrize("data", [b"\x80" * 9, b"\xff" * 9 + b"\1", b"\xff" * 1000])
def test_a_number_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(GmcFormatError, match="more than 9 bytes"):
        varint.read(data, 0, "it")


# -- padding at every place where a number stands -----------------------------------------------------------


def a_file() -> tuple[bytes, Callable[[bytes], Any]]:
    parts = (Part(3, 1, b"abc"), Part(16, 2, b"", b"1234"))
    return gmc.pack(Header(5, 300, 200, 7, ((1, b"x"), (9, b"yz")), parts)), gmc.unpack


def an_index() -> tuple[bytes, Callable[[bytes], Any]]:
    blocks = (Block(GROUP, 5, 16, 32, 16, 3, ("aé", "ab"), (1, 2)), Block(SINGLE, 2, 3, 300, 1, 200, ("b",)))
    data = gma.HEAD + bytes(203)
    data += gma.write_index(blocks, len(gma.HEAD))
    return data, lambda made: gma.read_blocks(lambda at, count: made[at : at + count], len(made))


def a_text() -> tuple[bytes, Callable[[bytes], Any]]:
    return metadata.pack_text([Text(b"a", b"b"), Text(b"c", b"d", True, b"en", b"e")]), metadata.unpack_text


def changes() -> tuple[bytes, Callable[[bytes], Any]]:
    return local_fit.pack(np.array([0, -1, 64, 1000])), lambda made: local_fit.unpack(made, 4)


def a_photograph() -> tuple[bytes, Callable[[bytes], Any]]:
    """Two tiles, changes fitted to the image, weights of values."""
    planes, model = toy.smooth(np.random.default_rng(0), (3, 128, 128)) & 0xFC, toy.model(3)
    changes = bytes(model.config.outputs + model.layers["linear"].weight.size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoregressive, "ADAPT_FROM_PIXELS", 1 << 12)
        patch.setattr(type(model), "fit", lambda self, sample, pixels: changes)
        payload = autoregressive.encode(planes, model, tile=(64, 128)).data
    assert payload[0] & 1
    assert payload[0] > 1
    return payload, lambda made: autoregressive.decode(made, planes.shape, model)


def sixteen_bits() -> tuple[bytes, Callable[[bytes], Any]]:
    planes = toy.smooth(np.random.default_rng(0), (1, 12, 20)).astype(np.uint16) * 16
    model = toy.online(1)
    return high_depth.encode(planes, model).data, lambda made: high_depth.decode(made, planes.shape, model)


def a_chain() -> tuple[bytes, Callable[[bytes], Any]]:
    random = np.random.default_rng(0)
    batch = np.stack([toy.smooth(random, (3, 8, 8)) for _ in range(2)])
    model = toy.agave(toy.AGAVE["two"])
    return chain.encode_chain(batch, model).payload, lambda made: chain.decode_chain(made, batch.shape, model)


def a_graphic() -> tuple[bytes, Callable[[bytes], Any]]:
    """Three blocks or more."""
    planes, coder = toy.smooth(np.random.default_rng(0), (1, 8, 9)), GraphicsCoder()
    (reduced,) = reduction.reductions(planes, 8, None)

    def decode(made: bytes) -> np.ndarray:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graphics, "BLOCK_DECISIONS", 200)
            return coder.decode(made, planes.shape, 8, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphics, "BLOCK_DECISIONS", 200)
        return coder.encode(reduced, 0, 0).data, decode


PLACES = {
    a_file: 7,  # width, height, metadata, two entries, two payloads
    an_index: 3 + 1 + 8 + 6,  # start and two lengths; blocks; two entries; names
    a_text: 6,
    changes: 4,
    a_photograph: 7,  # head, changes, weights, two sides of a tile, two tiles
    sixteen_bits: 5,
    a_chain: 2,
    a_graphic: 3,  # blocks, words of all but the last
}


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_padding_at_every_place(make: Callable[[], tuple[bytes, Callable[[bytes], Any]]], monkeypatch) -> None:
    """Every number of a payload is padded in turn while it is written; what follows it, lengths and CRCs, fits."""
    plain, count, target = varint.write, 0, -1

    def write(value: int) -> bytes:
        nonlocal count
        data, count = plain(value), count + 1
        return data[:-1] + bytes([data[-1] | 128, 0]) if count - 1 == target else data

    monkeypatch.setattr(varint, "write", write)
    good, decode = make()
    decode(good)
    total = count
    assert total >= PLACES[make]
    for place in range(total):
        count, target = 0, place
        broken, _ = make()
        assert broken != good
        with pytest.raises(GmcFormatError, match="padding"):
            decode(broken)
