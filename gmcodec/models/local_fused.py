# SPDX-License-Identifier: MIT
"""The local model and the coder in one compiled loop over the steps of a tile: same words, without Python in between.

What ``coding.autoregressive.push`` and ``pop`` do with ``LocalModel.predict`` and constriction, for a tile alone::

    step: features -> net -> logistics -> for each channel: all high nibbles, all low nibbles -> canvas

A nibble is found by bisection of the mixture's cumulative function, in a few places and not in all 16.  Needs the
int16 products (exact/int16.py) for all layers; other evaluators take the general way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..exact import ans, int16, kernels
from ..exact.kernels import component, jit
from ..exact.ops import INT32_BOUND, Layer
from ..exact.tables import CUMULATIVE_BITS, NIBBLES, POSITION, ROW_TOTAL, SPREAD, TOP, TOTAL_BITS
from .local_kernels import features
from .mixture import open_channel
from .window import Canvas

if TYPE_CHECKING:
    from .local import LocalModel

Progress = Callable[[int], None]
Weights = Sequence[np.ndarray | None] | None  # of values, as in coding/histogram.py
LANES = int16.LANES
BLOCK = 64  # pixels whose activations stay in a core's cache while the weights pass
CALL_PIXELS = 1 << 15  # coded between two reports of progress
HALF = POSITION // 2


class Net(NamedTuple):
    """Arrays of a frozen net: rows and columns of every layer filled up with zeros to whole vectors."""

    first: np.ndarray  # packed weights, then scale and offset (kernels.affine)
    first_scale: np.ndarray
    first_offset: np.ndarray
    inner: np.ndarray  # up and down of every block in turn: [2 * blocks, ...]
    inner_scale: np.ndarray
    inner_offset: np.ndarray
    last: np.ndarray
    last_scale: np.ndarray
    last_offset: np.ndarray
    near: np.ndarray
    linear: np.ndarray
    linear_multiplier: np.ndarray
    linear_shift: np.ndarray
    softmax: np.ndarray
    inverse: np.ndarray
    sigmoid: np.ndarray


class Place(NamedTuple):
    """Geometry of a canvas that holds one tile."""

    height: int
    width: int
    channels: int
    mixtures: int
    slope: int
    steps: int  # of the wavefront
    row_size: int
    origin: int  # the tile's first sample
    widest: int  # pixels of a step, at most
    run_start: np.ndarray
    run_length: np.ndarray
    limit: int  # of activations
    output_limit: int


def possible(model: LocalModel) -> bool:
    """Whether this loop codes with the model: chosen int16 products that fit every layer."""
    names = [name for name in model.config.layer_names() if name != "linear"]
    fits = (model.layers[n].product_bound < INT32_BOUND and model.layers[n].input_limit < 2**15 for n in names)
    return model.evaluator.name == "int16" and model.config.blocks > 0 and all(fits)


def _filled(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed weights, scale and offset of a layer with rows and columns filled up."""
    rows, columns = layer.weight.shape
    wide = np.zeros((rows, -(-columns // LANES) * LANES), np.int16)
    wide[:, :columns] = layer.weight
    scale, offset = kernels.affine(layer)
    more = -rows % LANES
    return int16.pack(wide), np.pad(scale, (0, more)), np.pad(offset, (0, more))


def prepare(model: LocalModel) -> Net:
    """The model's arrays for the loop."""
    layers, tables = model.layers, model.tables
    inner = [_filled(layers[f"{kind}.{b}"]) for b in range(model.config.blocks) for kind in ("up", "down")]
    linear = layers["linear"]
    return Net(
        *_filled(layers["first"]), *map(np.stack, zip(*inner, strict=True)), *_filled(layers["last"]),
        model.config.window.near_columns(model.config.neighbours), linear.weight, linear.multiplier, linear.shift,
        tables.softmax, tables.inverse, tables.sigmoid,
    )  # type: ignore[call-arg]  # fmt: skip


# -- parts of a step -----------------------------------------------------------------------------------------


@jit
def _room(net, place):
    """Arrays for the pixels of a step: positions, outputs, base, samples; weights, means, inverses of the mixture."""
    shape = (place.widest, place.mixtures)
    return (
        np.empty(place.widest, np.int64),
        np.empty((place.widest, net.last_scale.shape[0]), np.int32),
        np.empty((place.widest, place.channels), np.int32),
        np.empty((place.widest, place.channels), np.int32),
        np.empty(shape, np.int64),
        np.empty(shape, np.int64),
        np.empty(shape, np.int64),
    )


@jit
def _locate(place, step, at):
    """Positions in the canvas of the step's pixels, by row; returns how many."""
    first = max(0, -((place.width - 1 - step) // place.slope))
    last = min(place.height - 1, step // place.slope)
    n = 0
    for row in range(first, last + 1):
        at[n] = place.origin + row * place.row_size + (step - place.slope * row) * place.channels
        n += 1
    return n


@jit
def _evaluate(net, place, canvas, at, outputs, base):
    """``LocalModel.evaluate`` of the pixels at ``at``; outputs int32 [N, filled], base int32 [N, C]."""
    width = net.first_scale.shape[0]
    x = np.zeros((BLOCK, 2 * net.first.shape[0]), np.int16)
    stream = np.empty((BLOCK, width), np.int16)
    middle = np.empty((BLOCK, width), np.int16)
    acc = np.empty((BLOCK, width), np.int32)
    for start in range(0, at.shape[0], BLOCK):
        n = min(BLOCK, at.shape[0] - start)
        part = slice(start, start + n)
        features(
            canvas, place.row_size, at[part], place.channels, place.run_start, place.run_length, net.near,
            net.linear, net.linear_multiplier, net.linear_shift, x, base[part],
        )  # fmt: skip
        int16.multiply(x[:n], net.first, acc[:n])
        kernels.hidden(acc[:n], net.first_scale, net.first_offset, place.limit, stream)
        for b in range(0, net.inner.shape[0], 2):
            int16.multiply(stream[:n], net.inner[b], acc[:n])
            kernels.hidden(acc[:n], net.inner_scale[b], net.inner_offset[b], place.limit, middle)
            int16.multiply(middle[:n], net.inner[b + 1], acc[:n])
            kernels.residual(acc[:n], net.inner_scale[b + 1], net.inner_offset[b + 1], place.limit, stream)
        int16.multiply(stream[:n], net.last, outputs[part])
        kernels.output(outputs[part], net.last_scale, net.last_offset, place.output_limit, outputs[part])


@jit
def _cumulative(sample, weights, mean, inverse, sigmoid):
    """tables.cumulative of one pixel, for samples 1 to 255."""
    total = np.int64(0)
    for k in range(weights.shape[0]):
        total += weights[k] * component(sample * POSITION - HALF, mean[k], inverse[k], sigmoid)
    return total


@jit
def _high_end(j, weights, mean, inverse, sigmoid):
    """Where high nibble j begins, for j in 0 to 16: its mark and the cumulative mass there."""
    if j == 0:
        return np.int64(0), np.int64(0)
    if j == NIBBLES:
        return np.int64(ROW_TOTAL), np.int64(TOP)
    mass = _cumulative(16 * j, weights, mean, inverse, sigmoid)
    return ((mass * SPREAD) >> CUMULATIVE_BITS) + j, mass


@jit
def _find_high(wanted, weights, mean, inverse, sigmoid):
    """The high nibble whose range holds the quantile: nibble, left, freq, cumulative mass at both of its ends."""
    low, high = np.int64(0), np.int64(NIBBLES)
    left, right = np.int64(0), np.int64(ROW_TOTAL)
    below, above = np.int64(0), np.int64(TOP)
    likely = 0
    for k in range(weights.shape[0]):
        if weights[k] > weights[likely]:
            likely = k
    # where the likeliest component has its mean, then beside it: two places are enough for most samples
    middle, tried = (mean[likely] + HALF) // (NIBBLES * POSITION), 0
    while high - low > 1:
        if tried >= 2:
            middle = (low + high) >> 1
        middle, tried = min(max(middle, low + 1), high - 1), tried + 1
        mark, mass = _high_end(middle, weights, mean, inverse, sigmoid)
        if mark <= wanted:
            low, left, below = middle, mark, mass
            middle += 1
        else:
            high, right, above = middle, mark, mass
            middle -= 1
    return low, left, right - left, below, above


@jit
def _find_low(wanted, first, below, above, weights, mean, inverse, sigmoid):
    """The low nibble whose range holds the quantile, of values from ``first`` on: nibble, left, freq."""
    low, high = np.int64(0), np.int64(NIBBLES)
    left, right = np.int64(0), np.int64(ROW_TOTAL)
    while high - low > 1:
        middle = (low + high) >> 1
        mark = _low_mark(middle, first, below, above, weights, mean, inverse, sigmoid)
        if mark <= wanted:
            low, left = middle, mark
        else:
            high, right = middle, mark
    return low, left, right - left


@jit
def _low_mark(j, first, below, above, weights, mean, inverse, sigmoid):
    """tables.shares: where low nibble j begins, for j in 0 to 16."""
    if j == 0:
        return np.int64(0)
    if j == NIBBLES:
        return np.int64(ROW_TOTAL)
    if above <= below:  # no mass at all: uniform
        return j * np.int64(SPREAD // NIBBLES) + j
    mass = _cumulative(first + j, weights, mean, inverse, sigmoid)
    return (mass - below) * SPREAD // (above - below) + j


@jit
def _weighted_row(high, below, above, values, weights, mean, inverse, sigmoid, rows):
    """Row [1, 16] of the low nibble of an image that has weights of values."""
    before = np.int64(0)
    for j in range(1, NIBBLES + 1):
        mark = _low_mark(np.int64(j), 16 * high, below, above, weights, mean, inverse, sigmoid)
        rows[0, j - 1] = mark - before
        before = mark
    kernels.reweight(rows, np.full(1, high, np.int32), values)


# -- the loop: push and pop mirror each other ------------------------------------------------------------------


@jit
def _push(net, place, canvas, from_step, to_step, values, weighted, state, words):
    """Push the steps from_step - 1 down to to_step: the new state, how many words were written, bits."""
    c = place.channels
    at, outputs, base, samples, weights, mean, inverse = _room(net, place)
    left, freq = np.empty((2 * c, place.widest), np.int64), np.empty((2 * c, place.widest), np.int64)
    row = np.empty((1, NIBBLES), np.int32)
    count, bits = 0, 0.0
    for step in range(from_step - 1, to_step - 1, -1):
        n = _locate(place, step, at)
        _evaluate(net, place, canvas, at[:n], outputs, base)
        for i in range(n):
            for channel in range(c):
                samples[i, channel] = canvas[at[i] + channel]
        kernels.softmax(outputs, net.softmax, weights[:n])
        for channel in range(c):
            open_channel(outputs, base, samples, channel, c, net.inverse, mean[:n], inverse)
            for i in range(n):
                high, low = np.int64(samples[i, channel]) >> 4, np.int64(samples[i, channel]) & 15
                w, m, v = weights[i], mean[i], inverse[i]
                mark, below = _high_end(high, w, m, v, net.sigmoid)
                following, above = _high_end(high + 1, w, m, v, net.sigmoid)
                left[2 * channel, i], freq[2 * channel, i] = mark, following - mark
                if weighted[channel]:
                    _weighted_row(high, below, above, values[channel], w, m, v, net.sigmoid, row)
                    mark = np.int64(0)
                    for j in range(low):
                        mark += row[0, j]
                    following = mark + row[0, low]
                else:
                    mark = _low_mark(low, 16 * high, below, above, w, m, v, net.sigmoid)
                    following = _low_mark(low + 1, 16 * high, below, above, w, m, v, net.sigmoid)
                left[2 * channel + 1, i], freq[2 * channel + 1, i] = mark, following - mark
            if channel + 1 < c:
                kernels.observe(samples[:n, channel], weights[:n], mean, inverse, net.sigmoid)
        for i in range(n):
            product = 1.0  # one logarithm a pixel; below 2**(24 * 6)
            for stream in range(2 * c):
                product *= freq[stream, i]
            bits += 2 * c * TOTAL_BITS - np.log2(product)
        for stream in range(2 * c - 1, -1, -1):
            for i in range(n - 1, -1, -1):
                state, count = ans.push(state, words, count, left[stream, i], freq[stream, i])
    return state, count, bits


@jit
def _pop(net, place, canvas, from_step, to_step, values, weighted, state, words, count):
    """Pop the steps from_step to to_step - 1 into the canvas: the new state, how many words are left."""
    c = place.channels
    at, outputs, base, samples, weights, mean, inverse = _room(net, place)
    highs, belows, aboves = np.empty((3, place.widest), np.int64)
    row = np.empty((1, NIBBLES), np.int32)
    for step in range(from_step, to_step):
        n = _locate(place, step, at)
        _evaluate(net, place, canvas, at[:n], outputs, base)
        kernels.softmax(outputs, net.softmax, weights[:n])
        for channel in range(c):
            open_channel(outputs, base, samples, channel, c, net.inverse, mean[:n], inverse)
            for i in range(n):
                found = _find_high(ans.quantile(state), weights[i], mean[i], inverse[i], net.sigmoid)
                highs[i], left, freq, belows[i], aboves[i] = found
                state, count = ans.pop(state, words, count, left, freq)
            for i in range(n):
                high, below, above, w, m, v = highs[i], belows[i], aboves[i], weights[i], mean[i], inverse[i]
                if weighted[channel]:
                    _weighted_row(high, below, above, values[channel], w, m, v, net.sigmoid, row)
                    low, left, wanted = np.int64(0), np.int64(0), ans.quantile(state)
                    while left + row[0, low] <= wanted:
                        left += row[0, low]
                        low += 1
                    freq = np.int64(row[0, low])
                else:
                    low, left, freq = _find_low(ans.quantile(state), 16 * high, below, above, w, m, v, net.sigmoid)
                state, count = ans.pop(state, words, count, left, freq)
                samples[i, channel] = 16 * high + low
                canvas[at[i] + channel] = samples[i, channel]
            if channel + 1 < c:
                kernels.observe(samples[:n, channel], weights[:n], mean, inverse, net.sigmoid)
    return state, count


class TileCoder:
    """Codes tiles with a model for which this loop is ``possible``.  Immutable; safe to share by threads."""

    def __init__(self, model: LocalModel) -> None:
        self._model, self._net = model, prepare(model)

    def push_words(self, planes: np.ndarray, progress: Progress, weights: Weights) -> tuple[np.ndarray, float]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits.  Mirrors ``pop_words``, backwards."""
        channels, height, width = planes.shape
        canvas = self._model.canvas(height, width)
        canvas.fill(planes[None])
        calls = _calls(place := self._place(canvas))
        values, weighted = _values(weights, channels)
        state, out, bits = np.uint64(0), [], 0.0
        for number, (first, last) in enumerate(reversed(calls)):
            buffer = np.empty(2 * channels * place.widest * (last - first), np.uint32)  # a word a nibble at most
            state, count, cost = _push(
                self._net, place, canvas.flat, last, first, values, weighted, np.uint64(state), buffer
            )
            out.append(buffer[:count].copy())
            bits += cost
            _report(progress, height * width, number, len(calls))
        return ans.closed(state, out), bits

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        canvas = self._model.canvas(height, width)
        calls = _calls(place := self._place(canvas))
        values, weighted = _values(weights, self._model.channels)
        words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
        state, count = ans.opened(words)
        for number, (first, last) in enumerate(calls):
            state, count = _pop(
                self._net, place, canvas.flat, first, last, values, weighted, np.uint64(state), words, count
            )
            _report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(state) == 0 and count == 0

    def evaluate(self, planes: np.ndarray) -> None:
        """Only the net, for a tile uint8 [C, H, W]: to measure what it takes."""
        canvas = self._model.canvas(*planes.shape[1:])
        canvas.fill(planes[None])
        _net_alone(self._net, self._place(canvas), canvas.flat)

    def _place(self, canvas: Canvas) -> Place:
        c, origin = self._model.config, int(canvas.locate(np.zeros(1, np.int64))[0])
        widest = min(canvas.height, -(-canvas.width // c.slope))
        steps = c.slope * (canvas.height - 1) + canvas.width
        return Place(
            canvas.height, canvas.width, c.channels, c.mixtures, c.slope, steps, canvas.row_size, origin, widest,
            canvas.run_start, canvas.run_length, *self._model.limits,
        )  # fmt: skip


@jit
def _net_alone(net, place, canvas):
    """All steps' outputs and nothing with them; a sum, so that nothing is left out."""
    at, outputs, base, _, _, _, _ = _room(net, place)
    total = np.int64(0)
    for step in range(place.steps):
        _evaluate(net, place, canvas, at[: _locate(place, step, at)], outputs, base)
        total += outputs[0, 0]
    return total


def _calls(place: Place) -> list[tuple[int, int]]:
    """Runs of steps, each for one call of the loop."""
    each = max(1, CALL_PIXELS * place.steps // (place.height * place.width))
    return [(start, min(start + each, place.steps)) for start in range(0, place.steps, each)]


def _values(weights: Weights, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of values int64 [C, 256], and which channels have any."""
    given = weights or [None] * channels
    values = [np.ones(256, np.int64) if w is None else w for w in given]
    return np.stack(values), np.array([w is not None for w in given])


def _report(progress: Progress, pixels: int, number: int, calls: int) -> None:
    """Pass on the pixels of call ``number``; those of all calls are ``pixels``."""
    progress(pixels * (number + 1) // calls - pixels * number // calls)
