# SPDX-License-Identifier: MIT
"""The local causal PixelCNN, frozen: window -> integer net -> frequencies, without torch.

::

    causal window (differences to the local mean, +-127)  [N, inputs]
          |  first            hidden: rescale, leaky ReLU, clamp
          v
        stream [N, width] --- up -> hidden -> down ---> + stream, clamp     (blocks times)
          |  last
          v
    logits | means | log-scales | couplings   of K logistics    [N, outputs]

A net with a condition adds layers of it, D features a pixel, to the stream behind ``first`` and behind every block.
The channels of a pixel are coded one after the other: ``Prediction.high`` and ``low`` give the rows of
a channel's nibbles, ``Prediction.observe`` tells the sample.  The float twin is local/float.py.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.local import fit as local_fit
from gmcodec.models.local import tile_coder as local_tile
from gmcodec.models.online import rules
from gmcodec.models.online.tile_coder import DeepTileCoder, OnlineTileCoder
from gmcodec.models.pixelcnnpp.tables import CONDITION_LIMIT
from gmcodec.models.shared.mixture import MixtureOutputs, Prediction
from gmcodec.models.shared.window import Canvas, Window

ACTIVATION_LIMIT = 2047  # 12-bit activations; part of the format of the weights
OUTPUT_LIMIT = 2**17
INPUT_LIMIT = 128
CONDITION = "condition."  # how names of layers that read a condition start
KIND = "local-1"
TileCoder = local_tile.TileCoder | OnlineTileCoder


@dataclass(frozen=True)
class LocalConfig(MixtureOutputs):
    """Architecture of a local model; stored with the weights."""

    channels: int  # 3 (RGB) or 1 (grey)
    radius2: int  # squared radius of the window, pixels
    slope: int  # wavefront slope, see shared/window.py
    width: int  # of every hidden layer
    blocks: int  # residual blocks of two pointwise layers
    mixtures: int  # logistic components K
    neighbours: int  # nearest pixels seen by the linear predictor
    condition: int = 0  # features D of a condition of every pixel; 0: there is none

    @property
    def window(self) -> Window:
        return Window(self.channels, self.radius2, self.slope)

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Window offsets (dy, dx), nearest first."""
        return self.window.offsets

    @property
    def reach(self) -> int:
        """Largest distance, in rows or columns, of a window pixel."""
        return self.window.reach

    @property
    def inputs(self) -> int:
        return self.window.inputs

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        blocks = [f"{kind}.{b}" for b in range(self.blocks) for kind in ("up", "down")]
        told = [f"{CONDITION}{n}" for n in range(self.blocks + 1)] if self.condition else []
        return ["first", *blocks, "last", "linear", *told]

    def input_limit(self, name: str) -> int:
        """What no input of a layer exceeds."""
        if name.startswith(CONDITION):
            return CONDITION_LIMIT
        return INPUT_LIMIT if name in ("first", "linear") else ACTIVATION_LIMIT


def layer_shape(config: LocalConfig, name: str) -> tuple[int, int]:
    """Rows and columns of a layer's weight matrix."""
    c = config
    if name.startswith(CONDITION):
        return c.width, c.condition
    return {
        "first": (c.width, c.inputs),
        "last": (c.outputs, c.width),
        "linear": (c.channels, c.channels * c.neighbours),
    }.get(name, (c.width, c.width))


