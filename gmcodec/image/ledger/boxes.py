# SPDX-License-Identifier: MIT
"""Boxes, the parts of JPEG 2000, HEIF, AVIF and JPEG XL files.

::

    length (4 bytes)  kind (4)  [length (8), where the first is 1]  body        length 0: to the end
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gmcodec.image.ledger.base import Fate, Ledger, byte_text, printable
from gmcodec.image.ledger.exif import find_tiff
from gmcodec.image.metadata import Tag

MAX_BOXES = 1 << 16  # that are read one after another: files have tens; further ones get no claim

# kinds of boxes that count as metadata; unknown ones may be other content
_METADATA_BOXES = (
    b"uuid",
    b"xml ",
    b"jumb",
    b"free",
    b"skip",
    b"asoc",
    b"nlst",
    b"lbl ",
    b"uinf",
    b"jp2i",
    b"brob",
    b"grpl",
)
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
    """The kind of a box, and the offsets of its start, its body and its end."""

    kind: bytes
    start: int
    body: int
    end: int


def boxes(raw: bytes, at: int, end: int) -> Iterator[Box]:
    """The boxes from ``at`` to ``end``.

    A box that is too long is shortened, because the file may be truncated.  Iteration ends at bytes that cannot be a
    box, and at a second ``ftyp``, with which another file begins, such as the film of a motion photo.
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
    """Claim a box that describes how samples are stored.  Returns its body."""
    ledger.claim(box.start, box.end, printable(box.kind), Fate.PIXELS)
    return ledger.raw[box.body : box.end]


def kept(ledger: Ledger, box: Box) -> bytes:
    """Claim a box whose content the caller keeps.  Returns its body."""
    ledger.claim(box.start, box.end, printable(box.kind), Fate.KEPT)
    return ledger.raw[box.body : box.end]


def head(ledger: Ledger, box: Box, extra: int = 0) -> int:
    """Claim the head of a box that contains others, and ``extra`` bytes of its body.  Returns the end of this range."""
    end = min(box.body + extra, box.end)
    ledger.claim(box.start, end, printable(box.kind), Fate.PIXELS)
    return end


def lost(ledger: Ledger, box: Box, what: str = "", *, metadata: bool | None = None) -> None:
    """Claim a box that is lost.  Free space is lost only if it is not zero.

    what      a description; default: the kind of the box
    metadata  default: whether there is a description, or the kind counts as metadata
    """
    if metadata is None:
        metadata = bool(what) or box.kind in _METADATA_BOXES
    if box.kind in (b"free", b"skip") and not ledger.raw[box.body : box.end].strip(b"\0"):
        pixels(ledger, box)
        return
    ledger.claim(box.start, box.end, printable(box.kind), Fate.LOST)
    ledger.lose(f"{what or f'box {printable(box.kind)}'} ({byte_text(box.end - box.start)})", metadata=metadata)


def uuid(ledger: Ledger, box: Box) -> None:
    """Claim a box whose kind is a UUID, its first 16 bytes: XMP and EXIF are kept."""
    kind = UUIDS.get(ledger.raw[box.body : min(box.body + 16, box.end)].hex(), "")
    data = ledger.raw[box.body + 16 : box.end]
    if kind == "XMP":
        xmp(ledger, box, data)
    elif kind == "EXIF":
        exif(ledger, box, data)
    else:
        lost(ledger, box, kind or f"box uuid {ledger.raw[box.body : box.body + 16].hex()}")


def exif(ledger: Ledger, box: Box, data: bytes) -> None:
    """Claim a box with EXIF in ``data``: it is kept if it has a TIFF header."""
    value = find_tiff(data)
    if value is None:
        lost(ledger, box, "EXIF without a header")
        return
    kept(ledger, box)
    ledger.keep(Tag.EXIF, value, "EXIF")


def xml(ledger: Ledger, box: Box, data: bytes) -> None:
    """Claim a box with XML in ``data``: it is kept if it is XMP."""
    if is_xmp(data):
        xmp(ledger, box, data)
    else:
        lost(ledger, box, "XML")


def xmp(ledger: Ledger, box: Box, data: bytes) -> None:
    """Claim a box with XMP in ``data``."""
    kept(ledger, box)
    if data:
        ledger.keep(Tag.XMP, data, "XMP packet")


def is_xmp(data: bytes) -> bool:
    """Whether XML is XMP, by marks near its start."""
    return any(mark in data[:4096] for mark in (b"<x:xmpmeta", b"<?xpacket", b"adobe:ns:meta/", b"<rdf:RDF"))
