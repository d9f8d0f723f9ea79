# SPDX-License-Identifier: MIT
"""Conventional methods: round trips, damage (see tests/hostile/README.md), sizes against PNG and WebP."""

import io
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import PNGSUITE

from gmcodec.coding import compressors, conventional, filters, palette
from gmcodec.coding.conventional import DEFLATED, METHODS, PALETTE, STORED, WEBP, decode, encode
from gmcodec.errors import GmcFormatError, UnknownModelError

MARGIN = 32  # bytes by which a payload may exceed a PNG or WebP file of the same pixels
KINDS = ("flat", "gradient", "checkerboard", "noise", "few", "smooth", "sparse")


def make(kind: str, shape: tuple[int, int, int], depth: int, seed: int = 0) -> np.ndarray:
    """Samples ``[C, H, W]`` of a made-up picture."""
    random = np.random.default_rng(seed)
    c, y, x = np.indices(shape)
    top = 2**depth - 1
    values = {
        "flat": np.full(shape, top // 3),
        "gradient": (x * 3 + y * 5 + c * 7) * max(1, top // 1000),
        "checkerboard": (x // 3 + y // 3) % 2 * top,
        "noise": random.integers(0, top + 1, shape),
        "few": random.choice(random.integers(0, top + 1, 5), shape),
        "smooth": ((np.sin(x / 9 + c) * np.cos(y / 7) + 1) / 2 * top + random.integers(0, 4, shape)).astype(int),
        "sparse": np.where(random.random(shape) < 0.05, random.integers(0, top + 1, shape), top),
    }[kind]
    return (values % (top + 1)).astype(np.uint16 if depth == 16 else np.uint8)


def text_like(height: int, width: int) -> np.ndarray:
    """A grey page ``[H, W]`` of repeated random glyphs with soft edges."""
    random = np.random.default_rng(5)
    glyphs = random.choice([0, 0, 90, 255, 255, 255], (20, 10, 7)).astype(np.uint8)
    page = np.full((height, width), 255, np.uint8)
    for top in range(0, height - 10, 13):
        for left in range(0, width - 7, 8):
            page[top : top + 10, left : left + 7] = glyphs[random.integers(20)]
    return page


def check(planes: np.ndarray, depth: int, effort: str = "best") -> int:
    """Round trip; returns the payload's size."""
    before = planes.copy()
    method, payload = encode(planes, depth, effort)
    decoded = decode(method, payload, planes.shape, depth)
    assert (planes == before).all()
    assert decoded.dtype == planes.dtype
    assert decoded.shape == planes.shape
    assert (decoded == planes).all()
    assert decoded.flags.writeable
    assert len(payload) <= len(conventional._encode_stored(planes, depth))
    return len(payload)


def pillow_size(planes: np.ndarray, depth: int, mode: str | None = None) -> int:
    """The smaller of Pillow's PNG and lossless WebP, in bytes."""
    pixels = planes[0] if planes.shape[0] == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
    image = Image.fromarray(pixels * 255 if depth == 1 else pixels)
    if mode == "P":
        image = Image.fromarray(pixels)
        image.putpalette([value for index in range(int(planes.max()) + 1) for value in (index, 7, 99)])
    elif depth == 1:
        image = image.convert("1")
    sizes = []
    formats: list[tuple[str, dict[str, Any]]] = [
        ("PNG", {"optimize": True}),
        ("WEBP", {"lossless": True, "quality": 100, "method": 6, "exact": True}),
    ]
    for name, options in formats:
        if name == "WEBP" and (depth == 16 or max(image.size) > 16383):
            continue
        file = io.BytesIO()
        image.save(file, name, **options)
        sizes.append(len(file.getvalue()))
    return min(sizes)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 4), st.integers(1, 24), st.integers(1, 24)),
    st.sampled_from([1, 8, 16]),
    st.sampled_from(["fast", "best"]),
    st.integers(0, 99),
)
def test_round_trip(kind, shape, depth, effort, seed):
    check(make(kind, shape, depth, seed), depth, effort)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([8, 16]),
    st.data(),
)
def test_every_filter_has_an_inverse(kind, shape, depth, data):
    planes = make(kind, shape, depth)
    method = data.draw(st.sampled_from(filters_of(shape[0])))
    stream = filters.to_stream(planes, method, 0)
    assert len(stream) == filters.stream_size(shape, depth, method, 0)
    assert (filters.from_stream(stream, shape, depth, method, 0) == planes).all()


