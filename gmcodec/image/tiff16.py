# SPDX-License-Identifier: MIT
"""TIFF with 16 bits per sample, which Pillow would round to 8: read by ``tifffile``, the extra [tiff]."""

from __future__ import annotations

import io

import numpy as np

from gmcodec.errors import UnsupportedImageError
from gmcodec.image import tiff
from gmcodec.image.planes import oriented

_GREY_PHOTOMETRIC = (0, 1)  # white or black is zero
_MODES_BY_LAYOUT = {  # photometric interpretation and samples per pixel
    (2, 3): "RGB;16", (2, 4): "RGBA;16", (1, 1): "I;16", (1, 2): "LA;16", (5, 4): "CMYK;16", (8, 3): "LAB;16",
}  # fmt: skip
_STRAIGHT_ALPHA = 2


def _first_page(raw: bytes) -> tuple[tiff.Reader, tiff.Directory] | None:
    try:
        reader = tiff.Reader(raw)
        return reader, reader.directory(reader.first)
    except ValueError:
        return None


def is_high_depth(raw: bytes) -> bool:
    """Whether ``raw`` is a TIFF with samples of 16 bits that Pillow would not keep exactly."""
    if raw[:2] not in (b"II", b"MM") or (found := _first_page(raw)) is None:
        return False
    reader, page = found
    bits = reader.integers(page.get(258))
    photometric = reader.integers(page.get(262))[:1]
    several = len(bits) > 1 or (reader.integers(page.get(277)) or (1,))[0] > 1
    return bool(bits) and set(bits) == {16} and (several or photometric == (0,))


def _layout(raw: bytes) -> tuple[int, int, str, int, bool]:
    """Width, height, mode, orientation, and whether zero is white.  Raises UnsupportedImageError."""
    found = _first_page(raw)
    assert found is not None
    reader, page = found

    def value(tag: int, default: int) -> int:
        return (reader.integers(page.get(tag)) or (default,))[0]

    photometric, count, extra = value(262, -1), value(277, 1), reader.integers(page.get(338))
    mode = _MODES_BY_LAYOUT.get((1 if photometric in _GREY_PHOTOMETRIC else photometric, count))
    if set(reader.integers(page.get(339)) or (1,)) != {1}:
        raise UnsupportedImageError("TIFF with signed or floating-point samples of 16 bits")
    with_alpha = mode in ("LA;16", "RGBA;16")
    if mode is None or extra not in (((_STRAIGHT_ALPHA,), ()) if with_alpha else ((),)):
        raise UnsupportedImageError(f"TIFF of {count} samples of 16 bits (photometric {photometric}, extra {extra})")
    return value(256, 0), value(257, 0), mode, value(tiff.ORIENTATION, 1), photometric == 0


def read_size(raw: bytes) -> tuple[int, int, int]:
    """Width, height and number of pages.  Raises UnsupportedImageError."""
    width, height, *_ = _layout(raw)
    pages = 0
    try:
        for _ in tiff.Reader(raw).chain():
            pages += 1
    except ValueError:
        pages += 1  # a damaged page
    return width, height, pages


def read(raw: bytes) -> tuple[str, np.ndarray]:
    """Mode and samples uint16 [H, W, C], with the orientation applied as Pillow does.

    Raises UnsupportedImageError if tifffile is not installed, and any error that tifffile raises for damaged files.
    """
    width, height, mode, orientation, inverted = _layout(raw)
    try:
        import tifffile
    except ImportError:
        raise UnsupportedImageError(f'TIFF of mode {mode} needs tifffile: pip install "gmcodec[tiff]"') from None
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        page = file.pages[0]
        samples = page.asarray()
        if page.axes == "SYX":  # channels are stored one after the other
            samples = samples.transpose(1, 2, 0)
    samples = samples.reshape(height, width, -1).astype(np.uint16)
    if inverted:
        samples[..., 0] = 65535 - samples[..., 0]
    if mode == "LAB;16":
        samples = samples ^ np.array([0, 32768, 32768], np.uint16)
    return mode, oriented(samples, orientation if 1 <= orientation <= 8 else 1)
