# SPDX-License-Identifier: MIT
"""AGAVE, the auxiliary guided autoregressive variational autoencoder (thesis, chapter 3): its architecture.

::

    image --bottom up--> features --.                      auxiliary image y: eq. 3.17
                                    v                          ^
             constant --top down, latent groups z_1 .. z_G--> f(z) --conditioner--> PixelCNN++ --> image

The decoder may also be a local net (local/frozen.py): for photographs, of any size.

The top-down net (section 2.10.2) draws the groups one after the other, from the coarsest resolution to the finest.
f(z) holds the means of the logistics of y, and is all that the autoregressive decoder sees of the latents.

Latents are standardised: the net gives a posterior of e, whose prior is N(0, 1), and goes on with
z = mean + scale * e of the conditional prior.  So every KL divergence is that of eq. 2.45, and a coder has one prior.
The float net is agave/float.py, the specification of the frozen form vae/spec.py, its evaluation vae/latent_state.py
and agave/latent_state.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmcodec import native
from gmcodec.errors import WeightsError
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.agave.latent_state import AgaveWalk, Factored
from gmcodec.models.local.frozen import LocalConfig, LocalModel
from gmcodec.models.pixelcnnpp.model import NONLINEARITIES, PixelCNNConfig, PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import INPUT_LIMIT
from gmcodec.models.shared.conv import ACTIVATION_LIMIT, Maps

KIND = "agave-1"
POSTERIORS = ("gaussian", "iaf")
DecoderConfig = PixelCNNConfig | LocalConfig
Decoder = PixelCNNModel | LocalModel


@dataclass(frozen=True)
class AgaveConfig:
    """Architecture; stored with the weights.  Resolutions of the VAE are listed from the finest, one entry each."""

    channels: int  # 3 (RGB) or 1 (grey)
    filters: tuple[int, ...]  # features of the VAE
    groups: tuple[int, ...]  # latent groups, each with a residual block up and one down
    latents: int  # channels of a group
    stride: int  # pixels a side of a cell of the finest resolution: 1, 2 or 4
    posterior: str  # one of POSTERIORS
    hidden: int  # features inside an IAF step
    nonlinearity: str  # of the VAE, one that does not widen
    auxiliary: int  # pixels a side of a pixel of y: 1, 2 or 4, at most ``stride``
    levels: int  # colours b of y: a power of two
    grey: bool  # whether y is the mean of the channels
    decoder: DecoderConfig | None  # with a condition; None: a plain VAE, of y

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.groups) or not self.filters or min(self.filters + self.groups) < 1:
            raise ValueError(f"filters {self.filters} and groups {self.groups} must list the same resolutions")
        if self.nonlinearity not in NONLINEARITIES or self.nonlinearity == "concat_elu":
            raise ValueError(f"nonlinearity {self.nonlinearity!r} is not one that a VAE may have")
        if self.posterior not in POSTERIORS:
            raise ValueError(f"posterior {self.posterior!r} is not one of {', '.join(POSTERIORS)}")
        if self.stride not in (1, 2, 4) or self.auxiliary not in (1, 2, 4) or self.auxiliary > self.stride:
            raise ValueError(f"y cannot have one pixel in {self.auxiliary}, the VAE one cell in {self.stride}")
        if self.levels not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"{self.levels} colours are not a power of two up to 256")
        if self.latents < 1 or (self.posterior == "iaf" and self.hidden < self.latents):
            raise ValueError("there must be latents, and as many features inside an IAF step")
        if self.decoder and (self.decoder.channels != self.channels or not self.decoder.condition):
            raise ValueError("the decoder must have a condition, and the channels of the VAE")

    @property
    def cell(self) -> int:
        """Pixels that the sides of an image must be a multiple of: of a cell of the coarsest resolution."""
        return self.stride << (len(self.filters) - 1)

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Resolution and number of the latent groups, in the order in which they are drawn."""
        return [(level, n) for level in reversed(range(len(self.groups))) for n in range(self.groups[level])]

    @property
    def planes(self) -> int:
        """Channels of y and of f(z)."""
        return 1 if self.grey else self.channels

    @property
    def doublings(self) -> int:
        """How often f(z) is finer, by two, than the finest resolution of the VAE."""
        return (self.stride // self.auxiliary).bit_length() - 1

    @property
    def told(self) -> list[int]:
        """Resolutions of what the conditioner gives: one for every position of a PixelCNN++, one for a local net."""
        if isinstance(self.decoder, PixelCNNConfig):
            return [level for _, level, _ in self.decoder.positions]
        return [0] if self.decoder else []

    def latent_shape(self, level: int, height: int, width: int) -> tuple[int, int, int]:
        """Channels, rows, columns of a group of a resolution, for an image of so many pixels."""
        size = self.stride << level
        return self.latents, height // size, width // size

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every integer layer but the decoder's.

        Columns are position by position, in raster order, the features of a position together, those of several maps
        one after the other.
        """
        f, latents, size = self.filters, self.latents, 9
        shapes = {"first": (f[0], (2 * self.stride + 1) ** 2 * self.channels)}
        for level, features in enumerate(f):
            for n in range(self.groups[level]):
                shapes |= {f"up.{level}.{n}.{part}": (features, size * features) for part in ("first", "second")}
        for n in range(len(f) - 1):
            shapes[f"shrink.{n}"] = f[n + 1], size * f[n]
            shapes[f"grow.{n}"] = f[n], size * f[n + 1]
        for k, (level, _) in enumerate(self.stages):
            features = f[level]
            if k:
                shapes[f"stages.{k}.prior"] = 2 * latents, size * features
            shapes[f"stages.{k}.posterior"] = 2 * latents, size * 2 * features
            if self.posterior == "iaf":
                shapes[f"stages.{k}.flow.first"] = self.hidden, size * (latents + features)
                shapes[f"stages.{k}.flow.last"] = 2 * latents, size * self.hidden
            shapes[f"stages.{k}.inner"] = features, size * (features + latents)
            shapes[f"stages.{k}.second"] = features, size * features
        shapes |= {f"finer.{n}": (f[0], size * f[0]) for n in range(self.doublings)}
        shapes["last"] = self.planes, size * f[0]
        if self.decoder:
            told = self.decoder.condition
            shapes["told.first"] = told, size * self.planes
            shapes |= {f"told.shrink.{n}": (told, size * told) for n in range(max(self.told))}
            shapes |= {f"told.{n}": (told, size * told) for n in range(len(self.told))}
        return shapes

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        return list(self.layer_shapes())

    def input_limit(self, name: str) -> int:
        """What no input of a layer exceeds."""
        return INPUT_LIMIT if name == "first" and self.stride > 1 else ACTIVATION_LIMIT  # stride 1: of features


def decoder_kind(values: Mapping[str, Any]) -> type[PixelCNNConfig] | type[LocalConfig]:
    """Which architecture the stored fields of a decoder are of."""
    return PixelCNNConfig if "filters" in values else LocalConfig


def tuples(value: Any) -> Any:
    """Lists of JSON as tuples, however deep."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Constants:
    """Integer vectors of the VAE beside its layers.

    top int32 [F]: where the way down starts, in 1/512.  log_scale int32 [planes]: of the logistics of y in grey levels,
    in 1/32 nat.  elu int32 [16384]: -elu(-v / 512) * 512, at v.
    """

    top: np.ndarray
    log_scale: np.ndarray
    elu: np.ndarray


class Base(NamedTuple):
    """A model whose decoder AGAVE shares: its name, its weights' id, itself."""

    name: str
    weights_id: bytes
    model: Decoder


class AgaveModel:
    """A frozen AGAVE in the native core.  Immutable; safe to share by threads."""

    def __init__(
        self,
        config: AgaveConfig,
        layers: dict[str, Layer],
        constants: Constants,
        tables: Tables,
        latent_tables: LatentTables,
        decoder: Decoder | None,
        base: Base | None = None,
        core: native.Core | None = None,
    ) -> None:
        for name, shape in config.layer_shapes().items():
            layers[name].check(name)
            if layers[name].weight.shape != shape or layers[name].input_limit != config.input_limit(name):
                raise WeightsError(f"{name}: shape {layers[name].weight.shape} does not fit the architecture")
        if decoder and config.decoder != decoder.config:
            raise WeightsError("the decoder is not the one of the architecture")
        if config.decoder is None and config.auxiliary > 1:
            raise WeightsError("a VAE of smaller images does not code images")
        self.config, self.layers, self.constants, self.decoder = config, layers, constants, decoder
        self.tables, self.latent_tables, self.base = tables, latent_tables, base
        self.core = core or native.core()
        self.maps = Maps(layers, constants.elu, config.nonlinearity, self.core)

    @property
    def channels(self) -> int:
        return self.config.channels

    @property
    def latent_bits(self) -> int:
        """Of each latent under the prior."""
        return self.latent_tables.bits

    @property
    def plain(self) -> Decoder | Factored:
        """The model without latents: the decoder that knows nothing, or wide logistics."""
        return self.decoder or Factored(self.core, self.tables, None, self.constants.log_scale, self.channels)

    def takes(self, height: int, width: int) -> bool:
        """Whether an image can have latents: it must consist of whole cells, unless the decoder is a local net."""
        whole = height % self.config.cell == 0 and width % self.config.cell == 0
        return whole or self.any_size

    @property
    def any_size(self) -> bool:
        """Whether it codes photographs, strip by strip."""
        return isinstance(self.decoder, LocalModel)

    @property
    def cell(self) -> int:
        """Pixels a side of a cell of the coarsest resolution."""
        return self.config.cell

    def around(self, decoder: Any) -> AgaveModel:
        """The model with its decoder fitted to an image."""
        model = copy.copy(self)
        model.decoder = decoder
        return model

    def walk(self, shape: tuple[int, int, int, int], planes: np.ndarray | None) -> AgaveWalk:
        """The way through the latents of ``shape`` [B, C, H, W] images, with posteriors where ``planes`` are given.

        Raises ValueError for an image that cannot have any.
        """
        return AgaveWalk(self, shape, planes)
