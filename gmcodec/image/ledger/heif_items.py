# SPDX-License-Identifier: MIT
"""The tables of a HEIF file: its items, where their data is, and how they refer to each other.

ISO/IEC 14496-12 (iloc, iinf, iref) and 23008-12 (ipco, ipma).  Nothing here claims bytes or raises errors: a truncated
table ends early.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gmcodec.image.ledger.boxes import Box, boxes


@dataclass
class Item:
    """An item: its kind, name and content type, extents (start, end) of its data, numbers of its properties."""

    kind: bytes = b""
    name: bytes = b""
    content: bytes = b""
    encoding: bytes = b""
    extents: list[tuple[int, int]] = field(default_factory=list)
    unreachable: bool = False  # its data is in another file, or stored by a method that is not supported
    properties: list[int] = field(default_factory=list)


@dataclass
class Meta:
    """The box ``meta``; property number 1 is ``properties[0]``."""

    primary: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    targets: dict[tuple[bytes, int], set[int]] = field(default_factory=dict)  # by kind of reference and source
    sources: dict[tuple[bytes, int], set[int]] = field(default_factory=dict)  # by kind and target
    properties: list[Box] = field(default_factory=list)
    idat: Box | None = None

    def item(self, number: int) -> Item:
        """The item of a number, which is created if it does not exist."""
        return self.items.setdefault(number, Item())

    def refers(self, kind: bytes, sources: Iterable[int]) -> set[int]:
        """Items to which ``sources`` refer."""
        return {to for source in sources for to in self.targets.get((kind, source), ())}

    def referring(self, kind: bytes, targets: Iterable[int]) -> set[int]:
        """Items that refer to ``targets``."""
        return {source for to in targets for source in self.sources.get((kind, to), ())}


class _Reader:
    """A cursor over the numbers in a box; behind the end they are zero."""

    def __init__(self, raw: bytes, box: Box) -> None:
        self.raw, self.at, self.end = raw, box.body, box.end
        self.version = self.number(1)
        self.flags = self.number(3)

    @property
    def more(self) -> bool:
        return self.at < self.end

    def number(self, size: int) -> int:
        value = int.from_bytes(self.raw[self.at : min(self.at + size, self.end)], "big")
        self.at += size
        return value

    def string(self) -> bytes:
        stop = self.raw.find(b"\0", self.at, self.end)
        stop = self.end if stop < 0 else stop
        value, self.at = self.raw[self.at : stop], stop + 1
        return value


def read_meta(raw: bytes, meta: Box) -> Meta:
    """All tables in a box ``meta``."""
    out = Meta()
    inner = list(boxes(raw, meta.body + 4, meta.end))
    out.idat = next((box for box in inner if box.kind == b"idat"), None)
    for box in inner:
        if box.kind == b"pitm":
            reader = _Reader(raw, box)
            out.primary = reader.number(2 if reader.version == 0 else 4)
        elif box.kind == b"iinf":
            _read_names(raw, box, out)
        elif box.kind == b"iref":
            _read_references(raw, box, out)
        elif box.kind == b"iprp":
            _read_properties(raw, box, out)
        elif box.kind == b"iloc":
            _read_extents(raw, box, out)
    return out


def entries_of(raw: bytes, iinf: Box) -> list[Box]:
    """The boxes ``infe`` in a box ``iinf``."""
    reader = _Reader(raw, iinf)
    reader.number(2 if reader.version == 0 else 4)
    return list(boxes(raw, reader.at, iinf.end))


def _read_names(raw: bytes, box: Box, out: Meta) -> None:
    for entry in entries_of(raw, box):
        reader = _Reader(raw, entry)
        item = out.item(reader.number(4 if reader.version == 3 else 2))
        reader.number(2)
        if reader.version >= 2:
            item.kind = raw[reader.at : min(reader.at + 4, entry.end)]
            reader.at += 4
        item.name = reader.string()
        if item.kind == b"mime" or reader.version < 2:
            item.content, item.encoding = reader.string(), reader.string()


def _read_references(raw: bytes, box: Box, out: Meta) -> None:
    size = 2 if _Reader(raw, box).version == 0 else 4
    for entry in boxes(raw, box.body + 4, box.end):
        reader = _Reader(raw, entry)
        reader.at = entry.body
        source, count = reader.number(size), reader.number(2)
        count = min(count, max(entry.end - reader.at, 0) // size)
        for target in (reader.number(size) for _ in range(count)):
            out.targets.setdefault((entry.kind, source), set()).add(target)
            out.sources.setdefault((entry.kind, target), set()).add(source)


def _read_properties(raw: bytes, box: Box, out: Meta) -> None:
    for part in boxes(raw, box.body, box.end):
        if part.kind == b"ipco":
            out.properties += boxes(raw, part.body, part.end)
        elif part.kind == b"ipma":
            reader = _Reader(raw, part)
            reader.number(4)
            while reader.more:
                item = out.item(reader.number(2 if reader.version < 1 else 4))
                for _ in range(reader.number(1)):
                    wide = reader.flags & 1
                    item.properties.append(reader.number(2 if wide else 1) & (0x7FFF if wide else 0x7F))


def _read_extents(raw: bytes, box: Box, out: Meta) -> None:
    reader = _Reader(raw, box)
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    index_size = index_size if reader.version in (1, 2) else 0
    reader.number(4 if reader.version == 2 else 2)
    while reader.more:
        item = out.item(reader.number(4 if reader.version == 2 else 2))
        method = reader.number(2) & 15 if reader.version in (1, 2) else 0
        elsewhere = reader.number(2)
        base, count = reader.number(base_size), reader.number(2)
        start, end = _source(raw, method, out)
        item.unreachable |= method > 1 or elsewhere != 0
        size = index_size + offset_size + length_size
        for _ in range(min(count, max(reader.end - reader.at, 0) // size if size else 1)):
            reader.number(index_size)
            first = min(start + base + reader.number(offset_size), end)
            length = reader.number(length_size) if length_size else 0
            last = min(first + length, end) if length else end
            if not item.unreachable:
                item.extents.append((first, last))


def _source(raw: bytes, method: int, out: Meta) -> tuple[int, int]:
    """Start and end of the bytes that offsets refer to: the file, or the box ``idat``."""
    if method == 1:
        return (out.idat.body, out.idat.end) if out.idat else (0, 0)
    return 0, len(raw)
