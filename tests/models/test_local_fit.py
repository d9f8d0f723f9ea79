# SPDX-License-Identifier: MIT
"""Fitting the local model to an image: gradients, bytes, integers on both sides, and what it gains."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import model as toy_model
from toy import smooth

from gmcodec import native
from gmcodec.coding import autoregressive, value_weights
from gmcodec.coding.tiles import squares
from gmcodec.errors import GmcFormatError
from gmcodec.models.local import fit as local_fit
from gmcodec.models.local import fit_spec
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.mixture import output_units

fast = settings(max_examples=25, deadline=None)


def changes_of(channels: int, seed: int = 0, largest: int = 9) -> np.ndarray:
    model = toy_model(channels)
    count = model.config.outputs + model.layers["linear"].weight.size
    return np.random.default_rng(seed).integers(-largest, largest + 1, count)


def ignore(count: int) -> None:
    pass


def arrays_of(model: LocalModel, n: int) -> list[np.ndarray]:
    """outputs, base, target, features of random pixels: some at the ends of the grey levels and of the log-scales."""
    random, c = np.random.default_rng([model.channels, n]), model.config
    k, channels = c.mixtures, c.channels
    groups = [k, k * channels, k * channels, k * c.couplings]
    outputs = random.normal(0, 1, (n, c.outputs)) * np.repeat([20, 100, 60, 800], groups) + np.repeat(
        [0, 0, 40, 0], groups
    )
    target = random.integers(90, 111, (channels, n)).astype(np.uint8)
    base = target.T * 64 + random.integers(-300, 300, (n, channels))
    target[0, 0], target[0, -1] = 0, 255
    features = random.normal(0, 5, (n, c.inputs))
    return [outputs.astype(np.int32), base.astype(np.int32), target, features.astype(np.int16)]


def fits(model: LocalModel, n: int) -> tuple[native.Fit, fit_spec.Mixture]:
    """The same pixels for the native core and for its specification."""
    c = model.config
    outputs, base, target, features = arrays_of(model, n)
    near = c.window.near_columns(c.neighbours).astype(np.int32)
    fit = native.Fit(model.core, c.mixtures, outputs, output_units(c), base, target, features, near)
    return fit, fit_spec.Mixture(c, outputs, base, features[:, near].T, target)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_is_that_of_the_likelihood(channels: int) -> None:
    mixture, k = fits(toy_model(channels), 30)[1], toy_model(channels).config.mixtures
    log_scales = mixture.outputs[k * (1 + channels) : k * (1 + 2 * channels)]
    log_scales[:] = log_scales.clip(-3.8, 5.8)  # beyond, changes do nothing
    theta = np.random.default_rng(channels).normal(0, 0.01, mixture.parameters)
    gradient = mixture.likelihood(theta)[1].sum(1)
    for i in range(len(theta)):
        step = 1e-4 * np.eye(len(theta))[i]
        slope = (mixture.likelihood(theta + step)[0] - mixture.likelihood(theta - step)[0]) / (2 * step[i])
        assert slope == pytest.approx(gradient[i], abs=1e-4 * float(np.abs(gradient).max()))


@pytest.mark.native
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n", [1, 7, 8, 70])
def test_the_native_likelihood_is_that_of_its_specification(channels: int, n: int) -> None:
    fit, mixture = fits(toy_model(channels), n)
    for theta in (np.zeros(fit.parameters), np.random.default_rng(n).normal(0, 0.1, fit.parameters)):
        value, gradient, fisher = fit.likelihood(theta)
        expected, slopes = mixture.likelihood(theta)
        assert value == pytest.approx(expected, rel=1e-10)
        for found, sums in ((gradient, slopes.sum(1)), (fisher, slopes @ slopes.T)):
            assert np.abs(found - sums).max() <= 1e-9 * np.abs(sums).max()


@pytest.mark.native
@pytest.mark.parametrize("channels", [1, 3])
def test_the_native_search_is_that_of_its_specification(channels: int) -> None:
    model = toy_model(channels)
    fit, mixture = fits(model, 1000)
    sizes = local_fit.step_sizes(model.config)
    changes, gain = fit.changes(sizes)
    expected, gained = fit_spec.search(mixture, sizes)
    assert gain == pytest.approx(gained, rel=1e-4)
    assert gain > 100
    assert np.abs(changes - expected).max() <= 1  # where rounding decides


@pytest.mark.native
@pytest.mark.parametrize("channels", [1, 3])
def test_every_instruction_set_finds_the_same(channels: int) -> None:
    image = smooth(np.random.default_rng(6), (channels, 264, 264), noise=1.5)
    sample = squares(image, 24, 32)
    found = set()
    for isa in native.isas():
        model = toy_model(channels, isa)
        fit = local_fit.prepare(model.config, model.net, sample, local_fit.inner_pixels(model.config, sample))
        changes, gain = fit.changes(local_fit.step_sizes(model.config))
        numbers = fit.likelihood(changes * local_fit.step_sizes(model.config))
        found.add((changes.tobytes(), gain, numbers[0], *(array.tobytes() for array in numbers[1:])))
    assert len(found) == 1


@pytest.mark.native
def test_a_fit_makes_these_bytes() -> None:
    # on every machine
    image = smooth(np.random.default_rng(6), (3, 264, 264), noise=1.5)
    changes = toy_model(3).fit(squares(image, 24, 32), image[0].size)
    assert hashlib.sha256(changes).hexdigest() == "d518b7632220799303dd6db13390d7e541dfebf992763414a7bd69b468e6815a"


@pytest.mark.native
def test_hopeless_pixels_do_no_harm() -> None:
    # outputs and features as large as they may be: steps go wrong, and are not taken
    model = toy_model(3)
    c, (outputs, base, target, features) = model.config, arrays_of(model, 40)
    outputs[:] = np.where(outputs > 0, 2**24, -(2**24))
    features[:] = np.where(features > 0, 32767, -32768)
    base[:] = 2**24
    near = c.window.near_columns(c.neighbours).astype(np.int32)
    found = set()
    for core in map(native.core, native.isas()):
        fit = native.Fit(core, c.mixtures, outputs, output_units(c), base, target, features, near)
        changes, gain = fit.changes(local_fit.step_sizes(c))
        assert np.isfinite(gain)
        found.add((changes.tobytes(), gain))
    assert len(found) == 1


def test_what_does_not_fit_together_is_refused() -> None:
    model = toy_model(3)
    c, good = model.config, dict(zip(("outputs", "base", "target", "features"), arrays_of(model, 9), strict=True))
    good |= {"mixtures": c.mixtures, "units": output_units(c), "near": np.arange(5, dtype=np.int32)}
    fit = native.Fit(native.core(), **good)
    for wrong in (
        {"mixtures": c.mixtures + 1},
        {"mixtures": 0},
        {"outputs": good["outputs"][:8]},
        {"outputs": good["outputs"][:0], "base": good["base"][:0]},
        {"outputs": good["outputs"] + (1 << 25)},
        {"units": good["units"] * 3},
        {"base": good["base"].astype(np.int64)},
        {"target": good["target"].T},
        {"features": good["features"][:, ::2]},
        {"near": good["near"] + c.inputs},
        {"near": good["near"][:0]},
    ):
        with pytest.raises((TypeError, ValueError)):
            native.Fit(native.core(), **{**good, **wrong})
    for numbers in (np.zeros(fit.parameters), np.full(fit.parameters, np.nan), np.ones(3)):
        with pytest.raises(ValueError, match=r"quanta|shape"):
            fit.changes(numbers)
    for numbers in (np.full(fit.parameters, np.nan), np.full(fit.parameters, 2.0**21), np.ones(3)):
        with pytest.raises(ValueError, match=r"large|shape"):
            fit.likelihood(numbers)


@fast
@given(st.lists(st.integers(-local_fit.MAX_CHANGE, local_fit.MAX_CHANGE), max_size=40))
def test_changes_round_trip(changes: list[int]) -> None:
    data = local_fit.pack(np.array(changes, np.int64))
    assert local_fit.unpack(data, len(changes)).tolist() == changes


def test_changes_make_these_bytes() -> None:
    assert local_fit.pack(np.array([0, -1, 1, 63, -64, 64, 1000])).hex() == "0001027e7f8001d00f"


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 3, b"\0" * 200, b"\x80", b"\xff" * 9, b"\0\0\x80", b"\xff\xff\xff\xff\x7f"]
)
def test_damaged_changes_are_refused(data: bytes) -> None:
    with pytest.raises(GmcFormatError):
        local_fit.unpack(data, 4)
    with pytest.raises(GmcFormatError):
        toy_model(3).adapted(data or b"\0")


def test_changes_beyond_the_integers_are_refused() -> None:
    changes = changes_of(3)
    for where in (0, -1):
        extreme = changes.copy()
        extreme[where] = local_fit.MAX_CHANGE
        with pytest.raises(GmcFormatError):
            toy_model(3).adapted(local_fit.pack(extreme))


@pytest.mark.parametrize("name", ["last", "linear"])
def test_changes_that_would_wrap_around_are_refused(name: str) -> None:
    # the coarsest layers that the weights may have: 2**20 units of them are beyond int64
    model = toy_model(3)
    layer = model.layers[name]
    coarse = replace(layer, shift=np.full_like(layer.shift, 46), multiplier=np.ones_like(layer.multiplier))
    model = LocalModel(FrozenLocal(model.config, {**model.layers, name: coarse}, model.tables), model.core)
    changes = 0 * changes_of(3)
    changes[-1 if name == "linear" else model.config.outputs - 1] = local_fit.MAX_CHANGE
    with pytest.raises(GmcFormatError, match="too large"):
        model.adapted(local_fit.pack(changes))


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_move_outputs_by_their_units(channels: int) -> None:
    model = toy_model(channels)
    c = model.config
    image = smooth(np.random.default_rng(3), (channels, 12, 14))
    canvas = model.canvas(12, 14)
    canvas.fill(image[None])
    changes = changes_of(channels)
    changes[c.outputs :] = 0
    before, base = model.evaluate(canvas, np.arange(12 * 14))
    after, same = model.adapted(local_fit.pack(changes)).evaluate(canvas, np.arange(12 * 14))
    # a bias has its own unit, finer than that of the output: one more or less by rounding
    assert np.abs(after - before - changes[: c.outputs] * local_fit.quanta(c)).max() <= 1
    assert np.array_equal(base, same)


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("channels", [1, 3])
def test_the_changed_model_equals_its_specification(channels: int, isa: str) -> None:
    model = toy_model(channels, isa).adapted(local_fit.pack(changes_of(channels)))
    image = smooth(np.random.default_rng(4), (channels, 9, 11))
    canvas = model.canvas(9, 11)
    canvas.fill(image[None])
    prediction = model.predict(canvas, np.arange(99))
    rows = []
    for sample in image.reshape(channels, -1).astype(np.int32):
        rows += [prediction.high(), prediction.low(sample >> 4)]
        prediction.observe(sample)
    assert np.array_equal(np.stack(rows), local_spec.rows(model.config, model.layers, model.tables, image))


@pytest.mark.parametrize("channels", [1, 3])
def test_fitting_pays_and_comes_back(channels: int) -> None:
    model = toy_model(channels)
    random = np.random.default_rng(6)
    image = smooth(random, (channels, 264, 264), noise=1.5)
    changes = model.fit(squares(image, 64, 32), image[0].size)
    assert changes
    plain = autoregressive.push_words(image[None], model, ignore)[1].sum()
    fitted = autoregressive.push_words(image[None], model.adapted(changes), ignore)[1].sum()
    assert fitted + 8 * len(changes) < 0.98 * plain
    coded = autoregressive.encode(image, model)
    assert coded.estimated_bits == pytest.approx(8 * len(coded.data), rel=1e-3)
    assert 8 * len(coded.data) < 0.98 * plain
    assert np.array_equal(autoregressive.decode(coded.data, image.shape, model), image)
    again = autoregressive.encode(image, toy_model(channels, "portable"), threads=2)
    assert again.data == coded.data


def test_a_fitted_image_with_weights_makes_these_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, levels = toy_model(3), np.full((3, 256), value_weights.NEUTRAL_INDEX, np.uint8)
    levels[1:, 3::4] = 2
    image = smooth(np.random.default_rng(8), (3, 20, 30))
    monkeypatch.setattr(autoregressive, "ADAPT_FROM_PIXELS", 0)
    monkeypatch.setattr(autoregressive, "choose_weight_indices", lambda planes, model: levels)
    monkeypatch.setattr(type(model), "fit", lambda self, sample, pixels: local_fit.pack(changes_of(3)))
    payload = autoregressive.encode(image, model, tile=(10, 30)).data
    assert hashlib.sha256(payload).hexdigest() == "a340046d906dd6c96156473509b3107fb7320a2e8fd4d0cdb89f751527292c09"
    assert np.array_equal(autoregressive.decode(payload, image.shape, toy_model(3)), image)


def test_nothing_to_gain_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoregressive, "ADAPT_FROM_PIXELS", 1)
    model = toy_model(3)
    flat = np.full((3, 100, 100), 40, np.uint8)
    narrow = smooth(np.random.default_rng(1), (3, 1500, 4))  # no pixel has its whole window
    assert model.fit(squares(narrow, 64, 32), 80000) == b""
    for image in (flat, narrow):
        coded = autoregressive.encode(image, model)
        assert np.array_equal(autoregressive.decode(coded.data, image.shape, model), image)
