# SPDX-License-Identifier: MIT
"""BMP of 16 and 32 bits a pixel -> samples, alpha included, also where no header announces it; the rest is Pillow's.

::

    file   BM | size | reserved | offset of pixels (14 bytes)   header, masks   palette   pixels   profile
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from gmcodec.errors import ImageReadError, UnsupportedImageError

FILE_HEADER = 14
_CORE, _INFO, _WITH_ALPHA, _V4, _V5 = 12, 40, 56, 108, 124
RAW, BITFIELDS, ALPHA_BITFIELDS = 0, 3, 6
PLAIN = (RAW, BITFIELDS, ALPHA_BITFIELDS)
_EMBEDDED, _LINKED, _CALIBRATED = 0x4D424544, 0x4C494E4B, 0


@dataclass(frozen=True)
class Header:
    """What the headers say.  ``end``: of headers and masks; ``pixels``: offset of the pixels; masks: R G B A."""

    size: int
    width: int
    height: int
    bottom_up: bool
    bits: int
    compression: int
    data_size: int
    density: tuple[int, int]
    colours: int
    masks: tuple[int, ...]
    end: int
    pixels: int
    profile: tuple[int, int] | None  # start, end
    space: str  # "", "linked", "calibrated"
    bare: bool  # without the file's header

    @property
    def stride(self) -> int:
        """Bytes of a row."""
        return (self.width * self.bits + 31) // 32 * 4

    @property
    def palette_bytes(self) -> int:
        entries = self.colours or (1 << self.bits if self.bits <= 8 else 0)
        return entries * (3 if self.size == _CORE else 4)


def read_header(raw: bytes, *, bare: bool = False) -> Header:
    """Headers of a BMP file, or of a ``bare`` DIB.  ImageReadError when they are cut."""
    at = 0 if bare else FILE_HEADER
    try:
        (size,) = struct.unpack_from("<I", raw, at)
        if size == _CORE:
            width, height, _, bits = struct.unpack_from("<HHHH", raw, at + 4)
            return _finish(raw, at, bare, size, width, height, bits, (0, 0, 0, 0, 0))
        width, height, _, bits, *rest = struct.unpack_from("<iiHHIIiiI", raw, at + 4)
        return _finish(raw, at, bare, size, width, height, bits, tuple(rest))
    except struct.error:
        raise ImageReadError("BMP: the header is cut") from None


def _finish(
    raw: bytes, at: int, bare: bool, size: int, width: int, height: int, bits: int, rest: tuple[int, ...]
) -> Header:
    compression, data_size, x, y, colours = rest
    end, masks = at + size, (0, 0, 0, 0)
    if compression in PLAIN[1:]:
        count = 4 if size >= _WITH_ALPHA or compression == ALPHA_BITFIELDS else 3
        masks = (*struct.unpack_from(f"<{count}I", raw, at + _INFO), 0)[:4]
        end = max(end, at + _INFO + 4 * count)
    profile, space = None, ""
    if size >= _V4:
        (kind,) = struct.unpack_from("<I", raw, at + 56)
        calibrated = kind == _CALIBRATED and any(raw[at + 60 : at + 108])
        space = "linked" if kind == _LINKED else "calibrated" if calibrated else ""
        if size >= _V5 and kind in (_EMBEDDED, _LINKED):
            start, length = struct.unpack_from("<II", raw, at + 112)
            profile = (at + start, at + start + length)
    pixels = 0 if bare else struct.unpack_from("<I", raw, 10)[0]
    found = Header(size, width, abs(height), height > 0, bits, compression, data_size, (x, y), colours, masks, end,
                   pixels, profile, space, bare)  # fmt: skip
    return found if pixels else replace(found, pixels=end + found.palette_bytes)


def find_masked(raw: bytes) -> Header | None:
    """The header of a BMP file or DIB that ``read`` decodes, of 16 or 32 bits a pixel; else None."""
    bare = int.from_bytes(raw[:4], "little") in (_INFO, 52, _WITH_ALPHA, 64, _V4, _V5)
    if not bare and raw[:2] != b"BM":
        return None
    try:
        header = read_header(raw, bare=bare)
    except ImageReadError:
        return None
    return header if header.bits in (16, 32) and header.compression in PLAIN else None


def read(raw: bytes, header: Header) -> np.ndarray:
    """Samples of a picture of 16 or 32 bits a pixel, uint8 [H, W, 3 or 4].

    Four channels when the fourth mask says so, or when the bits of no mask are used: some programs put alpha there and
    say nothing.  Values of fewer than 8 bits are widened.  Raises ImageReadError for a cut file and
    UnsupportedImageError for masks of more than 8 bits or of bits that do not follow one another.
    """
    if header.width <= 0 or not header.height:
        raise ImageReadError(f"BMP: {header.width}x{header.height}")
    if len(raw) < header.pixels + header.stride * header.height:
        raise ImageReadError("BMP: truncated")
    rows = np.frombuffer(raw, np.uint8, header.stride * header.height, header.pixels).reshape(header.height, -1)
    kind = "<u4" if header.bits == 32 else "<u2"
    values = np.ascontiguousarray(rows[:: -1 if header.bottom_up else 1]).view(kind)[:, : header.width]
    masks = list(header.masks)
    if not any(masks):
        masks = [0xFF0000, 0xFF00, 0xFF, 0] if header.bits == 32 else [0x7C00, 0x3E0, 0x1F, 0]
    used = masks[0] | masks[1] | masks[2]
    if not masks[3] and (values & ((1 << header.bits) - 1 - used)).any():
        masks[3] = _undeclared(used, header.bits)
    return np.stack([_channel(values, mask) for mask in (masks if masks[3] else masks[:3])], axis=2)


def _undeclared(used: int, bits: int) -> int:
    """The mask of bits that no header speaks of: one run of them, or the picture is refused."""
    free = (1 << bits) - 1 - used
    try:
        _run(free)
    except UnsupportedImageError:
        raise UnsupportedImageError(f"BMP with bits {free:#x} in use, of which its header says nothing") from None
    return free


def _run(mask: int) -> tuple[int, int]:
    """Shift and largest value of a mask."""
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift if mask else 0
    if not mask or top & (top + 1) or top > 255:
        raise UnsupportedImageError(f"BMP with the mask {mask:#x}: not one to eight bits in a row")
    return shift, top


def _channel(values: np.ndarray, mask: int) -> np.ndarray:
    shift, top = _run(mask)
    samples = (values >> shift & top).astype(np.uint32)
    return (samples * 255 // top).astype(np.uint8)  # as Pillow widens them
