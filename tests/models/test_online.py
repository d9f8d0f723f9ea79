# SPDX-License-Identifier: MIT
"""Models that learn while they code: the native core against its specification, and against nature."""

import functools
import os
import time
from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import image

from gmcodec import native
from gmcodec.coding import autoregressive, value_weights
from gmcodec.coding.autoregressive import pop_words, push_words
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact import rmsprop
from gmcodec.models import weights
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online import rules
from gmcodec.models.online import spec as learning_spec
from gmcodec.models.online import tile_coder as online_tile
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.online.spec import Learner

pytestmark = pytest.mark.native
USUAL = 5  # of online.rules.RATES


def ignore(count: int) -> None:
    pass


@functools.cache
def model(channels: int, isa: str | None = None) -> OnlineModel:
    return toy.online(channels, USUAL, isa=isa)


@functools.cache
def averaged_model(channels: int, isa: str | None = None) -> OnlineModel:
    return toy.online(channels, USUAL, averaged=True, isa=isa)


def intervals(found: OnlineModel, planes: np.ndarray, values=None) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts and frequencies of every nibble, those of the first stack first, and how many are of it."""
    both, _ = found.tile_coder.intervals(planes, ignore, values)
    left, freq = np.concatenate(both).astype(np.int64).T
    return left, freq, len(both[0])


def spec_intervals(found: OnlineModel, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    return learning_spec.intervals(learners(found), planes)


def learners(found: OnlineModel) -> list[Learner]:
    return [Learner(member.frozen, rate, averaged=found.averaged)
            for member, rate in zip(found.members, found.rates, strict=True)]  # fmt: skip


def stacked(left: list[int], freq: list[int]) -> list[int]:
    """Words of an ANS stack (exact/ans.py) onto which symbols are pushed backwards, with Python's integers."""
    state, words = 0, []
    for begin, size in zip(reversed(left), reversed(freq), strict=True):
        if state >> 40 >= size:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // size << 24) + begin + state % size
    rest = [state & 0xFFFFFFFF, state >> 32]
    while rest and not rest[-1]:
        rest.pop()
    return words + rest


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("kind", ["smooth", "noise", "extremes"])
def test_every_range_is_that_of_the_specification(channels, averaged, kind):
    planes = image(kind, (channels, 26, 45))
    expected = spec_intervals(averaged_model(channels) if averaged else model(channels), planes)
    for isa in native.isas():
        found = averaged_model(channels, isa) if averaged else model(channels, isa)
        left, freq, first = intervals(found, planes)
        assert np.array_equal(left, expected[0])
        assert np.array_equal(freq, expected[1])
        assert 0 < first == expected[2] < len(left)


def test_the_fastest_rate_and_clipped_steps_too():
    fast = toy.online(3, len(rules.RATES) - 1)
    planes = np.concatenate([image("smooth", (3, 20, 40)) // 8, image("extremes", (3, 8, 40))], 1)
    assert np.array_equal(intervals(fast, planes)[:2], spec_intervals(fast, planes)[:2])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 3]), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["smooth", "noise", "extremes"]),
    st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_pixels_come_back(channels, height, width, kind, weighted, seed):
    planes, values = image(kind, (channels, height, width), seed), None
    if weighted:
        levels = np.random.default_rng(seed).integers(0, 16, (channels, 256))
        values = [value_weights.WEIGHTS[row] for row in levels]
    words, bits = push_words(planes[None], model(channels), ignore, values)
    left, freq, first = intervals(model(channels), planes, values)
    stacks = [stacked(left[part].tolist(), freq[part].tolist()) for part in (slice(first), slice(first, None))]
    assert words.tolist() == ([len(stacks[0]), *stacks[0], *stacks[1]] if any(stacks) else [])
    assert bits.sum() == pytest.approx((24 - np.log2(freq)).sum(), rel=1e-9, abs=1e-9)
    # an empty stack may take its first symbols for nothing, so there is no bound below
    assert len(words) * 32 < bits.sum() + 32 + 2 * 70
    assert np.array_equal(pop_words(words, (1, *planes.shape), model(channels), ignore, values)[0], planes)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 3]), st.integers(1, 60), st.integers(1, 60), st.integers(2, 5), st.integers(0, 1000))
