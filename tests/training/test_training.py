# SPDX-License-Identifier: MIT
"""Training at toy size: presets, resume, stopping, and freezing of every preset's architecture."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import smooth, write_photos

torch = pytest.importorskip("torch")

from gmcodec.coding import autoregressive
from gmcodec.errors import TrainingError
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.float import LocalNet, mixture_bits, quantise_rows
from gmcodec.models.online.freeze import freeze
from gmcodec.models.online.model import OnlineModel
from gmcodec.training.data import Patches, load_folder
from gmcodec.training.freezing import freeze_file
from gmcodec.training.loop import Trainer
from gmcodec.training.muon import Muon, orthogonalise
from gmcodec.training.nets import load_float, read_config
from gmcodec.training.presets import PRESETS

TOY = PRESETS["toy-rgb"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 40, 48)


def trainer(photos: Path, out: Path, **changes: object) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(replace(TOY, **changes), photos, photos, out, bf16=False, progress=False)


def weights_of(run: Trainer) -> list:
    return [p.detach().clone() for p in run.net.parameters()]


def test_training_lowers_the_rate(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run", steps=150)
    before = run.validate()
    said: list[str] = []
    assert run.run(validate_every=50, report=said.append)
    assert run.validate() < before - 0.1
    assert [step for step, _, _ in run.history] == [50, 100, 150]
    assert len(said) == 3
    assert all("bpsp" in line for line in said)


def test_resume_equals_an_uninterrupted_run(photos: Path, tmp_path: Path) -> None:
    whole = trainer(photos, tmp_path / "whole")
    whole.run()
    first = trainer(photos, tmp_path / "parts")
    while first.step < 30:
        first.train_step()
    first.save()
    second = trainer(photos, tmp_path / "parts")
    second.resume()
    assert second.step == 30
    second.run()
    for a, b in zip(weights_of(whole), weights_of(second), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_of_minutes(photos: Path, tmp_path: Path) -> None:
    """It ends in time, whatever the steps, with all its parts; a second run passes what the first one left."""
    torch.set_num_threads(1)
    start = time.monotonic()
    run = Trainer(replace(TOY, steps=10**9), photos, photos, tmp_path / "run", bf16=False, progress=False, minutes=0.03)
    step = run.train_step

    def interrupted() -> torch.Tensor:
        if run.elapsed > 0.5:
            run.stopping = True
        return step()

    run.train_step = interrupted  # type: ignore[method-assign]
    assert run.run() is False
    assert 0.5 < run.elapsed < 0.9
    again = Trainer(run.preset, photos, photos, tmp_path / "run", bf16=False, progress=False, minutes=0.02)
    again.resume()
    assert again.elapsed == run.elapsed
    assert again.run()
    assert again.learning_rate() <= 0
    assert again.net.fake_quant
    assert again.history[-1][0] == again.step > run.step
    assert time.monotonic() - start < 20


def test_ctrl_c_saves_and_stops(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run")
    step = run.train_step

    def interrupted() -> float:
        if run.step == 5:
            signal.raise_signal(signal.SIGINT)
        return step()

    run.train_step = interrupted  # type: ignore[method-assign]
    assert run.run() is False
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = trainer(photos, tmp_path / "run")
    again.resume()
    assert again.step == 6


def test_what_is_not_finite_is_never_saved(photos: Path, tmp_path: Path) -> None:
    """Losses are looked at now and then only: certainly before a run that was stopped is saved."""
    run = trainer(photos, tmp_path / "run")
    run.save()
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    def diverged() -> torch.Tensor:
        run.stopping = True
        return torch.tensor(float("nan"))

    run.train_step = diverged  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="not finite"):
        run.run()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_reports_and_saves_may_fall_on_one_step(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run", steps=4)
    assert run.run(validate_every=1, save_every=0.0)
    assert len(run.history) == 4
    assert np.isfinite(run.history).all()


def test_resume_refuses_what_does_not_fit(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        trainer(photos, tmp_path / "none").resume()
    run = trainer(photos, tmp_path / "run")
    run.save()
    with pytest.raises(TrainingError, match="another preset"):
        trainer(photos, tmp_path / "run", batch=3).resume()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="damaged"):
        run.resume()


def test_data_folders(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no images"):
        load_folder(tmp_path / "nothing", 3)
    images = load_folder(photos, 3)
    with pytest.raises(TrainingError, match="at least"):
        Patches(images, 64, 3, 0)
    batch = Patches(images, 16, 3, 0).batch(5).images
    assert batch.shape == (5, 3, 19, 22)
    assert batch.dtype == np.int16
    assert load_folder(photos, 1)[0].shape == (1, 40, 48)


def test_ema_and_fake_quantisation(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run")
    for _ in range(50):
        run.train_step()
    assert run.net.fake_quant  # from 80 % of 60 steps
    assert not torch.equal(run.ema.first, run.net.first)
    rounded = quantise_rows(run.net.first)
    for row in rounded.detach():
        assert len(row.unique()) <= 255
    quantise_rows(run.net.first).sum().backward()
    assert torch.equal(run.net.first.grad, torch.ones_like(run.net.first))  # straight through


@pytest.mark.parametrize("shape", [(5, 7, 7), (3, 4, 9), (2, 9, 4)])
def test_muon_moves_by_the_nearest_orthogonal_matrix(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    stack = torch.randn(shape)
    u, _, v = torch.linalg.svd(stack, full_matrices=False)
    nearest = u @ v
    found = orthogonalise(stack, torch.float32)
    # five steps bring singular values to about 0.7 .. 1.2, and keep the singular vectors
    cosine = (found * nearest).sum((1, 2)) / (found.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert (cosine > 0.95).all()
    assert torch.allclose(orthogonalise(stack[1:2], torch.float32), found[1:2], atol=1e-5)


def test_muon_equals_the_one_of_torch() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(6, 10), torch.randn(4, 6, 10)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    pair = (
        (ours, Muon([ours], lr=0.02, dtype=torch.bfloat16)),
        (theirs, torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0)),
    )
    for gradient in gradients:
        for p, optimiser in pair:
            p.grad = gradient.clone()
            optimiser.step()
    # both iterate in bfloat16, which has two digits or so
    moved, expected = (ours.detach() - start).flatten(), (theirs.detach() - start).flatten()
    assert torch.dot(moved, expected) / (moved.norm() * expected.norm()) > 0.99
    assert moved.norm() == pytest.approx(expected.norm().item(), rel=0.03)


def test_the_precision_is_measured(photos: Path, tmp_path: Path) -> None:
    run = Trainer(TOY, photos, photos, tmp_path / "run", progress=False)
    assert run.dtype in (torch.bfloat16, torch.float32)
    assert run.train_step().isfinite()


def test_float_weights_round_trip_and_init(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run")
    run.run()
    path = tmp_path / "run" / "float.safetensors"
    assert read_config(path) == TOY.model
    net = LocalNet(TOY.model)
    load_float(net, path)
    for a, b in zip(net.parameters(), run.ema.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-3)
    started = Trainer(TOY, photos, photos, tmp_path / "next", bf16=False, progress=False, init=[path])
    assert started.validate() == pytest.approx(run.validate(), rel=1e-3)
    with pytest.raises(TrainingError):
        load_float(LocalNet(PRESETS["toy-grey"].model), path)
    with pytest.raises(TrainingError):
        read_config(photos / "0.png")


@pytest.mark.slow
def test_freeze_file_reports_a_small_cost(photos: Path, tmp_path: Path) -> None:
    run = trainer(photos, tmp_path / "run", patch=32)
    run.run()
    big = tmp_path / "big"
    big.mkdir()
    pixels = smooth(np.random.default_rng(1), (3, 80, 80)).transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(big / "a.png")
    report = freeze_file([tmp_path / "run" / "float.safetensors"], big, big, tmp_path / "frozen.safetensors")
    assert abs(report.cost_percent) < 0.5
    assert report.bytes == (tmp_path / "frozen.safetensors").stat().st_size


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.model, LocalConfig)])
def test_every_preset_freezes_and_codes(name: str) -> None:
    config = PRESETS[name].model
    net = LocalNet(config)
    random = np.random.default_rng(2)
    padded = smooth(random, (config.channels, 16 + config.reach, 16 + 2 * config.reach)).astype(np.int16)
    model = freeze(net, [(torch.from_numpy(padded)[None], 16, 16)])
    OnlineModel([model], [0])  # there is room for it
    image = smooth(random, (config.channels, 9, 11))
    coded = autoregressive.encode(image, model)
    assert np.array_equal(autoregressive.decode(coded.data, image.shape, model), image)


@pytest.mark.parametrize("extreme", [0, 255])
def test_loss_is_finite_at_the_ends_of_the_range(extreme: int) -> None:
    config = TOY.model
    net = LocalNet(config)
    out = net.last_bias[:, None].repeat(1, 4)
    target = torch.full((3, 4), float(extreme))
    bits = mixture_bits(out, 255.0 - target, target, 3, config.mixtures)
    assert torch.isfinite(bits).all()
    assert (bits > 0).all()
