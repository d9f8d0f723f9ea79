# SPDX-License-Identifier: MIT
"""Least squares around every pixel, in exact integers: what nearby finished pixels say of the next one.

From the finished pixels around a pixel (the samples), each colour is predicted by the linear combination of some
neighbours' colours that fits the samples best (edge-directed prediction: Li and Orchard 2001; Wu et al. 2000)::

        s s s s s s s s s            s   samples: rows and columns up to REACH away, finished at the pixel's step;
        s s S S S S S s s            S   those up to NEAR away count 1 + MORE times
        s s S S S S .                X   the pixel;  neighbours: OFFSETS
        s s S S X

A sample has z, the neighbours minus the mean m of left and above (int16, clamped), and t, its colours minus m.  The sums
of z z^T, z t^T, t t^T over the samples move with the pixel: ``_gather`` adds what enters and takes off what leaves.
``_solve`` finds (sum z z^T + ridge)^-1 sum z t^T by an LDL^T decomposition in fixed point::

    A   entries, integers below 2**26 with FRACTION further bits      L, solution   integers with FRACTION bits

Float64 holds integers and products with powers of two below 2**53 only, so that LANES pixels of a step (of rows one
below the other) are computed side by side, and the result is the same on every machine.  regression_spec.py says the
same in Python's integers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..exact import lanes
from ..exact.kernels import jit
from ..exact.lanes import LANES
from ..exact.tables import POSITION, POSITION_BITS
from .window import OUTSIDE, Canvas, Window

# without the pixel above: with the left one it makes up the mean, so it says nothing new
OFFSETS = ((0, -1), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1))
REACH, NEAR, MORE = 10, 4, 2
CLAMP = 127  # of z
FRACTION = 16
SUM_BITS = 26  # of the largest sum, after scaling
RIDGE_SHIFT = 11  # the ridge, as a share of all squares; about a hundredth of a neighbour's
RIDGE_MIN = 8
RECIPROCAL_BITS = 40
PIVOT_MIN = 2**12
SOLUTION_LIMIT = 2.0**24
FEATURES = 5  # of a colour, see ``features``
ERRORS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # where a net is told of errors of predictions
FEATURE_SHIFT = 5  # from 1/POSITION to features: half levels
UNIT, PART = 2.0**FRACTION, 2.0**-FRACTION


class Area(NamedTuple):
    """Where samples are, and what changes when a pixel's row goes on by one column; constant."""

    offsets: np.ndarray  # int64 [P, 2]: dy, dx of the neighbours
    moves: np.ndarray  # int64 [S, 3]: dy, dx, weight of samples that enter (> 0) or leave (< 0)
    start: np.ndarray  # int64 [S, 3]: samples of the first pixel of a row, those moves that follow left out
    reach: int


class Known(NamedTuple):
    """What is known of a tile's pixels."""

    area: Area
    samples: np.ndarray  # int16 [(margin + H) * (W + 2 * margin) * (n + C)]: z and t of finished pixels, else 0
    sums: np.ndarray  # int32 [entries, H + LANES], by row
    row: int  # int16 in a row of samples
    origin: int  # where the first pixel's are
    predicted: np.ndarray  # int16, laid out as the canvas: predictions in 1/POSITION grey level
    error_offsets: np.ndarray  # int64 [4]: ERRORS, in that layout
    channels: int


def area(slope: int) -> Area:
    """The area for a wavefront of this slope."""
    def right(dy: int, reach: int) -> int:
        return min(reach, slope * dy - 1)

    boxes = ((REACH, 1), (NEAR, MORE))
    moves = [(-dy, right(dy, reach), w) for reach, w in boxes for dy in range(reach + 1)]
    moves += [(-dy, -1 - reach, -w) for reach, w in boxes for dy in range(reach + 1)]
    start = [(-dy, dx, w) for reach, w in boxes for dy in range(1, reach + 1) for dx in range(right(dy, reach))]
    return Area(np.array(OFFSETS), np.array(moves), np.array(start), REACH)


