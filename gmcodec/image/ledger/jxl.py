# SPDX-License-Identifier: MIT
"""JPEG XL: a codestream, alone or in boxes.

Only decoding finds the end of a bare codestream, so here it is assumed to be the end of the file; ``image/plugins.py``
checks that.  ISO/IEC 18181-1 (codestream) and 18181-2 (boxes).
"""

from __future__ import annotations

from gmcodec.image.ledger import boxes as b
from gmcodec.image.ledger.base import Fate, Ledger, printable
from gmcodec.image.ledger.exif import find_tiff, with_orientation
from gmcodec.image.ledger.jxl_header import Header, read_header
from gmcodec.image.metadata import MAX_VALUE_BYTES, Tag

JXL_SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
_BARE = b"\xff\x0a"
_EXTRA = {1: "depth", 2: "spot colour", 3: "selection mask", 4: "black", 5: "colour filter array", 6: "thermal"}


def account(ledger: Ledger) -> None:
    """Claim the parts of a JPEG XL file."""
    raw = ledger.raw
    if raw.startswith(_BARE):
        ledger.claim(0, len(raw), "codestream", Fate.PIXELS)
        _header(ledger, read_header(raw))
        return
    whole = partial = False
    for box in b.boxes(raw, 0, len(raw)):
        if box.kind in (b"JXL ", b"ftyp", b"jxll", b"jxli"):
            b.pixels(ledger, box)
        elif box.kind == b"jxlc" and not whole and not partial:
            whole = True
            b.pixels(ledger, box)
        elif box.kind == b"jxlp" and not whole:
            partial = True
            last = raw[box.body : box.body + 1] >= b"\x80"
            whole = last
            b.pixels(ledger, box)
        elif box.kind in (b"jxlc", b"jxlp"):
            b.lost(ledger, box, "a further codestream", metadata=False)
        else:
            _metadata(ledger, box, box.kind, raw[box.body : box.end])
    _header(ledger, read_header(codestream(raw)))


def codestream(raw: bytes) -> bytes:
    """The codestream of a file, bare or in boxes; b"" if there is none."""
    if raw.startswith(_BARE):
        return raw
    parts = []
    for box in b.boxes(raw, 0, len(raw)):
        if box.kind == b"jxlc":
            return raw[box.body : box.end]
        if box.kind == b"jxlp":  # starts with the number of the part
            parts.append(raw[box.body + 4 : box.end])
    return b"".join(parts)


def _metadata(ledger: Ledger, box: b.Box, kind: bytes, data: bytes | None) -> None:
    """Claim a box that is no codestream.  ``data`` is None if the box is compressed and cannot be inflated."""
    if kind == b"brob" and data is not None and box.kind == b"brob" and data[:4] != b"brob":
        _metadata(ledger, box, data[:4], _inflated(data[4:]) if data[:4] in (b"Exif", b"xml ") else None)
    elif kind == b"Exif" and data is not None:
        _exif(ledger, box, data)
    elif kind == b"xml " and data is not None:
        b.xml(ledger, box, data)
    elif kind == b"uuid" and data is not None:
        b.uuid(ledger, box)
    elif kind == b"jbrd":
        b.lost(ledger, box, "the data to rebuild the original JPEG file", metadata=False)
    else:
        b.lost(ledger, box, f"compressed box {printable(kind)}" if box.kind == b"brob" else "")


def _exif(ledger: Ledger, box: b.Box, data: bytes) -> None:
    """Claim EXIF, and set its orientation to 1: the decoder has rotated the picture as the codestream says."""
    value = find_tiff(data)
    b.exif(ledger, box, data if value is None else with_orientation(value, 1))


def _header(ledger: Ledger, header: Header | None) -> None:
    """Keep or name what the header of the codestream contains besides the description of samples."""
    if header is None:
        return
    if header.cicp:
        ledger.keep(Tag.CICP, bytes([*header.cicp, 0, 1]), "CICP")
    if header.intrinsic:
        ledger.lose("intended size {}x{}".format(*header.intrinsic))
    if header.preview:
        ledger.lose("preview", metadata=False)
    if header.animated:
        ledger.lose("animation", metadata=False)
    alpha = False
    for channel in header.extra:
        if channel.kind == 0 and not alpha:
            alpha = True
        else:
            ledger.lose(f"channel of {_EXTRA.get(channel.kind, f'type {channel.kind}')}", metadata=False)
        if channel.name:
            ledger.lose(f"name of a channel: {printable(channel.name[:80])}")
    if header.tone_mapped:
        ledger.lose("tone mapping")


def _inflated(data: bytes) -> bytes | None:
    """Inflate Brotli; None if that package is not installed, or the data is damaged or too long."""
    try:
        import brotli
    except ImportError:
        return None
    out = bytearray()
    stream = brotli.Decompressor()
    try:
        for at in range(0, len(data), 16):  # in small steps, because a few bytes can become many
            out += stream.process(data[at : at + 16])
            if len(out) > MAX_VALUE_BYTES:
                return None
        return bytes(out) if stream.is_finished() else None
    except brotli.error:
        return None
