# SPDX-License-Identifier: MIT
"""The frozen AGAVE: its latents equal the specification, with every instruction set; its weights survive a file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import toy
from test_pixelcnnpp_frozen import config_changed

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.models import weights
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.latent_state import AgaveState
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.agave.spec import AgaveSpec
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp import spec as pixelcnnpp_spec
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.shared.family import Base


def images(count: int = 3, size: tuple[int, int] = (8, 16)) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.stack([toy.smooth(random, (3, *size)) for _ in range(count)])


def bins(model: AgaveModel, batch: np.ndarray) -> list[np.ndarray]:
    """Random latents of every group, [B, H', W', L]."""
    random, (_, _, height, width) = np.random.default_rng(1), batch.shape
    shapes = [model.config.latent_shape(level, height, width) for level, _ in model.config.stages]
    return [random.integers(0, 256, (len(batch), h, w, c)) for c, h, w in shapes]


def state_of(
    model: AgaveModel, batch: np.ndarray, drawn: list[np.ndarray], known: bool = True
) -> tuple[AgaveState, list]:
    """The latent state with these latents, and its posteriors' means and table indices, [B, H', W', L] each group."""
    state, found = model.latent_state(batch.shape, batch if known else None), []
    assert [group.size for group in drawn] == _grouped(state.sizes(), drawn)
    for group in drawn:
        flow = model.config.posterior == "iaf"
        parts = np.moveaxis(group, 3, 0) if flow else [group]
        seen = []
        for part in parts:
            if known:
                g = state.posterior().gaussians
                seen.append((g.mean.reshape(part.shape), g.log_scale.reshape(part.shape)))
            state.observe(part.ravel().astype(np.int32))
        if known:
            found.append(tuple(np.stack(x, 3) if flow else x[0] for x in zip(*seen, strict=True)))
    return state, found


def _grouped(sizes: list[int], drawn: list[np.ndarray]) -> list[int]:
    parts = len(sizes) // len(drawn)
    return [sum(sizes[i : i + parts]) for i in range(0, len(sizes), parts)]


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", toy.AGAVE)
def test_the_latent_state_equals_the_specification(kind: str, isa: str) -> None:
    model, batch = toy.agave(toy.AGAVE[kind], isa), images()
    spec = AgaveSpec(model.config, model.layers, model.constants, model.latent_tables)
    drawn = bins(model, batch)
    state, found = state_of(model, batch, drawn)
    blind, _ = state_of(model, batch, drawn, known=False)  # the decoder's way: f(z) does not need the images
    means = state.means()
    assert np.array_equal(blind.means(), means)
    conditions = state.conditions() if model.decoder else []
    for i, image in enumerate(batch):
        groups, expected = spec.down([group[i] for group in drawn], image)
        assert np.array_equal(means[i], expected)
        for group, (mean, index) in zip(groups, found, strict=True):
            assert np.array_equal(mean[i], np.clip(group.mean, -(2**21), 2**21))
            assert np.array_equal(index[i], spec.index(group.log_scale))
        wanted = spec.conditions(expected) if model.decoder else []
        for features, given in zip(wanted, conditions, strict=True):
            assert np.array_equal(given[i], features)
    assert len(np.unique(means)) > 20
    assert all(len(np.unique(index)) > 5 for _, index in found)


@pytest.mark.parametrize("kind", ["two", "flow"])
def test_the_decoder_reads_its_condition_as_the_specification_says(kind: str) -> None:
    model, batch = toy.agave(toy.AGAVE[kind]), images()
    state, _ = state_of(model, batch, bins(model, batch))
    decoder, conditions = state.decoder(), state.conditions()
    assert isinstance(decoder, PixelCNNModel)
    for given in (decoder, model.plain):
        canvas = given.canvas(8, 16, 3)
        canvas.fill(batch)
        outputs, _ = canvas.evaluate(np.arange(3 * 128))
        for i, image in enumerate(batch):
            places = zip(decoder.config.positions, conditions, strict=True)
            known = {p: x[i].astype(np.int64) for p, x in places} if given is decoder else None
            spec = pixelcnnpp_spec.Spec(decoder.config, decoder.layers, decoder.net_tables, known)
            assert np.array_equal(outputs[128 * i : 128 * (i + 1)], spec.outputs(image))
            canvas_alone = given.canvas(8, 16, 1)
            assert canvas_alone.planes().shape == (1, 3, 8, 16)


def test_a_local_decoder_reads_its_condition_as_the_specification_says() -> None:
    model, batch = toy.agave(toy.AGAVE["local"]), images()
    state, _ = state_of(model, batch, bins(model, batch))
    decoder, conditions = state.decoder(), state.conditions()[0]
    assert isinstance(decoder, LocalModel)
    pixels, different = np.arange(3 * 128), False
    for given in (decoder, model.plain):
        canvas = given.canvas(8, 16, 3)
        canvas.fill(batch)
        prediction = given.predict(canvas, pixels)
        high = prediction.high()
        for i, image in enumerate(batch):
            known = conditions[i].reshape(128, -1).astype(np.int64) if given is decoder else None
            expected = local_spec.rows(decoder.config, decoder.layers, decoder.tables, image, known)
            assert np.array_equal(high[128 * i : 128 * (i + 1)], expected[0])
            plain = local_spec.rows(decoder.config, decoder.layers, decoder.tables, image)
            different = different or not np.array_equal(expected[0], plain[0])
    assert different


