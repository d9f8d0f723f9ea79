# SPDX-License-Identifier: MIT
"""EXIF: its start, and its orientation.

AVIF, HEIF and JPEG XL have an orientation of their own, and tell readers to ignore that in EXIF.  PNG and ``Planes``
can store it in EXIF only, so there EXIF must contain the orientation of the format.
"""

from __future__ import annotations

import struct

_HEADERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION = 274


def find_tiff(data: bytes) -> bytes | None:
    """EXIF from its TIFF header on; None if there is none.

    ``Exif\\0\\0``, or the length of what precedes the header, may come before it.
    """
    offset = 4 + int.from_bytes(data[:4], "big")
    for at in (0, 6, 4, 10, offset):
        if data[at : at + 4] in _HEADERS and (at in (0, 4) or at == offset or data[at - 6 : at] == b"Exif\0\0"):
            return data[at:]
    return None


def read_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8; 1 (unchanged) if EXIF has none."""
    found = _find(exif)
    return found[1] if found and 1 <= found[1] <= 8 else 1


def with_orientation(exif: bytes, value: int) -> bytes:
    """EXIF with this orientation.  ``exif`` may be empty; it is returned unchanged if it is not understood."""
    if read_orientation(exif) == value:
        return exif
    if not exif:
        return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, value, 0, 0)
    order = _HEADERS.get(exif[:4])
    if order is None:
        return exif
    found = _find(exif)
    if found:
        at = found[0]
        return exif[:at] + struct.pack(f"{order}HHIHH", _ORIENTATION, 3, 1, value, 0) + exif[at + 12 :]
    return _with_entry(exif, order, struct.pack(f"{order}HHIHH", _ORIENTATION, 3, 1, value, 0))


def _find(exif: bytes) -> tuple[int, int] | None:
    """Offset and value of the entry of the orientation."""
    order = _HEADERS.get(exif[:4])
    for at in _entries(exif, order) if order else ():
        tag, kind, _, value, _ = struct.unpack_from(f"{order}HHIHH", exif, at)
        if tag == _ORIENTATION:
            return at, value if kind == 3 else 0
    return None


def _entries(exif: bytes, order: str) -> range:
    """Offsets of the entries of the first directory, those beyond the end excluded."""
    if len(exif) < 8:
        return range(0)
    start = struct.unpack_from(f"{order}I", exif, 4)[0]
    if start + 2 > len(exif):
        return range(0)
    count = struct.unpack_from(f"{order}H", exif, start)[0]
    return range(start + 2, start + 2 + 12 * min(count, (len(exif) - start - 2) // 12), 12)


def _with_entry(exif: bytes, order: str, entry: bytes) -> bytes:
    """EXIF with one more entry.  The new first directory comes at the end, so that no other offset changes."""
    offsets = _entries(exif, order)
    entries = sorted([*(exif[at : at + 12] for at in offsets), entry], key=lambda e: struct.unpack(f"{order}H", e[:2]))
    after = exif[offsets.stop : offsets.stop + 4].ljust(4, b"\0")
    padded = exif + b"\0" * (len(exif) % 2)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + after
    return padded[:4] + struct.pack(f"{order}I", len(padded)) + padded[8:] + directory