def known(config: Any, canvas: Canvas) -> Known:
    """Nothing is known yet; for a LocalConfig without regression, next to nothing is needed."""
    where, channels = area(config.slope), config.channels
    height, width = (canvas.height, canvas.width) if config.regression else (1, 1)
    n, margin = channels * len(where.offsets), where.reach + 1
    size, entries = n + channels, n * (n + 1) // 2 + n * channels + channels
    row = (width + 2 * margin) * size
    samples = np.zeros((margin + height) * row + size, np.int16)
    errors = np.array([dy * canvas.row_size + dx * channels for dy, dx in ERRORS])
    return Known(
        where, samples, np.zeros((entries, height + LANES), np.int32), row, margin * row + margin * size,
        np.zeros(canvas.flat.size if config.regression else 1, np.int16), errors, channels,
    )  # fmt: skip


class _Told(NamedTuple):
    channels: int
    slope: int
    regression: int


class _Place(NamedTuple):
    """Of local_fused.Place, what is needed here."""

    height: int
    width: int
    channels: int
    slope: int
    steps: int
    row_size: int
    origin: int


class Room(NamedTuple):
    """Scratch for LANES pixels."""

    seen: np.ndarray  # int16 [pairs of samples, N, 2 * LANES]
    weighted: np.ndarray
    matrix: np.ndarray  # float64 [N, n, LANES]
    column: np.ndarray  # float64 [N, LANES]
    solution: np.ndarray  # float64 [n, LANES]
    means: np.ndarray  # int64 [C, LANES]
    ridge: np.ndarray  # float64 [LANES]
    scale: np.ndarray
    inputs: np.ndarray  # float64 [n, LANES]


