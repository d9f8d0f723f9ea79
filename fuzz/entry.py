# SPDX-License-Identifier: MIT
"""What a fuzz target is: a name, what it does with any bytes, and bytes to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gmcodec.errors import GmcError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """``decode`` of any bytes gives something or raises a GmcError: whatever else it does is a fault.

    ``length``: of the inputs that are tried, in bytes.
    """

    name: str
    decode: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    length: int = 512


class Input:
    """Bytes from the fuzzer: those in front choose among options, the rest is what is decoded."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        """The next one, or 0 behind the end."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def choose(self, options: Sequence[T]) -> T:
        """One of them: seeds give its number."""
        return options[self.byte() % len(options)]

    def each(self, *options: Sequence[Any]) -> tuple[Any, ...]:
        """One of each."""
        return tuple(self.choose(some) for some in options)

    def rest(self) -> bytes:
        return self._data[self._at :]

    def words(self) -> np.ndarray:
        """What is left, as uint32."""
        rest = self.rest()
        return np.frombuffer(rest[: len(rest) // 4 * 4], "<u4")


class Mismatch(Exception):
    """Two ways to decode the same bytes disagree."""


def outcome(decode: Callable[[], np.ndarray]) -> tuple[str, bytes]:
    """The samples that something gives, or its typed error: to be compared."""
    try:
        return "", decode().tobytes()
    except GmcError as error:
        return f"{type(error).__name__}: {error}", b""


def agree(ways: Iterable[Callable[[], np.ndarray]]) -> None:
    """Decode in several ways.  Raises Mismatch unless all give the same samples, or the same error."""
    found = [outcome(decode) for decode in ways]
    if len(set(found)) > 1:
        raise Mismatch(" | ".join(text or f"{len(data)} bytes" for text, data in found))


def ignore(count: int) -> None:
    """What is done when progress is reported."""
