# SPDX-License-Identifier: MIT
"""From float weights on disk to frozen weights on disk, with the cost of freezing measured."""

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
    CHUNK,
    LEARNT_CENTRE,
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

CALIBRATION_PATCHES, CALIBRATION_SIDE = 256, 64  # photographs
CALIBRATION_IMAGES, TRIAL_IMAGES = 1000, 96  # small images
LEARNT_PHOTOGRAPHS = 16  # for nets that were trained to learn
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


def freeze_file(
    float_paths: Sequence[Path],
    data: Path,
    validation: Path | int,
    out: Path,
    progress: bool = False,
    base: str | None = None,
    label: int | None = None,
) -> Report:
    """Freeze float weights (calibrated on images of ``data``) and measure on ``validation``, as in ``data.load``.

    ``base``: of AGAVE, the name of an installed model whose layers its decoder shares.  ``label``: the class to freeze
    a net for that depends on classes; it is measured on images of that class.  Raises FreezeError when a bound cannot
    be proved, or the base is another net; nothing is written then.
    """
    net, float_path = load_whole(float_paths), float_paths[0]
    frozen_estimate: Callable[[Any, np.ndarray], np.ndarray] = estimate_bits
    model: weights.Model
    classes = net.config.classes if isinstance(net, Ade) else 0
    if label is not None and not classes:
        raise FreezeError(f"{float_path} does not depend on classes")
    if label is None and classes:
        raise FreezeError(f"{float_path} has {classes} classes: say which one with --label")
    if base is not None and not isinstance(net, Agave | Ade):
        raise FreezeError(f"{float_path} has no decoder that could share layers")
    if isinstance(net, LocalNet):
        model, batches = _freeze_local(net, data, validation, progress, read_adaptation(float_path))
    elif isinstance(net, Agave):
        frozen_estimate = agave_freeze.estimate_bits
        shared = None if base is None else _base(base)
        if isinstance(net.decoder, LocalNet):
            batches = _photographs(net.config.channels, data, validation, progress)[1]
            model = agave_freeze.freeze(net, [], [], shared)
        else:
            learnt, batches = _small_images(net.config, read_side(float_path), data, validation, progress)
            model = agave_freeze.freeze(net, _calibration(learnt), [learnt.batch(TRIAL_IMAGES).images], shared)
    elif isinstance(net, Ade):
        if base is None:
            raise FreezeError("a flow needs a base that codes the first images of an archive")
        frozen_estimate = flow_bits
        learnt, batches = _small_images(net.config, read_side(float_path), data, validation, progress, label)
        net = net if label is None else net.of_class(label)
        model = ade_freeze.freeze(net, learnt.batch(CALIBRATION_IMAGES).images, _base(base))
    else:
        learnt, batches = _small_images(net.config, read_side(float_path), data, validation, progress)
        model = pixelcnnpp_freeze.freeze(net, _calibration(learnt), [learnt.batch(TRIAL_IMAGES).images])
    float_bits = sum(bits(net, b) for b in tqdm(batches, desc="float", disable=not progress))
    frozen_bits = sum(frozen_estimate(model, b).sum() for b in tqdm(batches, desc="frozen", disable=not progress))
    samples = sum(batch.size for batch in batches)
    identity = weights.write(model, out)
    return Report(float_bits / samples, frozen_bits / samples, identity, out.stat().st_size)


def _freeze_local(
    net: LocalNet, data: Path, validation: Path | int, progress: bool, rate: int | None
) -> tuple[LocalModel, list[np.ndarray]]:
    """Model, and the centres of the validation photographs; ``rate``: of a net that was trained to learn."""
    side = CALIBRATION_SIDE
    photographs, held_out = _photographs(net.config.channels, data, validation, progress)
    patches = Patches(photographs, side, net.config.reach, seed=0, edges=0.02)
    batches = [(torch.from_numpy(patches.batch(8).images), side, side) for _ in range(CALIBRATION_PATCHES // 8)]
    learnt = [centre(p, LEARNT_CENTRE) for p in photographs[:: -(-len(photographs) // LEARNT_PHOTOGRAPHS)]]
    return local_freeze.freeze(net, batches, rate, learnt), held_out


def _photographs(
    channels: int, data: Path, validation: Path | int, progress: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photographs to calibrate on, uint8 [C, H, W], and the centres of those to measure on, uint8 [1, C, h, w]."""
    photographs, held_out = load_photographs(channels, data, validation, progress)
    return photographs, [centre(image, SIDE)[None] for image in held_out]


def _small_images(
    config: ModelConfig, side: int, data: Path, validation: Path | int, progress: bool, label: int | None = None
) -> tuple[Source, list[np.ndarray]]:
    """What to calibrate on, and the validation images in batches, uint8 [B, C, side, side]; of one class or all."""
    preset = Preset("", config, side, 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0, seed=0)
    source, held_out, _ = load(preset, data, validation, progress, label)
    return source, [batch.images for batch in held_out]


def _calibration(source: Source) -> list[torch.Tensor]:
    return [torch.from_numpy(source.batch(CHUNK).images) for _ in range(CALIBRATION_IMAGES // CHUNK)]


def flow_bits(model: AdeModel, images: np.ndarray) -> np.ndarray:
    """A frozen flow's own estimate for uint8 [B, C, H, W]: bits of each image, float64 [B], one draw of everything."""
    return flow.trial(model, images).bits


def _base(name: str) -> Base:
    """The installed model without latents of this name.  Raises FreezeError."""
    try:
        loaded = registry.named(name)
    except ValueError as error:
        raise FreezeError(str(error)) from error
    if not isinstance(loaded.model, PixelCNNModel | LocalModel):
        raise FreezeError(f"{name} has latents itself")
    return Base(name, loaded.weights_id, loaded.model)


@torch.no_grad()
def bits(net: Any, images: np.ndarray) -> float:
    """Bits of uint8 [B, C, H, W] under a float net, in float32; torch's generator draws latents."""
    return net.eval().bits(prepared(net, images)).double().mean().item() * images[:, 0].size


def prepared(net: Any, images: np.ndarray) -> torch.Tensor:
    """uint8 [B, C, H, W] as a float net takes them: padded where it has a window, nothing is known around them."""
    window = local_config(net.config)
    padded = [pad(image, window.reach) for image in images] if window else images
    return torch.from_numpy(np.ascontiguousarray(padded))
