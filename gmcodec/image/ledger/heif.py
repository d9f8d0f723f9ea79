# SPDX-License-Identifier: MIT
"""AVIF and HEIF: items with properties.  The picture is the primary item and the items that it is derived from.

::

    ftyp  meta: [ pitm  iinf  iloc  iref  iprp: [ ipco: [properties]  ipma ] ]  mdat: [data of items]

``account_avif`` and ``account_heif`` are for different decoders.  Pillow does not rotate an AVIF, so its rotation
(irot, imir) becomes the orientation in EXIF; libheif rotates the picture.
"""

from __future__ import annotations

import struct

from gmcodec.image.ledger import boxes as b
from gmcodec.image.ledger.base import Fate, Ledger, byte_text, printable
from gmcodec.image.ledger.exif import find_tiff, with_orientation
from gmcodec.image.ledger.heif_items import Item, Meta, entries_of, read_meta
from gmcodec.image.ledger.orientation import exif_orientation
from gmcodec.image.metadata import Tag

# properties that describe how samples are stored
_STORAGE_PROPERTIES = {
    b"ispe",
    b"pixi",
    b"av1C",
    b"hvcC",
    b"avcC",
    b"vvcC",
    b"jpgC",
    b"j2kH",
    b"cmpC",
    b"uncC",
    b"cmpd",
    b"a1lx",
}
_STORAGE_PROPERTIES |= {b"a1op", b"lsel", b"auxC", b"lhvC", b"tols", b"oinf", b"evcC"}
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:avc:2015:auxid:1")
_NAMES = {b"", b"Color", b"Alpha", b"Image", b"Exif", b"XMP"}  # that writers use by default
_LOST_PROPERTIES = {
    b"amve": "ambient viewing environment",
    b"cclv": "content colour volume",
    b"udes": "description by the user",
    b"altt": "alternative text",
    b"crtt": "creation time",
    b"mdft": "modification time",
}
_UNSPECIFIED = 2


def account_avif(ledger: Ledger) -> None:
    """Claim the parts of an AVIF file."""
    _account(ledger, rotates=False)


def account_heif(ledger: Ledger) -> None:
    """Claim the parts of a HEIF file."""
    _account(ledger, rotates=True)


def _account(ledger: Ledger, rotates: bool) -> None:
    """``rotates``: whether the decoder rotates the picture."""
    top = list(b.boxes(ledger.raw, 0, len(ledger.raw)))
    sequence = any(box.kind == b"moov" for box in top)
    metas = [box for box in top if box.kind == b"meta"]
    for box in top:
        if box.kind == b"ftyp":
            b.pixels(ledger, box)
        elif box.kind == b"moov":
            b.lost(ledger, box, "sequence of frames (moov)", metadata=False)
        elif box.kind == b"mdat":  # items claim its bytes; tables of frames are not read
            b.head(ledger, box)
            if sequence:
                ledger.claim(box.body, box.end, "frames", Fate.LOST)
        elif box.kind == b"uuid":
            b.uuid(ledger, box)
        elif box not in metas[:1]:
            b.lost(ledger, box)
    if metas:
        _Picture(ledger, metas[0], rotates).account()


