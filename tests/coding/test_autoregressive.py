# SPDX-License-Identifier: MIT
"""Coding planes with a pixel model: round trips, the same bytes however they are made, and hostile payloads."""

import itertools

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec import native
from gmcodec.coding import autoregressive
from gmcodec.coding.autoregressive import decode, decode_batch, encode, encode_batch, pop_words, push_words, wavefront
from gmcodec.coding.tiles import TILE_PIXELS, tile_shape, tiles
from gmcodec.errors import GmcFormatError

SIZES = [(1, 1), (1, 2), (2, 1), (3, 3), (1, 200), (200, 1), (17, 31), (32, 32)]


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return toy.smooth(np.random.default_rng(seed), shape)


def tile_count(shape: tuple[int, int, int], tile: tuple[int, int]) -> int:
    return len(tiles(shape[1], shape[2], tile))


# -- round trips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flat 0", "flat 255", "noise", "smooth"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", SIZES)
def test_round_trip_and_size(size, channels, kind):
    shape = (channels, *size)
    planes = {"noise": noise, "smooth": smooth}[kind](shape) if " " not in kind else None
    if planes is None:
        planes = np.full(shape, int(kind.split()[1]), np.uint8)
    model = toy.model(channels)
    coded = encode(planes, model)
    decoded = decode(coded.data, shape, model)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, planes)
    # words are of 32 bits, the coder's state of 64; before them a few numbers of a byte or two
    assert 8 * len(coded.data) < coded.estimated_bits + 64 + 48
    if kind != "flat 0":  # an empty stack holds any number of zeros, so those are free
        assert 8 * len(coded.data) > coded.estimated_bits - 64