def test_images_do_not_influence_one_another() -> None:
    model, batch = toy.agave(toy.AGAVE["flow"]), images()
    drawn = bins(model, batch)
    means = state_of(model, batch, drawn)[0].means()
    for i in range(3):
        alone, _ = state_of(model, batch[i : i + 1], [group[i : i + 1] for group in drawn])
        assert np.array_equal(alone.means()[0], means[i])


def test_only_whole_cells_can_have_latents() -> None:
    model = toy.agave(toy.AGAVE["two"])
    assert model.config.cell == 4
    assert model.supports(4, 8)
    assert not model.supports(4, 6)
    with pytest.raises(ValueError, match="6x4"):
        model.latent_state((1, 3, 4, 6), None)
    with pytest.raises(ValueError, match="need the images"):
        model.latent_state((1, 3, 4, 4), None).posterior()


# -- weights on disk -----------------------------------------------------------------------------------------


def with_base(seed: int = 0) -> tuple[AgaveModel, Base]:
    base_model = toy.pixelcnn(toy.PIXELCNN["pointwise"], seed=seed)
    base = Base("pixelcnnpp", weights.weights_id(weights.to_bytes(base_model)), base_model)
    return toy.agave(toy.AGAVE["flow"], base=base), base


@pytest.mark.parametrize("kind", [*toy.AGAVE, "base"])
def test_weights_round_trip(kind: str) -> None:
    model, base = with_base() if kind == "base" else (toy.agave(toy.AGAVE[kind]), None)
    data = weights.to_bytes(model)

    def find(name: str) -> tuple[bytes, weights.Model]:
        assert base is not None
        assert name == base.name
        return base.weights_id, base.model

    again = weights.from_bytes(data, find)
    assert isinstance(again, AgaveModel)
    assert weights.to_bytes(again) == data
    assert again.config == model.config
    batch = images()
    drawn = bins(model, batch)
    results = []
    for one in (model, again):
        given = state_of(one, batch, drawn)[0].decoder()
        canvas = given.canvas(8, 16, 3)
        canvas.fill(batch)
        results.append(given.predict(canvas, np.arange(384)).high())
    assert np.array_equal(*results)


def test_shared_layers_are_not_stored_and_another_base_is_refused() -> None:
    model, base = with_base()
    data = weights.to_bytes(model)
    other = dataclasses.replace(model.config.decoder, condition=0)
    assert other == base.model.config
    assert len(data) < len(weights.to_bytes(toy.agave(toy.AGAVE["flow"])))
    with pytest.raises(WeightsError, match="need those of pixelcnnpp"):
        weights.from_bytes(data)
    with pytest.raises(WeightsError, match=r"need .* of pixelcnnpp, not 00000000"):
        weights.from_bytes(data, lambda name: (bytes(4), base.model))


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 1}, {"filters": [4]}, {"filters": [4, 6.0]}, {"groups": [1, 3]}, {"latents": 0}, {"stride": 3},
        {"posterior": "flow"}, {"posterior": "iaf"}, {"nonlinearity": "concat_elu"}, {"auxiliary": 4}, {"levels": 100},
        {"levels": 10**9}, {"grey": 3}, {"decoder": None}, {"decoder": {}}, {"surprise": 1},
    ],
    ids=str,
)  # fmt: skip
def test_unsound_architectures_are_refused(changes: dict) -> None:
    with pytest.raises(WeightsError):
        weights.from_bytes(config_changed(toy.agave(toy.AGAVE["two"]), **changes))


@pytest.mark.parametrize(
    ("part", "field", "at", "value"),
    [
        ("constants", "top", 0, 2**14), ("constants", "elu", 7, -1), ("constants", "log_scale", 0, 10**6),
        ("latent_tables", "edges", 3, 10**6), ("latent_tables", "edges", 3, 300000),
        ("latent_tables", "normal", 9, 2**25), ("latent_tables", "normal", 1500, 0),
        ("latent_tables", "inverse", 0, 2**26), ("latent_tables", "scale", 0, -1),
    ],
)  # fmt: skip
def test_unsound_tables_are_refused(part: str, field: str, at: int, value: int) -> None:
    model = toy.agave(toy.AGAVE["plain"])
    tables = getattr(model, part)
    changed = getattr(tables, field).copy()
    changed[at] = value
    setattr(model, part, dataclasses.replace(tables, **{field: changed}))
    with pytest.raises(WeightsError, match=f"{field}|monotone"):
        weights.from_bytes(weights.to_bytes(model))


def test_models_that_cannot_code_are_refused() -> None:
    config, model = toy.AGAVE["plain"], toy.agave(toy.AGAVE["plain"])
    small = dataclasses.replace(config, auxiliary=2, stride=2)
    with pytest.raises(WeightsError, match="smaller images"):
        toy.agave(small)
    layer = dataclasses.replace(model.layers["last"], weight=model.layers["last"].weight[:, 1:])
    with pytest.raises(WeightsError, match="last"):
        AgaveModel(config, {**model.layers, "last": layer}, model.constants, model.tables, model.latent_tables, None)
    assert isinstance(config, AgaveConfig)
