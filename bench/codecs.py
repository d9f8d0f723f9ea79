# SPDX-License-Identifier: MIT
"""The competition, each as a pair encode / decode of an RGB or grey array; sizes count after decoding."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from PIL import Image

import gmcodec


@dataclass(frozen=True)
class Codec:
    name: str
    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]


def _pillow(name: str, format: str, **options: object) -> Codec:
    def encode(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image).save(out, format, **options)
        return out.getvalue()

    def decode(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        return np.asarray(image)

    return Codec(name, encode, decode)


def _jpeg_xl(effort: int) -> Codec:
    return Codec(
        f"JPEG XL -e {effort}",
        lambda image: bytes(imagecodecs.jpegxl_encode(image, lossless=True, effort=effort)),
        imagecodecs.jpegxl_decode,
    )


GMCODEC = Codec("gmcodec", gmcodec.encode, gmcodec.decode_array)
ALL = (
    _pillow("PNG", "PNG", optimize=True),
    _pillow("WebP", "WEBP", lossless=True, quality=100, method=5, exact=True),
    _jpeg_xl(7),
    _jpeg_xl(9),
    GMCODEC,
)
