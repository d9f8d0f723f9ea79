# SPDX-License-Identifier: MIT
"""Near-lossless: samples are rounded to levels, so that none differs from its source by more than K.

::

    index = (sample + K) // (2 K + 1)          of a source sample, 0 to count - 1
    coded = index + 128 - count // 2           what lossless methods code, for colours of 8 bits a sample
    coded = index                              for those of 16 bits, and for alpha
    sample = min(index (2 K + 1), top)         of the decoded image; top is 255 or 65535

Indices are dense, unlike the levels themselves, so models meet small numbers and no gaps.  Nets know photographs whose
mean is grey; the indices of 8 bits are therefore moved to the middle.  Alpha stays as it is, unless it is rounded too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gmcodec.arrays import UInt
from gmcodec.errors import GmcFormatError, UnsupportedImageError
from gmcodec.image.metadata import Tag
from gmcodec.image.modes import MODES
from gmcodec.image.planes import Planes

MIDDLE = 128  # of samples of 8 bits
EXACT_MODES = frozenset({"1", "P"})  # whose samples are no amounts
EXACT_TAGS = {Tag.TRANSPARENCY: "a transparent colour", Tag.MAXIMUM: "a largest value of its own"}
ALPHA_MODES = frozenset({"LA", "RGBA", "LA;16", "RGBA;16"})


@dataclass(frozen=True)
class Near:
    """How samples are rounded.

    most   K: by how much a sample may differ from its source, at least 1, less than half of all values
    alpha  whether alpha is rounded as well
    """

    most: int
    alpha: bool = False

    @property
    def step(self) -> int:
        """From one level to the next."""
        return 2 * self.most + 1

    def fits(self, mode: str) -> bool:
        """Whether samples of a mode can be rounded in this way."""
        bounded = 1 <= self.most < 1 << (MODES[mode].depth - 1)
        return mode not in EXACT_MODES and bounded and (mode in ALPHA_MODES or not self.alpha)

    def rounded_channels(self, mode: str) -> int:
        """How many channels are rounded; they are the first ones."""
        return MODES[mode].channels - (mode in ALPHA_MODES and not self.alpha)


def _check(planes: Planes, near: Near) -> None:
    if planes.mode in EXACT_MODES:
        raise UnsupportedImageError(f"the samples of mode {planes.mode} are no amounts that could be rounded")
    half = 1 << (planes.depth - 1)
    if not 1 <= near.most < half:
        raise UnsupportedImageError(f"samples of {planes.depth} bits may differ by 1 to {half - 1}, not {near.most}")
    if near.alpha and planes.mode not in ALPHA_MODES:
        raise UnsupportedImageError(f"an image of mode {planes.mode} has no alpha")
    for tag, what in EXACT_TAGS.items():
        if any(found == tag for found, _ in planes.metadata):
            raise UnsupportedImageError(f"the image has {what}, which rounded samples would change")


# -- samples -> what is coded, and back ------------------------------------------------------------------------


def encode(planes: Planes, near: Near) -> Planes:
    """What lossless methods code of an image.

    Raises UnsupportedImageError if samples of the image cannot be rounded in this way.
    """
    _check(planes, near)
    coded = planes.data.copy()
    for channel in range(near.rounded_channels(planes.mode)):
        indices = (planes.data[channel].astype(np.uint32) + near.most) // near.step
        coded[channel] = indices + _shift(planes.mode, near, channel)
    return replace(planes, data=coded)


def decode(coded: UInt[np.ndarray, "C H W"], mode: str, near: Near) -> UInt[np.ndarray, "C H W"]:
    """Inverse of ``encode``, but for the rounding.  Raises GmcFormatError where there is no level."""
    top, data = _top(mode), coded.copy()
    for channel in range(near.rounded_channels(mode)):
        indices = coded[channel].astype(np.int64) - _shift(mode, near, channel)
        if indices.min() < 0 or indices.max() >= _count(mode, near):
            raise GmcFormatError(f"a sample of channel {channel} is none of {_count(mode, near)} levels")
        data[channel] = np.minimum(indices * near.step, top)
    return data


def rounded(planes: Planes, near: Near) -> Planes:
    """The image that a decoder makes of ``planes``."""
    return replace(planes, data=decode(encode(planes, near).data, planes.mode, near))


def difference(planes: Planes, other: Planes) -> tuple[int, float]:
    """The largest difference of two images of equal shape, and their PSNR in dB, over all samples."""
    largest = total = 0
    for here, there in zip(planes.data, other.data, strict=True):  # one channel at a time, to save memory
        differences = np.abs(here.astype(np.int64) - there)
        largest, total = max(largest, int(differences.max())), total + int((differences**2).sum())
    error = total / planes.data.size
    return largest, 10 * math.log10(_top(planes.mode) ** 2 / error) if error else math.inf


def _top(mode: str) -> int:
    return (1 << MODES[mode].depth) - 1


def _count(mode: str, near: Near) -> int:
    """The number of levels."""
    return (_top(mode) + near.most) // near.step + 1


def _shift(mode: str, near: Near, channel: int) -> int:
    """What is added to the indices of a channel."""
    is_alpha = mode in ALPHA_MODES and channel == MODES[mode].channels - 1
    return 0 if is_alpha or MODES[mode].depth == 16 else MIDDLE - _count(mode, near) // 2
