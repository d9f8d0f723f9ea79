# SPDX-License-Identifier: MIT
"""Adversarial training beside likelihood: who learns from what, and that it can be stopped and gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gmcodec.errors import TrainingError
from gmcodec.training import trainers
from gmcodec.training.adversarial import AdversarialTrainer, ClampWithReturn
from gmcodec.training.adversarial_losses import discriminator_loss
from gmcodec.training.data import Batch
from gmcodec.training.loop import Trainer
from gmcodec.training.nets import of_inference, preset_from_dict, preset_to_dict
from gmcodec.training.presets import PRESETS, Adversary, DiscriminatorConfig, Preset

TOY = replace(PRESETS["toy-av-ade"], steps=12)
DISCRIMINATOR = DiscriminatorConfig("residual", (4, 6, 8), size=16)
MIXED = replace(DISCRIMINATOR, batch="mean")


def made(preset: Preset, data: Path, out: Path) -> AdversarialTrainer:
    run = trainers.trainer(preset, data, 20, out, bf16=False, progress=False)
    assert isinstance(run, AdversarialTrainer)
    return run


def with_adversary(**changes: object) -> Preset:
    return replace(TOY, adversary=replace(TOY.adversary, **changes))


def moved(before: dict, module: torch.nn.Module) -> set[str]:
    """Names of the tensors that have changed."""
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


def state(module: torch.nn.Module) -> dict:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("changes", [{}, {"loss": "m-bgan", "discriminator": MIXED, "gamma": 0.1}])
def test_both_sides_learn(labelled_mosaics: Path, tmp_path: Path, changes: dict) -> None:
    run = made(with_adversary(**changes), labelled_mosaics, tmp_path)
    net, discriminator = state(run.net), state(run.discriminator)
    run.train_step()
    assert moved(discriminator, run.discriminator) == set(discriminator)
    assert {"vae.last.bias", "flow.couplings.0.net.last.weight", "log_deviation"} <= moved(net, run.net)


def test_without_likelihood_the_flow_and_the_encoder_stay(labelled_mosaics: Path, tmp_path: Path) -> None:
    """L_Q teaches what maps latents to features; f is trained by the likelihood only (A.2)."""
    run = made(with_adversary(likelihood=False), labelled_mosaics, tmp_path)
    net = state(run.net)
    run.train_step()
    changed = moved(net, run.net)
    assert {"vae.last.bias", "vae.top"} <= changed
    assert not any(name.startswith(("flow.", "vae.up.", "vae.first.")) for name in changed)
    assert all(p.requires_grad for p in (*run.net.parameters(), *run.discriminator.parameters()))


def test_the_coefficient_weighs_the_discriminator(labelled_mosaics: Path, tmp_path: Path) -> None:
    """The cost is linear in it, in bits per sample: L_Q is in nats of an image."""
    batch, costs = None, []
    for number, coefficient in enumerate((0.0, 100.0, 200.0)):
        run = made(with_adversary(coefficient=coefficient), labelled_mosaics, tmp_path / str(number))
        batch = run._tensors(run.source.batch(4)) if batch is None else batch
        torch.manual_seed(5)
        costs.append(run._cost(batch).item())
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0], rel=1e-3)
    assert costs[1] != costs[0]


def test_momentum_and_rates_of_both_sides(labelled_mosaics: Path, tmp_path: Path) -> None:
    run = made(with_adversary(momentum=0.25, rate=7e-4), labelled_mosaics, tmp_path)
    run.step = 1000
    run.train_step()
    assert run.discriminator_optimiser.param_groups[0]["betas"][0] == 0.25
    assert run.discriminator_optimiser.param_groups[0]["lr"] == pytest.approx(7e-4)
    adam = run.optimisers[-1][0].param_groups[0]
    assert adam["betas"] == (0.25, 0.98)
    assert adam["lr"] == pytest.approx(TOY.adam_lr)


@pytest.mark.slow
def test_resume_equals_an_uninterrupted_run(labelled_mosaics: Path, tmp_path: Path) -> None:
    whole = made(TOY, labelled_mosaics, tmp_path / "whole")
    whole.run(validate_every=100)
    first = made(TOY, labelled_mosaics, tmp_path / "parts")
    for _ in range(5):
        first.train_step()
    first.save()
    second = made(TOY, labelled_mosaics, tmp_path / "parts")
    second.resume()
    second.run(validate_every=100)
    assert not moved(state(whole.net), second.net)
    assert not moved(state(whole.discriminator), second.discriminator)


BLACK = Batch(torch.zeros(32, 3, 16, 16))


class PrefersRed(torch.nn.Module):
    """A discriminator with a known mind."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        return (x[:, 0] - x[:, 1]).mean((1, 2))


