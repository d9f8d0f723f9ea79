# SPDX-License-Identifier: MIT
"""The ANS stack of coding/stack.py one symbol at a time, for compiled loops that cannot call constriction.

The same 64-bit state, 32-bit words and 24 bits of precision, so the words are the same: tests/test_local_fused.py
compares them.
A symbol is a range of the quantiles 0 .. 2**24 - 1: ``left`` up to ``left + freq - 1``.
"""

from __future__ import annotations

import numpy as np

from .kernels import jit
from .tables import TOTAL_BITS

BITS = np.uint64(TOTAL_BITS)
MASK = np.uint64((1 << TOTAL_BITS) - 1)
FULL = np.uint64(64 - TOTAL_BITS)
WORD_BITS = np.uint64(32)
WORD_MASK = np.uint64(2**32 - 1)
LOW = np.uint64(1 << 32)  # a state below this takes in a word


@jit
def push(state, words, count, left, freq):
    """Push a symbol: the new state and count of ``words``, a uint32 buffer with room for one more."""
    size = np.uint64(freq)
    if (state >> FULL) >= size:
        words[count] = np.uint32(state & WORD_MASK)
        count += 1
        state = state >> WORD_BITS
    return ((state // size) << BITS) + np.uint64(left) + state % size, count


@jit
def quantile(state):
    """What the top symbol's range holds: int64."""
    return np.int64(state & MASK)


@jit
def pop(state, words, count, left, freq):
    """Take off the symbol found by ``quantile``: the new state, and how many of ``words`` are left.

    An empty stack pops zeros.
    """
    state = (state >> BITS) * np.uint64(freq) + (state & MASK) - np.uint64(left)
    if state < LOW and count > 0:
        count -= 1
        state = (state << WORD_BITS) | np.uint64(words[count])
    return state, count


def opened(words: np.ndarray) -> tuple[np.uint64, int]:
    """State, and how many words are left, of a stack whose words are uint32 ``words``."""
    if len(words) < 2:
        return np.uint64(words[0] if len(words) else 0), 0
    return np.uint64(int(words[-1]) << 32 | int(words[-2])), len(words) - 2


def closed(state: np.uint64, words: list[np.ndarray]) -> np.ndarray:
    """All words, uint32, of a stack: what was pushed so far, then the state."""
    rest = [int(state) & 0xFFFFFFFF, int(state) >> 32]
    while rest and rest[-1] == 0:
        rest.pop()
    return np.concatenate([*words, np.array(rest, np.uint32)])
