# SPDX-License-Identifier: MIT
"""Context mixing and its binary decisions: tables against their formulas, words against decisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.exact import context_mixing as mixing
from gmcodec.exact import decisions
from gmcodec.exact.context_mixing import Buckets, Decision, Mixing, Slot, make_tables
from gmcodec.exact.decisions import DECISION_BITS, Reader, Writer

TABLES = make_tables()
few = settings(max_examples=60, deadline=None)
decision = st.tuples(
    st.integers(1, 65535) | st.sampled_from([1, 2, 32768, 65534, 65535]), st.booleans()
).map(lambda d: d[0] | d[1] << DECISION_BITS)  # fmt: skip


# -- tables --------------------------------------------------------------------------------------------------------


def test_tables_are_their_formulas_rounded():
    """Floating-point numbers may round a half to the other side."""
    for table, total, reach in ((TABLES.squash, 2**16, 2816), (TABLES.logistic, 2**19, 4095)):
        exact = total / (1 + np.exp(-np.arange(-reach, reach + 1) / 256))
        assert np.abs(table - exact).max() < 0.5 + 1e-4
    index = np.arange(256)
    assert np.array_equal(TABLES.reciprocal, np.floor(2**13 / (index + 1.5)))
    error = np.arange(1021)
    assert np.array_equal(TABLES.inverse_square, np.floor(2**20 / ((error + 1.0) ** 2 + 1)) + 1)


def test_exponentials_do_not_drift():
    exact = np.exp(-np.arange(4096) / 256)
    assert np.abs(np.array(mixing.exponentials(4096)) / 2**40 - exact).max() < 2**-33


def test_tables_are_symmetric_and_never_fall():
    for table, total in ((TABLES.squash, 2**16), (TABLES.logistic, 2**19)):
        assert np.array_equal(table + table[::-1], np.full(len(table), total))
        assert (np.diff(table) >= 0).all()
    assert (TABLES.squash.min(), TABLES.squash.max()) == (1, 65535)
    assert (np.diff(TABLES.stretch) >= 0).all()
    assert (np.diff(TABLES.reciprocal) <= 0).all()
    assert (np.diff(TABLES.inverse_square) <= 0).all()


def test_stretch_is_the_inverse_of_squash():
    assert (TABLES.stretch[0], TABLES.stretch[-1]) == (-2047, 2047)
    for i, x in enumerate(TABLES.stretch.tolist()):
        assert x == 2047 or mixing.squash(TABLES, x) >= 16 * i + 8
        assert x == -2047 or mixing.squash(TABLES, x - 1) < 16 * i + 8


def test_tables_have_their_types_and_cannot_be_changed():
    found = {name: (table.dtype, len(table)) for name, table in vars(TABLES).items()}
    assert found == {
        "stretch": (np.int16, 4096), "squash": (np.int32, 5633), "reciprocal": (np.int32, 256),
        "logistic": (np.int32, 8191), "inverse_square": (np.int32, 1021),
    }  # fmt: skip
    for table in vars(TABLES).values():
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1
    assert make_tables() is TABLES


# -- parts ---------------------------------------------------------------------------------------------------------


def test_a_slot_remembers_what_it_saw():
    slot = Slot()
    for number, one in enumerate([True, False, True, True, False], 1):
        slot = slot.observe(TABLES, one)
        assert slot.seen == number
    assert slot.state == slot.history == 0b110110
    for _ in range(200):
        slot = slot.observe(TABLES, True)
    assert slot == (slot.probability, mixing.SLOT_LIMIT, 127)
    assert slot.state == mixing.STATES - 1
    assert 0.99 < slot.probability / 2**mixing.SLOT_BITS < 1


@few
@given(st.lists(st.booleans(), max_size=300))
def test_states_and_probabilities_stay_in_their_ranges(ones):
    slot, entry = Slot(), mixing.Entry()
    for one in ones:
        slot, entry = slot.observe(TABLES, one), entry.observe(TABLES, one)
        assert 0 <= slot.state < mixing.STATES
        assert 0 <= slot.probability < 1 << mixing.SLOT_BITS
        assert 0 <= entry.probability < 1 << mixing.STATE_BITS
        assert 0 < slot.history < 128


def test_hashes_take_negative_numbers_as_64_bits():
    assert mixing.combine(20, -3, 5) == mixing.combine(mixing.combine(20, 2**64 - 3), 5) < 2**64
    assert mixing.combine(1, 2, 3) != mixing.combine(1, 3, 2)
    assert mixing.combine(7) == 7


def test_contexts_that_share_a_bucket_lose_it():
    buckets = Buckets(1)
    first = buckets.find([1])[0]
    first.slots[0] = first.slots[0].observe(TABLES, True)
    assert buckets.find([1])[0].slots[0].seen == 1
    other = next(code for code in range(2, 99) if mixing.key(code, 1) == mixing.key(1, 1))
    assert buckets.find([other])[0] is first
    assert buckets.find([1])[0].slots[0].seen == 0


def bits_of(ones: list[bool]) -> float:
    """What decisions cost, in bits, if each is predicted from whether the last one was a one."""
    mixed, buckets, coder, last = Mixing(TABLES, 2, 0, (1, 1, 1, 2), (1, 1), [1]), Buckets(8), Writer(), False
    for one in ones:
        found = buckets.find([mixing.combine(1, last), 2])
        assert mixed.decide(Decision(found, 0, (0, 0, 0, 0), (0, 0)), coder, one) == one
        last = one
    likely = np.array([d if d >> 16 else 65536 - d for d in coder.decisions]) & 65535
    return float(-np.log2(likely / 65536).sum())


def test_what_repeats_costs_little():
    assert bits_of([True] * 400) < 20
    assert bits_of([True, False] * 200) < 40
    random = np.random.default_rng(1).random(400) < 0.5
    assert 395 < bits_of(random.tolist()) < 440


# -- decisions -----------------------------------------------------------------------------------------------------


def blocks_of(coded: list[int], size: int) -> tuple[np.ndarray, list[int]]:
    """The words of decisions in blocks of a size, and the number of words of each block."""
    blocks = [decisions.push(np.array(coded[i : i + size], np.uint32)) for i in range(0, len(coded), size)]
    return np.concatenate([np.zeros(0, np.uint16), *blocks]), [len(block) for block in blocks]


@few
@given(st.lists(decision, max_size=150), st.integers(1, 60))
def test_decisions_come_back_from_every_size_of_blocks(coded, size):
    words, sizes = blocks_of(coded, size)
    reader = Reader(words, sizes, size)
    for number in coded:
        assert reader.decide(number & 65535) == number >> DECISION_BITS
    assert reader.finished
    if len(words):
        assert not Reader(words, sizes, size).finished


@few
@given(st.lists(st.integers(0, 65535), max_size=20), st.lists(st.integers(0, 9), max_size=5), st.integers(1, 30))
def test_words_that_nobody_wrote_never_raise(words, sizes, size):
    reader = Reader(np.array(words, np.uint16), sizes, size)
    for probability in (1, 65535, 32768, 7, 60000) * 12:
        reader.decide(probability)
        assert 0 <= reader.state < 2**32
    assert isinstance(reader.finished, bool)


@few
@given(st.lists(decision, min_size=40, max_size=90), st.data())
def test_cut_and_changed_words_give_other_decisions(coded, data):
    words, sizes = blocks_of(coded, 30)
    for at in range(len(words)):
        changed = words.copy()
        changed[at] ^= data.draw(st.integers(1, 65535))
        shorter = [sizes[0] - 1, *sizes[1:]] if sizes[0] else sizes
        for damaged, parts in ((changed, sizes), (words[:at], [at]), (np.delete(words, 0), shorter)):
            reader = Reader(damaged, parts, 30)
            found = [reader.decide(number & 65535) for number in coded]
            assert found != [bool(number >> 16) for number in coded] or not reader.finished


def test_what_is_left_over_is_seen():
    words, sizes = blocks_of([100, 200, 65536 | 300, 400] * 10, 20)
    for more, parts in (
        ([words, [5]], [*sizes[:1], sizes[1] + 1]),
        ([[5], words], [sizes[0] + 1, *sizes[1:]]),
        ([words, [5]], [*sizes, 1]),
        ([words], [*sizes, 0]),
    ):
        reader = Reader(np.concatenate(more).astype(np.uint16), parts, 20)
        for number in [100, 200, 300, 400] * 10:
            reader.decide(number)
        assert not reader.finished


@pytest.mark.parametrize(
    ("coded", "words"),
    [
        ([], []),
        ([40000 | 1 << 16], []),
        ([40000], [40000]),
        ([30000, 1 << 16 | 2, 65535, 50000 | 1 << 16, 123], [65535, 47665, 112]),
    ],
    ids=["none", "one", "zero", "five"],
)
def test_decisions_make_these_words(coded, words):
    assert decisions.push(np.array(coded, np.uint32)).tolist() == words
