# SPDX-License-Identifier: MIT
"""Tiny frozen models of random integers, made without torch: they predict smooth images tolerably.

model(3), model(1)       LocalModel of RGB, of grey
pixelcnn(config)         PixelCNNModel of an architecture, one of PIXELCNN
agave(config)            AgaveModel of an architecture, one of AGAVE
ade(config)              AdeModel of an architecture, one of FLOWS
write_weights(folder)    weights of every model of the registry, as GMCODEC_WEIGHTS wants them
smooth(random, shape)    an image that they compress; uint8
image(kind, shape, seed) that, noise, or extremes
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from gmcodec import native
from gmcodec.exact.gaussian import make_latent_tables
from gmcodec.exact.logistic import COUPLING_BITS, LOG_SCALE_UNIT, POSITION, make_tables
from gmcodec.exact.ops import Layer
from gmcodec.models import weights
from gmcodec.models.ade.config import VAE_PREFIX, AdeConfig
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.ade.tables import Gaussians
from gmcodec.models.ade.tables import make_tables as make_flow_tables
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.latent_state import Decoder
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.gradient_units import with_gradient_units
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import make_net_tables
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, INPUT_LIMIT, MAP_LIMIT, make_elu
from gmcodec.models.shared.family import Base
from gmcodec.models.shared.window import Window
from gmcodec.models.vae.frozen import Constants

CONFIGS = {
    channels: LocalConfig(channels=channels, radius2=9, slope=3, width=16, blocks=1, mixtures=3, neighbours=4)
    for channels in (3, 1)
}
FILES = {3: "local-rgb.safetensors", 1: "local-grey.safetensors"}
LEARNING = (
    (3, "local-rgb-fast.safetensors"),
    (3, "learning-rgb.safetensors"),
    (3, "learning-rgb-fast.safetensors"),
    (3, "learning-rgb16.safetensors"),
    (1, "learning-grey.safetensors"),
)
# as in the paper, with three resolutions; pointwise at the finest one; grey with one resolution
PIXELCNN = {
    "gated": PixelCNNConfig(
        channels=3,
        filters=(3, 4, 5),
        blocks=(1, 2, 1),
        upper=0,
        radius2=5,
        neighbours=4,
        rows=2,
        columns=1,
        mixtures=3,
        nonlinearity="concat_elu",
        dropout=0.0,
        weight_norm=False,
        condition=0,
    ),
    "pointwise": PixelCNNConfig(
        channels=3,
        filters=(8, 4, 5),
        blocks=(2, 1, 1),
        upper=3,
        radius2=9,
        neighbours=4,
        rows=3,
        columns=2,
        mixtures=3,
        nonlinearity="leaky",
        dropout=0.0,
        weight_norm=False,
        condition=0,
    ),
    "grey": PixelCNNConfig(
        channels=1,
        filters=(6,),
        blocks=(1,),
        upper=0,
        radius2=4,
        neighbours=3,
        rows=2,
        columns=2,
        mixtures=2,
        nonlinearity="elu",
        dropout=0.0,
        weight_norm=False,
        condition=0,
    ),
}
# two resolutions and a small y; a flow, grey y, a decoder with pointwise blocks; a plain VAE; for any size
AGAVE = {
    "two": AgaveConfig(
        channels=3,
        filters=(4, 6),
        groups=(1, 2),
        latents=3,
        stride=2,
        posterior="gaussian",
        hidden=0,
        nonlinearity="elu",
        auxiliary=2,
        levels=256,
        grey=False,
        decoder=replace(PIXELCNN["gated"], condition=3),
    ),
    "flow": AgaveConfig(
        channels=3,
        filters=(5,),
        groups=(2,),
        latents=3,
        stride=4,
        posterior="iaf",
        hidden=6,
        nonlinearity="leaky",
        auxiliary=1,
        levels=16,
        grey=True,
        decoder=replace(PIXELCNN["pointwise"], condition=4),
    ),
    "plain": AgaveConfig(
        channels=3,
        filters=(5, 4),
        groups=(1, 1),
        latents=2,
        stride=4,
        posterior="gaussian",
        hidden=0,
        nonlinearity="elu",
        auxiliary=1,
        levels=256,
        grey=False,
        decoder=None,
    ),
    "local": AgaveConfig(
        channels=3,
        filters=(5, 4),
        groups=(1, 1),
        latents=2,
        stride=2,
        posterior="gaussian",
        hidden=0,
        nonlinearity="elu",
        auxiliary=2,
        levels=256,
        grey=False,
        decoder=replace(CONFIGS[3], condition=3),
    ),
}
_CELLS = AgaveConfig(
    channels=12,
    filters=(5, 4),
    groups=(1, 1),
    latents=2,
    stride=1,
    posterior="gaussian",
    hidden=0,
    nonlinearity="elu",
    auxiliary=1,
    levels=256,
    grey=False,
    decoder=None,
)
# the thesis' couplings with a posterior flow; two scales by colour and noise from a net; no flow at all
FLOWS = {
    "checker": AdeConfig(
        channels=3,
        scales=(("bc:rgb", "ad:rgb", "bc:rgb"),),
        filters=6,
        blocks=2,
        window=3,
        kernels=(3, 1),
        nonlinearity="elu",
        weight_norm=True,
        dequantisation="uniform",
        noise=0,
        mixtures=1,
        vae=replace(_CELLS, filters=(5,), groups=(2,), posterior="iaf", hidden=4),
    ),
    "colours": AdeConfig(
        channels=3,
        scales=(("bc:b", "d:rg"), ("bc:rgb", "a:b")),
        filters=5,
        blocks=1,
        window=5,
        kernels=(1, 3),
        nonlinearity="leaky",
        weight_norm=False,
        dequantisation="variational",
        noise=4,
        mixtures=2,
        vae=_CELLS,
    ),
    "none": AdeConfig(
        channels=3,
        scales=(),
        filters=1,
        blocks=1,
        window=1,
        kernels=(1, 1),
        nonlinearity="leaky",
        weight_norm=False,
        dequantisation="uniform",
        noise=0,
        mixtures=1,
        vae=_CELLS,
    ),
}
# multipliers are 2**14 .. 2**15, so a shift of s scales by 2**(14 - s) .. 2**(15 - s)
FIRST_SHIFT, UP_SHIFT, DOWN_SHIFT, LINEAR_SHIFT = 18, 21, 23, 21


def layers(config: LocalConfig, seed: int = 0) -> dict[str, Layer]:
    """Random integer layers: activations of a few hundred, logistics within a few grey levels."""
    random = np.random.default_rng([seed, config.channels])
    made = {"first": _layer(random, config.width, config.inputs, FIRST_SHIFT, INPUT_LIMIT, 3000)}
    for b in range(config.blocks):
        made[f"up.{b}"] = _layer(random, config.width, config.width, UP_SHIFT, ACTIVATION_LIMIT, 20000)
        made[f"down.{b}"] = _layer(random, config.width, config.width, DOWN_SHIFT, ACTIVATION_LIMIT, 20000)
    made["last"] = _last(random, config, config.width)
    made["linear"] = _linear(random, config.window, config.neighbours)
    for b in range(config.blocks + 1 if config.condition else 0):
        made[f"condition.{b}"] = _layer(random, config.width, config.condition, UP_SHIFT, MAP_LIMIT, 0)
    return made


def online(
    channels: int,
    rate: int = 5,
    averaged: bool = False,
    isa: str | None = None,
    seed: int = 0,
    radius2: int = 9,
    mirror: int = 0,
) -> OnlineModel:
    """One toy net that learns while it codes."""
    frozen = learnable(channels, seed, radius2).frozen
    return OnlineModel([LocalModel(frozen, native.core(isa))], [rate], averaged, mirror)


def learnable(channels: int, seed: int = 0, radius2: int = 9) -> LocalModel:
    """The toy model of ``channels`` with room to learn, and units of its gradients: finer weights, the same net."""
    return learnable_of(replace(CONFIGS[channels], radius2=radius2), seed)


def learnable_of(config: LocalConfig, seed: int = 0) -> LocalModel:
    """The same of any architecture."""
    plain = LocalModel(FrozenLocal(config, layers(config, seed), make_tables()))
    finer = {
        name: layer
        if name == "linear"
        else replace(
            layer, weight=layer.weight.astype(np.int16) * 8, bias=layer.bias * 8, shift=layer.shift + np.int32(3)
        )
        for name, layer in plain.layers.items()
    }
    fine = LocalModel(FrozenLocal(plain.config, finer, plain.tables))
    images = smooth(np.random.default_rng(seed), (config.channels, 24, 24))[None]
    return with_gradient_units(fine, [images])


def model(channels: int, isa: str | None = None, seed: int = 0, radius2: int = 9) -> LocalModel:
    """The toy model of ``channels``, with a named instruction set or the one that would be chosen."""
    config = replace(CONFIGS[channels], radius2=radius2)
    return LocalModel(FrozenLocal(config, layers(config, seed), make_tables()), native.core(isa))


def pixelcnn(config: PixelCNNConfig, isa: str | None = None, seed: int = 0, louder: int = 0) -> PixelCNNModel:
    """A toy PixelCNN++; ``louder`` doubles what every hidden layer gives, so many times."""
    random, made = np.random.default_rng([seed, config.channels]), {}
    for name, (rows, columns) in config.layer_shapes().items():
        kind, limit = name.rsplit(".")[-1], config.input_limit(name)
        # outputs of a few hundred, of gated blocks 1/16 of that in the stream's unit and gates around a half
        shift = (FIRST_SHIFT if limit == INPUT_LIMIT else DOWN_SHIFT if kind == "second" else UP_SHIFT) - louder
        made[name] = _layer(random, rows, columns, shift, limit, 3000 if limit == INPUT_LIMIT else 20000)
    made["last"] = _last(random, config, made["last"].weight.shape[1])
    made["linear"] = _linear(random, config.window, config.neighbours)
    return PixelCNNModel(config, made, make_tables(), make_net_tables(), native.core(isa))


def agave(config: AgaveConfig, isa: str | None = None, seed: int = 0, base: Base | None = None) -> AgaveModel:
    """A toy AGAVE with 8-bit latents; ``base``: the model whose layers its decoder shares."""
    random, made = np.random.default_rng([seed, 7]), {}
    for name, (rows, columns) in config.layer_shapes().items():
        kind, limit = name.rsplit(".")[-1], config.input_limit(name)
        if kind in ("posterior", "prior") or name.endswith("flow.last"):
            # means within about a deviation of the prior, log-scales within one or two nats
            made[name] = _layer(random, rows, columns, UP_SHIFT + 1, limit, 20000)
            made[name].shift[rows // 2 :] += 7
            continue
        shift = FIRST_SHIFT - 1 if limit == INPUT_LIMIT else DOWN_SHIFT - 1 if kind == "second" else UP_SHIFT
        made[name] = _layer(random, rows, columns, shift, limit, 3000 if limit == INPUT_LIMIT else 20000)
    top = random.integers(-400, 401, config.filters[-1]).astype(np.int32)
    constants = Constants(top, np.full(config.planes, 90, np.int32), make_elu(2**14 - 1, 512))
    chosen, shared = native.core(isa), base.model.layers if base else {}
    decoder: Decoder | None = None
    if isinstance(config.decoder, LocalConfig):
        known = layers(config.decoder, seed) | shared
        decoder = LocalModel(FrozenLocal(config.decoder, known, make_tables()), chosen)
    elif config.decoder:
        plain = pixelcnn(config.decoder, isa, seed)
        decoder = PixelCNNModel(plain.config, plain.layers | shared, make_tables(), make_net_tables(), plain.core)
    return AgaveModel(config, made, constants, make_tables(), make_latent_tables(8), decoder, base, chosen)


def ade(config: AdeConfig, isa: str | None = None, seed: int = 0, base: Base | None = None) -> AdeModel:
    """A toy flow with 8-bit latents; ``base``: what codes the first images, else a toy that has no name."""
    random, vae = np.random.default_rng([seed, 8]), agave(config.vae, isa, seed)
    made = {f"{VAE_PREFIX}{name}": layer for name, layer in vae.layers.items()}
    for name, (rows, columns) in config.flow_shapes().items():
        # hidden features of a few hundred; means of couplings within some grey levels, log-scales within a nat
        shift = {"last": UP_SHIFT - 1, "linear": UP_SHIFT + 1}.get(name.rsplit(".")[-1], UP_SHIFT)
        made[name] = _layer(random, rows, columns, shift, MAP_LIMIT, 20000)
        if name.endswith("last"):
            made[name].shift[rows // 2 :] += 3
    deviations = random.uniform(0.5, 9000, (1, 4 * config.channels * 4 ** (config.levels - 1)))
    gaussians = Gaussians(np.ones_like(deviations), deviations)
    tables = make_flow_tables(gaussians.shifts, gaussians.masses())
    base = base or Base("", b"", model(config.channels, isa, seed))
    return AdeModel(config, made, vae.constants, tables, vae.latent_tables, base, native.core(isa))


def write_weights(folder: Path, seed: int = 0) -> Path:
    """Write all models; returns the folder."""
    for channels, name in FILES.items():
        weights.write(model(channels, None, seed), folder / name)
    for number, (channels, name) in enumerate(LEARNING):
        weights.write(
            learnable(channels, seed + number, 16 if name == "learning-rgb.safetensors" else 9), folder / name
        )
    small = pixelcnn(PIXELCNN["pointwise"], None, seed)
    base = Base("pixelcnnpp", weights.write(small, folder / "pixelcnnpp.safetensors"), small)
    weights.write(agave(AGAVE["flow"], None, seed, base), folder / "agave.safetensors")
    photographs = model(3, None, seed)
    base = Base("local-rgb", weights.weights_id(weights.to_bytes(photographs)), photographs)
    weights.write(agave(AGAVE["local"], None, seed, base), folder / "agave-rgb.safetensors")
    weights.write(ade(FLOWS["colours"], None, seed, base), folder / "ade.safetensors")
    weights.write(ade(FLOWS["checker"], None, seed, base), folder / "av-ade.safetensors")
    return folder


def write_photos(folder: Path, height: int, width: int) -> Path:
    """Three smooth photographs, to train on; returns the folder, which is made."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = smooth(random, (3, height, width)).transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number}.png")
    return folder


