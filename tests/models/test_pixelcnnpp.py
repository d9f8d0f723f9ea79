# SPDX-License-Identifier: MIT
"""PixelCNN++: who sees whom, its initialisation and options, and training on mosaics at toy size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from toy import smooth

torch = pytest.importorskip("torch")

from torch._dynamo.testing import CompileCounter

from gmcodec.errors import FreezeError, TrainingError
from gmcodec.models import weights
from gmcodec.models.local.freeze import estimate_bits, spread_units
from gmcodec.models.pixelcnnpp import freeze as pixelcnnpp_freeze
from gmcodec.models.pixelcnnpp.config import NONLINEARITIES, PixelCNNConfig
from gmcodec.models.pixelcnnpp.float import Condition, PixelCNN
from gmcodec.training import data
from gmcodec.training.freezing import freeze_file
from gmcodec.training.loop import Trainer
from gmcodec.training.nets import load_float, read_config, read_side, save_float, split_float
from gmcodec.training.presets import PRESETS

TOY = PRESETS["toy-pixelcnnpp"]
CONFIG = TOY.model
SMALL = replace(CONFIG, filters=(4,), blocks=(1,), dropout=0.0)
DEEP = replace(CONFIG, filters=(4, 5, 6), blocks=(1, 1, 1), rows=2, columns=1, dropout=0.0)
POINTWISE = replace(DEEP, upper=3, nonlinearity="leaky")


def images(count: int, side: int = 16, seed: int = 0, channels: int = 3) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([smooth(random, (channels, side, side)) for _ in range(count)]))


def made(config: PixelCNNConfig, side: int = 16) -> PixelCNN:
    """An initialised net in which every weight matters: the last layer starts almost at zero."""
    torch.set_num_threads(1)
    net = PixelCNN(config).eval()
    net.initialise(images(4, side, channels=config.channels))
    net.last.weight.data.mul_(50)
    return net


def outputs(net: PixelCNN, batch: torch.Tensor, condition: list[torch.Tensor] | None = None) -> torch.Tensor:
    """[B, outputs + C, H, W]: raw outputs and the centre of the means."""
    with torch.no_grad():
        both = torch.cat(net(batch, condition=condition))
    b, _, h, w = batch.shape
    return both.reshape(-1, b, h, w).transpose(0, 1)


# -- who sees whom -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("config", [SMALL, CONFIG, DEEP, POINTWISE], ids=["one", "two", "three", "pointwise"])
def test_no_pixel_sees_itself_or_a_later_one(config: PixelCNNConfig, size: tuple[int, int]) -> None:
    """Change every pixel in turn: outputs up to it stay bit for bit."""
    h, w = size
    net = made(replace(config, dropout=0.0))
    image = images(1)[:, :, :h, :w]
    changed = image.repeat(h * w, 1, 1, 1)
    for n in range(h * w):
        changed[n, :, n // w, n % w] = 255 - changed[n, :, n // w, n % w]
    before, after = outputs(net, image.repeat(h * w, 1, 1, 1)).flatten(2), outputs(net, changed).flatten(2)
    for n in range(h * w):
        assert torch.equal(before[n, :, : n + 1], after[n, :, : n + 1])


@pytest.mark.parametrize("config", [replace(CONFIG, dropout=0.0), DEEP, POINTWISE], ids=["two", "three", "pointwise"])
def test_every_earlier_pixel_in_reach_is_seen(config: PixelCNNConfig) -> None:
    """Changing any earlier pixel of the four rows above and four columns to either side changes the output."""
    net = made(config)
    image = images(1)[:, :, :12, :12]
    before = outputs(net, image)
    for y in range(12):
        for x in range(12):
            changed = image.clone()
            changed[0, :, y, x] = 255 - changed[0, :, y, x]
            seen = (before != outputs(net, changed)).any(1)[0]
            for dy in range(5):
                for later in range(max(0, x - 4), min(12, x + 5)):
                    if y + dy < 12 and (dy or later > x):
                        assert seen[y + dy, later], (y, x, y + dy, later)


def test_the_first_pixel_sees_nothing() -> None:
    first = outputs(made(DEEP), images(5))[:, :, 0, 0]
    assert torch.equal(first, first[:1].expand_as(first))


def seen_by(function: Callable[[torch.Tensor], torch.Tensor], side: int, at: tuple[int, int]) -> set[tuple[int, int]]:
    """Offsets of the pixels on which ``function`` of an image, [1, F, H, W], depends at a pixel."""
    image, seen = images(1)[:, :, :side, :side], set()
    before = function(image)[0, :, at[0], at[1]]
    for y in range(side):
        for x in range(side):
            changed = image.clone()
            changed[0, :, y, x] = 255 - changed[0, :, y, x]
            if not torch.equal(before, function(changed)[0, :, at[0], at[1]]):
                seen.add((y - at[0], x - at[1]))
    return seen


def test_the_first_layers_see_as_configured() -> None:
    """Left stream, blocks switched off: the window.  Upper stream: rows above, columns to the sides."""
    net = made(replace(SMALL, rows=4, columns=2, radius2=9))
    with torch.no_grad():
        upper = seen_by(lambda image: net._first(image, torch.float32)[0], 11, (7, 5))
    # the difference of a pixel to its own local mean brings in the pixels above it and to its left
    square = {(y, x) for y in range(-4, 0) for x in range(-2, 3)}
    assert upper == square | {(y, -3) for y in range(-4, 0)} | {(-5, x) for x in range(-2, 3)}
    for block in (*net.down_upper, *net.down_left, *net.up_upper, *net.up_left):
        block.second.weight.data.zero_()
        block.second.bias.data.zero_()
    assert seen_by(lambda image: outputs(net, image)[:, :-3], 11, (7, 5)) == set(net.config.window.offsets)


@pytest.mark.parametrize(
    ("base", "blocks"), [(DEEP, 2 * (3 + 5)), (POINTWISE, 1 + 2 + 2 * (2 + 3))], ids=["gated", "pointwise"]
)
def test_a_condition_is_seen_everywhere_and_starts_at_nothing(base: PixelCNNConfig, blocks: int) -> None:
    plain, config = made(base), replace(base, condition=4)
    net = made(config)
    batch = images(2)
    condition = [torch.randn(2, 4, 16 >> level, 16 >> level) for _, level, _ in config.positions]
    assert torch.allclose(outputs(net, batch, condition), outputs(plain, batch), atol=1e-5)
    layers = [m for m in net.modules() if isinstance(m, Condition)]
    assert len(layers) == blocks  # both streams, or the left one; down, and one more up
    for layer in layers:
        torch.nn.init.normal_(layer.weight)
    before = outputs(net, batch, condition)
    for position in range(len(condition)):
        changed = [part.clone() for part in condition]
        changed[position][:, :, -1, -1] += 1  # below and to the right of what is looked at
        after = outputs(net, batch, changed)
        assert not torch.equal(before[:, :, 14:, 14:], after[:, :, 14:, 14:]), config.positions[position]
    odd = outputs(net, batch[:, :, :7, :9], [part[:, :, : -(-7 * part.shape[2] // 16), : -(-9 * part.shape[3] // 16)]
                                             for part in condition])  # fmt: skip
    assert odd.shape[2:] == (7, 9)


# -- initialisation, options ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_data_dependent_initialisation(nonlinearity: str, norm: bool) -> None:
    config = replace(DEEP, nonlinearity=nonlinearity, weight_norm=norm)
    net, batch, seen = PixelCNN(config), images(8), {}
    net.initialise(batch)
    assert net.training
    for name, layer in net.named_modules():
        if hasattr(layer, "starting") and layer is not net.last:
            layer.register_forward_hook(lambda m, i, y, name=name: seen.update({name: (m, y)}))
    net.eval()(batch)
    assert len(seen) == sum(1 for _ in net.layers()) - 1
    for layer, y in seen.values():
        assert y.mean((0, 2, 3)).abs().max() < 1e-3
        assert torch.allclose(y.std((0, 2, 3)), torch.tensor(layer.gain), rtol=0.01)


@pytest.mark.parametrize(
    "config",
    [CONFIG, replace(CONFIG, weight_norm=True, channels=1), POINTWISE],
    ids=["plain", "norm, grey", "pointwise"],
)
def test_gradients_reach_every_parameter(config: PixelCNNConfig) -> None:
    net, batch = PixelCNN(config), images(2, channels=config.channels)
    net.initialise(batch)
    assert len(net.hidden_matrices()) == (0 if config.weight_norm else sum(1 for _ in net.layers()) - 1)
    bits = net.bits(batch)
    assert bits.shape == (2 * 16 * 16,)
    bits.mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_weights_can_be_rounded_in_the_forward_pass() -> None:
    net = made(replace(CONFIG, dropout=0.0))
    plain = net.bits(images(1)).mean().item()
    net.fake_quant = True
    assert all(layer.rounding for layer in net.layers())
    assert net.bits(images(1)).mean().item() == pytest.approx(plain, rel=0.05)
    assert all(len(row.unique()) <= 255 for row in net.first_upper.matrix().detach())


def test_unsound_architectures_are_refused() -> None:
    few = {"filters": (8,), "blocks": (1,)}
    for wrong in ({"filters": (8,)}, {"blocks": (0, 1)}, {"nonlinearity": "tanh"}, {"rows": 0}, {"neighbours": 99},
                  {"upper": 4}, {"upper": 4, "nonlinearity": "leaky", **few}):  # fmt: skip
        with pytest.raises(ValueError, match=r"must|not one of"):
            replace(CONFIG, **wrong)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("pixelcnnpp", 0.5e6, 1.5e6), ("pixelcnnpp-medium", 5e6, 10e6), ("pixelcnnpp-published", 45e6, 60e6)],
)
def test_sizes_of_the_presets(name: str, least: float, most: float) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in PixelCNN(PRESETS[name].model).parameters())
    assert least <= count <= most


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the tracer's own access
def test_a_net_can_be_traced_whole_and_rounds_without_being_traced_again() -> None:
    """What training on a GPU compiles; the compiler behind the tracing is not at issue here."""
    net = made(replace(CONFIG, dropout=0.0))
    counter = CompileCounter()
    compiled = torch.compile(net.bits, backend=counter, dynamic=False)
    bits, traced = {}, []
    for net.fake_quant in (False, True):
        bits[net.fake_quant] = compiled(images(2)).detach()
        assert torch.equal(bits[net.fake_quant], net.bits(images(2)))
        traced.append(counter.frame_count)
    assert traced[0] == traced[1] <= 3  # what comes in is computed apart, between parts of the rest
    assert not torch.equal(bits[False], bits[True])


# -- training ------------------------------------------------------------------------------------------------


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    """Two training mosaics of 12 squares of 16x16 each, and a test set beside them."""
    folder = tmp_path / "mosaics"
    folder.mkdir()
    for number, name in enumerate(("train_0", "train_1", "test")):
        squares = images(12, seed=number).numpy().reshape(3, 4, 3, 16, 16).transpose(0, 3, 1, 4, 2)
        Image.fromarray(np.ascontiguousarray(squares.reshape(48, 64, 3))).save(folder / f"{name}.png")
    return folder


def trainer(mosaics: Path, out: Path, **changes: object) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(replace(TOY, **changes), mosaics, 4, out, bf16=False, progress=False)


def test_mosaics_are_cut_and_the_test_set_is_left_alone(mosaics: Path, tmp_path: Path) -> None:
    source, held_out, _ = data.load(TOY, mosaics, 4)
    assert isinstance(source, data.Squares)
    assert source.squares.images.shape == (20, 3, 16, 16)
    assert np.array_equal(source.squares.images[12], images(12, seed=1)[0])
    assert np.array_equal(held_out[0].images, images(12, seed=1)[8:])
    assert source.batch(5).images.shape == (5, 3, 16, 16)
    given, held_out, _ = data.load(TOY, mosaics / "train_0.png", mosaics / "test.png")
    assert isinstance(given, data.Squares)
    assert (len(given.squares), len(held_out[0])) == (12, 12)
    with pytest.raises(TrainingError, match="squares of 10x10"):
        data.load(replace(TOY, patch=10), mosaics, 4)
    with pytest.raises(TrainingError, match="hold out 24 of 24"):
        data.load(TOY, mosaics, 24)
    with pytest.raises(TrainingError, match="is not an image"):
        data.load(TOY, Path(__file__), 4)
    (tmp_path / "other").mkdir()
    (mosaics / "test.png").rename(tmp_path / "other" / "test.png")
    with pytest.raises(TrainingError, match=r"no images \(train\*"):
        data.load(TOY, tmp_path / "other", 4)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True])
def test_training_lowers_the_rate(mosaics: Path, tmp_path: Path, norm: bool) -> None:
    run = trainer(mosaics, tmp_path / "run", steps=40, model=replace(CONFIG, weight_norm=norm))
    before = run.validate()
    assert run.run(validate_every=20)
    assert run.validate() < before - 0.02
    assert run.history[-1][2] == pytest.approx(run.validate())


def test_resume_equals_an_uninterrupted_run_with_dropout(mosaics: Path, tmp_path: Path) -> None:
    whole = trainer(mosaics, tmp_path / "whole", steps=12)
    whole.run()
    first = trainer(mosaics, tmp_path / "parts", steps=12)
    while first.step < 5:
        first.train_step()
    first.save()
    torch.rand(7)  # whatever else draws numbers
    second = trainer(mosaics, tmp_path / "parts", steps=12)
    second.resume()
    second.run()
    for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_float_weights_round_trip(mosaics: Path, tmp_path: Path) -> None:
    run = trainer(mosaics, tmp_path / "run", steps=3)
    run.run()
    path = tmp_path / "run" / "float.safetensors"
    assert read_config(path) == CONFIG
    net = PixelCNN(CONFIG)
    load_float(net, path)
    for a, b in zip(net.parameters(), run.ema.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-3)
    started = Trainer(TOY, mosaics, 4, tmp_path / "next", bf16=False, progress=False, init=[path])
    assert started.validate() == pytest.approx(run.validate(), rel=1e-2)
    parts = split_float(path, tmp_path / "parts", 4000)
    assert len(parts) > 1
    assert all(part.stat().st_size < 12_000 for part in parts)
    assert read_config(tmp_path / "parts") == CONFIG
    again = PixelCNN(CONFIG)
    load_float(again, tmp_path / "parts")
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    out = tmp_path / "frozen.safetensors"
    report = freeze_file([tmp_path / "parts"], mosaics, 4, out)
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    with pytest.raises(TrainingError, match="does not hold weights"):
        load_float(again, tmp_path / "parts")
    parts[1].unlink()
    with pytest.raises(TrainingError, match="does not hold weights"):
        load_float(again, tmp_path / "parts")
    assert report.float_bpsp == pytest.approx(run.validate(), rel=1e-2)
    assert report.frozen_bpsp == pytest.approx(report.float_bpsp, rel=0.02)
    assert weights.weights_id(out.read_bytes()) == report.weights_id


# -- freezing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    "config",
    [DEEP, replace(DEEP, nonlinearity="elu", channels=1), replace(SMALL, nonlinearity="leaky"), POINTWISE],
    ids=["concat-ELU", "ELU, grey", "leaky", "pointwise"],
)
def test_a_frozen_net_says_almost_the_same(config: PixelCNNConfig, norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # the search for units would find that clipping an untrained net helps it
    monkeypatch.setattr(pixelcnnpp_freeze, "search_units", lambda peaks, bits: spread_units(peaks, 0.75))
    net = PixelCNN(replace(config, weight_norm=norm)).eval()
    batch = images(6, 12, channels=config.channels)
    net.initialise(batch)
    net.last.weight.data.mul_(5)
    with torch.no_grad():
        expected = net.bits(batch).reshape(6, -1).sum(1).numpy()
    model = pixelcnnpp_freeze.freeze(net, [batch], [batch[:2].numpy()])
    assert estimate_bits(model, batch.numpy()) == pytest.approx(expected, rel=0.01)
    assert max(layer.product_bound for layer in model.layers.values()) < 2**30


def test_weights_that_are_not_finite_are_refused() -> None:
    net = made(POINTWISE)
    net.last.bias.data[3] = float("nan")
    with pytest.raises(FreezeError, match="last"):
        pixelcnnpp_freeze.freeze(net, [images(2)], [images(1).numpy()])


def test_the_size_of_the_images_is_read_from_the_weights(tmp_path: Path) -> None:
    save_float(PixelCNN(CONFIG), TOY, tmp_path / "new.safetensors")
    assert read_side(tmp_path / "new.safetensors") == 16
    save_file({"x": torch.zeros(1)}, tmp_path / "old.safetensors")
    with pytest.raises(TrainingError, match="how large"):
        read_side(tmp_path / "old.safetensors")
