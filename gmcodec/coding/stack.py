# SPDX-License-Identifier: MIT
"""The ANS stack: the last symbol pushed is the first popped.

constriction does the coding.  Its ``Categorical(perfect=False)`` scales the weights of a row to the sum of 2**24 minus
the row's length, then adds 1 to each.  Rows of ``freq - 1`` have that sum already, so the scale is exactly 1.0 and
constriction uses exactly our frequencies (tests/coding/test_stack.py checks this with a decoder in plain Python).
"""

from __future__ import annotations

import constriction
import numpy as np

from gmcodec.arrays import Int32, Int64, UInt32

PRECISION = 24  # bits of the sum of a row of frequencies; part of the format, so never an argument
ROW_TOTAL = 1 << PRECISION
_FAMILY = constriction.stream.model.Categorical(perfect=False)
_UNIFORM = constriction.stream.model.Uniform()  # takes a size for each symbol


class Stack:
    """A stack of symbols that is stored as 32-bit words."""

    def __init__(self, words: UInt32[np.ndarray, " words"] | None = None) -> None:
        """An empty stack, or the one whose ``words()`` were uint32 ``words``."""
        coder = constriction.stream.stack.AnsCoder
        self._ans = coder() if words is None else coder(np.ascontiguousarray(words, np.uint32))

    @classmethod
    def random(cls, generator: np.random.Generator, bits: int) -> Stack:
        """A stack of random words, ``bits`` rounded down to whole words."""
        return cls(generator.integers(1, 1 << 32, bits // 32, np.uint32))

    def push(self, symbols: Int32[np.ndarray, " N"], freqs: Int32[np.ndarray, "N 16"]) -> None:
        """Push so that ``symbols`` int32 [N] pop in the order given; freqs int32 [N, K], see ``pop``."""
        self._ans.encode_reverse(symbols, _FAMILY, (freqs - 1).astype(np.float64))

    def pop(self, freqs: Int32[np.ndarray, "N 16"]) -> Int32[np.ndarray, " N"]:
        """Pop int32 [N].  Rows of ``freqs`` are >= 1 and sum to exactly 2**24."""
        return self._ans.decode(_FAMILY, (freqs - 1).astype(np.float64))

    def push_uniform(self, symbols: Int32[np.ndarray, " N"], size: int) -> None:
        """Push int32 [N] below ``size``, a power of two up to 2**24; costs exactly log2(size) bits each."""
        self._ans.encode_reverse(symbols, constriction.stream.model.Uniform(size))

    def pop_uniform(self, count: int, size: int) -> Int32[np.ndarray, " N"]:
        """Pop int32 [count] below ``size``."""
        return self._ans.decode(constriction.stream.model.Uniform(size), count)

    def push_below(self, symbols: Int64[np.ndarray, " N"], sizes: Int64[np.ndarray, " N"]) -> None:
        """Push int [N], each below its own size in int [N], 1 to 2**20; costs about log2(size) bits each."""
        some = sizes > 1
        self._ans.encode_reverse(symbols[some].astype(np.int32), _UNIFORM, sizes[some].astype(np.int32))

    def pop_below(self, sizes: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """Pop int64 [N], each below its own size in int [N]."""
        out, some = np.zeros(len(sizes), np.int64), sizes > 1
        out[some] = self._ans.decode(_UNIFORM, sizes[some].astype(np.int32))
        return out

    @property
    def bits(self) -> int:
        """The number of bits that can be popped, to within a word."""
        return self._ans.num_bits()

    @property
    def exact_bits(self) -> int:
        """How many bits there are, to the bit."""
        return self._ans.num_valid_bits()

    def words(self) -> UInt32[np.ndarray, " N"]:
        """uint32 words; the last one belongs to the top of the stack."""
        return self._ans.get_compressed()

    def is_empty(self) -> bool:
        """True when everything that was pushed has been popped."""
        return bool(self._ans.is_empty())
