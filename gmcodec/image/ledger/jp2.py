# SPDX-License-Identifier: MIT
"""JPEG 2000: a codestream, alone (J2K) or in boxes (JP2, JPX).

ITU-T T.800: Annex A for marker segments, Annex I for boxes.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from gmcodec.image.ledger import boxes as b
from gmcodec.image.ledger.base import Fate, Ledger, printable
from gmcodec.image.metadata import Tag, Text

_SOC, _EOC, _SOT, _SOD, _COMMENT, _CRG = b"\xff\x4f", b"\xff\xd9", b"\xff\x90", b"\xff\x93", b"\xff\x64", b"\xff\x63"
# marker segments that describe how samples are stored: SIZ COD COC QCD QCC RGN POC PPM PPT PLM PLT TLM CAP PRF CPF SOT
_STORAGE_MARKERS = frozenset(
    bytes([0xFF, code]) for code in b"\x51\x52\x53\x5c\x5d\x5e\x5f\x60\x61\x57\x58\x55\x50\x56\x59"
)
_COLOUR_SPACES = {16: "sRGB", 17: "grey", 18: "sYCC"}  # that the decoder supports


def account(ledger: Ledger) -> None:
    """Claim the parts of a JPEG 2000 file."""
    if ledger.raw.startswith(_SOC):
        _codestream(ledger, 0, len(ledger.raw))
        return
    streams = headers = 0
    for box in b.boxes(ledger.raw, 0, len(ledger.raw)):
        if box.kind == b"jp2c":
            streams += 1
            if streams == 1:
                _codestream(ledger, b.head(ledger, box), box.end)
            else:
                b.lost(ledger, box, "a further picture", metadata=False)
        elif box.kind == b"jp2h" and not headers:
            headers = 1
            _header(ledger, box)
        elif box.kind in (b"jP  ", b"ftyp", b"rreq"):
            b.pixels(ledger, box)
        elif box.kind == b"xml ":
            b.xml(ledger, box, ledger.raw[box.body : box.end])
        elif box.kind == b"uuid":
            b.uuid(ledger, box)
        else:
            b.lost(ledger, box)


# -- boxes -----------------------------------------------------------------------------------------------


def _header(ledger: Ledger, header: b.Box) -> None:
    for box in b.boxes(ledger.raw, b.head(ledger, header), header.end):
        if box.kind in (b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef"):
            b.pixels(ledger, box)
        elif box.kind == b"colr":
            _colour(ledger, box)
        elif box.kind == b"res ":
            _resolutions(ledger, box)
        else:
            b.lost(ledger, box)


def _colour(ledger: Ledger, box: b.Box) -> None:
    body = ledger.raw[box.body : box.end]
    method, space = body[:1], int.from_bytes(body[3:7], "big")
    if method in (b"\2", b"\3"):
        b.kept(ledger, box)
        if len(body) > 3:
            ledger.keep(Tag.ICC, body[3:], "ICC profile")
    elif method == b"\1" and space in _COLOUR_SPACES:
        b.pixels(ledger, box)
    elif method == b"\1":
        b.lost(ledger, box, f"colour space {space}")
    else:
        b.lost(ledger, box, f"colour by method {method[0] if method else 'unknown'}")


def _resolutions(ledger: Ledger, outer: b.Box) -> None:
    """Keep the resolution of capture or, if there is none, that for display."""
    found: dict[bytes, tuple[Fraction, Fraction]] = {}
    for box in b.boxes(ledger.raw, b.head(ledger, outer), outer.end):
        resolution = _resolution(ledger.raw[box.body : box.end])
        if box.kind not in (b"resc", b"resd") or resolution is None or box.kind in found:
            b.lost(ledger, box)
            continue
        b.kept(ledger, box)
        found[box.kind] = resolution
    if found:
        first, *others = (found[kind] for kind in (b"resc", b"resd") if kind in found)
        tag, value = _density(*first)
        ledger.keep(tag, value, "resolution")
        if others and others[0] != first:
            ledger.lose("resolution for display")


def _resolution(body: bytes) -> tuple[Fraction, Fraction] | None:
    """Pixels per metre across and down; None if they are not plausible."""
    if len(body) != 10:
        return None
    down, down_by, across, across_by, down_exponent, across_exponent = struct.unpack(">HHHHbb", body)
    if not (down and down_by and across and across_by):
        return None
    x = Fraction(across, across_by) * Fraction(10) ** across_exponent
    y = Fraction(down, down_by) * Fraction(10) ** down_exponent
    return (x, y) if all(Fraction(1, 1000) < v < 1 << 32 for v in (x, y)) else None


def _density(x: Fraction, y: Fraction) -> tuple[Tag, bytes]:
    if x.denominator == y.denominator == 1:
        return Tag.DENSITY, struct.pack(">IIB", int(x), int(y), 1)
    return Tag.DPI, struct.pack("<dd", x * Fraction(254, 10000), y * Fraction(254, 10000))


# -- the codestream --------------------------------------------------------------------------------------


def _codestream(ledger: Ledger, start: int, end: int) -> None:
    """Claim a codestream from SOC to EOC: marker segments, then tile-parts, which contain their lengths."""
    raw = ledger.raw
    if raw[start : start + 2] != _SOC:
        return
    ledger.claim(start, start + 2, "SOC", Fate.PIXELS)
    at = _segments(ledger, start + 2, end)
    while at + 12 <= end and raw[at : at + 2] == _SOT:
        length = int.from_bytes(raw[at + 6 : at + 10], "big")
        ledger.claim(at, min(at + 12, end), "SOT", Fate.PIXELS)
        data = _segments(ledger, at + 12, end)
        if length:
            stop = min(at + length, end)
        else:  # up to the first EOC: coded data never contains FF followed by more than 8F
            found = raw.find(_EOC, data, end)
            stop = found if found >= 0 else end
        if stop < data:
            return
        ledger.claim(data, stop, "tile-part", Fate.PIXELS)
        at = stop
    if raw[at : min(at + 2, end)] == _EOC:
        ledger.claim(at, at + 2, "EOC", Fate.PIXELS)


def _segments(ledger: Ledger, at: int, end: int) -> int:
    """Claim marker segments up to a tile-part, the data of one, or bytes that are no segment.  Returns the end."""
    raw = ledger.raw
    while at + 4 <= end and raw[at] == 0xFF and raw[at : at + 2] not in (_SOT, _SOD, _EOC):
        marker, size = raw[at : at + 2], int.from_bytes(raw[at + 2 : at + 4], "big")
        if size < 2:
            return at
        _segment(ledger, marker, at, min(at + 2 + size, end))
        at = min(at + 2 + size, end)
    return at


def _segment(ledger: Ledger, marker: bytes, at: int, end: int) -> None:
    body = ledger.raw[at + 4 : end]
    ledger.at = at
    if marker in _STORAGE_MARKERS or (
        marker == _CRG and not any(body)
    ):  # CRG: offsets of the components, zero by default
        ledger.pixels(end - at, f"marker {marker.hex()}")
    elif marker == _COMMENT and body[:2] == b"\0\1":
        ledger.kept(end - at, "comment")
        if body[2:]:
            ledger.texts.append(Text(b"Comment", body[2:]))
    else:
        name = {_COMMENT: "binary comment", _CRG: "registration of the components"}.get(marker)
        ledger.lost(end - at, name or f"marker {printable(marker)}")
