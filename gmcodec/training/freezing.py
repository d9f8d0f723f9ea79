# SPDX-License-Identifier: MIT
"""Freeze float weights: read them from a file, turn them into integers, write those, and measure what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gmcodec.coding import flow
from gmcodec.errors import FreezeError
from gmcodec.models import registry, weights
from gmcodec.models.ade import freeze as ade_freeze
from gmcodec.models.ade.float import Ade
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.agave import freeze as agave_freeze
from gmcodec.models.agave.float import Agave
from gmcodec.models.agave.model import Base
from gmcodec.models.local import freeze as local_freeze
from gmcodec.models.local.float import LocalNet
from gmcodec.models.local.freeze import estimate_bits
from gmcodec.models.local.frozen import LocalModel
from gmcodec.models.pixelcnnpp import freeze as pixelcnnpp_freeze
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
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
from gmcodec.training.nets import load_whole, read_adaptation, read_side
from gmcodec.training.presets import ModelConfig, Preset

Estimate = Callable[[Any, np.ndarray], np.ndarray]  # bits of each image of a batch
CALIBRATION_PATCHES, CALIBRATION_SIDE = 256, 64  # patches of photographs, and their side in pixels
META_PHOTOGRAPHS = 16  # calibration photographs for nets that were trained to learn
CALIBRATION_IMAGES, CALIBRATION_BATCH = 1000, 100  # small images, and how many of them at once
TRIAL_IMAGES = 96  # small images on which candidates are compared
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
    _check_options(net, float_path, base, label)
    model: weights.Model
    if isinstance(net, LocalNet):
        model, batches = _freeze_local(net, data, validation, progress, read_adaptation(float_path))
        estimate: Estimate = estimate_bits
    elif isinstance(net, Agave):
        model, batches = _freeze_agave(net, float_path, data, validation, progress, base)
        estimate = agave_freeze.estimate_bits
    elif isinstance(net, Ade):
        assert base is not None
        source, batches = _small_images(net.config, read_side(float_path), data, validation, progress, label)
        net = net if label is None else net.of_class(label)
        model = ade_freeze.freeze(net, source.batch(CALIBRATION_IMAGES).images, _base(base))
        estimate = flow_bits
    else:
        source, batches = _small_images(net.config, read_side(float_path), data, validation, progress)
        model = pixelcnnpp_freeze.freeze(net, _calibration(source), [source.batch(TRIAL_IMAGES).images])
        estimate = estimate_bits
    float_bits = sum(bits(net, b) for b in tqdm(batches, desc="float", disable=not progress))
    frozen_bits = sum(estimate(model, b).sum() for b in tqdm(batches, desc="frozen", disable=not progress))
    samples = sum(batch.size for batch in batches)
    identity = weights.write(model, out)
    return Report(float_bits / samples, frozen_bits / samples, identity, out.stat().st_size)


def _check_options(net: Any, path: Path, base: str | None, label: int | None) -> None:
    """Raises FreezeError if ``base`` or ``label`` does not fit the net."""
    classes = net.config.classes if isinstance(net, Ade) else 0
    if label is not None and not classes:
        raise FreezeError(f"{path} does not depend on classes")
    if label is None and classes:
        raise FreezeError(f"{path} has {classes} classes: say which one with --label")
    if base is not None and not isinstance(net, Agave | Ade):
        raise FreezeError(f"{path} has no decoder that could share layers")
    if base is None and isinstance(net, Ade):
        raise FreezeError("a flow needs a base that codes the first images of an archive")


def _freeze_agave(
    net: Agave, path: Path, data: Path, validation: Path | int, progress: bool, base: str | None
) -> tuple[weights.Model, list[np.ndarray]]:
    """The frozen model, and the images to measure on: small ones, or photographs if the decoder is a local net."""
    shared = None if base is None else _base(base)
    if isinstance(net.decoder, LocalNet):
        _, batches = _photographs(net.config.channels, data, validation, progress)
        return agave_freeze.freeze(net, [], [], shared), batches
    source, batches = _small_images(net.config, read_side(path), data, validation, progress)
    return agave_freeze.freeze(net, _calibration(source), [source.batch(TRIAL_IMAGES).images], shared), batches


def _freeze_local(
    net: LocalNet, data: Path, validation: Path | int, progress: bool, rate: int | None
) -> tuple[LocalModel, list[np.ndarray]]:
    """The frozen model, and the images to measure on.  ``rate``: that of a net that was trained to learn, or None."""
    side = CALIBRATION_SIDE
    photographs, held_out = _photographs(net.config.channels, data, validation, progress)
    patches = Patches(photographs, side, net.config.reach, seed=0, edges=0.02)
    batches = [(torch.from_numpy(patches.batch(8).images), side, side) for _ in range(CALIBRATION_PATCHES // 8)]
    centres = [centre(p, META_VALIDATION_SIDE) for p in photographs[:: -(-len(photographs) // META_PHOTOGRAPHS)]]
    return local_freeze.freeze(net, batches, rate, centres), held_out


def _photographs(
    channels: int, data: Path, validation: Path | int, progress: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photographs to calibrate on, uint8 [C, H, W], and centres of others to measure on, uint8 [1, C, h, w]."""
    photographs, held_out = load_photographs(channels, data, validation, progress)
    return photographs, [centre(image, MEASURED_SIDE)[None] for image in held_out]


def _small_images(
    config: ModelConfig, side: int, data: Path, validation: Path | int, progress: bool, label: int | None = None
) -> tuple[Source, list[np.ndarray]]:
    """A source of images to calibrate on, and batches to measure on, uint8 [B, C, side, side]; of one class or all."""
    preset = Preset("", config, side, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, seed=0)
    source, held_out, _ = load(preset, data, validation, progress, label)
    return source, [batch.images for batch in held_out]


def _calibration(source: Source) -> list[torch.Tensor]:
    count = CALIBRATION_IMAGES // CALIBRATION_BATCH
    return [torch.from_numpy(source.batch(CALIBRATION_BATCH).images) for _ in range(count)]


def flow_bits(model: AdeModel, images: np.ndarray) -> np.ndarray:
    """A frozen flow's own estimate, with latents drawn once: uint8 [B, C, H, W] -> bits of each image, float64 [B]."""
    return flow.trial(model, images).bits


def _base(name: str) -> Base:
    """The installed model of this name.  Raises FreezeError if there is none, or if it has latents."""
    try:
        loaded = registry.named(name)
    except ValueError as error:
        raise FreezeError(str(error)) from error
    if not isinstance(loaded.model, PixelCNNModel | LocalModel):
        raise FreezeError(f"{name} has latents, so it cannot be a base")
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
