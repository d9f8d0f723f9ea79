# SPDX-License-Identifier: MIT
"""AGAVE as a float net: its likelihoods are what the thesis says, it trains in parts, and freezing costs little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from PIL import Image
from test_pixelcnnpp import images
from toy import smooth, write_photos

from gmcodec import codec
from gmcodec.errors import FreezeError, TrainingError, WeightsError
from gmcodec.models import registry, weights
from gmcodec.models.agave import freeze as agave_freeze
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.float import Agave, Terms, auxiliary_image, importance_bits, logistic_bits
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.freeze import estimate_bits, spread_units
from gmcodec.models.pixelcnnpp import freeze as pixelcnnpp_freeze
from gmcodec.models.pixelcnnpp.float import Condition, PixelCNN
from gmcodec.models.shared.family import Base
from gmcodec.models.vae.float import Flow
from gmcodec.training import freezing
from gmcodec.training.freezing import freeze_file
from gmcodec.training.loop import Trainer
from gmcodec.training.losses import bits_per_dimension, objective_bits
from gmcodec.training.nets import load_float, load_whole, of_condition, preset_from_dict, preset_to_dict, read_config
from gmcodec.training.presets import PRESETS, Objective, Preset

TOY = PRESETS["toy-agave"]
assert isinstance(TOY.model, AgaveConfig)
CONFIG: AgaveConfig = TOY.model
GAUSSIAN = replace(CONFIG, posterior="gaussian", hidden=0, stride=2, auxiliary=2)
PLAIN = replace(CONFIG, posterior="gaussian", hidden=0, decoder=None)
KINDS = {"flow": CONFIG, "gaussian": GAUSSIAN, "plain": PLAIN, "grey y": replace(GAUSSIAN, grey=True, levels=16)}


DRAWS = 20  # of latents, of which means are compared


def made(config: AgaveConfig) -> Agave:
    """An initialised net, whose latents matter: layers with small gains are made louder."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    net = Agave(config).eval()
    net.initialise(images(6))
    for stage in net.vae.stages:
        for layer in (stage.posterior_up, stage.posterior_down, stage.second):
            layer.length.data.mul_(2)
    if config.decoder:
        net.vae.last.length.data.mul_(3)
    for module in net.modules():
        if isinstance(module, Condition):
            torch.nn.init.normal_(module.weight, std=0.1)
    return net


# -- likelihoods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_divergence_is_the_mean_of_the_sampled_one(kind: str) -> None:
    net, batch = made(KINDS[kind]), images(2)
    torch.manual_seed(0)
    with torch.no_grad():
        features = net.vae.features(batch)
        drawn = [net.vae(net.vae.noise(2, 16, 16), features)[2] for _ in range(200)]
    sampled = torch.stack([d.sampled for d in drawn])
    expected = torch.stack([d.expected for d in drawn])
    # the posterior of a group depends on the groups before it: both vary
    error = (sampled - expected).std(0) / 200**0.5
    assert ((sampled - expected).mean(0).abs() <= 4 * error).all()
    assert (error < 0.1 * expected.mean(0)).all()
    assert (expected > 0).all() if kind != "flow" else (expected.mean(0) > 0).all()


