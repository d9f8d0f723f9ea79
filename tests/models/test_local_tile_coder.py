# SPDX-License-Identifier: MIT
"""The native core over a tile: the words of the general way, and its pixels from them, whatever the tile."""

import functools

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import image

from gmcodec import native
from gmcodec.coding import autoregressive
from gmcodec.coding import value_weights as histogram
from gmcodec.coding.autoregressive import pop_words, push_words
from gmcodec.errors import GmcFormatError
from gmcodec.models.local import tile_coder as local_tile
from gmcodec.models.local.model import LocalModel


class StepByStep:
    """A model that is coded step by step, with rows of frequencies and constriction."""

    tile_coder = None

    def __init__(self, model: LocalModel) -> None:
        self.channels, self.slope, self.canvas, self.predict = model.channels, model.slope, model.canvas, model.predict


@functools.cache
def model(channels: int) -> LocalModel:
    return toy.model(channels)


pytestmark = pytest.mark.native


def ignore(count: int) -> None:
    pass


def value_weights(kind: str, channels: int, seed: int) -> list[np.ndarray | None] | None:
    random = np.random.default_rng(seed)
    if kind == "none":
        return None
    # weights of nothing for all sixteen values of a nibble are among them, and a channel without any
    levels = random.integers(0, 16, (channels, 256))
    levels[:, 64:80] = 0
    return [None if kind == "some" and c == 1 else histogram.WEIGHTS[row] for c, row in enumerate(levels)]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["smooth", "noise", "extremes"]),
    st.sampled_from(["none", "some", "all"]), st.integers(0, 1000),
)  # fmt: skip
def test_words_are_those_of_the_general_way_and_give_the_pixels(channels, height, width, kind, weighted, seed):
    planes, weights = image(kind, (channels, height, width), seed), value_weights(weighted, channels, seed)
    words, bits = push_words(planes[None], model(channels), ignore, weights)
    general, estimate = push_words(planes[None], StepByStep(model(channels)), ignore, weights)
    assert words.dtype == general.dtype
    assert np.array_equal(words, general)
    assert bits == pytest.approx(estimate, rel=1e-9)
    shape = (1, channels, height, width)
    assert np.array_equal(pop_words(words, shape, model(channels), ignore, weights)[0], planes)
    assert np.array_equal(pop_words(words, shape, StepByStep(model(channels)), ignore, weights)[0], planes)


@pytest.mark.parametrize("isa", native.isas())
def test_every_instruction_set_gives_the_same_words(isa):
    for kind, weighted in (("smooth", "none"), ("noise", "some"), ("extremes", "all")):
        planes, weights = image(kind, (3, 40, 90), 4), value_weights(weighted, 3, 4)
        words, _ = push_words(planes[None], model(3), ignore, weights)
        again, _ = push_words(planes[None], toy.model(3, isa), ignore, weights)
        assert np.array_equal(again, words)
        assert np.array_equal(pop_words(words, (1, *planes.shape), toy.model(3, isa), ignore, weights)[0], planes)


@pytest.mark.parametrize("pixels", [1, 50, 333])
def test_calls_of_the_loop_never_change_words(pixels, monkeypatch):
    planes = image("smooth", (3, 37, 41), 0)
    words, _ = push_words(planes[None], model(3), ignore)
    sampled = model(3).tile_coder.sampled_bits(planes, ignore, None)
    monkeypatch.setattr(local_tile, "LOCAL_CALL_PIXELS", pixels)
    assert model(3).tile_coder.sampled_bits(planes, ignore, None) == sampled
    counts: list[int] = []
    assert np.array_equal(push_words(planes[None], model(3), counts.append)[0], words)
    assert np.array_equal(pop_words(words, (1, 3, 37, 41), model(3), counts.append)[0], planes)
    assert sum(counts) == 2 * 37 * 41
    assert len(counts) > 6


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (900, 2), (61, 200)])
@pytest.mark.parametrize("weighted", ["none", "all"])
def test_a_sample_tells_what_a_tile_takes(shape, weighted):
    """Within what it says of its own error: a normal distribution's, over many tiles."""
    scores = []
    for seed in range(30):
        planes, weights = image("smooth", (3, *shape), seed), value_weights(weighted, 3, seed)
        _, (bits,) = push_words(planes[None], model(3), ignore, weights)
        found, variance = model(3).tile_coder.sampled_bits(planes, lambda n: None, weights)
        if shape == (1, 1):
            assert found in (0, pytest.approx(bits))
        elif variance:
            scores.append((found - bits) / variance**0.5)
    if shape[0] * shape[1] > 1000:
        assert 0.6 < np.square(scores).mean() ** 0.5 < 1.5


def test_only_whole_tiles_on_their_own_take_it():
    plain = toy.model(3)
    assert plain.tile_coder is not None
    assert plain.below(np.zeros((1, 3, 2, 8), np.uint8)).tile_coder is None


def damaged(seed: int) -> np.ndarray:
    """Words with some flipped bits, cut off or longer."""
    random = np.random.default_rng(seed)
    words = push_words(image("smooth", (3, 20, 30), seed)[None], model(3), ignore)[0]
    words = words[: random.integers(len(words) + 1)] if seed % 3 == 0 else words.copy()
    if seed % 3 == 1:
        words = np.concatenate([words, random.integers(1, 1 << 32, 5, np.uint32)])
    words[random.integers(len(words), size=2) if len(words) else []] ^= np.uint32(1 << random.integers(31))
    return words


@pytest.mark.parametrize("seed", range(12))
def test_damaged_words_give_the_pixels_of_the_general_way_or_its_error(seed):
    found = []
    for coder in (model(3), StepByStep(model(3))):
        try:
            found.append(pop_words(damaged(seed), (1, 3, 20, 30), coder, ignore))
        except GmcFormatError as error:
            found.append(str(error))
    assert np.array_equal(*found)


def test_an_image_is_coded_by_it(monkeypatch):
    planes = image("smooth", (3, 50, 60), 1)
    payload = autoregressive.encode(planes, model(3), tile=(20, 31)).data
    monkeypatch.setattr(autoregressive, "push", None)  # the general way is not taken
    monkeypatch.setattr(autoregressive, "pop", None)
    assert autoregressive.encode(planes, model(3), tile=(20, 31)).data == payload
    assert np.array_equal(autoregressive.decode(payload, planes.shape, model(3)), planes)
