# SPDX-License-Identifier: MIT
"""The fuzz targets run everywhere: seeds decode, and what chance makes of them gives a typed error at worst."""

from __future__ import annotations

import struct

import files
import images
import nets
import numpy as np
import payloads
import pytest
import run
from entry import Entry
from samples import random_planes, with_chunks

from gmcodec.errors import GmcError, GmcFormatError, ImageReadError, UnsupportedImageError
from gmcodec.image import metadata, reading, writing
from gmcodec.image.ledger import account
from gmcodec.image.metadata import Chunk, Tag
from gmcodec.image.planes import Planes

MODULES = {"nets": nets, "payloads": payloads, "files": files, "images": images}
ENTRIES = [entry for module in MODULES.values() for entry in module.ENTRIES]
each = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_every_entry_is_run():
    names = {module: tuple(entry.name for entry in MODULES[module].ENTRIES) for module in MODULES}
    assert run.ENTRY_NAMES == names


@each
def test_seeds_decode(entry: Entry):
    decoded = 0
    for seed in entry.seeds():
        try:
            entry.decode(seed)
            decoded += 1
        except UnsupportedImageError:  # a file format that does not hold all
            assert entry.name in ("metadata", "image")
    assert decoded


@each
def test_changed_seeds_decode_or_give_a_typed_error(entry: Entry):
    random, seeds = np.random.default_rng(0), list(entry.seeds())
    for number in random.permutation(len(seeds))[:25]:
        changed = bytearray(seeds[number])
        for _ in range(random.integers(1, 4)):
            changed[random.integers(len(changed))] = random.integers(256)
        for data in (bytes(changed), bytes(changed[: random.integers(len(changed))])):
            try:
                entry.decode(data)
            except GmcError:
                pass


# -- what was found --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"x", bytes(12), struct.pack(">IIBBBBB", 9, 5, 8, 2, 0, 0, 0), bytes(14)])
def test_a_second_header_of_a_png_is_refused(body: bytes):
    raw = with_chunks(writing.write_png(random_planes("RGB")), (b"IHDR", body))
    with pytest.raises(ImageReadError, match="two IHDR"):
        reading.read(raw)


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"tRNS", b"ABCD"])
def test_metadata_cannot_hold_chunks_that_change_the_picture(kind: bytes):
    chunks = metadata.pack({Tag.CHUNKS: metadata.pack_chunks([Chunk(metadata.BEFORE_PALETTE, kind, b"\0\0" * 3)])})
    planes = Planes(random_planes("RGB").data, "RGB", chunks)
    for refused in (writing.write_png, reading.to_image):
        with pytest.raises(GmcFormatError, match=kind.decode()):
            refused(planes)


@pytest.mark.parametrize("bits", [0, 3, 255])
def test_an_account_of_a_png_without_a_valid_header_does_not_raise(bits: int):
    raw = bytearray(with_chunks(writing.write_png(random_planes("L")), (b"bKGD", b"\0\1")))
    raw[24] = bits
    assert account("PNG", bytes(raw)).losses
