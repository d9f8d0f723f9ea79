# SPDX-License-Identifier: MIT
"""Fuzz targets: a name, a function that decodes arbitrary bytes, and bytes to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gmcodec.errors import GmcError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A fuzz target.

    decode  returns or raises a GmcError for any bytes: everything else is a fault
    seeds   inputs to start from
    length  largest size of inputs, bytes
    """

    name: str
    decode: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    length: int = 512


class Input:
    """Bytes from the fuzzer: the first ones choose among options, the rest is decoded."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """The next byte; 0 behind the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choose(self, options: Sequence[T]) -> T:
        """The option with the number in the next byte."""
        return options[self.byte() % len(options)]

    def each(self, *options: Sequence[Any]) -> tuple[Any, ...]:
        """An option of each sequence."""
        return tuple(self.choose(some) for some in options)

    def rest(self) -> bytes:
        """The bytes that are left."""
        return self._data[self._at :]

    def words(self) -> np.ndarray:
        """The bytes that are left as uint32."""
        rest = self.rest()
        return np.frombuffer(rest[: len(rest) // 4 * 4], "<u4")


class Mismatch(Exception):
    """Two decoders disagree about the same bytes, or a result contradicts itself."""


def outcome(decode: Callable[[], np.ndarray]) -> tuple[str, bytes]:
    """The decoded samples or the typed error, in a form that can be compared."""
    try:
        return "", decode().tobytes()
    except GmcError as error:
        return f"{type(error).__name__}: {error}", b""


def agree(decoders: Iterable[Callable[[], np.ndarray]]) -> None:
    """Raise Mismatch unless all decoders return the same samples, or raise the same error."""
    found = [outcome(decode) for decode in decoders]
    if len(set(found)) > 1:
        raise Mismatch(" | ".join(text or f"{len(data)} bytes" for text, data in found))
