# SPDX-License-Identifier: MIT
"""What is left out of an image before its pixels are coded comes back; heads that nobody wrote are refused."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.coding import compressors, palette
from gmcodec.coding.reduction import (
    CHANNELS,
    NET_COLOURS,
    ORDERED,
    TABLE,
    Reduced,
    colours_of,
    expand,
    read_head,
    reductions,
)
from gmcodec.errors import GmcFormatError, TruncatedFileError

REST = b"\x03\x07what follows"


def noise(channels: int, depth: int, top: int, size: tuple[int, int] = (5, 7), seed: int = 0) -> np.ndarray:
    """Samples [C, H, W] below ``top``; no channel is constant."""
    found = np.random.default_rng(seed).integers(0, top, (channels, *size))
    found[:, 0, :2] = 0, 1
    return found.astype(np.uint16 if depth == 16 else np.uint8)


def restored(reduced: Reduced, shape: tuple[int, ...], depth: int, colours: np.ndarray | None = None) -> np.ndarray:
    """The image that a decoder makes of a reduction; other bytes follow its head."""
    data = memoryview(reduced.head + REST)
    channels, green, size = read_head(reduced.kind, data, shape, depth)
    assert (channels, green, size) == (len(reduced.planes), reduced.green, len(reduced.head))
    return expand(reduced.kind, data, reduced.planes, shape, depth, colours)


def check(planes: np.ndarray, depth: int, colours: np.ndarray | None = None) -> dict[int, Reduced]:
    """All reductions of an image, by kind; each comes back."""
    found = reductions(planes, depth, colours)
    for reduced in found:
        assert reduced.planes.dtype == np.uint8
        assert reduced.planes.max() < 1 << reduced.depth
        again = restored(reduced, planes.shape, depth, colours)
        assert again.dtype == planes.dtype
        assert np.array_equal(again, planes)
    assert len({reduced.kind for reduced in found}) == len(found)
    return {reduced.kind: reduced for reduced in found}


def masks(count: int) -> list[tuple[int, ...]]:
    """All sets of channels."""
    return [some for size in range(count + 1) for some in combinations(range(count), size)]


# -- colours for a net -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("alpha", ["varied", "constant"])
@pytest.mark.parametrize("grey", [False, True])
def test_colours_for_a_net_come_back_in_their_order(count, alpha, grey):
    planes = noise(count, 8, 256)
    if count in (2, 4) and alpha == "constant":
        planes[-1] = 7
    if grey and count > 2:
        planes[1:3] = planes[0]
    found, has_alpha = colours_of(planes), count in (2, 4) and alpha == "varied"
    colours = 3 if count > 2 and not grey else 1
    assert np.array_equal(restored(found, planes.shape, 8), planes)
    assert np.array_equal(found.planes[has_alpha:], planes[:colours])
    assert (found.colours, len(found.planes), found.green) == (
        colours, colours + has_alpha, int(has_alpha) if colours == 3 else -1,
    )  # fmt: skip
    assert len(found.head) == (count > 1) + (count in (2, 4) and alpha == "constant")


@pytest.mark.parametrize(("channels", "flags"), [(3, 1), (2, 2), (4, 4), (3, 128)])
def test_colours_that_cannot_be_left_out_for_a_net(channels, flags):
    with pytest.raises(GmcFormatError, match="cannot leave out"):
        read_head(NET_COLOURS, memoryview(bytes([flags]) + REST), (channels, 3, 4), 8)


@pytest.mark.parametrize(("channels", "head"), [(2, b""), (3, b""), (4, b"\1")])
def test_heads_of_colours_that_end_early(channels, head):
    with pytest.raises(TruncatedFileError if head else GmcFormatError):
        read_head(NET_COLOURS, memoryview(head), (channels, 3, 4), 8)


# -- channels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("count", "constant"), [(count, some) for count in range(1, 5) for some in masks(count)])
def test_constant_channels_are_left_out_wherever_they_are(count, constant, depth):
    planes = noise(count, depth, 200)
    for channel in constant:
        planes[channel] = 65535 - channel if depth == 16 and len(constant) < count else 255 - channel
    found = check(planes, depth)[CHANNELS]
    left = max(1, count - len(constant))  # one is left, even if it is constant
    assert len(found.planes) == left
    assert len(found.head) == (count > 1) * (1 + (count - left) * depth // 8)
    coloured = count >= 3 and not set(constant) & {0, 1, 2}
    assert found.green == (left - 3 if coloured else -1)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", ["none", "constant", "varied"])
def test_grey_colours_are_coded_once(alpha, depth):
    grey = noise(1, depth, 256)
    planes = np.concatenate([grey] * 3 + [noise(1, depth, 256, seed=1)] * (alpha == "varied"))
    if alpha == "constant":
        planes = np.concatenate([planes, np.full_like(grey, 255)])
    found = check(planes, depth)[CHANNELS]
    assert found.green == -1
    assert np.array_equal(found.planes[-1], grey[0])
    assert len(found.planes) == 1 + (alpha == "varied")


def test_two_channels_that_are_equal_are_no_colours():
    planes = np.repeat(noise(1, 8, 256), 2, 0)
    assert len(check(planes, 8)[CHANNELS].planes) == 2


def test_alpha_is_coded_first_and_green_before_red():
    planes = noise(4, 8, 256)
    assert np.array_equal(check(planes, 8)[CHANNELS].planes, planes[[3, 1, 0, 2]])
    assert np.array_equal(check(planes[:3], 8)[CHANNELS].planes, planes[[1, 0, 2]])
    assert np.array_equal(check(planes[:2], 8)[CHANNELS].planes, planes[[1, 0]])


def test_these_heads_are_part_of_the_format():
    planes = np.zeros((4, 1, 2), np.uint8)
    planes[:, 0] = (1, 2), (5, 5), (3, 4), (9, 9)
    assert check(planes, 8)[CHANNELS].head.hex() == "0a0509"
    assert check(planes.astype(np.uint16) * 1, 16)[CHANNELS].head.hex() == "0a05000900"
    assert check(np.repeat(planes[:1], 3, 0), 8)[CHANNELS].head.hex() == "10"
    assert check(planes[:1], 8)[CHANNELS].head == b""
    assert check(planes, 8)[TABLE].head.hex() == "00010101050003010900"


def test_sixteen_bits_are_left_out_where_values_are_few_or_small():
    many = noise(1, 16, 65536, (30, 30))
    assert reductions(many, 16, None) == []
    assert set(check(many % 300, 16)) == set()
    assert set(check(many % 256, 16)) == {CHANNELS, TABLE}
    assert set(check(many // 300 * 300, 16)) == {TABLE}
    assert set(check(np.full((3, 4, 5), 40000, np.uint16), 16)) == {TABLE}


# -- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("colours", [1, 2, 3, 100, 256])
def test_few_colours_get_a_table(colours, channels, depth):
    random = np.random.default_rng(colours)
    entries = random.integers(0, 1 << depth, (channels, colours))
    entries[0] = random.permutation(1 << depth)[:colours]  # so that no two are equal
    indices = np.concatenate([np.arange(colours), random.integers(0, colours, 400 - colours)]).reshape(20, 20)
    planes = entries[:, indices].astype(np.uint16 if depth == 16 else np.uint8)
    found = reductions(planes, depth, None)
    check(planes, depth)
    if channels == 1 and depth == 8:
        assert [reduced.kind for reduced in found] == [CHANNELS]
        return
    assert found[0].kind == TABLE
    assert found[0].depth == max(1, (colours - 1).bit_length())
    assert np.array_equal(np.unique(found[0].planes), np.arange(colours))


def test_more_colours_have_no_table():
    planes = np.zeros((3, 1, 257), np.uint8)
    planes[0, 0], planes[1, 0, 256:] = np.arange(257) % 256, 1
    assert set(check(planes, 8)) == {CHANNELS}
    assert set(check(planes[:, :, :256].copy(), 8)) == {CHANNELS, TABLE}


def test_colours_are_in_the_order_of_alpha_then_luminance():
    table = np.array([[200, 0, 0, 255, 9], [0, 0, 250, 255, 9], [0, 255, 0, 255, 9], [255, 255, 255, 0, 0]], np.uint8)
    for channels, light, alpha in ((4, table[:3], table[3]), (3, table[:3], None), (2, table[:1], table[3])):
        picture = np.concatenate([light, *([table[3:]] if alpha is not None else [])])[:, None]
        assert len(picture) == channels
        ranks = check(picture, 8)[TABLE].planes[0, 0].astype(int)
        weights = np.array([3, 6, 1] if len(light) == 3 else [1])
        key = weights @ light.astype(int) + (0 if alpha is None else 10**6 * alpha.astype(int))
        assert (np.diff(key[np.argsort(ranks)]) >= 0).all()


# -- palettes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [1, 2, 7, 255, 256])
def test_indices_are_ordered_by_the_palette_and_those_beyond_it_come_last(entries):
    colours = np.random.default_rng(entries).integers(0, 256, (entries, 3)).astype(np.uint8)
    planes = np.arange(256, dtype=np.uint8).reshape(1, 8, 32)
    found = check(planes, 8, colours)
    assert list(found) == [ORDERED, CHANNELS]
    ranks = found[ORDERED].planes.ravel()
    light = colours[np.argsort(ranks[:entries])].astype(int) @ [3, 6, 1]
    assert (np.diff(light) >= 0).all()
    assert np.array_equal(ranks[entries:], np.arange(entries, 256))


def test_equal_colours_of_a_palette_keep_their_order():
    colours = np.array([[9, 9, 9], [0, 0, 0], [9, 9, 9], [0, 0, 0]], np.uint8)
    found = check(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), 8, colours)[ORDERED]
    assert found.planes.ravel().tolist() == [2, 0, 3, 1]


def test_a_decoder_without_a_palette_takes_ranks_for_indices():
    planes = np.arange(256, dtype=np.uint8).reshape(1, 8, 32)
    assert np.array_equal(restored(Reduced(ORDERED, b"", planes, -1), planes.shape, 8), planes)


def test_the_picture_itself_is_not_changed():
    for planes, colours in ((noise(4, 8, 3), None), (noise(1, 8, 7), np.zeros((7, 3), np.uint8))):
        before = planes.copy()
        check(planes, 8, colours)
        assert np.array_equal(planes, before)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([8, 16]), st.integers(1, 4), st.tuples(st.integers(1, 5), st.integers(1, 6)), st.data())
def test_all_images_come_back(depth, count, size, data):
    top = data.draw(st.sampled_from([1, 2, 5, 256, 257, 1 << depth]).filter(lambda n: n <= 1 << depth))
    planes = noise(count, depth, max(2, top), size=(5, 6), seed=data.draw(st.integers(0, 99)))[:, : size[0], : size[1]]
    for channel in range(count):
        source = data.draw(st.sampled_from(["its own", "constant", "the first"]))
        if source != "its own":
            planes[channel] = planes[0] if source == "the first" else data.draw(st.integers(0, (1 << depth) - 1))
    colours = None
    if (count, depth) == (1, 8) and data.draw(st.booleans()):
        colours = np.random.default_rng(top).integers(0, 9, (data.draw(st.integers(1, 256)), 3)).astype(np.uint8)
    check(np.ascontiguousarray(planes), depth, colours)


# -- heads that nobody wrote (see tests/hostile/README.md) -----------------------------------------------------


def heads() -> dict[str, tuple[Reduced, tuple[int, ...], int]]:
    varied, deep = noise(4, 8, 256), noise(3, 16, 256)
    varied[1], deep[0] = 5, 40000
    tables = {"table": noise(3, 16, 2), "deflated table": np.tile(np.arange(200, dtype=np.uint8), (4, 1, 1))}
    assert check(tables["deflated table"], 8)[TABLE].head[0] == palette.DEFLATED_TABLE
    return {
        "constants": (check(varied, 8)[CHANNELS], varied.shape, 8),
        "constants of 16 bits": (check(deep, 16)[CHANNELS], deep.shape, 16),
        **{
            name: (check(planes, 8 * planes.itemsize)[TABLE], planes.shape, 8 * planes.itemsize)
            for name, planes in tables.items()
        },
    }


@pytest.mark.parametrize("name", heads())
def test_every_truncation_of_a_head_is_refused(name):
    reduced, shape, depth = heads()[name]
    for cut in range(len(reduced.head)):
        with pytest.raises(GmcFormatError):
            read_head(reduced.kind, memoryview(reduced.head[:cut]), shape, depth)


@pytest.mark.parametrize("name", heads())
def test_flipped_bits_of_a_head(name):
    """What is read once is read in the same way again, and gives samples of the right shape."""
    reduced, shape, depth = heads()[name]
    for bit in range(8 * len(reduced.head)):
        damaged = bytearray(reduced.head + REST)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            channels, green, size = read_head(reduced.kind, memoryview(damaged), shape, depth)
        except GmcFormatError:
            continue
        assert 1 <= channels <= shape[0]
        assert green in (-1, channels - 3)
        assert size <= len(damaged)
        planes = np.zeros((channels, *shape[1:]), np.uint8)
        found = expand(reduced.kind, memoryview(damaged), planes, shape, depth, None)
        assert found.shape == shape
        assert found.dtype == (np.uint16 if depth == 16 else np.uint8)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), st.binary(max_size=40), st.integers(1, 4), st.sampled_from([1, 8, 16]))
def test_random_heads(kind, data, channels, depth):
    shape, view = (channels, 3, 4), memoryview(data)
    try:
        left, _, size = read_head(kind, view, shape, depth)
        assert size <= len(data)
        assert expand(kind, view, np.full((left, 3, 4), 1, np.uint8), shape, depth, None).shape == shape
    except GmcFormatError:
        pass


@pytest.mark.parametrize(
    ("kind", "channels", "depth"),
    [(NET_COLOURS, 3, 16), (NET_COLOURS, 1, 1), (4, 1, 8), (ORDERED, 3, 8), (ORDERED, 1, 16), (ORDERED, 1, 1)],
)
def test_kinds_that_are_unknown_or_do_not_fit(kind, channels, depth):
    with pytest.raises(GmcFormatError, match="reduction"):
        read_head(kind, memoryview(REST), (channels, 3, 4), depth)


@pytest.mark.parametrize(
    ("channels", "flags"),
    [
        (2, 1 << 2), (3, 1 << 3),  # a constant channel that there is not
        (2, 3), (4, 15),  # nothing is left
        (2, 1 << 4), (3, 1 << 4 | 1), (4, 1 << 4 | 4),  # equal colours that there are not, or that are constant
        (3, 1 << 5), (4, 1 << 6), (2, 1 << 7),
    ],
)  # fmt: skip
def test_channels_that_cannot_be_left_out(channels, flags):
    for depth in (8, 16):
        with pytest.raises(GmcFormatError, match="cannot leave out"):
            read_head(CHANNELS, memoryview(bytes([flags]) + bytes(99)), (channels, 3, 4), depth)


@pytest.mark.parametrize("flags", [palette.SHARED, palette.SHARED | palette.DEFLATED_TABLE, 4, 128])
def test_forms_of_tables_that_are_unknown(flags):
    with pytest.raises(GmcFormatError, match="table"):
        read_head(TABLE, memoryview(bytes([flags, 1]) + bytes(99)), (3, 3, 4), 8)


def test_a_table_that_is_larger_than_it_says():
    """A stream that would inflate to gigabytes is stopped behind the entries that were claimed."""
    bomb = compressors.deflate(bytes(1 << 24), 9)
    with pytest.raises(GmcFormatError, match="palette table"):
        read_head(TABLE, memoryview(bytes([palette.DEFLATED_TABLE, 1]) + bomb), (3, 3, 4), 8)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1\0", bytes([palette.DEFLATED_TABLE, 1]), b"\2\1\xff\xff"])
def test_tables_that_end_early(data):
    with pytest.raises(GmcFormatError):
        read_head(TABLE, memoryview(data), (3, 3, 4), 8)


def test_a_rank_beyond_the_table():
    head = palette.encode_table(np.array([[0, 9], [0, 9], [0, 9]], np.uint8), False)
    ranks = np.array([[[0, 1, 2]]], np.uint8)
    with pytest.raises(GmcFormatError, match="rank 2 is beyond"):
        expand(TABLE, memoryview(head), ranks, (3, 1, 3), 8, None)
    assert expand(TABLE, memoryview(head), ranks // 2, (3, 1, 3), 8, None).max() == 9


def test_missing_constants_are_told_as_such():
    with pytest.raises(TruncatedFileError, match="constants"):
        read_head(CHANNELS, memoryview(b"\x03\x01"), (3, 1, 1), 8)
