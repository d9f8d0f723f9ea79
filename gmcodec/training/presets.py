# SPDX-License-Identifier: MIT
"""Presets of training: architecture, batches and schedule, as frozen dataclasses.  A checkpoint contains its preset."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.agave.config import AgaveConfig, DecoderConfig
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig

DISCRIMINATORS = ("plain", "residual", "points")
ADVERSARIAL_LOSSES = ("samples", "m-bgan", "bgan")
ModelConfig = LocalConfig | PixelCNNConfig | AgaveConfig | AdeConfig


@dataclass(frozen=True)
class Objective:
    """The objective of AGAVE (thesis, eq. 3.13): primary reconstruction + auxiliary reconstruction - strength * KL.

    ``strength`` is lambda.  It is 1 if x and y are two observations, and 2 if two lower bounds are summed; with more,
    latents carry less information (section 3.3.3).
    """

    strength: float = 1.0
    auxiliary: bool = True  # False drops the auxiliary term: the control experiment of section 3.4.4
    free_bits: float = 0.0  # bits that a group of latents may cost, averaged over a batch, without penalty

    def __post_init__(self) -> None:
        if self.strength < 1 or self.free_bits < 0:
            raise ValueError(f"lambda {self.strength} must be 1 at least, free bits {self.free_bits} not negative")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Architecture of a discriminator."""

    kind: str  # "plain" | "residual" | "points"
    filters: tuple[int, ...]  # F0, F1 .. in discriminators.py: one for each resolution, block or layer
    channels: int = 3  # of an image; for points, their coordinates
    size: int = 32  # side of an image, pixels: only a plain net depends on it
    batch: str = "none"  # "mean": layers also read batch means, eq. 4.12
    classes: int = 0  # 0: logits do not depend on a label

    def __post_init__(self) -> None:
        if self.kind not in DISCRIMINATORS or self.batch not in ("none", "mean"):
            raise ValueError(f"there is no discriminator of kind {self.kind!r} with batch {self.batch!r}")
        if self.kind == "plain" and self.size % 2 ** (len(self.filters) - 1):
            raise ValueError(f"a side of {self.size} cannot be halved {len(self.filters) - 1} times")


@dataclass(frozen=True)
class Adversary:
    """Settings of adversarial training (thesis, chapters 4 and 5)."""

    discriminator: DiscriminatorConfig
    loss: str = "samples"  # L_Q, eq. 5.6; or with mixed batches: "m-bgan" (eq. 4.14), "bgan" (eq. 4.13)
    coefficient: float = 100.0  # factor of L_Q; L_C and L_Q are in nats of an image
    penalty: float = 100.0  # coefficient of the gradient penalty
    gamma: float = 0.5  # batch smoothing, section 4.3.1
    likelihood: bool = True  # False: L_Q alone, a GAN
    deviation: float = 1.0  # factor of the deviation of h given z in samples, Algorithm 1; 0: the mean, eq. 5.6
    rate: float | None = None  # learning rate of the discriminator; None: the preset's adam_lr
    momentum: float = 0.9  # beta_1 of the optimisers of both nets; small nets oscillate unless it is 0

    def __post_init__(self) -> None:
        if self.loss not in ADVERSARIAL_LOSSES or (self.loss != "samples") != (self.discriminator.batch != "none"):
            raise ValueError(f"{self.loss!r} does not fit a discriminator with batch {self.discriminator.batch!r}")

    def of_classes(self, count: int) -> Adversary:
        """The same with a discriminator that reads labels of ``count`` classes."""
        return replace(self, discriminator=replace(self.discriminator, classes=count))


@dataclass(frozen=True)
class Preset:
    """One training run: architecture, batches, schedule."""

    name: str
    model: ModelConfig
    patch: int  # side of a scored square, pixels; with mosaics of small images, side of an image
    batch: int  # patches per step
    steps: int  # optimiser steps of the whole schedule
    muon_lr: float  # learning rate of hidden matrices, if the net has any
    adam_lr: float  # learning rate of all other parameters
    decay_from: float  # fraction of the schedule after which learning rates fall linearly to zero
    quantise_from: float  # fraction after which the forward pass rounds weights as freezing does
    ema: float  # decay of the weight average
    seed: int
    muon_decay: float = 0.0  # weight decay of the hidden matrices: without it deep nets diverge
    adamax: bool = False  # Adamax instead of AdamW, as in section 3.4.1 of the thesis
    objective: Objective | None = None  # for AGAVE
    adversary: Adversary | None = None  # for a flow
    adaptation: int | None = None  # for a net that learns while it codes: its rate, an index of online.rules.RATES
    decoder_fixed: bool = False  # of AGAVE's decoder, only the part that reads the condition learns
    generator_fixed: bool = False  # of a flow or VAE, only the inference net and the deviation learn: nets.py

    def __post_init__(self) -> None:
        if self.generator_fixed and (self.adversary or not isinstance(self.model, AdeConfig)):
            raise ValueError("only a flow or VAE without an adversary can learn around a fixed generator")
        if self.adversary and isinstance(self.model, AdeConfig):
            ours, theirs = self.model.classes, self.adversary.discriminator.classes
            if ours != theirs:
                raise ValueError(f"a discriminator of {theirs} classes does not fit a net of {ours}")