def test_the_generator_gives_what_the_discriminator_prefers(labelled_mosaics: Path, tmp_path: Path) -> None:
    run = made(replace(with_adversary(likelihood=False), steps=10**6), labelled_mosaics, tmp_path)
    run.discriminator = PrefersRed()  # type: ignore[assignment]
    run._train_discriminator = lambda real, fake, labels: None  # type: ignore[method-assign, assignment, misc]
    run.step = 200  # behind the warm-up

    def redness() -> float:
        torch.manual_seed(1)
        return PrefersRed()(run._samples(BLACK), None).mean().item()

    before = redness()
    for _ in range(20):
        run.train_step()
    assert redness() > before + 0.05


def test_without_likelihood_samples_do_not_go_further_away() -> None:
    """The gradient of a sum pulls all down: what is below the range already stays."""
    images = torch.tensor([-9.0, -1.0, 1.0, 9.0], requires_grad=True)
    seen = ClampWithReturn.apply(images)
    assert seen.tolist() == [-3, -1, 1, 3]
    seen.sum().backward()
    assert images.grad.tolist() == [0, 1, 1, 1]


def test_the_discriminator_learns(labelled_mosaics: Path, tmp_path: Path) -> None:
    run = made(with_adversary(penalty=1.0), labelled_mosaics, tmp_path)
    run.step = 200
    real = run._tensors(run.source.batch(32)).images.float() / 127.5 - 1
    fake = run._samples(BLACK).detach()
    losses = []
    for _ in range(40):
        losses.append(discriminator_loss(run.discriminator(real), run.discriminator(fake)).item())
        run._train_discriminator(real, fake, None)
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("name", ["toy-av-ade", "av-ade", "av-ade-published"])
def test_presets_survive_a_checkpoint(name: str) -> None:
    assert preset_from_dict(preset_to_dict(PRESETS[name])) == PRESETS[name]


def test_losses_need_their_discriminators() -> None:
    for loss, discriminator in (("m-bgan", DISCRIMINATOR), ("samples", MIXED), ("unknown", DISCRIMINATOR)):
        with pytest.raises(ValueError, match="does not fit"):
            Adversary(discriminator, loss=loss)


def test_presets_without_an_adversary_have_the_plain_trainer(labelled_mosaics: Path, tmp_path: Path) -> None:
    run = trainers.trainer(PRESETS["toy-ade"], labelled_mosaics, 20, tmp_path, bf16=False, progress=False)
    assert type(run) is Trainer


# -- the likelihood of a GAN ---------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 3])
def test_around_a_generator_only_the_inference_net_and_the_deviation_learn(
    labelled_mosaics: Path,
    tmp_path: Path,
    classes: int,
) -> None:
    model = replace(TOY.model, classes=classes)
    discriminator = replace(TOY.adversary.of_classes(classes), likelihood=False)
    gan = made(replace(TOY, model=model, adversary=discriminator), labelled_mosaics, tmp_path / "gan")
    with torch.no_grad():
        gan.ema.vae.last.bias.fill_(3.0)  # a generator that is far away from the images
    gan.save()
    weights = tmp_path / "gan" / "float.safetensors"
    preset = replace(TOY, model=model, adversary=None, generator_fixed=True, steps=40, adam_lr=3e-3)
    run = trainers.trainer(preset, labelled_mosaics, 20, tmp_path / "run", bf16=False, progress=False, init=[weights])
    before, bound = state(run.net), run.validate()
    run.run(validate_every=100)
    changed = moved(before, run.net)
    assert {"log_deviation", "vae.first.weight", "vae.stages.0.posterior_up.weight"} <= changed
    assert changed == {name for name in before if of_inference(name)} & changed
    assert torch.equal(run.net.vae.last.bias, before["vae.last.bias"])
    assert run.validate() < bound


def test_the_deviation_starts_from_what_a_generator_leaves(labelled_mosaics: Path, tmp_path: Path) -> None:
    gan = made(with_adversary(likelihood=False), labelled_mosaics, tmp_path / "gan")
    with torch.no_grad():
        for parameter in gan.ema.vae.last.parameters():
            parameter.zero_()
        gan.ema.vae.last.bias.fill_(50.0)
    gan.save()
    preset = replace(TOY, adversary=None, generator_fixed=True)
    init = [tmp_path / "gan" / "float.safetensors"]
    run = trainers.trainer(preset, labelled_mosaics, 20, tmp_path / "run", bf16=False, progress=False, init=init)
    assert (run.net.log_deviation.exp() > 40).all()


def test_a_generator_that_stays_as_it_is_must_be_there(labelled_mosaics: Path, tmp_path: Path) -> None:
    preset = replace(TOY, adversary=None, generator_fixed=True)
    run = trainers.trainer(preset, labelled_mosaics, 20, tmp_path, bf16=False, progress=False)
    with pytest.raises(TrainingError, match="the generator of this preset is fixed"):
        run.run()
    with pytest.raises(ValueError, match="without an adversary"):
        replace(TOY, generator_fixed=True)
