# SPDX-License-Identifier: MIT
"""The streams of a frozen PixelCNN++ over a batch of images: row by row, or pixel by pixel.

Every layer looks back at most one row, so a map of features keeps two rows.  The upper stream is computed a row at a
time, when the row above is finished.  The left stream is computed for all known columns: a whole row when encoding, one
pixel when decoding.  A cell of a coarser resolution is computed once, with the pixel at its upper left corner.

The work is the same for every row and column.  So it is written down once for a canvas, as the steps of a program that
the native core runs (native/streams.cpp).  The features of a position are padded to an even number.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int32
from gmcodec.exact.ops import Layer
from gmcodec.models.pixelcnnpp.config import PixelCNNConfig
from gmcodec.models.pixelcnnpp.tables import NetTables
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.tensors import CONDITION_PREFIX
from gmcodec.models.shared.window import Canvas
from gmcodec.native import GATE, HIDDEN, OUTPUT, OUTPUT_WIDE, RESIDUAL, LayerArrays
from gmcodec.native import streams as native_streams
from gmcodec.native.streams import COPY, Map, Step, Tap

CACHED_CELLS = 1024  # of the left stream, which pass all its layers together and stay in a core's cache
LAYER_COLUMNS = {
    "upper": (-1, 0, 1),
    "left": (-1, 0),
}  # offsets seen in this row and the one above
ACTIVATION_IDS = {"leaky": native_streams.LEAKY, "elu": native_streams.ELU, "concat_elu": native_streams.CONCAT_ELU}
Prepared = dict[str, native.Layer]
# for each of ``PixelCNNConfig.positions`` int16 within MAP_LIMIT, [H', W', B, D] at its resolution
Conditions = dict[tuple[str, int, int], np.ndarray]


def even(features: int) -> int:
    """The number of features of a map, padded to an even number."""
    return features + features % 2


def around(stream: str) -> list[tuple[int, int]]:
    """Offsets (row, column) that a convolution of a stream sees, in raster order."""
    return list(product((-1, 0), LAYER_COLUMNS[stream]))


def growing(stream: str, row: int, column: int) -> list[tuple[int, int]]:
    """Taps of a transposed convolution for cells of one parity: (number in raster order, column offset) each."""
    if stream == "left":
        return [((row & 1) * 2 + (column & 1), 0)]
    return [((row & 1) * 3 + tap, dx) for tap, dx in (((2, 0), (0, 1)) if column & 1 else ((1, 0),))]


def position(block: str) -> tuple[str, int, int]:
    """Way, resolution and number of a block, by its name such as ``fine_up.1`` or ``down_left.2.0``."""
    kind, *numbers = block.split(".")
    fine = kind.startswith("fine_")
    return kind.split("_")[1 if fine else 0], 0 if fine else int(numbers[0]), int(numbers[-1])


# -- layers ------------------------------------------------------------------------------------------------


def taps_of(config: PixelCNNConfig, name: str) -> int:
    """The number of positions that a layer reads."""
    kind, _, rest = name.partition(".")
    way, _, stream = kind.partition("_")
    if name == "first_upper":
        return config.rows * (2 * config.columns + 1)
    if way in ("first", "last", "fine", "condition"):
        return 1
    sides = (way == "up") + (stream == "left") if rest.endswith("first") else 0
    return 2 * len(LAYER_COLUMNS[stream]) + sides


def prepare(config: PixelCNNConfig, layers: dict[str, Layer], core: native.Core) -> Prepared:
    """The layers of the streams in the native core; one for each parity of row and column where a layer upsamples."""
    prepared = {}
    for name, layer in layers.items():
        if name == "linear":
            continue
        taps = layer.weight.reshape(len(layer.weight), taps_of(config, name), -1)
        taps = np.pad(taps, ((0, 0), (0, 0), (0, taps.shape[2] % 2)))
        if not name.startswith("grow"):
            prepared[name] = core.layer(replace(layer, weight=taps.reshape(len(taps), -1)))
            continue
        stream = name.removeprefix("grow_").split(".")[0]
        for row, column in product((0, 1), (0, 1)):
            chosen = taps[:, [tap for tap, _ in growing(stream, row, column)]]
            prepared[f"{name}.{row}{column}"] = core.layer(replace(layer, weight=chosen.reshape(len(taps), -1)))
    return prepared


# -- the program -------------------------------------------------------------------------------------------


class Program:
    """Maps and steps of the streams of a net over images of ``width`` pixels."""

    def __init__(self, config: PixelCNNConfig, prepared: Prepared, conditions: Conditions | None, width: int) -> None:
        c = config
        self._config, self._prepared, self._conditions = c, prepared, conditions
        self._widths = [-(-width >> level) for level in range(len(c.filters))]
        self._activation = ACTIVATION_IDS[c.nonlinearity]
        self.maps: list[Map] = []
        self.steps: list[Step] = []
        self.planes = self._map(0, c.planes, c.rows, c.columns)
        self.windows = self._map(0, c.window.inputs, 1, 0)
        # what a coarser resolution reads from pointwise blocks
        self._fine = {"upper": self._map(0, c.upper), "left": self._map(0, c.filters[0])} if c.upper else {}
        self._down: dict[tuple[str, int], list[int]] = {}  # activations before and after every block
        self._up: dict[tuple[str, int], list[int]] = {}
        for stream, level in product(LAYER_COLUMNS, c.levels):
            wide = c.filters[level] * c.widening
            down = self._down[stream, level] = [self._map(level, wide) for _ in range(c.blocks[level] + 1)]
            top = level == len(c.filters) - 1
            self._up[stream, level] = [down[-1] if top else self._map(level, wide)]
            self._up[stream, level] += [self._map(level, wide) for _ in range(c.ups[level])]
        self._write_upper()
        self.upper = len(self.steps)
        self._write_left()

    def _map(self, level: int, features: int, depth: int = 2, margin: int = 1) -> int:
        """A new map of ``depth`` rows at a resolution."""
        self.maps.append(Map(depth, self._widths[level], margin, even(features)))
        return len(self.maps) - 1

    def _condition_map(self, block: str) -> int:
        """A map of the condition of a block."""
        assert self._conditions is not None
        known = self._conditions[position(block)]
        known = np.ascontiguousarray(np.pad(known, ((0, 0), (0, 0), (0, 0), (0, known.shape[3] % 2))))
        self.maps.append(Map(known.shape[0], known.shape[1], 0, known.shape[3], known))
        return len(self.maps) - 1

    # -- steps

    def _write_upper(self) -> None:
        c = self._config
        near = range(-c.columns, c.columns + 1)
        # rows above the image: rows of the map that are not written yet, which hold zeros
        taps = [Tap(self.planes, -dy, dx) for dy in range(c.rows, 0, -1) for dx in near]
        if c.upper:
            self._layer("first_upper", OUTPUT, 0, taps, active=self._fine["upper"])
        self._gated("upper", None if c.upper else ("first_upper", taps))

    def _write_left(self) -> None:
        c, first = self._config, [Tap(self.windows, 0, 0)]
        if c.upper:
            values, inner = self._map(0, c.filters[0], 1, 0), self._map(0, c.filters[0], 1, 0)
            self._layer("first_left", OUTPUT, 0, first, active=values)
            self._pointwise("down", values, inner, self._fine["left"])
            self._gated("left", None)
            self._grow("left", 0, RESIDUAL, values, -1)
            self._pointwise("up", values, inner, -1)
        else:
            self._gated("left", ("first_left", first))
            values = self._up["left", 0][-1]
        layer = self._prepared["last"]
        self.steps.append(Step(layer, OUTPUT_WIDE, OUTPUT_LIMIT, 0, (Tap(values, 0, 0),)))

    def _layer(
        self, name: str, kind: int, level: int, taps: list[Tap], out: int = -1, active: int = -1,
        activation: int | None = None, scale: int = 0, parity: int = 0,
    ) -> None:  # fmt: skip
        self.steps.append(Step(
            self._prepared[name], kind, ACTIVATION_LIMIT, level, tuple(taps), out, active,
            self._activation if activation is None else activation, scale, parity,
        ))  # fmt: skip

    def _inside(self, name: str, level: int, taps: list[Tap], inner: int) -> None:
        """The first layer of a block; a leaky ReLU is applied before clamping."""
        leaky = self._config.nonlinearity == "leaky"
        out, active = (inner, -1) if leaky else (-1, inner)
        self._layer(f"{name}.first", HIDDEN if leaky else OUTPUT, level, taps, out, active)

    def _close(
        self, block: str, kind: int, level: int, taps: list[Tap], values: int, active: int,
        activation: int | None = None,
    ) -> None:  # fmt: skip
        """Add the second layer of a block, then its condition, to ``values``; ``active`` gets the activation."""
        conditioned = self._conditions is not None
        self._layer(f"{block}.second", kind, level, taps, values, -1 if conditioned else active, activation)
        if conditioned:
            known = [Tap(self._condition_map(block), 0, 0)]
            self._layer(f"{CONDITION_PREFIX}{block}", RESIDUAL, level, known, values, active, activation)

    def _pointwise(self, way: str, values: int, inner: int, copy: int) -> None:
        """The pointwise blocks on the way down or up, in place on ``values``; ``copy``: for the coarser resolution."""
        count = (self._config.blocks if way == "down" else self._config.ups)[0]
        for n in range(count):
            name = f"fine_{way}.{n}"
            self._inside(name, 0, [Tap(values, 0, 0)], inner)
            self._close(name, RESIDUAL, 0, [Tap(inner, 0, 0)], values, copy if n == count - 1 else -1, COPY)

    def _gated(self, stream: str, first: tuple[str, list[Tap]] | None) -> None:
        """The gated blocks of all resolutions, down and up again; ``first``: the layer before the finest ones."""
        c, values = self._config, {}
        for level in c.levels:
            values[level] = self._map(level, c.filters[level], 1, 0)
            maps = self._down[stream, level]
            if first and level == 0:
                self._layer(first[0], OUTPUT, 0, first[1], values[0], maps[0])
            else:
                source = self._down[stream, level - 1][-1] if level > c.levels[0] else self._fine[stream]
                taps = [Tap(source, dy, dx) for dy, dx in around(stream)]
                self._layer(f"shrink_{stream}.{level - 1}", OUTPUT, level, taps, values[level], maps[0], scale=1)
            for n in range(c.blocks[level]):
                sides = [self._down["upper", level][n + 1]] if stream == "left" else []
                self._block(f"down_{stream}.{level}.{n}", stream, level, maps[n], sides, values[level], maps[n + 1])
        for level in reversed(c.levels):
            maps = self._up[stream, level]
            if level < len(c.filters) - 1:
                self._grow(stream, level, OUTPUT, values[level], maps[0])
            for n in range(c.ups[level]):
                sides = [self._up["upper", level][n + 1]] if stream == "left" else []
                sides.append(self._down[stream, level][c.ups[level] - 1 - n])
                self._block(f"up_{stream}.{level}.{n}", stream, level, maps[n], sides, values[level], maps[n + 1])

    def _block(
        self, name: str, stream: str, level: int, source: int, sides: list[int], values: int, active: int
    ) -> None:
        """A gated block, in place on ``values``."""
        inner = self._map(level, self._config.filters[level] * self._config.widening)
        taps = [Tap(source, dy, dx) for dy, dx in around(stream)] + [Tap(side, 0, 0) for side in sides]
        self._inside(name, level, taps, inner)
        self._close(name, GATE, level, [Tap(inner, dy, dx) for dy, dx in around(stream)], values, active)

    def _grow(self, stream: str, level: int, kind: int, values: int, active: int) -> None:
        """A transposed convolution of the coarser resolution, written into or added to ``values``."""
        source = self._up[stream, level + 1][-1]
        for row, column in product((0, 1), (0, 1)):
            taps = [Tap(source, 0, dx) for _, dx in growing(stream, row, column)]
            name = f"grow_{stream}.{level}.{row}{column}"
            self._layer(name, kind, level, taps, values, active, scale=-1, parity=2 * row + column)


class Streams:
    """The features of a batch of images while it is coded."""

    def __init__(
        self,
        config: PixelCNNConfig,
        prepared: Prepared,
        conditions: Conditions | None,
        linear: Layer,
        tables: NetTables,
        canvas: Canvas,
    ) -> None:
        c, program = config, Program(config, prepared, conditions, canvas.width)
        self._width = canvas.width
        self._native = native_streams.Streams(
            canvas, program.maps, program.steps, program.upper, max(1, CACHED_CELLS // len(canvas.samples)),
            program.planes, program.windows, LayerArrays.of(linear), c.window.near_columns(c.neighbours),
            np.array(c.window.runs), tables.gate, tables.elu,
        )  # fmt: skip

    def row(self, row: int) -> tuple[Int32[np.ndarray, "N M"], Int32[np.ndarray, "N C"]]:
        """Outputs int32 [W * B, outputs] and centres int32 [W * B, C] of a known row; call it row by row."""
        return self._native.run(row, 0, self._width)

    def step(self, position: int) -> tuple[Int32[np.ndarray, "N M"], Int32[np.ndarray, "N C"]]:
        """Outputs and centres of one pixel, [B, ...]; all pixels before it must have had their step and be known."""
        row, column = divmod(position, self._width)
        return self._native.run(row, column, column + 1)
