# SPDX-License-Identifier: MIT
"""TIFF directories (IFDs), which EXIF also consists of: bytes <-> entries; and a writer of TIFF files.

::

    file       II*\\0 | offset of IFD 0 | ... | IFD 0 | values | Exif IFD | values | pixels
    IFD        count (2) | entries (12 each): tag (2) type (2) count (4) value or offset (4) | offset of next IFD (4)

Values stay bytes in the byte order of the file; only offsets are interpreted.  Files with offsets of 64 bits (BigTIFF)
are read, but not written.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

EXIF_IFD, GPS_IFD, INTEROP_IFD = 34665, 34853, 40965
SUB_DIRECTORIES = {EXIF_IFD, GPS_IFD, INTEROP_IFD}  # tags that point to directories of metadata
SUB_IMAGES = 330  # tag with offsets of directories of further images
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
# tags that describe how samples are stored
STRUCTURE = {254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 317, 320, 322,
             323, 324, 325, 338, 339, 347, *range(512, 522), 529, 530, 531, 532}  # fmt: skip
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_DEPTH = 4


@dataclass
class Entry:
    """An entry of a directory: a tag with its type and value."""

    tag: int
    type: int
    count: int
    value: bytes
    extent: tuple[int, int] | None = None  # start and end of the value, if it lies outside of the directory
    directory: Directory | None = None  # whose offset is the value


@dataclass
class Directory:
    """An IFD: bytes ``start`` to ``end`` of the file, its entries, and the offset of the next IFD or 0."""

    start: int
    end: int
    entries: list[Entry] = field(default_factory=list)
    next: int = 0

    def get(self, tag: int) -> Entry | None:
        """The first entry with this tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