@pytest.mark.slow
def test_more_importance_samples_make_a_tighter_bound() -> None:
    net, batch = made(PLAIN), images(4)
    torch.manual_seed(0)
    with torch.no_grad():
        elbo = torch.stack([net.terms(batch).bound for _ in range(60)]).mean(0)
        one = torch.stack([importance_bits(net, batch, 1) for _ in range(60)]).mean(0)
    few, many = importance_bits(net, batch, 8).mean(), importance_bits(net, batch, 60).mean()
    assert one.mean() == pytest.approx(elbo.mean().item(), rel=0.01)
    assert many < few < elbo.mean()


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_probabilities_of_all_colours_sum_to_one(levels: int) -> None:
    y = (torch.arange(levels) * (256 // levels)).float().view(levels, 1, 1, 1)
    for mean, log_scale in ((128.0, 3.0), (3.0, 1.0), (250.5, 5.0), (100.2, -0.5)):
        bits = logistic_bits(y, torch.full((levels, 1, 1, 1), mean), torch.tensor([log_scale]), levels)
        assert torch.exp2(-bits.double()).sum() == pytest.approx(1.0, abs=1e-4)


def test_auxiliary_images() -> None:
    batch = images(2)
    assert torch.equal(auxiliary_image(PLAIN, batch), batch.float())
    small = auxiliary_image(GAUSSIAN, batch)
    assert small.shape == (2, 3, 8, 8)
    assert small[1, 2, 3, 4] == batch[1, 2, 6:8, 8:10].float().mean().round()
    grey = auxiliary_image(replace(PLAIN, grey=True), batch)
    assert grey.shape == (2, 1, 16, 16)
    assert grey[0, 0, 5, 6] == batch[0, :, 5, 6].float().mean().round()


def test_a_flow_is_autoregressive_over_channels() -> None:
    flow = Flow(replace(CONFIG, latents=4, hidden=9), 5).eval()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter)
    e0, features = torch.randn(1, 4, 3, 3), torch.randn(1, 5, 3, 3)
    with torch.no_grad():
        before = torch.cat(flow(e0, features), 1)
        for channel in range(4):
            changed = e0.clone()
            changed[:, channel, 1, 1] += 1
            moved = (torch.cat(flow(changed, features), 1) != before).any(3).any(2)[0]
            assert not moved[: channel + 1].any()
            assert not moved[4 : 4 + channel + 1].any()
            assert moved[channel + 1 : 4].all()


def test_the_decoder_sees_the_latents_only_through_its_condition() -> None:
    net, batch = made(CONFIG), images(2)
    noise = [net.vae.noise(2, 16, 16) for _ in range(2)]
    with torch.no_grad():
        assert not torch.equal(net.terms(batch, noise=noise[0]).primary, net.terms(batch, noise=noise[1]).primary)
        for module in net.modules():
            if isinstance(module, Condition):
                module.weight.data.zero_()
        assert torch.equal(net.terms(batch, noise=noise[0]).primary, net.terms(batch, noise=noise[1]).primary)
        assert net.decoder is not None
        alone = net.decoder.bits(batch).view(2, -1).sum(1)
        assert torch.allclose(net.terms(batch).primary, alone, rtol=1e-5)


def test_samples_of_the_prior() -> None:
    net = made(GAUSSIAN)
    means, latents, divergence = net.vae(net.vae.noise(3, 16, 16))
    assert means.shape == (3, 3, 8, 8)
    assert [e.shape[1:] for e in latents] == [(3, 4, 4), (3, 4, 4), (3, 8, 8)]
    assert not divergence.expected.any()


# -- objective -----------------------------------------------------------------------------------------------


def test_the_objective_is_that_of_the_thesis() -> None:
    terms = Terms(*(torch.tensor(x) for x in ([10.0, 20.0], [3.0, 5.0], [[1.0, 4.0], [3.0, 0.0]], [[9.0, 9.0]] * 2)))
    assert objective_bits(Objective(8.0), terms, plain=False) == 15 + 4 + 8 * (2 + 2)
    assert objective_bits(Objective(8.0, auxiliary=False), terms, plain=False) == 15 + 8 * 4
    assert objective_bits(Objective(2.0), terms, plain=True) == 4 + 2 * 4
    assert objective_bits(Objective(1.0, free_bits=2.5), terms, plain=False) == 15 + 4 + 5
    assert bits_per_dimension(terms, 2) == {"elbo": 9.5, "primary": 7.5, "auxiliary": 2.0, "kl": 2.0}
    for wrong in ({"strength": 0.5}, {"free_bits": -1.0}):
        with pytest.raises(ValueError, match="lambda"):
            Objective(**wrong)


@pytest.mark.parametrize("name", ["vae", "agave", "agave-small", "agave-published", "toy-agave"])
def test_presets_survive_a_checkpoint(name: str) -> None:
    preset = PRESETS[name]
    assert preset_from_dict(preset_to_dict(preset)) == preset


# -- training ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaics")
    mosaic = images(24).numpy().reshape(4, 6, 3, 16, 16).transpose(0, 3, 1, 4, 2).reshape(64, 96, 3)
    Image.fromarray(mosaic).save(folder / "train_0.png")
    return folder


def trainer(folder: Path, out: Path, init: tuple[Path, ...] = (), **changes: object) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(replace(TOY, **changes), folder, 4, out, bf16=False, progress=False, init=init)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"adamax": True, "decay_from": 1.0}, {"model": PLAIN}], ids=str)
def test_training_lowers_the_bound(mosaics: Path, tmp_path: Path, changes: dict) -> None:
    run = trainer(mosaics, tmp_path / "run", **{"steps": 30, **changes})
    before = run.validate()
    assert run.validate() == before  # latents are drawn the same every time
    assert run.run(validate_every=15)
    assert run.validate() < before - 0.02
    assert run.history[-1][2] == pytest.approx(run.validate())
    assert read_config(tmp_path / "run" / "float.safetensors") == run.preset.model


