# SPDX-License-Identifier: MIT
"""Measure one image with one codec: bytes and seconds, which count only after the decoded pixels were compared."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gmcodec.bench.codecs import EncodeDecode, same_pixels

OK, DIFFERS, FAILED = "ok", "not lossless", "failed"


@dataclass
class Row:
    """The measurement of one image with one codec.  ``bytes`` is None unless ``status`` is OK."""

    set: str
    image: str
    crc32: int  # of the pixels
    pixels: int
    samples: int
    codec: str
    status: str = OK
    bytes: int | None = None
    encode_s: list[float] = field(default_factory=list)  # seconds of each repetition
    decode_s: list[float] = field(default_factory=list)
    estimated_bits: float | None = None  # by gmcodec's model
    forms: tuple[str, ...] = ()  # methods of gmcodec, one for each part
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Rows of equal keys measure the same pixels with the same codec."""
        return self.set, self.image, self.crc32, self.codec

    def as_json(self) -> dict[str, Any]:
        """The row as plain values, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", [], ())}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        """Inverse of ``as_json``."""
        return cls(**values | {"forms": tuple(values.get("forms", ()))})


def measure(row: Row, image: np.ndarray, codec: EncodeDecode) -> None:
    """Encode, decode and compare once, and add the result to ``row``; a failure becomes its status."""
    if row.status != OK:
        return
    encode, decode = codec
    try:
        start = time.perf_counter()
        compressed = encode(image)
        middle = time.perf_counter()
        decoded = decode(compressed.data)
        end = time.perf_counter()
    except Exception as error:  # a codec may raise anything, and must not end the run
        _fail(row, FAILED, f"{type(error).__name__}: {error}")
        return
    if not same_pixels(image, decoded):
        _fail(row, DIFFERS, "the decoded pixels are not those of the source")
        return
    if row.bytes not in (None, len(compressed.data)):
        _fail(row, FAILED, f"{row.bytes} bytes in one repetition, {len(compressed.data)} in another")
        return
    row.bytes, row.estimated_bits, row.forms = len(compressed.data), compressed.estimated_bits, compressed.methods
    row.encode_s.append(middle - start)
    row.decode_s.append(end - middle)


def _fail(row: Row, status: str, error: str) -> None:
    row.status, row.error = status, " ".join(error.split())
    row.bytes, row.estimated_bits, row.encode_s, row.decode_s = None, None, [], []