class Reader:
    """The directories of a TIFF file or of a block of EXIF.  Raises ValueError if it is neither."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.order = {b"II": "<", b"MM": ">"}.get(raw[:2], "")
        version = struct.unpack_from(self.order + "H", raw, 2)[0] if self.order and len(raw) >= 16 else 0
        if version not in (42, 43):
            raise ValueError("no TIFF header")
        self.big = version == 43
        self.head = 16 if self.big else 8
        (self.first,) = struct.unpack_from(self.order + ("Q" if self.big else "I"), raw, 8 if self.big else 4)

    def integers(self, entry: Entry | None) -> tuple[int, ...]:
        """The values of an entry of an integer type; empty for other types."""
        code = _INTEGERS.get(entry.type) if entry else None
        if entry is None or code is None:
            return ()
        return struct.unpack(f"{self.order}{len(entry.value) // TYPE_SIZES[entry.type]}{code}", entry.value)

    def rationals(self, entry: Entry | None) -> tuple[Fraction, ...]:
        """The values of an entry of type RATIONAL or of an integer type; 0 in place of a division by zero."""
        if entry is None or entry.type != 5:
            return tuple(map(Fraction, self.integers(entry)))
        found = struct.unpack(f"{self.order}{2 * (len(entry.value) // 8)}I", entry.value)
        return tuple(Fraction(a, b) if b else Fraction(0) for a, b in zip(found[::2], found[1::2], strict=True))

    def directory(self, at: int, depth: int = 0) -> Directory:
        """The directory at an offset, with its SUB_DIRECTORIES.  Raises ValueError if it is truncated."""
        counting, each, inside = ("Q", 20, 8) if self.big else ("H", 12, 4)
        pointer = "Q" if self.big else "I"
        try:
            (count,) = struct.unpack_from(self.order + counting, self.raw, at)
            body = at + struct.calcsize(counting)
            found = Directory(at, body + each * count + inside)
            (found.next,) = struct.unpack_from(self.order + pointer, self.raw, found.end - inside)
        except (struct.error, OverflowError):  # the latter for offsets of 64 bits
            raise ValueError(f"the directory at {at} is truncated") from None
        for start in range(body, found.end - inside, each):
            tag, kind, number = struct.unpack_from(f"{self.order}HH{pointer}", self.raw, start)
            size, value_at = TYPE_SIZES.get(kind, 0) * number, start + each - inside
            outside = size > inside
            if outside:
                (value_at,) = struct.unpack_from(self.order + pointer, self.raw, value_at)
            value = self.raw[value_at : value_at + size]
            if len(value) != size or kind not in TYPE_SIZES:
                raise ValueError(f"tag {tag} is truncated or has the unknown type {kind}")
            entry = Entry(tag, kind, number, value, (value_at, value_at + size) if outside else None)
            if tag in SUB_DIRECTORIES and depth < _MAX_DEPTH and len(offset := self.integers(entry)) == 1:
                entry.directory = self.directory(offset[0], depth + 1)
            found.entries.append(entry)
        return found

    def chain(self) -> Iterator[Directory]:
        """The directories of all pages.  Raises ValueError at one that is truncated or comes a second time."""
        at, seen = self.first, set[int]()
        while at:
            if at in seen:
                raise ValueError("directories form a loop")
            seen.add(at)
            yield (found := self.directory(at))
            at = found.next


# --- writing ---------------------------------------------


def pack_directory(entries: Sequence[Entry], order: str, at: int) -> bytes:
    """The bytes of a directory at offset ``at``, followed by the values that do not fit into it and subdirectories."""
    entries = sorted(entries, key=lambda entry: entry.tag)
    table, values = bytearray(struct.pack(order + "H", len(entries))), bytearray()
    start = at + 2 + 12 * len(entries) + 4
    for entry in entries:
        value, kind, count = entry.value, entry.type, entry.count
        if entry.directory is not None:
            value, kind, count = struct.pack(order + "I", start + len(values)), 4, 1
            values += pack_directory(entry.directory.entries, order, start + len(values))
        elif len(value) > 4:
            where = start + len(values)
            values += value + b"\0" * (len(value) & 1)
            value = struct.pack(order + "I", where)
        table += struct.pack(order + "HHI", entry.tag, kind, count) + value.ljust(4, b"\0")
        values += b"\0" * (len(values) & 1)
    return bytes(table) + struct.pack(order + "I", 0) + bytes(values)


def pack_exif(entries: Sequence[Entry], order: str) -> bytes:
    """A block of EXIF from the entries of its first directory.  ``order``: "<" or ">", the byte order of values."""
    return header(order) + pack_directory(entries, order, 8)


def header(order: str) -> bytes:
    """The first 8 bytes of a file whose first directory follows immediately."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)


def integers(tag: int, values: Sequence[int], order: str, kind: int = 3) -> Entry:
    """An entry of type SHORT (3) or LONG (4)."""
    return Entry(tag, kind, len(values), struct.pack(f"{order}{len(values)}{_INTEGERS[kind]}", *values))


def rational(tag: int, value: float | Fraction, order: str) -> Entry | None:
    """An entry of type RATIONAL; None if no rational of 32 bits equals the value in float64."""
    found = Fraction(value).limit_denominator(10**6)
    if float(found) != float(value) or found.numerator >= 1 << 32:
        return None
    return Entry(tag, 5, 1, struct.pack(order + "II", found.numerator, found.denominator))


def pack_file(strips: Sequence[bytes], entries: Sequence[Entry], order: str) -> bytes:
    """A file of one page: strips of samples, which are deflated here, and entries that describe them.

    Offsets and sizes of the strips are added to the entries.
    """
    packed = [zlib.compress(strip, 6) for strip in strips]
    sizes = integers(279, [len(strip) for strip in packed], order, 4)
    zeros = integers(273, [0] * len(packed), order, 4)
    at = 8 + len(pack_directory([*entries, zeros, sizes], order, 8))
    offsets = [at + before for before in itertools.accumulate((len(strip) for strip in packed[:-1]), initial=0)]
    found = pack_directory([*entries, integers(273, offsets, order, 4), sizes], order, 8)
    return b"".join([header(order), found, *packed])