class _Picture:
    """A box ``meta`` and its items."""

    def __init__(self, ledger: Ledger, box: b.Box, rotates: bool) -> None:
        self.ledger, self.box, self.rotates = ledger, box, rotates
        self.meta: Meta = read_meta(ledger.raw, box)
        self.colour = self._derived_from({self.meta.primary})  # items of the picture without its alpha
        self.parts = self.colour | self._alpha()
        self.exif = b""

    def account(self) -> None:
        self._tables()
        self._properties()
        for number, item in sorted(self.meta.items.items()):
            self._item(number, item)
        self._set_orientation()

    # -- which items are the picture ---------------------------------------------------------------------

    def _derived_from(self, items: set[int]) -> set[int]:
        """Items, and the items that they are derived from, such as the tiles of a grid."""
        found, new = set(items), set(items)
        while new:
            new = self.meta.refers(b"dimg", new) - found
            found |= new
        return found

    def _alpha(self) -> set[int]:
        found = {n for n in self.meta.referring(b"auxl", self.colour) if self._auxiliary(self.meta.item(n)) in _ALPHA}
        return self._derived_from(found)

    def _auxiliary(self, item: Item) -> bytes:
        """The type of an auxiliary picture."""
        bodies = (self._body(box)[4:] for box in self._boxes(item) if box.kind == b"auxC")
        return next(bodies, b"").split(b"\0")[0]

    def _boxes(self, item: Item) -> list[b.Box]:
        known = self.meta.properties
        return [known[n - 1] for n in item.properties if 0 < n <= len(known)]

    def _body(self, box: b.Box) -> bytes:
        return self.ledger.raw[box.body : box.end]

    # -- tables ------------------------------------------------------------------------------------------

    def _tables(self) -> None:
        ledger = self.ledger
        for box in b.boxes(ledger.raw, b.head(ledger, self.box, 4), self.box.end):
            if box.kind in (b"hdlr", b"pitm", b"iloc", b"iref", b"dinf"):
                b.pixels(ledger, box)
            elif box.kind == b"iinf":
                inner = entries_of(ledger.raw, box)
                ledger.claim(box.start, inner[0].start if inner else box.end, "iinf", Fate.PIXELS)
                for entry in inner:
                    b.pixels(ledger, entry) if entry.kind == b"infe" else b.lost(ledger, entry)
            elif box.kind == b"iprp":
                for part in b.boxes(ledger.raw, b.head(ledger, box), box.end):
                    if part.kind == b"ipco":  # properties claim its boxes
                        b.head(ledger, part)
                    elif part.kind == b"ipma":
                        b.pixels(ledger, part)
                    else:
                        b.lost(ledger, part)
            elif box.kind == b"idat":
                b.head(ledger, box)
            elif box.kind == b"uuid":
                b.uuid(ledger, box)
            else:
                b.lost(ledger, box)

    # -- properties --------------------------------------------------------------------------------------

    def _properties(self) -> None:
        of_picture = [box for n in sorted(self.colour) for box in self._boxes(self.meta.item(n))]
        of_parts = {box for n in self.parts for box in self._boxes(self.meta.item(n))}
        of_any = {box for item in self.meta.items.values() for box in self._boxes(item)}
        profile = any(box.kind == b"colr" and self._body(box)[:4] in (b"prof", b"rICC") for box in of_picture)
        picture = set(of_picture)
        for box in self.meta.properties:
            if box.kind in _STORAGE_PROPERTIES and box in of_any:
                b.pixels(self.ledger, box)
            elif box in picture:
                self._property(box, profile)
            elif box in of_parts and box.kind in (b"colr", b"irot", b"imir", b"clap", b"pasp"):
                b.pixels(self.ledger, box)  # of the alpha channel
            elif box in of_any and box not in of_parts:
                self.ledger.claim(box.start, box.end, printable(box.kind), Fate.LOST)  # the loss of its item is named
            else:
                b.lost(self.ledger, box)

    def _property(self, box: b.Box, profile: bool) -> None:
        body, ledger = self._body(box), self.ledger
        if box.kind == b"colr":
            self._colour(box, body, profile)
        elif box.kind in (b"irot", b"imir"):
            b.pixels(ledger, box)
        elif box.kind == b"clap":
            self._crop(box, body)
        elif box.kind == b"pasp" and len(body) == 8:
            b.kept(ledger, box)
            across, down = struct.unpack(">II", body)  # of a pixel; pHYs counts pixels per length
            if across != down:
                swap = self.rotates and self._orientation() > 4
                x, y = (across, down) if swap else (down, across)
                ledger.keep(Tag.DENSITY, struct.pack(">IIB", x, y, 0), "pixel aspect ratio")
        elif box.kind == b"clli" and len(body) == 4:
            b.kept(ledger, box)  # in cd/m2; PNG has ten-thousandths of that
            light = struct.pack(">II", *(10000 * value for value in struct.unpack(">HH", body)))
            ledger.keep(Tag.LIGHT_LEVEL, light, "light level")
        elif box.kind == b"mdcv" and len(body) == 24:
            b.kept(ledger, box)  # units as in PNG; primaries green, blue, red here and red, green, blue in PNG
            ledger.keep(Tag.MASTERING, body[8:12] + body[:8] + body[12:], "mastering display")
        else:
            b.lost(ledger, box, _LOST_PROPERTIES.get(box.kind, f"property {printable(box.kind)}"))

    def _colour(self, box: b.Box, body: bytes, profile: bool) -> None:
        ledger = self.ledger
        if body[:4] in (b"prof", b"rICC"):
            b.kept(ledger, box)
            if body[4:]:
                ledger.keep(Tag.ICC, body[4:], "ICC profile")
        elif body[:4] == b"nclx" and len(body) >= 8:
            primaries, transfer = struct.unpack(">HH", body[4:8])
            if (primaries, transfer) == (_UNSPECIFIED, _UNSPECIFIED):
                b.pixels(ledger, box)
            elif profile or max(primaries, transfer) > 255:
                # readers of HEIF prefer the profile, readers of PNG would prefer the codes
                b.lost(ledger, box, f"colour codes {primaries}/{transfer}")
            else:  # decoders return RGB of the full range
                b.kept(ledger, box)
                ledger.keep(Tag.CICP, bytes([primaries, transfer, 0, 1]), "CICP")
        else:
            b.lost(ledger, box, f"colour of type {printable(body[:4])}")

    def _crop(self, box: b.Box, body: bytes) -> None:
        """Claim a crop.  Pillow returns the whole picture; libheif crops, often only padding of the codec."""
        if not self.rotates:
            b.lost(self.ledger, box, "crop (clap)")
            return
        b.pixels(self.ledger, box)
        size = next(
            (self._body(s)[4:12] for s in self._boxes(self.meta.item(self.meta.primary)) if s.kind == b"ispe"), b""
        )
        if len(size) == 8 and len(body) == 32:
            width, width_by, height, height_by = struct.unpack(">4I", body[:16])
            across, down = struct.unpack(">II", size)
            if across - width // max(width_by, 1) >= 64 or down - height // max(height_by, 1) >= 64:
                self.ledger.lose("what is outside the crop (clap)", metadata=False)

    # -- items -------------------------------------------------------------------------------------------

    def _item(self, number: int, item: Item) -> None:
        if number in self.parts:
            self._claim(item, Fate.PIXELS)
            if item.unreachable:
                self.ledger.lose(f"item {number}, which is stored elsewhere", metadata=False)
            if item.name not in _NAMES:
                self.ledger.lose(f"name of an item: {printable(item.name[:80])}")
            return
        of_picture = self._describes(number)
        data = self._data(item)
        if of_picture and item.kind == b"Exif" and (value := find_tiff(data)) is not None:
            self._claim(item, Fate.KEPT)
            if self.exif and self.exif != value:
                self.ledger.lose(f"a second EXIF ({byte_text(len(value))})")
            self.exif = self.exif or value
        elif of_picture and item.content == b"application/rdf+xml" and not item.encoding and data:
            self._claim(item, Fate.KEPT)
            self.ledger.keep(Tag.XMP, data, "XMP packet")
        else:
            self._claim(item, Fate.LOST)
            what, metadata = self._name(number, item)
            self.ledger.lose(
                f"{what} ({byte_text(sum(stop - start for start, stop in item.extents))})", metadata=metadata
            )

    def _describes(self, number: int) -> bool:
        """Whether metadata describes the picture: it refers to it, or to nothing."""
        about = self.meta.refers(b"cdsc", {number})
        return not about or bool(about & self.parts)

    def _name(self, number: int, item: Item) -> tuple[str, bool]:
        """A description of a lost item, and whether it is metadata."""
        if item.kind in (b"Exif", b"mime", b"uri "):
            return f"item {printable(item.content or item.kind)}", True
        if self.meta.refers(b"thmb", {number}):
            return "thumbnail", False
        if self.meta.refers(b"auxl", {number}):
            return f"auxiliary picture {printable(self._auxiliary(item)[:80])}", False
        if item.kind == b"tmap" or self.meta.referring(b"dimg", {number}):
            return ("gain map (tmap)" if item.kind == b"tmap" else "part of a further picture"), False
        return f"further item {printable(item.kind)}", False

    def _claim(self, item: Item, fate: Fate) -> None:
        for start, stop in item.extents:
            self.ledger.claim(start, stop, f"item {printable(item.kind)}", fate)

    def _data(self, item: Item) -> bytes:
        """The data of an item; none if overlapping extents make it larger than the file."""
        if sum(stop - start for start, stop in item.extents) > len(self.ledger.raw):
            return b""
        return b"".join(self.ledger.raw[start:stop] for start, stop in item.extents)

    # -- orientation -----------------------------------------------------------------------

    def _orientation(self) -> int:
        boxes = self._boxes(self.meta.item(self.meta.primary))
        return exif_orientation(
            [(box.kind, (self._body(box) or b"\0")[0]) for box in boxes if box.kind in (b"irot", b"imir")]
        )

    def _set_orientation(self) -> None:
        """Keep EXIF, with the orientation that the decoded picture still needs."""
        exif = with_orientation(self.exif, 1 if self.rotates else self._orientation())
        if exif:
            self.ledger.keep(Tag.EXIF, exif, "EXIF")
