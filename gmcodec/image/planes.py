# SPDX-License-Identifier: MIT
"""``Planes``, an image as integers, and its conversion from and to arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmcodec.arrays import Shaped, UInt
from gmcodec.errors import UnsupportedImageError
from gmcodec.image.ledger.base import Loss
from gmcodec.image.modes import MODES

_BAND_PIXELS = 1 << 20  # pixels that are copied at a time
_ARRAY_MODES = {8: ("L", "LA", "RGB", "RGBA"), 16: ("I;16", "LA;16", "RGB;16", "RGBA;16")}


@dataclass(frozen=True, eq=False)
class Planes:
    """An image as integers.

    data      [C, H, W], C-contiguous; uint16 if the mode has 16 bits, else uint8; mode "1": 0 or 1; "P": palette
              indices; "CMYK": ink; "LAB": unsigned, where a and b of 128 (32768) mean no colour
    mode      a key of MODES
    metadata  pairs (permanent tag, bytes) sorted by tag, see ``image/metadata.py``
    lost      what the source contains and these planes do not, see ``image/ledger``

    Raises UnsupportedImageError if data does not fit the mode.  Planes are equal if data, mode and metadata are.
    """

    data: np.ndarray
    mode: str
    metadata: tuple[tuple[int, bytes], ...] = ()
    lost: tuple[Loss, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnsupportedImageError(f"unknown mode {self.mode!r}")
        dtype = np.dtype(np.uint16 if self.depth == 16 else np.uint8)
        data = self.data
        if data.dtype != dtype or data.ndim != 3 or data.shape[0] != MODES[self.mode].channels or not data.size:
            raise UnsupportedImageError(f"{data.dtype} {list(data.shape)} is no image of mode {self.mode}")
        if self.mode == "1" and data.max() > 1:
            raise UnsupportedImageError("an image of mode 1 holds values other than 0 and 1")
        if not data.flags.c_contiguous:
            object.__setattr__(self, "data", np.ascontiguousarray(data))

    @property
    def channels(self) -> int:
        """Samples per pixel."""
        return int(self.data.shape[0])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.data.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.data.shape[2])

    @property
    def depth(self) -> int:
        """Bits per sample: 1, 8 or 16."""
        return MODES[self.mode].depth

    @property
    def dimensions(self) -> int:
        """Number of samples, the denominator of bits per dimension."""
        return int(self.data.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Planes):
            return NotImplemented
        same = (self.mode, self.metadata) == (other.mode, other.metadata)
        return same and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


# --- arrays ---------------------------------------------


def from_array(array: UInt[np.ndarray, " ..."]) -> Planes:
    """A copy of uint8 or uint16 [H, W] or [H, W, C], C = 1 to 4 (grey, grey+alpha, RGB, RGBA), as Planes.

    Raises UnsupportedImageError for any other dtype or shape, and for empty arrays.
    """
    array = np.asarray(array)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise UnsupportedImageError(f"arrays must be uint8 or uint16, not {array.dtype}")
    hwc = array[:, :, None] if array.ndim == 2 else array
    if hwc.ndim != 3 or not hwc.size or hwc.shape[2] > 4:
        raise UnsupportedImageError(f"arrays must be [H, W] or [H, W, 1 to 4] and not empty, not {list(array.shape)}")
    depth = 8 * array.dtype.itemsize
    if hwc.transpose(2, 0, 1).flags.c_contiguous:
        hwc = hwc.transpose(2, 0, 1).copy().transpose(1, 2, 0)  # from_samples would not copy the caller's array
    return from_samples(hwc, _ARRAY_MODES[depth][hwc.shape[2] - 1])


def to_array(planes: Planes) -> UInt[np.ndarray, " ..."]:
    """Inverse of ``from_array``: a copy, [H, W] for one channel, else [H, W, C].  A palette is not applied."""
    return (planes.data[0] if planes.channels == 1 else planes.data.transpose(1, 2, 0)).copy()


def from_samples(
    hwc: Shaped[np.ndarray, "H W C"],
    mode: str,
    metadata: tuple[tuple[int, bytes], ...] = (),
    lost: tuple[Loss, ...] = (),
) -> Planes:
    """Samples [H, W, C] of a mode as Planes.  Samples that lie plane by plane and are writable are not copied."""
    dtype = np.uint16 if MODES[mode].depth == 16 else np.uint8
    data = np.asarray(hwc.transpose(2, 0, 1), dtype=dtype, order="C")
    return Planes(data if data.flags.writeable else data.copy(), mode, metadata, lost)


def from_pillow(image: Any) -> Shaped[np.ndarray, "C H W"]:
    """Samples [H, W, C] of a loaded Pillow image; those of large images lie plane by plane.

    Large images are copied band by band, because Pillow's own conversion takes twice their memory.
    """
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        return np.asarray(image).reshape(image.height, image.width, -1)
    out: np.ndarray | None = None
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        band = np.asarray(image.crop((0, top, image.width, bottom))).reshape(bottom - top, image.width, -1)
        if out is None:
            out = np.empty((band.shape[2], image.height, image.width), band.dtype)
        out[:, top:bottom] = band.transpose(2, 0, 1)
    assert out is not None
    return out.transpose(1, 2, 0)


def oriented(hwc: UInt[np.ndarray, "H W C"], orientation: int) -> UInt[np.ndarray, "H2 W2 C"]:
    """Samples [H, W, C] rotated and mirrored according to an EXIF orientation, 1 to 8."""
    transposed = hwc.transpose(1, 0, 2) if orientation in (5, 6, 7, 8) else hwc
    return transposed[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]