def image(kind: str, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """uint8 [C, H, W]: ``smooth``, "noise" or "extremes" (0 and 255)."""
    random = np.random.default_rng(seed)
    if kind == "extremes":
        return random.choice([0, 255], shape).astype(np.uint8)
    return random.integers(0, 256, shape, np.uint8) if kind == "noise" else smooth(random, shape)


def smooth(random: np.random.Generator, shape: tuple[int, int, int], noise: float = 3.0) -> np.ndarray:
    """uint8 [C, H, W]: slow waves and a little noise, channels alike."""
    c, h, w = shape
    y, x = np.mgrid[0:h, 0:w]
    wave = 60 * np.sin(y / 9 + random.uniform(0, 6)) + 50 * np.cos(x / 11 + y / 23 + random.uniform(0, 6))
    common = wave + random.normal(0, noise, (h, w))
    own = random.normal(0, noise, (c, h, w)) + random.uniform(-15, 15, (c, 1, 1))
    return np.clip(np.rint(128 + common + own), 0, 255).astype(np.uint8)


def _layer(random: np.random.Generator, rows: int, columns: int, shift: int, limit: int, bias: int) -> Layer:
    return Layer(
        random.integers(-60, 61, (rows, columns)).astype(np.int8),
        random.integers(-bias, bias + 1, rows).astype(np.int32),
        random.integers(2**14, 2**15 + 1, rows).astype(np.int32),
        np.full(rows, shift, np.int32),
        limit,
    )


def _last(random: np.random.Generator, config: LocalConfig | PixelCNNConfig, columns: int) -> Layer:
    """Logits near 0, means near -1.5 .. 1.5 grey levels, log-scales near 0.5 .. 1.1, couplings near 0.4."""
    c, k = config, config.mixtures
    spread = np.linspace(-1, 1, k)
    centre = np.concatenate([
        np.zeros(k),
        np.tile(1.5 * POSITION * spread, c.channels),
        np.tile(LOG_SCALE_UNIT * (0.5 + 0.6 * spread**2), c.channels),
        np.full(k * c.couplings, 0.4 * 2**COUPLING_BITS),
    ])  # fmt: skip
    shift = np.repeat([26, 26, 27, 24], [k, k * c.channels, k * c.channels, k * c.couplings])
    plain = _layer(random, c.outputs, columns, 0, ACTIVATION_LIMIT, 0)
    bias = np.rint(centre * 2.0**shift / plain.multiplier)
    return Layer(plain.weight, bias.astype(np.int32), plain.multiplier, shift.astype(np.int32), ACTIVATION_LIMIT)


def _linear(random: np.random.Generator, window: Window, n: int) -> Layer:
    """A guess at the slope from the four nearest samples of the same channel, and a little of everything else."""
    c = window.channels
    nearest = {(-1, 0): 1000, (0, -1): 1000, (-1, -1): -1500, (-1, 1): 1000}  # 8192 means 1
    weight = random.integers(-150, 151, (c, n, c))
    for o, offset in enumerate(window.offsets[:n]):
        weight[np.arange(c), o, np.arange(c)] += nearest.get(offset, 0)
    return Layer(
        weight.reshape(c, n * c).astype(np.int16),
        np.zeros(c, np.int32),
        np.full(c, 2**14, np.int32),
        np.full(c, LINEAR_SHIFT, np.int32),
        INPUT_LIMIT,
    )
