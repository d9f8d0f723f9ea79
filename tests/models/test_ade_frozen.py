# SPDX-License-Identifier: MIT
"""The frozen flow: its nets equal the specification, with every instruction set; its weights survive a file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import toy
from test_agave_frozen import images
from test_pixelcnnpp_frozen import config_changed

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.models import weights
from gmcodec.models.ade import flow_state
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.ade.spec import Spec
from gmcodec.models.ade.tables import Gaussians, frequencies
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.family import Base


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", ["checker", "colours"])
def test_couplings_equal_the_specification(kind: str, isa: str) -> None:
    model, batch = toy.ade(toy.FLOWS[kind], isa), images()
    c, random = model.config, np.random.default_rng(0)
    spec = Spec(c, model.layers, model.tables.elu)
    state = model.flow_state(batch.shape)
    noise = random.integers(0, 256, batch.size)
    state.from_pixels(batch, noise)
    samples = [flow_state.pixels(x[None])[0] for x in state._x]
    before, level = state.changed(0), 0
    for n, (at, coupling) in enumerate(c.couplings):
        if at > level:
            samples, level = [x[::2, ::2] for x in samples], at
        affine = state.affine(n)
        for i, x in enumerate(samples):
            mean, log_scale = spec.affine(n, x)
            assert np.array_equal(affine.mean.reshape(len(batch), -1)[i], mean.ravel())
            expected = np.rint(np.exp(log_scale / 32) * 1024)
            assert np.array_equal(affine.scale.reshape(len(batch), -1)[i], expected.ravel())
        # something moves, so that the next one sees it
        moved = state.changed(n) + random.integers(-300, 300, len(affine.mean))
        state.change(n, moved)
        assert np.array_equal(state.changed(n), moved)
        cells = state._x if at == 0 else flow_state.cells(state._x[..., :3])
        samples = [flow_state.pixels(x[None])[0] for x in cells]
        assert coupling
    assert not np.array_equal(state.changed(0), before)


@pytest.mark.parametrize("isa", native.isas())
def test_noise_equals_the_specification(isa: str) -> None:
    model, batch = toy.ade(toy.FLOWS["colours"], isa), images()
    rows = model.flow_state(batch.shape).noise(batch)
    assert rows is not None
    spec = Spec(model.config, model.layers, model.tables.elu)
    for i, planes in enumerate(batch):
        mean, log_scale = spec.noise(planes)
        assert np.array_equal(rows.gaussians.mean.reshape(len(batch), -1)[i], np.clip(mean, -(2**21), 2**21).ravel())
        index = np.clip(log_scale + 6 * 32, 0, 256)
        assert np.array_equal(rows.gaussians.log_scale.reshape(len(batch), -1)[i], index.ravel())


def test_images_leave_as_they_entered() -> None:
    model, batch = toy.ade(toy.FLOWS["colours"]), images()
    noise = np.random.default_rng(0).integers(0, 256, batch.size).astype(np.int32)
    state = model.flow_state(batch.shape)
    state.from_pixels(batch, noise)
    again = model.flow_state(batch.shape)
    again.set_features(state.features())
    grey, found = again.to_pixels()
    assert np.array_equal(grey, batch)
    assert np.array_equal(found, noise)


def test_kinds_are_features_of_the_coarsest_cell() -> None:
    model = toy.ade(toy.FLOWS["colours"])
    state = model.flow_state((2, 3, 16, 8))
    kinds = state.kinds().reshape(2, 8, 4, 12)
    assert sorted(set(kinds.ravel().tolist())) == list(range(48))
    assert np.array_equal(kinds[:, ::2], kinds[:, :2:2].repeat(4, 1))
    assert (kinds[0, 1, 0] - kinds[0, 0, 0] == 2).all()
    assert (kinds[0, 0, 1] - kinds[0, 0, 0] == 1).all()


def test_only_whole_cells_pass() -> None:
    model = toy.ade(toy.FLOWS["colours"])
    assert model.supports(16, 8)
    assert not model.supports(16, 6)
    with pytest.raises(ValueError, match="cells of 4x4"):
        model.flow_state((1, 3, 16, 6))


def test_couplings_are_named_by_what_they_change() -> None:
    c = toy.FLOWS["colours"]
    assert c.changed("bc:b") == [5, 8]
    assert c.changed("d:rg") == [9, 10]
    assert c.kept("bcd:rgb") == [0, 1, 2]
    for wrong in ("bc", "e:r", "a:y", ":r", "abcd:rgb"):
        with pytest.raises(ValueError, match=r"does not name|must change some"):
            dataclasses.replace(c, scales=((wrong,),))


def test_frequencies_are_positive_and_sum_to_the_total() -> None:
    masses = np.random.default_rng(0).exponential(size=(50, 16)) ** 9
    rows = frequencies(np.concatenate([masses, np.zeros((1, 16)), np.eye(16)[:1]]))
    assert rows.min() >= 1
    assert (rows.sum(1) == 1 << 24).all()
    assert rows[50].max() - rows[50].min() <= 16
    shares, deviations = np.array([[0.2] * 3, [0.8] * 3]), np.array([[0.1, 100.0, 1e6], [1.0, 200.0, 1e5]])
    assert Gaussians(shares, deviations).masses().sum(1) == pytest.approx(1)


# -- on disk -------------------------------------------------------------------------------------------


def named(model: AdeModel) -> Base:
    assert isinstance(model.base.model, LocalModel)
    return Base("local-rgb", weights.weights_id(weights.to_bytes(model.base.model)), model.base.model)


def stored(config: AdeConfig) -> tuple[AdeModel, bytes]:
    model = toy.ade(config, base=named(toy.ade(config)))
    return model, weights.to_bytes(model)


def find(name: str) -> tuple[bytes, weights.Model]:
    base = toy.model(3)
    assert name == "local-rgb"
    return weights.weights_id(weights.to_bytes(base)), base


@pytest.mark.parametrize("kind", toy.FLOWS)
def test_weights_round_trip(kind: str) -> None:
    model, data = stored(toy.FLOWS[kind])
    again = weights.from_bytes(data, find)
    assert isinstance(again, AdeModel)
    assert again.config == model.config
    assert weights.to_bytes(again) == data


def test_another_base_is_refused() -> None:
    _, data = stored(toy.FLOWS["colours"])
    with pytest.raises(WeightsError, match="need those of local-rgb"):
        weights.from_bytes(data)
    with pytest.raises(WeightsError, match="not 00000000"):
        weights.from_bytes(data, lambda name: (bytes(4), toy.model(3)))
    with pytest.raises(WeightsError, match="does not code 3 channels"):
        weights.from_bytes(data, lambda name: (find(name)[0], toy.model(1)))


@pytest.mark.parametrize(
    "changes",
    [{"window": 4}, {"kernels": [3]}, {"blocks": 3}, {"filters": 0}, {"noise": 0}, {"scales": [["bc:b", "x:r"]]},
     {"nonlinearity": "concat_elu"}, {"channels": 2}, {"filters": 10**6}],
)  # fmt: skip
def test_unsound_architectures_are_refused(changes: dict) -> None:
    model, _ = stored(toy.FLOWS["colours"])
    with pytest.raises(WeightsError):
        weights.from_bytes(config_changed(model, **changes), find)


@pytest.mark.parametrize(
    ("field", "at", "value"),
    [("scale", 0, 0), ("shift", 3, 21), ("high", (0, 0), 0), ("low", (1, 2, 3), 9), ("elu", 1, 999)],
)
def test_unsound_tables_are_refused(field: str, at: int, value: int) -> None:
    model, _ = stored(toy.FLOWS["colours"])
    table = getattr(model.tables, field).copy()
    table[at] = value
    model.tables = dataclasses.replace(model.tables, **{field: table})
    with pytest.raises(WeightsError, match=r"table|multiplies by 0"):
        weights.from_bytes(weights.to_bytes(model), find)
