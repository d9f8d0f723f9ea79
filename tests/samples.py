# SPDX-License-Identifier: MIT
"""Images and files that tests of readers and writers are made with."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from gmcodec.image import metadata, reading
from gmcodec.image.metadata import Tag
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes

SIZES = [(1, 1), (1, 7), (7, 1), (5, 9), (13, 67)]


def random_planes(mode: str, size=(5, 9), seed=0) -> Planes:
    spec = MODES[mode]
    top = {1: 2, 8: 256, 16: 65536}[spec.depth]
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 7 if mode == "P" else top, (spec.channels, *size))
    tags = {Tag.PALETTE: bytes(rng.integers(0, 256, 30, dtype=np.uint8))} if mode == "P" else {}
    return Planes(data.astype(np.uint16 if spec.depth == 16 else np.uint8), mode, metadata.pack(tags))


def tags_of(planes: Planes) -> dict:
    return metadata.unpack(planes.metadata, planes.mode)


def saved(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(raw: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """PNG bytes with more chunks after the header."""
    return raw[:33] + b"".join(chunk(*c) for c in chunks) + raw[33:]


def png_with_everything() -> tuple[bytes, bytes]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "caf\xe9")
    info.add_text("Title", "again", zip=True)
    info.add_itxt("Author", "J\u00f6rg \u2603", "de", "Autor")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[274] = 6
    image = reading.to_image(random_planes("RGB"))
    raw = saved(image, "PNG", icc_profile=icc, exif=exif, pnginfo=info, transparency=(1, 2, 3))
    raw = with_chunks(
        raw,
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", *range(31270, 31278))),
        (b"sRGB", b"\1"),
        (b"cICP", b"\1\r\0\1"),
        (b"sBIT", b"\5\6\5"),
        (b"pHYs", struct.pack(">IIB", 2835, 3937, 1)),
        (b"bKGD", b"\0\1\0\2\0\3"),
    )
    return raw, icc


def text_picture(height: int, width: int) -> np.ndarray:
    """Black and blue text on white with a grey bar, uint8 [3, H, W]: a small screenshot."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 11), fill=(210, 210, 220))
    words = "The quick brown fox jumps over the lazy dog, and so do all the others. " * 3
    for line, top in enumerate(range(0, height, 12)):
        draw.text((3 - 17 * line % 90, top), words, fill=(20, 40, 160) if line % 5 == 2 else (0, 0, 0))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
