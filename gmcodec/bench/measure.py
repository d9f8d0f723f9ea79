# SPDX-License-Identifier: MIT
"""One image with one codec: bytes and seconds, counted only after the decoded pixels were compared."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gmcodec.bench.codecs import Pair, same_pixels

OK, DIFFERS, FAILED = "ok", "not lossless", "failed"


@dataclass
class Row:
    """What was measured of one image and one codec.  ``bytes`` is None unless ``status`` is OK."""

    set: str
    image: str
    crc32: int  # of the pixels
    pixels: int
    samples: int
    codec: str
    status: str = OK
    bytes: int | None = None
    encode_s: list[float] = field(default_factory=list)  # one of each repetition
    decode_s: list[float] = field(default_factory=list)
    estimated_bits: float | None = None  # gmcodec's models know it
    forms: tuple[str, ...] = ()
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Rows of equal keys measure the same pixels with the same codec."""
        return self.set, self.image, self.crc32, self.codec

    def as_json(self) -> dict[str, Any]:
        """Plain values, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", [], ())}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Row:
        return cls(**values | {"forms": tuple(values.get("forms", ()))})


def measure(row: Row, image: np.ndarray, pair: Pair) -> None:
    """Encode, decode and compare once more, adding to the row.  What goes wrong becomes its status."""
    if row.status != OK:
        return
    encode, decode = pair
    try:
        start = time.perf_counter()
        coded = encode(image)
        middle = time.perf_counter()
        back = decode(coded.data)
        end = time.perf_counter()
    except Exception as error:  # a codec may raise anything; the other codecs go on
        _fail(row, FAILED, f"{type(error).__name__}: {error}")
        return
    if not same_pixels(image, back):
        _fail(row, DIFFERS, "the decoded pixels are not those of the source")
        return
    if row.bytes not in (None, len(coded.data)):
        _fail(row, FAILED, f"{row.bytes} bytes the first time, {len(coded.data)} now")
        return
    row.bytes, row.estimated_bits, row.forms = len(coded.data), coded.estimated_bits, coded.forms
    row.encode_s.append(middle - start)
    row.decode_s.append(end - middle)


def _fail(row: Row, status: str, error: str) -> None:
    row.status, row.error = status, " ".join(error.split())
    row.bytes, row.estimated_bits, row.encode_s, row.decode_s = None, None, [], []
