# SPDX-License-Identifier: MIT
"""Freeze a trained AGAVE: float torch module -> AgaveModel.

Activations of the VAE and of the conditioner have one unit for all, that of the stored table of ELU, so nothing is
searched there; the decoder is frozen as any PixelCNN++, or shares the layers of one that is frozen already.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from ..errors import FreezeError
from ..exact import gaussians
from ..exact.freeze import freeze_layer
from ..exact.gaussians import make_latent_tables
from ..exact.ops import INT32_BOUND, Layer
from ..exact.tables import LOG_SCALE_UNIT, ROW_TOTAL, make_tables
from . import local_freeze, pixelcnnpp_freeze
from .agave import AgaveModel, Base, Constants, Decoder
from .agave_float import Agave, Residual, Stage
from .agave_walk import ACTIVATION_LIMIT, MEANS_OF_LATENTS_UNIT, MEANS_UNIT, UNIT, AgaveWalk, by_position
from .local import LocalModel
from .local_float import LocalNet
from .local_freeze import estimate_bits as decoder_bits
from .pixelcnnpp import Conditions
from .pixelcnnpp_float import SAMPLE_UNIT, Conv
from .pixelcnnpp_freeze import Told, position_major
from .pixelcnnpp_kernels import make_elu

LATENT_BITS = 8  # of a latent; bins are then a hundredth of the prior's deviation wide where most of them are


def freeze(
    net: Agave,
    batches: list[Tensor],
    trials: list[np.ndarray],
    base: Base | None = None,
    latent_bits: int = LATENT_BITS,
) -> AgaveModel:
    """Frozen model of ``net``, calibrated and compared as in pixelcnnpp_freeze.py.

    ``base``: the frozen model that the decoder was trained on from, to share its layers; a local net needs one.
    Raises FreezeError when a bound cannot be proved, or the base is another net.
    """
    net = net.eval()
    c = net.config
    layers = _layers(net)
    constants = Constants(
        _integers(net.vae.top, UNIT), _integers(net.vae.log_scale, LOG_SCALE_UNIT), make_elu(ACTIVATION_LIMIT, UNIT)
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
    decoder, without = net.decoder, made(None)  # enough to know what the decoder is told

    def floats(images: Tensor) -> list[Tensor]:
        noise = net.vae.noise(len(images), *images.shape[2:])
        return net.conditions(net.vae(noise, net.vae.features(images))[0], (images.shape[2], images.shape[3]))

    def integers(images: np.ndarray) -> Conditions:
        return by_position(decoder.config, drawn(without, images)[0].conditions())

    return made(pixelcnnpp_freeze.freeze(net.decoder, batches, trials, Told(floats, integers)))


def drawn(model: AgaveModel, images: np.ndarray, seed: int = 0) -> tuple[AgaveWalk, np.ndarray]:
    """The way through latents drawn from the posterior of uint8 [B, C, H, W], and their bits log q - log p, [B]."""
    random, shape = np.random.default_rng(seed), (len(images), *images.shape[1:])
    walk, tables = model.walk(shape, images), model.latent_tables  # type: ignore[arg-type]
    divergence = np.zeros(len(images))
    for size in walk.sizes():
        posterior, bins, share = walk.posterior(), np.zeros(size, np.int64), np.zeros(size)
        for shift in range(tables.bits - 4, -1, -4):  # as a coder does, which needs what is drawn to be what is coded
            rows = posterior.rows(bins, 1 << shift)
            nibble = (random.integers(ROW_TOTAL, size=(size, 1)) >= rows.cumsum(1)).sum(1)
            share += np.log2(rows[np.arange(size), nibble] / ROW_TOTAL)
            bins += nibble << shift
        divergence += (share + tables.bits).reshape(len(images), -1).sum(1)
        walk.observe(bins)
    return walk, divergence


def estimate_bits(model: AgaveModel, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """A frozen model's own estimate for uint8 [B, C, H, W], -ELBO with one sample: bits of each image, float64 [B]."""
    walk, divergence = drawn(model, images, seed)
    return decoder_bits(walk.given(), images) + divergence


def _integers(values: Tensor, unit: int) -> np.ndarray:
    return np.rint(values.detach().double().cpu().numpy() * unit).astype(np.int32)


def _layers(net: Agave) -> dict[str, Layer]:
    c, vae = net.config, net.vae
    layers: dict[str, Layer] = {}

    def add(name: str, *convs: nn.Module, unit: float = 1 / UNIT, out: float | np.ndarray = 1 / UNIT) -> None:
        """One layer of convolutions side by side, of maps whose features are one after the other."""
        parts, biases, bits = [], [], 8
        for conv in convs:
            assert isinstance(conv, Conv)
            inputs, rows, columns = conv.kernel
            parts.append(position_major(conv).reshape(-1, rows * columns, inputs))
            biases.append(conv.bias.detach().double().cpu().numpy())
            bits = max(bits, conv.bits)
        weight = np.concatenate(parts, 2)
        limit = c.input_limit(name)
        layers[name] = freeze_layer(
            name, weight.reshape(len(weight), -1), np.sum(biases, 0), unit, out, limit, bits, INT32_BOUND // 2
        )

    split = np.repeat([1 / MEANS_OF_LATENTS_UNIT, 1 / gaussians.LOG_SCALE_UNIT], c.latents)
    add("first", vae.first, unit=SAMPLE_UNIT)
    for level, blocks in enumerate(c.groups):
        for n in range(blocks):
            block = vae.up[level][n]  # type: ignore[index]
            assert isinstance(block, Residual)
            add(f"up.{level}.{n}.first", block.first)
            add(f"up.{level}.{n}.second", block.second)
    for n in range(len(c.filters) - 1):
        add(f"shrink.{n}", vae.shrink[n])
        add(f"grow.{n}", vae.grow[n])
    for k, stage in enumerate(vae.stages):
        assert isinstance(stage, Stage)
        name = f"stages.{k}"
        if stage.prior is not None:
            add(f"{name}.prior", stage.prior, out=split)
        add(f"{name}.posterior", stage.posterior_up, stage.posterior_down, out=split)
        if stage.flow is not None:
            add(f"{name}.flow.first", stage.flow.first, stage.flow.context)
            add(f"{name}.flow.last", stage.flow.last, out=split)
        add(f"{name}.inner", stage.features, stage.latents)
        add(f"{name}.second", stage.second)
    for n in range(c.doublings):
        add(f"finer.{n}", vae.finer[n])
    add("last", vae.last, out=1 / MEANS_UNIT)
    if net.conditioner is not None:
        add("told.first", net.conditioner.first)
        for n, layer in enumerate(net.conditioner.shrink):
            add(f"told.shrink.{n}", layer)
        for n, layer in enumerate(net.conditioner.chain):
            add(f"told.{n}", layer)
    return {name: layers[name] for name in c.layer_names()}
