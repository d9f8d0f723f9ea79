# SPDX-License-Identifier: MIT
"""A hierarchical VAE (thesis, section 2.10.2): its architecture.

::

    image --bottom up--> features --.                      auxiliary image y: eq. 3.17
                                    v                          ^
             constant --top down, latent groups z_1 .. z_G--> f(z)

The top-down net samples the groups one after the other, from the coarsest resolution to the finest.  f(z) holds the
means of the logistics of y.

Latents are standardised: the net gives a posterior of e, whose prior is N(0, 1), and goes on with z = mean + scale * e,
with mean and scale of the conditional prior.  So every KL divergence is that of eq. 2.45, and a coder needs only one
prior.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmcodec.models.pixelcnnpp.config import NONLINEARITIES
from gmcodec.models.shared.activations import INPUT_LIMIT, MAP_LIMIT

POSTERIORS = ("gaussian", "iaf")


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Architecture of a VAE; stored with the weights.  Tuples have one entry for each resolution, from the finest."""

    channels: int  # 3 (RGB) or 1 (grey)
    filters: tuple[int, ...]  # features of the VAE
    groups: tuple[int, ...]  # latent groups, each with one residual block up and one down
    latents: int  # channels of a group
    stride: int  # side of a cell of the finest resolution, in pixels: 1, 2 or 4
    posterior: str  # one of POSTERIORS
    hidden: int  # features inside an IAF step
    nonlinearity: str  # any but concat_elu
    auxiliary: int  # side of a pixel of y, in pixels of the image: 1, 2 or 4, at most ``stride``
    levels: int  # colours b of y: a power of two
    grey: bool  # whether y is the mean of the channels

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

    @property
    def cell(self) -> int:
        """Side of a cell of the coarsest resolution, in pixels; the sides of an image are multiples of it."""
        return self.stride << (len(self.filters) - 1)

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Resolution and number of the latent groups, in the order in which they are sampled."""
        return [(level, n) for level in reversed(range(len(self.groups))) for n in range(self.groups[level])]

    @property
    def planes(self) -> int:
        """Channels of y and of f(z)."""
        return 1 if self.grey else self.channels

    @property
    def doublings(self) -> int:
        """How often the finest resolution of the VAE is doubled to that of f(z)."""
        return (self.stride // self.auxiliary).bit_length() - 1

    def latent_shape(self, level: int, height: int, width: int) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent group at a resolution, for an image of height x width pixels."""
        size = self.stride << level
        return self.latents, height // size, width // size

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every integer layer.

        Columns go position by position, in raster order, with the features of a position together: those of the first
        map, then those of the second.
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
        return shapes

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        return list(self.layer_shapes())

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""
        samples = name == "first" and self.stride > 1  # with stride 1 the inputs are features of a flow
        return INPUT_LIMIT if samples else MAP_LIMIT
