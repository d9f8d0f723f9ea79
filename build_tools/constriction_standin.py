# SPDX-License-Identifier: MIT
"""The part of constriction that gmcodec uses, in plain Python: for tests on processors without a wheel of it.

``emulated.py`` installs this as ``constriction``.  It produces the same words (tests/native/test_build.py compares
them), but is thousands of times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

_PRECISION = 24
_TOTAL = 1 << _PRECISION
_WORD = (1 << 32) - 1

Interval = tuple[int, int]  # of a symbol, among the quantiles 0 .. 2**24 - 1: start and length


class _Row:
    """The distribution of one symbol: the interval of each value, and the value at each quantile."""

    def __init__(self, interval_of: Callable[[int], Interval], symbol_of: Callable[[int], int]) -> None:
        self.interval_of, self.symbol_of = interval_of, symbol_of


def _categorical(weights: np.ndarray) -> _Row:
    freqs = weights.astype(np.int64) + 1
    if freqs.sum() != _TOTAL:
        raise ValueError(f"a row sums to {freqs.sum()}, not {_TOTAL}")
    starts = np.concatenate([[0], np.cumsum(freqs)])
    return _Row(
        lambda symbol: (int(starts[symbol]), int(freqs[symbol])),
        lambda quantile: int(np.searchsorted(starts, quantile, "right")) - 1,
    )


def _uniform(size: int) -> _Row:
    each = _TOTAL // size  # the last symbol gets the remainder too

    def interval_of(symbol: int) -> Interval:
        return each * symbol, each if symbol < size - 1 else _TOTAL - each * (size - 1)

    return _Row(interval_of, lambda quantile: min(quantile // each, size - 1))


class Categorical:
    """``constriction.stream.model.Categorical``: rows of weights that sum to 2**24 - their number."""

    def __init__(self, perfect: bool) -> None:
        assert not perfect

    def rows(self, parameters: tuple[np.ndarray, ...], count: int | None) -> list[_Row]:
        return [_categorical(weights) for weights in parameters[0]]


class Uniform:
    """``constriction.stream.model.Uniform``."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def rows(self, parameters: tuple[np.ndarray, ...], count: int | None) -> list[_Row]:
        sizes = [self.size] * (count or 0) if self.size is not None else parameters[0].tolist()
        return [_uniform(size) for size in sizes]


class AnsCoder:
    """``constriction.stream.stack.AnsCoder``: a state of 64 bits above a stack of 32-bit words."""

    def __init__(self, words: np.ndarray | None = None) -> None:
        self.words: list[int] = [] if words is None else words.tolist()
        self.state = 0
        for _ in range(2):
            if self.words:
                self.state = self.state << 32 | self.words.pop()

    def encode_reverse(self, symbols: np.ndarray, model: Categorical | Uniform, *parameters: np.ndarray) -> None:
        rows = model.rows(parameters, len(symbols))
        for symbol, row in zip(symbols.tolist()[::-1], rows[::-1], strict=True):
            start, length = row.interval_of(symbol)
            if self.state >> (64 - _PRECISION) >= length:
                self.words.append(self.state & _WORD)
                self.state >>= 32
            self.state = (self.state // length << _PRECISION) + start + self.state % length

    def decode(self, model: Categorical | Uniform, *parameters: np.ndarray | int) -> np.ndarray:
        count = parameters[0] if parameters and isinstance(parameters[0], int) else None
        rows = model.rows(tuple(p for p in parameters if isinstance(p, np.ndarray)), count)
        symbols = []
        for row in rows:
            quantile = self.state % _TOTAL
            symbol = row.symbol_of(quantile)
            start, length = row.interval_of(symbol)
            self.state = (self.state >> _PRECISION) * length + quantile - start
            if self.state <= _WORD and self.words:
                self.state = self.state << 32 | self.words.pop()
            symbols.append(symbol)
        return np.array(symbols, np.int32)

    def get_compressed(self) -> np.ndarray:
        words = [*self.words, self.state & _WORD, self.state >> 32]
        while words and words[-1] == 0 and len(words) > len(self.words):
            words.pop()
        return np.array(words, np.uint32)

    def num_bits(self) -> int:
        return 32 * len(self.get_compressed())

    def is_empty(self) -> bool:
        return not self.words and not self.state


stream = SimpleNamespace(
    model=SimpleNamespace(Categorical=Categorical, Uniform=Uniform), stack=SimpleNamespace(AnsCoder=AnsCoder)
)
