# SPDX-License-Identifier: MIT
"""The native library: each instruction set against the specification, and what its binding refuses."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from toy import image

from gmcodec import native
from gmcodec.coding import filters
from gmcodec.coding import value_weights as histogram
from gmcodec.coding.autoregressive import pop_words, push_words
from gmcodec.errors import GmcFormatError
from gmcodec.exact import ans, context_mixing, decisions, gaussian, logistic, ops, rmsprop
from gmcodec.exact.gaussian import make_latent_tables
from gmcodec.exact.logistic import BYTES, ROW_TOTAL, make_tables, scale_of
from gmcodec.models.graphics import bilevel_spec, numbers_spec
from gmcodec.models.graphics import config as graphics_config
from gmcodec.models.graphics import spec as graphics_spec
from gmcodec.models.local import fit_spec
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online import rules
from gmcodec.models.online import spec as learning_spec
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.online.spec import Learner
from gmcodec.models.shared import mixture, window
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.mixture import value_weights
from gmcodec.models.shared.window import Canvas, split_steps
from gmcodec.native import graphics, library, nets, streams, tiles

pytestmark = pytest.mark.native
CORES = [native.core(isa) for isa in native.isas()]
every_core = pytest.mark.parametrize("core", CORES, ids=native.isas())
TABLES = make_tables()
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)
# without blocks, or with a condition of an odd number of features, or one logistic; widths that fill no vector
CONFIGS = {
    "blocks": LocalConfig(channels=3, radius2=9, slope=3, width=17, blocks=2, mixtures=3, neighbours=4),
    "none": LocalConfig(channels=3, radius2=4, slope=2, width=5, blocks=0, mixtures=1, neighbours=2),
    "condition": LocalConfig(channels=1, radius2=9, slope=3, width=16, blocks=1, mixtures=5, neighbours=3, condition=5),
    "wide": LocalConfig(channels=1, radius2=49, slope=4, width=33, blocks=1, mixtures=9, neighbours=12, condition=2),
}


def ignore(count: int) -> None:
    pass


# -- constants -------------------------------------------------------------------------------------------


def test_constants_of_one_name_have_one_value():
    """Those that the C++ core shares with the specification and the binding."""
    modules = (
        *(gaussian, logistic, ops, rmsprop, rules, fit_spec, mixture, window, library, streams),
        *(decisions, context_mixing, graphics_spec, numbers_spec, bilevel_spec, graphics_config, graphics),
    )
    specified = {name: value for module in modules for name, value in vars(module).items() if name.isupper()}
    found: dict[str, float] = {}
    for name in (
        *("simd.hpp", "units.hpp", "ans.hpp", "window.hpp", "layer.hpp", "finish.hpp", "mixture.hpp", "rmsprop.hpp"),
        *("tile.hpp", "fit.hpp", "fit.cpp", "online.cpp", "rows.cpp", "streams.cpp"),
        *("decisions.hpp", "context_mixing.hpp", "bilevel.hpp", "graphics.hpp", "graphics.cpp"),
    ):
        source = (ROOT / "gmcodec" / "native" / name).read_text("utf-8")
        for line in re.findall(r"^constexpr (?:int|int\d\d_t|double) ([A-Z].*?);", source, re.MULTILINE | re.DOTALL):
            for constant, value in re.findall(r"(\w+) = ((?:[^,()]|\([^()]*\))+)", line):
                value = re.sub(r"\(int64_t\)|(0x1p-?\d+)", lambda m: str(float.fromhex(m[1])) if m[1] else "", value)
                found[constant] = eval(value, {}, found)  # noqa: S307
    shared = found.keys() & specified.keys()
    assert len(shared) > 60
    assert {name: found[name] for name in shared} == {name: specified[name] for name in shared}


# -- layers, nets ----------------------------------------------------------------------------------------


@every_core
def test_what_lies_just_below_an_integer_is_rounded_down(core):
    """(acc + bias) * multiplier * 2**-46 is a half less 2**-46: 2000 more have no such fraction in float64."""
    one = np.ones(1, np.int32)
    layer = ops.Layer(np.ones((1, 1), np.int8), one * 1073774592, one * 32767, one * 46, 2047)
    layer.check("layer")
    x, stream = np.ones((1, 1), np.int16), np.array([[2000]], np.int16)
    assert core.layer(layer).run(native.RESIDUAL, x, 2047, stream.copy()) == [[2000]]
    assert ops.residual(ops.product(layer, x), layer, 2047, stream) == [[2000]]
    assert core.layer(layer).run(native.OUTPUT, x, 2047) == [[0]]


@every_core
@pytest.mark.parametrize("before", [-(2**15), 2**15 - 1])
@pytest.mark.parametrize("limit", [1, 2**15 - 1])
def test_any_sum_may_be_added_to_any_stream(core, before, limit):
    one = np.ones(1, np.int32)
    for bias in (-(2**31) + 300, 2**31 - 300):
        layer = ops.Layer(np.ones((1, 1), np.int8), one * bias, one * 2**15, one, 128)
        layer.check("layer")
        x = np.full((1, 1), 128, np.int16)
        stream = np.full((1, 1), before, np.int16)
        expected = ops.residual(ops.product(layer, x), layer, limit, stream)
        assert core.layer(layer).run(native.RESIDUAL, x, limit, stream) == expected


@every_core
@pytest.mark.parametrize("name", CONFIGS)
def test_nets_equal_the_specification(core, name):
    """Several tiles of a canvas; with all that is known of pixels, and without."""
    config, random = CONFIGS[name], np.random.default_rng(2)
    layers = toy.layers(config)
    model = LocalModel(FrozenLocal(config, layers, TABLES), core)
    images = np.stack([image(kind, (config.channels, 9, 14), 1) for kind in ("smooth", "noise", "extremes")])
    canvas, pixels = model.canvas(9, 14, 3), random.permutation(3 * 9 * 14)
    canvas.fill(images)
    features, base = (
        np.concatenate([part(i) for i in images])
        for part in (
            lambda i: local_spec.window_features(config.window, i),
            lambda i: local_spec.centre(config.window, layers["linear"], i).T,
        )
    )
    for found, expected in zip(model.features(canvas, pixels), (features, base), strict=True):
        assert np.array_equal(found, expected[pixels])
    conditions = random.integers(-2047, 2048, (len(pixels), config.condition)) if config.condition else None
    for condition in (None, conditions):
        conditioned = model if condition is None else model.conditioned_on(condition.reshape(3, 9, 14, -1))
        outputs, centre = conditioned.evaluate(canvas, pixels)
        assert np.array_equal(outputs, local_spec.net(config, layers, features, condition)[pixels])
        assert np.array_equal(centre, base[pixels])


# -- rows of frequencies ---------------------------------------------------------------------------------


@few
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.sampled_from([300, 2**17]), seeds)
def test_logistics_equal_the_specification(n, k, channels, reach, seed):
    random = np.random.default_rng(seed)
    groups = logistic.output_groups(channels)
    outputs = random.integers(-reach, reach + 1, (n, k * groups)).astype(np.int32)
    base = random.integers(-reach * 8, reach * 8 + 1, (n, channels)).astype(np.int32)
    samples = random.integers(0, 256, (n, channels)).astype(np.int32)
    for channel in range(channels):
        whole = (outputs.astype(np.int64), base.T.astype(np.int64), samples.T.astype(np.int64))
        expected = local_spec.logistics(TABLES, *whole, channel)
        for core in CORES:
            found = core.logistics(outputs, base, samples, channel, k, TABLES.inverse)
            assert np.array_equal(found, expected)


# -- tiles of nets that learn ----------------------------------------------------------------------------


@functools.cache
def learner(channels: int, isa: str, averaged: bool = False) -> OnlineModel:
    return toy.online(channels, 5, averaged, isa)


@functools.cache
def ensemble(isa: str, mirror: int = 0) -> OnlineModel:
    members = [LocalModel(toy.learnable(3, seed, 16 if seed else 9).frozen, native.core(isa)) for seed in range(2)]
    return OnlineModel(members, [5, 2], True, mirror)


@pytest.mark.parametrize("kind", ["smooth", "extremes"])
def test_intervals_of_two_nets_equal_the_specification(kind):
    planes = image(kind, (3, 18, 40), 3)
    model = ensemble(native.isas()[0])
    learners = [Learner(m.frozen, rate, averaged=True) for m, rate in zip(model.members, model.rates, strict=True)]
    left, freq, first = learning_spec.intervals(learners, planes)
    for isa in native.isas():
        for threads in (1, 3):
            both, _ = ensemble(isa).tile_coder.intervals(planes, ignore, None, threads)
            assert np.array_equal(np.concatenate(both).T, [left, freq])
            assert len(both[0]) == first


@every_core
@pytest.mark.parametrize("mirror", [0, 3])
def test_weights_of_values_change_low_nibbles_alone_and_as_rows_do(core, mirror):
    """Intervals with weights are those without, their low nibbles' reweighted: the nets learn the same."""
    random, model = np.random.default_rng(4), learner(1, core.isa)
    planes, levels = image("smooth", (1, 17, 33), 4), random.integers(0, 16, 256)
    levels[np.unique(planes)] |= 1
    values = [histogram.WEIGHTS[levels]]
    coder = OnlineModel(model.members, model.rates, mirror=mirror).tile_coder
    plain, _ = coder.intervals(planes, ignore, None)
    weighted, _ = coder.intervals(planes, ignore, values)
    for before, after in zip(plain, weighted, strict=True):
        same = (before == after).all(1)
        assert same.sum() >= len(before) // 2
        assert not same.all()
    rows = random.multinomial(ROW_TOTAL - 16, np.full(16, 1 / 16), 5).astype(np.int32) + 1
    high, found = random.integers(0, 16, 5).astype(np.int32), rows.copy()
    core.reweighted(found, high, values[0])
    products = rows.astype(object) * values[0].reshape(16, 16)[high]
    ends = np.cumsum(products, 1) * (ROW_TOTAL - 16) // np.maximum(products.sum(1, keepdims=True), 1)
    expected = np.diff(ends + np.arange(1, 17), axis=1, prepend=0)
    used = products.sum(1) > 0
    assert np.array_equal(found[used], expected[used])
    assert np.array_equal(found[~used], rows[~used])
    words, _ = coder.push_words(planes, ignore, values)
    assert np.array_equal(coder.pop_words(words, 17, 33, ignore, values)[0], planes)


