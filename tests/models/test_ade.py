# SPDX-License-Identifier: MIT
"""The float flow and VAE: a bijection, its determinant, the bound, training, freezing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from gmcodec.coding import flow
from gmcodec.coding.stack import Stack
from gmcodec.errors import FreezeError, TrainingError
from gmcodec.models.ade import freeze as ade_freeze
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.float import Ade, squeeze, unsqueeze
from gmcodec.models.agave.float import importance_bits
from gmcodec.models.pixelcnnpp.float import Conv
from gmcodec.models.shared.family import Base
from gmcodec.training import trainers
from gmcodec.training.families import flow_bits
from gmcodec.training.freezing import freeze_file
from gmcodec.training.loop import Trainer
from gmcodec.training.nets import load_whole, preset_from_dict, preset_to_dict
from gmcodec.training.presets import PRESETS


def net(kind: str, seed: int = 0) -> Ade:
    """With weights that do something in every coupling."""
    made = Ade(toy.FLOWS[kind])
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("last.weight", "linear.weight")):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def images(count: int = 6, side: int = 16) -> torch.Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(np.stack([toy.smooth(random, (3, side, side)) for _ in range(count)]))


def test_cells_hold_positions_in_order() -> None:
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    cells = squeeze(x)
    assert cells.shape == (2, 12, 2, 3)
    assert torch.equal(cells[:, 3:6], x[:, :, ::2, 1::2])  # b
    assert torch.equal(cells[:, 6:9], x[:, :, 1::2, ::2])  # c
    assert torch.equal(unsqueeze(cells), x)


@pytest.mark.parametrize("kind", toy.FLOWS)
def test_the_flow_is_a_bijection_and_knows_its_determinant(kind: str) -> None:
    f = net(kind).flow.double()
    y = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    h, determinant = f(y, torch.float64)
    assert torch.allclose(f.inverse(h, torch.float64), y, atol=1e-5)
    jacobian = torch.autograd.functional.jacobian(lambda x: f(x[None], torch.float64)[0].ravel(), y[0])
    expected = torch.linalg.slogdet(jacobian.view(192, 192)).logabsdet
    assert determinant[0].item() == pytest.approx(expected.item(), abs=1e-2)


@pytest.mark.parametrize("kind", ["checker", "colours"])
def test_a_net_starts_from_the_linear_prediction(kind: str) -> None:
    """Every feature gets the same deviation, and images cost far less than 8 bits."""
    made, batch = Ade(toy.FLOWS[kind]), images(64)
    made.initialise(batch)
    h, _ = made.flow(made.dequantised(batch)[0])
    changed = sorted({k for names in made.config.scales[:1] for name in names for k in made.config.changed(name)})
    if kind == "colours":
        assert h[:, changed].detach().std((0, 2, 3)).numpy() == pytest.approx(0.25, rel=0.2)
    assert made.bits(batch).mean().item() / 3 < 6.5


def test_noise_of_a_net_stays_within_its_grey_level() -> None:
    made, batch = net("colours"), images()
    y, cost = made.dequantised(batch)
    above = y * 32 + 128 - batch
    assert -1e-4 < above.min() < 0.2 < 0.8 < above.max() < 1 + 1e-4
    assert cost.expected.shape == (6,)
    assert (cost.expected > 0).all()
    uniform, nothing = net("checker").dequantised(batch)
    assert torch.equal((uniform * 32 + 128).floor(), batch.float())
    assert not nothing.expected.any()


def test_the_bound_without_a_flow_is_that_of_a_gaussian() -> None:
    """By hand: no flow, latents that say nothing."""
    made, batch = net("none"), images()
    with torch.no_grad():
        for parameter in made.vae.last.parameters():
            parameter.zero_()
        made.log_deviation.fill_(0.5)
    torch.manual_seed(3)
    terms = made.terms(batch)
    torch.manual_seed(3)
    y, _ = made.dequantised(batch)
    density = torch.distributions.Normal(0.0, np.exp(0.5)).log_prob(y) - np.log(32)
    assert torch.allclose(terms.features, -density.sum((1, 2, 3)) / np.log(2), rtol=1e-4)
    assert torch.equal(terms.bound, terms.features + terms.divergence.sum(1))


@pytest.mark.parametrize("kind", ["colours", "none"])
def test_the_importance_weighted_bound_lies_below_the_elbo(kind: str) -> None:
    """On average, and the more samples the lower; one sample is an estimate of the ELBO."""
    made, batch = net(kind), images(2).repeat(200, 1, 1, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        elbo = made.terms(batch).bound.view(200, 2).mean(0)
    one, ten, many = (importance_bits(made, batch, count).view(200, 2).mean(0) for count in (1, 10, 60))
    assert torch.allclose(one, elbo, rtol=5e-3)
    assert (ten < one).all()
    assert (many < ten).all()


def test_the_importance_weighted_bound_nears_the_likelihood() -> None:
    """By hand: no flow and no latents, so noise below the grey levels is all there is to integrate over."""
    made, batch = net("none"), images()[:, :, :8, :8]
    with torch.no_grad():
        for parameter in made.vae.last.parameters():
            parameter.zero_()
        made.log_deviation.fill_(float(np.log(20 / 32)))  # grey levels
        for name, parameter in made.vae.named_parameters():
            if "posterior" in name:
                parameter.zero_()
    low = (batch.double() - 128) / 20
    inside = torch.special.ndtr(low + 1 / 20) - torch.special.ndtr(low)
    exact = -inside.log2().sum((1, 2, 3))
    torch.manual_seed(0)
    gap = (importance_bits(made, batch, 300).double() - exact) / batch[0].numel()
    assert gap.abs().max() < 2e-3


def test_pictures_of_the_prior() -> None:
    torch.manual_seed(0)
    drawn = net("colours").sample(3, 16, 8)
    assert drawn.shape == (3, 3, 16, 8)
    assert drawn.isfinite().all()


def test_a_layer_of_classes_is_weight_normalisation_with_a_length_each() -> None:
    """w = g(y) / |v| * v and b(y), thesis eq. 5.8, by hand."""
    torch.manual_seed(0)
    layer = Conv("around", 3, 4, 3, 3, weight_norm=True)
    layer.depend_on(2)
    with torch.no_grad():
        layer.length.uniform_(0.5, 2)
        layer.bias.normal_()
    x, layer.labels = torch.randn(3, 3, 5, 5), torch.tensor([1, 0, 1])
    found = layer(x)
    direction = layer.weight / layer.weight.norm(dim=1, keepdim=True)
    for n, label in enumerate(layer.labels):
        w = (direction * layer.length[label][:, None]).view(4, 3, 3, 3)
        expected = torch.nn.functional.conv2d(x[n : n + 1], w, layer.bias[label], padding=1)
        assert torch.allclose(found[n], expected[0], atol=1e-5)


def conditional() -> Ade:
    made = Ade(replace(toy.FLOWS["colours"], classes=3))
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in made.vae.modules():
            if isinstance(layer, Conv):
                layer.length.mul_(torch.rand_like(layer.length) + 0.5)
                layer.bias.add_(0.1 * torch.randn_like(layer.bias))
    return made.eval()


def test_the_net_of_a_class_says_what_the_net_of_all_says_of_it() -> None:
    made, batch = conditional(), images()
    for label in range(3):
        torch.manual_seed(0)
        expected = made.bits(batch, labels=torch.full((6,), label))
        torch.manual_seed(0)
        assert torch.allclose(made.of_class(label).bits(batch), expected, rtol=1e-5)
    torch.manual_seed(0)
    assert not torch.allclose(made.bits(batch, labels=torch.zeros(6, dtype=torch.int64)), expected, rtol=1e-4)


def test_labels_are_asked_for_and_only_where_there_are_classes() -> None:
    with pytest.raises(ValueError, match="3 classes, and labels missing"):
        conditional().bits(images())
    with pytest.raises(ValueError, match="0 classes, and labels given"):
        net("colours").bits(images(), labels=torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="not one of 3 classes"):
        conditional().of_class(3)


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.model, AdeConfig)])
def test_presets_survive_a_checkpoint(name: str) -> None:
    assert preset_from_dict(preset_to_dict(PRESETS[name])) == PRESETS[name]


@pytest.mark.slow
def test_training_lowers_the_bound_and_freezing_keeps_it(labelled_mosaics: Path, tmp_path: Path) -> None:
    preset = replace(PRESETS["toy-ade"], steps=50)
    trainer = Trainer(preset, labelled_mosaics, 60, tmp_path, progress=False)
    before = trainer.validate()
    trainer.run(validate_every=50)
    after = trainer.validate()
    assert after < before - 0.1
    float_net = load_whole([tmp_path / "float.safetensors"]).eval()
    base = toy.model(3)
    frozen = ade_freeze.freeze(float_net, trainer.source.batch(100).images, Base("local-rgb", bytes(4), base))
    held_out = np.concatenate([batch.images for batch in trainer.validation])
    frozen_rate = flow_bits(frozen, held_out).mean() / held_out[0].size
    assert frozen_rate < 1.02 * after  # features are counted, so it may also be lower
    stack = Stack(np.random.default_rng(0).integers(1, 2**32, 50_000, dtype=np.uint32))
    flow.push_batch(stack, held_out[:20], frozen)
    assert np.array_equal(flow.pop_batch(stack, (20, 3, 16, 16), frozen), held_out[:20])


@pytest.mark.slow
def test_a_net_of_classes_learns_with_a_discriminator_and_is_frozen_for_one(
    labelled_mosaics: Path, tmp_path: Path
) -> None:
    toy_preset = PRESETS["toy-av-ade"]
    discriminator = replace(toy_preset.adversary.discriminator, classes=3)
    preset = replace(
        toy_preset, steps=6, batch=8, model=replace(toy_preset.model, classes=3),
        adversary=replace(toy_preset.adversary, discriminator=discriminator),
    )  # fmt: skip
    run = trainers.trainer(preset, labelled_mosaics, 60, tmp_path, progress=False)
    lengths = run.net.vae.last.length.detach().clone()
    assert torch.equal(lengths[0], lengths[1])
    run.run(validate_every=100)
    assert not torch.equal(run.net.vae.last.length[0], run.net.vae.last.length[1])
    weights = [tmp_path / "float.safetensors"]
    with pytest.raises(FreezeError, match="say which one"):
        freeze_file(weights, labelled_mosaics, 60, tmp_path / "frozen.safetensors", base="local-rgb")
    report = freeze_file(weights, labelled_mosaics, 60, tmp_path / "frozen.safetensors", base="local-rgb", label=2)
    assert report.frozen_bpsp < 1.05 * report.float_bpsp


def test_classes_need_labels(labelled_mosaics: Path, tmp_path: Path) -> None:
    preset = replace(PRESETS["toy-ade"], model=replace(PRESETS["toy-ade"].model, classes=2))
    with pytest.raises(TrainingError, match=r"0\.\.1 beside each mosaic"):
        trainers.trainer(preset, labelled_mosaics, 60, tmp_path, progress=False)


def test_too_many_couplings_of_one_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="passes too many couplings"):
        replace(toy.FLOWS["checker"], scales=(("bc:rgb", "ad:rgb") * 6,))


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if isinstance(p.model, AdeConfig)])
def test_presets_train_what_they_hold(name: str) -> None:
    """Matrices that Muon takes have a rate; the published sizes have weight normalisation instead."""
    preset = PRESETS[name]
    assert preset.model.weight_norm == name.endswith("published")
    assert preset.model.weight_norm or preset.muon_lr > 0