def test_the_image_is_really_compressed():
    planes = smooth((3, 60, 60))
    assert encode(planes, toy.model(3)).estimated_bits < 5 * planes.size


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.data())
def test_round_trip_with_any_tiles(height, width, channels, data):
    tile = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    # no more than about 60 tiles, for time
    tile = max(tile[0], -(-height // 8)), max(tile[1], -(-width // 8))
    shape = (channels, height, width)
    planes, model = smooth(shape, height * width), toy.model(channels)
    coded = encode(planes, model, tile=tile)
    assert np.array_equal(decode(coded.data, shape, model, threads=2), planes)
    count = tile_count(shape, tile)
    assert abs(8 * len(coded.data) - coded.estimated_bits) < 64 + (32 + 24) * count


def test_a_tile_does_not_depend_on_its_neighbours():
    planes, model = smooth((3, 20, 30)), toy.model(3)
    whole = encode(planes, model, tile=(10, 30))
    words, bits = push_words(planes[None, :, 10:], model, lambda n: None)
    assert whole.data.endswith(words.astype("<u4").tobytes())
    assert np.array_equal(pop_words(words, (1, 3, 10, 30), model, lambda n: None)[0], planes[:, 10:])
    assert bits.shape == (1,)
    assert bits[0] < whole.estimated_bits


# -- the same bytes however they are made --------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> dict[int, tuple[np.ndarray, bytes]]:
    """By channels: planes and their payload from the portable instruction set."""
    made = {}
    for channels in (3, 1):
        planes = smooth((channels, 37, 41), 5)
        planes[:, 20:, 20:] = noise((channels, 17, 21))
        made[channels] = planes, encode(planes, toy.model(channels, "portable"), tile=(19, 41)).data
    return made


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", native.isas())
@pytest.mark.parametrize("channels", [3, 1])
def test_instruction_sets_and_threads_never_change_bytes(reference, channels, name, threads):
    planes, payload = reference[channels]
    model = toy.model(channels, name)
    assert encode(planes, model, threads, tile=(19, 41)).data == payload
    assert np.array_equal(decode(payload, planes.shape, model, threads), planes)


@pytest.mark.parametrize("chunk", [1, 2, 13, 100, 10**6])
def test_chunks_never_change_bytes(reference, chunk, monkeypatch):
    planes, payload = reference[3]
    monkeypatch.setattr(autoregressive, "CHUNK_PIXELS", chunk)  # 1: one wavefront at a time
    assert encode(planes, toy.model(3), tile=(19, 41)).data == payload


def test_progress_counts_every_pixel(reference):
    planes, payload = reference[3]
    for run in (
        lambda tell: encode(planes, toy.model(3), 2, tell, tile=(19, 41)),
        lambda tell: decode(payload, planes.shape, toy.model(3), 2, tell),
    ):
        counts: list[int] = []
        run(counts.append)
        assert sum(counts) == 37 * 41


def test_planes_need_not_be_contiguous():
    planes, model = smooth((3, 20, 20)), toy.model(3)
    turned = np.ascontiguousarray(planes.transpose(2, 1, 0)).transpose(2, 1, 0)
    assert not turned.flags.c_contiguous
    assert encode(turned, model).data == encode(planes, model).data


# -- batches -------------------------------------------------------------------------------------------


class Raster:
    """A model that only raster order will do for; delegates to the toy model."""

    slope = tile_coder = None

    def __init__(self, model) -> None:
        self.channels, self.canvas, self.predict = model.channels, model.canvas, model.predict


def batch_of(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 [count, *shape]: smooth images, the last one noise."""
    return np.stack([*(smooth(shape, seed) for seed in range(count - 1)), noise(shape)])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.booleans())
def test_a_batch_decodes_and_its_estimates_are_those_of_each_image_alone(count, height, width, channels, raster):
    images, model = batch_of(count, (channels, height, width)), toy.model(channels)
    used = Raster(model) if raster else model
    payload, bits = encode_batch(images, used)
    assert bits.shape == (count,)
    assert bits.dtype == np.float64
    assert np.array_equal(decode_batch(payload, images.shape, used), images)
    alone = [encode(image, model).estimated_bits for image in images]
    assert np.allclose(bits, alone, rtol=1e-12)
    assert abs(8 * len(payload) - bits.sum()) < 64 + 32


def test_a_batch_of_one_is_a_tile():
    planes, model = smooth((3, 20, 30)), toy.model(3)
    payload, bits = encode_batch(planes[None], model)
    assert encode(planes, model).data.endswith(payload)
    assert bits[0] == encode(planes, model).estimated_bits


@pytest.mark.parametrize("name", native.isas())
@pytest.mark.parametrize("channels", [3, 1])
def test_instruction_sets_and_chunks_never_change_a_batch(channels, name, monkeypatch):
    images = batch_of(5, (channels, 9, 11))
    payload, bits = encode_batch(images, toy.model(channels, "portable"))
    model = toy.model(channels, name)
    for chunk in (1, 60, 10**6):
        monkeypatch.setattr(autoregressive, "CHUNK_PIXELS", chunk)
        assert encode_batch(images, model)[0] == payload
        assert np.allclose(encode_batch(images, model)[1], bits, rtol=1e-12)
    assert np.array_equal(decode_batch(payload, images.shape, model), images)


def test_damaged_batches_are_refused():
    images, model = batch_of(3, (1, 5, 6)), toy.model(1)
    payload, _ = encode_batch(images, model)
    for broken in (payload[:-1], payload + bytes(4), payload + b"\1\0\0\0"):  # missing words are zeros to ANS
        with pytest.raises(GmcFormatError):
            decode_batch(broken, images.shape, model)


# -- hostile payloads ----------------------------------------------------------------------------------


def refused_or_shaped(payload: bytes, shape: tuple[int, int, int], model) -> bool:
    """True when refused; otherwise what comes back has the right shape."""
    try:
        planes = decode(payload, shape, model)
    except GmcFormatError:
        return True
    assert planes.shape == shape
    assert planes.dtype == np.uint8
    return False


@pytest.mark.parametrize("channels", [3, 1])
def test_every_truncation_is_refused(channels):
    shape, model = (channels, 9, 12), toy.model(channels)
    payload = encode(smooth(shape), model, tile=(5, 12)).data
    for cut in range(len(payload)):
        with pytest.raises(GmcFormatError):
            decode(payload[:cut], shape, model)
    with pytest.raises(GmcFormatError):
        decode(payload + b"\0", shape, model)
    with pytest.raises(GmcFormatError):
        decode(payload + bytes(4), shape, model)


@pytest.mark.slow
def test_flipped_bits_are_refused_or_decode_to_something():
    shape, model = (3, 6, 7), toy.model(3)
    payload = encode(smooth(shape), model, tile=(3, 7)).data
    refused = 0
    for position, bit in itertools.product(range(len(payload)), range(8)):
        broken = bytearray(payload)
        broken[position] ^= 1 << bit
        refused += refused_or_shaped(bytes(broken), shape, model)
    assert refused > 4 * len(payload)  # most damage leaves words over; checksums are the container's job


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(1, 9), st.integers(1, 9))
def test_arbitrary_bytes(body, height, width):
    refused_or_shaped(body, (1, height, width), toy.model(1))
    words = body[: len(body) // 4 * 4]
    head = bytes([height, width, len(words) // 4])
    refused_or_shaped(head + words, (1, height, width), toy.model(1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x05",
        b"\x00\x07\x00",
        b"\x06\x00\x00",
        b"\x07\x07\x00",  # taller than the image
        b"\x06\x08\x00",  # wider
        b"\x80\x80\x80\x80\x80\x80\x01",  # a number without end
        b"\x06\x07\xff\xff\xff\xff\x7f",  # 34 billion words
        b"\x06\x07\x01",
        b"\x06\x07\x01\x00\x00\x00\x00",  # ends in a zero word, which is never written
        b"\x06\x07\x02\x01\x00\x00\x00\x00\x00\x00\x00",
        b"\x06\x07\x00\x00",
    ],
)
def test_bad_heads_are_refused(payload):
    with pytest.raises(GmcFormatError):
        decode(payload, (3, 6, 7), toy.model(3))


def test_a_promise_of_many_tiles_is_refused_before_allocating():
    shape = (3, 2**31 - 1, 2**31 - 1)
    with pytest.raises(GmcFormatError, match="tiles"):
        decode(b"\x01\x01" + bytes(1000), shape, toy.model(3))


# -- geometry ------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_tiles_are_sane(height, width):
    tile = tile_shape(height, width)
    assert 1 <= tile[0] <= height
    assert 1 <= tile[1] <= width
    assert tile[0] * tile[1] <= 2 * TILE_PIXELS
    rows, columns = -(-height // tile[0]), -(-width // tile[1])
    assert rows * columns <= 2 * height * width / TILE_PIXELS + 2
    if height * width >= 1 << 17:
        assert rows * columns >= 2


@pytest.mark.parametrize(
    ("size", "count"),
    [((1, 1), 1), ((512, 255), 1), ((512, 768), 2), ((2000, 2000), 2), ((1, 2**27), 64), ((2**27, 1), 64)],
)
def test_how_images_are_cut(size, count):
    cut = tiles(size[0], size[1], tile_shape(size[0], size[1]))
    assert len(cut) in range(count, 2 * count)
    areas = [(y.stop - y.start) * (x.stop - x.start) for y, x in cut]
    assert sum(areas) == size[0] * size[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
def test_tiles_cover_every_pixel_once(height, width, tile_height, tile_width):
    seen = np.zeros((height, width), int)
    for where in tiles(height, width, (tile_height, tile_width)):
        seen[where] += 1
    assert (seen == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6))
def test_the_wavefront_visits_every_pixel_once_in_step_order(height, width, slope):
    order, starts = wavefront(height, width, slope)
    assert sorted(order.tolist()) == list(range(height * width))
    assert starts[0] == 0
    assert starts[-1] == height * width
    assert len(starts) == slope * (height - 1) + width + 1
    for t, (first, last) in enumerate(itertools.pairwise(starts)):
        row, column = np.divmod(order[first:last], width)
        assert (slope * row + column == t).all()
        assert (np.diff(row) > 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([None, 1, 4]), st.integers(1, 5))
def test_images_of_a_batch_go_in_step(height, width, slope, count):
    order, starts = wavefront(height, width, slope, count)
    alone, alone_starts = wavefront(height, width, slope)
    assert np.array_equal(starts, count * alone_starts)
    for first, last in itertools.pairwise(alone_starts):
        step = order[count * first : count * last].reshape(count, -1)
        assert np.array_equal(step, alone[first:last] + height * width * np.arange(count)[:, None])
    if slope is None:
        assert np.array_equal(alone, np.arange(height * width))
        assert len(alone_starts) == height * width + 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), st.integers(1, 6), st.integers(0, 50))
def test_places_are_a_permutation_in_coding_order(counts, streams, offset):
    starts = offset + np.cumsum([0, *counts])
    place = autoregressive._symbol_positions(starts, streams)
    assert sorted(place.ravel().tolist()) == list(range(streams * sum(counts)))
    # coding order: step, then stream, then pixel
    step = np.repeat(np.arange(len(counts)), counts)
    key = [(step[p], s, p) for s in range(streams) for p in range(sum(counts))]
    assert [key[i] for i in np.argsort(place.ravel())] == sorted(key)
