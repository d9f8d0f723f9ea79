# SPDX-License-Identifier: MIT
"""TIFF: the directory of the first page.  Tags that do not describe the storage of samples become EXIF."""

from __future__ import annotations

import struct

from gmcodec.image import tiff
from gmcodec.image.ledger import resources
from gmcodec.image.ledger.base import Fate, Ledger
from gmcodec.image.metadata import Tag

_OFFSETS = {273: 279, 324: 325, 513: 514, 288: 289}  # tags with offsets of bytes, and the tags with their lengths
_OWN_TAGS = {tiff.XMP: Tag.XMP, tiff.ICC: Tag.ICC, tiff.PHOTOSHOP: Tag.PHOTOSHOP}
_RESOLUTION = {tiff.X_RESOLUTION, tiff.Y_RESOLUTION, tiff.RESOLUTION_UNIT}
_IFD_TYPE = 13  # of an offset of a directory
_LONG_TYPES = {16, 17, 18}  # integers of 64 bits, which EXIF does not have


def account(ledger: Ledger) -> None:
    """Claim the directories of a TIFF file."""
    try:
        reader = tiff.Reader(ledger.raw)
        ledger.pixels(reader.head, "header")
        pages = reader.chain()
        first = next(pages)
    except (ValueError, StopIteration):
        return
    _claim_directory(ledger, reader, first, "page 1", Fate.PIXELS)
    kept = [entry for entry in first.entries if _claim_entry(ledger, reader, first, entry)]
    _resolution(ledger, reader, first)
    if kept:
        ledger.keep(Tag.EXIF, tiff.pack_exif(kept, reader.order), "tags")
    further = 0
    try:
        for page in pages:
            further += 1
            _claim_directory(ledger, reader, page, f"page {further + 1}", Fate.LOST)
            for entry in page.entries:
                _claim_value(ledger, entry, f"page {further + 1}", Fate.LOST)
    except ValueError as error:
        ledger.lose(f"a further directory, damaged: {error}", metadata=False)
    if further:
        ledger.lose("a further page" if further == 1 else f"{further} further pages", metadata=False)


def _claim_entry(ledger: Ledger, reader: tiff.Reader, page: tiff.Directory, entry: tiff.Entry) -> bool:
    """Claim an entry of the first page.  Returns whether it belongs into EXIF."""
    tag, name = entry.tag, f"tag {entry.tag}"
    if tag in tiff.STRUCTURE or tag == tiff.ORIENTATION or tag in _RESOLUTION:
        _claim_value(ledger, entry, name, Fate.PIXELS)
        return False
    if tag in _OWN_TAGS:
        _claim_value(ledger, entry, name, Fate.KEPT)
        ledger.keep(_OWN_TAGS[tag], entry.value, name)
        return False
    if tag == tiff.IPTC:
        _claim_value(ledger, entry, name, Fate.KEPT)
        return not _iptc(ledger, page, entry)
    if entry.directory is not None:
        _claim_value(ledger, entry, name, Fate.KEPT)
        return True
    if tag == tiff.SUB_IMAGES or entry.type == _IFD_TYPE or entry.type in _LONG_TYPES:
        return _elsewhere(ledger, reader, entry)
    _claim_value(ledger, entry, name, Fate.KEPT)
    return True


def _iptc(ledger: Ledger, page: tiff.Directory, entry: tiff.Entry) -> bool:
    """Whether the resource blocks contain the IPTC of its own tag, or can take it."""
    blocks = page.get(tiff.PHOTOSHOP)
    inside = resources.find_iptc(blocks.value) if blocks else None
    if blocks is None:
        ledger.keep(Tag.PHOTOSHOP, resources.iptc_block(entry.value), "IPTC")
    return blocks is None or (inside is not None and inside.rstrip(b"\0") == entry.value.rstrip(b"\0"))


def _elsewhere(ledger: Ledger, reader: tiff.Reader, entry: tiff.Entry) -> bool:
    """Claim a tag that EXIF cannot hold: further images, unknown directories, integers of 64 bits."""
    _claim_value(ledger, entry, f"tag {entry.tag}", Fate.LOST)
    count = entry.count
    if entry.tag == tiff.SUB_IMAGES:
        ledger.lose(f"{count} further image{'s' * (count != 1)} below the first page", metadata=False)
    else:
        ledger.lose(f"tag {entry.tag} ({len(entry.value):,} bytes)")
    if entry.type in (4, _IFD_TYPE):
        for offset in reader.integers(entry):
            try:
                found = reader.directory(offset)
            except ValueError:
                continue
            _claim_directory(ledger, reader, found, f"directory of tag {entry.tag}", Fate.LOST)
            for below in found.entries:
                _claim_value(ledger, below, f"directory of tag {entry.tag}", Fate.LOST)
    return False


def _claim_directory(ledger: Ledger, reader: tiff.Reader, found: tiff.Directory, name: str, fate: Fate) -> None:
    """Claim a directory and the samples that it points to."""
    ledger.claim(found.start, found.end, f"directory, {name}", fate)
    for offset_tag, size_tag in _OFFSETS.items():
        offsets, counts = reader.integers(found.get(offset_tag)), reader.integers(found.get(size_tag))
        for offset, count in zip(offsets, counts, strict=False):
            ledger.claim(offset, min(offset + count, len(ledger.raw)), f"samples, {name}", fate)


def _claim_value(ledger: Ledger, entry: tiff.Entry, name: str, fate: Fate) -> None:
    if entry.extent is not None:
        ledger.claim(*entry.extent, name, fate)
    if entry.directory is not None:
        ledger.claim(entry.directory.start, entry.directory.end, name, fate)
        for below in entry.directory.entries:
            _claim_value(ledger, below, name, fate)


def _resolution(ledger: Ledger, reader: tiff.Reader, page: tiff.Directory) -> None:
    """Keep the resolution, if there is one."""
    found = [reader.rationals(page.get(tag))[:1] for tag in (tiff.X_RESOLUTION, tiff.Y_RESOLUTION)]
    if not (found[0] and found[1]) or min(found)[0] <= 0:
        return
    x, y = found[0][0], found[1][0]
    unit = (reader.integers(page.get(tiff.RESOLUTION_UNIT)) or (2,))[0]
    whole = all(value.denominator == 1 and value < 1 << 32 for value in (100 * x, 100 * y))
    if unit == 3 and whole:
        ledger.tags[Tag.DENSITY] = struct.pack(">IIB", int(100 * x), int(100 * y), 1)
    elif unit in (2, 3):
        factor = 2.54 if unit == 3 else 1
        ledger.tags[Tag.DPI] = struct.pack("<dd", float(x) * factor, float(y) * factor)
    elif x != y:  # without a unit only the shape of a pixel is known
        if x.denominator == y.denominator == 1:
            ledger.tags[Tag.DENSITY] = struct.pack(">IIB", int(x), int(y), 0)
        else:
            ledger.lose(f"resolution {float(x):g} x {float(y):g} without a unit")
