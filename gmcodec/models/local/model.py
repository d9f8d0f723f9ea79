# SPDX-License-Identifier: MIT
"""The frozen local model, as coding uses it: window -> integer net -> frequencies, without torch.

The channels of a pixel are coded one after the other: ``Prediction.high`` and ``low`` give the frequencies of a
channel's nibbles, ``Prediction.observe`` takes its samples.  The float net is float.py, the specification spec.py.
"""

from __future__ import annotations

import copy
import functools

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int, Int16, Int32, Int64, UInt8
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.local import fit
from gmcodec.models.local.config import LocalConfig, read_config
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.tile_coder import TileCoder
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.mixture import Prediction
from gmcodec.models.shared.tensors import Tensors, read_layers, read_mixture_tables, write_layers, write_tables
from gmcodec.models.shared.window import Canvas


class LocalModel:
    """A frozen local net, ready in the native core.  Immutable; safe to share by threads."""

    def __init__(self, frozen: FrozenLocal, core: native.Core | None = None) -> None:
        self.frozen = frozen
        self.core = core or native.core()
        self.net = frozen.prepare(self.core)
        self._condition: np.ndarray | None = None
        self._above: np.ndarray | None = None

    @property
    def config(self) -> LocalConfig:
        return self.frozen.config

    @property
    def layers(self) -> dict[str, Layer]:
        return self.frozen.layers

    @property
    def tables(self) -> Tables:
        return self.frozen.tables

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def slope(self) -> int:
        return self.config.slope

    @property
    def tile_coder(self) -> TileCoder | None:
        """Codes a single tile into the same words as ``predict`` step by step, but faster.  None with a condition."""
        return self._tile_coder if self._condition is None and self._above is None else None

    @functools.cached_property
    def _tile_coder(self) -> TileCoder:
        return TileCoder(self.config, self.net)

    # -- the model fitted to an image, or conditioned

    def fit(self, sample: UInt8[np.ndarray, "B C H W"], pixels: int) -> bytes:
        """Changes for an image of ``pixels`` pixels, from squares uint8 [B, C, h, w] of it; empty if none pay."""
        return fit.fit(self.frozen, self.net, sample, pixels)

    def adapted(self, changes: bytes) -> LocalModel:
        """The model with the changes that ``fit`` found.  Raises GmcFormatError."""
        return LocalModel(fit.adapted(self.frozen, changes), self.core) if changes else self

    def conditioned_on(self, condition: Int[np.ndarray, "B H W F"]) -> LocalModel:
        """The model of tiles whose pixels have this condition: integers within MAP_LIMIT, [B, H, W, D]."""
        model = copy.copy(self)
        model._condition = np.ascontiguousarray(condition.reshape(-1, condition.shape[-1]), np.int16)
        return model

    def below(self, above: UInt8[np.ndarray, "B C R W"]) -> LocalModel:
        """The model of tiles that lie below finished rows uint8 [B, C, rows, W]; it sees the last few of them."""
        model = copy.copy(self)
        model._above = above
        return model

    # -- predictions

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        """``count`` empty tiles to decode into, or to ``fill`` for encoding."""
        canvas = Canvas(self.config.window, height, width, count)
        if self._above is not None:
            canvas.put_above(self._above)
        return canvas

    def predict(self, canvas: Canvas, pixels: Int64[np.ndarray, " N"]) -> Prediction:
        """Mixtures of ``pixels``, int64 [N] flat indices of the batch, from finished pixels."""
        return Prediction(self.core, self.channels, self.tables, *self.evaluate(canvas, pixels))

    def evaluate(
        self, canvas: Canvas, pixels: Int64[np.ndarray, " N"]
    ) -> tuple[Int32[np.ndarray, "N M"], Int32[np.ndarray, "N C"]]:
        """Outputs of the net, int32 [N, outputs], and the centre of the means, int32 [N, C] in 1/64 grey level."""
        condition = None if self._condition is None else self._condition[pixels]
        return self.net.evaluate(canvas.flat, canvas.row_size, canvas.locate(pixels), condition)

    def features(
        self, canvas: Canvas, pixels: Int64[np.ndarray, " N"]
    ) -> tuple[Int16[np.ndarray, "N F"], Int32[np.ndarray, "N C"]]:
        """Inputs of the net, int16 [N, inputs], and the centre of the means, int32 [N, C]."""
        return self.net.features(canvas.flat, canvas.row_size, canvas.locate(pixels))


# -- on disk: write and read mirror each other ---------------------------------------------------------------

UNITS_PREFIX = "gradient."  # how names of units of gradients start


def write(model: LocalModel) -> Tensors:
    units = model.frozen.gradient_units or {}
    tables = write_tables("table", model.tables)
    return write_layers(model.layers) | tables | {f"{UNITS_PREFIX}{name}": unit for name, unit in units.items()}


def read(config: LocalConfig, tensors: Tensors, base: Base | None) -> LocalModel:
    layers = read_layers(tensors, config)
    units = {name: tensors[f"{UNITS_PREFIX}{name}"] for name in layers if f"{UNITS_PREFIX}{name}" in tensors}
    return LocalModel(FrozenLocal(config, layers, read_mixture_tables(tensors), units or None))


FAMILY = Family(kind="local-1", config=LocalConfig, model=LocalModel, read_config=read_config, write=write, read=read)
