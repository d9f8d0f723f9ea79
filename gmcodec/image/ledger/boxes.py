# SPDX-License-Identifier: MIT
"""Boxes, of which JPEG 2000, HEIF, AVIF and JPEG XL files consist.

::

    length (4 bytes)  kind (4)  [length (8), where the first is 1]  body        length 0: to the end
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gmcodec.image.ledger.base import Fate, Ledger, in_bytes, shown
from gmcodec.image.ledger.exif import find_tiff
from gmcodec.image.metadata import Tag

MAX_BOXES = 1 << 16  # in one row; files have tens, and what follows stays without a claim

# kinds of boxes that describe the picture; what nobody knows may be content of its own
_METADATA = (b"uuid", b"xml ", b"jumb", b"free", b"skip", b"asoc", b"nlst", b"lbl ", b"uinf", b"jp2i", b"brob", b"grpl")
UUIDS = {
    "be7acfcb97a942e89c71999491e3afac": "XMP",
    b"JpgTiffExif->JP2".hex(): "EXIF",
    "0537cdab9d0c4431a72afa561f2a113e": "EXIF",
    "b14bf8bd083d4b43a5ae8cd7d5a6ce03": "GeoTIFF",
    "96a9f1f1dc98402da7aed68e34451809": "world file",
    "33c7a4d2b81d4723a0baf1a3e097ad38": "IPTC",
    "d8fec3d61b0e483c92975828877ec481": "C2PA",
}


class Box(NamedTuple):
    """Kind, and where the box starts, its body starts and it ends."""

    kind: bytes
    start: int
    body: int
    end: int


def boxes(raw: bytes, at: int, end: int) -> Iterator[Box]:
    """Boxes from ``at`` to ``end``.

    One that is too long is cut, as the file may be.  What cannot be a box ends the row, and so does a second ``ftyp``:
    another file has been put behind this one, say the film of a motion photo.
    """
    typed = False
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, body = int.from_bytes(raw[at : at + 4], "big"), at + 8
        if size == 1:
            size, body = int.from_bytes(raw[at + 8 : at + 16], "big"), at + 16
        kind, stop = raw[at + 4 : at + 8], min(at + size, end) if size else end
        named = kind.decode("latin-1").isprintable()
        if stop < body or (at + size > end and not named) or (kind == b"ftyp" and typed):
            return
        typed |= kind == b"ftyp"
        yield Box(kind, at, body, stop)
        at = stop


def pixels(ledger: Ledger, box: Box) -> bytes:
    """The box says how samples are stored."""
    ledger.claim(box.start, box.end, shown(box.kind), Fate.PIXELS)
    return ledger.raw[box.body : box.end]


def kept(ledger: Ledger, box: Box) -> bytes:
    """The caller keeps what is in the box."""
    ledger.claim(box.start, box.end, shown(box.kind), Fate.KEPT)
    return ledger.raw[box.body : box.end]


def head(ledger: Ledger, box: Box, extra: int = 0) -> int:
    """The box holds others: claim what is before them, ``extra`` bytes of the body included, and return the end."""
    end = min(box.body + extra, box.end)
    ledger.claim(box.start, end, shown(box.kind), Fate.PIXELS)
    return end


def lost(ledger: Ledger, box: Box, what: str = "", *, metadata: bool | None = None) -> None:
    """The box has no place in ``Planes``: one with a name, or one that nothing here knows.

    Free space is lost only where something was left in it.
    """
    if metadata is None:
        metadata = bool(what) or box.kind in _METADATA
    if box.kind in (b"free", b"skip") and not ledger.raw[box.body : box.end].strip(b"\0"):
        pixels(ledger, box)
        return
    ledger.claim(box.start, box.end, shown(box.kind), Fate.LOST)
    ledger.lose(f"{what or f'box {shown(box.kind)}'} ({in_bytes(box.end - box.start)})", metadata=metadata)


def uuid(ledger: Ledger, box: Box) -> None:
    """A box whose kind is in its first 16 bytes: XMP and EXIF are kept."""
    kind = UUIDS.get(ledger.raw[box.body : min(box.body + 16, box.end)].hex(), "")
    data = ledger.raw[box.body + 16 : box.end]
    if kind == "XMP":
        xmp(ledger, box, data)
    elif kind == "EXIF":
        exif(ledger, box, data)
    else:
        lost(ledger, box, kind or f"box uuid {ledger.raw[box.body : box.body + 16].hex()}")


def exif(ledger: Ledger, box: Box, data: bytes) -> None:
    """Keep EXIF wherever in ``data`` its TIFF header is; without one it is lost."""
    value = find_tiff(data)
    if value is None:
        lost(ledger, box, "EXIF without a header")
        return
    kept(ledger, box)
    ledger.keep(Tag.EXIF, value, "EXIF")


def xml(ledger: Ledger, box: Box, data: bytes) -> None:
    """Keep XML if it is XMP."""
    if is_xmp(data):
        xmp(ledger, box, data)
    else:
        lost(ledger, box, "XML")


def xmp(ledger: Ledger, box: Box, data: bytes) -> None:
    kept(ledger, box)
    if data:
        ledger.keep(Tag.XMP, data, "XMP packet")


def is_xmp(data: bytes) -> bool:
    return any(mark in data[:4096] for mark in (b"<x:xmpmeta", b"<?xpacket", b"adobe:ns:meta/", b"<rdf:RDF"))
