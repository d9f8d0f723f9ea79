# SPDX-License-Identifier: MIT
"""The frozen PixelCNN++: every instruction set gives what the specification says; weights survive a file."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import weakref

import numpy as np
import pytest
import toy
from test_local import fast_rows, noise

from gmcodec import native
from gmcodec.coding.autoregressive import decode_batch, encode_batch, wavefront
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact.logistic import ROW_TOTAL
from gmcodec.models import weights
from gmcodec.models.local import spec as local_spec
from gmcodec.models.pixelcnnpp import spec as pixelcnnpp_spec
from gmcodec.models.pixelcnnpp import streams
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.native.streams import Tap

SIZES = [(8, 8), (1, 1), (1, 6), (7, 1), (5, 9)]


def spec_rows(model: PixelCNNModel, planes: np.ndarray) -> np.ndarray:
    c = model.config
    outputs = pixelcnnpp_spec.Spec(c, model.layers, model.net_tables).outputs(planes)
    centre = local_spec.centre(c.window, model.layers["linear"], planes)
    return local_spec.mixture_rows(model.tables, outputs, centre, planes)


@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", toy.PIXELCNN)
@pytest.mark.parametrize("size", SIZES)
def test_rows_equal_the_specification(size, kind, isa):
    model = toy.pixelcnn(toy.PIXELCNN[kind], isa)
    for planes in (noise((model.channels, *size)), toy.smooth(np.random.default_rng(1), (model.channels, *size))):
        assert np.array_equal(fast_rows(model, planes, np.arange(size[0] * size[1])), spec_rows(model, planes))


@pytest.mark.parametrize("kind", toy.PIXELCNN)
def test_saturated_nets_equal_the_specification(kind):
    for louder in (3, 6):
        model = toy.pixelcnn(toy.PIXELCNN[kind], louder=louder)
        planes = noise((model.channels, 6, 7))
        rows = fast_rows(model, planes, np.arange(42))
        assert np.array_equal(rows, spec_rows(model, planes))
        assert (rows.sum(2, dtype=np.int64) == ROW_TOTAL).all()
        assert rows.min() >= 1


@pytest.mark.parametrize("kind", toy.PIXELCNN)
@pytest.mark.parametrize("size", SIZES)
def test_one_pixel_of_every_image_at_a_time_into_an_empty_canvas(size, kind):
    # the decoder's way: nothing of a later step is known
    model, random = toy.pixelcnn(toy.PIXELCNN[kind]), np.random.default_rng(3)
    images = random.integers(0, 256, (3, model.channels, *size), dtype=np.uint8)
    rows = np.concatenate([spec_rows(model, image) for image in images], axis=1)
    joined = images.transpose(1, 0, 2, 3).reshape(model.channels, -1, 1)  # samples by flat index
    canvas = model.canvas(*size, 3)
    order, starts = wavefront(size[0], size[1], model.slope, 3)
    for first, last in itertools.pairwise(starts):
        pixels = order[first:last]
        assert np.array_equal(fast_rows(model, joined, pixels, canvas), rows[:, pixels])
        canvas.write(pixels, joined[:, pixels, 0].T.astype(np.int32))
    assert np.array_equal(canvas.planes(), images)


@pytest.mark.parametrize("kind", toy.PIXELCNN)
def test_a_filled_canvas_answers_in_any_order_and_size(kind, monkeypatch):
    model, random = toy.pixelcnn(toy.PIXELCNN[kind]), np.random.default_rng(4)
    images = random.integers(0, 256, (5, model.channels, 6, 9), dtype=np.uint8)
    rows = np.concatenate([spec_rows(model, image) for image in images], axis=1)
    joined, pixels = images.transpose(1, 0, 2, 3).reshape(model.channels, -1, 1), random.permutation(270)
    for block in (1024, 7, 1):  # cells that a layer is evaluated for at once
        monkeypatch.setattr("gmcodec.models.pixelcnnpp.streams.CACHED_CELLS", block)
        canvas = model.canvas(6, 9, 5)
        canvas.fill(images)
        for part in (pixels[:1], pixels[1:100], pixels[100:]):
            assert np.array_equal(fast_rows(model, joined, part, canvas), rows[:, part])


def test_a_step_is_one_pixel_of_every_image():
    canvas = (model := toy.pixelcnn(toy.PIXELCNN["grey"])).canvas(4, 4, 2)
    for pixels in ([0], [0, 17], [0, 1]):
        with pytest.raises(ValueError, match="one pixel of every image"):
            model.predict(canvas, np.array(pixels))


@pytest.mark.parametrize("kind", toy.PIXELCNN)
def test_batches_round_trip_with_every_instruction_set_in_the_same_bytes(kind):
    random, coded = np.random.default_rng(5), set()
    config = toy.PIXELCNN[kind]
    images = np.stack([toy.smooth(random, (config.channels, 9, 11)) for _ in range(4)])
    for isa in native.isas():
        model = toy.pixelcnn(config, isa)
        payload, bits = encode_batch(images, model)
        assert np.array_equal(decode_batch(payload, images.shape, model), images)
        assert 8 * len(payload) < bits.sum() + 64
        coded.add(payload)
    assert len(coded) == 1


def test_a_canvas_is_freed_at_once():
    """Not when the garbage collector runs: it holds hundreds of megabytes, and archives have hundreds of groups."""
    model = toy.pixelcnn(toy.PIXELCNN["gated"])
    canvas = model.canvas(4, 4, 2)
    canvas.fill(np.zeros((2, 3, 4, 4), np.uint8))
    model.predict(canvas, np.arange(32))
    gone = weakref.ref(canvas)
    gc.disable()
    try:
        del canvas
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "changes",
    [
        {"taps": ()}, {"taps": (Tap(0, -1, 0),)}, {"taps": (Tap(99, 0, 0),) * 6},
        {"shift": -9}, {"shift": 9}, {"level": -1}, {"scale": 2}, {"parity": 4}, {"out": 99},
        {"out": -1}, {"active": 99}, {"kind": native.OUTPUT_WIDE}, {"kind": 9}, {"limit": 2048},
        {"activation": 4},
    ],
    ids=str,
)  # fmt: skip
def test_steps_that_would_leave_their_maps_are_refused(changes, monkeypatch):
    model = toy.pixelcnn(toy.PIXELCNN["gated"])
    program, write = streams.Program, streams.Program._write_upper

    def wrong(self):
        write(self)
        at = next(n for n, step in enumerate(self.steps) if step.kind == native.GATE and step.level == 0)
        step = self.steps[at]
        shifted = {"taps": tuple(tap._replace(column=changes.get("shift", 0)) for tap in step.taps)}
        self.steps[at] = dataclasses.replace(step, **(shifted if "shift" in changes else changes))

    monkeypatch.setattr(program, "_write_upper", wrong)
    canvas = model.canvas(4, 5, 2)
    canvas.fill(np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"step|map|inputs|Tap"):
        model.predict(canvas, np.arange(40))


def test_there_is_nothing_to_fit():
    model = toy.pixelcnn(toy.PIXELCNN["grey"])
    assert model.fit(noise((1, 8, 8))[None], 64) == b""
    assert model.adapted(b"") is model
    with pytest.raises(GmcFormatError, match="cannot be changed"):
        model.adapted(b"\x01")


# -- weights on disk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", toy.PIXELCNN)
def test_weights_round_trip(kind):
    model = toy.pixelcnn(toy.PIXELCNN[kind])
    data = weights.to_bytes(model)
    again = weights.from_bytes(data)
    assert isinstance(again, PixelCNNModel)
    assert weights.to_bytes(again) == data
    assert again.config == model.config
    planes = noise((model.channels, 5, 6))
    pixels = np.arange(30)
    assert np.array_equal(fast_rows(again, planes, pixels), fast_rows(model, planes, pixels))


def config_changed(model: weights.Model, **changes: object) -> bytes:
    """Weights whose header says something else."""
    data = weights.to_bytes(model)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    config = json.loads(header["__metadata__"]["config"]) | changes
    header["__metadata__"]["config"] = json.dumps(config)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 1}, {"filters": [8, 4]}, {"filters": [8, 4, 5.0]}, {"filters": "845"}, {"blocks": [2, 1, 10**9]},
        {"upper": -1}, {"upper": 0}, {"nonlinearity": "concat_elu"}, {"nonlinearity": 1}, {"neighbours": 99},
        {"condition": 2}, {"rows": 0}, {"radius2": 10**6}, {"surprise": 1}, {"mixtures": 2}, {"filters": []},
    ],
    ids=str,
)  # fmt: skip
def test_unsound_architectures_are_refused(changes):
    with pytest.raises(WeightsError):
        weights.from_bytes(config_changed(toy.pixelcnn(toy.PIXELCNN["pointwise"]), **changes))


@pytest.mark.parametrize(("field", "at", "value"), [("gate", 0, -1), ("gate", 9, 2**14 + 1), ("elu", 3, 257)])
def test_unsound_tables_are_refused(field, at, value):
    model = toy.pixelcnn(toy.PIXELCNN["grey"])
    table = getattr(model.net_tables, field).copy()
    table[at] = value
    net_tables = dataclasses.replace(model.net_tables, **{field: table})
    broken = PixelCNNModel(model.config, model.layers, model.tables, net_tables)
    with pytest.raises(WeightsError, match=field):
        weights.from_bytes(weights.to_bytes(broken))


def test_a_layer_of_the_wrong_shape_is_refused():
    model = toy.pixelcnn(toy.PIXELCNN["grey"])
    name = "up_left.0.0.second"
    layer = dataclasses.replace(model.layers[name], weight=model.layers[name].weight[:, 1:])
    with pytest.raises(WeightsError, match=name):
        PixelCNNModel(model.config, {**model.layers, name: layer}, model.tables, model.net_tables)