def filters_of(channels: int) -> list[int]:
    return [kind for kind in range(5) if kind != filters.MED_GREEN or channels >= 3]


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", range(1, 18))
def test_packing_has_an_inverse(bits, width):
    samples = np.random.default_rng(width).integers(0, 2**bits, (3, width)).astype(np.uint8)
    packed = filters.pack_rows(samples, bits)
    assert packed.shape == (3, (width * bits + 7) // 8)
    assert (filters.unpack_rows(packed, width, bits) == samples).all()


def test_packing_puts_the_first_sample_highest():
    assert filters.pack_rows(np.array([[1, 2, 3, 0, 2]], np.uint8), 2).tolist() == [[0b01101100, 0b10000000]]
    assert filters.pack_rows(np.array([[1, 2, 3]], np.uint8), 4).tolist() == [[0x12, 0x30]]


def test_the_filters_are_pngs(monkeypatch):
    """Pillow undoes what ``png_filter`` does."""
    monkeypatch.setattr(filters, "_BAND", 200)  # several bands
    planes = make("smooth", (3, 33, 20), 8)
    stream = filters.to_stream(planes, filters.PNG, 0)
    assert len(set(stream[:: 1 + 60])) > 2  # several kinds of rows

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (20).to_bytes(4, "big") + (33).to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(stream)) + chunk(b"IEND", b"")
    assert (np.asarray(Image.open(io.BytesIO(png))) == planes.transpose(1, 2, 0)).all()


def test_golden_payloads():
    """Frozen bytes: one small payload of each method that this module writes itself."""
    ramp = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert decode(STORED, bytes([0b10100000, 0b01000000]), (1, 2, 3), 1).tolist() == [[[1, 0, 1], [0, 1, 0]]]
    assert decode(STORED, bytes.fromhex("3412 7856"), (1, 1, 2), 16).tolist() == [[[0x1234, 0x5678]]]
    png = bytes.fromhex("08 01 0800 f7ff 01 000101 02 030303".replace(" ", ""))  # stored deflate block
    assert (decode(DEFLATED, png, (1, 2, 3), 8) == ramp).all()
    med = bytes.fromhex("10 01 0600 f9ff 000202 060202".replace(" ", ""))
    assert (decode(DEFLATED, med, (1, 2, 3), 8) == ramp).all()
    palette = bytes.fromhex("00 01 0501 0602 0703 01 40".replace(" ", ""))  # (5, 6, 7), (6, 8, 10); indices 0 1
    assert decode(PALETTE, palette, (3, 1, 2), 8).tolist() == [[[5, 6]], [[6, 8]], [[7, 10]]]


