# SPDX-License-Identifier: MIT
"""Training for what a net knows after learning: the floats do what the integers will do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import write_photos

torch = pytest.importorskip("torch")

from gmcodec.coding.autoregressive import wavefront
from gmcodec.models import weights
from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.model import OnlineModel
from gmcodec.progress import ignore
from gmcodec.training import meta
from gmcodec.training.data import META_VALIDATION_SIDE, centre, load_folder, pad
from gmcodec.training.freezing import freeze_file
from gmcodec.training.loop import Trainer
from gmcodec.training.meta import STEP_PIXELS, MetaTrainer, PhotographStreams
from gmcodec.training.nets import build, save_float
from gmcodec.training.presets import PRESETS, Preset
from gmcodec.training.trainers import trainer

TOY = replace(PRESETS["toy-learning"], steps=12)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 40, 48)


def made(photos: Path, out: Path, preset: Preset = TOY, **options: object) -> MetaTrainer:
    torch.set_num_threads(1)
    run = trainer(preset, photos, photos, out, bf16=False, progress=False, **options)
    assert isinstance(run, MetaTrainer)
    return run


def test_presets_name_their_trainer(photos, tmp_path):
    assert type(trainer(PRESETS["toy-rgb"], photos, photos, tmp_path / "a", bf16=False, progress=False)) is Trainer
    made(photos, tmp_path / "b")


def test_copies_see_what_the_net_sees(photos, tmp_path):
    """Features, means and targets of every pixel in coding order, and the bits that the net gives them."""
    run = made(photos, tmp_path / "run")
    image = load_folder(photos, 3)[0]
    streams = PhotographStreams(run.model, [pad(image, run.model.reach)] * 2, 2, torch.device("cpu"), None)
    bits = []
    copies, _, _ = run._copy(run.net, 2)
    while streams.done[0] + STEP_PIXELS <= image[0].size:
        bits.append(meta._pixel_bits(run.model, copies, streams.next(), torch.float32).view(2, STEP_PIXELS).detach())
    found = torch.cat(bits, 1).numpy()
    expected = run.net.bits(torch.from_numpy(pad(image, run.model.reach)[None])).detach().numpy()
    order, _ = wavefront(*image.shape[1:], run.model.slope)
    assert np.allclose(found, expected[order[: found.shape[1]]], rtol=1e-3, atol=1e-3)


def test_mirrored_photographs_are_photographs_of_mirrors(photos, tmp_path):
    run = made(photos, tmp_path / "run")
    image = load_folder(photos, 3)[1]
    both = [pad(image, run.model.reach), pad(np.ascontiguousarray(image[:, :, ::-1]), run.model.reach)]
    streams = PhotographStreams(run.model, both, 2, torch.device("cpu"), None)
    streams.mirrored[0] = True
    pixels = streams.next()
    assert torch.equal(pixels.features[0], pixels.features[1])
    assert torch.equal(pixels.target[:, :STEP_PIXELS], pixels.target[:, STEP_PIXELS:])


def test_photographs_that_begin_forget(photos, tmp_path):
    run = made(photos, tmp_path / "run")
    for _ in range(3):
        run.train_step()
    assert not torch.equal(run.copies["first"][0], run.net.first)
    assert run.counts.min() == 3
    run.streams.done[:] = 10**9  # every photograph ends
    meta.MIRROR_PROBABILITY, mirror = 0.0, meta.MIRROR_PROBABILITY
    try:
        pixels = run.streams.next()
    finally:
        meta.MIRROR_PROBABILITY = mirror
    assert pixels.starting.all()
    net = dict(run.net.named_parameters())
    with torch.no_grad():
        meta._reset(pixels.starting, net, run.copies, run.mean_squares, run.counts)
    assert all(torch.equal(copy[slot], net[name]) for name, copy in run.copies.items() for slot in range(len(copy)))
    assert run.counts.max() == 0


def test_training_lowers_the_rate_after_learning(photos, tmp_path):
    run = made(photos, tmp_path / "run", replace(TOY, steps=150))
    before = run.validate()
    assert run.run()
    assert run.validate() < before - 0.1


def test_a_run_goes_on_from_its_checkpoint(photos, tmp_path):
    run = made(photos, tmp_path / "run")
    run.train_step()
    run.save()
    again = made(photos, tmp_path / "run")
    again.resume()
    assert again.step == 1
    again.train_step()
    assert all(torch.isfinite(p).all() for p in again.net.parameters())


def test_a_net_trained_to_learn_is_frozen_for_what_it_costs_learning(tmp_path, monkeypatch):
    """Units are searched by that, and the search says it of the model that is written."""
    photos, rate, costs = write_photos(tmp_path / "photos", 72, 80), TOY.adaptation, []
    save_float(build(TOY.model), TOY, tmp_path / "float.safetensors")

    def search(peaks, bits):
        units = local_freeze.spread_units(peaks, 0.75)
        costs.append(bits(units))
        return units

    monkeypatch.setattr(local_freeze, "search_units", search)
    freeze_file([tmp_path / "float.safetensors"], photos, photos, tmp_path / "frozen.safetensors", progress=False)
    model = weights.from_bytes((tmp_path / "frozen.safetensors").read_bytes())
    assert isinstance(model, LocalModel)
    assert rate is not None
    coder = OnlineModel([model], [rate]).tile_coder
    images = [centre(image, META_VALIDATION_SIDE) for image in load_folder(photos, 3)]
    assert costs == [pytest.approx(sum(coder.intervals(image, ignore)[1] for image in images))]


@pytest.mark.slow
def test_floats_predict_the_rate_of_the_frozen_net(tmp_path):
    """The rate of integers that learn is that of the trainer's floats, and learning changes both alike."""
    photos = write_photos(tmp_path / "photos", 72, 80)
    plain = Trainer(replace(PRESETS["toy-rgb"], steps=200, quantise_from=1.0), photos, photos, tmp_path / "plain",
                    bf16=False, progress=False)  # fmt: skip
    plain.run()
    path = tmp_path / "plain" / "float.safetensors"
    fast = replace(TOY, adaptation=7)
    run = made(photos, tmp_path / "run", fast, init=[path])
    freeze_file([path], photos, photos, tmp_path / "frozen.safetensors", progress=False)
    model = weights.from_bytes((tmp_path / "frozen.safetensors").read_bytes())
    assert isinstance(model, LocalModel)
    coder, bits, samples = OnlineModel([model], [7]).tile_coder, 0.0, 0
    for image in load_folder(photos, 3):
        both, _ = coder.intervals(image, ignore)
        seen = image[0].size // STEP_PIXELS * STEP_PIXELS
        _, starts = wavefront(*image.shape[1:], model.slope)
        step = int(np.searchsorted(starts, seen, "right")) - 1
        in_first = sum(min(n, -(-n // 8) * 4) for n in np.diff(starts)[:step])  # of the two stacks
        stacks = both[0][: 6 * in_first, 1], both[1][: 6 * (starts[step] - in_first), 1]
        bits += (24 - np.log2(np.concatenate(stacks))).sum()
        samples += 3 * starts[step]
    predicted = run.validate()
    without_learning = plain.validate()
    assert bits / samples == pytest.approx(predicted, rel=0.02)
    assert abs(predicted - without_learning) > 0.003