@pytest.mark.slow
def test_parts_are_trained_apart_and_then_together(mosaics: Path, tmp_path: Path) -> None:
    decoder = replace(CONFIG.decoder, condition=0)
    vae = trainer(mosaics, tmp_path / "vae", steps=5, model=replace(CONFIG, decoder=None))
    vae.run()
    alone = trainer(mosaics, tmp_path / "decoder", steps=5, model=decoder, objective=None)
    alone.run()
    parts = tuple(tmp_path / part / "float.safetensors" for part in ("vae", "decoder"))
    with pytest.raises(TrainingError, match="load its weights first"):
        trainer(mosaics, tmp_path / "x", parts[:1], decoder_fixed=True).run()
    run = trainer(mosaics, tmp_path / "joint", parts, steps=4, decoder_fixed=True)
    before = {name: p.detach().clone() for name, p in run.net.named_parameters()}
    for name, parameter in alone.ema.named_parameters():
        assert torch.equal(before[f"decoder.{name}"], parameter.half().float())
    for name, parameter in vae.ema.named_parameters():
        assert torch.equal(before[name], parameter.half().float())
    assert all(not p.any() for name, p in before.items() if of_condition(name))
    run.run()
    for name, parameter in run.net.named_parameters():
        fixed = name.startswith("decoder.") and not of_condition(name)
        assert torch.equal(parameter, before[name]) == fixed, name
    kept = tmp_path / "joint" / "float.safetensors"  # without what stays as it is
    assert kept.stat().st_size < (tmp_path / "vae" / "float.safetensors").stat().st_size * 1.5
    with pytest.raises(TrainingError, match=r"does not hold all weights: decoder"):
        load_whole([kept])
    net = load_whole([kept, parts[1]])
    for name, parameter in run.ema.named_parameters():
        assert torch.allclose(dict(net.named_parameters())[name], parameter, atol=1e-3, rtol=1e-3), name
    report = freeze_file([kept, parts[1]], mosaics, 4, tmp_path / "frozen.safetensors")
    assert report.frozen_bpsp == pytest.approx(report.float_bpsp, rel=0.02)
    again = trainer(mosaics, tmp_path / "joint", steps=6, decoder_fixed=True)
    again.resume()
    again.run()
    assert again.step == 6
    more = replace(CONFIG, decoder=replace(CONFIG.decoder, blocks=(1, 2)))
    with pytest.raises(TrainingError, match="does not hold weights"):
        trainer(mosaics, tmp_path / "x", (parts[1],), model=more)
    with pytest.raises(TrainingError, match="does not hold weights"):
        load_float(PixelCNN(decoder), parts[0])


# -- freezing ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for units would find that clipping an untrained net helps it."""
    monkeypatch.setattr(pixelcnnpp_freeze, "search_units", lambda peaks, bits: spread_units(peaks, 0.75))


@pytest.mark.parametrize(("kind", "nonlinearity"), [*((kind, "elu") for kind in KINDS), ("flow", "leaky")])
def test_a_frozen_net_says_almost_the_same(kind: str, nonlinearity: str) -> None:
    net, batch = made(replace(KINDS[kind], nonlinearity=nonlinearity)), images(6)
    torch.manual_seed(0)
    with torch.no_grad():
        terms = [net.terms(batch) for _ in range(DRAWS)]
    model = agave_freeze.freeze(net, [batch], [batch[:2].numpy()], latent_bits=16)
    estimates = [agave_freeze.sample_latents(model, batch.numpy(), seed) for seed in range(DRAWS)]
    divergence = np.mean([bits for _, bits in estimates])
    assert divergence == pytest.approx(np.mean([t.sampled.sum(1).mean() for t in terms]), rel=0.15)
    estimate = np.mean([agave_freeze.estimate_bits(model, batch.numpy(), seed) for seed in range(DRAWS)])
    assert estimate == pytest.approx(np.mean([t.bound.mean() for t in terms]), rel=0.025)
    assert max(layer.product_bound for layer in model.layers.values()) < 2**30
    data = weights.to_bytes(model)
    assert weights.to_bytes(weights.from_bytes(data)) == data