def by_workers(model: OnlineModel, planes: np.ndarray, workers: int, high_depth: bool) -> tuple[np.ndarray, np.ndarray]:
    """A tile's words by a number of threads, which may be more than MAX_TILE_THREADS, and the tile they decode."""
    from gmcodec.models.online import tile_coder as online_tile

    scale, nibbles, dtype = (scale_of(12, 3), 3, np.int32) if high_depth else (BYTES, 2, np.int16)

    def opened() -> tuple[Canvas, native.Tile]:
        canvas = Canvas(model.config.window, *planes.shape[1:], 1, dtype)
        net = model.members[0]
        learning = [rules.rules(net.frozen, model.rates[0], model.averaged)]
        return canvas, native.Tile([net.net], learning, canvas, model.slope, scale, nibbles, None, workers)

    canvas, tile = opened()
    canvas.fill(planes[None])
    found = tuple(np.empty((n, 2), np.uint32) for n in tile.symbols)
    calls = split_steps(tile.steps, planes[0].size, 300)
    with online_tile.ThreadTeam(workers) as team:
        for call in calls:
            team.run(lambda worker, call=call: tile.find_intervals(worker, *call, found))
        words = online_tile.joined([model.members[0].core.pushed(part) for part in found])
        parts = online_tile.split(words)
        stacks = native.Stacks(parts, [ans.stack_of(part) for part in parts])
        canvas, tile = opened()
        for call in calls:
            team.run(lambda worker, call=call: tile.pop_online(worker, *call, stacks))
    assert stacks.empty
    return words, canvas.planes()[0]