# Couplings of a scale: each predicts samples from all decoded before, the nearest of the same colour included.
BY_COLOUR = ("bc:b", "bc:r", "bc:g", "d:b", "d:r", "d:g")
CHECKERBOARD = ("bc:rgb", "ad:rgb", "bc:rgb")  # three couplings, as in the thesis (A.2), whose masks may differ


def small_images(
    filters: tuple[int, ...],
    blocks: tuple[int, ...],
    upper: int = 0,
    *,
    mixtures: int = 10,
    nonlinearity: str = "concat_elu",
    dropout: float = 0.0,
    weight_norm: bool = False,
) -> PixelCNNConfig:
    """A PixelCNN++ for RGB without a condition; arguments as in PixelCNNConfig."""
    return PixelCNNConfig(
        channels=3,
        filters=filters,
        blocks=blocks,
        upper=upper,
        radius2=40,
        neighbours=12,
        rows=4,
        columns=4,
        mixtures=mixtures,
        nonlinearity=nonlinearity,
        dropout=dropout,
        weight_norm=weight_norm,
        condition=0,
    )


def latent_images(
    filters: tuple[int, ...],
    groups: tuple[int, ...],
    latents: int,
    decoder: DecoderConfig | None = None,
    *,
    stride: int = 4,
    hidden: int = 0,
    auxiliary: int = 1,
    levels: int = 256,
    grey: bool = False,
    condition: int = 32,
) -> AgaveConfig:
    """AGAVE for RGB, or a plain VAE without ``decoder``; with ``hidden`` features its posterior has a flow."""
    decoder = replace(decoder, condition=condition) if decoder else None
    posterior = "iaf" if hidden else "gaussian"
    return AgaveConfig(
        channels=3,
        filters=filters,
        groups=groups,
        latents=latents,
        stride=stride,
        posterior=posterior,
        hidden=hidden,
        nonlinearity="elu",
        auxiliary=auxiliary,
        levels=levels,
        grey=grey,
        decoder=decoder,
    )


def flow_images(
    scales: int,
    filters: int,
    blocks: int,
    vae: tuple[int, ...],
    groups: tuple[int, ...],
    latents: int,
    *,
    noise: int = 0,
    mixtures: int = 3,
    window: int = 3,
    kernels: tuple[int, int] = (3, 1),
    order: tuple[str, ...] = BY_COLOUR,
    hidden: int = 0,
    weight_norm: bool = False,
    last: tuple[str, ...] = ("a:b", "a:r"),
    classes: int = 0,
) -> AdeConfig:
    """A flow for RGB and a VAE of its features; with 0 ``scales`` a plain VAE.

    order   couplings of a scale; the last scale also has those of ``last``
    hidden  features of a flow of the posterior; 0: a Gaussian posterior
    noise   features of a net for variational dequantisation; 0: uniform dequantisation
    """
    posterior = "iaf" if hidden else "gaussian"
    inner = AgaveConfig(
        channels=12,
        filters=vae,
        groups=groups,
        latents=latents,
        stride=1,
        posterior=posterior,
        hidden=hidden,
        nonlinearity="elu",
        auxiliary=1,
        levels=256,
        grey=False,
        decoder=None,
    )
    couplings = (order,) * (scales - 1) + (order + last,) * (scales > 0)
    dequantisation = "variational" if noise else "uniform"
    return AdeConfig(
        channels=3,
        scales=couplings,
        filters=filters,
        blocks=blocks,
        window=window,
        kernels=kernels,
        nonlinearity="leaky",
        weight_norm=weight_norm,
        dequantisation=dequantisation,
        noise=noise,
        mixtures=mixtures,
        vae=inner,
        classes=classes,
    )


LOCAL_RGB = LocalConfig(
    channels=3, radius2=49, slope=4, width=160, blocks=4, mixtures=5, neighbours=12
)  # the shipped model of photographs
# Decoders of AGAVE: one for experiments, which two cores train in minutes, and the shipped one.
SMALL_DECODER = small_images((64, 48, 48), (1, 1, 1), 48, mixtures=5, nonlinearity="leaky")
MEDIUM_DECODER = small_images((160,) * 3, (1,) * 3, nonlinearity="leaky")