class LocalModel:
    """A frozen local model, ready in the native core.  Immutable; safe to share by threads."""

    def __init__(
        self,
        config: LocalConfig,
        layers: dict[str, Layer],
        tables: Tables,
        core: native.Core | None = None,
        units: dict[str, np.ndarray] | None = None,
    ) -> None:
        """``units``: of gradients, for a model that can learn: see online/rules.py.  Raises WeightsError."""
        for name in config.layer_names():
            layers[name].check(name)
            if layers[name].weight.shape != layer_shape(config, name):
                raise WeightsError(f"{name}: shape {layers[name].weight.shape} does not fit the architecture")
        self.config, self.layers, self.tables = config, layers, tables
        self.core = core or native.core()
        self.net = self._prepared()
        self._told: np.ndarray | None = None
        self._above: np.ndarray | None = None
        self.units = units
        self.rate: int | None = None  # of a model that learns
        self.averaged = False  # whether it codes with means of its weights then: online/rules.py
        self.mirror = 0  # how it goes through tiles then: online.tile_coder.mirrored
        if units is not None:
            rules.check(self, units)

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def slope(self) -> int:
        return self.config.slope

    @property
    def tile_coder(self) -> TileCoder | None:
        """What codes a tile alone: as steps of ``predict`` do, but faster; or learning."""
        return self._loop if self._told is None and self._above is None else None

    def _prepared(self) -> native.Net:
        """The model's arrays in the native core."""
        c = self.config

        def arrays(names: list[str]) -> list[native.LayerArrays]:
            return [native.LayerArrays.of(self.layers[name]) for name in names]

        names = [n for n in c.layer_names() if n != "linear"]
        return native.Net(
            self.core,
            arrays([n for n in names if not n.startswith(CONDITION)]),
            arrays([n for n in names if n.startswith(CONDITION)]),
            native.LayerArrays.of(self.layers["linear"]),
            c.window.near_columns(c.neighbours),
            np.array(c.window.runs),
            self.tables,
            c.channels,
            c.mixtures,
            self.limits,
        )

    @functools.cached_property
    def _loop(self) -> TileCoder:
        learns = self.units is not None and self.rate is not None
        return OnlineTileCoder((self,), self.mirror) if learns else local_tile.TileCoder(self)

    def learning(self, rate: int, mirror: int = 0) -> LocalModel:
        """The model that learns from every tile it codes alone, with a rate of online.rules.RATES; tiles may be
        mirrored.

        Raises WeightsError when the weights are not made for it.
        """
        if self.units is None:
            raise WeightsError("these weights are not made to learn while they code")
        if (rate, mirror) == (self.rate, self.mirror):
            return self
        model = copy.copy(self)
        model.__dict__.pop("_loop", None)
        model.rate, model.mirror = rate, mirror
        return model

    def averaging(self) -> LocalModel:
        """The model that codes with running means of its weights, if it learns: smaller, but slower."""
        model = copy.copy(self)
        model.__dict__.pop("_loop", None)
        model.averaged = True
        return model

    def deep_coder(self, bits: int, shift: int, rate: int) -> DeepTileCoder:
        """What codes tiles of samples of more bits.  Raises as DeepTileCoder."""
        return DeepTileCoder(self, bits, shift, rate)

    @property
    def limits(self) -> tuple[int, int]:
        """What no activation and no output exceeds."""
        return ACTIVATION_LIMIT, OUTPUT_LIMIT

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        """What to change for an image of ``pixels`` pixels, from squares uint8 [B, C, h, w] of it; may be nothing.

        A model that learns names its rate, and finds the rest by itself: a fit before it gains 0.06 %.
        """
        if self.rate is not None:
            return bytes([self.rate])
        return local_fit.fit(self, sample, pixels)

    def adapted(self, changes: bytes) -> LocalModel:
        """The model changed as ``fit`` said, if it said anything.  Raises GmcFormatError."""
        if self.rate is None or not changes:
            return local_fit.adapted(self, changes) if changes else self
        (rate,), mirror = rules.read_changes(changes, 1)
        return self.learning(rate, mirror)

    def given(self, conditions: np.ndarray) -> LocalModel:
        """The model of tiles of which so much is known: integers within CONDITION_LIMIT, [B, H, W, D]."""
        model = copy.copy(self)
        model._told = np.ascontiguousarray(conditions.reshape(-1, conditions.shape[-1]), np.int16)
        return model

    def below(self, above: np.ndarray) -> LocalModel:
        """The model of tiles that lie below finished rows uint8 [B, C, rows, W] of their images; few are looked at."""
        model = copy.copy(self)
        model._above = above
        return model

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        """``count`` empty tiles to decode into, or to ``fill`` for encoding."""
        canvas = Canvas(self.config.window, height, width, count)
        if self._above is not None:
            canvas.put_above(self._above)
        return canvas

    def predict(self, canvas: Canvas, pixels: np.ndarray) -> Prediction:
        """Mixtures of ``pixels``, int64 [N] flat indices of the batch, from finished pixels."""
        return Prediction(self.core, self.channels, self.tables, *self.evaluate(canvas, pixels))

    def evaluate(self, canvas: Canvas, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the net, int32 [N, outputs], and the centre of the means, int32 [N, C] in 1/64 grey level."""
        told = None if self._told is None else self._told[pixels]
        return self.net.evaluate(canvas.flat, canvas.row_size, canvas.locate(pixels), told)

    def features(self, canvas: Canvas, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of the net, int16 [N, inputs], and the centre of the means, int32 [N, C]."""
        return self.net.features(canvas.flat, canvas.row_size, canvas.locate(pixels))