def test_threads_that_share_a_tile_do_not_matter(channels, height, width, threads, seed):
    planes = image("smooth", (channels, height, width), seed)
    words, bits = push_words(planes[None], model(channels), ignore)
    again, estimate = push_words(planes[None], model(channels), ignore, threads=threads)
    assert np.array_equal(words, again)
    assert estimate == pytest.approx(bits)
    back = pop_words(words, (1, *planes.shape), model(channels), ignore, threads=threads)
    assert np.array_equal(back[0], planes)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not say where threads run")
def test_threads_that_share_a_processor_do_not_wait_in_vain():
    """As on a busy machine: the thread that spins keeps the others from what it waits for, 30 times as long as they
    need.
    """
    planes, before, seconds = image("smooth", (3, 60, 80), 1)[None], os.sched_getaffinity(0), {1: 1e9, 2: 1e9}
    os.sched_setaffinity(0, {min(before)})
    try:
        for threads in (1, 2) * 5:
            start = time.perf_counter()
            push_words(planes, model(3), ignore, threads=threads)
            seconds[threads] = min(seconds[threads], time.perf_counter() - start)
    finally:
        os.sched_setaffinity(0, before)
    assert seconds[2] < 4 * seconds[1]


def ensemble() -> OnlineModel:
    """The second member reaches further."""
    return OnlineModel([toy.learnable(3), toy.learnable(3, 1, radius2=16)], [USUAL, 2], averaged=True)


@pytest.mark.parametrize("kind", ["smooth", "noise", "extremes"])
def test_a_pair_is_one_mixture_of_both(kind):
    """Against Python: mixing weights follow responsibilities, and every net learns as if it were alone."""
    planes, found = image(kind, (3, 26, 45)), ensemble()
    left, freq, first = intervals(found, planes)
    expected = learning_spec.intervals(learners(found), planes)
    assert np.array_equal(left, expected[0])
    assert np.array_equal(freq, expected[1])
    assert first == expected[2]


def test_mixing_weights_follow_responsibilities():
    mixture = learning_spec.Mixture(2)
    for worth in (9 / 10, 0.0):
        for _ in range(100):
            total = np.array([worth, 1 - worth]) * (100 << 14)
            mixture.responsibilities, mixture.pixels = total.astype(np.int64).tolist(), 100
            mixture.update_mixing_weights()
        expected = max(worth, 1 / 64)
        assert np.array(mixture.mixing_weights) / 2**24 == pytest.approx([expected, 1 - worth], rel=1e-3)


def test_pairs_come_back_and_name_their_rates():
    planes, found = image("smooth", (3, 40, 50), 3), ensemble()
    coded = autoregressive.encode(planes, found, threads=3, tile=(20, 50))
    assert coded.data == autoregressive.encode(planes, found, threads=1, tile=(20, 50)).data
    assert np.array_equal(autoregressive.decode(coded.data, planes.shape, found, threads=2), planes)
    assert found.fit(np.zeros((1, 3, 8, 8), np.uint8), 10**6) == bytes([USUAL, 2])
    assert found.adapted(b"") is found
    assert found.adapted(bytes([USUAL, 2])) is found
    assert found.adapted(bytes([1, 3])).rates == (1, 3)
    assert found.adapted(bytes([USUAL, 2, 3])).mirror == 3
    for changes, what in ((b"\x05", "rate of learning"), (bytes([1, 99]), "rate of"), (bytes([1, 2, 4]), "to mirror")):
        with pytest.raises(GmcFormatError, match=what):
            found.adapted(changes)


@pytest.mark.parametrize("mirror", range(rules.MIRRORS))
def test_tiles_come_back_mirrored(mirror):
    """Words are those of the mirrored tile; what a file says of it is one byte more."""
    planes = image("smooth", (3, 30, 41), 5)
    for found, rates in ((model(3), [USUAL]), (ensemble(), [USUAL, 2])):
        coded = autoregressive.encode(planes, found, threads=2, tile=(30, 41), mirror=mirror)
        turned = online_tile.mirrored(planes, mirror)
        assert np.array_equal(online_tile.mirrored(turned, mirror), planes)
        words, bits = push_words(turned[None], found, ignore)
        assert coded.data.endswith(words.astype("<u4").tobytes())
        changes = [*rates, mirror] if mirror else []
        assert coded.estimated_bits == pytest.approx(bits[0] + 8 * len(changes))
        assert (bytes([1, len(changes), *changes]) == coded.data[: 2 + len(changes)]) == bool(mirror)
        assert np.array_equal(autoregressive.decode(coded.data, planes.shape, found, threads=2), planes)


