# SPDX-License-Identifier: MIT
"""The local model: the fast form equals its specification, its window is causal, its weights survive a file."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from gmcodec import native
from gmcodec.coding.autoregressive import wavefront
from gmcodec.errors import WeightsError
from gmcodec.exact.logistic import ROW_TOTAL
from gmcodec.models import registry, weights
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.window import OUTSIDE, window_offsets

SIZES = [(1, 1), (1, 7), (7, 1), (5, 9), (33, 20)]


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def spec_rows(model: LocalModel, planes: np.ndarray) -> np.ndarray:
    return local_spec.rows(model.config, model.layers, model.tables, planes)


def fast_rows(model: LocalModel, planes: np.ndarray, pixels: np.ndarray, canvas=None) -> np.ndarray:
    """int32 [2 * C, len(pixels), 16], and the canvas as it is unless one is given."""
    if canvas is None:
        canvas = model.canvas(*planes.shape[1:])
        canvas.fill(planes[None])
    prediction, out = model.predict(canvas, pixels), []
    for sample in np.ascontiguousarray(planes.reshape(len(planes), -1)[:, pixels], np.int32):
        out += [prediction.high(), prediction.low(sample >> 4)]
        prediction.observe(sample)
    return np.stack(out)


# -- against the specification -------------------------------------------------------------------------


@pytest.mark.parametrize("name", native.isas())
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", SIZES)
def test_rows_equal_the_specification(size, channels, name):
    model = toy.model(channels, name)
    for planes in (noise((channels, *size)), toy.smooth(np.random.default_rng(1), (channels, *size))):
        assert np.array_equal(fast_rows(model, planes, np.arange(size[0] * size[1])), spec_rows(model, planes))


@pytest.mark.parametrize("value", [0, 255])
def test_extreme_flat_images_equal_the_specification(value):
    model, planes = toy.model(3), np.full((3, 6, 8), value, np.uint8)
    assert np.array_equal(fast_rows(model, planes, np.arange(48)), spec_rows(model, planes))


def test_saturated_nets_equal_the_specification():
    # shifts of 6 drive every activation and every output to its clamp
    config, tables = toy.CONFIGS[3], toy.model(3).tables
    layers = {n: dataclasses.replace(v, shift=np.full_like(v.shift, 6)) for n, v in toy.layers(config).items()}
    planes = noise((3, 6, 8))
    for name in native.isas():
        model = LocalModel(FrozenLocal(config, layers, tables), native.core(name))
        rows = fast_rows(model, planes, np.arange(48))
        assert np.array_equal(rows, spec_rows(model, planes))
        assert (rows.sum(2, dtype=np.int64) == ROW_TOTAL).all()
        assert rows.min() >= 1


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from([1, 3]), st.integers(0, 99), st.data())
def test_pixels_in_arbitrary_chunks_and_orders(height, width, channels, seed, data):
    model, planes = toy.model(channels), noise((channels, height, width), seed)
    rows = spec_rows(model, planes)
    pixels = np.random.default_rng(seed).permutation(height * width)
    while len(pixels):
        count = data.draw(st.integers(1, len(pixels)))
        assert np.array_equal(fast_rows(model, planes, pixels[:count]), rows[:, pixels[:count]])
        pixels = pixels[count:]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", SIZES)
def test_one_wavefront_at_a_time_into_an_empty_canvas(size, channels):
    # the decoder's way: nothing of a later step is known
    model, planes = toy.model(channels), noise((channels, *size))
    rows, canvas = spec_rows(model, planes), model.canvas(*size)
    order, starts = wavefront(size[0], size[1], model.slope)
    for first, last in itertools.pairwise(starts):
        pixels = order[first:last]
        if len(pixels):
            assert np.array_equal(fast_rows(model, planes, pixels, canvas), rows[:, pixels])
            canvas.write(pixels, planes.reshape(channels, -1)[:, pixels].T.astype(np.int32))
    assert np.array_equal(canvas.planes()[0], planes)


@pytest.mark.parametrize("name", native.isas())
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", SIZES[:6])
def test_images_of_a_batch_do_not_see_one_another(size, channels, name):
    model, random = toy.model(channels, name), np.random.default_rng(3)
    images = random.integers(0, 256, (4, channels, *size), dtype=np.uint8)
    canvas, count = model.canvas(*size, 4), size[0] * size[1]
    canvas.fill(images)
    assert np.array_equal(canvas.planes(), images)
    pixels = random.permutation(4 * count)
    joined = images.transpose(1, 0, 2, 3).reshape(channels, 4 * count, 1)  # samples by flat index
    rows = np.concatenate([spec_rows(model, image) for image in images], axis=1)
    assert np.array_equal(fast_rows(model, joined, pixels, canvas), rows[:, pixels])
    empty = model.canvas(*size, 4)
    empty.write(pixels, joined[:, pixels, 0].T.astype(np.int32))
    assert np.array_equal(empty.planes(), images)


def test_an_estimate_is_the_chain_rule():
    # the product of both nibbles' probabilities is a distribution over 256 samples
    model, planes = toy.model(1), noise((1, 2, 3))
    canvas = model.canvas(2, 3)
    canvas.fill(planes[None])
    total = np.zeros(6)
    for sample in range(256):
        prediction = model.predict(canvas, np.arange(6))
        high = prediction.high()[:, sample >> 4] / ROW_TOTAL
        total += high * prediction.low(np.full(6, sample >> 4, np.int32))[:, sample & 15] / ROW_TOTAL
    assert np.allclose(total, 1, atol=1e-12)


# -- the window ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("radius2", [1, 2, 4, 9, 20, 49])
def test_every_window_pixel_is_decoded_at_an_earlier_step(radius2, slope):
    height, width = 9, 17
    order, starts = wavefront(height, width, slope)
    step = np.empty((height, width), int)
    for t in range(len(starts) - 1):
        step.flat[order[starts[t] : starts[t + 1]]] = t
    assert sorted(order) == list(range(height * width))
    offsets = window_offsets(radius2, slope)
    assert len(set(offsets)) == len(offsets)
    for dy, dx in offsets:
        for i in range(height):
            for j in range(width):
                if 0 <= i + dy and 0 <= j + dx < width:
                    assert step[i + dy, j + dx] < step[i, j]


def test_the_window_is_the_half_disc_less_what_comes_too_late():
    assert window_offsets(2, 2) == ((-1, 0), (0, -1), (-1, -1), (-1, 1))
    assert window_offsets(2, 1) == ((-1, 0), (0, -1), (-1, -1))
    assert (-1, 4) not in window_offsets(49, 4)
    assert (-1, 3) in window_offsets(49, 4)


def test_the_future_does_not_matter():
    model, planes = toy.model(3), noise((3, 8, 10))
    order, starts = wavefront(8, 10, model.slope)
    rows = fast_rows(model, planes, np.arange(80))
    for t in (0, 5, 13, 20):
        changed = planes.copy().reshape(3, -1)
        later = order[starts[t + 1] :]
        changed[:, later] = noise((3, 1, len(later)), t)[:, 0]
        now = order[: starts[t + 1]]
        assert np.array_equal(fast_rows(model, changed.reshape(planes.shape), now), rows[:, now])


# -- weights on disk -----------------------------------------------------------------------------------


def same_model(a: LocalModel, b: LocalModel) -> bool:
    fields = ("weight", "bias", "multiplier", "shift", "input_limit")
    pairs = [(getattr(a.layers[n], f), getattr(b.layers[n], f)) for n in a.config.layer_names() for f in fields]
    pairs += [(getattr(a.tables, f.name), getattr(b.tables, f.name)) for f in dataclasses.fields(a.tables)]
    return a.config == b.config and all(
        np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype for x, y in pairs
    )


@pytest.mark.parametrize("rows", [1, 3, 11])
def test_tiles_below_finished_rows_see_them(rows):
    """As the lower part of an image sees the upper one."""
    model, image = toy.model(3), np.stack([toy.smooth(np.random.default_rng(n), (3, 11 + 6, 13)) for n in range(2)])
    image = image[:, :, 11 - rows :]
    whole, below = model.canvas(rows + 6, 13, 2), model.below(image[:, :, :rows])
    whole.fill(image)
    part = below.canvas(6, 13, 2)
    part.fill(image[:, :, rows:])
    inside = (np.arange(2)[:, None] * (rows + 6) * 13 + np.arange(rows * 13, (rows + 6) * 13)).ravel()
    for a, b in zip(model.evaluate(whole, inside), below.evaluate(part, np.arange(2 * 6 * 13)), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(part.planes(), image[:, :, rows:])


@pytest.mark.parametrize("channels", [3, 1])
def test_weights_round_trip(channels):
    model = toy.model(channels)
    data = weights.to_bytes(model)
    again = weights.from_bytes(data)
    assert same_model(model, again)
    # safetensors alone shuffles its metadata, and with it the id
    assert {weights.to_bytes(again) for _ in range(20)} == {data}
    assert weights.weights_id(data) != weights.weights_id(weights.to_bytes(toy.model(channels, seed=1)))


def test_write_names_what_it_wrote(tmp_path):
    path = tmp_path / "local-grey.safetensors"
    assert weights.write(toy.model(1), path) == weights.weights_id(path.read_bytes())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_every_kind_of_truncation_of_weights_is_refused():
    data = weights.to_bytes(toy.model(1))
    for cut in [*range(0, 64), *range(64, len(data), 997), len(data) - 1]:
        with pytest.raises(WeightsError):
            weights.from_bytes(data[:cut])


def damaged(**changes) -> bytes:
    """Weights of the grey model with fields of layers replaced, unchecked; names as ``up_0_weight``."""
    model = toy.model(1)
    layers = dict(model.layers)
    for key, value in changes.items():
        name, field = key.replace("_0_", ".0.").rsplit("." if "_0_" in key else "_", 1)
        layers[name] = dataclasses.replace(layers[name], **{field: value})
    frozen, broken = object.__new__(FrozenLocal), object.__new__(LocalModel)
    for name, value in vars(model.frozen).items():
        object.__setattr__(frozen, name, layers if name == "layers" else value)
    broken.frozen = frozen
    return weights.to_bytes(broken)


ONES = np.ones(16, np.int32)


@pytest.mark.parametrize(
    "changes",
    [
        {"up_0_weight": np.zeros((16, 16), np.int32)},
        {"up_0_weight": np.zeros((16, 16), np.float32)},
        {"up_0_weight": np.zeros((15, 16), np.int8)},
        {"up_0_weight": np.zeros((16, 17), np.int8)},
        {"up_0_weight": np.zeros((16, 16, 1), np.int8)},
        {"up_0_weight": np.zeros(16, np.int8)},
        {"up_0_weight": np.zeros((), np.int8)},
        {"first_bias": ONES.astype(np.int64)},
        {"first_bias": ONES[1:]},
        {"first_bias": ONES[:, None]},
        {"first_bias": np.full(16, -(2**31), np.int32)},
        {"down_0_multiplier": 0 * ONES},
        {"down_0_multiplier": -ONES},
        {"down_0_multiplier": ONES * (2**15 + 1)},
        {"down_0_multiplier": ONES.astype(np.float32)},
        {"down_0_shift": 0 * ONES},
        {"down_0_shift": 47 * ONES},
        {"linear_weight": np.zeros((3, 4), np.int16)},
    ],
    ids=lambda c: "{}-{}".format(*next((k, f"{v.dtype}{list(v.shape)}") for k, v in c.items())),
)
def test_unsound_layers_are_refused(changes):
    with pytest.raises(WeightsError):
        weights.from_bytes(damaged(**changes))


def test_undamaged_weights_pass():
    assert same_model(weights.from_bytes(damaged()), toy.model(1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("softmax", np.zeros(1024, np.int32)),
        ("softmax", np.full(1024, -1, np.int32)),
        ("sigmoid", np.arange(2 * 17 * 512 + 1, dtype=np.int32)[::-1]),
        ("sigmoid", np.arange(2 * 17 * 512 + 1, dtype=np.int64)),
        ("sigmoid", np.arange(100, dtype=np.int32)),
        ("inverse", np.zeros(0, np.int32)),
        ("inverse", np.ones((321, 1), np.int32)),
        ("sigmoid", np.full(2 * 17 * 512 + 1, ROW_TOTAL + 1, np.int32)),
        ("sigmoid", np.full(2 * 17 * 512 + 1, 2**24, np.float32)),
    ],
)
def test_unsound_tables_are_refused(field, value):
    model = toy.model(1)
    broken, net = copy.copy(model), model.frozen
    broken.frozen = FrozenLocal(net.config, net.layers, dataclasses.replace(net.tables, **{field: value}))
    with pytest.raises(WeightsError):
        weights.from_bytes(weights.to_bytes(broken))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"kind":"local-1"', b'"kind":"local-9"'),
        (b'"kind"', b'"kinx"'),
        (b'\\"width\\": 16', b'\\"width\\": 17'),
        (b'\\"width\\"', b'\\"wodth\\"'),
        (b'\\"blocks\\": 1', b'\\"blocks\\": 2'),
        (b'\\"blocks\\": 1', b'\\"blocks\\": 0'),
        (b'\\"channels\\": 1', b'\\"channels\\": 3'),
        (b'\\"channels\\": 1', b'\\"channels\\": 0'),
        (b'\\"slope\\": 3', b'\\"slope\\": 0'),
        (b'\\"slope\\": 3', b'\\"slope\\": 1'),
        (b'\\"radius2\\": 9', b'\\"radius2\\": 8'),
        (b'\\"radius2\\": 9', b'\\"radius2\\":-9'),
        (b'\\"mixtures\\": 3', b'\\"mixtures\\": 0'),
        (b'\\"mixtures\\": 3', b'\\"mixtures\\":[]'),
        (b'\\"width\\": 16', b'\\"width\\":1e1'),
        (b'\\"radius2\\": 9', b'\\"radius2\\":99999999999'),
        (b'\\"blocks\\": 1', b'\\"blocks\\":99999999999'),
        (b'\\"neighbours\\": 4', b'\\"neighbours\\": 9'),
        (b'"first.bias"', b'"first.bios"'),
    ],
)
def test_unsound_headers_are_refused(old, new):
    data = weights.to_bytes(toy.model(1))
    assert old in data
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(old, new, 1).rstrip()
    header += b" " * (-len(header) % 8)
    broken = len(header).to_bytes(8, "little") + header + data[8 + size :]
    with pytest.raises(WeightsError):
        weights.from_bytes(broken)


def test_no_flipped_byte_of_the_header_escapes_as_another_error():
    data = weights.to_bytes(toy.model(1))
    size = int.from_bytes(data[:8], "little")
    random = np.random.default_rng(0)
    for position in [*range(8), *random.choice(size, 120, replace=False) + 8]:
        broken = bytearray(data)
        broken[position] ^= 1 << random.integers(8)
        try:
            model = weights.from_bytes(bytes(broken))
        except WeightsError:
            continue
        assert isinstance(model, LocalModel)  # tables of the metadata order, say: harmless


@pytest.mark.usefixtures("toy_weights")
def test_the_registry_loads_what_was_written(toy_folder):
    loaded = registry.for_channels(3)
    assert loaded.entry.name == "local-rgb"
    assert same_model(loaded.model, toy.model(3))
    assert loaded.weights_id == weights.weights_id((toy_folder / "local-rgb.safetensors").read_bytes())


def test_the_registry_refuses_swapped_weights(tmp_path, monkeypatch):
    toy.write_weights(tmp_path)
    (tmp_path / "local-rgb.safetensors").write_bytes((tmp_path / "local-grey.safetensors").read_bytes())
    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match="channels"):
        registry.load(16)


# -- the float twin ------------------------------------------------------------------------------------


def padded(images: list[np.ndarray], reach: int):
    import torch

    stack = [np.pad(i.astype(np.int16), ((0, 0), (reach, 0), (reach, reach)), constant_values=OUTSIDE) for i in images]
    return torch.from_numpy(np.stack(stack))


@pytest.fixture(scope="module", params=[3, 1], ids=["rgb", "grey"])
def trained(request):
    """A float net after 60 steps on smooth noise, quantised weights in the second half; and other images."""
    torch = pytest.importorskip("torch")
    from gmcodec.models.local.float import LocalNet, mixture_bits

    config = toy.CONFIGS[request.param]
    net, random = LocalNet(config), np.random.default_rng(5)
    images = [toy.smooth(random, (config.channels, 24, 24)) for _ in range(12)]
    target = torch.from_numpy(np.stack(images)).transpose(0, 1).reshape(config.channels, -1).float()
    features, mean = net.features(padded(images, config.reach), 24, 24)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    losses = []
    for step in range(60):
        net.fake_quant = step >= 30
        out, linear = net(features)
        loss = mixture_bits(out, mean.float() + linear, target, config.channels, config.mixtures).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert losses[29] != losses[30]
    return net, images


def frozen_bits(model: LocalModel, planes: np.ndarray) -> np.ndarray:
    """float64 [H * W]: the frozen model's bits of every pixel."""
    rows = spec_rows(model, planes)
    samples = planes.reshape(len(planes), -1)
    nibbles = np.stack([n for s in samples for n in (s >> 4, s & 15)]).astype(np.int64)
    return -np.log2(np.take_along_axis(rows, nibbles[:, :, None], 2)[:, :, 0] / ROW_TOTAL).sum(0)


