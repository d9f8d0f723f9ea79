# SPDX-License-Identifier: MIT
"""The metadata of an image, as numbered byte strings. Part of the file format.

In memory metadata is a ``Tags`` dict ``{Tag: bytes}``. Values have the form of the body of the PNG chunk with the same
meaning (big-endian), whatever the source format was. In ``Planes`` metadata is ``((tag, bytes), ...)`` sorted by tag,
each tag once:

    tag             value                                                              valid in
     1 PALETTE       R G B bytes, 1 to 256 entries *                                   P
     2 TRANSPARENCY  P: alpha bytes from entry 0, later entries opaque;                P 1 L I;16 RGB RGB;16
                     else the sample value(s) that mean transparent, 2 bytes each
     3 ICC           the colour profile *            4 EXIF   TIFF-shaped, without "Exif\\0\\0" *
     5 XMP           the packet *                    6 TEXT   see ``pack_text`` *
     7 DENSITY       pHYs: x, y (uint32), unit       8 DPI    two little-endian float64: x, y (not from PNG)
     9 GAMMA         gAMA                           10 SRGB   sRGB intent
    11 CHROMATICITY  cHRM                           12 CICP   cICP
    13 BACKGROUND    bKGD (P: index, else 2 bytes per sample)
    14 MASTERING     mDCV   15 LIGHT_LEVEL cLLI     16 SIGNIFICANT_BITS sBIT    17 TIME tIME
    18 PHOTOSHOP     image resource blocks ("8BIM", ...), IPTC among them *
    19 CHUNKS        further PNG chunks, see ``pack_chunks`` *
    20 MAXIMUM       the largest value of a PNM file, 2 bytes: samples are widened to 8 or 16 bits, see
                     ``image/pnm.py``; a third byte, 1, if they are not widened because some are larger
    21 PROFILE_NAME  the name that a PNG gives its ICC profile, if it is not ICC_NAME

    *  stored as a flag byte (0 plain, 1 zlib) and the data, whichever is shorter; at most MAX_VALUE_BYTES inflated.

EXIF of a TIFF file contains its descriptive tags, private ones included. Extended XMP of a JPEG is a text with the
keyword EXTENDED_XMP_KEY. The ledger of a file (``image/ledger``) names all metadata that has no tag. Pillow cannot hold
the tags from 12 on. A reader skips tags that it does not know, with a warning; anything else that is malformed is a
GmcFormatError.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import zlib
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from gmcodec.arrays import UInt8
from gmcodec.errors import GmcFormatError, UnsupportedImageError
from gmcodec.formats import varint

log = logging.getLogger("gmcodec")

MAX_VALUE_BYTES = 1 << 26  # of one inflated value; part of the format


class Tag(IntEnum):
    """Permanent numbers: append only, never renumber, never reuse."""

    PALETTE = 1
    TRANSPARENCY = 2
    ICC = 3
    EXIF = 4
    XMP = 5
    TEXT = 6
    DENSITY = 7
    DPI = 8
    GAMMA = 9
    SRGB = 10
    CHROMATICITY = 11
    CICP = 12
    BACKGROUND = 13
    MASTERING = 14
    LIGHT_LEVEL = 15
    SIGNIFICANT_BITS = 16
    TIME = 17
    PHOTOSHOP = 18
    CHUNKS = 19
    MAXIMUM = 20
    PROFILE_NAME = 21


Tags = dict[Tag, bytes]

EXTENDED_XMP_KEY = b"http://ns.adobe.com/xmp/extension/"
ICC_NAME = b"ICC Profile"
DEFLATED_TAGS = frozenset({Tag.PALETTE, Tag.ICC, Tag.EXIF, Tag.XMP, Tag.TEXT, Tag.PHOTOSHOP, Tag.CHUNKS})
PIXEL_TAGS = frozenset({Tag.PALETTE, Tag.TRANSPARENCY, Tag.MAXIMUM})  # that pixels depend on: --strip keeps them
VALUE_BYTES = {  # of tags whose values have a fixed length
    Tag.DENSITY: 9,
    Tag.DPI: 16,
    Tag.GAMMA: 4,
    Tag.SRGB: 1,
    Tag.CHROMATICITY: 32,
    Tag.CICP: 4,
    Tag.MASTERING: 24,
    Tag.LIGHT_LEVEL: 8,
    Tag.TIME: 7,
}
_CHUNK_TYPE = re.compile(rb"[A-Za-z]{4}")
KEY_SAMPLES = {"1": 1, "L": 1, "I;16": 1, "RGB": 3, "RGB;16": 3}  # of a transparent colour, by mode
_SAMPLES_BY_MODE = {"1": 1, "L": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4, "LAB": 3}
_MAX_SAMPLE = {"1": 1, "L": 255, "RGB": 255}


def pack(tags: Tags) -> tuple[tuple[int, bytes], ...]:
    """Values -> the sorted pairs of ``Planes.metadata``.  Raises UnsupportedImageError above MAX_VALUE_BYTES."""
    for tag, value in tags.items():
        if len(value) > MAX_VALUE_BYTES:
            raise UnsupportedImageError(f"{tag.name} metadata has {len(value)} bytes, the limit is {MAX_VALUE_BYTES}")
    return tuple((int(tag), _deflated(tags[tag]) if tag in DEFLATED_TAGS else tags[tag]) for tag in sorted(tags))


def unpack(metadata: Iterable[tuple[int, bytes]], mode: str) -> Tags:
    """Inverse of ``pack`` for an image of ``mode``.  Raises GmcFormatError for anything malformed."""
    tags: Tags = {}
    previous = 0
    for number, raw in metadata:
        if number <= previous:
            raise GmcFormatError(f"metadata tag {number} follows tag {previous}: not sorted and unique")
        previous = number
        try:
            tag = Tag(number)
        except ValueError:
            log.warning("metadata tag %d is from a newer version and is skipped", number)
            continue
        value = _inflated(tag, raw) if tag in DEFLATED_TAGS else bytes(raw)
        problem = find_problem(tag, value, mode)
        if problem:
            raise GmcFormatError(f"{tag.name} metadata: {problem}")
        tags[tag] = value
    return tags


def colours(metadata: Iterable[tuple[int, bytes]]) -> UInt8[np.ndarray, "N 3"] | None:
    """The colours of the palette in ``Planes.metadata``, uint8 [N, 3]; None without a palette.

    Raises GmcFormatError.
    """
    palettes = [_inflated(Tag.PALETTE, raw) for number, raw in metadata if number == Tag.PALETTE]
    if not palettes:
        return None
    if problem := find_problem(Tag.PALETTE, palettes[0], "P"):
        raise GmcFormatError(f"{Tag.PALETTE.name} metadata: {problem}")
    return np.frombuffer(palettes[0], np.uint8).reshape(-1, 3)


def find_problem(tag: Tag, value: bytes, mode: str) -> str | None:
    """Why ``value`` cannot be the value of ``tag`` in an image of ``mode``; None if it can."""
    n = len(value)
    if tag == Tag.PALETTE:
        return None if mode == "P" and 3 <= n <= 768 and n % 3 == 0 else f"{n} bytes in mode {mode}"
    if tag == Tag.TRANSPARENCY:
        if mode == "P":
            return None if 1 <= n <= 256 else f"{n} alpha values"
        if n != 2 * KEY_SAMPLES.get(mode, 0) or not n:
            return f"{n} bytes in mode {mode}"
        key = struct.unpack(f">{n // 2}H", value)
        return None if max(key) <= _MAX_SAMPLE.get(mode, 65535) else f"colour key {key} in mode {mode}"
    samples = _SAMPLES_BY_MODE[mode.removesuffix(";16") if mode != "I;16" else "L"]
    if tag == Tag.BACKGROUND:
        expected = 1 if mode == "P" else (2 if samples < 3 else 6)
        return None if n == expected else f"{n} bytes in mode {mode}"
    if tag == Tag.SIGNIFICANT_BITS:
        return None if n == samples else f"{n} bytes in mode {mode}"
    if tag in _PARSED:
        try:
            _PARSED[tag](value)
        except GmcFormatError as error:
            return str(error)
    if tag == Tag.MAXIMUM:
        if n not in (2, 3) or value[2:] not in (b"", b"\1"):
            return f"{n} bytes"
        value_of = int.from_bytes(value[:2], "big")
        low, high = (256, 65534) if mode in ("I;16", "RGB;16") else (1, 254) if mode in ("L", "RGB") else (1, 0)
        return None if low <= value_of <= high else f"{value_of} in mode {mode}"
    if tag == Tag.PROFILE_NAME and not 1 <= n <= 79:
        return f"{n} bytes"
    if tag == Tag.DPI and n == VALUE_BYTES[tag] and not plausible_dpi(struct.unpack("<dd", value)):
        return "not two positive numbers"
    return None if n == VALUE_BYTES.get(tag, n) else f"{n} bytes, not {VALUE_BYTES[tag]}"


def plausible_dpi(dpi: Iterable[float]) -> bool:
    """Whether all numbers are positive and finite, and below 1e9."""
    return all(math.isfinite(x) and 0 < x < 1e9 for x in dpi)


def _deflated(value: bytes) -> bytes:
    short = zlib.compress(value, 9)
    return b"\1" + short if len(short) < len(value) else b"\0" + value


def _inflated(tag: Tag, raw: bytes) -> bytes:
    if raw[:1] == b"\0" and len(raw) - 1 <= MAX_VALUE_BYTES:
        return bytes(raw[1:])
    if raw[:1] == b"\1":
        try:
            return inflate(raw[1:], MAX_VALUE_BYTES)
        except ValueError as error:
            raise GmcFormatError(f"{tag.name} metadata: {error}") from None
    raise GmcFormatError(f"{tag.name} metadata: flag {raw[:1]!r}, {len(raw)} bytes")


def inflate(data: bytes, limit: int) -> bytes:
    """Inflate a zlib stream.

    Raises ValueError if it is damaged or truncated, if more data follows, or if more than ``limit`` bytes come out.
    """
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(out) > limit:
        raise ValueError(f"inflates to more than {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise ValueError("the zlib stream does not end with the data")
    return out


# --- text ---------------------------------------------


class Text(NamedTuple):
    """One text entry: Latin-1 (tEXt, zTXt) or international (iTXt: UTF-8, language, translated keyword)."""

    key: bytes
    value: bytes
    international: bool = False
    language: bytes = b""
    translated: bytes = b""


def pack_text(texts: Iterable[Text]) -> bytes:
    """The value of Tag.TEXT.

    For each entry, in file order: a byte for the kind (0 Latin-1, 1 international), then key, [language, translated,]
    value, each preceded by its length (a number of ``formats/varint.py``).
    """
    out = bytearray()
    for text in texts:
        out.append(text.international)
        middle = (text.language, text.translated) if text.international else ()
        for field in (text.key, *middle, text.value):
            out += varint.write(len(field)) + field
    return bytes(out)


class _Fields:
    """A cursor over fields that are preceded by their lengths.  Raises GmcFormatError at the end."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        if count > len(self.raw) - self.at:
            raise GmcFormatError(f"field of {count} bytes, {len(self.raw) - self.at} left")
        self.at += count
        return self.raw[self.at - count : self.at]

    def field(self) -> bytes:
        count, self.at = varint.read(self.raw, self.at, "the length of a field")
        return self.take(count)