def test_images_that_share_a_stream_are_coded_by_the_first_model_as_it_is():
    planes, found = np.stack([image("smooth", (3, 9, 11), seed) for seed in range(3)]), ensemble()
    payload, _ = autoregressive.encode_batch(planes, found)
    assert payload == autoregressive.encode_batch(planes, found.members[0])[0]
    assert np.array_equal(autoregressive.decode_batch(payload, planes.shape, found), planes)


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(WeightsError, match="same way"):
        OnlineModel([toy.learnable(3), toy.learnable(1)], [USUAL, USUAL])
    with pytest.raises(WeightsError, match="not made to learn"):
        OnlineModel([toy.learnable(3), toy.model(3)], [USUAL, USUAL])


@pytest.mark.parametrize("averaged", [False, True])
def test_it_learns(averaged):
    """A pattern that the net has never seen costs less and less; the same net without learning pays on."""
    random, found = np.random.default_rng(0), averaged_model(3) if averaged else model(3)
    planes = np.tile(random.integers(0, 256, (3, 3, 3), np.uint8), (1, 32, 32))
    learnt = push_words(planes[None], found, ignore)[1][0]
    plain = push_words(planes[None], toy.learnable(3), ignore)[1][0]
    assert learnt < 0.95 * plain


def test_tiles_start_anew_and_threads_do_not_matter():
    planes = image("smooth", (3, 60, 50), 3)
    coded = autoregressive.encode(planes, model(3), threads=3, tile=(20, 50))
    assert coded.data == autoregressive.encode(planes, model(3), threads=1, tile=(20, 50)).data
    assert np.array_equal(autoregressive.decode(coded.data, planes.shape, model(3), threads=2), planes)


@pytest.mark.parametrize("pixels", [1, 50, 333])
def test_calls_of_the_loop_never_change_words(pixels, monkeypatch):
    planes = image("smooth", (3, 37, 41))
    words, _ = push_words(planes[None], model(3), ignore)
    monkeypatch.setattr(online_tile, "ONLINE_CALL_PIXELS", pixels)
    counts: list[int] = []
    assert np.array_equal(push_words(planes[None], model(3), counts.append)[0], words)
    assert np.array_equal(pop_words(words, (1, 3, 37, 41), model(3), counts.append)[0], planes)
    assert sum(counts) == 2 * 37 * 41


@pytest.mark.slow
def test_a_step_may_be_larger_than_a_batch():
    """Steps of up to 1,030 pixels: more than are learned from."""
    planes = image("smooth", (1, rmsprop.MAX_BATCH_PIXELS + 6, rmsprop.MAX_BATCH_PIXELS + 6), 2)
    config = LocalConfig(channels=1, radius2=2, slope=1, width=8, blocks=1, mixtures=1, neighbours=2)
    found = OnlineModel([toy.learnable_of(config)], [USUAL])
    words, _ = push_words(planes[None], found, ignore, threads=2)
    assert np.array_equal(pop_words(words, (1, *planes.shape), found, ignore, threads=3)[0], planes)


@pytest.mark.parametrize("seed", range(9))
def test_damaged_words_are_refused_or_give_some_pixels(seed):
    random = np.random.default_rng(seed)
    words = push_words(image("smooth", (3, 20, 30), seed)[None], model(3), ignore)[0].copy()
    words[random.integers(len(words), size=2)] ^= np.uint32(1 << random.integers(31))
    try:
        assert pop_words(words, (1, 3, 20, 30), model(3), ignore).shape == (1, 3, 20, 30)
    except GmcFormatError:
        pass


def test_an_image_names_its_rate():
    found = model(3)
    assert found.fit(np.zeros((1, 3, 8, 8), np.uint8), 10**6) == bytes([USUAL])
    assert found.adapted(b"\x02").rates == (2,)
    assert found.adapted(b"").rates == (USUAL,)
    assert found.adapted(b"\x02\x03").mirror == 3
    mirror = "way to mirror"
    refused = ((bytes([len(rules.RATES)]), "rate of learning"), (b"\x02\x00", mirror), (b"\x02\x04", mirror))
    for changes, what in refused:
        with pytest.raises(GmcFormatError, match=what):
            found.adapted(changes)


