# SPDX-License-Identifier: MIT
"""The frozen VAE of AGAVE over a batch of images: features on the way up, latents group by group, f(z), conditions.

Maps are [B, H, W, F], integers within +-16383 worth 1/512 each, whatever the layer.  agave_spec.py says the
same in plain numpy.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ..exact import gaussians, kernels
from ..exact.evaluators import Evaluator
from ..exact.gaussians import Gaussians, LatentTables
from ..exact.ops import Layer
from ..exact.tables import LOG_SCALE_UNIT, POSITION, Tables
from . import pixelcnnpp_kernels
from .mixture import Prediction
from .pixelcnnpp import Conditions, PixelCNNConfig, PixelCNNModel

if TYPE_CHECKING:
    from .agave import AgaveModel, Decoder

# every activation, of the VAE too, has the unit and the limit of what the decoder is told
UNIT, ACTIVATION_LIMIT = pixelcnnpp_kernels.CONDITION_UNIT, pixelcnnpp_kernels.CONDITION_LIMIT
OUTPUT_LIMIT = 2**17  # of means and log-scales
MEANS_OF_LATENTS_UNIT = 4096  # of means that nets give
LATENT_SHIFT = (gaussians.POSITION // UNIT).bit_length() - 1  # from positions of latents to activations
MEANS_UNIT = 128 * POSITION  # of f(z): 1/64 of a grey level, relative to samples within -1..1
MEANS_SHIFT = (MEANS_UNIT // UNIT).bit_length() - 1
CENTRE = 128
ROWS = 4096  # cells that a layer is evaluated for at once
WIDE = 5 * LOG_SCALE_UNIT  # log-scale of samples of which nothing is known


def to_activation(x: np.ndarray, shift: int) -> np.ndarray:
    """Round away ``shift`` bits and clamp."""
    return np.clip((x.astype(np.int64) + (1 << shift >> 1)) >> shift, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class Maps:
    """Layers over whole maps."""

    def __init__(self, layers: dict[str, Layer], elu: np.ndarray, nonlinearity: str, evaluator: Evaluator) -> None:
        self.dtype = evaluator.dtype
        self._elu = None if nonlinearity == "leaky" else elu
        self._prepared = {name: (evaluator.prepare(layer), *kernels.affine(layer)) for name, layer in layers.items()}

    def active(self, x: np.ndarray) -> np.ndarray:
        """The non-linearity of a map."""
        flat, out = x.reshape(-1, x.shape[-1]), np.empty_like(x)
        if self._elu is None:
            pixelcnnpp_kernels.leaky(flat, out.reshape(flat.shape))
        else:
            pixelcnnpp_kernels.elu(flat, self._elu, out.reshape(flat.shape))
        return out

    def convolve(
        self, name: str, x: np.ndarray, size: int = 3, stride: int = 1, limit: int = ACTIVATION_LIMIT
    ) -> np.ndarray:
        """A layer that sees ``size`` x ``size`` cells, clamped: [B, H, W, F] -> [B, H / stride, W / stride, M]."""
        product, scale, offset = self._prepared[name]
        count, height, width, _ = x.shape
        r, rows, columns = size // 2, -(-height // stride), -(-width // stride)
        padded = np.pad(x, ((0, 0), (r, r), (r, r), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
        out = np.empty((count, rows, columns, len(scale)), self.dtype if limit == ACTIVATION_LIMIT else np.int32)
        images, band = max(1, ROWS // (rows * columns)), max(1, ROWS // columns)  # or rows of an image
        for start, top in itertools.product(range(0, count, images), range(0, rows, band)):
            place = slice(start, start + images), slice(top, top + band)
            part = windows[place].transpose(0, 1, 2, 4, 5, 3)
            inputs = np.ascontiguousarray(part).reshape(-1, size * size * x.shape[3])
            result = np.empty((len(inputs), len(scale)), out.dtype)
            kernels.output(product(inputs), scale, offset, limit, result)
            out[place] = result.reshape(out[place].shape)
        return out

    def residual(self, x: np.ndarray, name: str, inner: np.ndarray) -> np.ndarray:
        """x plus a layer of ``inner``, clamped."""
        added = self.convolve(name, inner, limit=OUTPUT_LIMIT)
        return np.clip(added + x, -ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(self.dtype)


def twice(x: np.ndarray) -> np.ndarray:
    """Every cell becomes four."""
    return x.repeat(2, 1).repeat(2, 2)


class AgaveWalk:
    """From the first group to the last; see coding/bitsback.py.

    A part is a group, its latents [B, H', W', L] in that order, or, with a flow, a channel of one, [B, H', W'].
    """

    def __init__(self, model: AgaveModel, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> None:
        c = model.config
        count, _, height, width = shape
        if not model.takes(height, width):
            raise ValueError(f"an image of {width}x{height} pixels does not consist of cells of {c.cell}x{c.cell}")
        self._model, self._shape = model, shape
        self._padded = -(-height // c.cell) * c.cell, -(-width // c.cell) * c.cell  # whole cells
        self._up = None if planes is None else self._features(planes)
        self._stage, self._channel = 0, 0
        size = c.cell
        top = model.constants.top.astype(model.maps.dtype)
        self._x = np.tile(top, (count, self._padded[0] // size, self._padded[1] // size, 1))
        self._open()

    def sizes(self) -> list[int]:
        c, count = self._model.config, self._shape[0]
        sizes = []
        for level, _ in c.stages:
            channels, rows, columns = c.latent_shape(level, *self._padded)
            cells = count * rows * columns
            sizes += [cells] * channels if c.posterior == "iaf" else [cells * channels]
        return sizes

    def _features(self, planes: np.ndarray) -> list[list[np.ndarray]]:
        """The way up: for every resolution the activation behind each block."""
        model = self._model
        maps, c = model.maps, model.config
        more = [after - before for after, before in zip(self._padded, planes.shape[2:], strict=True)]
        planes = np.pad(planes, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), "edge")
        x = (planes.transpose(0, 2, 3, 1).astype(np.int16) - CENTRE).astype(maps.dtype)
        x = maps.convolve("first", x, 2 * c.stride + 1, c.stride)
        found: list[list[np.ndarray]] = []
        for level, blocks in enumerate(c.groups):
            if level:
                x = maps.convolve(f"shrink.{level - 1}", maps.active(x), stride=2)
            found.append([])
            for n in range(blocks):
                inner = maps.active(maps.convolve(f"up.{level}.{n}.first", maps.active(x)))
                x = maps.residual(x, f"up.{level}.{n}.second", inner)
                found[-1].append(maps.active(x))
        return found

    def _open(self) -> None:
        """Get ready for the stage that is next."""
        c, maps = self._model.config, self._model.maps
        level, n = c.stages[self._stage]
        if self._stage and level < c.stages[self._stage - 1][0]:
            self._x = maps.convolve(f"grow.{level}", twice(maps.active(self._x)))
        self._active = maps.active(self._x)
        self._posterior: tuple[np.ndarray, np.ndarray] | None = None
        cells = (*self._active.shape[:3], c.latents)
        self._e = np.zeros(cells, np.int64)  # in 1/65536
        self._e0 = np.zeros(cells, np.int64)  # before the flow
        self._flowed: tuple[np.ndarray, np.ndarray] | None = None
        self._seen = None if self._up is None else self._up[level][-1 - n]

    # -- posteriors ----------------------------------------------------------------------------------------

    def posterior(self) -> Rows:
        """Of the next part."""
        model = self._model
        if self._seen is None:
            raise ValueError("posteriors need the images")
        if self._posterior is None:
            both = np.concatenate([self._seen, self._active], 3)
            self._posterior = self._split(f"stages.{self._stage}.posterior", both)
        mean, log_scale = self._posterior
        if model.config.posterior == "iaf":
            flow_mean, flow_scale = self._flow()
            i = self._channel
            flow_index = gaussians.scale_index(flow_scale[..., i])
            mean = flow_mean[..., i] + gaussians.times_scale(mean[..., i], flow_index, model.latent_tables)
            log_scale = flow_scale[..., i] + log_scale[..., i]
        index = gaussians.scale_index(log_scale)
        limit = gaussians.LARGEST_MEAN
        return Rows(Gaussians(np.clip(mean, -limit, limit).ravel(), index.ravel()), model.latent_tables)

    def _split(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means in 1/65536 and log-scales in 1/32 nat, int64 [B, H, W, L], clamped as the float net's are."""
        mean, log_scale = np.split(self._model.maps.convolve(name, x, limit=OUTPUT_LIMIT).astype(np.int64), 2, 3)
        unit = gaussians.LOG_SCALE_UNIT
        mean *= gaussians.POSITION // MEANS_OF_LATENTS_UNIT
        return mean, np.clip(log_scale, gaussians.LOG_SCALE_MIN * unit, gaussians.LOG_SCALE_MAX * unit)

    def _flow(self) -> tuple[np.ndarray, np.ndarray]:
        """Of all channels; right for the next one, which depends on the channels before it only."""
        if self._flowed is not None:
            return self._flowed
        maps, name = self._model.maps, f"stages.{self._stage}.flow"
        known = to_activation(self._e0, LATENT_SHIFT).astype(maps.dtype)
        inner = maps.active(maps.convolve(f"{name}.first", np.concatenate([known, self._seen], 3)))
        self._flowed = self._split(f"{name}.last", inner)
        return self._flowed

    def observe(self, bins: np.ndarray) -> None:
        """Tell the next part."""
        model = self._model
        values = model.latent_tables.values[bins].astype(np.int64)
        if model.config.posterior == "gaussian":
            self._e[:] = values.reshape(self._e.shape)
            self._close()
            return
        i = self._channel
        self._e[..., i] = values.reshape(self._e.shape[:3])
        if self._seen is not None:
            flow_mean, flow_scale = self._flow()
            index = gaussians.scale_index(flow_scale[..., i])
            self._e0[..., i] = gaussians.over_scale(self._e[..., i] - flow_mean[..., i], index, model.latent_tables)
        self._flowed = None
        self._channel += 1
        if self._channel == model.config.latents:
            self._channel = 0
            self._close()

    def _close(self) -> None:
        """All latents of a stage are known: go on to the next."""
        model, name = self._model, f"stages.{self._stage}"
        maps, z = model.maps, self._e
        if self._stage:
            mean, log_scale = self._split(f"{name}.prior", self._active)
            z = mean + gaussians.times_scale(z, gaussians.scale_index(log_scale), model.latent_tables)
        known = to_activation(z, LATENT_SHIFT).astype(maps.dtype)
        inner = maps.active(maps.convolve(f"{name}.inner", np.concatenate([self._active, known], 3)))
        self._x = maps.residual(self._x, f"{name}.second", inner)
        self._stage += 1
        if self._stage < len(model.config.stages):
            self._open()

    # -- f(z) ----------------------------------------------------------------------------------------------

    def means(self) -> np.ndarray:
        """f(z), int32 [B, H'', W'', planes] in 1/64 grey level, relative to 128."""
        maps, x = self._model.maps, self._x
        for n in range(self._model.config.doublings):
            x = maps.convolve(f"finer.{n}", twice(maps.active(x)))
        return maps.convolve("last", maps.active(x), limit=OUTPUT_LIMIT)

    def given(self) -> Decoder | Factored:
        """The decoder that knows f(z)."""
        model = self._model
        if model.decoder is None:
            return Factored(model.tables, self.means(), model.constants.log_scale, model.channels)
        conditions = self.conditions()
        if isinstance(model.decoder, PixelCNNModel):
            return model.decoder.given(by_position(model.decoder.config, conditions))
        return model.decoder.given(conditions[0][:, : self._shape[2], : self._shape[3]])

    def conditions(self) -> list[np.ndarray]:
        """What f(z) tells the decoder, integers [B, H', W', D] for each of ``AgaveConfig.told``."""
        c, maps = self._model.config, self._model.maps
        x = to_activation(self.means(), MEANS_SHIFT).astype(maps.dtype).repeat(c.auxiliary, 1).repeat(c.auxiliary, 2)
        streams = [maps.convolve("told.first", x)]
        for n in range(max(c.told)):
            streams.append(maps.convolve(f"told.shrink.{n}", maps.active(streams[-1]), stride=2))
        found = []
        for n, level in enumerate(c.told):
            streams[level] = maps.residual(streams[level], f"told.{n}", maps.active(streams[level]))
            found.append(maps.active(streams[level]))
        return found