V_ADE = flow_images(2, 48, 2, (16, 24, 32), (1, 1, 1), 4)
# With one scale and checkerboards the latents carry information, and a discriminator can then improve samples.
AV_ADE = flow_images(1, 32, 2, (32, 48, 64), (1, 1, 1), 16, mixtures=1, order=CHECKERBOARD, last=())
V_ADE_PUBLISHED = flow_images(
    2,
    64,
    2,
    (64, 128, 256),
    (1, 1, 1),
    32,
    noise=64,
    mixtures=1,
    kernels=(3, 3),
    order=CHECKERBOARD,
    last=(),
    hidden=64,
    weight_norm=True,
)
# What small nets on two cores learn from without diverging: with the published penalty of 100, momentum and rates
# samples turn black and white within a hundred steps, and features follow.
SMALL_ADVERSARY = Adversary(
    DiscriminatorConfig("residual", (8, 16, 32, 64)), coefficient=20.0, penalty=1.0, rate=1e-3, momentum=0.0
)
# Discriminators of images of 32x32 as published
PLAIN_DISCRIMINATOR = DiscriminatorConfig("plain", (64, 128, 256, 512))
RESIDUAL_DISCRIMINATOR = DiscriminatorConfig("residual", (16, 32, 64, 128, 256))

LOCAL_RGB_FAST, LOCAL_GREY = (
    LocalConfig(channels=3, radius2=36, slope=4, width=96, blocks=3, mixtures=4, neighbours=12),
    LocalConfig(channels=1, radius2=49, slope=4, width=96, blocks=4, mixtures=5, neighbours=12),
)
LOCAL_RGB_LARGE = LocalConfig(channels=3, radius2=64, slope=4, width=384, blocks=6, mixtures=8, neighbours=12)
TOY_RGB = LocalConfig(channels=3, radius2=9, slope=3, width=16, blocks=1, mixtures=3, neighbours=4)
TOY_GREY = replace(TOY_RGB, channels=1)

