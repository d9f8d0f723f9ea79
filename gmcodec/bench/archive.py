# SPDX-License-Identifier: MIT
"""Codecs that put a whole set into one archive, beside those that make a file of each image.

An archive codec is measured once a set, after all images; its row carries ``WHOLE_SET`` instead of an image's name and
the pixels of all images, so its bits per sample include headers and index.
Register one by adding it to ``ARCHIVES``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .codecs import same_pixels
from .measure import DIFFERS, FAILED, OK, Row

WHOLE_SET = "(whole set)"


class ArchiveCodec(Protocol):
    """One archive of many images, and back in the same order."""

    name: str
    settings: str

    def encode_set(self, images: Sequence[np.ndarray], threads: int) -> bytes: ...

    def decode_set(self, data: bytes, threads: int) -> Sequence[np.ndarray]: ...


ARCHIVES: list[ArchiveCodec] = []


def measure_set(row: Row, images: Sequence[np.ndarray], codec: ArchiveCodec, threads: int) -> None:
    """Encode, decode and compare a whole set, filling its row."""
    try:
        start = time.perf_counter()
        data = codec.encode_set(images, threads)
        middle = time.perf_counter()
        back = codec.decode_set(data, threads)
        end = time.perf_counter()
    except Exception as error:  # as in measure(): the run goes on and says so
        row.status, row.error = FAILED, f"{type(error).__name__}: {error}"
        return
    if len(back) == len(images) and all(map(same_pixels, images, back)):
        row.status, row.bytes = OK, len(data)
        row.encode_s, row.decode_s = [middle - start], [end - middle]
    else:
        row.status, row.error = DIFFERS, "the decoded images are not those of the set"
