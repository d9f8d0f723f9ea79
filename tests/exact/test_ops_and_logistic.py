# SPDX-License-Identifier: MIT
"""Integer arithmetic with one possible result: every instruction set equals the plain specification."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec import native
from gmcodec.errors import FreezeError, WeightsError
from gmcodec.exact import logistic, ops
from gmcodec.exact.logistic import NIBBLES, ROW_TOTAL, WEIGHT_BITS, make_tables
from gmcodec.exact.ops import INT32_BOUND, Layer
from gmcodec.exact.quantise import SUM_BOUND, dyadic, freeze_layer

pytestmark = pytest.mark.native
TABLES = make_tables()
CORES = [native.core(isa) for isa in native.isas()]
every_core = pytest.mark.parametrize("core", CORES, ids=native.isas())
# N, K, M
SHAPES = [(1, 1, 1), (1, 7, 3), (2, 1, 5), (3, 63, 17), (33, 160, 50), (17, 217, 1), (9, 5, 1024)]
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


# -- products ------------------------------------------------------------------------------------------


@every_core
@pytest.mark.parametrize("limit", [1, 128, LIMIT, 2**14])
@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
def test_products_equal_the_specification(n, k, m, limit, core):
    random = np.random.default_rng([n, k, m, limit])
    signs = random.choice([-127, 127], (m, k)).astype(np.int8)
    for weight in (signs, np.full((m, k), 127, np.int8), random.integers(-128, 128, (m, k)).astype(np.int8)):
        layer = layer_of(weight, limit)
        run = core.layer(layer).sums
        worst = limit * np.sign(weight[[0] * n].astype(int))  # adds up to the bound in row 0
        for x in (np.full((n, k), limit), np.full((n, k), -limit), worst, random.integers(-limit, limit + 1, (n, k))):
            exact = ops.product(layer, x)
            assert exact.dtype == np.int64
            assert np.abs(exact).max() <= layer.product_bound
            assert np.array_equal(run(x.astype(np.int16)), exact)


@every_core
def test_products_of_wide_weights_equal_the_specification(core):
    random = np.random.default_rng(3)
    layer = layer_of(random.integers(-4095, 4096, (5, 36)).astype(np.int16), 128)
    run = core.layer(layer).sums
    for x in (random.integers(-128, 129, (9, 36)), np.full((1, 36), 128)):
        assert np.array_equal(run(x.astype(np.int16)), ops.product(layer, x))


@every_core
def test_other_layouts_and_types_of_inputs_are_refused(core):
    random = np.random.default_rng(4)
    layer = layer_of(random.integers(-127, 128, (19, 42)).astype(np.int8))
    run = core.layer(layer).sums
    x = random.integers(-LIMIT, LIMIT + 1, (22, 84)).astype(np.int16)
    part = np.ascontiguousarray(x[::2, ::2])
    assert np.array_equal(run(part), ops.product(layer, part))
    for wrong in (x[::2, ::2], np.asfortranarray(part), part.astype(np.int32), part.astype(np.float32)):
        with pytest.raises(TypeError, match="expected contiguous int16"):
            run(wrong)
    with pytest.raises(ValueError, match="shape"):
        run(part[:, :-1].copy())
    turned = core.layer(layer_of(np.asfortranarray(layer.weight))).sums
    assert np.array_equal(turned(part), ops.product(layer, part))


@fast
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.sampled_from([1, 63, 128, LIMIT]), seeds)
@every_core
def test_random_products(core, n, k, m, limit, seed):
    random = np.random.default_rng(seed)
    layer = random_layer(random, m, k, limit)
    run = core.layer(layer).sums
    x = random.integers(-limit, limit + 1, (n, k))
    assert np.array_equal(run(x.astype(np.int16)), ops.product(layer, x))


@every_core
def test_products_are_exact_up_to_their_bound(core):
    top, random = 2**15 - 1, np.random.default_rng(5)
    for k, limit in ((2, top), (31, 2047), (32, 2047)):
        signs = random.choice([-top, top], (24, k)).astype(np.int16)
        layer = layer_of(signs, limit)
        assert 0.9 * INT32_BOUND < layer.product_bound < INT32_BOUND
        x = limit * np.sign(signs.astype(int))[:9]  # adds up to the bound
        assert np.array_equal(core.layer(layer).sums(x.astype(np.int16)), ops.product(layer, x))


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
@given(st.integers(1, 19), st.integers(1, 40), st.integers(1, 9), st.sampled_from([1, LIMIT, 2**14 - 1]), seeds)
@every_core
def test_what_follows_the_sums_equals_ops(core, n, m, k, limit, seed):
    random = np.random.default_rng(seed)
    layer = random_layer(random, m, k, extreme=bool(seed % 2))
    x = random.integers(-LIMIT, LIMIT + 1, (n, k)).astype(np.int16)
    acc, ready = ops.product(layer, x), core.layer(layer)
    before = random.integers(-limit, limit + 1, (n, m)).astype(np.int16)
    stream = before.copy()
    ready.run(native.RESIDUAL, x, limit, stream)
    for found, expected in (
        (ready.run(native.HIDDEN, x, limit), ops.hidden(acc, layer, limit)),
        (ready.run(native.OUTPUT, x, limit), ops.output(acc, layer, limit)),
        (ready.run(native.OUTPUT_WIDE, x, 2**17), ops.output(acc, layer, 2**17)),
        (stream, ops.residual(acc, layer, limit, before)),
    ):
        assert np.array_equal(found, expected)


@every_core
def test_results_have_a_place_or_are_refused(core):
    ready, x = core.layer(layer_of(np.zeros((4, 3), np.int8))), np.zeros((2, 3), np.int16)
    fixed = np.zeros((2, 4), np.int16)
    fixed.flags.writeable = False
    for kind, limit, out, table in (
        (native.RESIDUAL, LIMIT, None, None),
        (native.GATE, LIMIT, None, None),
        (native.GATE, LIMIT, np.zeros((2, 2), np.int16), None),
        (native.HIDDEN, 2**15, None, None),
        (native.HIDDEN, 0, None, None),
        (native.HIDDEN, LIMIT, fixed, None),
        (native.HIDDEN, LIMIT, np.zeros((2, 5), np.int16), None),
        (native.HIDDEN, LIMIT, np.zeros((3, 4), np.int16), None),
        (native.HIDDEN, LIMIT, None, np.zeros(4095, np.int32)),
    ):
        with pytest.raises(ValueError, match=r"limit|add to|shape|written"):
            ready.run(kind, x, limit, out, table)
    with pytest.raises(TypeError, match="int16"):
        ready.run(native.HIDDEN, x, LIMIT, np.zeros((2, 4), np.int32))


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
        weights = logistic.normalise(random.integers(0, 2 ** draw(st.integers(1, 20)), (n, k)) + 1)
    return weights, mean, TABLES.inverse[index].astype(np.int64)


def check_rows(rows: np.ndarray) -> None:
    assert rows.dtype == np.int32
    assert rows.shape[1:] == (NIBBLES,)
    assert rows.min() >= 1
    assert (rows.sum(1, dtype=np.int64) == ROW_TOTAL).all()


@settings(max_examples=80, deadline=None)
@given(mixtures(), seeds)
def test_rows_are_sound_and_equal_tables(mixture, seed):
    weights, mean, inverse = mixture
    n = len(weights)
    random = np.random.default_rng(seed)
    rows = logistic.high_rows(weights, mean, inverse, TABLES)
    check_rows(rows)
    for core in CORES:
        assert np.array_equal(core.rows(weights, mean, inverse, TABLES.sigmoid), rows)
    for high in (random.integers(0, 16, n).astype(np.int32), np.zeros(n, np.int32), np.full(n, 15, np.int32)):
        rows = logistic.low_rows(high, weights, mean, inverse, TABLES)
        check_rows(rows)
        for core in CORES:
            assert np.array_equal(core.rows(weights, mean, inverse, TABLES.sigmoid, high), rows)
    for sample in (random.integers(0, 256, n).astype(np.int32), np.zeros(n, np.int32), np.full(n, 255, np.int32)):
        after = logistic.observe(sample, weights, mean, inverse, TABLES)
        assert (after.sum(1) == 2**WEIGHT_BITS).all()
        assert after.min() >= 0
        assert (after[weights == 0] == 0).all()
        for core in CORES:
            got = weights.copy()
            core.observed(sample, got, mean, inverse, TABLES.sigmoid)
            assert np.array_equal(got, after)


@fast
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from([1, 64, 2000, 2**17]), seeds)
def test_priors_equal_tables(n, k, reach, seed):
    logits = np.random.default_rng(seed).integers(-reach, reach + 1, (n, k + 3)).astype(np.int32)
    expected = logistic.softmax(logits[:, :k], TABLES)
    for core in CORES:  # they look at the first k columns only
        assert np.array_equal(core.priors(logits, k, TABLES.softmax), expected)
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
    scaled = logistic.normalise(weights)
    assert (scaled.sum(1) == 2**WEIGHT_BITS).all()
    for before, after in zip(weights, scaled, strict=True):
        plain = [int(w) * 2**WEIGHT_BITS // int(before.sum()) for w in before]
        plain[int(before.argmax())] += 2**WEIGHT_BITS - sum(plain)
        assert after.tolist() == plain


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
        now = logistic.cumulative(np.full(len(weights), sample), weights, mean, inverse, TABLES)
        assert (now >= before).all()
        before = now
        if not 0 < sample < 256:
            assert (now == (logistic.TOP if sample else 0)).all()
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
    assert logistic.TOP * logistic.SPREAD < 2**63


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
    assert np.abs(layer.weight).max() == 127 or np.abs(layer.weight).sum(1).max() * LIMIT > 0.9 * SUM_BOUND
    assert layer.product_bound < SUM_BOUND
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
    assert layer.product_bound < SUM_BOUND
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
