# SPDX-License-Identifier: MIT
"""The streams of a frozen PixelCNN++ over a batch of images: rows from the top, or pixels one after the other.

Every layer looks back one row at most, so a map of features keeps two rows, position by position: a layer's
input is a few contiguous copies.  The upper stream is computed a row at a time, when the row above is finished; the
left one for as many columns as are known: all of a row when encoding, one when decoding.  A cell of resolution l is
computed once, with the pixel at its upper left corner.  Either way the same functions run and give the same integers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..exact import kernels
from ..exact.evaluators import Evaluator, Product
from ..exact.ops import Layer
from ..exact.tables import BYTES
from . import local_kernels, pixelcnnpp_kernels
from .pixelcnnpp_kernels import ACTIVATION_LIMIT, OUTPUT_LIMIT

if TYPE_CHECKING:
    from .pixelcnnpp import PixelCNNCanvas, PixelCNNConfig, PixelCNNModel

BLOCK = 1024  # cells that a layer is evaluated for at once: its input and output stay in a core's cache
COLUMNS = {"upper": (-1, 0, 1), "left": (-1, 0)}  # that a layer of either stream sees, of this row and the one above
Prepared = dict[str, tuple[Product, np.ndarray, np.ndarray]]


class Rows:
    """The last rows of a map of features, [depth, W + 2 * margin, B, F]; zero outside the image."""

    def __init__(self, width: int, count: int, features: int, dtype: type, depth: int = 2, margin: int = 1) -> None:
        self.depth, self.margin, self.features = depth, margin, features
        self.data: np.ndarray = np.zeros((depth, width + 2 * margin, count, features), dtype)

    def cells(self, row: int, first: int, last: int, stride: int = 1) -> np.ndarray:
        """Cells of columns first, first + stride ... below last: a view [n, B, F]."""
        return self.data[row % self.depth, first + self.margin : last + self.margin : stride]


class Tap(NamedTuple):
    """An input of a layer: of the map ``rows``, row ``row``, column stride * column + offset."""

    rows: Rows
    row: int
    offset: int
    stride: int = 1

    def cells(self, first: int, last: int) -> np.ndarray:
        """For the columns first to last - 1 of the output: [n, B, F]."""
        start = self.stride * first + self.offset
        return self.rows.cells(self.row, start, start + self.stride * (last - first - 1) + 1, self.stride)


def around(rows: Rows, stream: str, row: int, stride: int = 1) -> list[Tap]:
    """What a convolution of a stream sees, in raster order; ``row`` of the output."""
    return [Tap(rows, stride * row + dy, dx, stride) for dy, dx in product((-1, 0), COLUMNS[stream])]


def growing(stream: str, row: int, column: int) -> list[tuple[int, int]]:
    """Taps of a transposed convolution for cells of a parity: (number in raster order, column offset) each."""
    if stream == "left":
        return [((row & 1) * 2 + (column & 1), 0)]
    return [((row & 1) * 3 + tap, dx) for tap, dx in (((2, 0), (0, 1)) if column & 1 else ((1, 0),))]


def position(block: str) -> tuple[str, int, int]:
    """Way, resolution and number of a block by its name: ``fine_up.1``, ``down_left.2.0``."""
    kind, *numbers = block.split(".")
    fine = kind.startswith("fine_")
    return kind.split("_")[1 if fine else 0], 0 if fine else int(numbers[0]), int(numbers[-1])


class Streams:
    """Features of a batch of images while it is coded."""

    @staticmethod
    def prepare(config: PixelCNNConfig, layers: dict[str, Layer], evaluator: Evaluator) -> Prepared:
        """All layers as the evaluator wants them; those that grow, by parity of row and column."""
        prepared = {}
        for name, layer in layers.items():
            affine = kernels.affine(layer)
            if not name.startswith("grow"):
                prepared[name] = (evaluator.prepare(layer), *affine)
                continue
            stream = name.removeprefix("grow_").split(".")[0]
            taps = layer.weight.reshape(len(layer.weight), 2 * len(COLUMNS[stream]), -1)
            for row, column in product((0, 1), (0, 1)):
                chosen = [tap for tap, _ in growing(stream, row, column)]
                weight = np.ascontiguousarray(taps[:, chosen].reshape(len(taps), -1))
                part = Layer(weight, layer.bias, layer.multiplier, layer.shift, layer.input_limit)
                prepared[f"{name}.{row}{column}"] = (evaluator.prepare(part), *affine)
        return prepared

    def __init__(self, model: PixelCNNModel, canvas: PixelCNNCanvas) -> None:
        c, count, dtype = model.config, len(canvas.samples), model.evaluator.dtype
        # the canvas owns this object: a cycle would keep both, hundreds of megabytes, until the garbage collector runs
        self._canvas: PixelCNNCanvas = weakref.proxy(canvas)
        self._model, self._config, self._count, self._dtype = model, c, count, dtype
        self._columns = max(1, BLOCK // count)
        self._near = c.window.near_columns(c.neighbours)
        widths = [-(-canvas.width >> level) for level in range(len(c.filters))]

        def rows(level: int, features: int) -> Rows:
            return Rows(widths[level], count, features, dtype)

        self._widths = widths
        self._planes = Rows(canvas.width, count, c.planes, dtype, c.rows, c.columns)
        # what a coarser resolution reads of pointwise blocks
        self._fine = {"upper": rows(0, c.upper), "left": rows(0, c.filters[0])} if c.upper else {}
        self._down: dict[tuple[str, int], list[Rows]] = {}  # activations before and after every block
        self._up: dict[tuple[str, int], list[Rows]] = {}
        self._inner: dict[str, Rows] = {}  # activations inside the blocks
        for stream, level in product(COLUMNS, c.levels):
            wide = c.filters[level] * c.widening
            down = self._down[stream, level] = [rows(level, wide) for _ in range(c.blocks[level] + 1)]
            top = level == len(c.filters) - 1
            self._up[stream, level] = [down[-1] if top else rows(level, wide)]
            self._up[stream, level] += [rows(level, wide) for _ in range(c.ups[level])]
            for way, blocks in (("down", c.blocks), ("up", c.ups)):
                for n in range(blocks[level]):
                    self._inner[f"{way}_{stream}.{level}.{n}"] = rows(level, wide)

    # -- rows and pixels ---------------------------------------------------------------------------

    def row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Outputs int32 [W * B, outputs] and centres int32 [W * B, C] of a known row, after the rows above."""
        self._upper_row(row)
        return self._left_part(row, 0, self._canvas.width)

    def step(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The same, [B, ...], of one pixel; every one before it has had its step and is known."""
        row, column = divmod(position, self._canvas.width)
        if column == 0:
            self._upper_row(row)
        return self._left_part(row, column, column + 1)

    def _upper_row(self, row: int) -> None:
        c, width = self._config, self._canvas.width
        if row:
            pixelcnnpp_kernels.planes(self._canvas.inner, row - 1, self._planes.cells(row - 1, 0, width))
        near = range(-c.columns, c.columns + 1)
        taps = [Tap(self._planes, row - dy, dx) for dy in range(c.rows, 0, -1) for dx in near]
        # rows above the image: those of the map that were never written, or hold nothing yet
        upper = self._values("first_upper", taps, 0, width)
        if c.upper:
            self._activate(upper, self._fine["upper"].cells(row, 0, width))
        self._gated("upper", row, 0, width, upper)

    def _left_part(self, row: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        c = self._config
        left, base = self._first_left(row, first, last)
        if c.upper:
            self._activate(left, left)
            self._pointwise("down", row, first, last, left)
            cells = self._fine["left"].cells(row, first, last)
            cells[:] = left.reshape(cells.shape)
            self._gated("left", row, first, last, None)
            self._grow("left", 0, row, first, last, left, kernels.residual)
            self._pointwise("up", row, first, last, left)
        else:
            self._gated("left", row, first, last, left)
            left = self._flat(self._up["left", 0][-1].cells(row, first, last))
        outputs = np.empty((len(left), c.outputs), np.int32)
        self._pixels("last", kernels.output, left, OUTPUT_LIMIT, outputs)
        return outputs, base

    def _first_left(self, row: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Values of the left stream from the window, [n * B, F], and centres of the means."""
        c, canvas, linear = self._config, self._canvas, self._model.layers["linear"]
        size = canvas.height * canvas.width
        where = row * canvas.width + np.arange(first, last)
        pixels = (where[:, None] + np.arange(self._count) * size).ravel()
        values = np.empty((len(pixels), c.filters[0]), self._dtype)
        base = np.empty((len(pixels), c.channels), np.int32)
        for part in _parts(len(pixels), BLOCK):
            x = np.empty((part.stop - part.start, c.window.inputs), self._dtype)
            local_kernels.features(
                canvas.flat, canvas.row_size, canvas.locate(pixels[part]), c.channels, canvas.run_start,
                canvas.run_length, self._near, linear.weight, linear.multiplier, linear.shift, BYTES, x, base[part],
            )  # fmt: skip
            self._pixels("first_left", kernels.output, x, ACTIVATION_LIMIT, values[part])
        return values, base

    # -- blocks ------------------------------------------------------------------------------------

    def _pointwise(self, way: str, row: int, first: int, last: int, stream: np.ndarray) -> None:
        """The pointwise blocks on the way down or up, in place on ``stream`` [n * B, F]."""
        c = self._config
        for part in _parts(len(stream), BLOCK):
            x = stream[part]
            inner = np.empty_like(x)
            for n in range((c.blocks if way == "down" else c.ups)[0]):
                product, scale, offset = self._model.prepared[f"fine_{way}.{n}.first"]
                self._inside(product(x), scale, offset, inner)
                self._pixels(f"fine_{way}.{n}.second", kernels.residual, inner, ACTIVATION_LIMIT, x)
                self._condition(f"fine_{way}.{n}", row, first, last, x, part)

    def _condition(
        self, block: str, row: int, first: int, last: int, values: np.ndarray, part: slice = slice(None)
    ) -> None:
        """Add what the condition tells a block, in place on ``values``, a part of [n * B, F]."""
        if self._model.conditions is not None:
            known = self._flat(self._model.conditions[position(block)][row, first:last])[part]
            self._pixels(f"condition.{block}", kernels.residual, known, ACTIVATION_LIMIT, values)

    def _gated(self, stream: str, row: int, first: int, last: int, values: np.ndarray | None) -> None:
        """The resolutions of gated blocks, down and up again, as far as cells begin in these columns of this row.

        ``values`` [n * B, F] of the finest resolution, unless its blocks are pointwise.
        """
        c, regions = self._config, []
        for level in c.levels:
            a, b = -(-first >> level), -(-last >> level)
            if row % (1 << level) or a == b:
                break
            regions.append((level, row >> level, a, b))
        for level, i, a, b in regions:
            if level:
                source = self._down[stream, level - 1][-1] if level > c.levels[0] else self._fine[stream]
                values = self._values(f"shrink_{stream}.{level - 1}", around(source, stream, i, 2), a, b)
            assert values is not None
            maps = self._down[stream, level]
            self._activate(values, maps[0].cells(i, a, b))
            for n in range(c.blocks[level]):
                sides = [self._down["upper", level][n + 1]] if stream == "left" else []
                self._block(f"down_{stream}.{level}.{n}", stream, maps[n], sides, i, a, b, values)
                self._condition(f"down_{stream}.{level}.{n}", i, a, b, values)
                self._activate(values, maps[n + 1].cells(i, a, b))
        for level, i, a, b in reversed(regions):
            maps = self._up[stream, level]
            if level < len(c.filters) - 1:
                values = np.empty(((b - a) * self._count, c.filters[level]), self._dtype)
                self._grow(stream, level, i, a, b, values, kernels.output)
                self._activate(values, maps[0].cells(i, a, b))
            assert values is not None
            for n in range(c.ups[level]):
                sides = [self._up["upper", level][n + 1]] if stream == "left" else []
                sides.append(self._down[stream, level][c.ups[level] - 1 - n])
                self._block(f"up_{stream}.{level}.{n}", stream, maps[n], sides, i, a, b, values)
                self._condition(f"up_{stream}.{level}.{n}", i, a, b, values)
                self._activate(values, maps[n + 1].cells(i, a, b))

    def _block(
        self, name: str, stream: str, source: Rows, sides: list[Rows], row: int, first: int, last: int,
        values: np.ndarray,
    ) -> None:  # fmt: skip
        """A gated block, in place on ``values`` [n * B, F]."""
        inner = self._inner[name]
        _, scale, offset = self._model.prepared[f"{name}.first"]
        taps = around(source, stream, row) + [Tap(side, row, 0) for side in sides]
        for _, a, b, acc in self._products(f"{name}.first", taps, first, last):
            self._inside(acc, scale, offset, self._flat(inner.cells(row, a, b)))
        _, scale, offset = self._model.prepared[f"{name}.second"]
        table = self._model.net_tables.gate
        for part, _, _, acc in self._products(f"{name}.second", around(inner, stream, row), first, last):
            pixelcnnpp_kernels.gate(acc, scale, offset, table, ACTIVATION_LIMIT, values[part])

    # -- layers ------------------------------------------------------------------------------------

    def _products(
        self, name: str, taps: list[Tap], first: int, last: int
    ) -> Iterator[tuple[slice, int, int, np.ndarray]]:
        """W x of a layer: for a few columns a to b - 1 at a time their rows, a, b and [(b - a) * B, M]."""
        product = self._model.prepared[name][0]
        features = sum(tap.rows.features for tap in taps)
        for a in range(first, last, self._columns):
            b = min(a + self._columns, last)
            x = np.empty((b - a, self._count, features), self._dtype)
            at = 0
            for tap in taps:
                x[:, :, at : at + tap.rows.features] = tap.cells(a, b)
                at += tap.rows.features
            part = slice((a - first) * self._count, (b - first) * self._count)
            yield part, a, b, product(self._flat(x))

    def _values(self, name: str, taps: list[Tap], first: int, last: int) -> np.ndarray:
        """Clamped outputs of a layer, [n * B, M]."""
        _, scale, offset = self._model.prepared[name]
        out = np.empty(((last - first) * self._count, len(scale)), self._dtype)
        for part, _, _, acc in self._products(name, taps, first, last):
            kernels.output(acc, scale, offset, ACTIVATION_LIMIT, out[part])
        return out

    def _grow(
        self, stream: str, level: int, row: int, first: int, last: int, values: np.ndarray, kernel: Callable[..., None]
    ) -> None:
        """A transposed convolution of the coarser resolution, into or onto ``values`` [n * B, F] by ``kernel``."""
        source, cells = self._up[stream, level + 1][-1], values.reshape(last - first, self._count, -1)
        for column in range(first, min(first + 2, last)):
            taps = [Tap(source, row >> 1, dx) for _, dx in growing(stream, row, column)]
            name, count = f"grow_{stream}.{level}.{row & 1}{column & 1}", -(-(last - column) // 2)
            _, scale, offset = self._model.prepared[name]
            chosen = np.ascontiguousarray(cells[column - first :: 2])
            for part, _, _, acc in self._products(name, taps, column >> 1, (column >> 1) + count):
                kernel(acc, scale, offset, ACTIVATION_LIMIT, self._flat(chosen)[part])
            cells[column - first :: 2] = chosen

    def _pixels(self, name: str, kernel: Callable[..., None], x: np.ndarray, limit: int, out: np.ndarray) -> None:
        """A layer that sees one position only: x [N, K] into or onto ``out`` [N, M]."""
        product, scale, offset = self._model.prepared[name]
        for part in _parts(len(x), BLOCK):
            kernel(product(x[part]), scale, offset, limit, out[part])

    def _inside(self, acc: np.ndarray, scale: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
        """Rescale and activate: acc [N, F] -> out [N, F or 2F]."""
        if self._config.nonlinearity == "leaky":
            kernels.hidden(acc, scale, offset, ACTIVATION_LIMIT, out)
        else:
            values = np.empty(acc.shape, self._dtype)
            kernels.output(acc, scale, offset, ACTIVATION_LIMIT, values)
            pixelcnnpp_kernels.elu(values, self._model.net_tables.elu, out)

    def _activate(self, values: np.ndarray, cells: np.ndarray) -> None:
        """Activations of a stream [N, F] into cells of a map, or in place."""
        if self._config.nonlinearity == "leaky":
            pixelcnnpp_kernels.leaky(values, self._flat(cells))
        else:
            pixelcnnpp_kernels.elu(values, self._model.net_tables.elu, self._flat(cells))

    @staticmethod
    def _flat(cells: np.ndarray) -> np.ndarray:
        """[n, B, F] -> [n * B, F], a view."""
        return cells.reshape(-1, cells.shape[-1])


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
