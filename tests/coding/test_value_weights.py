# SPDX-License-Identifier: MIT
"""Weights of values: integers, round trips, damage, and when they are sent."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import model as toy_model
from toy import smooth

from gmcodec import native
from gmcodec.coding import autoregressive, value_weights
from gmcodec.errors import GmcFormatError
from gmcodec.exact.logistic import ROW_TOTAL

seeds = st.integers(0, 2**32 - 1)
fast = settings(max_examples=25, deadline=None)


def random_rows(random: np.random.Generator, n: int) -> np.ndarray:
    """Rows of 16 frequencies, some of them as uneven as rows can be."""
    marks = np.sort(random.integers(0, ROW_TOTAL - 15, (n, 15)), 1) + np.arange(1, 16)
    rows = np.diff(marks, axis=1, prepend=0, append=ROW_TOTAL)
    rows[0] = [ROW_TOTAL - 15, *[1] * 15]
    return rows.astype(np.int32)


def plain(row: list[int], weights: list[int]) -> list[int]:
    """What ``reweight`` does to a row, in Python's unbounded integers."""
    products = [r * w for r, w in zip(row, weights, strict=True)]
    if not sum(products):
        return row
    marks = [0] + [sum(products[: j + 1]) * (ROW_TOTAL - 16) // sum(products) + j + 1 for j in range(16)]
    return [b - a for a, b in itertools.pairwise(marks)]


@fast
@given(seeds, st.integers(1, 20), st.booleans())
def test_reweighted_rows_are_frequencies(seed: int, n: int, extreme: bool) -> None:
    random = np.random.default_rng(seed)
    rows, high = random_rows(random, n), random.integers(0, 16, n).astype(np.int32)
    level = random.choice([0, 15], 256) if extreme else random.integers(0, 16, 256)
    level[:16] = 0  # a nibble without any value in use
    weights = value_weights.WEIGHTS[level]
    expected = [plain(r.tolist(), weights[16 * h : 16 * h + 16].tolist()) for r, h in zip(rows, high, strict=True)]
    for isa in native.isas():
        again = rows.copy()
        native.core(isa).reweighted(again, high, weights)
        assert again.tolist() == expected
    native.core().reweighted(rows, high, weights)
    assert rows.tolist() == expected
    assert (rows.sum(1) == ROW_TOTAL).all()
    assert rows.min() >= 1


@fast
@given(seeds, st.integers(1, 4), st.sampled_from(["random", "comb", "neutral"]))
def test_levels_round_trip(seed: int, channels: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    levels = np.full((channels, 256), value_weights.NEUTRAL_INDEX, np.uint8)
    if kind == "random":
        levels[random.integers(channels)] = random.integers(0, 16, 256)
    elif kind == "comb":
        levels[:, ::6] = 0
    mask, words = value_weights.pack(levels)
    assert (mask == 0) == (kind == "neutral") == (len(words) == 0)
    assert np.array_equal(value_weights.unpack(mask, words, channels), levels)
    if kind == "comb":
        assert 4 * len(words) < 80 * channels  # bytes


def test_levels_make_these_words() -> None:
    # part of the format: what a file says today it must say for ever
    levels = np.full((2, 256), value_weights.NEUTRAL_INDEX, np.uint8)
    levels[1, 5::7] = 0
    mask, words = value_weights.pack(levels)
    assert mask == 2
    assert words.tolist() == [2518967026, 3202786261, 2876886133, 2775942018, 4133730187, 2290158234, 1791]


def test_damaged_levels_are_refused() -> None:
    levels = np.full((3, 256), value_weights.NEUTRAL_INDEX, np.uint8)
    levels[1, ::3] = 2
    mask, words = value_weights.pack(levels)
    none = np.zeros(0, np.uint32)
    for damaged in ((mask | 8, words), (mask, none), (mask, np.append(words, 0)), (mask, np.append(words, 1))):
        with pytest.raises(GmcFormatError):
            value_weights.unpack(damaged[0], damaged[1].astype(np.uint32), 3)


def test_what_the_model_knows_makes_no_weight() -> None:
    counts = np.zeros(256)
    counts[100:140] = 500
    counts[120] = 9000  # a peak that the model saw coming
    expected = counts.copy()
    assert (value_weights.weight_indices(counts > -1, counts, expected) == value_weights.NEUTRAL_INDEX).all()
    counts[110], counts[111] = 0, 1000
    levels = value_weights.weight_indices(counts > 0, counts, expected)
    assert levels[110] == 0
    assert levels[111] == 10  # twice as often as expected: two half octaves
    assert levels[120] == value_weights.NEUTRAL_INDEX


def picture(values: np.ndarray, side: int = 288) -> np.ndarray:
    """A smooth colour image with the values of a table."""
    random = np.random.default_rng(5)
    image = smooth(random, (3, side, side)).astype(int) + random.integers(-6, 7, (3, side, side))
    return values[np.clip(image, 0, 255)].astype(np.uint8)


def test_a_comb_is_found_and_pays() -> None:
    model = toy_model(3)
    natural, stretched = picture(np.arange(256)), picture(np.clip(np.arange(256) * 5 // 4, 0, 255))
    assert (autoregressive.choose_weight_indices(natural, model) == value_weights.NEUTRAL_INDEX).all()
    levels = autoregressive.choose_weight_indices(stretched, model)
    assert (levels[:, 4::5] == 0).mean() > 0.9  # values that the stretched image has not
    coded = autoregressive.encode(stretched, model)
    plain_bits = autoregressive.push_words(stretched[None], model, lambda n: None)[1]
    assert 8 * len(coded.data) < 0.97 * plain_bits.sum()
    assert coded.estimated_bits == pytest.approx(8 * len(coded.data), rel=1e-3)
    assert np.array_equal(autoregressive.decode(coded.data, stretched.shape, model), stretched)


def test_no_weights_where_they_cannot_pay() -> None:
    model = toy_model(3)
    small = picture(np.clip(np.arange(256) * 5 // 4, 0, 255), side=64)
    assert (autoregressive.choose_weight_indices(small, model) == value_weights.NEUTRAL_INDEX).all()
    flat = np.full((3, 300, 300), 77, np.uint8)
    for image in (flat, np.random.default_rng(0).integers(0, 256, (3, 260, 260)).astype(np.uint8)):
        coded = autoregressive.encode(image, model)
        assert np.array_equal(autoregressive.decode(coded.data, image.shape, model), image)
