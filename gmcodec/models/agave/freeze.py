# SPDX-License-Identifier: MIT
"""Freeze a trained AGAVE: float torch module -> AgaveModel.

All activations of the VAE and of the conditioner have the unit of the stored table of the ELU, so no units are searched
there.  The decoder is frozen like any PixelCNN++, or shares the layers of a model that is frozen already.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from gmcodec.errors import FreezeError
from gmcodec.exact.gaussian import make_latent_tables
from gmcodec.exact.logistic import LOG_SCALE_UNIT, make_tables
from gmcodec.exact.ops import Layer
from gmcodec.models.agave.float import Agave
from gmcodec.models.agave.latent_state import MEANS_UNIT, AgaveState, Decoder, by_position
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.float import LocalNet
from gmcodec.models.local.freeze import estimate_bits as decoder_bits
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp import freeze as pixelcnnpp_freeze
from gmcodec.models.pixelcnnpp.float import SAMPLE_UNIT
from gmcodec.models.pixelcnnpp.freeze import ConditionsOf
from gmcodec.models.pixelcnnpp.streams import Conditions
from gmcodec.models.shared.activations import MAP_LIMIT, MAP_UNIT, make_elu
from gmcodec.models.shared.family import Base
from gmcodec.models.vae.freeze import integers_of, map_layer, sample_bins, vae_layers
from gmcodec.models.vae.frozen import Constants

LATENT_BITS = 8  # of a latent: near 0, bins are a hundredth of the prior's deviation wide


def freeze(
    net: Agave,
    batches: list[Tensor],
    trials: list[np.ndarray],
    base: Base | None = None,
    latent_bits: int = LATENT_BITS,
) -> AgaveModel:
    """Frozen model of ``net``; ``batches`` and ``trials`` as in pixelcnnpp/freeze.py.

    ``base``: the frozen model from which the decoder was trained on, whose layers it shares; a local decoder needs one.
    Raises FreezeError when a bound cannot be proved, or the base does not fit.
    """
    net = net.eval()
    c = net.config
    layers = _layers(net)
    constants = Constants(
        integers_of(net.vae.top, MAP_UNIT),
        integers_of(net.vae.log_scale, LOG_SCALE_UNIT),
        make_elu(MAP_LIMIT, MAP_UNIT),
    )

    def made(decoder: Decoder | None) -> AgaveModel:
        return AgaveModel(c, layers, constants, make_tables(), make_latent_tables(latent_bits), decoder, base)

    if net.decoder is None:
        return made(None)
    if isinstance(net.decoder, LocalNet):
        if base is None or not isinstance(base.model, LocalModel):
            raise FreezeError("the decoder is a local net: it needs a base whose layers it shares")
        return made(local_freeze.freeze_onto(base.model, net.decoder))
    if base is not None:
        if isinstance(base.model, LocalModel):
            raise FreezeError(f"the decoder is a PixelCNN++, {base.name} is not")
        return made(pixelcnnpp_freeze.freeze_onto(base.model, net.decoder))
    decoder, vae = net.decoder, made(None)  # the model without its decoder is enough to compute conditions

    def floats(images: Tensor) -> list[Tensor]:
        noise = net.vae.noise(len(images), *images.shape[2:])
        return net.conditions(net.means(images, noise)[0], (images.shape[2], images.shape[3]))

    def integers(images: np.ndarray) -> Conditions:
        return by_position(decoder.config, sample_latents(vae, images)[0].conditions())

    return made(pixelcnnpp_freeze.freeze(net.decoder, batches, trials, ConditionsOf(floats, integers)))


def sample_latents(model: AgaveModel, images: np.ndarray, seed: int = 0) -> tuple[AgaveState, np.ndarray]:
    """Sample latents from the posterior of uint8 [B, C, H, W]; returns also log2 q - log2 p, float64 [B]."""
    random, shape = np.random.default_rng(seed), (len(images), *images.shape[1:])
    state, tables = model.latent_state(shape, images), model.latent_tables  # type: ignore[arg-type]
    divergence = np.zeros(len(images))
    for size in state.sizes():
        bins, log_probability = sample_bins(state.posterior(), size, tables.bits, random)
        divergence += (log_probability + tables.bits).reshape(len(images), -1).sum(1)
        state.observe(bins)
    return state, divergence


def estimate_bits(model: AgaveModel, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """A frozen model's own estimate of the bits of uint8 [B, C, H, W], float64 [B]: -ELBO with one sample."""
    state, divergence = sample_latents(model, images, seed)
    return decoder_bits(state.decoder(), images) + divergence


def _layers(net: Agave) -> dict[str, Layer]:
    c = net.config

    def layer(name: str, conv: nn.Module) -> Layer:
        return map_layer(name, conv, limit=c.input_limit(name))

    layers = vae_layers(net.vae, SAMPLE_UNIT, 1 / MEANS_UNIT)
    if net.conditioner is not None:
        layers["told.first"] = layer("told.first", net.conditioner.first)
        for n, conv in enumerate(net.conditioner.shrink):
            layers[f"told.shrink.{n}"] = layer(f"told.shrink.{n}", conv)
        for n, conv in enumerate(net.conditioner.chain):
            layers[f"told.{n}"] = layer(f"told.{n}", conv)
    return {name: layers[name] for name in c.layer_names()}