SIZE_CASES = {
    **{f"{kind} x{c}": (make(kind, (c, 40, 56), 8), 8) for kind in KINDS for c in (1, 2, 3, 4)},
    **{f"{kind} 1-bit": (make(kind, (1, 61, 75), 1), 1) for kind in KINDS},
    **{f"{kind} 16-bit": (make(kind, (1, 50, 60), 16), 16) for kind in KINDS},
    **{f"tiny {h}x{w}": (make("noise", (3, h, w), 8), 8) for h in range(1, 6) for w in range(1, 6)},
    "wide": (make("gradient", (3, 1, 5000), 8), 8),
    "tall": (make("gradient", (3, 5000, 1), 8), 8),
    "too wide for WebP": (make("smooth", (1, 2, 17000), 8), 8),
    "text": (text_like(70, 150)[None], 8),
    "text in RGB": (np.stack([text_like(70, 150)] * 3), 8),
    "text in colour": (
        np.stack([text_like(100, 200), text_like(100, 200) // 2, 255 - text_like(100, 200)]),
        8,
    ),
    "mask": (make("checkerboard", (1, 100, 100), 8), 8),
    "mask 1-bit": ((text_like(100, 200)[None] > 128).astype(np.uint8), 1),
    "hidden colours": (np.concatenate([make("noise", (3, 30, 30), 8), make("flat", (1, 30, 30), 1)]), 8),
}


@pytest.mark.parametrize("name", SIZE_CASES)
def test_never_much_larger_than_png_and_webp(name):
    planes, depth = SIZE_CASES[name]
    assert check(planes, depth) <= pillow_size(planes, depth) + MARGIN


@pytest.mark.parametrize("colours", [2, 3, 4, 7, 16, 17, 200])
def test_palette_pictures(colours):
    planes = (make("smooth", (1, 60, 70), 8) % colours).astype(np.uint8)
    assert check(planes, 8) <= pillow_size(planes, 8, "P") + MARGIN


def test_sixteen_bits_that_are_really_eight():
    eight = make("smooth", (3, 48, 48), 8)
    method, payload = encode(eight.astype(np.uint16) * 257, 16, "best")
    assert method == PALETTE
    assert len(payload) < len(encode(eight, 8, "best")[1]) + 300


@pytest.mark.parametrize("entries", range(1, 41))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tables_have_an_inverse(entries, dtype):
    """Every size: a deflated table as long as a plain one was once mistaken for it."""
    depth = 8 * np.dtype(dtype).itemsize
    for step in (1, 255, 37):
        table = (np.arange(3 * entries).reshape(3, entries) * step).astype(dtype)
        found, rest = palette.decode_table(palette.encode_table(table, False) + b"rest", table.shape, depth)
        assert (found == table).all()
        assert rest == b"rest"


@pytest.mark.skipif(not PNGSUITE.is_dir(), reason="PngSuite is not here")
def test_pngsuite():
    seen: set[bytes] = set()
    for path in sorted(PNGSUITE.glob("[!xP]*.png")):
        with Image.open(path) as image:
            image.load()
            depth = 16 if image.mode.startswith("I") else 1 if image.mode == "1" else 8
            pixels = np.asarray(image)
        pixels = pixels.astype(np.uint16 if depth == 16 else np.uint8)
        key = str(pixels.shape).encode() + pixels.tobytes()
        if key in seen:  # many of these files differ in their chunks only
            continue
        seen.add(key)
        planes = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        assert check(planes, depth) <= pillow_size(planes, depth, "P" if image.mode == "P" else None) + MARGIN, path
    assert len(seen) > 50


def payloads() -> dict[str, tuple[int, bytes, tuple[int, int, int], int]]:
    """One small payload of each method and method."""
    rgb, deep = make("gradient", (3, 7, 9), 8), make("smooth", (3, 5, 6), 16)
    few = make("few", (3, 8, 8), 8)
    found = {
        "stored": (STORED, conventional._encode_stored(rgb, 8), rgb.shape, 8),
        "webp": (WEBP, conventional._encode_webp(rgb, 75, 5), rgb.shape, 8),
        "webp alpha": (WEBP, conventional._encode_webp(make("noise", (4, 5, 5), 8), 75, 5), (4, 5, 5), 8),
        "packed": (DEFLATED, conventional._deflated(few[:1] % 4, filters.PNG, 2, 9), (1, 8, 8), 8),
    }
    for kind in filters_of(3):
        found[f"deflated {kind}"] = (DEFLATED, conventional._deflated(rgb, kind, 0, 9), rgb.shape, 8)
        stream = filters.to_stream(deep, kind, 0)
        found[f"lzma {kind}"] = (
            DEFLATED,
            bytes([kind << 3 | 1]) + compressors.lzma_raw(stream, 1),
            deep.shape,
            16,
        )
    table, indices, _ = palette.find(few, 8)
    inner = conventional._deflated(indices, filters.INTERLEAVED, 0, 9)
    found["palette"] = (PALETTE, table + bytes([DEFLATED]) + inner, few.shape, 8)
    return found


PAYLOADS = payloads()


def survives(method: int, payload: bytes, shape: tuple[int, int, int], depth: int) -> bool:
    """Whether damaged bytes decode to something of the right shape; only the typed error passes."""
    try:
        planes = decode(method, payload, shape, depth)
    except GmcFormatError:
        return False
    assert planes.shape == shape
    assert planes.dtype == (np.uint16 if depth == 16 else np.uint8)
    return True


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_truncation_of_a_payload(name):
    method, payload, shape, depth = PAYLOADS[name]
    assert survives(method, payload, shape, depth)
    survivors = [cut for cut in range(len(payload)) if survives(method, payload[:cut], shape, depth)]
    # libwebp fills up a picture whose last bytes are missing; every other method has an end to be missed
    assert not survivors or method == WEBP


@pytest.mark.parametrize("name", PAYLOADS)
def test_flipped_bits_of_a_payload(name):
    method, payload, shape, depth = PAYLOADS[name]
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        survives(method, bytes(damaged), shape, depth)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.binary(max_size=60), st.integers(1, 4), st.sampled_from([1, 8, 16]))
def test_random_payloads(method, payload, channels, depth):
    survives(method, payload, (channels, 3, 4), depth)
    survives(WEBP, b"\x2f\x03\x80\x00\x00" + payload, (channels, 3, 4), depth)


@pytest.mark.parametrize("method", [0, 1])
def test_bombs_are_stopped(method):
    zeros = bytes(1 << 24)
    bomb = compressors.lzma_raw(zeros, 1) if method else compressors.deflate(zeros, 9)
    tracemalloc.start()
    with pytest.raises(GmcFormatError):
        decode(DEFLATED, bytes([method]) + bomb, (3, 20, 20), 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_small_payload_for_a_large_image_allocates_little(method):
    method, payload, _, depth = next(entry for entry in PAYLOADS.values() if entry[0] == method)
    tracemalloc.start()
    with pytest.raises(GmcFormatError):
        decode(method, payload, (3, 10_000, 10_000), depth)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5, 3), (3, 6000, 6000)])
