# SPDX-License-Identifier: MIT
"""Freeze float weights: read them from a file, turn them into integers, write those, and measure what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gmcodec.errors import FreezeError
from gmcodec.models import registry, weights
from gmcodec.models.local.model import LocalModel
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.shared.family import Base
from gmcodec.training.data import (
    META_VALIDATION_SIDE,
    Patches,
    Source,
    centre,
    load,
    load_photographs,
    local_config,
    pad,
)
from gmcodec.training.families import TRAINABLE, Calibration
from gmcodec.training.nets import load_whole, read_adaptation, read_side
from gmcodec.training.presets import ModelConfig, Preset

CALIBRATION_PATCHES, CALIBRATION_SIDE = 256, 64  # patches of photographs, and their side in pixels
CALIBRATION_IMAGES, CALIBRATION_BATCH = 1000, 100  # small images, and how many of them at once
META_PHOTOGRAPHS = 16  # calibration photographs for nets that were trained to learn
MEASURED_SIDE = 128  # side of the central square of each validation photograph on which the cost is measured


@dataclass(frozen=True)
class Report:
    """Result of ``freeze_file``: rates in bits per sample (bpsp) on the same pixels, and what was written."""

    float_bpsp: float
    frozen_bpsp: float
    weights_id: bytes
    bytes: int

    @property
    def cost_percent(self) -> float:
        """How much larger the rate of the frozen net is."""
        return 100 * (self.frozen_bpsp / self.float_bpsp - 1)


def freeze_file(
    float_paths: Sequence[Path],
    data: Path,
    validation: Path | int,
    out: Path,
    progress: bool = False,
    base: str | None = None,
    label: int | None = None,
) -> Report:
    """Freeze float weights, write them to ``out`` and measure the cost.

    float_paths       one file or folder; for AGAVE with a fixed decoder, also the decoder's
    data, validation  images to calibrate on and to measure on, as in ``data.load``
    base              of AGAVE: an installed model, by name, whose layers its decoder shares; of a flow: the model that
                      codes the first images of an archive
    label             of a net that depends on classes: the class to freeze it for, and to measure on

    Raises FreezeError if a bound cannot be proved or an option does not fit the net; then nothing is written.
    """
    net, float_path = load_whole(float_paths), float_paths[0]
    classes = getattr(net.config, "classes", 0)
    if label is not None and not classes:
        raise FreezeError(f"{float_path} does not depend on classes")
    if label is None and classes:
        raise FreezeError(f"{float_path} has {classes} classes: say which one with --label")
    family = TRAINABLE[type(net.config)]
    shared = None if base is None else _base(base)
    images: Calibration
    if local_config(net.config):
        images, batches = _photographs(net, float_path, data, validation, progress)
    else:
        images, batches = _small_images(net.config, read_side(float_path), data, validation, progress, label)
    net = net if label is None else net.of_class(label)
    model = family.freeze(net, images, shared)
    float_bits = sum(bits(net, b) for b in tqdm(batches, desc="float", disable=not progress))
    frozen_bits = sum(family.estimate_bits(model, b).sum() for b in tqdm(batches, desc="frozen", disable=not progress))
    samples = sum(batch.size for batch in batches)
    identity = weights.write(model, out)
    return Report(float_bits / samples, frozen_bits / samples, identity, out.stat().st_size)


class _Photographs:
    """Calibration of nets with a window."""

    def __init__(self, photographs: list[np.ndarray], reach: int, rate: int | None) -> None:
        self._photographs, self._reach, self.rate = photographs, reach, rate

    def patches(self) -> list[tuple[torch.Tensor, int, int]]:
        side = CALIBRATION_SIDE
        patches = Patches(self._photographs, side, self._reach, seed=0, edges=0.02)
        return [(torch.from_numpy(patches.batch(8).images), side, side) for _ in range(CALIBRATION_PATCHES // 8)]

    def centres(self) -> list[np.ndarray]:
        step = -(-len(self._photographs) // META_PHOTOGRAPHS)
        return [centre(photograph, META_VALIDATION_SIDE) for photograph in self._photographs[::step]]

    def batches(self) -> list[torch.Tensor]:
        raise NotImplementedError

    def images(self, count: int) -> np.ndarray:
        raise NotImplementedError


class _SmallImages:
    """Calibration of nets that see whole small images."""

    rate: int | None = None

    def __init__(self, source: Source) -> None:
        self._source = source

    def patches(self) -> list[tuple[torch.Tensor, int, int]]:
        raise NotImplementedError

    def centres(self) -> list[np.ndarray]:
        raise NotImplementedError

    def batches(self) -> list[torch.Tensor]:
        count = CALIBRATION_IMAGES // CALIBRATION_BATCH
        return [torch.from_numpy(self._source.batch(CALIBRATION_BATCH).images) for _ in range(count)]

    def images(self, count: int) -> np.ndarray:
        return self._source.batch(count).images


def _photographs(
    net: Any, path: Path, data: Path, validation: Path | int, progress: bool
) -> tuple[_Photographs, list[np.ndarray]]:
    """Photographs to calibrate on, and the centres of those to measure on, uint8 [1, C, h, w]."""
    photographs, held_out = load_photographs(net.config.channels, data, validation, progress)
    window = local_config(net.config)
    assert window is not None
    calibration = _Photographs(photographs, window.reach, read_adaptation(path))
    return calibration, [centre(image, MEASURED_SIDE)[None] for image in held_out]


def _small_images(
    config: ModelConfig, side: int, data: Path, validation: Path | int, progress: bool, label: int | None = None
) -> tuple[_SmallImages, list[np.ndarray]]:
    """Images to calibrate on, and the validation images in batches, uint8 [B, C, side, side]; of one class or all."""
    preset = Preset("", config, side, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, seed=0)
    source, held_out, _ = load(preset, data, validation, progress, label)
    return _SmallImages(source), [batch.images for batch in held_out]


def _base(name: str) -> Base:
    """The installed model of this name.  Raises FreezeError if there is none, or if it has latents."""
    try:
        loaded = registry.named(name)
    except ValueError as error:
        raise FreezeError(str(error)) from error
    if not isinstance(loaded.model, PixelCNNModel | LocalModel):
        raise FreezeError(f"{name} has latents, or learns, so it cannot be a base")
    return Base(name, loaded.weights_id, loaded.model)


@torch.no_grad()
def bits(net: Any, images: np.ndarray) -> float:
    """Bits of uint8 [B, C, H, W] under a float net, in float32; latents come from torch's generator."""
    return net.eval().bits(prepared(net, images)).double().mean().item() * images[:, 0].size


def prepared(net: Any, images: np.ndarray) -> torch.Tensor:
    """uint8 [B, C, H, W] in the form that a float net takes: padded with OUTSIDE if the net has a window."""
    window = local_config(net.config)
    padded = [pad(image, window.reach) for image in images] if window else images
    return torch.from_numpy(np.ascontiguousarray(padded))