def test_freezing_costs_less_than_half_a_percent(trained):
    import torch

    from gmcodec.models.local.float import mixture_bits
    from gmcodec.models.local.freeze import freeze

    net, images = trained
    c = net.config
    model = freeze(net, [(padded(images, c.reach), 24, 24)])
    assert same_model(weights.from_bytes(weights.to_bytes(model)), model)
    random, floating, frozen = np.random.default_rng(77), 0.0, 0.0
    for _ in range(4):
        planes = toy.smooth(random, (c.channels, 20, 28))
        with torch.no_grad():
            features, mean = net.features(padded([planes], c.reach), 20, 28)
            out, linear = net(features)
            target = torch.from_numpy(planes.reshape(c.channels, -1).astype(np.float32))
            bits = mixture_bits(out, mean.float() + linear, target, c.channels, c.mixtures)
        floating += bits.double().sum().item()
        frozen += frozen_bits(model, planes).sum()
    assert abs(frozen / floating - 1) < 0.005
    assert floating / (4 * 20 * 28 * c.channels) < 8


def test_the_float_net_sees_the_same_features(trained):
    net, _ = trained
    c = net.config
    for size in [(1, 1), (1, 7), (7, 1), (9, 6)]:
        planes = noise((c.channels, *size))
        features, _ = net.features(padded([planes], c.reach), *size)
        assert np.array_equal(
            features.numpy()[c.window.raster_columns()].T, local_spec.window_features(c.window, planes)
        )


