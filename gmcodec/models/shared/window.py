# SPDX-License-Identifier: MIT
"""The causal window of a model, and the canvas of samples that it is laid over.

A pixel at (row i, column j) is predicted from pixels above it and to its left::

        . . o o o o o . .         o  inside the window (within `radius`)
        . o o o o o o o .         X  the pixel being predicted
        o o o o o o o r r         r  within the radius, but too far to the right: left out
        o o o o X

With `slope` s, pixel (i, j) is visited at step ``s * i + j``.  An offset (dy, dx) is finished by then
when ``s * dy + dx < 0``, so the window keeps only such offsets; s = 4 costs three far pixels of
row -1 and makes the wavefront nearly twice as wide as the full radius would.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import Int32, Int64, UInt, UInt8
from gmcodec.progress import Callback

# A sample outside the image.  Every use replaces it by "no difference", so its value never shows.
OUTSIDE = -1
CLAMP = 127  # largest difference to the local mean, in grey levels


@functools.cache
def window_offsets(radius2: int, slope: int) -> tuple[tuple[int, int], ...]:
    """Offsets (dy, dx) with dy*dy + dx*dx <= radius2 that are causal and finished, nearest first."""
    reach = int(radius2**0.5)
    offsets = [
        (dy, dx)
        for dy in range(-reach, 1)
        for dx in range(-reach, reach + 1)
        if dy * dy + dx * dx <= radius2 and (dy < 0 or dx < 0) and slope * dy + dx < 0
    ]
    return tuple(sorted(offsets, key=lambda o: (o[0] ** 2 + o[1] ** 2, o[0], o[1])))


@dataclass(frozen=True)
class Window:
    """A window over images of ``channels``; squared radius in pixels, slope of the wavefront."""

    channels: int
    radius2: int
    slope: int

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Offsets (dy, dx), nearest first."""
        return window_offsets(self.radius2, self.slope)

    @property
    def reach(self) -> int:
        """Largest distance, in rows or columns, of a window pixel."""
        return int(self.radius2**0.5)

    @property
    def inputs(self) -> int:
        """The number of features of a pixel: differences of all window samples to the local mean, and the means."""
        return self.channels * (len(self.offsets) + 1)

    @property
    def runs(self) -> list[tuple[int, int, int]]:
        """The window row by row: (dy, first dx, pixels)."""
        rows: dict[int, list[int]] = {}
        for dy, dx in self.offsets:
            rows.setdefault(dy, []).append(dx)
        return [(dy, min(dx), len(dx)) for dy, dx in sorted(rows.items())]

    def raster_columns(self) -> Int64[np.ndarray, " N"]:
        """int64 [inputs]: columns of the float net's features in the order of the frozen net (row by row)."""
        offsets, c = self.offsets, self.channels
        raster = sorted(range(len(offsets)), key=lambda o: offsets[o])
        window = [o * c + channel for o in raster for channel in range(c)]
        return np.array(window + list(range(len(offsets) * c, len(offsets) * c + c)))

    def near_columns(self, neighbours: int) -> Int64[np.ndarray, " N"]:
        """int64 [C * neighbours]: columns of the frozen net's features that the linear predictor reads."""
        return np.argsort(self.raster_columns())[: self.channels * neighbours]


class Canvas:
    """Tiles of equal size, int16 or int32 [B, reach + H, W + 2 * reach, C]; unknown samples are OUTSIDE.

    A window reaches up and to the sides only, so these margins separate a tile from the others.
    """

    def __init__(
        self, window: Window, height: int, width: int, count: int = 1, dtype: type[np.signedinteger] = np.int16
    ) -> None:
        c, r = window.channels, window.reach
        self.height, self.width, self.channels = height, width, c
        self.samples = np.full((count, r + height, width + 2 * r, c), OUTSIDE, dtype)
        self.inner = self.samples[:, r:, r : r + width]
        self.flat = self.samples.reshape(-1)
        self.row_size = (width + 2 * r) * c
        self.run_start, self.run_length = self.runs(window)
        self._origin, self._reach = r * self.row_size + r * c, r

    def runs(self, window: Window) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
        """Start of each run of a window in ``flat``, relative to a pixel's first sample, and its samples: int64 each.

        The window must not reach further than the one that the canvas was made for.
        """
        c = self.channels
        start = np.array([dy * self.row_size + dx * c for dy, dx, _ in window.runs])
        return start, np.array([length * c for _, _, length in window.runs])

    def locate(self, pixels: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """Positions of the pixels' first samples in ``flat``."""
        rows = pixels // self.width
        margins = rows * (2 * self._reach * self.channels) + rows // self.height * (self._reach * self.row_size)
        return self._origin + pixels * self.channels + margins

    def put_above(self, rows: UInt8[np.ndarray, "B H W F"]) -> None:
        """Copy in finished rows above the tiles, uint8 [B, C, rows, W]; only the last ``reach`` rows are seen."""
        seen, r = min(rows.shape[2], self._reach), self._reach
        self.samples[:, r - seen : r, r : r + self.width] = rows[:, :, rows.shape[2] - seen :].transpose(0, 2, 3, 1)

    def fill(self, planes: UInt[np.ndarray, "B C H W"]) -> None:
        """Copy whole tiles in: [B, C, H, W]."""
        self.inner[:] = planes.transpose(0, 2, 3, 1)

    def write(self, pixels: Int64[np.ndarray, " N"], samples: Int32[np.ndarray, "N C"]) -> None:
        """Store decoded samples int32 [N, C]."""
        self.flat[self.locate(pixels)[:, None] + np.arange(self.channels)] = samples

    def planes(self) -> UInt[np.ndarray, "B C H W"]:
        """[B, C, H, W]: uint8 on a canvas of int16, uint16 on one of int32."""
        dtype = np.uint8 if self.samples.dtype == np.int16 else np.uint16
        return np.ascontiguousarray(self.inner.transpose(0, 3, 1, 2)).astype(dtype)


# -- a tile in calls of the native core, short enough for reports of progress between them ----------------------


def split_steps(steps: int, pixels: int, each: int) -> list[tuple[int, int]]:
    """First and last step of every call, for a tile of ``pixels`` pixels: about ``each`` pixels a call."""
    steps_a_call = max(1, each * steps // pixels)
    return [(start, min(start + steps_a_call, steps)) for start in range(0, steps, steps_a_call)]


def report(progress: Callback, pixels: int, number: int, calls: int) -> None:
    """Report the pixels of call ``number``; those of all calls add up to ``pixels``."""
    progress(pixels * (number + 1) // calls - pixels * number // calls)