def by_position(decoder: PixelCNNConfig, conditions: list[np.ndarray]) -> Conditions:
    """``AgaveWalk.conditions`` as a PixelCNN++ takes them."""
    cells_first = [np.ascontiguousarray(x.transpose(1, 2, 0, 3)) for x in conditions]
    return dict(zip(decoder.positions, cells_first, strict=True))


class Rows:
    """Posteriors of a part as frequencies."""

    def __init__(self, posteriors: Gaussians, tables: LatentTables) -> None:
        self.gaussians, self._tables = posteriors, tables

    def rows(self, first: np.ndarray, step: int) -> np.ndarray:
        """``gaussians.rows``."""
        g, t = self.gaussians, self._tables
        out = np.empty((len(g.mean), 16), np.int32)
        first = np.ascontiguousarray(np.broadcast_to(first, g.mean.shape))
        gaussians.fill_rows(first, step, g.mean, g.log_scale, t.edges, t.normal, t.inverse, out)
        return out


class Factored:
    """Samples that do not depend on one another: a logistic each (eq. 3.17 with 256 colours), for plain VAEs.

    ``means`` as of ``AgaveWalk.means``, or None: the centre, and wide logistics.
    """

    slope = 0

    def __init__(self, tables: Tables, means: np.ndarray | None, log_scale: np.ndarray, channels: int) -> None:
        self._tables, self.channels = tables, channels
        self._means = None if means is None else means.reshape(-1, means.shape[3]).astype(np.int32)
        log_scales = np.full(channels, WIDE) if means is None else np.broadcast_to(log_scale, channels)
        couplings = channels * (channels - 1) // 2
        self._outputs = np.concatenate([np.zeros(1 + channels), log_scales, np.zeros(couplings)]).astype(np.int32)

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        return b""

    def adapted(self, changes: bytes) -> Factored:
        return self

    def canvas(self, height: int, width: int, count: int = 1) -> FactoredCanvas:
        return FactoredCanvas(count, self.channels, height, width)

    def predict(self, canvas: FactoredCanvas, pixels: np.ndarray) -> Prediction:
        base = np.full((len(pixels), self.channels), CENTRE * POSITION, np.int32)
        if self._means is not None:
            base += self._means[pixels]
        return Prediction(self.channels, self._tables, np.tile(self._outputs, (len(pixels), 1)), base)


class FactoredCanvas:
    """Images of which nothing needs to be known."""

    def __init__(self, count: int, channels: int, height: int, width: int) -> None:
        self._samples = np.zeros((count, height * width, channels), np.uint8)
        self._shape = count, height, width, channels

    def fill(self, planes: np.ndarray) -> None:
        pass

    def write(self, pixels: np.ndarray, samples: np.ndarray) -> None:
        self._samples.reshape(-1, self._samples.shape[2])[pixels] = samples

    def planes(self) -> np.ndarray:
        return self._samples.reshape(self._shape).transpose(0, 3, 1, 2)
