# SPDX-License-Identifier: MIT
"""Integer arithmetic with one possible result: every evaluator and kernel equals the plain specification."""

import dataclasses
import itertools

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec.errors import EvaluatorError, FreezeError, WeightsError
from gmcodec.exact import evaluators, int16, kernels, ops, tables
from gmcodec.exact.evaluators import EVALUATORS
from gmcodec.exact.freeze import dyadic, freeze_layer
from gmcodec.exact.ops import FLOAT32_BOUND, INT32_BOUND, Layer
from gmcodec.exact.tables import NIBBLES, ROW_TOTAL, WEIGHT_BITS, make_tables

TABLES = make_tables()
SHAPES = [(1, 1, 1), (1, 7, 3), (2, 1, 5), (3, 63, 17), (33, 160, 50), (17, 217, 1)]  # N, K, M
LIMIT = 2047
fast = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def layer_of(weight: np.ndarray, limit: int = LIMIT) -> Layer:
    ones = np.ones(len(weight), np.int32)
    return Layer(weight, 0 * ones, ones, ones, limit)


def random_layer(random: np.random.Generator, m: int, k: int, limit: int = LIMIT, extreme: bool = False) -> Layer:
    """Weights and rescaling from everything that ``check`` allows; ends of the ranges if ``extreme``."""

    def numbers(low: int, high: int, shape: tuple[int, ...] = (m,)) -> np.ndarray:
        return random.choice([low, high], shape) if extreme else random.integers(low, high + 1, shape)

    return Layer(
        numbers(-127, 127, (m, k)).astype(np.int8),
        numbers(-(2**30), 2**30).astype(np.int32),
        numbers(1, 2**15).astype(np.int32),
        numbers(1, 46).astype(np.int32),
        limit,
    )


def prepared(name: str, layer: Layer):
    if name == "int8":
        pytest.importorskip("torch", reason="int8 needs torch")
    return EVALUATORS[name].prepare(layer), EVALUATORS[name].dtype


# -- products ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVALUATORS)
@pytest.mark.parametrize("limit", [1, 63, 64, 128, LIMIT, 2**14 - 1, 2**14])
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
def test_products_equal_the_specification(n, k, m, limit, name):
    random = np.random.default_rng([n, k, m, limit])
    signs = random.choice([-127, 127], (m, k)).astype(np.int8)
    for weight in (signs, np.full((m, k), 127, np.int8), random.integers(-128, 128, (m, k)).astype(np.int8)):
        layer = layer_of(weight, limit)
        run, dtype = prepared(name, layer)
        worst = limit * np.sign(weight[[0] * n].astype(int))  # adds up to the bound in row 0
        for x in (np.full((n, k), limit), np.full((n, k), -limit), worst, random.integers(-limit, limit + 1, (n, k))):
            exact = ops.product(layer, x)
            assert exact.dtype == np.int64
            assert np.abs(exact).max() <= layer.product_bound
            assert np.array_equal(run(x.astype(dtype)), exact)


@pytest.mark.parametrize("name", EVALUATORS)
def test_products_of_wide_weights_equal_the_specification(name):
    random = np.random.default_rng(3)
    layer = layer_of(random.integers(-4095, 4096, (5, 36)).astype(np.int16), 128)
    run, dtype = prepared(name, layer)
    for x in (random.integers(-128, 129, (9, 36)), np.full((1, 36), 128)):
        assert np.array_equal(run(x.astype(dtype)), ops.product(layer, x))


@pytest.mark.parametrize("name", EVALUATORS)
def test_the_layout_of_inputs_does_not_matter(name):
    random = np.random.default_rng(4)
    layer = layer_of(random.integers(-127, 128, (19, 42)).astype(np.int8))
    turned = layer_of(np.asfortranarray(layer.weight))
    run, dtype = prepared(name, layer)
    x = random.integers(-LIMIT, LIMIT + 1, (22, 84)).astype(dtype)
    part = x[::2, ::2]
    exact = ops.product(layer, part)
    for layout in (part, np.asfortranarray(part), np.ascontiguousarray(part), part[::-1][::-1]):
        assert np.array_equal(run(layout), exact)
        assert np.array_equal(prepared(name, turned)[0](layout), exact)
    assert np.array_equal(np.concatenate([run(row[None]) for row in part]), exact)


