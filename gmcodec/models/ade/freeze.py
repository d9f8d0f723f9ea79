# SPDX-License-Identifier: MIT
"""Freeze a trained flow and VAE: float torch modules -> AdeModel.

All activations of the VAE have one unit, as in AGAVE.  The net of a coupling has a unit of its own if it has leaky
ReLUs: a power of two with which the activations of some images fit.  The differences between features and their means
are counted on images, so that their frequencies are those of the frozen model, not only those of a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gmcodec.exact.gaussian import make_latent_tables
from gmcodec.exact.logistic import LOG_SCALE_UNIT
from gmcodec.exact.ops import Layer
from gmcodec.models.ade.config import VAE_PREFIX
from gmcodec.models.ade.float import Ade, Coupling, Net
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.ade.tables import (
    COUPLING_SCALE_BITS,
    FEATURE_BINS,
    SAMPLE_BITS,
    SAMPLES_UNIT,
    Gaussians,
    make_tables,
)
from gmcodec.models.shared.activations import MAP_LIMIT, MAP_UNIT, make_elu
from gmcodec.models.shared.family import Base
from gmcodec.models.vae.freeze import integers_of, latent_units, map_layer, sample_bins, vae_layers
from gmcodec.models.vae.frozen import Constants

IMAGES_AT_ONCE = 50
ACTIVATION_MARGIN = 1.5  # factor over the largest activation found on images
PRIOR_COUNT = 200.0  # weight of the Gaussians, in samples, against the counts


def freeze(net: Ade, images: np.ndarray, base: Base) -> AdeModel:
    """Frozen model of ``net``; features are counted on uint8 [N, C, H, W].

    ``base``: an autoregressive model, which codes the first images of a chain.  Raises FreezeError.
    """
    net, c = net.eval(), net.config
    units = _units(net, images)
    layers = {
        f"{VAE_PREFIX}{name}": layer for name, layer in vae_layers(net.vae, 1 / MAP_UNIT, 1 / SAMPLES_UNIT).items()
    }
    for n, coupling in enumerate(net.flow.couplings):
        assert isinstance(coupling, Coupling)
        split = np.repeat([1 / SAMPLES_UNIT, 1 / LOG_SCALE_UNIT], len(coupling.changed))
        layers |= _net_layers(f"flow.{n}", coupling.net, split, units[coupling.net])
    if net.noise is not None:
        layers |= _net_layers("noise", net.noise, latent_units(4 * c.channels), units[net.noise])
    expected = [*c.flow_shapes(), *(f"{VAE_PREFIX}{name}" for name in c.vae.layer_names())]
    elu = make_elu(MAP_LIMIT, MAP_UNIT)
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
    bins[bins == FEATURE_BINS] = 0  # bin 0 is for both sides
    counted = np.bincount(kinds * FEATURE_BINS + bins, minlength=gaussian.size).reshape(gaussian.shape)
    return made(counted + PRIOR_COUNT * gaussian)


@torch.no_grad()
def _units(net: Ade, images: np.ndarray) -> dict[Net, int]:
    """The integer for an activation of 1.0, for every net of a coupling and of the noise."""
    largest: dict[Net, float] = {}

    def watch(inner: Net) -> Callable[..., None]:
        def record(layer: object, inputs: object, outputs: Tensor) -> None:
            largest[inner] = max(largest[inner], outputs.abs().max().item())

        return record

    nets = [module for module in net.modules() if isinstance(module, Net)]
    if net.config.nonlinearity != "leaky":  # the unit of the table of the ELU
        return dict.fromkeys(nets, MAP_UNIT)
    hooks = []
    for inner in nets:
        largest[inner] = 0.0
        watched = [inner.first, *inner.blocks, *(block.first for block in inner.blocks)]  # type: ignore[union-attr]
        hooks += [layer.register_forward_hook(watch(inner)) for layer in watched]  # type: ignore[union-attr, arg-type]
    for start in range(0, len(images), IMAGES_AT_ONCE):
        net.terms(torch.from_numpy(images[start : start + IMAGES_AT_ONCE]))
    for hook in hooks:
        hook.remove()
    limits = {inner: MAP_LIMIT / (ACTIVATION_MARGIN * max(found, 1.0)) for inner, found in largest.items()}
    return {inner: min(MAP_UNIT, 1 << int(np.log2(limit))) for inner, limit in limits.items()}


def _net_layers(name: str, net: Net, out: np.ndarray, steps: int) -> dict[str, Layer]:
    unit = 1 / steps
    layers = {f"{name}.first": map_layer(f"{name}.first", net.first, out=unit)}
    for n, block in enumerate(net.blocks):
        for part in ("first", "second"):
            layer = f"{name}.{n}.{part}"
            layers[layer] = map_layer(layer, getattr(block, part), unit=unit, out=unit)
    layers[f"{name}.last"] = map_layer(f"{name}.last", net.last, unit=unit, out=out)
    if net.linear is not None:
        layers[f"{name}.linear"] = map_layer(f"{name}.linear", net.linear, out=1 / SAMPLES_UNIT)
    return layers


def _features(model: AdeModel, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of images minus their means, int64, and their kinds; noise, remainders and latents are sampled."""
    random, rests, kinds = np.random.default_rng(0), [], []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        part = images[start : start + IMAGES_AT_ONCE]
        state = model.flow_state((len(part), *part.shape[1:]))
        noise, posterior = random.integers(1 << SAMPLE_BITS, size=part.size), state.noise(part)
        if posterior is not None:
            noise = sample_bins(posterior, part.size, SAMPLE_BITS, random)[0]
        state.from_pixels(part, noise)
        for n in range(state.couplings):
            mean, scale = state.affine(n)
            state.change(n, ((state.changed(n) - mean) * scale + random.integers(scale)) >> COUPLING_SCALE_BITS)
        latents = state.latent_state(True)
        for size in latents.sizes():
            latents.observe(sample_bins(latents.posterior(), size, SAMPLE_BITS, random)[0])
        rests.append(state.features() - latents.means().ravel())
        kinds.append(state.kinds())
    return np.concatenate(rests), np.concatenate(kinds)
