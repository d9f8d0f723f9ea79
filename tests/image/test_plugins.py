# SPDX-License-Identifier: MIT
"""HEIC and JPEG XL by decoders of other packages, where those are installed."""

import io
import sys

import ledger_files as files
import numpy as np
import pytest

from gmcodec.errors import ImageReadError, ImageTooLargeError, UnsupportedImageError
from gmcodec.image import plugins, reading
from gmcodec.image.ledger import account
from gmcodec.image.metadata import Tag


def noise(bits: int, channels: int) -> np.ndarray:
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(bits).integers(0, 1 << bits, (9, 12, channels)).astype(dtype)


def too_large(size: tuple[int, int]) -> None:
    assert size == (12, 9)
    raise ImageTooLargeError("too large")


def test_sniff():
    assert plugins.sniff(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
    assert plugins.sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "HEIF"
    assert plugins.sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif") is None
    assert plugins.sniff(b"\0\0\0\x18ftypavif\0\0\0\0avifheic") is None
    assert plugins.sniff(files.jxl()) == plugins.sniff(b"\xff\x0a\0") == "JXL"
    assert plugins.sniff(b"") is plugins.sniff(files.gif()) is plugins.sniff(files.jp2()) is None


def test_a_missing_decoder_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(UnsupportedImageError, match=r"gmcodec\[heif\]"):
        plugins.open_heif(files.Heif().file(b"heic"))
    with pytest.raises(UnsupportedImageError, match=r"gmcodec\[jxl\]"):
        plugins.open_jxl(files.jxl())


# -- HEIC ------------------------------------------------------------------------------------------------


def heic(samples: np.ndarray, mode: str, **options) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    file = pillow_heif.from_bytes(mode, samples.shape[1::-1], samples.tobytes())
    file.save(out, quality=-1, chroma=444, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_heic_of_8_bits(mode):
    raw = heic(noise(8, len(mode)), mode)
    picture = plugins.open_heif(raw)
    assert (picture.mode, picture.samples.dtype, picture.frames, picture.tags) == (mode, np.uint8, 1, {})
    assert picture.samples.shape == (9, 12, len(mode))
    assert account("HEIF", raw).losses == []


@pytest.mark.parametrize("mode", ["I;16", "RGB;16", "RGBA;16"])
def test_heic_of_10_bits_is_not_rounded(mode):
    channels = 1 if mode == "I;16" else len(mode) - 3
    picture = plugins.open_heif(heic(noise(16, channels), mode))
    assert (picture.mode, picture.samples.dtype) == (mode, np.uint16)
    assert picture.tags == {Tag.SIGNIFICANT_BITS: bytes([10] * channels)}
    assert np.array_equal(picture.samples, np.rint((picture.samples >> 6) * (65535 / 1023)))
    if channels == 1:  # without colour HEVC loses nothing
        assert np.array_equal(picture.samples >> 6, noise(16, 1) >> 6)


def test_heic_that_is_damaged_or_large():
    raw = heic(noise(8, 3), "RGB")
    with pytest.raises(ImageTooLargeError):
        plugins.open_heif(raw, too_large)
    for count in (0, 12, 40, len(raw) // 2, len(raw) - 3):
        with pytest.raises(ImageReadError):
            plugins.open_heif(raw[:count])


def test_sizes_from_headers():
    assert reading.read_size(heic(noise(8, 3), "RGB")) == (12, 9)
    assert reading.read_size(encoded(noise(8, 3), 8)) == (12, 9)
    with pytest.raises(ImageTooLargeError):
        reading.read(heic(noise(8, 3), "RGB"), max_pixels=107)


def test_heic_of_several_pictures():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(files.picture())
    file.add_from_pillow(files.picture())
    out = io.BytesIO()
    file.save(out)
    assert plugins.open_heif(out.getvalue()).frames == 2
    assert not all(loss.metadata for loss in account("HEIF", out.getvalue()).losses)


# -- JPEG XL ---------------------------------------------------------------------------------------------


def encoded(samples: np.ndarray, bits: int, **options) -> bytes:
    pytest.importorskip("pillow_jxl")
    imagecodecs = pytest.importorskip("imagecodecs")
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    return imagecodecs.jpegxl_encode(samples, lossless=True, bitspersample=bits, **options)


@pytest.mark.parametrize("bits", [1, 4, 8, 9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("container", [False, True])
def test_jxl_of_all_depths_is_exact(bits, channels, container):
    samples = noise(bits, channels)
    raw = encoded(samples, bits, usecontainer=container)
    picture = plugins.open_jxl(raw)
    full = 8 if bits <= 8 else 16
    assert np.array_equal(picture.samples >> (full - bits), samples)
    assert np.array_equal(picture.samples, np.rint(samples * (((1 << full) - 1) / ((1 << bits) - 1))))
    deep = ("I;16", "LA;16", "RGB;16", "RGBA;16")
    assert picture.mode == (deep if full == 16 else ("L", "LA", "RGB", "RGBA"))[channels - 1]
    assert picture.tags == ({} if bits == full else {Tag.SIGNIFICANT_BITS: bytes([bits] * channels)})
    assert account("JXL", raw).losses == []


def test_jxl_without_imagecodecs_is_not_rounded(monkeypatch):
    raw = encoded(noise(16, 3), 16)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UnsupportedImageError, match="imagecodecs"):
        plugins.open_jxl(raw)


def test_jxl_trailing_bytes():
    raw = encoded(noise(8, 3), 8, usecontainer=False)
    assert plugins.open_jxl(raw).trailing == 0
    for tail in (b"x", bytes(1000), raw):
        assert plugins.open_jxl(raw + tail).trailing == len(tail)


def test_jxl_that_is_damaged_or_large():
    raw = encoded(noise(8, 3), 8)
    with pytest.raises(ImageTooLargeError):
        plugins.open_jxl(raw, too_large)
    for count in (0, 2, 40, len(raw) // 2, len(raw) - 1):
        with pytest.raises(ImageReadError):
            plugins.open_jxl(raw[:count])


def test_jxl_that_cannot_be_kept():
    pytest.importorskip("pillow_jxl")
    imagecodecs = pytest.importorskip("imagecodecs")
    with pytest.raises(UnsupportedImageError, match="floating"):
        plugins.open_jxl(imagecodecs.jpegxl_encode(noise(8, 3).astype(np.float32) / 255, lossless=True))
    moving = imagecodecs.jpegxl_encode(np.stack([noise(8, 3)] * 3), lossless=True)
    with pytest.raises(UnsupportedImageError, match="animated"):
        plugins.open_jxl(moving)