@fast
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.sampled_from([1, 63, 128, LIMIT]), seeds)
@pytest.mark.parametrize("name", EVALUATORS)
def test_random_products(name, n, k, m, limit, seed):
    random = np.random.default_rng(seed)
    layer = random_layer(random, m, k, limit)
    run, dtype = prepared(name, layer)
    x = random.integers(-limit, limit + 1, (n, k))
    assert np.array_equal(run(x.astype(dtype)), ops.product(layer, x))


def test_float32_alone_would_be_wrong_above_its_bound():
    # 2**24 + 1 is not a float32: 127 * 2047 * 64 + 127 * 2 * 2047 + ... reaches odd sums above it
    weight = np.full((1, 101), 127, np.int8)
    layer = layer_of(weight)
    assert layer.product_bound >= FLOAT32_BOUND
    x = np.full((3, 101), LIMIT)
    exact = ops.product(layer, x)
    assert exact[0, 0] % 2 == 1
    assert int(np.float32(exact[0, 0])) != exact[0, 0]
    run = EVALUATORS["float32"].prepare(layer)
    assert run(x.astype(np.float32)).dtype == np.float64
    assert np.array_equal(run(x.astype(np.float32)), exact)


def test_float32_is_used_right_below_its_bound():
    k = (FLOAT32_BOUND - 1) // (127 * LIMIT)
    run = EVALUATORS["float32"].prepare(layer_of(np.full((1, k), 127, np.int8)))
    assert run(np.zeros((1, k), np.float32)).dtype == np.float32
    run = EVALUATORS["float32"].prepare(layer_of(np.full((1, k + 1), 127, np.int8)))
    assert run(np.zeros((1, k + 1), np.float32)).dtype == np.float64


@pytest.mark.parametrize("k", [65, 66, 101, 129, 130, 250, 257, 300])
def test_products_above_the_float32_bound_are_cut_into_runs_below_it(k):
    random, shape = np.random.default_rng(k), (3, k)
    for weight in (
        np.full(shape, 127),
        np.where(random.random(shape) < 0.5, -127, 127),
        random.integers(-127, 128, shape),
    ):
        layer = layer_of(weight.astype(np.int8))
        cuts = evaluators._float32_cuts(layer)
        for first, last in itertools.pairwise(cuts or []):
            assert layer_of(layer.weight[:, first:last]).product_bound < FLOAT32_BOUND
        run = EVALUATORS["float32"].prepare(layer)
        for x in (np.full((2, k), LIMIT), np.full((2, k), -LIMIT), random.integers(-LIMIT, LIMIT + 1, (5, k))):
            assert np.array_equal(run(x.astype(np.float32)), ops.product(layer, x))
    assert (evaluators._float32_cuts(layer_of(np.full(shape, 127, np.int8))) is None) == (k > 4 * 64)


def test_int16_is_exact_up_to_its_bound_and_leaves_wider_inputs_to_float64():
    top, random = 2**15 - 1, np.random.default_rng(5)
    for k, limit in ((2, top), (31, 2047), (32, 2047)):
        signs = random.choice([-top, top], (24, k)).astype(np.int16)
        layer = layer_of(signs, limit)
        assert 0.9 * INT32_BOUND < layer.product_bound < INT32_BOUND
        run = EVALUATORS["int16"].prepare(layer)
        x = limit * np.sign(signs.astype(int))[:9]  # adds up to the bound
        assert run(x.astype(np.int16)).dtype == np.int32
        assert np.array_equal(run(x.astype(np.int16)), ops.product(layer, x))
    wide = layer_of(np.full((3, 5), -128, np.int8), 2**15)
    x = np.full((2, 5), -(2**15))
    assert np.array_equal(EVALUATORS["int16"].prepare(wide)(x.astype(np.int16)), ops.product(wide, x))


