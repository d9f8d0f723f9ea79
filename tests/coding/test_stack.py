# SPDX-License-Identifier: MIT
"""The ANS stack: frozen words, an independent decoder in plain Python, and rows used exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.coding.stack import PRECISION, ROW_TOTAL, Stack

EVEN = [1 << 20] * 16
STEEP = [ROW_TOTAL - 15, *[1] * 15]
SLOPE = [(1 << 20) + (j - 8) * 1000 + 500 for j in range(16)]
ROWS = np.array([EVEN, STEEP, SLOPE], np.int32)


def spec_pop(words: list[int], rows: np.ndarray) -> list[int]:
    """rANS in fifteen lines: 64-bit state, 32-bit words, the last word is the top of the state."""
    words = list(words)
    state = words.pop() if words else 0
    state = state << 32 | words.pop() if words else state
    symbols = []
    for row in rows.tolist():
        quantile, below, symbol = state % ROW_TOTAL, 0, 0
        while quantile >= below + row[symbol]:
            below, symbol = below + row[symbol], symbol + 1
        state = (state >> PRECISION) * row[symbol] + quantile - below
        if state < 1 << 32 and words:
            state = state << 32 | words.pop()
        symbols.append(symbol)
    assert (state, words) == (0, []), "something is left"
    return symbols


def random_rows(random: np.random.Generator, n: int, kind: str) -> np.ndarray:
    """int32 [n, 16], each >= 1, sums 2**24."""
    rows = np.full((n, 16), 1 << 20, np.int64)
    if kind == "steep":
        rows[:] = 1
        rows[np.arange(n), random.integers(0, 16, n)] = ROW_TOTAL - 15
    elif kind == "random":
        cuts = np.sort(random.integers(0, ROW_TOTAL - 15, (n, 15)), axis=1)
        rows[:] = np.diff(np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, ROW_TOTAL - 16))), axis=1) + 1
    assert (rows.sum(1) == ROW_TOTAL).all()
    assert rows.min(initial=1) >= 1
    return rows.astype(np.int32)


@st.composite
def coded(draw, max_size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Symbols int32 [N] and rows int32 [N, 16]; likely and unlikely symbols alike."""
    n = draw(st.integers(0, max_size))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = random_rows(random, n, draw(st.sampled_from(["random", "steep", "even"])))
    if draw(st.booleans()):
        return random.integers(0, 16, n, dtype=np.int32), rows
    return rows.argmax(1).astype(np.int32) if n else np.zeros(0, np.int32), rows


def information(symbols: np.ndarray, rows: np.ndarray) -> float:
    return float(-np.log2(rows[np.arange(len(rows)), symbols] / ROW_TOTAL).sum())


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ([3, 0, 15], [239067828]),
        ([15, 15, 15], [1342177279, 982571]),
    ],
)
def test_known_symbols_make_these_words(symbols, words):
    stack = Stack()
    stack.push(np.array(symbols, np.int32), ROWS)
    assert stack.words().dtype == np.uint32
    assert stack.words().tolist() == words
    assert spec_pop(words, ROWS) == symbols


def test_a_long_push_makes_these_words():
    rows = np.repeat(ROWS, 7, axis=0)
    symbols = (np.arange(21) * 5 % 16).astype(np.int32)
    stack = Stack()
    stack.push(symbols, rows)
    assert stack.words().tolist() == [
        3412572620,
        4060086268,
        4294967287,
        4294967282,
        4261412856,
        4271898611,
        2768961535,
        262735,
    ]
    assert spec_pop(stack.words().tolist(), rows) == symbols.tolist()


def test_an_empty_stack_has_no_words():
    assert Stack().words().tolist() == []
    assert Stack().is_empty()
    assert Stack(np.zeros(0, np.uint32)).is_empty()
    stack = Stack()
    stack.push(np.zeros(0, np.int32), np.zeros((0, 16), np.int32))
    assert stack.is_empty()


@settings(max_examples=100, deadline=None)
@given(coded())
def test_round_trip_and_the_plain_decoder(case):
    symbols, rows = case
    stack = Stack()
    stack.push(symbols, rows)
    words = stack.words()
    assert spec_pop(words.tolist(), rows) == symbols.tolist()
    again = Stack(words)
    assert np.array_equal(again.words(), words)
    popped = again.pop(rows)
    assert popped.dtype == np.int32
    assert np.array_equal(popped, symbols)
    assert again.is_empty()


@settings(max_examples=40, deadline=None)
@given(coded(), coded(), st.integers(1, 60))
def test_buried_symbols_come_back_intact(first, second, chunk):
    stack = Stack()
    stack.push(*first)
    buried = stack.words().tolist()
    stack.push(*second)
    stack = Stack(stack.words())
    parts = [stack.pop(second[1][at : at + chunk]) for at in range(0, len(second[0]), chunk)]
    assert np.array_equal(np.concatenate([np.zeros(0, np.int32), *parts]), second[0])
    assert stack.words().tolist() == buried
    assert np.array_equal(stack.pop(first[1]), first[0])
    assert stack.is_empty()


@settings(max_examples=20, deadline=None)
@given(coded(40), st.integers(1, 40))
def test_pushing_in_pieces_backwards_is_one_push(case, chunk):
    symbols, rows = case
    whole, pieces = Stack(), Stack()
    whole.push(symbols, rows)
    for at in reversed(range(0, len(symbols), chunk)):
        pieces.push(symbols[at : at + chunk], rows[at : at + chunk])
    assert whole.words().tolist() == pieces.words().tolist()


@pytest.mark.parametrize("kind", ["random", "steep", "even"])
def test_the_size_is_the_information_content(kind):
    random = np.random.default_rng(0)
    rows = random_rows(random, 20_000, kind)
    # symbols drawn from their rows
    symbols = (rows.cumsum(1) <= random.integers(0, ROW_TOTAL, (20_000, 1))).sum(1).astype(np.int32)
    stack = Stack()
    stack.push(symbols, rows)
    bits, real = information(symbols, rows), 32 * len(stack.words())
    assert abs(real - bits) < 64
    assert np.array_equal(stack.pop(rows), symbols)


def test_the_least_frequency_is_really_one():
    # were rows scaled or rounded, 24 bits a symbol would not come out
    rows, symbols = np.tile(np.array(STEEP, np.int32), (1000, 1)), np.full(1000, 15, np.int32)
    stack = Stack()
    stack.push(symbols, rows)
    assert abs(32 * len(stack.words()) - 24_000) < 64
    assert spec_pop(stack.words().tolist(), rows) == symbols.tolist()


def test_is_empty_sees_what_is_left():
    stack = Stack()
    stack.push(np.array([5, 6], np.int32), ROWS[:2])
    assert not stack.is_empty()
    stack.pop(ROWS[:1])
    assert not stack.is_empty()
    stack.pop(ROWS[1:2])
    assert stack.is_empty()