@pytest.mark.parametrize("upper", [0, 5])
def test_a_decoder_shares_the_layers_that_it_was_trained_on_from(upper: int) -> None:
    filters = (8, 12, 10)
    decoder = replace(CONFIG.decoder, filters=filters, blocks=(1, 1, 1), upper=upper, nonlinearity="leaky")
    net, batch = made(replace(CONFIG, decoder=decoder)), images(6)
    plain = PixelCNN(replace(decoder, condition=0)).eval()
    plain.load_state_dict({n: p for n, p in net.decoder.state_dict().items() if not of_condition(n)})
    frozen = pixelcnnpp_freeze.freeze(plain, [batch], [batch[:2].numpy()])
    base = Base("pixelcnnpp", bytes(4), frozen)
    model = agave_freeze.freeze(net, [batch], [batch[:2].numpy()], base)
    for name, layer in frozen.layers.items():
        assert model.decoder.layers[name] is layer
    # without latents it is the base, with latents the float net
    assert np.array_equal(estimate_bits(model.plain, batch.numpy()), estimate_bits(frozen, batch.numpy()))
    torch.manual_seed(0)
    with torch.no_grad():
        expected = torch.stack([net.terms(batch).bound for _ in range(20)]).mean(0).numpy()
    assert agave_freeze.estimate_bits(model, batch.numpy()) == pytest.approx(expected, rel=0.02)
    # units are found again as they were
    peaks = pixelcnnpp_freeze.activation_peaks(plain, [batch])
    units, places = spread_units(peaks, 0.75), pixelcnnpp_freeze._Segments(plain)
    for name, unit in pixelcnnpp_freeze._found_units(frozen, net.decoder).items():
        assert unit == pytest.approx(units[places.stream[name]], rel=0.01)
    net.decoder.first_left.weight.data.mul_(-1)
    with pytest.raises(FreezeError, match="not the weights that the base"):
        agave_freeze.freeze(net, [batch], [batch[:2].numpy()], base)
    with pytest.raises(FreezeError, match="is not the base"):
        pixelcnnpp_freeze.freeze_onto(frozen, PixelCNN(replace(decoder, mixtures=4)))


def test_preset_objects_are_what_they_say() -> None:
    assert isinstance(PRESETS["agave"], Preset)
    assert PRESETS["agave"].decoder_fixed
    assert PRESETS["agave"].model.decoder.filters == PRESETS["pixelcnnpp-medium"].model.filters


# -- photographs ---------------------------------------------------------------------------------------------

SMALL_WINDOW = LocalConfig(channels=3, radius2=9, slope=3, width=16, blocks=1, mixtures=3, neighbours=4)
OF_PHOTOGRAPHS = AgaveConfig(
    channels=3, filters=(6, 8), groups=(1, 1), latents=2, stride=2, posterior="gaussian", hidden=0, nonlinearity="elu",
    auxiliary=2, levels=256, grey=False, decoder=replace(SMALL_WINDOW, condition=4),
)  # fmt: skip
PHOTOGRAPHS = Preset(
    "", OF_PHOTOGRAPHS,
    16, 4, 40, 0.02, 3e-3, 0.4, 0.8, 0.9, 3, objective=Objective(1.0, auxiliary=False), decoder_fixed=True,
)  # fmt: skip


@pytest.mark.slow
def test_photographs_have_a_local_net_as_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, then frozen onto the frozen decoder, whose layers it shares; an image is coded and decoded with it."""
    torch.set_num_threads(1)
    folder = write_photos(tmp_path / "photos", 40, 48)

    def trained(preset: Preset, out: Path, init: tuple[Path, ...] = ()) -> Trainer:
        run = Trainer(preset, folder, folder, out, bf16=False, progress=False, init=init)
        run.run()
        return run

    alone = trained(replace(PRESETS["toy-rgb"], model=SMALL_WINDOW), tmp_path / "alone")
    start = tmp_path / "alone" / "float.safetensors"
    run = trained(PHOTOGRAPHS, tmp_path / "run", (start,))
    for name, parameter in alone.ema.named_parameters():
        assert torch.equal(dict(run.net.decoder.named_parameters())[name], parameter.half().float())
    assert all(weight.any() for weight in run.net.decoder.condition)
    padded = run.validation[0].images
    assert run.net.inner(torch.from_numpy(padded)).shape == (1, 3, 40, 48)
    with torch.no_grad():  # without a condition it is the net that it started from
        padded = torch.from_numpy(padded)
        assert torch.allclose(run.ema.decoder.bits(padded), alone.ema.bits(padded), atol=0.05)

    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(freezing, "CALIBRATION_SIDE", 32)
    freeze_file([start], folder, folder, tmp_path / "local-rgb.safetensors")
    kept, out = tmp_path / "run" / "float.safetensors", tmp_path / "agave-rgb.safetensors"
    with pytest.raises(FreezeError, match="needs a base"):
        freeze_file([kept, start], folder, folder, out)
    report = freeze_file([kept, start], folder, folder, out, base="local-rgb")
    assert report.frozen_bpsp == pytest.approx(report.float_bpsp, rel=0.02)
    base = registry.named("local-rgb").model
    assert registry.named("agave-rgb").model.decoder.layers["first"] is base.layers["first"]
    planes = codec.to_planes(smooth(np.random.default_rng(1), (3, 43, 29)).transpose(1, 2, 0))
    assert codec.decode_planes(codec.encode_planes(planes, code="agave").data) == planes
    base.layers["last"].bias[0] += 1
    weights.write(base, tmp_path / "local-rgb.safetensors")
    registry._load.cache_clear()
    with pytest.raises(WeightsError, match="these weights need"):
        registry.named("agave-rgb")
