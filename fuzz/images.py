# SPDX-License-Identifier: MIT
"""Fuzz targets of source images: the formats that gmcodec reads itself, and the ledgers of all formats."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator

import ledger_files
from entry import Entry, Input, Mismatch
from ledger_files import Heif, saved
from samples import png_with_everything, random_planes

from gmcodec.image import metadata, png, reading, writing
from gmcodec.image.ledger import account
from gmcodec.image.modes import MODES

MAX_IMAGE_PIXELS = 1 << 12


def with_right_crcs(raw: bytes) -> bytes:
    """A PNG file with the right CRC-32 in all chunks that can be found."""
    out, at = bytearray(raw), len(png.PNG_SIGNATURE)
    while raw.startswith(png.PNG_SIGNATURE) and len(raw) >= at + 12:
        end = at + 8 + int.from_bytes(raw[at : at + 4], "big")
        if end + 4 > len(raw):
            break
        out[end : end + 4] = zlib.crc32(raw[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def decode_image(data: bytes) -> None:
    """Read an image.  Its metadata must be valid for a decoder."""
    if not data.startswith((png.PNG_SIGNATURE, b"P", b"BM", b"II", b"MM")):
        return  # libraries with their own fuzzers decode the other formats
    planes = reading.read(with_right_crcs(data), max_pixels=MAX_IMAGE_PIXELS)
    if planes.height * planes.width > MAX_IMAGE_PIXELS:
        raise Mismatch(f"the limit let {planes.width}x{planes.height} pixels pass")
    metadata.unpack(planes.metadata, planes.mode)
    reading.to_array(planes)


def seeds_of_image() -> Iterator[bytes]:
    yield png_with_everything()[0]
    for mode, format_ in itertools.product(MODES, ("PNG", "TIFF", "PPM", "BMP")):
        if mode in writing._WRITABLE[format_]:
            yield writing.write(random_planes(mode, (3, 5)), format_).data
    for mode, options in (("RGB", {}), ("P", {"compression": "tiff_lzw"}), ("L", {"compression": "packbits"})):
        yield saved("TIFF", mode, **options)
    yield from (b"P1 2 2 0 1 1 0", b"P2 2 1 9 3 4", b"P3 1 1 999 1 2 999", b"P6 1 1 255 abc")


EXAMPLES = {  # files of each format
    "GIF": lambda: [ledger_files.gif(), saved("GIF", "P", comment=b"hi")],
    "WEBP": lambda: [ledger_files.webp(), saved("WEBP", exif=ledger_files.EXIF, xmp=ledger_files.XMP)],
    "JPEG2000": lambda: [ledger_files.jp2(), ledger_files.codestream(), saved("JPEG2000")],
    "AVIF": lambda: [Heif(ledger_files.nclx(1, 13)).file()],
    "HEIF": lambda: [Heif(ledger_files.nclx(2, 2)).file(b"heic")],
    "JXL": lambda: [ledger_files.jxl(), b"\xff\x0a\xfa\x7f\x01\x90\x02"],
    "TGA": lambda: [
        ledger_files.tga(),
        ledger_files.tga(packed=True),
        ledger_files.tga(area=ledger_files.tga_area({})),
    ],
    "SGI": lambda: [saved("SGI"), saved("SGI", "L")],
    "QOI": lambda: [ledger_files.qoi()],
    "PCX": lambda: [saved("PCX"), ledger_files.pcx(b"\xc8a\xc8b\xc8c")],
    "JPEG": lambda: [saved("JPEG", exif=ledger_files.EXIF, icc_profile=ledger_files.ICC, comment=b"hi")],
    "PNG": lambda: [png_with_everything()[0]],
    "TIFF": lambda: [saved("TIFF"), writing.write(random_planes("RGB"), "TIFF").data],
    "BMP": lambda: [saved("BMP"), saved("BMP", "P")],
    "PPM": lambda: [saved("PPM")],
}
LEDGER_FORMATS = tuple(EXAMPLES)


def decode_ledger(data: bytes) -> None:
    """Make a ledger.  It must not raise; its claims must lie within the file, and its tags must be valid."""
    choices = Input(data)
    format_, raw = choices.choose(LEDGER_FORMATS), choices.rest()
    found = account(format_, raw)
    for claim in found.claims:
        if not 0 <= claim.start < claim.end <= len(raw):
            raise Mismatch(f"{claim} of {len(raw)} bytes")
    metadata.pack(found.tags)


def seeds_of_ledger() -> Iterator[bytes]:
    for number, files in enumerate(EXAMPLES.values()):
        for raw in files():
            yield bytes([number]) + raw


ENTRIES = (
    Entry("image", decode_image, seeds_of_image),
    Entry("ledger", decode_ledger, seeds_of_ledger, 1024),
)
