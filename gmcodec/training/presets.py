# SPDX-License-Identifier: MIT
"""What to train and how, as frozen dataclasses.  A preset is saved inside every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.local import LocalConfig


@dataclass(frozen=True)
class Preset:
    """One training run: architecture, batches, schedule."""

    name: str
    model: LocalConfig
    patch: int  # side of a scored square, pixels
    batch: int  # patches a step
    steps: int  # optimiser steps of the whole schedule
    muon_lr: float  # hidden matrices
    adam_lr: float  # everything else
    decay_from: float  # share of the schedule after which learning rates fall linearly to zero
    quantise_from: float  # share after which weights are rounded to 8 bits in the forward pass
    ema: float  # decay of the weight average
    seed: int


PRESETS = {
    p.name: p
    for p in (
        # Two cores, about 1.5 hours: the shipped default.
        Preset("local-rgb", LocalConfig(3, 49, 4, 160, 4, 5, 12), 16, 32, 20_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 1),
        Preset("local-grey", LocalConfig(1, 49, 4, 96, 4, 5, 12), 16, 32, 8_000, 0.01, 2e-3, 0.1, 0.85, 0.999, 2),
        # A GPU: larger batches, about 20 minutes on a recent data-centre card.
        Preset(
            "local-rgb-large", LocalConfig(3, 64, 4, 384, 6, 8, 12), 48, 64, 40_000, 0.02, 2e-3, 0.3, 0.8, 0.9995, 3
        ),
        # Seconds: for tests, and to try a data folder.
        Preset("toy-rgb", LocalConfig(3, 9, 3, 16, 1, 3, 4), 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 4),
        Preset("toy-grey", LocalConfig(1, 9, 3, 16, 1, 3, 4), 16, 4, 60, 0.02, 3e-3, 0.4, 0.8, 0.9, 5),
    )
}