@pytest.mark.parametrize("high_depth", [False, True])
def test_as_many_threads_as_may_be_give_the_same_words(high_depth):
    planes = image("smooth", (1, 24, 60), 6).astype(np.uint16 if high_depth else np.uint8) * (16 if high_depth else 1)
    model = learner(1, native.isas()[0])
    alone, _ = by_workers(model, planes, 1, high_depth)
    for workers in (2, 3, 4, 8):
        words, back = by_workers(model, planes, workers, high_depth)
        assert np.array_equal(words, alone)
        assert np.array_equal(back, planes)


# -- words that nobody wrote -----------------------------------------------------------------------------


Pop = Callable[[np.ndarray], np.ndarray]


def decoders(isa: str) -> dict[str, Pop]:
    """What makes tiles of 11 x 23 pixels from words."""
    fixed, values = toy.model(3, isa), [histogram.WEIGHTS[np.arange(256) % 16]] * 3
    pair = ensemble(isa, 2).tile_coder
    high_depth = learner(1, isa).high_depth_coder(13, 4, 7)
    return {
        "fixed": lambda words: pop_words(words, (1, 3, 11, 23), fixed, ignore)[0],
        "weighted": lambda words: pop_words(words, (1, 3, 11, 23), fixed, ignore, values)[0],
        "online": lambda words: pop_words(words, (1, 3, 11, 23), learner(3, isa), ignore, values, threads=2)[0],
        "pair": lambda words: pair.pop_words(words, 11, 23, ignore, None, 2)[0],
        "high depth": lambda words: high_depth.pop_words(words, 11, 23, ignore, None, 2)[0],
    }


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("name", ["fixed", "weighted", "online", "pair", "high depth"])
def test_random_words_give_a_tile_or_a_typed_error(isa, name):
    """The same tile with every instruction set, or the same error."""
    random, decode, first = np.random.default_rng(9), decoders(isa)[name], decoders("portable")[name]
    for count in (0, 1, 2, 3, 40, 3000):
        for words in (random.integers(0, 1 << 32, count, np.uint32), np.full(count, 2**32 - 1, np.uint32)):
            found = []
            for what in (decode, first):
                try:
                    found.append(what(words.copy()).tolist())
                except GmcFormatError as error:
                    found.append(str(error))
            assert found[0] == found[1]


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("learns", [False, True])
def test_words_that_end_too_soon_are_refused_or_give_another_tile(isa, learns):
    model, planes = learner(3, isa) if learns else toy.model(3, isa), image("smooth", (3, 11, 23), 0)
    words, _ = push_words(planes[None], model, ignore)
    for count in (*range(4), len(words) // 2, len(words) - 1):
        try:
            back = pop_words(words[:count], (1, 3, 11, 23), model, ignore)
        except GmcFormatError:
            continue
        assert not np.array_equal(back[0], planes)


# -- filters ---------------------------------------------------------------------------------------------


@few
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 20), st.sampled_from([8, 16]), seeds)
def test_filters_are_undone_by_every_core(channels, height, width, depth, seed):
    random = np.random.default_rng(seed)
    dtype, top = (np.uint8, 255) if depth == 8 else (np.uint16, 65535)
    planes = random.integers(0, top + 1, (channels, height, width)).astype(dtype)
    step = channels * depth // 8
    rows = np.ascontiguousarray(planes.transpose(1, 2, 0)).astype(f">u{depth // 8}").view(np.uint8).reshape(height, -1)
    filtered = filters.png_filter(rows, step)
    kinds = random.integers(0, 5, height)
    padded = np.pad(rows, ((1, 0), (step, 0))).astype(int)
    left, up, corner, now = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step], padded[1:, step:]
    guess = left + up - corner
    nearest = np.stack([abs(guess - v) for v in (left, up, corner)]).argmin(0)  # the first of the nearest
    predictions = (0 * now, left, up, (left + up) // 2, np.choose(nearest, [left, up, corner]))
    any_ = np.stack([np.r_[k, (now - predictions[k])[i] & 255] for i, k in enumerate(kinds)]).astype(np.uint8)
    residual = med_residual(planes.astype(np.int32), top)
    for core in CORES:
        assert np.array_equal(core.undone_png(filtered, step), rows)
        assert np.array_equal(core.undone_png(any_, step), rows)
        back = residual.copy()
        core.undone_med(back, top)
        assert np.array_equal(back, planes)


def med_residual(planes: np.ndarray, mask: int) -> np.ndarray:
    """By the median of left, above, and their sum less the corner; those that there are."""
    padded = np.pad(planes, ((0, 0), (1, 0), (1, 0)))
    left, up, corner = padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]
    predicted = np.median([left, up, left + up - corner], axis=0).astype(np.int32)
    predicted[:, 0], predicted[:, :, 0] = left[:, 0], up[:, :, 0]
    return np.ascontiguousarray((planes - predicted) & mask).astype(np.int32)


