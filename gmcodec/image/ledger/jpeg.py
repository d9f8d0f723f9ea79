# SPDX-License-Identifier: MIT
"""JPEG: segments up to EOI.  Kept: JFIF density, Exif, XMP and Extended XMP, ICC, Photoshop resources, comments.

::

    SOI | APP0 JFIF | APP1 Exif | APP1 XMP | APP2 ICC 1/2 | APP2 ICC 2/2 | DQT SOF DHT SOS scan | EOI | ...
          density     kept        kept       kept, joined                  pixels                       lost
"""

from __future__ import annotations

import itertools
import re
import struct

from gmcodec.image.ledger.base import Ledger
from gmcodec.image.metadata import EXTENDED_XMP_KEY, Tag, Text

_EXIF, _XMP = b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP, _MPF = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"MPF\0"
_SOI, _EOI, _SOS, _COMMENT_MARKER = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP15 = 0xE0, 0xEF
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST, SOI
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # that ends a scan: not stuffing, a restart or a fill byte


def account(ledger: Ledger) -> None:
    """Claim the segments of a JPEG file."""
    icc: dict[int, bytes] = {}
    extended: dict[bytes, dict[int, bytes]] = {}
    raw = ledger.raw
    while ledger.left >= 2 and (next_marker := raw.find(b"\xff", ledger.at)) >= 0 and raw.startswith(b"\xff\xd8"):
        if next_marker > ledger.at:
            ledger.lost(next_marker - ledger.at, "bytes between segments", metadata=False)
            continue
        marker = raw[ledger.at + 1]
        if marker == 0xFF:
            ledger.pixels(1, "fill byte")
            continue
        if marker in _ALONE or marker == _EOI:
            ledger.pixels(2, f"marker {marker:02X}")
            if marker == _EOI:
                break
            continue
        length = int.from_bytes(raw[ledger.at + 2 : ledger.at + 4], "big")
        if length < 2:
            break
        body = raw[ledger.at + 4 : ledger.at + 2 + length]
        if marker == _COMMENT_MARKER:
            ledger.kept(length + 2, "comment")
            ledger.texts.append(Text(b"Comment", body))
        elif _APP0 <= marker <= _APP15:
            _application(ledger, marker - _APP0, body, icc, extended)
        else:
            ledger.pixels(length + 2, f"segment {marker:02X}")
        if marker == _SOS:
            found = _MARKER.search(raw, ledger.at)
            ledger.pixels((found.start() if found else len(raw)) - ledger.at, "scan")
    _join_icc(ledger, icc)
    _join_extended(ledger, extended)


def _application(
    ledger: Ledger, number: int, body: bytes, icc: dict[int, bytes], extended: dict[bytes, dict[int, bytes]]
) -> None:
    """Claim an APPn segment.  ``body``: its content without marker and length."""
    size = len(body) + 4
    if number == 0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        ledger.kept(size, "APP0 JFIF")
        _density(ledger, body)
    elif number == 1 and body.startswith(_EXIF):
        ledger.kept(size, "APP1 Exif")
        if Tag.EXIF in ledger.tags and body[6:8] not in (b"II", b"MM"):
            ledger.tags[Tag.EXIF] += body[6:]  # a block of more than 64 kB continues in the next segment
        else:
            ledger.keep(Tag.EXIF, body[6:], "Exif block")
    elif number == 1 and body.startswith(_XMP):
        ledger.kept(size, "APP1 XMP")
        ledger.keep(Tag.XMP, body[len(_XMP) :], "XMP packet")
    elif number == 1 and body.startswith(_EXTENDED) and len(body) >= len(_EXTENDED) + 40:
        ledger.kept(size, "APP1 Extended XMP")
        guid, total, at = struct.unpack_from(">32sII", body, len(_EXTENDED))
        extended.setdefault(guid + total.to_bytes(4, "big"), {})[at] = body[len(_EXTENDED) + 40 :]
    elif number == 2 and body.startswith(_ICC) and len(body) >= 14:
        ledger.kept(size, "APP2 ICC profile")
        part = body[len(_ICC)] | body[len(_ICC) + 1] << 8
        if icc.setdefault(part, body[14:]) != body[14:]:
            ledger.lose(f"a second ICC profile part ({len(body) - 14:,} bytes)")
    elif number == 13 and body.startswith(_PHOTOSHOP):
        ledger.kept(size, "APP13 Photoshop resources")
        # a block of more than 64 kB continues in the next segment
        ledger.tags[Tag.PHOTOSHOP] = ledger.tags.get(Tag.PHOTOSHOP, b"") + body[len(_PHOTOSHOP) :]
    elif number == 14 and body.startswith(b"Adobe") and len(body) == 12:
        ledger.pixels(size, "APP14 Adobe")  # the colour space of the samples
    else:
        ledger.lost(size, f"APP{number} segment{_name(body)}")


def _density(ledger: Ledger, body: bytes) -> None:
    unit, x, y = struct.unpack_from(">BHH", body, 7)
    if unit == 1 and x and y:
        ledger.tags.setdefault(Tag.DPI, struct.pack("<dd", x, y))
    elif unit == 2 and x and y:  # dots per centimetre
        ledger.tags.setdefault(Tag.DENSITY, struct.pack(">IIB", 100 * x, 100 * y, 1))
    elif x and y and x != y:  # the shape of a pixel, unless it is square, which is the default
        ledger.tags.setdefault(Tag.DENSITY, struct.pack(">IIB", x, y, 0))
    if len(body) > 14:
        ledger.lose(f"the thumbnail in JFIF ({len(body) - 14:,} bytes)")


def _join_icc(ledger: Ledger, parts: dict[int, bytes]) -> None:
    """Join the parts of an ICC profile, which are numbered from 1 and each have the number of parts."""
    numbers, counts = sorted(part & 255 for part in parts), {part >> 8 for part in parts}
    if len(counts) == 1 and numbers == list(range(1, counts.pop() + 1)):
        ledger.keep(Tag.ICC, b"".join(parts[part] for part in sorted(parts)), "ICC profile")
    elif parts:
        ledger.lose(f"an ICC profile whose parts are not all there ({sum(map(len, parts.values())):,} bytes)")


def _join_extended(ledger: Ledger, found: dict[bytes, dict[int, bytes]]) -> None:
    """Join Extended XMP: parts with offsets, and an MD5 by which the main packet refers to them."""
    for head, parts in found.items():
        guid, total = head[:32], int.from_bytes(head[32:], "big")
        whole = b"".join(parts[at] for at in sorted(parts))
        offsets = itertools.accumulate((len(parts[at]) for at in sorted(parts)), initial=0)
        sound = len(whole) == total and all(a == b for a, b in zip(sorted(parts), offsets, strict=False))
        if sound and guid in ledger.tags.get(Tag.XMP, b""):
            ledger.texts.append(Text(EXTENDED_XMP_KEY, whole, international=True))
        else:
            ledger.lose(f"Extended XMP that is incomplete or that nothing refers to ({len(whole):,} bytes)")


def _name(body: bytes) -> str:
    """The name of a segment, the printable characters at its start, in parentheses."""
    found = re.match(rb"[ -~]{3,40}", body)
    return f" ({found.group().decode()})" if found else ""
