# SPDX-License-Identifier: MIT
"""Freeze a trained flow and VAE: float torch modules -> AdeModel.

As in the VAE of AGAVE, activations have one unit for all, so nothing is searched.  What features are beside their means
is counted on images, so that their frequencies are those of the frozen model and not only a Gaussian's.
"""

from __future__ import annotations

import numpy as np

from ..exact.gaussians import make_latent_tables
from ..exact.ops import Layer
from ..exact.tables import LOG_SCALE_UNIT
from .ade import VAE, AdeModel
from .ade_float import Ade, Coupling, Net
from .ade_passage import MULTIPLIER_BITS, SAMPLE_BITS, SAMPLES_UNIT, Passage
from .ade_tables import FEATURE_BINS, Gaussians, make_tables
from .agave import Base, Constants
from .maps import ACTIVATION_LIMIT
from .maps import UNIT as MAP_UNIT
from .pixelcnnpp_kernels import make_elu
from .vae_freeze import drawn_bins, integers_of, map_layer, of_latents, vae_layers

PRIOR_COUNT = 200.0  # samples that Gaussians count for beside those that were counted


def freeze(net: Ade, images: np.ndarray, base: Base) -> AdeModel:
    """Frozen model of ``net``; features are counted on uint8 [N, C, H, W].

    ``base``: an autoregressive model, which codes the first images of a chain.  Raises FreezeError.
    """
    net, c = net.eval(), net.config
    layers = {f"{VAE}{name}": layer for name, layer in vae_layers(net.vae, 1 / MAP_UNIT, 1 / SAMPLES_UNIT).items()}
    for n, coupling in enumerate(net.flow.couplings):
        assert isinstance(coupling, Coupling)
        split = np.repeat([1 / SAMPLES_UNIT, 1 / LOG_SCALE_UNIT], len(coupling.changed))
        layers |= _net_layers(f"flow.{n}", coupling.net, split)
    if net.noise is not None:
        layers |= _net_layers("noise", net.noise, of_latents(4 * c.channels))
    expected = [*c.flow_shapes(), *(f"{VAE}{name}" for name in c.vae.layer_names())]
    elu = make_elu(ACTIVATION_LIMIT, MAP_UNIT)
    constants = Constants(integers_of(net.vae.top, MAP_UNIT), np.zeros(c.vae.planes, np.int32), elu)
    deviations = net.log_deviation.detach().double().exp().flatten(1).numpy() * SAMPLES_UNIT
    shares = np.ones_like(deviations)
    if net.logits is not None:
        shares = net.logits.detach().double().softmax(0).flatten(1).numpy()
    gaussians = Gaussians(shares, deviations)

    def made(masses: np.ndarray) -> AdeModel:
        tables = make_tables(gaussians.shifts, masses)
        ordered = {name: layers[name] for name in expected}
        return AdeModel(c, ordered, constants, tables, make_latent_tables(SAMPLE_BITS), base)

    gaussian = gaussians.masses()
    rest, kinds = _features(made(gaussian), images)
    bins = np.clip((rest >> gaussians.shifts[kinds]) + FEATURE_BINS // 2, 0, FEATURE_BINS)
    bins[bins == FEATURE_BINS] = 0  # outside, either way
    counted = np.bincount(kinds * FEATURE_BINS + bins, minlength=gaussian.size).reshape(gaussian.shape)
    return made(counted + PRIOR_COUNT * gaussian)


def _net_layers(name: str, net: Net, out: np.ndarray) -> dict[str, Layer]:
    layers = {f"{name}.first": map_layer(f"{name}.first", net.first)}
    for n, block in enumerate(net.blocks):
        layers[f"{name}.{n}.first"] = map_layer(f"{name}.{n}.first", block.first)  # type: ignore[arg-type]
        layers[f"{name}.{n}.second"] = map_layer(f"{name}.{n}.second", block.second)  # type: ignore[arg-type]
    layers[f"{name}.last"] = map_layer(f"{name}.last", net.last, out=out)
    if net.linear is not None:
        layers[f"{name}.linear"] = map_layer(f"{name}.linear", net.linear, out=1 / SAMPLES_UNIT)
    return layers


def _features(model: AdeModel, images: np.ndarray, batch: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """What features of images are beside their means, int64, and their kinds; noise, remainders, latents are drawn."""
    random, rests, kinds = np.random.default_rng(0), [], []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        passage = Passage(model, (len(part), *part.shape[1:]))
        noise, posterior = random.integers(1 << SAMPLE_BITS, size=part.size), passage.noise(part)
        if posterior is not None:
            noise = drawn_bins(posterior, part.size, SAMPLE_BITS, random)[0]
        passage.enter(part, noise)
        for n in range(passage.couplings):
            mean, scale = passage.affine(n)
            passage.change(n, ((passage.changed(n) - mean) * scale + random.integers(scale)) >> MULTIPLIER_BITS)
        walk = passage.walk(True)
        for size in walk.sizes():
            walk.observe(drawn_bins(walk.posterior(), size, SAMPLE_BITS, random)[0])
        rests.append(passage.features() - walk.means().ravel())
        kinds.append(passage.kinds())
    return np.concatenate(rests), np.concatenate(kinds)
