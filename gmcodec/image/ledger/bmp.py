# SPDX-License-Identifier: MIT
"""BMP and DIB: headers, pixels, and the profile of version 5.  Density is in pixels per metre, as in PNG."""

from __future__ import annotations

import struct

from gmcodec.errors import ImageReadError
from gmcodec.image import bmp
from gmcodec.image.ledger.base import Fate, Ledger
from gmcodec.image.metadata import Tag


def account(ledger: Ledger) -> None:
    """Claim the parts of a BMP file, or of a DIB without the file's header."""
    raw = ledger.raw
    bare = not raw.startswith(b"BM")
    try:
        header = bmp.read_header(raw, bare=bare)
    except ImageReadError:
        return
    if not bare and any(raw[6:10]):
        ledger.lose(f"reserved bytes {raw[6:10].hex()}")
    ledger.pixels(header.end, "headers")
    if header.bits <= 8 or header.colours:
        palette = min(header.palette_bytes, max(0, header.pixels - header.end))
        ledger.pixels(palette, "palette")
    plain = header.compression in bmp.UNCOMPRESSED
    size = header.stride * header.height if plain else header.data_size
    if not size:  # run-length coded pixels of unknown length
        size = (header.profile[0] if header.profile else len(raw)) - header.pixels
    ledger.claim(header.pixels, min(header.pixels + max(size, header.data_size if plain else 0), len(raw)), "pixels",
                 Fate.PIXELS)  # fmt: skip
    x, y = header.density
    if x > 0 and y > 0:
        ledger.tags[Tag.DENSITY] = struct.pack(">IIB", x, y, 1)
    _colours(ledger, header)


def _colours(ledger: Ledger, header: bmp.Header) -> None:
    """The colour space of versions 4 and 5."""
    if header.space == "calibrated":
        ledger.lose("calibrated primaries and gamma")
    if header.profile is None:
        return
    start, end = header.profile
    profile = ledger.raw[start:end]
    if header.space == "linked":
        ledger.claim(start, min(end, len(ledger.raw)), "profile", Fate.LOST)
        ledger.lose(f"the name of a colour profile, {profile.rstrip(bytes(1)).decode('latin-1')!r}")
    elif profile:
        ledger.claim(start, min(end, len(ledger.raw)), "profile", Fate.KEPT)
        ledger.keep(Tag.ICC, profile, "colour profile")
