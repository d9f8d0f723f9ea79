# SPDX-License-Identifier: MIT
"""Refuse images that Pillow would round or drop parts of without an error."""

from __future__ import annotations

import re
from typing import Any

from gmcodec.errors import ImageReadError, UnsupportedImageError


def refuse_inexact(image: Any) -> None:
    """Raise UnsupportedImageError if decoding an opened Pillow image, as its ``tile`` describes, would round it."""
    for tile in getattr(image, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if not image.mode.startswith("I;16") and image.mode != "I" and re.search(r";16[BLNRS]|SGI16", f"{tile}"):
            raise UnsupportedImageError(f"16-bit {image.format} of mode {image.mode}: Pillow would round it to 8 bits")
        plain = tile.codec_name == "ppm_plain" and image.mode != "1"
        if tile.codec_name == "ppm" or (plain and args[-1] != (65535 if image.mode == "I" else 255)):
            raise UnsupportedImageError(f"PNM with maximum {args[-1]}: Pillow would rescale it; pass the file instead")
    if image.format == "TIFF" and getattr(image, "tag_v2", None) is not None:
        _refuse_inexact_tiff(image.tag_v2, image)


def _refuse_inexact_tiff(tags: Any, image: Any) -> None:
    bits, extra = tags.get(258, (1,)), tags.get(338, ())
    photometric = tags.get(262, 1)
    if set(tags.get(339, (1,))) != {1}:
        raise UnsupportedImageError("TIFF with signed or floating-point samples")
    if max(bits) > 8 and (image.mode not in ("I;16", "I;16B") or bits != (16,) or photometric == 0):
        raise UnsupportedImageError(f"TIFF with {bits} bits per sample (photometric {photometric}) is not kept exactly")
    if 1 in extra or len(extra) > 1 or (extra and image.mode not in ("LA", "RGBA", "PA")):
        raise UnsupportedImageError(
            f"TIFF with extra samples {extra}: Pillow would drop or divide by the alpha channel"
        )
    if image.mode == "P" and any(v not in ((v >> 8) * 257, v >> 8 << 8) for v in tags.get(320, ())):
        raise UnsupportedImageError("TIFF with a 16-bit colour map: Pillow would round it to 8 bits")


def refuse_high_depth(format: str, raw: bytes) -> None:
    """Raise UnsupportedImageError for AVIF and JPEG 2000 of a depth that Pillow rescales: not 8 bits, nor 16-bit grey.

    Raises ImageReadError for truncated JPEG 2000.
    """
    if format == "AVIF":
        boxes = [match.end() for match in re.finditer(b"av1C", raw[: 1 << 20])]
        if any(raw[at + 2 : at + 3] and raw[at + 2] & 0x60 for at in boxes):  # high_bitdepth, twelve_bit
            raise UnsupportedImageError("AVIF with more than 8 bits per sample: Pillow would round it")
    if format == "JPEG2000":
        at = raw.find(b"\xff\x4f\xff\x51")
        if raw.find(b"\xff\xd9", at + 2) < 0:  # OpenJPEG decodes a stream that ends before its first tile as zeros
            raise ImageReadError("JPEG 2000: truncated, the end of its codestream is missing")
        count = int.from_bytes(raw[at + 40 : at + 42], "big") if at >= 0 else 0
        depths = {depth + 1 for depth in raw[at + 42 : at + 42 + 3 * count : 3]}  # above 128: signed
        if depths != {8} and not (count == 1 and depths == {16}):
            raise UnsupportedImageError(f"JPEG 2000 with {sorted(depths)} bits per sample is not kept exactly")
