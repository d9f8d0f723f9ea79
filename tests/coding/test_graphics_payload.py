# SPDX-License-Identifier: MIT
"""Payloads of graphics: round trips, blocks, costs, progress, damage (see tests/hostile/README.md)."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import text_picture

import gmcodec
from gmcodec import codec, costs, native
from gmcodec.coders import GraphicsCoder
from gmcodec.coding import graphics, reduction
from gmcodec.coding.autoregressive import Payload
from gmcodec.coding.reduction import CHANNELS, ORDERED, TABLE, Reduced, reductions
from gmcodec.errors import GmcFormatError, TruncatedFileError, UnsupportedImageError
from gmcodec.formats import gmc, varint
from gmcodec.formats.gmc import Header, Part
from gmcodec.image import metadata
from gmcodec.image.metadata import Tag
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes
from gmcodec.models.graphics import config
from gmcodec.models.graphics.config import BILEVEL, CONTEXT_SETS, GUESSING, max_bucket_bits

pytestmark = pytest.mark.native
CODER = GraphicsCoder()
ROUNDING_BYTES = 16  # between the estimate and the payload: its first bytes, numbers of words, the coder's state
FLAG, SIZES, HEAD = 0, 1, 2  # where the parts of a payload begin


def picture(mode: str, size: tuple[int, int] = (14, 19), colours: int = 5, seed: int = 0) -> Planes:
    """Glyphs and specks of a few colours; a palette has two entries fewer than there are indices."""
    spec, random = MODES[mode], np.random.default_rng(seed)
    glyphs = random.integers(0, colours, (3, 4, 5))
    rows = [np.concatenate([glyphs[i] for i in random.integers(0, 3, -(-size[1] // 5))], 1) for _ in range(3)]
    page = np.concatenate(rows * (-(-size[0] // 12)))[: size[0], : size[1]] * (random.random(size) < 0.95)
    top = {1: 2, 8: 256, 16: 65536}[spec.depth]
    table = np.sort(random.integers(0, top, (spec.channels, colours)))
    dtype = np.uint16 if spec.depth == 16 else np.uint8
    data = (page[None] if mode == "P" else table[:, page]).astype(dtype)
    return Planes(data, mode, palette_of(colours - 2, seed) if mode == "P" else ())


def palette_of(entries: int, seed: int = 0) -> tuple[tuple[int, bytes], ...]:
    """Metadata with a palette."""
    colours = np.random.default_rng(seed).integers(0, 256, 3 * entries).astype(np.uint8)
    return metadata.pack({Tag.PALETTE: colours.tobytes()})


def reduced_of(planes: Planes, kind: int | None = None) -> Reduced:
    """The first reduction of an image, or the one of a kind."""
    found = reductions(planes.data, planes.depth, metadata.colours(planes.metadata))
    return next(reduced for reduced in found if kind in (None, reduced.kind))


def decode(payload: bytes, planes: Planes, **others: Any) -> np.ndarray:
    colours = metadata.colours(planes.metadata)
    return CODER.decode(payload, planes.data.shape, planes.depth, colours, **others)


def file_of(planes: Planes, payload: bytes, **others: Any) -> bytes:
    """A file of an image with a payload of graphics."""
    crc = gmc.pixels_crc(planes.data)
    part = Part(graphics.METHOD, planes.channels, payload)
    header = Header(MODES[planes.mode].id, planes.width, planes.height, crc, planes.metadata, (part,))
    return gmc.pack(replace(header, **others))


def graphics_file(planes: Planes, effort: str = "default", progress: Any = graphics.ignore) -> codec.Encoded:
    return codec.encode_planes(planes, code="graphics", effort=effort, threads=1, progress=progress)


# -- round trips -----------------------------------------------------------------------------------------------


def check(planes: Planes, reduced: Reduced, contexts: int, guessing: int) -> Payload:
    """Encode and decode; progress counts every pixel once."""
    told: list[list[int]] = [[], []]
    made = CODER.encode(reduced, contexts, guessing, told[0].append)
    again = decode(made.data, planes, progress=told[1].append)
    assert again.dtype == planes.data.dtype
    assert again.flags.writeable
    assert np.array_equal(again, planes.data)
    assert [sum(counts) for counts in told] == [planes.data[0].size] * 2
    assert abs(len(made.data) - made.estimated_bits / 8) <= ROUNDING_BYTES
    return made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(14, 19), (1, 1), (1, 9), (9, 1)])
def test_every_mode_comes_back_with_all_contexts_and_guesses(mode, size):
    planes = picture(mode, size)
    for reduced in reductions(planes.data, planes.depth, metadata.colours(planes.metadata)):
        for (number, contexts), guessing in product(enumerate(CONTEXT_SETS), GUESSING):
            if contexts != BILEVEL or reduced.is_bilevel:
                check(planes, reduced, number, guessing)


@pytest.mark.parametrize("mode", MODES)
def test_files_of_every_mode_come_back(mode):
    planes, sizes = picture(mode), []
    for effort in ("fast", "default", "best"):
        made = graphics_file(planes, effort)
        assert [name for name, *_ in made.parts] == ["graphics"]
        assert made.parts[0][1] == planes.channels
        assert codec.decode_planes(made.data) == planes
        assert abs(made.parts[0][2] - made.estimated_bits / 8) <= ROUNDING_BYTES
        sizes.append(len(made.data))
    assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(MODES)), st.tuples(st.integers(1, 30), st.integers(1, 30)), st.integers(3, 300),
    st.integers(0, 99), st.data(),
)  # fmt: skip
def test_round_trip(mode, size, colours, seed, data):
    planes = picture(mode, size, min(colours, 258 if mode == "P" else 1000), seed)
    found = reductions(planes.data, planes.depth, metadata.colours(planes.metadata))
    if found:
        reduced = data.draw(st.sampled_from(found))
        sets = [n for n, contexts in enumerate(CONTEXT_SETS) if contexts != BILEVEL or reduced.is_bilevel]
        check(planes, reduced, data.draw(st.sampled_from(sets)), data.draw(st.sampled_from(GUESSING)))


def test_larger_pictures_come_back_in_several_calls(monkeypatch):
    planes = Planes(text_picture(90, 150), "RGB")
    monkeypatch.setattr(graphics, "CALL_PIXELS", 1000)
    made = check(planes, reduced_of(planes, CHANNELS), 0, 2)
    assert len(made.data) < planes.data.size / 10
    monkeypatch.undo()
    assert CODER.encode(reduced_of(planes, CHANNELS), 0, 2).data == made.data


def test_many_values_of_sixteen_bits_are_no_graphic():
    planes = Planes(np.arange(400, dtype=np.uint16).reshape(1, 20, 20), "I;16")
    with pytest.raises(UnsupportedImageError, match="many values"):
        graphics_file(planes)


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "I;16"])
def test_every_instruction_set_makes_the_same_bytes(mode, monkeypatch):
    planes, made = picture(mode, (30, 40)), set()
    for isa in native.isas():
        monkeypatch.setenv(native.ISA_VARIABLE, isa)
        made.add(graphics_file(planes, "best").data)
        assert all(codec.decode_planes(data) == planes for data in made)
    assert len(made) == 1


# -- blocks ----------------------------------------------------------------------------------------------------


def decisions_of(reduced: Reduced, contexts: int, guessing: int) -> int:
    """How many decisions an image takes."""
    model = CODER.model.open(native.fill_canvas(reduced.planes), CODER.settings(reduced, contexts, guessing))
    return len(model.encode(0, reduced.planes[0].size)[1])


@pytest.mark.parametrize("calls", [1, 7, 1 << 14])
def test_several_blocks(calls, monkeypatch):
    planes = picture("RGBA", (20, 30))
    reduced, whole = reduced_of(planes, CHANNELS), CODER.encode(reduced_of(planes, CHANNELS), 1, 1)
    count = decisions_of(reduced, 1, 1)
    monkeypatch.setattr(graphics, "CALL_PIXELS", calls)
    for size in (count, count - 1, count // 2, 100, 1):
        monkeypatch.setattr(graphics, "BLOCK_DECISIONS", size)
        made = CODER.encode(reduced, 1, 1)
        assert varint.read(made.data, HEAD + len(reduced.head), "blocks")[0] == -(-count // size) - 1
        assert made.estimated_bits == pytest.approx(whole.estimated_bits)
        assert np.array_equal(decode(made.data, planes), planes.data)
    monkeypatch.setattr(graphics, "BLOCK_DECISIONS", 99)
    with pytest.raises(GmcFormatError, match="do not end where its pixels do"):
        decode(made.data, planes)


# -- palettes --------------------------------------------------------------------------------------------------


def test_similar_colours_of_a_palette_are_neighbours():
    """A slope that a shuffled palette hides is as small as if the palette were in order, or nearly."""
    slope = (np.add.outer(np.arange(40), np.arange(50)) * 2 % 200).astype(np.uint8)
    order = np.random.default_rng(0).permutation(200).astype(np.uint8)
    grey = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 3, 1)
    shuffled = np.empty_like(grey)
    shuffled[order] = grey
    sizes = {}
    for name, colours, indices in (("sorted", grey, slope), ("shuffled", shuffled, order[slope])):
        tags = metadata.pack({Tag.PALETTE: colours.tobytes()})
        planes = Planes(indices[None], "P", tags)
        sizes[name] = len(check(planes, reduced_of(planes, ORDERED), 1, 0).data)
        sizes[name, "as it is"] = len(check(planes, reduced_of(planes, CHANNELS), 1, 0).data)
    assert sizes["sorted"] == sizes["shuffled"] < 0.5 * sizes["shuffled", "as it is"]


def test_another_palette_in_the_same_order_changes_nothing():
    planes = picture("P", colours=7)
    payload = CODER.encode(reduced_of(planes, ORDERED), 1, 0).data
    tags = dict(planes.metadata)
    brighter = np.frombuffer(tags[Tag.PALETTE][1:], np.uint8) // 2 * 2
    order = np.argsort(brighter.reshape(-1, 3).astype(int) @ [3, 6, 1], kind="stable")
    assert np.array_equal(order, np.argsort(metadata.colours(planes.metadata).astype(int) @ [3, 6, 1], kind="stable"))
    other = metadata.pack({Tag.PALETTE: brighter.tobytes()})
    assert np.array_equal(codec.decode_planes(file_of(planes, payload, metadata=other)).data, planes.data)


@pytest.mark.parametrize("kind", [ORDERED, CHANNELS])
def test_a_changed_palette_gives_other_indices_or_a_typed_error(kind):
    planes = picture("P", colours=12)
    payload = CODER.encode(reduced_of(planes, kind), 1, 0).data
    good = [codec.decode_planes(file_of(planes, payload)).data]
    assert np.array_equal(good[0], planes.data)
    for entries in (1, 2, 9, 10, 256):
        changed = Planes(planes.data, "P", palette_of(entries, 3))
        found = decode(payload, changed)
        assert found.shape == planes.data.shape
        if not np.array_equal(found, planes.data):
            with pytest.raises(GmcFormatError, match="checksum"):
                codec.decode_planes(file_of(planes, payload, metadata=changed.metadata))
    assert decode(payload, Planes(planes.data, "P")).shape == planes.data.shape  # no palette


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\1\2", b"\0" + bytes(771), b"\1damaged", b"\2\1\2\3"])
def test_a_palette_that_is_none_is_told(value):
    planes = picture("P")
    payload = CODER.encode(reduced_of(planes, ORDERED), 1, 0).data
    with pytest.raises(GmcFormatError, match="PALETTE"):
        codec.decode_planes(file_of(planes, payload, metadata=((Tag.PALETTE, value),)))


# -- costs and progress ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(35, 53), (1, 1)])
def test_a_map_adds_up_to_the_estimate(mode, size):
    made, told = graphics_file(picture(mode, size)), []
    found = gmcodec.cost_map(made.data, threads=1, progress=told.append)
    assert (found.shape, found.dtype) == (size, np.float32)
    assert found.min() >= 0
    assert float(found.sum(dtype=np.float64)) == pytest.approx(made.estimated_bits, rel=1e-5)
    assert sum(told) == 2 * found.size
    assert costs.spread_evenly(made.data) == []


def test_a_noisy_half_costs_more():
    data = np.zeros((3, 40, 64), np.uint8)
    data[:, :, 32:] = np.random.default_rng(0).integers(0, 256, (3, 40, 32))
    made = graphics_file(Planes(data, "RGB"))
    flat, noisy = np.split(gmcodec.cost_map(made.data), 2, 1)
    assert noisy.mean() > 23
    assert flat.mean() < 1


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_progress_can_stop_the_work(after, monkeypatch):
    monkeypatch.setattr(graphics, "CALL_PIXELS", 50)
    planes = picture("RGB")
    made, calls = graphics_file(planes), 0

    def stop(pixels: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stopped

    for work in (
        lambda: graphics_file(planes, progress=stop),
        lambda: CODER.encode(reduced_of(planes), 1, 1, stop),
        lambda: codec.decode_planes(made.data, progress=stop),
        lambda: gmcodec.cost_map(made.data, progress=stop),
    ):
        calls = 0
        with pytest.raises(Stopped):
            work()
        assert calls == after + 1


def test_costs_can_be_stopped_while_they_are_found():
    made, told = graphics_file(picture("RGB")), []

    def stop(pixels: int) -> None:
        told.append(pixels)
        if sum(told) > 14 * 19:
            raise Stopped

    with pytest.raises(Stopped):
        gmcodec.cost_map(made.data, progress=stop)


# -- damage (see tests/hostile/README.md) ----------------------------------------------------------------------


def payloads() -> dict[str, tuple[Planes, bytes]]:
    """A small payload of each kind."""
    size, found = (6, 9), {}
    for name, mode, kind, contexts, guessing in (
        ("channels", "RGBA", CHANNELS, 0, 2),
        ("table", "RGB;16", TABLE, 1, 1),
        ("ordered", "P", ORDERED, 1, 0),
        ("bilevel", "1", CHANNELS, 2, 0),
        ("grey", "L", CHANNELS, 0, 1),
    ):
        planes = picture(mode, size)
        found[name] = planes, CODER.encode(reduced_of(planes, kind), contexts, guessing).data
    constants = Planes(np.concatenate([picture("L", size).data, np.full((2, *size), 9, np.uint8)]), "RGB")
    found["constants"] = constants, CODER.encode(reduced_of(constants, CHANNELS), 1, 2).data
    return found


PAYLOADS = payloads()
each = pytest.mark.parametrize("name", PAYLOADS)


def words_of(payload: bytes, planes: Planes) -> int:
    """Where the words of a payload of one block begin."""
    *_, size = reduction.read_head(payload[FLAG] >> 4, memoryview(payload)[HEAD:], planes.data.shape, planes.depth)
    blocks, at = varint.read(payload, HEAD + size, "blocks")
    assert blocks == 0
    return at


def survives(payload: bytes, planes: Planes) -> bool:
    """Whether damaged bytes decode to something of the right shape; only the typed error passes."""
    try:
        found = decode(payload, planes)
    except GmcFormatError:
        return False
    assert found.shape == planes.data.shape
    assert found.dtype == planes.data.dtype
    assert int(found.max()) >> planes.depth == 0
    return True


@each
def test_every_truncation_of_a_payload(name):
    """Words that are missing count as zeros, which may be decisions of another image.  Other cuts are refused."""
    planes, payload = PAYLOADS[name]
    assert survives(payload, planes)
    words = words_of(payload, planes)
    refused = [cut for cut in range(len(payload)) if not survives(payload[:cut], planes)]
    assert {cut for cut in range(len(payload)) if cut < words or (cut - words) % 2} <= set(refused)
    for cut in set(range(len(payload))) - set(refused):
        assert not np.array_equal(decode(payload[:cut], planes), planes.data)


@each
def test_words_behind_the_last_pixel_are_refused(name):
    planes, payload = PAYLOADS[name]
    words = words_of(payload, planes)
    for more in (b"\0", b"\0\0", b"\1\0", b"\xff\xff" * 20):
        assert not survives(payload + more, planes)
        assert not survives(payload[:words] + more + payload[words:], planes)


@each
def test_flipped_bits_of_a_payload(name):
    planes, payload = PAYLOADS[name]
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        survives(bytes(damaged), planes)


@each
def test_flipped_bits_of_several_blocks(name, monkeypatch):
    monkeypatch.setattr(graphics, "BLOCK_DECISIONS", 120)
    planes, _ = PAYLOADS[name]
    payload = CODER.encode(reduced_of(planes), 0, 0).data
    for bit in range(0, 8 * len(payload), 3):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        survives(bytes(damaged), planes)
    for cut in range(len(payload)):
        survives(payload[:cut], planes)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(MODES)), st.binary(max_size=60), st.sampled_from([(1, 1), (3, 4), (2, 40)]))
def test_random_payloads(mode, payload, size):
    planes = picture(mode, size)
    survives(payload, planes)
    reduced = reduced_of(planes)
    good = CODER.encode(reduced, 0, 0).data
    survives(good[: HEAD + len(reduced.head)] + payload, planes)


def changed(payload: bytes, at: int, value: int) -> bytes:
    return payload[:at] + bytes([value]) + payload[at + 1 :]


def test_first_bytes_that_nobody_writes():
    planes, payload = PAYLOADS["grey"]
    for flags in (1 << 6, 1 << 7):  # bits that mean nothing
        with pytest.raises(GmcFormatError, match="first byte"):
            decode(changed(payload, FLAG, payload[FLAG] | flags), planes)
    for flags in (3, 3 << 2):  # sets of contexts, ways of guessing that there are not
        with pytest.raises(GmcFormatError, match="there are no contexts"):
            decode(changed(payload, FLAG, payload[FLAG] | flags), planes)
    with pytest.raises(GmcFormatError, match="reduction 3 is for graphics with a net"):
        decode(changed(payload, FLAG, payload[FLAG] | 3 << 4), planes)
    with pytest.raises(GmcFormatError, match="have no templates"):
        decode(changed(payload, FLAG, 2), planes)


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (40, 50)])
def test_tables_that_an_image_cannot_have_are_not_allocated(size, monkeypatch):
    """Up to 128 GiB are claimed."""
    planes = picture("L", size)
    payload = CODER.encode(reduced_of(planes), 0, 0).data
    opened = []
    monkeypatch.setattr(native, "Graphics", lambda *others, **options: opened.append(options))
    allowed = range(10, max_bucket_bits(planes.data.size) + 1)
    for bits in set(range(32)) - set(allowed):
        with pytest.raises(GmcFormatError, match="cannot have a table"):
            decode(changed(payload, SIZES, payload[SIZES] & ~31 | bits), planes)
    assert not opened


def claims() -> dict[str, bytes]:
    """Heads of a grey image that claim what is not there."""
    head = bytes([0, 10 | 7 << 5])
    large = varint.write(1 << 40)
    return {
        "blocks": head + large + bytes(40),
        "most blocks": head + varint.write(2**63 - 1) + bytes(40),
        "blocks of a long payload": head + varint.write(1 << 20) + bytes(1 << 18),
        "words": head + b"\1" + large + bytes(40),
        "words of all blocks": head + b"\3" + 3 * varint.write(2**63 - 1) + bytes(40),
        "a word more": head + b"\1" + varint.write(21) + bytes(40),
    }


@pytest.mark.parametrize("name", claims())
def test_absurd_claims_allocate_nothing(name):
    payload, planes = claims()[name], picture("L", (6, 9))
    tracemalloc.start()
    with pytest.raises(TruncatedFileError):
        decode(payload, planes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_blocks_of_no_words_beyond_the_pixels_are_refused():
    planes, payload = PAYLOADS["grey"]
    number = varint.read(payload, HEAD, "blocks")[0]
    assert number == 0
    words = (len(payload) - HEAD - 1) // 2
    for sizes in ([words, 0], [0, words], [words, 0, 0]):
        numbers = varint.write(len(sizes) - 1) + b"".join(map(varint.write, sizes[:-1]))
        assert not survives(payload[:HEAD] + numbers + payload[HEAD + 1 :], planes)


def test_a_payload_that_ends_inside_a_word():
    planes, payload = PAYLOADS["grey"]
    with pytest.raises(GmcFormatError, match="inside a word"):
        decode(payload + b"\0", planes)


@pytest.mark.parametrize("size", [(140_000_000, 1), (2**31 - 1, 2)])
def test_images_whose_canvas_would_be_too_large_are_refused_before_it_is_allocated(size):
    """Each row has margins, so narrow images need far more memory than pixels."""
    payload = PAYLOADS["grey"][1]
    header = Header(MODES["L"].id, size[1], size[0], 0, (), (Part(graphics.METHOD, 1, payload),))
    tracemalloc.start()
    with pytest.raises(GmcFormatError, match="cannot be a graphic"):
        codec.decode_planes(gmc.pack(header), max_pixels=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_samples_beyond_the_depth():
    """A file of one bit a sample with other samples, every checksum made to fit."""
    for data in (picture("L").data, np.full((1, 2, 3), 2, np.uint8)):
        payload = CODER.encode(reductions(data, 8, None)[0], 0, 0).data
        header = Header(
            MODES["1"].id, data.shape[2], data.shape[1], gmc.pixels_crc(data), (), (Part(graphics.METHOD, 1, payload),)
        )
        with pytest.raises(GmcFormatError, match="depth is 1"):
            codec.decode_planes(gmc.pack(header))
        assert np.array_equal(CODER.decode(payload, data.shape, 8, None), data)


def test_ranks_beyond_the_table_are_refused():
    planes, _ = PAYLOADS["table"]
    reduced = reduced_of(planes, TABLE)
    wrong = Reduced(TABLE, reduced.head, np.full_like(reduced.planes, 200), -1)
    with pytest.raises(GmcFormatError, match="rank 200 is beyond"):
        decode(CODER.encode(wrong, 0, 0).data, planes)


def test_a_part_of_other_channels():
    """Channels may come from different parts; what a payload is for is not written in it."""
    planes, payload = PAYLOADS["grey"]
    header = gmc.unpack(file_of(planes, payload))
    three = replace(header, mode_id=MODES["RGB"].id, parts=tuple(replace(header.parts[0]) for _ in range(3)))
    data = np.repeat(planes.data, 3, 0)
    found = codec.decode_planes(gmc.pack(replace(three, pixels_crc=gmc.pixels_crc(data))))
    assert np.array_equal(found.data, data)
    for channels in (2, 3, 4):
        wrong = Planes(np.zeros((channels, 6, 9), np.uint8), {2: "LA", 3: "RGB", 4: "RGBA"}[channels])
        survives(payload, wrong)


def test_a_block_that_ends_in_a_zero_word_is_refused():
    """A reader would find the same decisions in it, so a file would have more than one form."""
    planes = Planes(text_picture(24, 30), "RGB")
    made = gmc.unpack(codec.encode_planes(planes, code="graphics").data).parts[0].payload
    with pytest.raises(GmcFormatError, match="zero word"):
        GraphicsCoder().decode(made + bytes(2), planes.data.shape, 8, None)


def test_images_whose_margins_would_take_most_of_the_memory_are_coded_otherwise(monkeypatch):
    monkeypatch.setattr(graphics, "SMALL_CANVAS", 1000)
    narrow = Planes(np.tile(np.arange(3, dtype=np.uint8)[:, None], (1, 3000, 1)), "L")
    made = codec.encode_planes(narrow)
    assert made.parts[0][0] != graphics.NAME
    assert codec.decode_planes(made.data) == narrow
    with pytest.raises(UnsupportedImageError, match="no graphic"):
        codec.encode_planes(narrow, code="graphics")
    assert codec.encode_planes(Planes(narrow.data.reshape(1, 90, 100), "L"), code="graphics").parts[0][0] == "graphics"


@pytest.mark.parametrize("contexts", range(len(CONTEXT_SETS)))
def test_images_of_every_size_get_a_table_that_they_may_have(contexts):
    for pixels in (1, 100, 10**4, 10**6, 2**23, 10**8, 2**31):
        for guessing in GUESSING:
            bits = config.bucket_bits(pixels, contexts, guessing)
            assert config.MIN_BUCKET_BITS <= bits <= max_bucket_bits(pixels)