def room(known: Known) -> Room:
    """Scratch."""
    channels, where = known.channels, known.area
    n = channels * len(where.offsets)
    size = n + channels
    pairs = -(-len(where.moves) // 2), size, 2 * LANES
    return Room(
        np.zeros(pairs, np.int16), np.zeros(pairs, np.int16),
        np.zeros((size, n, LANES)), np.zeros((size, LANES)), np.zeros((n, LANES)), np.zeros((channels, LANES), np.int64),
        np.zeros(LANES), np.zeros(LANES), np.zeros((n, LANES)),
    )  # fmt: skip


@jit
def _add(sums, row, samples, at, weight, n, size):
    """Add a sample's products to the sums of a row."""
    e = 0
    for i in range(size):
        for j in range(min(i + 1, n)):
            sums[e, row] += weight * np.int32(samples[at + i]) * np.int32(samples[at + j])
            e += 1
        if i >= n:
            sums[e, row] += weight * np.int32(samples[at + i]) * np.int32(samples[at + i])
            e += 1


@jit
def _begin_row(field, row, width, size, channels):
    """Sums before the first pixel of a row."""
    n = size - channels
    for e in range(field.sums.shape[0]):
        field.sums[e, row] = 0
    for s in range(field.area.start.shape[0]):
        dy, dx, weight = field.area.start[s, 0], field.area.start[s, 1], np.int32(field.area.start[s, 2])
        if row + dy >= 0 and dx < width:
            _add(field.sums, row, field.samples, field.origin + (row + dy) * field.row + dx * size, weight, n, size)


@jit
def _gather(field, row, rows, step, slope, size, channels, room):
    """Move the sums of LANES rows from ``row`` on, ``rows`` of which are wanted, to their pixels of the step."""
    n = size - channels
    seen, weighted, sums, moves = room.seen, room.weighted, field.sums, field.area.moves.shape[0]
    for s in range(moves):
        dy, dx, weight = field.area.moves[s, 0], field.area.moves[s, 1], np.int16(field.area.moves[s, 2])
        for lane in range(LANES):
            y = row + min(lane, rows - 1)
            at = field.origin + (y + dy) * field.row + (step - slope * y + dx) * size
            to = 2 * lane + (s & 1)
            for i in range(size):
                v = field.samples[at + i]
                seen[s >> 1, i, to] = v
                weighted[s >> 1, i, to] = weight * v
    e, to_row = 0, size * 2 * LANES
    for i in range(size):
        for j in range(min(i + 1, n) + (i >= n)):
            other = j if j < n else i
            lanes.add_pairs(
                sums, e * sums.shape[1] + row, weighted, i * 2 * LANES, seen, other * 2 * LANES, to_row, seen.shape[0]
            )
            e += 1


@jit
def _load(field, row, size, channels, room):
    """The matrix of LANES rows, scaled, with its ridge."""
    n = size - channels
    ridge, scale, sums, matrix = room.ridge, room.scale, field.sums, room.matrix
    for lane in range(LANES):
        trace, e = np.int64(0), -1
        for i in range(size):
            e += min(i + 1, n) + (i >= n)
            trace += sums[e, row + lane]
        trace = max(trace, np.int64(1))
        power = 0
        while (trace >> power) >= 2:
            power += 1
        scale[lane] = 2.0 ** (SUM_BITS - 1 - power)
        ridge[lane] = np.floor(np.float64((trace >> RIDGE_SHIFT) + RIDGE_MIN) * scale[lane]) * UNIT
    e = 0
    for i in range(size):
        for j in range(min(i + 1, n)):
            lanes.floor_integers(matrix, (i * n + j) * LANES, sums, e * sums.shape[1] + row, scale, UNIT)
            if i == j:
                for lane in range(LANES):
                    matrix[i, i, lane] += ridge[lane]
            e += 1
        if i >= n:
            e += 1


@jit
def _solve(size, channels, room):
    """Eliminate n columns of the matrix [n + C, n], whose last rows then hold what back substitution starts from."""
    n = size - channels
    matrix, column = room.matrix, room.column
    reciprocal = np.empty(LANES)
    for j in range(n):
        for lane in range(LANES):
            pivot = max(np.floor(matrix[j, j, lane] * PART), float(PIVOT_MIN))
            reciprocal[lane] = np.floor(2.0**RECIPROCAL_BITS / pivot)
        for i in range(j + 1, size):
            at = (i * n + j) * LANES
            lanes.floor_scaled(column, i * LANES, matrix, at, PART)
            lanes.floor_product(matrix, at, column, i * LANES, reciprocal, 0, 2.0 ** (FRACTION - RECIPROCAL_BITS))
        for i in range(j + 1, size):
            for k in range(j + 1, min(i + 1, n)):
                lanes.subtract_product(matrix, (i * n + k) * LANES, matrix, (i * n + j) * LANES, column, k * LANES)


@jit
def _answer(colour, n, room, out):
    """The solution times the inputs, float64 [LANES] out, with FRACTION bits."""
    matrix, solution = room.matrix, room.solution
    for lane in range(LANES):
        out[lane] = 0.0
    for j in range(n - 1, -1, -1):
        for lane in range(LANES):
            solution[j, lane] = matrix[n + colour, j, lane] * UNIT
        for i in range(j + 1, n):
            lanes.subtract_product(solution, j * LANES, matrix, (i * n + j) * LANES, solution, i * LANES)
        for lane in range(LANES):
            v = min(max(np.floor(solution[j, lane] * PART), -SOLUTION_LIMIT), SOLUTION_LIMIT)
            solution[j, lane] = v
            out[lane] += v * room.inputs[j, lane]


@jit
def _mean(canvas, at, row_size, channels):
    """local_kernels.features' mean of left and above of the sample at ``at``: int64."""
    left, above = np.int64(canvas[at - channels]), np.int64(canvas[at - row_size])
    if left == OUTSIDE:
        left = above
    if above == OUTSIDE:
        above = left
    return np.int64(128) if left == OUTSIDE else (left + above) >> 1


@jit
def _look(canvas, place, field, row, rows, step, size, channels, room):
    """z of the pixels, into the field and the room; their means."""
    for lane in range(rows):
        y = row + lane
        x = step - place.slope * y
        here = place.origin + y * place.row_size + x * channels
        at = field.origin + y * field.row + x * size
        for c in range(channels):
            mean = _mean(canvas, here + c, place.row_size, channels)
            room.means[c, lane] = mean
            for p in range(field.area.offsets.shape[0]):
                value = np.int64(canvas[here + field.area.offsets[p, 0] * place.row_size + field.area.offsets[p, 1] * channels + c])
                z = np.int64(0) if value == OUTSIDE else min(max(value - mean, -CLAMP), CLAMP)
                field.samples[at + p * channels + c] = z
                room.inputs[p * channels + c, lane] = z


@jit
def predict(canvas, place, field, step, begin, end, room):
    """Predict pixels ``begin`` to ``end`` - 1 of a step, by row; z is stored with them, ``finish`` stores t."""
    channels, slope = place.channels, place.slope
    size = channels * (field.area.offsets.shape[0] + 1)
    n, answer = size - channels, np.empty(LANES)
    top = max(0, -((place.width - 1 - step) // slope))
    for row in range(top + begin, top + end, LANES):
        rows = min(LANES, top + end - row)
        for lane in range(rows):
            if step == slope * (row + lane):
                _begin_row(field, row + lane, place.width, size, channels)
        _look(canvas, place, field, row, rows, step, size, channels, room)
        _gather(field, row, rows, step, slope, size, channels, room)
        _load(field, row, size, channels, room)
        _solve(size, channels, room)
        for c in range(channels):
            _answer(c, n, room, answer)
            for lane in range(rows):
                y = row + lane
                v = room.means[c, lane] * POSITION + np.int64(np.floor(answer[lane] * (POSITION * PART)))
                at = place.origin + y * place.row_size + (step - slope * y) * channels + c
                field.predicted[at] = min(max(v, 0), 255 * POSITION)


@jit
def finish(canvas, place, field, step, begin, end):
    """Tell the colours of pixels ``begin`` to ``end`` - 1 of a step."""
    channels = place.channels
    size = channels * (field.area.offsets.shape[0] + 1)
    top = max(0, -((place.width - 1 - step) // place.slope))
    for y in range(top + begin, top + end):
        x = step - place.slope * y
        here = place.origin + y * place.row_size + x * channels
        at = field.origin + y * field.row + (x + 1) * size - channels
        for c in range(channels):
            field.samples[at + c] = canvas[here + c] - _mean(canvas, here + c, place.row_size, channels)


@jit
def _halves(value):
    """1/POSITION grey level -> half levels."""
    return min(max((value + (1 << (FEATURE_SHIFT - 1))) >> FEATURE_SHIFT, -CLAMP), CLAMP)


@jit
def features(canvas, place, field, at, linear, near, multiplier, shift, out, base, deviation):
    """What a net is told, behind the features of its window: FEATURES * C columns of out.

    deviation int32 [N, C] out: predictions minus means, which move base as well, by ``linear`` from column ``near`` on.
    """
    channels = place.channels
    first = channels
    for run in range(place.run_length.shape[0]):
        first += place.run_length[run]
    for n in range(at.shape[0]):
        here = at[n]
        for c in range(channels):
            moved = field.predicted[here + c] - _mean(canvas, here + c, place.row_size, channels) * POSITION
            deviation[n, c] = min(max(moved, -CLAMP * POSITION), CLAMP * POSITION)
            out[n, first + c] = _halves(deviation[n, c])
            for e in range(field.error_offsets.shape[0]):
                there = here + c + field.error_offsets[e]
                sample, error = np.int64(canvas[there]), np.int64(0)
                if sample != OUTSIDE:
                    error = _halves(sample * POSITION - field.predicted[there])
                out[n, first + (1 + e) * channels + c] = error
        for c in range(channels):
            acc = np.int64(0)
            for k in range(channels):
                acc += np.int64(deviation[n, k]) * linear[c, near + k]
            down = np.int64(shift[c]) + POSITION_BITS
            base[n, c] += (acc * multiplier[c] + (np.int64(1) << (down - 1))) >> down


@jit
def _whole(canvas, place, field, room):
    """Predictions of all pixels of a tile that is on the canvas."""
    for step in range(place.steps):
        first = max(0, -((place.width - 1 - step) // place.slope))
        count = min(place.height - 1, step // place.slope) + 1 - first
        predict(canvas, place, field, step, 0, count, room)
        finish(canvas, place, field, step, 0, count)


def foretold(config: Any, canvas: Canvas) -> Known:
    """``known`` with the predictions of all pixels of filled tiles, found once."""
    if canvas.known is None:
        field = known(config, canvas)
        inner = canvas.like(canvas.flat)
        for tile, planes in zip(canvas.like(field.predicted), inner, strict=True):
            tile[:] = predictions(planes, config.slope)
        canvas.known = field
    return canvas.known


def predictions(planes: np.ndarray, slope: int) -> np.ndarray:
    """Predictions of all pixels of an image [C, H, W] of 8 bits, as a tile of its own: int16 [C, H, W], 1/POSITION level."""
    canvas = Canvas(Window(len(planes), 4, slope), *planes.shape[1:])
    canvas.fill(planes[None])
    field = known(_Told(len(planes), slope, 1), canvas)
    steps = slope * (canvas.height - 1) + canvas.width
    origin = int(canvas.locate(np.zeros(1, np.int64))[0])
    place = _Place(canvas.height, canvas.width, len(planes), slope, steps, canvas.row_size, origin)
    _whole(canvas.flat, place, field, room(field))
    return np.ascontiguousarray(canvas.like(field.predicted)[0])
