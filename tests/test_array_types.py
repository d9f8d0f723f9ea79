# SPDX-License-Identifier: MIT
"""The check of array types in signatures (array_types.py) can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from array_types import watched

from gmcodec.arrays import Int64, UInt8


def first(
    result: Any, planes: UInt8[np.ndarray, "C H W"] | None, counts: Int64[np.ndarray, " C"]
) -> UInt8[np.ndarray, "H W"]:
    return result


def both(result: Any) -> tuple[UInt8[np.ndarray, " N"], UInt8[np.ndarray, " M"]]:
    return result


def mixed(result: Any) -> tuple[int, UInt8[np.ndarray, " N"]]:
    return result


PLANES, COUNTS, ROWS = np.zeros((3, 4, 5), np.uint8), np.ones(3, np.int64), np.zeros((4, 5), np.uint8)


def test_arrays_as_the_signature_says() -> None:
    assert watched(first)(ROWS, PLANES, COUNTS) is ROWS
    assert watched(first)(ROWS, None, COUNTS) is ROWS
    assert watched(both)((ROWS[0], ROWS[:, 0]))
    assert watched(mixed)((1, ROWS))  # a tuple that holds more than arrays is not checked


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (first, (ROWS, PLANES.astype(np.int16), COUNTS), r"planes is int16 \[3, 4, 5\]"),
        (first, (ROWS, ROWS, COUNTS), r"planes is uint8 \[4, 5\]"),
        (first, (ROWS, PLANES, COUNTS[:2]), r"counts is int64 \[2\]"),
        (first, (ROWS, memoryview(b"a"), COUNTS), "planes is <class 'memoryview'>"),
        (first, (ROWS.T, PLANES, COUNTS), r"return is uint8 \[5, 4\]"),
        (both, ((ROWS[0], ROWS),), r"return is uint8 \[4, 5\]"),
    ],
    ids=["dtype", "axes", "one letter is one length", "no array", "result", "tuple"],
)
def test_arrays_that_are_not(function: Callable[..., Any], arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        watched(function)(*arguments)
