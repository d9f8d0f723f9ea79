# SPDX-License-Identifier: MIT
"""BMP with 16 and 32 bits per pixel: samples, with alpha even if no header declares it.  Pillow reads all others.

::

    file   BM | size | reserved | offset of pixels (14 bytes)   header, masks   palette   pixels   profile
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import numpy as np

from gmcodec.errors import ImageReadError, UnsupportedImageError

FILE_HEADER = 14
_CORE, _INFO, _INFO_ALPHA, _V4, _V5 = 12, 40, 56, 108, 124
RAW, BITFIELDS, ALPHA_BITFIELDS = 0, 3, 6
UNCOMPRESSED = (RAW, BITFIELDS, ALPHA_BITFIELDS)
_EMBEDDED, _LINKED, _CALIBRATED = 0x4D424544, 0x4C494E4B, 0


@dataclass(frozen=True)
class Header:
    """The headers of a BMP file.

    masks   of R G B A, 0 if there is none
    end     offset of the end of headers and masks
    pixels  offset of the pixels
    """

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
    bare: bool  # a DIB, without the header of the file

    @property
    def stride(self) -> int:
        """Bytes of a row, padding included."""
        return (self.width * self.bits + 31) // 32 * 4

    @property
    def palette_bytes(self) -> int:
        """Bytes of the palette."""
        entries = self.colours or (1 << self.bits if self.bits <= 8 else 0)
        return entries * (3 if self.size == _CORE else 4)


def read_header(raw: bytes, *, bare: bool = False) -> Header:
    """The headers of a BMP file, or of a ``bare`` DIB.  Raises ImageReadError if they are truncated."""
    at = 0 if bare else FILE_HEADER
    try:
        (size,) = struct.unpack_from("<I", raw, at)
        if size == _CORE:
            width, height, _, bits = struct.unpack_from("<HHHH", raw, at + 4)
            return _finish(raw, at, bare, size, width, height, bits, (0, 0, 0, 0, 0))
        width, height, _, bits, *rest = struct.unpack_from("<iiHHIIiiI", raw, at + 4)
        return _finish(raw, at, bare, size, width, height, bits, tuple(rest))
    except struct.error:
        raise ImageReadError("BMP: the header is truncated") from None


def _finish(
    raw: bytes, at: int, bare: bool, size: int, width: int, height: int, bits: int, rest: tuple[int, ...]
) -> Header:
    compression, data_size, x, y, colours = rest
    end, masks = at + size, (0, 0, 0, 0)
    if compression in UNCOMPRESSED[1:]:
        count = 4 if size >= _INFO_ALPHA or compression == ALPHA_BITFIELDS else 3
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
    """The header of a BMP file or DIB that ``read`` decodes, with 16 or 32 bits per pixel; None for other bytes."""
    bare = int.from_bytes(raw[:4], "little") in (_INFO, 52, _INFO_ALPHA, 64, _V4, _V5)
    if not bare and raw[:2] != b"BM":
        return None
    try:
        header = read_header(raw, bare=bare)
    except ImageReadError:
        return None
    return header if header.bits in (16, 32) and header.compression in UNCOMPRESSED else None


def read(raw: bytes, header: Header) -> np.ndarray:
    """Samples of an image with 16 or 32 bits per pixel, uint8 [H, W, 3 or 4].

    There are four channels if the fourth mask is set, or if bits outside of all masks are used, because some programs
    store alpha there without declaring it.  Values of fewer than 8 bits are widened.  Raises ImageReadError for a
    truncated file, UnsupportedImageError for masks of more than 8 bits or of bits that are not consecutive.
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
        masks[3] = _undeclared_mask(used, header.bits)
    return np.stack([_channel(values, mask) for mask in (masks if masks[3] else masks[:3])], axis=2)


def _undeclared_mask(used: int, bits: int) -> int:
    """The mask of the bits outside of all masks.  Raises UnsupportedImageError if they are not consecutive."""
    free = (1 << bits) - 1 - used
    try:
        _shift_and_top(free)
    except UnsupportedImageError:
        raise UnsupportedImageError(f"BMP that uses bits {free:#x}, which its header does not declare") from None
    return free


def _shift_and_top(mask: int) -> tuple[int, int]:
    """Shift and largest value of a mask.  Raises UnsupportedImageError if it is not one to eight consecutive bits."""
    shift = (mask & -mask).bit_length() - 1
    top = mask >> shift if mask else 0
    if not mask or top & (top + 1) or top > 255:
        raise UnsupportedImageError(f"BMP with the mask {mask:#x}: not one to eight consecutive bits")
    return shift, top


def _channel(values: np.ndarray, mask: int) -> np.ndarray:
    shift, top = _shift_and_top(mask)
    samples = (values >> shift & top).astype(np.uint32)
    return (samples * 255 // top).astype(np.uint8)  # rounded down, as in Pillow