def test_weights_keep_the_units_of_gradients():
    made = toy.learnable(3)
    again = weights.from_bytes(weights.to_bytes(made)).frozen.gradient_units
    assert all(np.array_equal(again[name], unit) for name, unit in made.frozen.gradient_units.items())
    assert weights.from_bytes(weights.to_bytes(toy.model(3))).frozen.gradient_units is None
    with pytest.raises(WeightsError, match="not made to learn"):
        OnlineModel([toy.model(3)], [USUAL])


def test_weights_that_could_overflow_are_refused():
    made = toy.learnable(3).frozen
    large = replace(made.layers["up.0"], weight=np.full((16, 16), -32768, np.int16))
    wrong: list[tuple[dict, dict]] = [
        ({"up.0": large}, {}),
        ({"up.0": replace(made.layers["up.0"], bias=np.full(16, 2**27, np.int32))}, {}),
        ({}, {"up.0": made.gradient_units["up.0"].astype(np.int64)}),
        ({}, {"up.0": np.arange(16, dtype=np.int32)}),
        ({}, {"up.0": np.full(16, 64, np.int32)}),
    ]
    for layers, units in wrong:
        with pytest.raises(WeightsError):
            learns_with(made, layers, {**made.gradient_units, **units})
    with pytest.raises(WeightsError, match="units"):
        learns_with(made, {}, {"first": made.gradient_units["first"]})


def learns_with(made: FrozenLocal, layers: dict, units: dict) -> OnlineModel:
    changed = FrozenLocal(made.config, {**made.layers, **layers}, made.tables, units)
    return OnlineModel([LocalModel(changed)], [USUAL])


def test_bounds_hold_for_the_largest_weights():
    """Sums of both passes and of a gradient, at what the rules allow, stay in int32."""
    for rows, columns, limit in ((160, 160, 2047), (96, 348, 128), (56, 384, 2047), (4096, 4096, 2047)):
        weight = rmsprop.weight_limit(rows, columns, limit)
        assert columns * weight * limit + rmsprop.BIAS_ROOM <= 2**31
        assert rows * weight * rmsprop.DELTA_LIMIT < 2**31
    assert rmsprop.MAX_BATCH_PIXELS * rmsprop.DELTA_LIMIT * 2047 < 2**31


def test_gradients_are_those_of_the_likelihood():
    """Against differences of the float likelihood, by every output and by the base."""
    torch = pytest.importorskip("torch")
    from gmcodec.models.local.float import mixture_bits
    from gmcodec.models.shared.mixture import output_units

    config: LocalConfig = toy.CONFIGS[3]
    random = np.random.default_rng(0)
    k, n = config.mixtures, 200
    spread = np.repeat([40, 100, 20, 1500], [k, 3 * k, 3 * k, 3 * k])
    outputs = np.rint(random.normal(0, 1, (n, config.outputs)) * spread).astype(np.int32)
    outputs[:, 4 * k : 7 * k] += 32  # a nat: nothing lies beyond the tables
    samples = random.integers(1, 255, (n, 3)).astype(np.int32)
    base = (samples * 64 + random.integers(-100, 100, (n, 3))).astype(np.int32)
    found, centre = learning_spec.mixture_gradient(
        toy.learnable(3).tables, outputs.astype(np.int64), base.T.astype(np.int64), samples.T.astype(np.int64)
    )
    out = torch.tensor((outputs * output_units(config)).T, dtype=torch.float64, requires_grad=True)
    middle = torch.tensor(base.T / 64, dtype=torch.float64, requires_grad=True)
    bits = mixture_bits(out, middle, torch.tensor(samples.T, dtype=torch.float64), 3, k)
    (bits.sum() * np.log(2)).backward()
    for ours, theirs in ((found, out.grad), (centre, middle.grad)):
        error = np.abs(ours * 2.0**-rules.GRADIENT_BITS - theirs.numpy().T)
        assert error.mean() < 0.02 * np.abs(theirs.numpy()).mean()