def test_fake_quantisation_is_what_freezing_does(trained):
    import torch

    from gmcodec.models.local.float import FIRST_BITS, quantise_rows
    from gmcodec.models.local.freeze import freeze

    net, images = trained
    model = freeze(net, [(padded(images, net.config.reach), 24, 24)])
    # the first layer's inputs all have one unit, so its integers are those of training exactly
    weight = net.first[:, net.config.window.raster_columns()]
    rounded = quantise_rows(weight, FIRST_BITS).detach()
    scale = weight.detach().abs().amax(1, keepdim=True) / (2 ** (FIRST_BITS - 1) - 1)
    # but for ties, which float32 may see on the other side
    assert np.abs(torch.round(rounded / scale).numpy() - model.layers["first"].weight).max() <= 1


def test_fake_quantisation_passes_the_gradient(trained):
    import torch

    from gmcodec.models.local.float import quantise_rows

    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    quantise_rows(weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(5, 7))
    assert not torch.equal(quantise_rows(weight), weight)
    net, images = trained
    features, _ = net.features(padded(images[:1], net.config.reach), 24, 24)
    outputs = {}
    for net.fake_quant in (False, True):
        outputs[net.fake_quant] = net(features)[0].detach()
    assert not torch.equal(outputs[False], outputs[True])
    assert (outputs[False] - outputs[True]).abs().max() < 0.2 * outputs[False].abs().max()


def test_configs_describe_their_layers():
    config = LocalConfig(channels=3, radius2=49, slope=4, width=160, blocks=4, mixtures=5, neighbours=12)
    assert config.reach == 7
    assert config.couplings == 3
    assert config.outputs == 5 * (1 + 6 + 3)
    assert sorted(config.window.raster_columns()) == list(range(config.inputs))
