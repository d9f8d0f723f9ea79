# SPDX-License-Identifier: MIT
"""Codecs that put a whole set of images into one archive.

An archive codec is measured once for each set, after all images.  Its row has ``WHOLE_SET`` in place of an image's name
and counts the pixels of all images, so that its bits per sample include headers and index.  A new archive codec must be
added to ``ARCHIVES``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gmcodec import archive as gma
from gmcodec.bench.codecs import Compressed, same_pixels
from gmcodec.bench.measure import DIFFERS, FAILED, OK, Row
from gmcodec.image import reading

WHOLE_SET = "(whole set)"


class ArchiveCodec(Protocol):
    """A codec that makes one archive of many images."""

    name: str
    settings: str

    def encode_set(self, images: Sequence[np.ndarray], threads: int) -> Compressed:
        """Images, [H, W] or [H, W, C] each -> archive."""

    def decode_set(self, data: bytes, threads: int) -> Sequence[np.ndarray]:
        """Archive -> images in the order in which they were encoded."""


class GmcArchive:
    """The archive that ``gmcodec pack`` makes."""

    name = "gmcodec archive"
    settings = "gmcodec pack, names 000000, 000001, ..."

    def encode_set(self, images: Sequence[np.ndarray], threads: int) -> Compressed:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "set.gma"
            packed = gma.pack(((f"{i:06d}", image) for i, image in enumerate(images)), path, threads=threads)
            return Compressed(path.read_bytes(), packed.estimated_bits)

    def decode_set(self, data: bytes, threads: int) -> Sequence[np.ndarray]:
        with gma.Archive(data, threads=threads) as opened:
            found = dict(opened.items())
        return [reading.to_array(found[name]) for name in sorted(found)]


ARCHIVES: list[ArchiveCodec] = [GmcArchive()]


def measure_set(row: Row, images: Sequence[np.ndarray], codec: ArchiveCodec, threads: int) -> None:
    """Encode, decode and compare a whole set, and write the result into ``row``."""
    try:
        start = time.perf_counter()
        coded = codec.encode_set(images, threads)
        middle = time.perf_counter()
        back = codec.decode_set(coded.data, threads)
        end = time.perf_counter()
    except Exception as error:  # as in measure(): the run goes on
        row.status, row.error = FAILED, f"{type(error).__name__}: {error}"
        return
    if len(back) == len(images) and all(map(same_pixels, images, back)):
        row.status, row.bytes, row.estimated_bits = OK, len(coded.data), coded.estimated_bits
        row.encode_s, row.decode_s = [middle - start], [end - middle]
    else:
        row.status, row.error = DIFFERS, "the decoded images are not those of the set"
