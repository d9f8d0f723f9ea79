# SPDX-License-Identifier: MIT
"""The ``.gmc`` container: bytes <-> ``Header``. This docstring is the format specification, version 1.

MUST, MUST NOT and MAY have the meaning of RFC 2119. Every multi-byte integer is **little-endian**. A ``v`` is an
unsigned LEB128 integer as in ``formats/varint.py``: seven bits per byte, lowest first, bit 7 set on every byte but the
last. It MUST be canonical (the last byte of a longer one MUST NOT be zero) and MUST be below 2**63, so it takes 1 to 9
bytes.

::

    offset  0   1   2   3     4    5 ..        .. +4
          +---+---+---+----+------+---+---+-----------+----------+----------+======+======+-----------+
          | g | m | c | 01 | mode | w | h | pixel CRC | rounding | metadata | part | part | file CRC  |
          +---+---+---+----+------+---+---+-----------+----------+----------+======+======+-----------+
                                    v   v   4 bytes     optional   optional   1 to 4 parts   4 bytes

    rounding  +---+-------+   only if the mode byte has bit 5 set
              | K | alpha |
              +---+-------+
                v   0 or 1
    metadata  +---+=======================================+   only if the mode byte has bit 7 set
              | n | n bytes: entries (tag 1, length v, ..) |
              +---+=======================================+
                v
    part      +--------+----------+-----------+---+=========+
              | method | channels | weights   | n | payload |   weights only if method >= 16
              +--------+----------+-----------+---+=========+
                 1        1       [4 bytes]   v   n bytes

Fields, in file order:

``magic``      3 bytes ``67 6d 63`` ("gmc").
``version``    1 byte, 1. Any change of the bytes that are written for an input, or of their meaning, changes
               the version. A reader MUST refuse a version that it does not know, and MUST NOT read further.
``mode``       1 byte. Low 5 bits: the mode id of the table below; a reader MUST refuse any other. Bit 5: the
               rounding is present. Bit 7: the metadata section is present. Bit 6 MUST be 0.
``w``, ``h``   v each: width and height in pixels, 1 <= w, h < 2**31. A reader MAY refuse an image with more
               pixels than a limit of its own; it MUST offer a way to lift that limit.
``pixel CRC``  4 bytes: CRC-32 (ISO 3309, as in zlib) of the decoded samples in C H W order, one byte per
               sample, or two little-endian bytes for 16-bit modes. A decoder MUST check it before it
               returns samples.
``rounding``   The image is near-lossless: parts hold what ``image/near_lossless.py`` says, and no sample of the
               source differs by more than K from the decoded one. K MUST be at least 1 and less than half of the
               values of a sample; ``alpha`` says whether alpha was rounded as well, and MUST be 0 for modes
               without alpha. Modes 1 and P MUST NOT have it.
``metadata``   v length n >= 1, then exactly n bytes of entries: tag (1 byte), length (v), bytes. Tags MUST
               NOT decrease from entry to entry; a tag MAY repeat. ``image/metadata.py`` defines the meaning of
               tags; a reader MUST skip tags that it does not know. A file without entries MUST NOT have the
               section.
``parts``      1 to 4 parts. Each covers the next 1 to 4 channels, in channel order; together they MUST
               cover every channel of the mode exactly once. The number of parts is not stored: the last part
               is the one that covers the last channel.
               ``method``: the id of the method that made the payload. 0 is never used, 1..15 are methods without
               weights, 16..255 are learned models. Ids are permanent: append only, never renumber, never reuse.
               ``weights``: for learned models, the first 4 bytes of the SHA-256 of the weights file.
               ``payload``: v length, then that many bytes. It MAY be empty.
``file CRC``   4 bytes: CRC-32 of every byte before it. Nothing may follow.

===== ======== ======== =====      ===== ======== ======== =====
id    mode     channels depth      id    mode     channels depth
===== ======== ======== =====      ===== ======== ======== =====
1     1        1        1          6     RGBA     4        8
2     L        1        8          7     I;16     1        16
3     LA       2        8          8     LA;16    2        16
4     P        1        8          9     RGB;16   3        16
5     RGB      3        8          10    RGBA;16  4        16
11    CMYK     4        8          13    CMYK;16  4        16
12    LAB      3        8          14    LAB;16   3        16
===== ======== ======== =====      ===== ======== ======== =====

Samples of mode ``1`` are 0 or 1. The palette of mode ``P`` is metadata. In mode ``LAB``, a and b are unsigned, and
128, or 32768, means no colour.

There is only one way to write a given header, so equal headers make equal bytes. A reader checks in this
order: magic, version, structure and lengths, file CRC, dimensions. It needs memory proportional to the size of the
file, whatever the file claims about its image.

Size: beside its payload, a 768x512 RGB photograph in one part takes 3+1+1 + 2+2 + 4 + (1+1+4+3) + 4 = **26 bytes**
with a learned model and 22 bytes with a conventional method. A 32x32 image takes 23 bytes with a learned model.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from gmcodec.arrays import UInt
from gmcodec.errors import (
    ChecksumError,
    GmcFormatError,
    ImageTooLargeError,
    NotAGmcFileError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from gmcodec.formats import varint
from gmcodec.image.modes import DEFAULT_MAX_PIXELS, MODES_BY_ID
from gmcodec.image.near_lossless import EXACT_MODES, Near

MAGIC = b"gmc"
FORMAT_VERSION = 1
FIRST_LEARNED_METHOD = 16
WEIGHTS_ID_BYTES = 4

_MODE_BITS, _ROUNDING_FLAG, _RESERVED_BIT, _METADATA_FLAG = 0x1F, 0x20, 0x40, 0x80
MAX_SIDE = 2**31
_CRC_BYTES = 4
_CRC_CHUNK = 1 << 20  # bytes that pixels_crc may copy at a time


@dataclass(frozen=True)
class Part:
    """The payload of the next ``channels`` channels.  ``weights_id``: 4 bytes for a learned model, else empty."""

    method: int
    channels: int
    payload: bytes
    weights_id: bytes = b""


@dataclass(frozen=True)
class Header:
    """The content of a file.

    metadata  pairs (tag, bytes) with non-decreasing tags
    near      how samples were rounded, None if they were not
    """

    mode_id: int
    width: int
    height: int
    pixels_crc: int
    metadata: tuple[tuple[int, bytes], ...]
    parts: tuple[Part, ...]
    near: Near | None = None

    @property
    def channels(self) -> int:
        """Samples per pixel, 1 to 4."""
        return MODES_BY_ID[self.mode_id].channels

    @property
    def depth(self) -> int:
        """Bits per sample: 1, 8 or 16."""
        return MODES_BY_ID[self.mode_id].depth

    @property
    def version(self) -> int:
        """The format version; only one exists so far."""
        return FORMAT_VERSION

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def pack(header: Header) -> bytes:
    """The bytes of a file.  Raises GmcFormatError if ``header`` has a value that the format does not allow."""
    _check(header)
    out = bytearray(MAGIC)
    out.append(FORMAT_VERSION)
    out.append(header.mode_id | (_METADATA_FLAG if header.metadata else 0) | (_ROUNDING_FLAG if header.near else 0))
    out += varint.write(header.width) + varint.write(header.height)
    out += header.pixels_crc.to_bytes(_CRC_BYTES, "little")
    if header.near:
        out += varint.write(header.near.most) + bytes([header.near.alpha])
    if header.metadata:
        section = b"".join(bytes([tag]) + varint.write(len(data)) + data for tag, data in header.metadata)
        out += varint.write(len(section)) + section
    for part in header.parts:
        out += bytes([part.method, part.channels]) + part.weights_id
        out += varint.write(len(part.payload)) + part.payload
    out += zlib.crc32(out).to_bytes(_CRC_BYTES, "little")
    return bytes(out)


def unpack(data: bytes | memoryview, *, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Header:
    """The header of a whole file; payloads are copied, so ``data`` may be reused.

    Raises ``NotAGmcFileError``, ``UnsupportedVersionError``, ``TruncatedFileError``, ``GmcFormatError`` and
    ``ChecksumError`` (checked in about this order) and, last, ``ImageTooLargeError`` above ``max_pixels``.
    """
    view = memoryview(data).cast("B")
    magic = bytes(view[: len(MAGIC)])
    if not MAGIC.startswith(magic):
        raise NotAGmcFileError(f"starts with {magic!r}, not with {MAGIC!r}")
    reader = Reader(view)
    reader.take(len(MAGIC), "the magic bytes")
    version = reader.byte("the format version")
    if version != FORMAT_VERSION:
        raise UnsupportedVersionError(f"format version {version}; this release reads version {FORMAT_VERSION}")

    header = _read_body(reader)
    crc = zlib.crc32(view[: reader.at])
    stored = int.from_bytes(reader.take(_CRC_BYTES, "the file CRC"), "little")
    if reader.left:
        raise GmcFormatError(f"{reader.left} bytes follow the end of the file")
    _check(header)
    if crc != stored:
        raise ChecksumError(f"the file's CRC-32 is {crc:08x}, it should be {stored:08x}: the file is damaged")
    if max_pixels is not None and header.pixels > max_pixels:
        raise ImageTooLargeError(f"{header.width}x{header.height} is {header.pixels} pixels, the limit is {max_pixels}")
    return header


def _read_body(reader: Reader) -> Header:
    """Read from the mode byte to the last part.  Lengths are checked here, values in ``_check``."""
    mode_byte = reader.byte("the mode")
    mode_id = mode_byte & _MODE_BITS
    exact = mode_id in MODES_BY_ID and MODES_BY_ID[mode_id].name in EXACT_MODES
    if mode_byte & _RESERVED_BIT or mode_id not in MODES_BY_ID or (mode_byte & _ROUNDING_FLAG and exact):
        raise GmcFormatError(f"mode byte {mode_byte:#04x} is not one of format version {FORMAT_VERSION}")
    width, height = reader.varint("the width"), reader.varint("the height")
    crc = int.from_bytes(reader.take(_CRC_BYTES, "the pixel CRC"), "little")
    near = _read_rounding(reader) if mode_byte & _ROUNDING_FLAG else None

    metadata: tuple[tuple[int, bytes], ...] = ()
    if mode_byte & _METADATA_FLAG:
        section = reader.take(reader.varint("the metadata length"), "the metadata")
        if not section:
            raise GmcFormatError("the metadata section is empty, which is not allowed")
        metadata = _read_metadata(section)

    parts: list[Part] = []
    missing = MODES_BY_ID[mode_id].channels
    while missing > 0:
        method, channels = reader.byte("a part's method"), reader.byte("a part's channels")
        if method == 0 or not 1 <= channels <= missing:  # checked here, because the loop must end
            raise GmcFormatError(f"part of method {method} covers {channels} channels, {missing} are left")
        weights_id = bytes(reader.take(_weights_bytes(method), "a weights id"))
        payload = bytes(reader.take(reader.varint("a payload length"), "a payload"))
        parts.append(Part(method, channels, payload, weights_id))
        missing -= channels
    return Header(mode_id, width, height, crc, metadata, tuple(parts), near)


def _read_rounding(reader: Reader) -> Near:
    most, alpha = reader.varint("the rounding"), reader.byte("whether alpha is rounded")
    if alpha > 1:
        raise GmcFormatError(f"whether alpha is rounded is 0 or 1, not {alpha}")
    return Near(most, bool(alpha))


def _read_metadata(section: memoryview) -> tuple[tuple[int, bytes], ...]:
    """The entries of a metadata section.  Raises GmcFormatError, also if an entry exceeds the section."""
    reader = Reader(section)
    entries: list[tuple[int, bytes]] = []
    try:
        while reader.left:
            tag = reader.byte("a tag")
            entries.append((tag, bytes(reader.take(reader.varint("an entry's length"), "an entry"))))
    except TruncatedFileError as error:
        raise GmcFormatError(f"in the metadata section: {error}") from error
    return tuple(entries)


def _check(header: Header) -> None:
    """Raise GmcFormatError if ``header`` has a value that the format does not allow."""
    if header.mode_id not in MODES_BY_ID:
        raise GmcFormatError(f"mode id {header.mode_id} is not one of {sorted(MODES_BY_ID)}")
    if not (1 <= header.width < MAX_SIDE and 1 <= header.height < MAX_SIDE):
        raise GmcFormatError(f"dimensions {header.width}x{header.height} are outside 1..{MAX_SIDE - 1}")
    if not 0 <= header.pixels_crc < 2**32:
        raise GmcFormatError(f"pixel CRC {header.pixels_crc} does not fit 32 bits")
    if header.near and not header.near.fits(MODES_BY_ID[header.mode_id].name):
        raise GmcFormatError(f"an image of mode {MODES_BY_ID[header.mode_id].name} cannot have {header.near}")
    tags = [tag for tag, _ in header.metadata]
    if tags != sorted(tags) or (tags and not 0 <= tags[0] <= tags[-1] <= 255):
        raise GmcFormatError("metadata tags are not in order, or do not fit a byte")
    for part in header.parts:
        if not (1 <= part.method <= 255 and 1 <= part.channels <= 4):
            raise GmcFormatError(f"part of method {part.method} covers {part.channels} channels")
        if len(part.weights_id) != _weights_bytes(part.method):
            raise GmcFormatError(f"method {part.method} comes with a weights id of {len(part.weights_id)} bytes")
    covered = sum(part.channels for part in header.parts)
    if covered != header.channels:
        raise GmcFormatError(f"parts cover {covered} channels, the mode has {header.channels}")


def _weights_bytes(method: int) -> int:
    return WEIGHTS_ID_BYTES if method >= FIRST_LEARNED_METHOD else 0


def pixels_crc(data: UInt[np.ndarray, "C H W"]) -> int:
    """CRC-32 of samples ``data``, uint8 or uint16 ``[C, H, W]`` in any memory layout and byte order."""
    if data.ndim != 3 or data.dtype.kind != "u" or data.dtype.itemsize > 2:
        raise TypeError(f"expected uint8 or uint16 [C, H, W], got {data.dtype} {list(data.shape)}")
    stored = data.dtype.newbyteorder("<")
    rows = max(1, _CRC_CHUNK // max(1, data.shape[2] * stored.itemsize))
    crc = 0
    for plane in data:
        for top in range(0, plane.shape[0], rows):
            # a view if the plane has the format's layout, else a copy of one band
            crc = zlib.crc32(np.ascontiguousarray(plane[top : top + rows], dtype=stored).data, crc)
    return crc


def overhead(header: Header) -> int:
    """Bytes of the packed file that are not payload."""
    bare = tuple(Part(part.method, part.channels, b"", part.weights_id) for part in header.parts)
    empty = replace(header, parts=bare)
    # the length of an empty payload takes one byte
    return len(pack(empty)) + sum(len(varint.write(len(part.payload))) - 1 for part in header.parts)


class Reader:
    """A cursor over bytes that cannot run past their end."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._view) - self.at

    def take(self, count: int, what: str) -> memoryview:
        """The next ``count`` bytes, not copied.  Raises TruncatedFileError, whose message names ``what``."""
        if count > self.left:
            raise TruncatedFileError(f"{what} needs {count} bytes, {self.left} are left")
        self.at += count
        return self._view[self.at - count : self.at]

    def byte(self, what: str) -> int:
        """The next byte."""
        return self.take(1, what)[0]

    def varint(self, what: str) -> int:
        """The next number of ``formats/varint.py``."""
        value, self.at = varint.read(self._view, self.at, what)
        return value