def unpack_text(raw: bytes) -> list[Text]:
    """Inverse of ``pack_text``.  Raises GmcFormatError for malformed bytes."""
    fields, texts = _Fields(raw), []
    while fields.at < len(raw):
        kind = fields.take(1)[0]
        if kind > 1:
            raise GmcFormatError(f"text kind {kind}")
        key = fields.field()
        language, translated = (fields.field(), fields.field()) if kind else (b"", b"")
        texts.append(Text(key, fields.field(), bool(kind), language, translated))
    return texts


# --- further PNG chunks ---------------------------------------------

BEFORE_PALETTE, AFTER_PALETTE, AFTER_DATA = 0, 1, 2  # positions of a chunk in the file


class Chunk(NamedTuple):
    """A chunk that is kept unchanged.  ``position``: BEFORE_PALETTE (and before IDAT), AFTER_PALETTE or AFTER_DATA."""

    position: int
    kind: bytes  # the type
    body: bytes


def pack_chunks(chunks: Iterable[Chunk]) -> bytes:
    """The value of Tag.CHUNKS: ancillary chunks other than tRNS, and PLTE of images without a palette.

    For each chunk, in file order: position, four bytes of type, length (as in texts), body.
    """
    return b"".join(bytes([c.position]) + c.kind + varint.write(len(c.body)) + c.body for c in chunks)


def unpack_chunks(raw: bytes) -> list[Chunk]:
    """Inverse of ``pack_chunks``.  Raises GmcFormatError for malformed bytes, and for chunks that change pixels."""
    chunks = []
    fields = _Fields(raw)
    while fields.at < len(raw):
        head = fields.take(5)
        ancillary = head[1] & 32 and head[1:] != b"tRNS"
        if head[0] > AFTER_DATA or not _CHUNK_TYPE.fullmatch(head[1:]) or not (ancillary or head[1:] == b"PLTE"):
            raise GmcFormatError(f"chunk {head[1:]!r} in position {head[0]}")
        chunks.append(Chunk(head[0], head[1:], fields.field()))
    return chunks


_PARSED = {Tag.TEXT: unpack_text, Tag.CHUNKS: unpack_chunks}
