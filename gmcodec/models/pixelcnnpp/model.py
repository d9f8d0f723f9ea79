# SPDX-License-Identifier: MIT
"""The frozen PixelCNN++, as coding uses it, without torch: spec.py is its specification, streams.py evaluates it."""

from __future__ import annotations

import copy
import functools

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int32, Int64, UInt8
from gmcodec.errors import GmcFormatError
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig, read_config
from gmcodec.models.pixelcnnpp.streams import Conditions, Prepared, Streams, prepare
from gmcodec.models.pixelcnnpp.tables import NetTables, read_net_tables
from gmcodec.models.shared.family import Base, Family
from gmcodec.models.shared.mixture import Prediction
from gmcodec.models.shared.tensors import (
    Tensors,
    check_layers,
    read_layers,
    read_mixture_tables,
    write_layers,
    write_tables,
)
from gmcodec.models.shared.window import Canvas


class PixelCNNModel:
    """A frozen PixelCNN++ in the native core.  Immutable; safe to share by threads."""

    slope = None  # raster order only
    tile_coder = None  # coded step by step

    def __init__(
        self,
        config: PixelCNNConfig,
        layers: dict[str, Layer],
        tables: Tables,
        net_tables: NetTables,
        core: native.Core | None = None,
        base: PixelCNNModel | None = None,
    ) -> None:
        """``base``: a model whose layers are among ``layers`` and need not be prepared again."""
        check_layers(config, layers)
        self.config, self.layers, self.tables, self.net_tables = config, layers, tables, net_tables
        self.core = core or native.core()
        shared = base if base and base.core is self.core else None
        known = shared.layers if shared else {}
        added = {name: layer for name, layer in layers.items() if known.get(name) is not layer}
        self.prepared: Prepared = (shared.prepared if shared else {}) | prepare(config, added, self.core)
        self.conditions: Conditions | None = None

    @property
    def channels(self) -> int:
        return self.config.channels

    def fit(self, sample: UInt8[np.ndarray, "B C H W"], pixels: int) -> bytes:
        """No changes: they do not pay for small images."""
        return b""

    def adapted(self, changes: bytes) -> PixelCNNModel:
        """The model itself.  Raises GmcFormatError when there are changes."""
        if changes:
            raise GmcFormatError("this model cannot be changed by an image")
        return self

    def conditioned_on(self, conditions: Conditions) -> PixelCNNModel:
        """The model of images with these conditions; without conditions it is the net that was trained without any."""
        model = copy.copy(self)
        model.conditions = conditions
        return model

    def canvas(self, height: int, width: int, count: int = 1) -> PixelCNNCanvas:
        """``count`` empty images to decode into, or to ``fill`` for encoding."""
        return PixelCNNCanvas(self, height, width, count)

    def predict(self, canvas: PixelCNNCanvas, pixels: Int64[np.ndarray, " N"]) -> Prediction:
        """Mixtures of ``pixels``, int64 [N] flat indices of the batch.

        On a filled canvas these may be any pixels; otherwise one pixel of every image, those of the next step.
        """
        return Prediction(self.core, self.channels, self.tables, *canvas.evaluate(pixels))


class PixelCNNCanvas(Canvas):
    """A batch of images while it is coded, and the features of known pixels."""

    def __init__(self, model: PixelCNNModel, height: int, width: int, count: int) -> None:
        super().__init__(model.config.window, height, width, count)
        self._model = model
        self._all: tuple[np.ndarray, np.ndarray] | None = None
        self._filled = False

    @functools.cached_property
    def _streams(self) -> Streams:
        m = self._model
        return Streams(m.config, m.prepared, m.conditions, m.layers["linear"], m.net_tables, self)

    def fill(self, planes: UInt8[np.ndarray, "B C H W"]) -> None:
        super().fill(planes)
        self._filled = True

    def evaluate(self, pixels: Int64[np.ndarray, " N"]) -> tuple[Int32[np.ndarray, "N M"], Int32[np.ndarray, "N C"]]:
        """Outputs of the net, int32 [N, outputs], and the centre of the means, int32 [N, C] in 1/64 grey level."""
        size = self.height * self.width
        if not self._filled:
            position = int(pixels[0]) % size
            if len(pixels) != len(self.samples) or (pixels % size != position).any():
                raise ValueError("a step is one pixel of every image")
            return self._streams.step(position)
        if self._all is None:
            rows = [self._streams.row(i) for i in range(self.height)]
            outputs, base = (
                np.concatenate(part).reshape(size, len(self.samples), -1) for part in zip(*rows, strict=True)
            )
            self._all = outputs, base
        where = pixels % size, pixels // size
        return self._all[0][where], self._all[1][where]


# -- on disk: write and read mirror each other ---------------------------------------------------------------


def write(model: PixelCNNModel) -> Tensors:
    tables = write_tables("table", model.tables) | write_tables("table", model.net_tables)
    return write_layers(model.layers) | tables


def read(config: PixelCNNConfig, tensors: Tensors, base: Base | None) -> PixelCNNModel:
    return PixelCNNModel(config, read_layers(tensors, config), read_mixture_tables(tensors), read_net_tables(tensors))


FAMILY = Family(
    kind="pixelcnnpp-1", config=PixelCNNConfig, model=PixelCNNModel, read_config=read_config, write=write, read=read
)