# -- what the binding refuses ----------------------------------------------------------------------------

CORE = CORES[0]
ONE = np.ones((2, 3), np.int64)
LAYER = ops.Layer(np.ones((4, 3), np.int8), *(np.ones(4, np.int32),) * 3, 2047)
X = np.ones((2, 3), np.int16)
WIDE = np.ones((2, 33), np.int64)
LATENT = make_latent_tables(8)
ZERO = np.zeros(2, np.int64)
ROW = np.ones((1, 16), np.int32)


def put(out: np.ndarray | None = None, **fields) -> Callable[[], object]:
    arguments = {"kind": native.HIDDEN, "x": X, "limit": 2047, "table": None, **fields}
    return lambda: CORE.layer(LAYER).run(out=out, **arguments)


def open_(k: int = 2, channel: int = 0, outputs=None, samples=None) -> Callable[[], object]:
    outputs = np.zeros((2, 20), np.int32) if outputs is None else outputs
    samples = np.zeros((2, 3), np.int32) if samples is None else samples
    return lambda: CORE.logistics(outputs, np.zeros((2, 3), np.int32), samples, channel, k, TABLES.inverse)


def rows(weights=ONE, mean=ONE, inverse=ONE, sigmoid=TABLES.sigmoid, high=None) -> Callable[[], object]:
    return lambda: CORE.rows(weights, mean, inverse, sigmoid, high)


