# SPDX-License-Identifier: MIT
"""PixelCNN++ for small images: its architecture.

There are two streams of features, as in Salimans et al. 2017: the *upper* one sees the rows above a pixel, the *left*
one also sees the pixels to the left in the same row.  Every resolution is half the one before::

    rows above, window                                                      K logistics a pixel
        | first layers                                                             ^ last
    resolution 0   [blocks 0] ---------------- skips ----------------> [blocks 0, one more]
        | stride 2                                                             ^ transposed
    resolution 1        [blocks 1] ----------- skips ---------> [blocks 1, one more]
        | stride 2                                                   ^ transposed
    resolution 2             [blocks 2] ------ skips ---> [blocks 2]

A pixel needs all pixels before it, so a decoder goes in raster order, through many images at once.  float.py is the
float net, model.py the frozen one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmcodec.models.shared.activations import ACTIVATION_LIMIT, INPUT_LIMIT, MAP_LIMIT
from gmcodec.models.shared.family import plain_values
from gmcodec.models.shared.mixture import MixtureOutputs
from gmcodec.models.shared.tensors import CONDITION_PREFIX
from gmcodec.models.shared.window import Window

NONLINEARITIES = ("concat_elu", "elu", "leaky")


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(MixtureOutputs):
    """Architecture; stored with the weights.  Tuples have one entry for each resolution, from the finest."""

    channels: int  # 3 (RGB) or 1 (grey)
    filters: tuple[int, ...]  # features of each stream
    blocks: tuple[int, ...]  # of each stream, before the next resolution
    upper: int  # features of the upper stream if the finest blocks are pointwise; 0: they are gated convolutions
    radius2: int  # squared radius of the window that the left stream starts from, pixels
    neighbours: int  # nearest pixels seen by the linear predictor
    rows: int  # above a pixel, seen by the first layer of the upper stream
    columns: int  # to each side, seen by the same layer
    mixtures: int  # logistic components K
    nonlinearity: str  # one of NONLINEARITIES
    dropout: float  # of a block's inner features, in training
    weight_norm: bool  # weight normalisation, in training
    condition: int  # features D of a condition of every block; 0: no condition

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.blocks) or not self.filters or min(self.filters + self.blocks) < 1:
            raise ValueError(f"filters {self.filters} and blocks {self.blocks} must list the same resolutions")
        if self.nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {self.nonlinearity!r} is not one of {', '.join(NONLINEARITIES)}")
        if self.rows < 1 or self.columns < 1 or self.radius2 < 2:
            raise ValueError("the first layers must see a row and a column, and the window the eight pixels around")
        if not 1 <= self.neighbours <= len(self.window.offsets):
            raise ValueError(f"{self.neighbours} neighbours must lie in a window of {len(self.window.offsets)}")
        if self.upper and (len(self.filters) < 2 or self.widening > 1):
            raise ValueError("pointwise blocks must have a coarser resolution and a non-linearity that does not widen")

    @property
    def window(self) -> Window:
        reach = int(self.radius2**0.5)
        return Window(self.channels, self.radius2, reach + 1)  # raster order: all offsets are finished

    @property
    def planes(self) -> int:
        """Inputs of the upper stream for a pixel: samples, their differences to the local mean, a constant."""
        return 2 * self.channels + 1

    @property
    def widening(self) -> int:
        """Features that the non-linearity makes of each feature."""
        return 2 if self.nonlinearity == "concat_elu" else 1

    @property
    def ups(self) -> tuple[int, ...]:
        """Blocks of every resolution on the way up: one more than on the way down, but for the coarsest."""
        return (*(n + 1 for n in self.blocks[:-1]), self.blocks[-1])

    @property
    def read_widths(self) -> tuple[list[int], list[int], list[int]]:
        """Features of every resolution that layers read: on the way up; on the way down, upper stream and left stream.

        Layers read activations, but from pointwise blocks the stream itself.
        """
        wide = [n * self.widening for n in self.filters]
        if not self.upper:
            return wide, wide, wide
        return wide, [self.upper, *wide[1:]], [self.filters[0], *wide[1:]]

    @property
    def positions(self) -> list[tuple[str, int, int]]:
        """Way, resolution and number of the blocks in the order in which they run; both streams share an entry."""
        down = [("down", level, n) for level, blocks in enumerate(self.blocks) for n in range(blocks)]
        return down + [("up", level, n) for level in reversed(range(len(self.ups))) for n in range(self.ups[level])]

    @property
    def levels(self) -> range:
        """The resolutions that have gated blocks."""
        return range(int(self.upper > 0), len(self.filters))

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every integer layer.

        Columns go position by position, in raster order, with the features of a position together; the columns of side
        inputs follow.
        """
        c, f, fine = self.channels, self.filters, int(self.upper > 0)
        wide, upper, left = self.read_widths
        shapes = {
            "first_upper": (self.upper or f[0], self.rows * (2 * self.columns + 1) * self.planes),
            "first_left": (f[0], self.window.inputs),
            "linear": (c, c * self.neighbours),
            "last": (self.outputs, left[0]),
        }
        blocks = {}  # name -> features of the stream that the block adds to
        for way, counts in (("down", self.blocks), ("up", self.ups)):
            for n in range(fine * counts[0]):
                shapes |= {f"fine_{way}.{n}.first": (f[0], f[0]), f"fine_{way}.{n}.second": (f[0], f[0])}
                blocks[f"fine_{way}.{n}"] = f[0]
            for stream, taps in (("upper", 6), ("left", 4)):
                sides = (way == "up") + (stream == "left")
                for level in self.levels:
                    for n in range(counts[level]):
                        name, inputs = f"{way}_{stream}.{level}.{n}", wide[level]
                        shapes[f"{name}.first"] = (f[level], (taps + sides) * inputs)
                        shapes[f"{name}.second"] = (2 * f[level], taps * inputs)
                        blocks[name] = f[level]
        for n in range(len(f) - 1):
            shapes[f"shrink_upper.{n}"] = (f[n + 1], 6 * upper[n])
            shapes[f"shrink_left.{n}"] = (f[n + 1], 4 * left[n])
            shapes[f"grow_left.{n}"] = (f[n], 4 * wide[n + 1])
            if n >= fine:
                shapes[f"grow_upper.{n}"] = (f[n], 6 * wide[n + 1])
        if self.condition:
            shapes |= {f"{CONDITION_PREFIX}{name}": (features, self.condition) for name, features in blocks.items()}
        return shapes

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        return list(self.layer_shapes())

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""
        if name.startswith(CONDITION_PREFIX):
            return MAP_LIMIT
        return INPUT_LIMIT if name in ("first_upper", "first_left", "linear") else ACTIVATION_LIMIT


def read_config(values: Mapping[str, Any]) -> PixelCNNConfig:
    """From plain values.  Raises KeyError, TypeError, ValueError, WeightsError."""
    return PixelCNNConfig(**plain_values(values, PixelCNNConfig))