@fast
@given(st.integers(1, 140), st.integers(1, 9), st.integers(1, 90), seeds)
def test_int16_writes_every_product_and_nothing_else(n, k, m, seed):
    random = np.random.default_rng(seed)
    weight, x = random.integers(-127, 128, (m, k)), random.integers(-LIMIT, LIMIT + 1, (n, k + k % 2))
    packed = int16.pack(weight)
    room = np.full((n + 2, packed.shape[1]), 7, np.int32)
    int16.multiply(x.astype(np.int16), packed, room[1:-1])
    assert np.array_equal(room[1:-1, :m], x[:, :k] @ weight.T)
    assert (room[[0, -1]] == 7).all()
    assert (room[1:-1, m:] == 0).all()


# -- rescaling -----------------------------------------------------------------------------------------


def ideal(acc: int, bias: int, multiplier: int, shift: int) -> int:
    return ((acc + bias) * multiplier + (1 << (shift - 1))) >> shift


def accumulators(random: np.random.Generator, layer: Layer, n: int) -> np.ndarray:
    top = 2**31 - 1 - 2**30
    acc = random.integers(-top, top + 1, (n, len(layer.bias)))
    acc[0], acc[-1] = top, -top
    return acc


@fast
@given(st.integers(1, 9), st.integers(1, 9), st.booleans(), seeds)
def test_rescaling_never_overflows(n, m, extreme, seed):
    # against Python's unbounded integers
    random = np.random.default_rng(seed)
    layer = random_layer(random, m, 1, extreme=extreme)
    layer.check("layer")
    acc = accumulators(random, layer, n)
    expected = [
        [ideal(*map(int, (a, layer.bias[j], layer.multiplier[j], layer.shift[j]))) for j, a in enumerate(row)]
        for row in acc
    ]
    got = ops.rescale(acc, layer)
    assert got.dtype == np.int64
    assert got.tolist() == expected
    assert ops.leaky(got).tolist() == [[max(v, v // 8) for v in row] for row in expected]


@fast
@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from([1, LIMIT, 2**17]), st.booleans(), seeds)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_kernels_equal_ops(dtype, n, m, limit, extreme, seed):
    random = np.random.default_rng(seed)
    layer = random_layer(random, m, 1, extreme=extreme)
    acc = accumulators(random, layer, n)
    if dtype == np.float32:
        acc >>= 7  # what float32 can hold
    if dtype == np.int32 and not extreme:
        acc >>= 10
    fields = kernels.affine(layer)
    hidden, output = np.empty((n, m), dtype), np.empty((n, m), np.int32)
    kernels.hidden(acc.astype(dtype), *fields, limit, hidden)
    assert np.array_equal(hidden, ops.hidden(acc, layer, limit))
    kernels.output(acc.astype(dtype), *fields, limit, output)
    assert np.array_equal(output, ops.output(acc, layer, limit))
    before = random.integers(-limit, limit + 1, (n, m))
    stream = before.astype(dtype)
    kernels.residual(acc.astype(dtype), *fields, limit, stream)
    assert np.array_equal(stream, ops.residual(acc, layer, limit, before))
    for result in (hidden, output, stream):
        assert np.abs(result.astype(np.int64)).max() <= limit


def test_rounding_is_half_up_and_the_leak_rounds_down():
    layer = layer_of(np.zeros((1, 1), np.int8))  # (acc + 1) >> 1
    acc = np.array([[-3], [-2], [-1], [0], [1], [2], [3]])
    assert ops.rescale(acc, layer).ravel().tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert ops.leaky(np.array([-17, -16, -9, -8, -1, 0, 1])).tolist() == [-3, -2, -2, -1, -1, 0, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": np.zeros((3, 4), np.int32)},
        {"weight": np.zeros((3, 4), np.float32)},
        {"weight": np.zeros((2, 4), np.int8)},
        {"weight": np.zeros((3, 4, 1), np.int8)},
        {"weight": np.zeros(3, np.int8)},
        {"weight": np.zeros((), np.int8)},
        {"bias": np.zeros(3, np.int64)},
        {"bias": np.zeros(4, np.int32)},
        {"bias": np.full(3, -(2**31), np.int32)},
        {"multiplier": np.zeros(3, np.int32)},
        {"multiplier": np.full(3, 2**15 + 1, np.int32)},
        {"multiplier": np.ones(3)},
        {"shift": np.zeros(3, np.int32)},
        {"shift": np.full(3, 47, np.int32)},
        {"shift": np.ones((3, 1), np.int32)},
        {"weight": np.full((3, 16), 2**15 - 1, np.int16), "input_limit": 4097},
    ],
)
def test_bad_layers_are_refused(fields):
    good = layer_of(np.zeros((3, 4), np.int8))
    good.check("layer")
    with pytest.raises(WeightsError, match="layer"):
        dataclasses.replace(good, **fields).check("layer")


# -- choosing an evaluator -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVALUATORS)
def test_an_evaluator_can_be_forced(name, monkeypatch):
    if name == "int8":
        pytest.importorskip("torch", reason="int8 needs torch")
    monkeypatch.setenv(evaluators.VARIABLE, name)
    chosen, why = evaluators.choose()
    assert chosen.name == name
    assert evaluators.VARIABLE in why


def test_an_unknown_evaluator_is_refused(monkeypatch):
    monkeypatch.setenv(evaluators.VARIABLE, "float16")
    with pytest.raises(EvaluatorError, match="float16"):
        evaluators.choose()


@pytest.fixture
def fresh_choice():
    evaluators._choose.cache_clear()
    yield
    evaluators._choose.cache_clear()


@pytest.mark.usefixtures("fresh_choice")
def test_an_evaluator_that_fails_its_self_test_is_not_used(monkeypatch):
    monkeypatch.delenv(evaluators.VARIABLE, raising=False)
    monkeypatch.setattr(evaluators, "self_test", evaluators.self_test.__wrapped__)
    left = ["int16", "float64"]
    for name, better in zip(("float32", "int16"), left, strict=True):
        wrong = dataclasses.replace(EVALUATORS[name], prepare=lambda layer: lambda x: ops.product(layer, x) + 1)
        monkeypatch.setitem(EVALUATORS, name, wrong)
        assert not evaluators.self_test(name)
        evaluators._choose.cache_clear()
        assert evaluators._choose("", False)[0] == better
    monkeypatch.setenv(evaluators.VARIABLE, "float32")
    with pytest.raises(EvaluatorError, match="wrong products"):
        evaluators.choose()
    monkeypatch.setattr(evaluators, "self_test", lambda name: False)
    evaluators._choose.cache_clear()
    assert evaluators._choose("", True)[0] == "int64"


@pytest.mark.usefixtures("fresh_choice")
@pytest.mark.parametrize("fastest", ["float32", "int16"])
def test_the_fastest_evaluator_is_used(fastest, monkeypatch):
    monkeypatch.delenv(evaluators.VARIABLE, raising=False)
    monkeypatch.setattr(evaluators, "measure", lambda name, **_: 2.0 if name == fastest else 1.0)
    assert evaluators._choose("", False)[0] == fastest


@pytest.mark.usefixtures("fresh_choice")
def test_int8_without_torch_is_refused(monkeypatch):
    monkeypatch.setattr(evaluators, "_available", lambda name: name != "int8")
    monkeypatch.setenv(evaluators.VARIABLE, "int8")
    with pytest.raises(EvaluatorError, match="torch"):
        evaluators.choose()


def test_speed_is_a_positive_number():
    assert evaluators.measure("float32", rows=16, width=8, seconds=0.001) > 0


# -- tables: mixtures of logistics ---------------------------------------------------------------------


@st.composite
def mixtures(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """weights, mean, inverse int64 [N, K]: plain, far outside, degenerate; all that a net may output."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(seeds))
    reach = draw(st.sampled_from([(0, 255 * 64), (-(2**15), 2**15), (-(2**24), 2**24)]))
    mean = random.integers(reach[0], reach[1] + 1, (n, k))
    index = random.integers(0, 321, (n, k)) if draw(st.booleans()) else random.choice([0, 320], (n, k))
    if draw(st.booleans()):
        weights = np.zeros((n, k), np.int64)
        weights[np.arange(n), random.integers(0, k, n)] = 2**WEIGHT_BITS
    else:
        weights = tables.normalise(random.integers(0, 2 ** draw(st.integers(1, 20)), (n, k)) + 1)
    return weights, mean, TABLES.inverse[index].astype(np.int64)


def check_rows(rows: np.ndarray) -> None:
    assert rows.dtype == np.int32
    assert rows.shape[1:] == (NIBBLES,)
    assert rows.min() >= 1
    assert (rows.sum(1, dtype=np.int64) == ROW_TOTAL).all()


@settings(max_examples=80, deadline=None)
@given(mixtures(), seeds)
def test_rows_are_sound_and_kernels_equal_tables(mixture, seed):
    weights, mean, inverse = mixture
    n = len(weights)
    random = np.random.default_rng(seed)
    rows = tables.high_rows(weights, mean, inverse, TABLES)
    check_rows(rows)
    out = np.empty((n, NIBBLES), np.int32)
    kernels.high_rows(weights, mean, inverse, TABLES.sigmoid, out)
    assert np.array_equal(out, rows)
    for high in (random.integers(0, 16, n).astype(np.int32), np.zeros(n, np.int32), np.full(n, 15, np.int32)):
        rows = tables.low_rows(high, weights, mean, inverse, TABLES)
        check_rows(rows)
        kernels.low_rows(high, weights, mean, inverse, TABLES.sigmoid, out)
        assert np.array_equal(out, rows)
    for sample in (random.integers(0, 256, n).astype(np.int32), np.zeros(n, np.int32), np.full(n, 255, np.int32)):
        after = tables.observe(sample, weights, mean, inverse, TABLES)
        assert (after.sum(1) == 2**WEIGHT_BITS).all()
        assert after.min() >= 0
        assert (after[weights == 0] == 0).all()
        got = weights.copy()
        kernels.observe(sample, got, mean, inverse, TABLES.sigmoid)
        assert np.array_equal(got, after)


@fast
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from([1, 64, 2000, 2**17]), seeds)
def test_softmax_kernel_equals_tables(n, k, reach, seed):
    logits = np.random.default_rng(seed).integers(-reach, reach + 1, (n, k + 3)).astype(np.int32)
    expected = tables.softmax(logits[:, :k], TABLES)
    got = np.empty((n, k), np.int64)
    kernels.softmax(logits, TABLES.softmax, got)  # looks at the first k columns only
    assert np.array_equal(got, expected)
    assert (expected.sum(1) == 2**WEIGHT_BITS).all()
    assert expected.min() >= 0
    below = logits[:, :k].astype(float) - logits[:, :k].max(1, keepdims=True)
    ideal_weights = np.exp(below / 64) / np.exp(below / 64).sum(1, keepdims=True)
    assert np.abs(expected / 2**WEIGHT_BITS - ideal_weights).max() < (k + 2) / 2**WEIGHT_BITS


@fast
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 37), seeds)
def test_normalise(n, k, bits, seed):
    weights = np.random.default_rng(seed).integers(0, 2**bits, (n, k))
    weights[:, -1] += 1  # some > 0, as promised
    scaled = tables.normalise(weights)
    assert (scaled.sum(1) == 2**WEIGHT_BITS).all()
    for before, after in zip(weights, scaled, strict=True):
        plain = [int(w) * 2**WEIGHT_BITS // int(before.sum()) for w in before]
        plain[int(before.argmax())] += 2**WEIGHT_BITS - sum(plain)
        assert after.tolist() == plain
        row = before.copy()
        kernels.normalise(row, row.sum())
        assert row.tolist() == plain


def test_tables_are_monotone_and_symmetric():
    assert (np.diff(TABLES.sigmoid) >= 0).all()
    assert (np.diff(TABLES.softmax) <= 0).all()
    assert (np.diff(TABLES.inverse) < 0).all()
    assert TABLES.softmax[0] == 2**16
    assert TABLES.sigmoid[0] == 1
    assert TABLES.sigmoid[-1] == ROW_TOTAL - 1
    assert np.array_equal(TABLES.sigmoid + TABLES.sigmoid[::-1], np.full_like(TABLES.sigmoid, ROW_TOTAL))
    assert all(table.dtype == np.int32 for table in (TABLES.sigmoid, TABLES.softmax, TABLES.inverse))
    assert [len(t) for t in (TABLES.softmax, TABLES.inverse, TABLES.sigmoid)] == [1024, 321, 2 * 17 * 512 + 1]


@fast
@given(mixtures())
def test_the_cumulative_mixture_never_overflows_or_falls(mixture):
    weights, mean, inverse = mixture
    before = np.zeros(len(weights), np.int64)
    for sample in (0, 1, 2, 16, 127, 128, 240, 255, 256):
        now = tables.cumulative(np.full(len(weights), sample), weights, mean, inverse, TABLES)
        assert (now >= before).all()
        before = now
        if not 0 < sample < 256:
            assert (now == (tables.TOP if sample else 0)).all()
            continue
        for n in range(len(weights)):  # in Python's unbounded integers
            total = 0
            for w, m, v in zip(weights[n].tolist(), mean[n].tolist(), inverse[n].tolist(), strict=True):
                u = max(-8704, min(8704, ((sample * 64 - 32 - m) * v) >> 16))
                total += w * int(TABLES.sigmoid[u + 8704])
            assert total == now[n]


def test_the_worst_output_of_a_net_does_not_overflow():
    # means add up to about 2**24, the steepest scale is 2**26: 2**50 at most
    worst = max(abs(int(i)) for i in TABLES.inverse) * (2**24 + 2**18)
    assert worst < 2**63
    assert tables.TOP * tables.SPREAD < 2**63


# -- freezing ------------------------------------------------------------------------------------------


@fast
@given(st.integers(1, 12), st.integers(1, 40), st.floats(-3, 3), seeds)
def test_a_frozen_layer_is_close_to_the_float_one(m, k, magnitude, seed):
    random = np.random.default_rng(seed)
    weight, bias = random.normal(0, 10.0**magnitude, (m, k)), random.normal(0, 10.0**magnitude, m)
    input_unit, output_unit = 0.01, 10.0**magnitude * 0.01
    layer = freeze_layer("layer", weight, bias, input_unit, output_unit, LIMIT)
    layer.check("layer")
    assert layer.weight.dtype == np.int8
    assert np.abs(layer.weight).max() == 127 or np.abs(layer.weight).sum(1).max() * LIMIT > 0.9 * FLOAT32_BOUND
    assert layer.product_bound < FLOAT32_BOUND
    ratio = layer.multiplier / 2.0**layer.shift  # output units per product
    back = layer.weight * (ratio * output_unit / input_unit)[:, None]
    step = np.abs(weight).max(1, keepdims=True) / np.abs(layer.weight).max(1, keepdims=True)
    assert (np.abs(back - weight) <= step * 0.52 + np.abs(weight) * 2.0**-14).all()
    x = random.integers(-LIMIT, LIMIT + 1, (20, k))
    y = (x * input_unit) @ weight.T + bias
    got = ops.rescale(ops.product(layer, x), layer) * output_unit
    bound = 0.52 * step[:, 0] * input_unit * np.abs(x).sum(1, keepdims=True) + np.abs(y) * 2.0**-13 + output_unit
    assert (np.abs(got - y) <= bound).all()


def test_zero_rows_keep_their_bias():
    bias = np.array([0.0, 3.0, -0.25, 1e-6])
    layer = freeze_layer("layer", np.zeros((4, 5)), bias, 0.01, 0.001, LIMIT)
    got = ops.rescale(np.zeros((1, 4), np.int64), layer)[0] * 0.001
    assert np.abs(got - bias).max() <= 0.0005001
    assert not layer.weight.any()
    tiny = freeze_layer("layer", np.full((1, 5), 1e-30), np.array([2.0]), 0.01, 0.001, LIMIT)
    assert abs(ops.rescale(np.zeros((1, 1), np.int64), tiny)[0, 0] * 0.001 - 2.0) <= 0.0005001


def test_wide_rows_get_a_coarser_scale():
    weight = np.ones((2, 400))
    weight[1, 1:] = 0
    layer = freeze_layer("layer", weight, np.zeros(2), 1.0, 100.0, LIMIT)
    assert layer.product_bound < FLOAT32_BOUND
    assert 0 < layer.weight[0, 0] < 127
    assert layer.weight[1, 0] == 127
    x = np.full((1, 400), LIMIT)
    exact = weight.sum(1) * LIMIT / 100
    assert np.allclose(ops.rescale(ops.product(layer, x), layer)[0], exact, rtol=0.02, atol=1)


def test_units_may_differ_by_row():
    units = np.array([0.5, 0.001])
    layer = freeze_layer("layer", np.eye(2), np.array([1.0, 2.0]), 0.1, units, LIMIT)
    got = ops.rescale(ops.product(layer, np.array([[10, 20]])), layer)[0] * units
    assert np.allclose(got, [2.0, 4.0], atol=0.26)
    assert abs(got[1] - 4.0) < 0.002


@pytest.mark.parametrize(
    ("weight", "bias", "units"),
    [
        (np.nan, 0.0, (1.0, 1.0)),
        (np.inf, 0.0, (1.0, 1.0)),
        (1.0, np.nan, (1.0, 1.0)),
        (1.0, -np.inf, (1.0, 1.0)),
        (1e9, 0.0, (1.0, 1e-3)),  # more than 2**14 output units per product
        (1.0, 1e30, (1.0, 1.0)),
    ],
)
def test_what_cannot_be_frozen_is_a_typed_error(weight, bias, units):
    with pytest.raises(FreezeError, match="layer"):
        freeze_layer("layer", np.full((2, 3), weight), np.full(2, bias), units[0], units[1], LIMIT)


def test_a_bound_that_cannot_be_proved_is_a_typed_error():
    # the coarser scale rounds 13,000 weights up to 1, which breaks 2**24, and 20,000 down to 0
    for count in (13_000, 20_000):
        with pytest.raises(FreezeError, match="bound"):
            freeze_layer("layer", np.ones((1, count)), np.zeros(1), 1.0, 1e6, LIMIT)


@fast
@given(st.floats(-9.0, 4.2))
def test_dyadic_numbers_are_close(exponent):
    ratio = np.array([10.0**exponent])
    multiplier, shift = dyadic(ratio)
    assert 1 <= multiplier[0] <= 2**15
    assert 1 <= shift[0] <= 46
    if 2.0**-31 < ratio[0] < 2.0**14:
        assert abs(multiplier[0] / 2.0 ** shift[0] / ratio[0] - 1) <= 2.0**-14


def test_activations_are_clamped_to_twelve_bits():
    layer = layer_of(np.zeros((1, 1), np.int8))
    acc = np.array([[10**9], [-(10**9)], [2 * LIMIT], [2 * LIMIT - 2], [-2 * LIMIT]])
    assert ops.output(acc, layer, LIMIT).ravel().tolist() == [LIMIT, -LIMIT, LIMIT, LIMIT - 1, -LIMIT]
    assert ops.hidden(acc, layer, LIMIT).ravel().tolist() == [LIMIT, -LIMIT, LIMIT, LIMIT - 1, -256]
    stream = np.full((5, 1), LIMIT)
    assert ops.residual(acc, layer, LIMIT, stream).ravel().tolist() == [LIMIT, -LIMIT, LIMIT, LIMIT, 0]


def test_who_waits_for_a_first_run_is_told_once(caplog, monkeypatch):
    def of_ours(x):
        return x + 1

    def of_others(x):
        return x + 1

    of_ours.__module__ = "gmcodec.toy"
    caplog.set_level("INFO", "gmcodec.compiling")
    monkeypatch.setattr(kernels.TOLD, "said", False)
    numba.njit(of_others)(1)
    assert not caplog.messages
    numba.njit(of_ours)(1)
    numba.njit(of_ours)(1.0)
    assert caplog.messages == ["compiling for this processor, once: about a minute"]
