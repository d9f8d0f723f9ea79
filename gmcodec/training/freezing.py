# SPDX-License-Identifier: MIT
"""From float weights on disk to frozen weights on disk, with the cost of freezing measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..models import local_freeze, pixelcnnpp_freeze, weights
from ..models.local import LocalModel
from ..models.local_float import LocalNet
from ..models.local_freeze import estimate_bits
from ..models.pixelcnnpp import PixelCNNModel
from ..models.pixelcnnpp_float import PixelCNN
from .data import CHUNK, Patches, centre, load, load_folder, pad
from .nets import build, load_float, read_config, read_side
from .presets import Preset

CALIBRATION_PATCHES, CALIBRATION_SIDE = 256, 64  # photographs
CALIBRATION_IMAGES, TRIAL_IMAGES = 1000, 96  # small images
SIDE = 128  # of the squares, one per validation photograph, on which the cost is measured


@dataclass(frozen=True)
class Report:
    """Rates in bits per sample (bpsp) on the same pixels: float likelihood and frozen estimate."""

    float_bpsp: float
    frozen_bpsp: float
    weights_id: bytes
    bytes: int

    @property
    def cost_percent(self) -> float:
        return 100 * (self.frozen_bpsp / self.float_bpsp - 1)


def freeze_file(float_path: Path, data: Path, validation: Path | int, out: Path, progress: bool = False) -> Report:
    """Freeze ``float_path`` (calibrated on images of ``data``) and measure on ``validation``, as in ``data.load``.

    Raises FreezeError when a bound cannot be proved; nothing is written then.
    """
    net = build(read_config(float_path))
    load_float(net, float_path)
    float_estimate: Callable[[Any, np.ndarray], float]
    model: weights.Model
    if isinstance(net, LocalNet):
        float_estimate = _padded_bits
        model, batches = _freeze_local(net, data, validation, progress)
    else:
        float_estimate = _bits
        model, batches = _freeze_small(net, read_side(float_path), data, validation, progress)
    float_bits = sum(float_estimate(net, b) for b in tqdm(batches, desc="float", disable=not progress))
    frozen_bits = sum(estimate_bits(model, b).sum() for b in tqdm(batches, desc="frozen", disable=not progress))
    samples = sum(batch.size for batch in batches)
    identity = weights.write(model, out)
    return Report(float_bits / samples, frozen_bits / samples, identity, out.stat().st_size)


def _freeze_local(
    net: LocalNet, data: Path, validation: Path | int, progress: bool
) -> tuple[LocalModel, list[np.ndarray]]:
    """Model, and the centres of the validation photographs, uint8 [1, C, h, w] each."""
    channels, side = net.config.channels, CALIBRATION_SIDE
    photographs = load_folder(data, channels, progress)
    if isinstance(validation, int):
        photographs, held_out = photographs[:-validation], photographs[-validation:]
    else:
        held_out = load_folder(validation, channels, progress)
    patches = Patches(photographs, side, net.config.reach, seed=0, edges=0.02)
    batches = [(torch.from_numpy(patches.batch(8)), side, side) for _ in range(CALIBRATION_PATCHES // 8)]
    return local_freeze.freeze(net, batches), [centre(image, SIDE)[None] for image in held_out]


def _freeze_small(
    net: PixelCNN, side: int, data: Path, validation: Path | int, progress: bool
) -> tuple[PixelCNNModel, list[np.ndarray]]:
    """Model, and the validation images in batches, uint8 [B, C, side, side] each."""
    preset = Preset("", net.config, side, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, seed=0)
    source, held_out, _ = load(preset, data, validation, progress)
    batches = [torch.from_numpy(source.batch(CHUNK)) for _ in range(CALIBRATION_IMAGES // CHUNK)]
    return pixelcnnpp_freeze.freeze(net, batches, [source.batch(TRIAL_IMAGES)]), held_out


@torch.no_grad()
def _padded_bits(net: LocalNet, images: np.ndarray) -> float:
    """Bits of photographs uint8 [1, C, H, W] under the float net, in float32."""
    return net.bits(torch.from_numpy(pad(images[0], net.config.reach))[None]).sum().item()


@torch.no_grad()
def _bits(net: PixelCNN, images: np.ndarray) -> float:
    """Bits of small images uint8 [B, C, H, W] under the float net, in float32."""
    return net.eval().bits(torch.from_numpy(images)).sum().item()
