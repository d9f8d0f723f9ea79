# SPDX-License-Identifier: MIT
"""QOI, SGI and PCX, three small formats."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from gmcodec.image.ledger.base import Fate, Ledger
from gmcodec.image.metadata import Tag, Text

# -- QOI: https://qoiformat.org/qoi-specification.pdf -----------------------------------------------------

_QOI_END = b"\0\0\0\0\0\0\0\1"


def account_qoi(ledger: Ledger) -> None:
    """Claim the parts of a QOI file."""
    header = ledger.pixels(14, "header")
    space = header[13:14]
    if space == b"\1":  # all channels are linear
        ledger.keep(Tag.GAMMA, struct.pack(">I", 100000), "linear samples")
    elif space not in (b"\0", b""):
        ledger.lose(f"colour space {space[0]}")
    # No valid encoder writes seven zeros in a row.  A zero is an index, which must not be repeated, or part of a
    # colour, which has at most four bytes: together that makes at most five zeros.
    end = ledger.raw.find(_QOI_END, ledger.at)
    ledger.pixels((end + 8 if end >= 0 else len(ledger.raw)) - ledger.at, "pixels")


# -- SGI: https://paulbourke.net/dataformats/sgirgb/sgiversion.html ----------------------------------------


def account_sgi(ledger: Ledger) -> None:
    """Claim the parts of an SGI file."""
    header = ledger.pixels(512, "header")
    if len(header) < 512:
        return
    magic, packed, size, dimension, width, height, channels = struct.unpack(">HBBHHHH", header[:12])
    name, kind, rest = header[24:104].split(b"\0")[0], header[104:108], header[108:]
    if name:
        ledger.claim(24, 104, "name", Fate.KEPT)
        ledger.texts.append(Text(b"Title", name))
    if any(header[24 + len(name) : 104]):
        ledger.lose("bytes behind the name")
    if any(kind):
        ledger.lose(f"colour map of kind {int.from_bytes(kind, 'big')}")
    if any(rest):
        ledger.lose("bytes of the header without a meaning")
    height, channels = height if dimension > 1 else 1, channels if dimension > 2 else 1
    if magic != 474 or packed > 1:
        return
    if not packed:
        ledger.pixels(width * height * channels * size, "pixels")
        return
    rows = height * channels
    tables = ledger.pixels(8 * rows, "tables of rows")
    count = min(rows, len(tables) // 8)
    starts = struct.unpack_from(f">{count}I", tables)
    lengths = struct.unpack_from(f">{count}I", tables, 4 * rows) if len(tables) == 8 * rows else ()
    for start, end in _joined(zip(starts, lengths, strict=False)):
        ledger.claim(start, min(end, len(ledger.raw)), "rows", Fate.PIXELS)


def _joined(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Starts and lengths as starts and ends, sorted, with adjacent ranges joined."""
    out: list[tuple[int, int]] = []
    for start, length in sorted(extents):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], start + length))
        else:
            out.append((start, start + length))
    return out


# -- PCX: ZSoft's technical reference ----------------------------------------------------------------------

_PCX_RUN = re.compile(rb"([\xc0-\xff]).", re.DOTALL)  # a count and a byte; all other bytes are pixels
_PCX_LOW = re.compile(rb"[^\xc0-\xff]")
_PCX_COUNTS = bytes(byte & 63 for byte in range(256))


def account_pcx(ledger: Ledger) -> None:
    """Claim the parts of a PCX file."""
    header = ledger.pixels(128, "header")
    if len(header) < 128:
        return
    version, packed, bits, left, top, right, bottom = struct.unpack("<BBBHHHH", header[1:12])
    channels, stride = struct.unpack("<BH", header[65:68])
    width, height = right - left + 1, bottom - top + 1
    if left or top:
        ledger.lose(f"position {left}, {top}")
    if header[64] or any(header[74:]):
        ledger.lose("bytes of the header without a meaning")
    if bits == 1 and channels == 1 and not _black_and_white(header[16:22]):
        ledger.lose("two colours other than black and white")
    _pcx_resolution(ledger, header, (width, height))
    if height <= 0 or width <= 0:
        return
    size = height * channels * stride
    end = _pcx_end(ledger.raw, ledger.at, size) if packed else min(ledger.at + size, len(ledger.raw))
    ledger.pixels(end - ledger.at, "pixels")
    if version == 5 and bits == 8 and channels == 1:
        _pcx_palette(ledger, end)


def _black_and_white(colours: bytes) -> bool:
    """Whether the palette is black and white, or unset: two equal entries."""
    return colours[:3] == colours[3:] or colours == b"\0\0\0\xff\xff\xff"


def _pcx_resolution(ledger: Ledger, header: bytes, size: tuple[int, int]) -> None:
    """Keep the resolution, unless its fields contain the size of the picture or of the screen, as in old files."""
    found = struct.unpack("<2H", header[12:16])
    if found == (0, 0) or found == size or found == struct.unpack("<2H", header[70:74]):
        return
    if min(found) >= 10:
        ledger.keep(Tag.DPI, struct.pack("<dd", *found), "resolution")
    else:
        ledger.lose("resolution {}x{}".format(*found))


def _pcx_end(raw: bytes, at: int, size: int) -> int:
    """Offset at which ``size`` bytes have been unpacked, or the end of the file."""
    while size > 0 and at < len(raw):
        # many runs at once, up to a byte that is no count, so that no run is split
        low = _PCX_LOW.search(raw, min(at + (1 << 16), len(raw)))
        end = low.end() if low else len(raw)
        counts = _PCX_RUN.findall(raw, at, end)
        unpacked = end - at - 2 * len(counts) + sum(b"".join(counts).translate(_PCX_COUNTS))
        if unpacked >= size:
            return _pcx_last(raw, at, size)
        size -= unpacked
        at = end
    return at


def _pcx_last(raw: bytes, at: int, size: int) -> int:
    """The result of ``_pcx_end`` for the last runs, one at a time."""
    while size > 0 and at < len(raw):
        size -= raw[at] & 63 if raw[at] >= 0xC0 else 1
        at += 2 if raw[at] >= 0xC0 else 1
    return min(at, len(raw))


def _pcx_palette(ledger: Ledger, end: int) -> None:
    """Claim the palette: 768 bytes after a 12.  Pillow reads it only at the end of the file."""
    raw = ledger.raw
    at = len(raw) - 769
    if at >= end and raw[at] == 12:
        ledger.claim(at, len(raw), "palette", Fate.PIXELS)
    elif len(raw) - end >= 769 and raw[end] == 12:
        ledger.claim(end, end + 769, "palette", Fate.LOST)
        ledger.lose("palette that is not at the end of the file", metadata=False)
