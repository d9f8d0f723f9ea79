# SPDX-License-Identifier: MIT
"""The words of an ANS stack that the native core pushes to or pops from: those of coding/stack.py.

A stack is a 64-bit state and 32-bit words; in a file the state's words follow the others, without zeros on top.
"""

from __future__ import annotations

import numpy as np


def opened(words: np.ndarray) -> tuple[int, int]:
    """State, and how many words are left, of a stack whose words are uint32 ``words``."""
    if len(words) < 2:
        return int(words[0]) if len(words) else 0, 0
    return int(words[-1]) << 32 | int(words[-2]), len(words) - 2


def closed(state: int, words: list[np.ndarray]) -> np.ndarray:
    """All words, uint32, of a stack: what was pushed so far, then the state.  Inverse of ``opened``."""
    rest = [state & 0xFFFFFFFF, state >> 32]
    while rest and rest[-1] == 0:
        rest.pop()
    return np.concatenate([*words, np.array(rest, np.uint32)])
