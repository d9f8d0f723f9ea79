# SPDX-License-Identifier: MIT
"""What to train and how, as frozen dataclasses.  A preset is saved inside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.local import LocalConfig
from ..models.pixelcnnpp import PixelCNNConfig

ModelConfig = LocalConfig | PixelCNNConfig


@dataclass(frozen=True)
class Preset:
    """One training run: architecture, batches, schedule."""

    name: str
    model: ModelConfig
    patch: int  # side of a scored square, pixels; of a whole image where the data are mosaics of small ones
    batch: int  # patches a step
    steps: int  # optimiser steps of the whole schedule
    muon_lr: float  # hidden matrices, if the net names any
    adam_lr: float  # everything else
    decay_from: float  # share of the schedule after which learning rates fall linearly to zero
    quantise_from: float  # share after which weights are rounded to 8 bits in the forward pass
    ema: float  # decay of the weight average
    seed: int
    muon_decay: float = 0.0  # weight decay of the hidden matrices; deep nets without it grow until they diverge


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
    """A PixelCNN++ for RGB without a condition."""
    return PixelCNNConfig(3, filters, blocks, upper, 40, 12, 4, 4, mixtures, nonlinearity, dropout, weight_norm, 0)


# fmt: off
PRESETS = {
    p.name: p
    for p in (
        # Two cores, an hour on from the weights that are there (--init); from nothing, take --steps 40000 or more.
        Preset("local-rgb", LocalConfig(3, 49, 4, 160, 4, 5, 12), 16, 32, 16_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 1),
        Preset("local-grey", LocalConfig(1, 49, 4, 96, 4, 5, 12), 16, 32, 8_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 2),
        # A GPU: larger batches, about 20 minutes on a recent data-centre card.
        Preset(
            "local-rgb-large", LocalConfig(3, 64, 4, 384, 6, 8, 12),
            48, 64, 40_000, 0.02, 2e-3, 0.3, 0.8, 0.9995, 3,
        ),
        # Images of 32x32, whole.  Two cores, some hours.
        Preset(
            "pixelcnnpp", small_images((128, 64, 64), (2, 1, 1), 48, nonlinearity="leaky"),
            32, 16, 20_000, 0.02, 3e-3, 0.1, 0.85, 0.999, 6, 0.1,
        ),
        # A GPU: what fits 15 MB when frozen, minutes on a recent data-centre card, and longer is better;
        # and the published size and optimiser, days.
        Preset(
            "pixelcnnpp-medium", small_images((160,) * 3, (1,) * 3, nonlinearity="leaky"),
            32, 128, 10_000, 0.02, 3e-3, 0.1, 0.9, 0.999, 7, 0.1,
        ),
        Preset(
            "pixelcnnpp-published", small_images((160,) * 3, (5,) * 3, dropout=0.5, weight_norm=True),
            32, 64, 600_000, 0.0, 4e-4, 0.2, 0.95, 0.9995, 8,
        ),
        # Seconds: for tests, and to try a data folder.
        Preset("toy-rgb", LocalConfig(3, 9, 3, 16, 1, 3, 4), 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 4),
        Preset("toy-grey", LocalConfig(1, 9, 3, 16, 1, 3, 4), 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 5),
        Preset(
            "toy-pixelcnnpp", small_images((8, 12), (1, 1), mixtures=3, dropout=0.1),
            16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 9,
        ),
    )
}
# fmt: on
