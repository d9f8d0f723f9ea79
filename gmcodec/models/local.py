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

The channels of a pixel are coded one after the other: ``Prediction.high`` and ``low`` give the rows of
a channel's nibbles, ``Prediction.observe`` tells the sample.  The float twin is local_float.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import WeightsError
from ..exact import evaluators, kernels
from ..exact.evaluators import Evaluator
from ..exact.ops import Layer
from ..exact.tables import NIBBLES, Tables
from . import local_fit, local_kernels
from .window import OUTSIDE, window_offsets

ACTIVATION_LIMIT = 2047  # 12-bit activations; part of the format of the weights
OUTPUT_LIMIT = 2**17
INPUT_LIMIT = 128
BLOCK = 256  # pixels evaluated at once: activations stay in a core's own cache
KIND = "local-1"


@dataclass(frozen=True)
class LocalConfig:
    """Architecture of a local model; stored with the weights."""

    channels: int  # 3 (RGB) or 1 (grey)
    radius2: int  # squared radius of the window, pixels
    slope: int  # wavefront slope, see window.py
    width: int  # of every hidden layer
    blocks: int  # residual blocks of two pointwise layers
    mixtures: int  # logistic components K
    neighbours: int  # nearest pixels seen by the linear predictor

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Window offsets (dy, dx), nearest first."""
        return window_offsets(self.radius2, self.slope)

    @property
    def reach(self) -> int:
        """Largest distance, in rows or columns, of a window pixel."""
        return int(self.radius2**0.5)

    @property
    def inputs(self) -> int:
        return self.channels * (len(self.offsets) + 1)

    @property
    def couplings(self) -> int:
        return self.channels * (self.channels - 1) // 2

    @property
    def outputs(self) -> int:
        return self.mixtures * (1 + 2 * self.channels + self.couplings)

    def raster_columns(self) -> np.ndarray:
        """int64 [inputs]: the feature columns of the float net in the frozen net's order (row by row)."""
        offsets = self.offsets
        raster = sorted(range(len(offsets)), key=lambda o: offsets[o])
        c = self.channels
        window = [o * c + channel for o in raster for channel in range(c)]
        return np.array(window + list(range(len(offsets) * c, len(offsets) * c + c)))

    def near_columns(self) -> np.ndarray:
        """int64 [C * neighbours]: where the frozen net finds the linear predictor's inputs."""
        position = np.argsort(self.raster_columns())
        return position[: self.channels * self.neighbours]

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        blocks = [f"{kind}.{b}" for b in range(self.blocks) for kind in ("up", "down")]
        return ["first", *blocks, "last", "linear"]


def layer_shape(config: LocalConfig, name: str) -> tuple[int, int]:
    """Rows and columns of a layer's weight matrix."""
    c = config
    return {
        "first": (c.width, c.inputs),
        "last": (c.outputs, c.width),
        "linear": (c.channels, c.channels * c.neighbours),
    }.get(name, (c.width, c.width))


