# SPDX-License-Identifier: MIT
"""The families of models that can be trained: a new one is a package of models and a row here.

A row says which float net an architecture has, and how that is frozen.  It stands apart from models/families.py, since
coding must not load torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from gmcodec.coding import flow
from gmcodec.errors import FreezeError
from gmcodec.models.ade import freeze as ade_freeze
from gmcodec.models.ade.config import AdeConfig
from gmcodec.models.ade.float import Ade
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.agave import freeze as agave_freeze
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.float import Agave
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.float import LocalNet
from gmcodec.models.local.freeze import estimate_bits
from gmcodec.models.online import freeze as online_freeze
from gmcodec.models.pixelcnnpp import freeze as pixelcnnpp_freeze
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.pixelcnnpp.float import PixelCNN
from gmcodec.models.shared.family import Base


class Calibration(Protocol):
    """The images that a net is frozen with, as each family wants them."""

    rate: int | None  # at which a local net was trained to learn: an index into online.rules.RATES

    def patches(self) -> list[tuple[Tensor, int, int]]:
        """Padded patches of photographs, int16 [B, C, H + r, W + 2r], with H and W."""

    def centres(self) -> list[np.ndarray]:
        """Centres of photographs to learn from, uint8 [C, H, W]."""

    def batches(self) -> list[Tensor]:
        """Small images, uint8 [B, C, H, W]."""

    def images(self, count: int) -> np.ndarray:
        """Small images, uint8 [count, C, H, W]."""


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """Float net of an architecture; how it is frozen, given a base or nothing; the frozen model's own estimate, in bits
    of each image, float64 [B], for uint8 [B, C, H, W].
    """

    net: Callable[[Any], nn.Module]
    freeze: Callable[[Any, Calibration, Base | None], Any]
    estimate_bits: Callable[[Any, np.ndarray], np.ndarray]


UNITS_IMAGES, FEATURE_IMAGES = 96, 1000  # on which units are compared; on which features are counted


def _freeze_local(net: LocalNet, images: Calibration, base: Base | None) -> Any:
    _refuse(base, net)
    return online_freeze.freeze(net, images.patches(), images.rate, images.centres())


def _freeze_pixelcnn(net: PixelCNN, images: Calibration, base: Base | None) -> Any:
    _refuse(base, net)
    return pixelcnnpp_freeze.freeze(net, images.batches(), [images.images(UNITS_IMAGES)])


def _freeze_agave(net: Agave, images: Calibration, base: Base | None) -> Any:
    if isinstance(net.decoder, LocalNet):
        return agave_freeze.freeze(net, [], [], base)
    return agave_freeze.freeze(net, images.batches(), [images.images(UNITS_IMAGES)], base)


def _freeze_ade(net: Ade, images: Calibration, base: Base | None) -> Any:
    if base is None:
        raise FreezeError("a flow needs a base that codes the first images of an archive")
    return ade_freeze.freeze(net, images.images(FEATURE_IMAGES), base)


def _refuse(base: Base | None, net: nn.Module) -> None:
    if base is not None:
        raise FreezeError(f"a {type(net).__name__} has no decoder that could share layers")


def flow_bits(model: AdeModel, images: np.ndarray) -> np.ndarray:
    """A frozen flow's own estimate for uint8 [B, C, H, W]: bits of each image, float64 [B], one draw of everything."""
    return flow.trial(model, images).bits


TRAINABLE: dict[type, Trainable] = {
    LocalConfig: Trainable(net=LocalNet, freeze=_freeze_local, estimate_bits=estimate_bits),
    PixelCNNConfig: Trainable(net=PixelCNN, freeze=_freeze_pixelcnn, estimate_bits=estimate_bits),
    AgaveConfig: Trainable(net=Agave, freeze=_freeze_agave, estimate_bits=agave_freeze.estimate_bits),
    AdeConfig: Trainable(net=Ade, freeze=_freeze_ade, estimate_bits=flow_bits),
}
