# SPDX-License-Identifier: MIT
"""Adaptive density estimation: a VAE in the feature space of a flow (thesis, chapter 5): its architecture.

::

    image x + noise u --Real-NVP f--> features h --bottom up--> features of the VAE --.
                                          ^                                           v
                                          |                constant --top down, latent groups z_1 .. z_G--> mean of h

f is a bijection, so p(x) follows from p(h) by the change of variables (eq. 5.4 and 5.5).  Given z, the features h are
independent: each has a Gaussian, or a mixture of Gaussians with one mean.  There is no loop over pixels: a decoder runs
every net once.

All nets work on *cells* of 2x2 pixels, whose samples are features of one position::

    a b     12 features for RGB: a's red, green, blue, b's red, ...
    c d

A coupling changes some of these features by an affine function whose mean and scale are computed from the others.  Its
name says what it changes: "bc:rgb" is the odd half of a checkerboard, "ad:rgb" the even half, "cd:rgb" half of the
channels, "bc:b" blue at b and c.  After the couplings of a scale, b, c and d are factored out; a goes on as an image of
half the size.

float.py is the float net, model.py the frozen one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmcodec.models.ade.tables import COUPLING_SCALE_BITS, MAX_COUPLING_SCALE
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.config import read_config as read_vae_config
from gmcodec.models.pixelcnnpp.config import NONLINEARITIES
from gmcodec.models.shared.activations import MAP_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.family import plain_values

VAE_PREFIX = "vae."  # of the names of the VAE's layers
CELL_POSITIONS = "abcd"
COLOURS = {3: "rgb", 1: "y"}
SAMPLE_REACH, MAX_FEATURE = 1 << 16, 1 << 46  # largest magnitudes: of samples before any coupling, of features
Shapes = dict[str, tuple[int, int]]
DEQUANTISATIONS = ("uniform", "variational")


@dataclass(frozen=True, kw_only=True)
class AdeConfig:
    """Architecture; stored with the weights."""

    channels: int  # 3 (RGB) or 1 (grey)
    scales: tuple[tuple[str, ...], ...]  # couplings of each scale in the order of f, from the finest; (): a plain VAE
    filters: int  # features of a coupling's net
    blocks: int  # its residual blocks
    window: int  # side, in cells, that its first layer and its linear part see
    kernels: tuple[int, ...]  # sides, in cells, that the two layers of a block see
    nonlinearity: str  # of couplings: any but concat_elu
    weight_norm: bool
    dequantisation: str  # one of DEQUANTISATIONS
    noise: int  # features of the net that gives variational noise, 0 for uniform noise
    mixtures: int  # Gaussians around the mean of a feature; 1 in the thesis
    vae: AgaveConfig  # of ``4 * channels`` features in cells, stride 1
    classes: int = 0  # that condition the VAE (eq. 5.8); a frozen model is of one class or without classes

    def __post_init__(self) -> None:
        if self.channels not in COLOURS:
            raise ValueError(f"{self.channels} channels are not supported")
        if self.vae.channels != 4 * self.channels or self.vae.stride != 1 or self.vae.decoder or self.vae.grey:
            raise ValueError("the VAE must be a plain one of cells of 2x2 pixels")
        if self.classes < 0:
            raise ValueError(f"there are no {self.classes} classes")
        if self.dequantisation not in DEQUANTISATIONS or (self.noise > 0) != (self.dequantisation == "variational"):
            raise ValueError(f"dequantisation {self.dequantisation!r} does not fit {self.noise} features")
        if (
            len(self.kernels) != 2
            or {self.window, *self.kernels} - {1, 3, 5, 7}
            or min(self.blocks, self.filters, self.mixtures) < 1
        ):
            raise ValueError("couplings must have blocks and features, and see an odd number of cells a side")
        if self.nonlinearity not in NONLINEARITIES or self.nonlinearity == "concat_elu":
            raise ValueError(f"nonlinearity {self.nonlinearity!r} is not one that a coupling may have")
        for names in self.scales:
            for name in names:
                if not 0 < len(self.changed(name)) < 4 * self.channels:
                    raise ValueError(f"coupling {name!r} must change some samples of a cell, not all")
        if self.reach >= MAX_FEATURE:
            raise ValueError(f"a sample passes too many couplings: it could reach 2**{self.reach.bit_length()}")

    def changed(self, name: str) -> list[int]:
        """Features of a cell that a coupling changes, sorted.  Raises ValueError."""
        positions, _, colours = name.partition(":")
        order = COLOURS[self.channels]
        if not positions or not colours or set(positions) - set(CELL_POSITIONS) or set(colours) - set(order):
            raise ValueError(f"{name!r} does not name samples of a cell")
        return sorted({self.channels * CELL_POSITIONS.index(p) + order.index(c) for p in positions for c in colours})

    def kept(self, name: str) -> list[int]:
        """The other features, sorted."""
        changed = self.changed(name)
        return [n for n in range(4 * self.channels) if n not in changed]

    @property
    def reach(self) -> int:
        """The largest magnitude of a sample behind all couplings, for any outputs of their nets."""
        found = at_a = SAMPLE_REACH
        for names in self.scales:
            largest = [at_a] * 4 * self.channels
            for name in names:
                for k in self.changed(name):  # the mean and its linear part reach OUTPUT_LIMIT each
                    largest[k] = (largest[k] + 2 * OUTPUT_LIMIT) * MAX_COUPLING_SCALE >> COUPLING_SCALE_BITS
            found, at_a = max(found, *largest), max(largest[: self.channels])
        return found

    @property
    def couplings(self) -> list[tuple[int, str]]:
        """Scale and name of every coupling, in the order of f."""
        return [(level, name) for level, names in enumerate(self.scales) for name in names]

    @property
    def levels(self) -> int:
        """How often f halves an image: at least once, since the VAE sees cells."""
        return max(1, len(self.scales))

    @property
    def cell(self) -> int:
        """The sides of an image are multiples of this number of pixels."""
        return max(2 * self.vae.cell, 2**self.levels)

    def layer_shapes(self) -> Shapes:
        """Rows and columns of every integer layer: those of flow and noise, then those of the VAE, with VAE_PREFIX."""
        return self.flow_shapes() | {f"{VAE_PREFIX}{name}": shape for name, shape in self.vae.layer_shapes().items()}

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""
        return MAP_LIMIT

    def _net_shapes(self, name: str, inputs: int, outputs: int, filters: int, linear: bool) -> Shapes:
        """Rows and columns of the integer layers of a net, see ``VAEConfig.layer_shapes``."""
        a, b = self.kernels
        shapes = {f"{name}.first": (filters, self.window**2 * inputs)}
        for n in range(self.blocks):
            shapes[f"{name}.{n}.first"] = filters, a * a * filters
            shapes[f"{name}.{n}.second"] = filters, b * b * filters
        shapes[f"{name}.last"] = 2 * outputs, filters
        return shapes | ({f"{name}.linear": (outputs, self.window**2 * inputs)} if linear else {})

    def flow_shapes(self) -> Shapes:
        """``layer_shapes`` without the VAE."""
        shapes: Shapes = {}
        features = 4 * self.channels
        for n, (_, name) in enumerate(self.couplings):
            kept = features - len(self.changed(name))
            shapes |= self._net_shapes(f"flow.{n}", kept, features - kept, self.filters, True)
        return shapes | (self._net_shapes("noise", features, features, self.noise, False) if self.noise else {})


def read_config(values: Mapping[str, Any]) -> AdeConfig:
    """From plain values.  Raises KeyError, TypeError, ValueError, WeightsError."""
    plain = plain_values(values, AdeConfig)
    return AdeConfig(**{**plain, "vae": read_vae_config(plain["vae"])})
