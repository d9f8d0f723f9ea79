# SPDX-License-Identifier: MIT
"""From float weights on disk to frozen weights on disk, with the cost of freezing measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..errors import FreezeError
from ..models import weights
from ..models.local import LocalConfig
from ..models.local_float import LocalNet
from ..models.local_freeze import estimate_bits, freeze
from .data import Patches, centre, load_folder, pad
from .nets import config_kind, load_float, read_config

CALIBRATION_PATCHES = 256
SIDE = 128  # of the squares, one per validation image, on which the cost is measured


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


def freeze_file(float_path: Path, data: Path, validation: Path, out: Path, progress: bool = False) -> Report:
    """Freeze ``float_path`` (calibrated on images below ``data``) and measure on ``validation``.

    Raises FreezeError when a bound cannot be proved; nothing is written then.
    """
    config = read_config(float_path)
    if not isinstance(config, LocalConfig):
        raise FreezeError(f"{float_path} holds {config_kind(config)}, which this release cannot freeze yet")
    net = LocalNet(config)
    load_float(net, float_path)
    c = net.config
    patches = Patches(load_folder(data, c.channels, progress), 64, c.reach, seed=0, edges=0.02)
    model = freeze(net, [(torch.from_numpy(patches.batch(8)), 64, 64) for _ in range(CALIBRATION_PATCHES // 8)])
    images = [centre(i, SIDE) for i in load_folder(validation, c.channels, progress)]
    float_bits = sum(float_estimate(net, i) for i in tqdm(images, desc="float", disable=not progress))
    frozen_bits = sum(estimate_bits(model, i) for i in tqdm(images, desc="frozen", disable=not progress))
    samples = sum(i.size for i in images)
    identity = weights.write(model, out)
    return Report(float_bits / samples, frozen_bits / samples, identity, out.stat().st_size)


@torch.no_grad()
def float_estimate(net: LocalNet, image: np.ndarray) -> float:
    """Bits of uint8 [C, H, W] under the float net, in float32."""
    return net.bits(torch.from_numpy(pad(image, net.config.reach))[None]).sum().item()
