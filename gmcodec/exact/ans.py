# SPDX-License-Identifier: MIT
"""Between the native core's ANS stacks and words in files; coding/stack.py writes the same words.

A stack is a 64-bit state and 32-bit words.  In a file the state follows the words as two words of its own, the low one
first; where the highest words are zero they are left out.
"""

from __future__ import annotations

import numpy as np


def stack_of(words: np.ndarray) -> tuple[int, int]:
    """From the words uint32 of a file: the state, and how many of the words are the stack's."""
    if len(words) < 2:
        return int(words[0]) if len(words) else 0, 0
    return int(words[-1]) << 32 | int(words[-2]), len(words) - 2


def words_of(state: int, words: list[np.ndarray]) -> np.ndarray:
    """The words uint32 of a file, from a stack's state and the words below it.  Inverse of ``stack_of``."""
    rest = [state & 0xFFFFFFFF, state >> 32]
    while rest and rest[-1] == 0:
        rest.pop()
    return np.concatenate([*words, np.array(rest, np.uint32)])