REFUSED: dict[str, Callable[[], object]] = {
    "kind": put(kind=5),
    "negative kind": put(kind=-1),
    "gate without table": put(np.zeros((2, 2), np.int16), kind=native.GATE),
    "short table": put(np.zeros((2, 2), np.int16), kind=native.GATE, table=np.zeros(4094, np.int32)),
    "inputs": put(x=X.astype(np.int32)),
    "other inputs": put(x=np.ones((2, 4), np.int16)),
    "one row": put(x=X[0]),
    "turned": put(x=np.asfortranarray(X)),
    "wide layer": lambda: CORE.layer(replace(LAYER, weight=np.ones((1025, 3), np.int8))),
    "empty layer": lambda: CORE.layer(replace(LAYER, weight=np.ones((4, 0), np.int8))),
    "short bias": lambda: CORE.layer(replace(LAYER, bias=np.ones(3, np.int32))),
    "no logistics": open_(k=0),
    "too many logistics": lambda: open_(k=33, outputs=np.zeros((2, 33 * 10), np.int32))(),
    "more logistics than outputs": open_(k=3),
    "channel": open_(channel=3),
    "negative channel": open_(channel=-1),
    "samples": open_(samples=np.zeros((2, 3), np.int64)),
    "no priors": lambda: CORE.priors(np.zeros((2, 9), np.int32), 0, TABLES.softmax),
    "too many priors": lambda: CORE.priors(np.zeros((2, 99), np.int32), 33, TABLES.softmax),
    "priors of a table": lambda: CORE.priors(np.zeros((2, 9), np.int32), 3, TABLES.softmax[:-1].copy()),
    "too many weights": rows(WIDE, WIDE, WIDE),
    "no weights": rows(ONE[:, :0].copy(), ONE[:, :0].copy(), ONE[:, :0].copy()),
    "flat weights": rows(ONE[0], ONE[0], ONE[0]),
    "int32 weights": rows(ONE.astype(np.int32)),
    "means": rows(mean=ONE[:1]),
    "inverses": rows(inverse=np.ones((3, 2), np.int64).T),
    "sigmoid": rows(sigmoid=TABLES.inverse),
    "high nibbles": rows(high=np.array([0, 16], np.int32)),
    "negative nibbles": rows(high=np.array([0, -1], np.int32)),
    "few nibbles": rows(high=np.zeros(1, np.int32)),
    "observed samples": lambda: CORE.observed(np.array([0, 256], np.int32), ONE.copy(), ONE, ONE, TABLES.sigmoid),
    "observed weights": lambda: CORE.observed(np.zeros(2, np.int32), WIDE.copy(), WIDE, WIDE, TABLES.sigmoid),
    "an empty interval": lambda: CORE.pushed(np.array([[0, 5], [3, 0]], np.uint32)),
    "an interval of too much": lambda: CORE.pushed(np.array([[0, ROW_TOTAL + 1]], np.uint32)),
    "intervals": lambda: CORE.pushed(np.ones((2, 2), np.int64)),
    "frequencies": lambda: CORE.reweighted(-ROW, np.zeros(1, np.int32), np.ones(256, np.int64)),
    "values": lambda: CORE.reweighted(ROW.copy(), np.zeros(1, np.int32), np.full(256, -1)),
    "large values": lambda: CORE.reweighted(ROW.copy(), np.zeros(1, np.int32), np.full(256, 2**40)),
    "few values": lambda: CORE.reweighted(ROW.copy(), np.zeros(1, np.int32), np.ones(255, np.int64)),
    "log-scales": lambda: CORE.latent_rows(ZERO, 16, ZERO, np.array([0, len(LATENT.inverse)]), LATENT),
    "negative log-scales": lambda: CORE.latent_rows(ZERO, 16, ZERO, ZERO - 1, LATENT),
    "latent means": lambda: CORE.latent_rows(ZERO, 16, ZERO[:1], ZERO, LATENT),
    "row filters": lambda: CORE.undone_png(np.full((2, 9), 5, np.uint8), 1),
    "filter step": lambda: CORE.undone_png(np.ones((2, 9), np.uint8), 0),
    "negative filter step": lambda: CORE.undone_png(np.ones((2, 9), np.uint8), -(10**9)),
    "rows without filters": lambda: CORE.undone_png(np.ones((2, 0), np.uint8), 1),
    "filtered numbers": lambda: CORE.undone_png(np.ones((2, 9), np.int32), 1),
    "residuals": lambda: CORE.undone_med(np.ones((1, 2, 3), np.uint8), 255),
    "residuals of a plane": lambda: CORE.undone_med(np.ones((2, 3), np.int32), 255),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_refuse_what_they_cannot_have(name):
    with pytest.raises((TypeError, ValueError)):
        REFUSED[name]()


def test_what_lies_beside_the_refused_is_done():
    """So that no case above is refused for another reason."""
    assert put()().shape == (2, 4)
    assert open_()()[0].shape == (2, 2)
    assert open_(k=32, outputs=np.zeros((2, 320), np.int32))()[0].shape == (2, 32)
    assert rows()().shape == rows(high=np.array([0, 15], np.int32))().shape == (2, 16)
    assert rows(WIDE[:, 1:].copy(), WIDE[:, 1:].copy(), WIDE[:, 1:].copy())().shape == (2, 16)
    assert CORE.priors(np.zeros((2, 99), np.int32), 32, TABLES.softmax).shape == (2, 32)
    CORE.observed(np.array([0, 255], np.int32), ONE.copy(), ONE, ONE, TABLES.sigmoid)
    CORE.reweighted(np.ones((1, 16), np.int32), np.zeros(1, np.int32), np.ones(256, np.int64))
    assert CORE.latent_rows(ZERO, 16, ZERO, np.array([0, len(LATENT.inverse) - 1]), LATENT).shape == (2, 16)
    assert CORE.undone_png(np.full((2, 9), 4, np.uint8), 1).shape == (2, 8)
    assert CORE.pushed(np.array([[0, ROW_TOTAL], [0, 1]], np.uint32))[0] == 0
    many = np.ones(1024, np.int32)
    assert CORE.layer(ops.Layer(np.ones((1024, 3), np.int8), many, many, many, 2047)).rows == 1024


def net_of(**fields) -> nets.Net:
    """The net of a toy model, with some of its arguments changed."""
    model = toy.model(1)
    names = [n for n in model.config.layer_names() if n != "linear"]
    arguments = {
        "layers": [native.LayerArrays.of(model.layers[n]) for n in names], "conditions": [],
        "linear": native.LayerArrays.of(model.layers["linear"]),
        "near": model.config.window.near_columns(model.config.neighbours), "runs": np.array(model.config.window.runs),
        "tables": TABLES, "channels": 1, "mixtures": model.config.mixtures,
        "limits": (ACTIVATION_LIMIT, OUTPUT_LIMIT), **fields,
    }  # fmt: skip
    return nets.Net(CORE, **arguments)


RUNS = np.array(toy.CONFIGS[1].window.runs)


@pytest.mark.parametrize(
    "fields",
    [
        {"runs": RUNS * [1, 1, -1]},
        {"runs": np.concatenate([RUNS, [[0, -1, -3], [0, -1, 3]]])},
        {"runs": RUNS[:0]},
        {"runs": RUNS[:, :2]},
        {"runs": RUNS[1:]},
        {"near": np.array([0, 1, 2, 10**6])},
        {"near": np.array([0, 1, 2, -1])},
        {"near": np.zeros(5, np.int64)},
        {"mixtures": 0},
        {"mixtures": 4},
        {"channels": 3},
        {"channels": 0},
        {"limits": (2**15, 2**17)},
        {"limits": (2047, 2**17 + 1)},
        {"limits": (0, 1)},
        {"tables": replace(TABLES, softmax=TABLES.softmax[:-1].copy())},
        {"tables": replace(TABLES, sigmoid=TABLES.sigmoid.astype(np.int64))},
        {"conditions": [native.LayerArrays.of(LAYER)] * 2},
        {"layers": []},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_nets_that_do_not_fit_are_refused(fields):
    assert net_of().blocks == 1
    with pytest.raises((TypeError, ValueError, IndexError)):
        net_of(**fields)


def test_pixels_whose_windows_leave_the_samples_are_refused():
    model = toy.model(1)
    canvas = model.canvas(5, 6)
    inside = canvas.locate(np.arange(30))
    assert len(model.net.evaluate(canvas.flat, canvas.row_size, inside, None)[0]) == 30
    beyond = [inside[:1] - 3 * canvas.row_size, inside[:1] - 10**9, inside[-1:] + 10**9, inside[-1:] + 4]
    for at in [*beyond, inside.astype(np.int32), inside[:, None]]:
        for use in (lambda at=at: model.net.evaluate(canvas.flat, canvas.row_size, at, None),
                    lambda at=at: model.net.features(canvas.flat, canvas.row_size, at)):  # fmt: skip
            with pytest.raises((TypeError, ValueError)):
                use()
    for row_size in (-canvas.row_size, 10**9):
        with pytest.raises(ValueError, match="pixels"):
            model.net.features(canvas.flat, row_size, inside)
    with pytest.raises(TypeError):
        model.net.features(canvas.flat.astype(np.int32), canvas.row_size, inside)
    with pytest.raises(ValueError, match="shape"):
        model.net.evaluate(canvas.flat, canvas.row_size, inside, np.zeros((30, 1), np.int16))


def tile_of(learns: bool = True, **fields) -> tiles.Tile:
    model = learner(1, CORE.isa)
    canvas = fields.pop("canvas", None) or Canvas(model.config.window, 9, 20, 1, fields.pop("dtype", np.int16))
    arguments = {
        "nets": [model.members[0].net], "slope": model.slope,
        "rmsprop": [rules.rules(model.members[0].frozen, 5, False)] if learns else None,
        "scale": BYTES, "nibbles": 2, "values": None, "workers": 1, **fields,
    }  # fmt: skip
    return tiles.Tile(canvas=canvas, **arguments)


def values_of(weight: int) -> tuple[np.ndarray, np.ndarray]:
    found = value_weights([np.full(256, weight)], 1)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"workers": 0},
        {"workers": 9},
        {"nets": []},
        {"slope": 0},
        {"slope": -1},
        {"nibbles": 3},
        {"scale": (1, 0, 255, 32)},
        {"scale": (0, 0, 256, 32)},
        {"values": values_of(-1)},
        {"values": values_of(2**40)},
        {"values": (np.ones((1, 255), np.int64), np.ones(1, bool))},
        {"values": (np.ones((1, 256), np.int64), np.ones(2, bool))},
        {"rmsprop": []},
        {"canvas": Canvas(toy.CONFIGS[3].window, 9, 20)},
        {"canvas": Canvas(replace(toy.CONFIGS[1], radius2=4).window, 9, 20)},
        {"dtype": np.int32, "scale": scale_of(12, 3), "nibbles": 5},
        {"dtype": np.int32, "scale": scale_of(12, 3), "nibbles": 4},
        {"dtype": np.int32, "scale": (9, 4, 4095, 4), "nibbles": 3},
        {"dtype": np.int32, "scale": scale_of(12, 3), "nibbles": 3, "values": values_of(64)},
        {"dtype": np.int32, "scale": scale_of(12, 3), "nibbles": 3, "rmsprop": None},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_tiles_that_do_not_fit_are_refused(fields):
    with pytest.raises((TypeError, ValueError)):
        tile_of(**fields)


def test_steps_of_a_tile_are_its_own():
    tile = tile_of(learns=False)
    words = np.zeros(9, np.uint32)
    assert tile.push(0, tile.steps, 0)[2] > 0
    for first, last in ((0, tile.steps + 1), (-1, 3), (4, 3)):
        for use in (lambda a=first, b=last: tile.push(a, b, 0), lambda a=first, b=last: tile.pop(a, b, 0, words, 9)):
            with pytest.raises(ValueError, match="steps"):
                use()
    for count in (-1, 10):
        with pytest.raises(ValueError, match="words"):
            tile.pop(0, 1, 0, words, count)
    with pytest.raises(TypeError):
        tile.pop(0, 1, 0, words.astype(np.int64), 9)
    with pytest.raises(ValueError, match="steps"):
        tile.find_intervals(0, 0, 1, (np.zeros((1, 2), np.uint32),) * 2)


def test_nets_learn_from_every_step_once():
    """Else what they give would no longer fit the place that it goes to."""
    tile = tile_of()
    intervals = tuple(np.zeros((n, 2), np.uint32) for n in tile.symbols)
    tile.find_intervals(0, 0, 5, intervals)
    for first in (0, 4, 6):
        with pytest.raises(ValueError, match="the next"):
            tile.find_intervals(0, first, tile.steps, intervals)
    tile.find_intervals(0, 5, tile.steps, intervals)
    with pytest.raises(ValueError, match="the next"):
        tile.find_intervals(0, 0, tile.steps, intervals)
    tile = tile_of()
    for wrong in (
        (intervals[0], intervals[1][:-1]),
        (intervals[0].astype(np.int32), intervals[1]),
        (intervals[0],),
        (intervals[0][:, ::-1], intervals[1]),
    ):
        with pytest.raises((TypeError, ValueError)):
            tile.find_intervals(0, 0, tile.steps, wrong)
    with pytest.raises(ValueError, match="steps"):
        tile.find_intervals(1, 0, tile.steps, intervals)
    with pytest.raises(ValueError, match="steps"):
        tile.push(0, 1, 0)
    stacks = native.Stacks([np.zeros(3, np.uint32)] * 2, [(0, 3), (0, 0)])
    tile.pop_online(0, 0, tile.steps, stacks)
    with pytest.raises(ValueError, match="the next"):
        tile.pop_online(0, 0, 1, stacks)


@pytest.mark.parametrize(("words", "opened"), [
    (1, [(0, 0)]), (2, [(0, 4), (0, 0)]), (2, [(0, -1), (0, 0)]), (3, [(0, 0)] * 3),
])  # fmt: skip
def test_stacks_are_two_and_have_their_words(words, opened):
    with pytest.raises(ValueError, match=r"stacks|zip"):
        native.Stacks([np.zeros(3, np.uint32)] * words, opened)


# -- loading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("GMCODEC_ISA", "avx1024", "GMCODEC_ISA=avx1024: this processor or library does not have it; it has"),
        ("GMCODEC_NATIVE_LIBRARY", "/nowhere/lib.so", "the native library cannot be loaded; install gmcodec again"),
    ],
)
def test_what_cannot_be_loaded_is_reported(variable, value, message):
    code = (
        "from gmcodec import errors, native\n"
        "try: native.core()\n"
        "except errors.NativeError as error: print(isinstance(error, errors.GmcError), error)"
    )
    environment = os.environ | {variable: value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"True {message}")


def test_every_instruction_set_can_be_named(monkeypatch):
    assert native.isas()[-1] == "portable"
    for isa in native.isas():
        monkeypatch.setenv(native.ISA_VARIABLE, isa)
        assert native.core().isa == isa == native.core(isa).isa
    monkeypatch.setenv(native.ISA_VARIABLE, "")
    assert native.core().isa == native.isas()[0]