class LocalModel:
    """A frozen local model with the evaluator chosen for this machine.  Immutable; safe to share by threads."""

    def __init__(
        self, config: LocalConfig, layers: dict[str, Layer], tables: Tables, evaluator: Evaluator | None = None
    ) -> None:
        for name in config.layer_names():
            layers[name].check(name)
            if layers[name].weight.shape != layer_shape(config, name):
                raise WeightsError(f"{name}: shape {layers[name].weight.shape} does not fit the architecture")
        self.config, self.layers, self.tables = config, layers, tables
        self.evaluator = evaluator or evaluators.choose()[0]
        names = [n for n in config.layer_names() if n != "linear"]
        self._prepared = {n: (self.evaluator.prepare(layers[n]), *kernels.affine(layers[n])) for n in names}
        rows: dict[int, list[int]] = {}
        for dy, dx in config.offsets:
            rows.setdefault(dy, []).append(dx)
        self._runs = [(dy, min(dx), len(dx)) for dy, dx in sorted(rows.items())]
        self._run_length = np.array([length * config.channels for _, _, length in self._runs])
        self._near = config.near_columns()

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def slope(self) -> int:
        return self.config.slope

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        """What to change for an image of ``pixels`` pixels, from squares uint8 [B, C, h, w] of it; may be nothing."""
        return local_fit.fit(self, sample, pixels)

    def adapted(self, changes: bytes) -> LocalModel:
        """The model changed as ``fit`` said, if it said anything.  Raises GmcFormatError."""
        return local_fit.adapted(self, changes) if changes else self

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        """``count`` empty tiles to decode into, or to ``fill`` for encoding."""
        return Canvas(self, height, width, count)

    def predict(self, canvas: Canvas, pixels: np.ndarray) -> Prediction:
        """Mixtures of ``pixels``, int64 [N] flat indices of the batch, from finished pixels."""
        return Prediction(self, *self.evaluate(canvas, pixels))

    def evaluate(self, canvas: Canvas, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of the net, int32 [N, outputs], and the centre of the means, int32 [N, C] in 1/64 grey level."""
        outputs = np.empty((len(pixels), self.config.outputs), np.int32)
        base = np.empty((len(pixels), self.channels), np.int32)
        for start in range(0, len(pixels), BLOCK):
            part = slice(start, start + BLOCK)
            self._net(self.features(canvas, pixels[part], base[part]), outputs[part])
        return outputs, base

    def features(self, canvas: Canvas, pixels: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Inputs of the net, [N, inputs] of the evaluator's dtype; ``base`` [N, C] is filled in."""
        x = np.empty((len(pixels), self.config.inputs), self.evaluator.dtype)
        linear = self.layers["linear"]
        local_kernels.features(
            canvas.flat, canvas.row_size, canvas.locate(pixels), self.channels, canvas.run_start, self._run_length,
            self._near, linear.weight, linear.multiplier, linear.shift, x, base,
        )  # fmt: skip
        return x

    def _net(self, x: np.ndarray, outputs: np.ndarray) -> None:
        c = self.config
        stream = np.empty((len(x), c.width), x.dtype)
        inner = np.empty((len(x), c.width), x.dtype)
        self._layer("first", kernels.hidden, x, ACTIVATION_LIMIT, stream)
        for b in range(c.blocks):
            self._layer(f"up.{b}", kernels.hidden, stream, ACTIVATION_LIMIT, inner)
            self._layer(f"down.{b}", kernels.residual, inner, ACTIVATION_LIMIT, stream)
        self._layer("last", kernels.output, stream, OUTPUT_LIMIT, outputs)

    def _layer(self, name: str, kernel, x: np.ndarray, limit: int, out: np.ndarray) -> None:
        product, scale, offset = self._prepared[name]
        kernel(product(x), scale, offset, limit, out)


class Canvas:
    """Tiles of equal size, int16 [B, reach + H, W + 2 * reach, C], OUTSIDE where nothing is known.

    A window reaches up and to the sides only, so each tile's margins keep it apart from the others.
    """

    def __init__(self, model: LocalModel, height: int, width: int, count: int = 1) -> None:
        c, r = model.channels, model.config.reach
        self.height, self.width, self.channels = height, width, c
        self.samples = np.full((count, r + height, width + 2 * r, c), OUTSIDE, np.int16)
        self.inner = self.samples[:, r:, r : r + width]
        self.flat = self.samples.reshape(-1)
        self.row_size = (width + 2 * r) * c
        self.run_start = np.array([dy * self.row_size + dx * c for dy, dx, _ in model._runs])
        self._origin, self._reach = r * self.row_size + r * c, r

    def locate(self, pixels: np.ndarray) -> np.ndarray:
        """Positions of the pixels' first samples in ``flat``."""
        rows = pixels // self.width
        margins = rows * (2 * self._reach * self.channels) + rows // self.height * (self._reach * self.row_size)
        return self._origin + pixels * self.channels + margins

    def fill(self, planes: np.ndarray) -> None:
        """Copy whole tiles in: uint8 [B, C, H, W]."""
        self.inner[:] = planes.transpose(0, 2, 3, 1)

    def write(self, pixels: np.ndarray, samples: np.ndarray) -> None:
        """Store decoded samples int32 [N, C]."""
        self.flat[self.locate(pixels)[:, None] + np.arange(self.channels)] = samples

    def planes(self) -> np.ndarray:
        """uint8 [B, C, H, W]."""
        return np.ascontiguousarray(self.inner.transpose(0, 3, 1, 2)).astype(np.uint8)


class Prediction:
    """Frequencies of N pixels, channel by channel.  Call high, low, observe in turn for each channel."""

    def __init__(self, model: LocalModel, outputs: np.ndarray, base: np.ndarray) -> None:
        n, k = len(outputs), model.config.mixtures
        self._model, self._tables, self._outputs, self._base = model, model.tables, outputs, base
        self._weights = np.empty((n, k), np.int64)
        self._mean = np.empty((n, k), np.int64)
        self._inverse = np.empty((n, k), np.int64)
        self.samples = np.zeros((n, model.channels), np.int32)
        self._channel = 0
        kernels.softmax(outputs, self._tables.softmax, self._weights)

    def high(self) -> np.ndarray:
        """Rows of the high nibble of the next channel: int32 [N, 16]."""
        t = self._tables
        local_kernels.open_channel(
            self._outputs, self._base, self.samples, self._channel, self._model.channels, t.inverse,
            self._mean, self._inverse,
        )  # fmt: skip
        rows = np.empty((len(self.samples), NIBBLES), np.int32)
        kernels.high_rows(self._weights, self._mean, self._inverse, t.sigmoid, rows)
        return rows

    def low(self, high: np.ndarray) -> np.ndarray:
        """Rows of the low nibble given the high one, int32 [N]: int32 [N, 16]."""
        rows = np.empty((len(self.samples), NIBBLES), np.int32)
        kernels.low_rows(high, self._weights, self._mean, self._inverse, self._tables.sigmoid, rows)
        return rows

    def observe(self, sample: np.ndarray) -> None:
        """Tell the channel's samples, int32 [N]; the next channel follows."""
        self.samples[:, self._channel] = sample
        self._channel += 1
        if self._channel < self._model.channels:
            kernels.observe(sample, self._weights, self._mean, self._inverse, self._tables.sigmoid)
