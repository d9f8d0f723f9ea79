# SPDX-License-Identifier: MIT
"""Binary decisions on a stack of 16-bit words (asymmetric numeral systems): the specification.

A decision is one or zero, and its probability of one is 1 to 65535, in 2**-16.  One has the quantiles below that
probability, zero the others::

      0              probability            65536
      |------ one --------|------- zero -------|        start, freq: first quantile and number of quantiles

The stack is a state x below 2**32 and the words below it::

      push:  x >= freq * 2**16: move the low 16 bits of x to the words     x = x // freq * 2**16 + x % freq + start
      pop:   x = freq * (x >> 16) + quantile - start                       x < 2**16: move the last word to its low bits

Decisions are written in blocks of BLOCK_DECISIONS, the last block being shorter.  Each block has a stack of its own,
which is empty at first, so that an encoder needs the memory of one block only.  The decisions of a block MUST be pushed
in reverse.  A block is the words of the stack, the first one first, and then its state as up to two more words, the low
one first; where the highest words of the state are zero they MUST be left out.  A reader takes zeros where a block has
no words left.  After the last decision of a block, the state MUST be zero and no word may be left.

native/decisions.hpp computes it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gmcodec.arrays import UInt16, UInt32

DECISION_BITS = 16
DECISION_TOTAL = 1 << DECISION_BITS
WORD_MASK = (1 << 16) - 1
BLOCK_DECISIONS = 1 << 20


def interval(probability: int, one: bool) -> tuple[int, int]:
    """Start and frequency of a decision, from its probability of one."""
    return (0, probability) if one else (probability, DECISION_TOTAL - probability)


def push(decisions: UInt32[np.ndarray, " N"]) -> UInt16[np.ndarray, " words"]:
    """The words uint16 of a block of decisions uint32 [N], each its probability of one, plus 2**16 if it is one.

    Inverse of ``Reader``.
    """
    state, words = 0, []
    for decision in decisions[::-1].tolist():
        start, freq = interval(decision & DECISION_TOTAL - 1, bool(decision >> DECISION_BITS))
        if state >> DECISION_BITS >= freq:
            words.append(state & WORD_MASK)
            state >>= DECISION_BITS
        state = (state // freq << DECISION_BITS) + state % freq + start
    while state:
        words.append(state & WORD_MASK)
        state >>= DECISION_BITS
    return np.array(words, np.uint16)


class Coder(Protocol):
    """What a model hands its decisions to: a ``Writer`` keeps them, a ``Reader`` finds out what they were."""

    def decide(self, probability: int, one: bool = False) -> bool:
        """Whether the decision is one, from its probability of one.  ``one`` is what the encoder wants."""


class Writer:
    """Writes decisions down, to be pushed later."""

    def __init__(self) -> None:
        self.decisions: list[int] = []

    def decide(self, probability: int, one: bool = False) -> bool:
        self.decisions.append(probability | one << DECISION_BITS)
        return one


class Reader:
    """Pops decisions from blocks of words.  Damaged words give other decisions, but no error."""

    def __init__(
        self, words: UInt16[np.ndarray, " words"], sizes: list[int], block_decisions: int = BLOCK_DECISIONS
    ) -> None:
        """words uint16 of all blocks, one block after the other; sizes: the number of words of each block."""
        ends = np.cumsum(sizes, dtype=np.int64)
        self.blocks = [words[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)]
        self.block_decisions = block_decisions
        self.words: list[int] = []  # of this block: the next one to pop is the last
        self.opened = self.left = self.state = 0
        self.damaged = False

    def open_block(self) -> None:
        """Go on to the next block.  The highest words of a block are the state."""
        self.damaged |= not self.used_up or self.opened == len(self.blocks)
        self.words = self.blocks[self.opened] if self.opened < len(self.blocks) else []
        self.opened = min(self.opened + 1, len(self.blocks))
        self.left, self.state = self.block_decisions, 0
        for _ in range(2):
            self.pop_word()

    def pop_word(self) -> None:
        if self.words:
            self.state = self.state << DECISION_BITS | self.words.pop()

    def decide(self, probability: int, one: bool = False) -> bool:
        """Pop a decision from its probability of one; ``one`` is not read."""
        if self.left == 0:
            self.open_block()
        self.left -= 1
        quantile = self.state & DECISION_TOTAL - 1
        one = quantile < probability
        start, freq = interval(probability, one)
        self.state = freq * (self.state >> DECISION_BITS) + quantile - start
        if self.state < DECISION_TOTAL:
            self.pop_word()
        return one

    @property
    def used_up(self) -> bool:
        """Whether nothing is left of this block."""
        return self.state == 0 and not self.words

    @property
    def finished(self) -> bool:
        """Whether every block was used up exactly."""
        return self.opened == len(self.blocks) and self.used_up and not self.damaged
