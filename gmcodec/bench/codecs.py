# SPDX-License-Identifier: MIT
"""What the benchmark knows of a codec: its name, its settings in words, and functions that encode and decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OURS = "gmcodec"  # name of gmcodec as it chooses by itself; names of its other codecs start with it


@dataclass(frozen=True)
class Compressed:
    """Bytes of an image or a set; of gmcodec also its model's estimate and the methods that it chose."""

    data: bytes
    estimated_bits: float | None = None
    methods: tuple[str, ...] = ()


EncodeDecode = tuple[Callable[[np.ndarray], Compressed], Callable[[bytes], np.ndarray]]


@dataclass(frozen=True)
class Codec:
    """A codec of the benchmark.

    open   called with the number of threads; imports the codec's package and returns its functions, or raises
           ImportError if the package is missing
    quick  fast enough for --quick
    extra  measured only if it is named, because it is very slow or gives the same bytes as another
    """

    name: str
    settings: str
    open: Callable[[int], EncodeDecode]
    quick: bool = False
    extra: bool = False


def same_pixels(image: np.ndarray, back: np.ndarray) -> bool:
    """Whether a decoded image equals its source, except for channels that formats add or leave out.

    Grey may come back as three equal channels (WebP, QOI), three equal channels as grey, and opaque alpha may be
    missing (an optimised PNG).  Arrays are uint8 or uint16, [H, W] or [H, W, C].
    """
    if image.shape == back.shape:
        return image.dtype == back.dtype and np.array_equal(image, back)
    if image.dtype != back.dtype or image.shape[:2] != back.shape[:2]:
        return False
    return all(np.array_equal(*pair) for pair in zip(_colour_and_alpha(image), _colour_and_alpha(back), strict=True))


def _colour_and_alpha(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 3] and [H, W]."""
    image = image[..., None] if image.ndim == 2 else image
    colours = image[..., : 1 if image.shape[2] < 3 else 3]
    opaque = np.full(image.shape[:2], np.iinfo(image.dtype).max, image.dtype)
    alpha = image[..., -1] if image.shape[2] in (2, 4) else opaque
    return np.broadcast_to(colours, (*image.shape[:2], 3)), alpha