# fmt: off
PRESETS = {
    p.name: p
    for p in (
        # Two cores, an hour if it starts from the weights of the repository (--init); else with --steps 40000 or more.
        Preset("local-rgb", LOCAL_RGB, 16, 32, 16_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 1),
        # A third of that size.  From random weights; two cores, at least half an hour.
        Preset("local-rgb-fast", LOCAL_RGB_FAST, 32, 16, 30_000, 0.02, 3e-3, 0.3, 0.85, 0.999, 25),
        Preset("local-grey", LOCAL_GREY, 16, 32, 8_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 2),
        # Nets that learn from the image they code, trained for the weights they have then (meta.py).  They start from
        # float weights of the same architecture (--init).  A GPU, some minutes.
        Preset("learning-rgb", LOCAL_RGB, 16, 128, 60_000, 0.01, 2e-3, 0.1, 1.0, 0.999, 26, adaptation=4),
        Preset("learning-rgb-fast", LOCAL_RGB_FAST, 16, 128, 60_000, 0.01, 2e-3, 0.1, 1.0, 0.999, 27, adaptation=5),
        Preset("learning-grey", LOCAL_GREY, 16, 128, 60_000, 0.01, 2e-3, 0.1, 1.0, 0.999, 28, adaptation=4),
        # A GPU: larger batches, about 20 minutes on a recent data-centre card.
        Preset(
            "local-rgb-large", LOCAL_RGB_LARGE,
            48, 64, 40_000, 0.02, 2e-3, 0.3, 0.8, 0.9995, 3,
        ),
        # Images of 32x32, whole.  Two cores, some hours.
        Preset(
            "pixelcnnpp", small_images((128, 64, 64), (2, 1, 1), 48, nonlinearity="leaky"),
            32, 16, 20_000, 0.02, 3e-3, 0.1, 0.85, 0.999, 6, 0.1,
        ),
        # A GPU: the first takes 15 MB when frozen, and minutes on a recent data-centre card, better longer; the second
        # has the published size and optimiser and takes days.
        Preset(
            "pixelcnnpp-medium", MEDIUM_DECODER,
            32, 128, 10_000, 0.02, 3e-3, 0.1, 0.9, 0.999, 7, 0.1,
        ),
        Preset(
            "pixelcnnpp-published", small_images((160,) * 3, (5,) * 3, dropout=0.5, weight_norm=True),
            32, 64, 600_000, 0.0, 4e-4, 0.2, 0.95, 0.9995, 8,
        ),
        # AGAVE in parts: first a VAE; then, from it and from pixelcnnpp-medium (--init twice), the part of the decoder
        # that reads the latents.  Two cores, an hour each.
        Preset(
            "vae", latent_images((64, 96), (1, 1), 8), 32, 64, 20_000, 0.0, 2e-3, 0.5, 0.85, 0.999, 10,
            objective=Objective(12.0),
        ),
        Preset(
            "agave", latent_images((64, 96), (1, 1), 8, MEDIUM_DECODER), 32, 16, 2_000, 0.0, 2e-3, 0.5, 0.85, 0.99, 11,
            objective=Objective(12.0), decoder_fixed=True,
        ),
        # All parts of AGAVE at once, with a decoder that two cores train in minutes: for experiments.
        Preset(
            "agave-small", latent_images((48, 64), (1, 1), 8, SMALL_DECODER), 32, 8, 1_000, 0.02, 2e-3, 0.5, 1.0,
            0.99, 12, 0.1, objective=Objective(8.0),
        ),
        # Photographs of any size.  From vae and local-rgb (--init twice); two cores, a quarter of an hour.
        Preset(
            "agave-rgb", latent_images((64, 96), (1, 1), 8, LOCAL_RGB), 64, 4, 1_600, 0.01, 2e-3, 0.4, 0.85, 0.995, 15,
            objective=Objective(12.0), decoder_fixed=True,
        ),
        # The thesis' size and optimiser: a GPU, days.
        Preset(
            "agave-published",
            latent_images(
                (160, 160), (10, 10), 32, small_images((160,) * 3, (5,) * 3, dropout=0.5, weight_norm=True),
                stride=2, hidden=160, condition=64,
            ),
            32, 64, 400_000, 0.0, 2e-3, 1.0, 0.95, 0.9995, 13, adamax=True, objective=Objective(12.0),
        ),
        # A flow and a VAE of its features (thesis, chapter 5).  Two cores, an hour.
        Preset(
            "v-ade", V_ADE,
            32, 32, 10_000, 0.02, 2e-3, 0.3, 0.85, 0.999, 16,
        ),
        # A flow with a discriminator.  Likelihood alone trains it first; then both do, from there on (--init), with a
        # tenth of the rates.  Two cores, half an hour and an hour.
        Preset("v-ade-latents", AV_ADE, 32, 16, 5_000, 0.02, 2e-3, 0.5, 1.0, 0.999, 23),
        Preset("av-ade", AV_ADE, 32, 16, 5_000, 0.002, 2e-4, 0.5, 0.85, 0.999, 18, adversary=SMALL_ADVERSARY),
        # The same for ten classes (eq. 5.8); the data need *_labels.npy.
        Preset("v-ade-classes", replace(AV_ADE, classes=10), 32, 16, 5_000, 0.02, 2e-3, 0.5, 1.0, 0.999, 24),
        Preset(
            "av-ade-classes", replace(AV_ADE, classes=10), 32, 16, 5_000, 0.002, 2e-4, 0.5, 0.85, 0.999, 22,
            adversary=SMALL_ADVERSARY.of_classes(10),
        ),
        # The same, with the thesis' size and optimiser: a GPU, days.
        Preset(
            "v-ade-published",
            V_ADE_PUBLISHED,
            32, 64, 400_000, 0.0, 2e-3, 0.5, 0.95, 0.9995, 19, adamax=True,
        ),
        Preset(
            "av-ade-published",
            V_ADE_PUBLISHED,
            32, 64, 400_000, 0.0, 2e-3, 0.5, 0.95, 0.9995, 20, adamax=True, adversary=Adversary(RESIDUAL_DISCRIMINATOR),
        ),
        # Seconds: for tests, and to try a data folder.
        Preset("toy-rgb", TOY_RGB, 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 4),
        Preset(
            "toy-learning", TOY_RGB, 16, 4, 60, 0.02, 3e-3, 0.4, 1.0, 0.9, 29, adaptation=4,
        ),
        Preset("toy-grey", TOY_GREY, 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 5),
        Preset(
            "toy-pixelcnnpp", small_images((8, 12), (1, 1), mixtures=3, dropout=0.1),
            16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 9,
        ),
        Preset(
            "toy-agave",
            latent_images((8, 8), (1, 2), 3, small_images((8, 12), (1, 1), mixtures=3), hidden=6, condition=4),
            16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 14, objective=Objective(2.0),
        ),
        Preset(
            "toy-ade", flow_images(2, 8, 1, (8,), (1,), 2, noise=6, mixtures=2),
            16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 17,
        ),
        Preset(
            "toy-av-ade", flow_images(1, 8, 1, (8,), (1,), 2, mixtures=1),
            16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 21,
            adversary=Adversary(DiscriminatorConfig("residual", (4, 6, 8), size=16)),
        ),
    )
}
# fmt: on