def test_webp_of_another_size_is_not_decoded(shape):
    payload = conventional._encode_webp(make("flat", (3, 5, 4), 8), 0, 0)
    with pytest.raises(GmcFormatError, match="WebP payload is not"):
        decode(WEBP, payload, shape, 8)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x04\x00\x05\x01\x00",  # an unknown kind
        b"\x00\x00\x05",  # nothing after the table
        b"\x00\x00\x05\x04\x00\x00\x05\x01\x00",  # a palette in a palette
        b"\x00\x02\x05\x01\x01\x01\xff",  # index 3 of 3 entries
        b"\x02\x00\xff\xff",  # a table that is no deflate stream
    ],
)
def test_bad_palettes(payload):
    with pytest.raises(GmcFormatError):
        decode(PALETTE, payload, (1, 1, 2), 8)


@pytest.mark.parametrize("method", [0, 5, 15, 16, 255])
def test_unknown_forms_and_methods(method):
    with pytest.raises(UnknownModelError):
        decode(method, b"", (1, 1, 1), 8)
    for method in (5 << 3, 7 << 3, filters.MED_GREEN << 3, 1 << 6 | filters.MED << 3):
        with pytest.raises(GmcFormatError, match=r"filter|packing"):
            decode(DEFLATED, bytes([method]), (1, 1, 1), 8)


def test_samples_beyond_the_depth():
    payload = conventional._deflated(np.full((1, 2, 2), 2, np.uint8), filters.INTERLEAVED, 0, 9)
    assert decode(DEFLATED, payload, (1, 2, 2), 8).max() == 2
    with pytest.raises(GmcFormatError, match="depth is 1"):
        decode(DEFLATED, payload, (1, 2, 2), 1)


@pytest.mark.parametrize("shape", [(0, 1, 1), (5, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_shapes_that_are_no_image(shape):
    with pytest.raises(GmcFormatError, match="not an image"):
        decode(STORED, b"", shape, 8)


def test_unknown_effort():
    with pytest.raises(ValueError, match="effort"):
        encode(np.zeros((1, 1, 1), np.uint8), 8, "utmost")
