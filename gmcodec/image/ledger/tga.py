# SPDX-License-Identifier: MIT
"""TGA: header, identification, colours, pixels; in version 2 also areas to which a footer points.

Truevision TGA File Format Specification, version 2.0.
"""

from __future__ import annotations

import struct

from gmcodec.image.ledger.base import Fate, Ledger, byte_text, printable
from gmcodec.image.metadata import Tag

_FOOTER = b"TRUEVISION-XFILE.\0"
# fields of the extension area: name, offset and length
_FIELDS = (
    ("author", 2, 41),
    ("comments of the author", 43, 324),
    ("date and time", 367, 12),
    ("name of the job", 379, 41),
    ("time spent on the job", 420, 6),
    ("software", 426, 41),
    ("version of the software", 467, 3),
    ("key colour", 470, 4),
    ("gamma", 478, 4),
)


def account(ledger: Ledger) -> None:
    """Claim the parts of a TGA file."""
    header = ledger.pixels(18, "header")
    if len(header) < 18:
        return
    id_size, has_map, kind, _, entries, entry_bits, left, top, width, height, depth, _ = struct.unpack(
        "<BBBHHBHHHHBB", header
    )
    if (left, top) not in ((0, 0), (0, height)):  # some writers set the top of a picture that is stored from the top
        ledger.lose(f"position {left}, {top}")
    _identification(ledger, id_size)
    if has_map:
        ledger.pixels(entries * ((entry_bits + 7) // 8), "colour map")
    pixel = (depth + 7) // 8
    if kind & 8:
        end = _packed_end(ledger.raw, ledger.at, width * height, pixel)
        ledger.pixels(end - ledger.at, "packed pixels")
    elif depth == 1:
        ledger.pixels((width + 7) // 8 * height, "pixels")
    else:
        ledger.pixels(width * height * pixel, "pixels")
    _footer(ledger, height, pixel)


def _identification(ledger: Ledger, size: int) -> None:
    value = ledger.raw[ledger.at : ledger.at + size]
    if value.strip(b"\0 "):
        ledger.lost(size, f"identification field {printable(value[:40])!r}")
    elif size:
        ledger.pixels(size, "empty identification field")


def _packed_end(raw: bytes, at: int, pixels: int, pixel: int) -> int:
    """Offset behind the packet with the last of ``pixels``, or the end of the file."""
    end = len(raw)
    while pixels > 0 and at < end:
        first = raw[at]
        if first > 127:
            pixels -= first - 127
            at += 1 + pixel
        else:
            pixels -= first + 1
            at += 1 + pixel * (first + 1)
    return min(at, end)


def _footer(ledger: Ledger, height: int, pixel: int) -> None:
    raw = ledger.raw
    start = len(raw) - 26
    if start < ledger.at or not raw.endswith(_FOOTER):
        return
    ledger.claim(start, len(raw), "footer", Fate.PIXELS)
    extension, developer = struct.unpack("<II", raw[start : start + 8])
    if extension:
        _extension(ledger, extension, start, height, pixel)
    if developer:
        _developer(ledger, developer, start)


def _extension(ledger: Ledger, at: int, end: int, height: int, pixel: int) -> None:
    area = ledger.raw[at : min(at + 495, end)]
    if len(area) < 495:
        return
    ledger.claim(at, at + 495, "extension area", Fate.PIXELS)
    for name, start, size in _FIELDS:
        value = area[start : start + size]
        if value.strip(b"\0 "):
            text = f" {printable(value.split(bytes(1))[0][:40].rstrip())!r}" if size > 12 else ""
            ledger.lose(name + text)
    _aspect(ledger, *struct.unpack("<HH", area[474:478]))
    colours, stamp, rows, attributes = struct.unpack("<IIIB", area[482:495])
    if attributes == 4:
        ledger.lose("that colours are multiplied by alpha", metadata=False)
    if rows:
        ledger.claim(rows, min(rows + 4 * height, end), "table of rows", Fate.PIXELS)
    if colours:
        _lose_range(ledger, colours, min(colours + 2048, end), "colour correction table", metadata=True)
    if stamp:
        width, high = [*ledger.raw[stamp : min(stamp + 2, end)].ljust(2, b"\0")]
        _lose_range(ledger, stamp, min(stamp + 2 + width * high * pixel, end), "thumbnail", metadata=False)


def _aspect(ledger: Ledger, across: int, down: int) -> None:
    """Keep the aspect ratio of a pixel, unless it is unset (0); pHYs has pixels per length."""
    if across and down and across != down:
        ledger.keep(Tag.DENSITY, struct.pack(">IIB", down, across, 0), "pixel aspect ratio")


def _developer(ledger: Ledger, at: int, end: int) -> None:
    """Claim the developer area: a directory of tags, each with an offset and a size."""
    raw = ledger.raw
    count = int.from_bytes(raw[at : min(at + 2, end)], "little")
    stop = min(at + 2 + 10 * count, end)
    ledger.claim(at, stop, "developer directory", Fate.LOST)
    size = 0
    for entry in range(at + 2, stop - 9, 10):
        start, length = struct.unpack("<II", raw[entry + 2 : entry + 10])
        ledger.claim(start, min(start + length, end), "developer data", Fate.LOST)
        size += length
    if count:
        ledger.lose(f"developer area ({byte_text(size)})", metadata=False)


def _lose_range(ledger: Ledger, start: int, end: int, what: str, *, metadata: bool) -> None:
    if start < end:
        ledger.claim(start, end, what, Fate.LOST)
        ledger.lose(f"{what} ({byte_text(end - start)})", metadata=metadata)
