# SPDX-License-Identifier: MIT
"""The local model and the coder in one compiled loop over the steps of a tile: same words, without Python in between.

What ``coding.autoregressive.push`` and ``pop`` do with ``LocalModel.predict`` and constriction, for a tile alone::

    step: features -> net -> logistics -> for each channel: all high nibbles, all low nibbles -> canvas

Needs the int16 products (exact/int16.py) for all layers; other evaluators take the general way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..exact import ans, int16, kernels
from ..exact.kernels import jit
from ..exact.ops import INT32_BOUND, Layer
from ..exact.tables import BYTES, Scale
from . import mixture_step
from .local_kernels import features
from .mixture_step import Voice, Weights, value_weights
from .window import Canvas

if TYPE_CHECKING:
    from .local import LocalModel

Progress = Callable[[int], None]
LANES = int16.LANES
BLOCK = 64  # pixels whose activations stay in a core's cache while the weights pass
SAMPLED = 4  # one pixel of so many tells about what a tile takes
CALL_PIXELS = 1 << 15  # coded between two reports of progress, which may end the work


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
    scale: Scale


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
    """The model's arrays for the loop; all writable and of one type, so that learning shares compiled code."""
    layers, tables = model.layers, model.tables
    inner = [_filled(layers[f"{kind}.{b}"]) for b in range(model.config.blocks) for kind in ("up", "down")]
    linear = layers["linear"]
    arrays = (
        *_filled(layers["first"]), *map(np.stack, zip(*inner, strict=True)), *_filled(layers["last"]),
        model.config.window.near_columns(model.config.neighbours), linear.weight.astype(np.int32), linear.multiplier,
        linear.shift, tables.softmax, tables.inverse, tables.sigmoid,
    )  # fmt: skip
    return Net(*map(np.array, arrays))


# -- parts of a step -----------------------------------------------------------------------------------------


@jit
def _room(net, place):
    """Arrays for the pixels of a step: positions, outputs, base, samples."""
    return (
        np.empty(place.widest, np.int64),
        np.empty((place.widest, net.last_scale.shape[0]), np.int32),
        np.empty((place.widest, place.channels), np.int32),
        np.empty((place.widest, place.channels), np.int32),
    )


@jit
def _scratch(place):
    return mixture_step.room(place.widest, place.mixtures, place.channels, np.zeros(1, np.int64), np.zeros(1, np.int64))


@jit
def _rows(place, step):
    """First and last row of a step's pixels."""
    return max(0, -((place.width - 1 - step) // place.slope)), min(place.height - 1, step // place.slope)


@jit
def _position(place, step, row):
    return place.origin + row * place.row_size + (step - place.slope * row) * place.channels


@jit
def locate(place, step, at):
    """Positions in the canvas of the step's pixels, by row; returns how many."""
    first, last = _rows(place, step)
    n = 0
    for row in range(first, last + 1):
        at[n] = _position(place, step, row)
        n += 1
    return n


@jit
def _locate_some(place, step, every, at):
    """As ``locate``, of one in ``every`` pixels of the ``every`` steps that end with ``step``, as if by chance."""
    n, chance = 0, np.uint64(step)
    for s in range(max(0, step - every + 1), step + 1):
        first, last = _rows(place, s)
        for begin in range(first, last + 1, every):
            chance = chance * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)  # Knuth's generator
            row = begin + np.int64(chance >> np.uint64(33)) % every
            if row <= last and n < place.widest:
                at[n] = _position(place, s, row)
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
            net.linear, net.linear_multiplier, net.linear_shift, BYTES, x, base[part],
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
def voice_of(net, place, outputs, base):
    """What a net says of some pixels."""
    return Voice(outputs, base, place.mixtures, net.softmax, net.inverse, net.sigmoid)


# -- the loop: push and pop mirror each other ------------------------------------------------------------------


@jit
def read_samples(canvas, at, samples):
    """Samples int32 [N, C] of the pixels at ``at``."""
    for i in range(samples.shape[0]):
        for channel in range(samples.shape[1]):
            samples[i, channel] = canvas[at[i] + channel]


@jit
def write_samples(canvas, at, samples):
    """Inverse of ``read_samples``."""
    for i in range(samples.shape[0]):
        for channel in range(samples.shape[1]):
            canvas[at[i] + channel] = samples[i, channel]


@jit
def _push(net, place, canvas, from_step, to_step, every, values, weighted, state, words, pixels, bits):
    """Push the steps from_step - 1 down to to_step: the new state, how many words were written.

    Out, for each of the steps: how many pixels it has and their bits.  For ``every`` above 1 nothing is pushed: out,
    for each so many steps together, is what one in so many of their pixels would take.
    """
    at, outputs, base, samples = _room(net, place)
    room = _scratch(place)
    count = 0
    for number, step in enumerate(range(from_step - 1, to_step - 1, -every)):
        n = locate(place, step, at) if every == 1 else _locate_some(place, step, every, at)
        _evaluate(net, place, canvas, at[:n], outputs, base)
        read_samples(canvas, at[:n], samples[:n])
        voices = (voice_of(net, place, outputs[:n], base[:n]),)
        pixels[number] = n
        bits[number] = mixture_step.ranges(voices, samples[:n], values, weighted, room)
        for stream in range(2 * place.channels - 1, -1, -1) if every == 1 else range(0):
            for i in range(n - 1, -1, -1):
                state, count = ans.push(state, words, count, room.left[stream, i], room.freq[stream, i])
    return state, count


@jit
def _pop(net, place, canvas, from_step, to_step, values, weighted, state, words, count):
    """Pop the steps from_step to to_step - 1 into the canvas: the new state, how many words are left."""
    at, outputs, base, samples = _room(net, place)
    room = _scratch(place)
    for step in range(from_step, to_step):
        n = locate(place, step, at)
        _evaluate(net, place, canvas, at[:n], outputs, base)
        voices = (voice_of(net, place, outputs[:n], base[:n]),)
        state, count = mixture_step.take(voices, samples[:n], values, weighted, room, state, words, count)
        write_samples(canvas, at[:n], samples[:n])
    return state, count


class TileCoder:
    """Codes tiles with a model for which this loop is ``possible``.  Immutable; safe to share by threads."""

    def __init__(self, model: LocalModel) -> None:
        self._model, self._net = model, prepare(model)

    def push_words(
        self, planes: np.ndarray, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """A tile uint8 [C, H, W] -> words uint32, and the estimated bits [1].  Mirrors ``pop_words``, backwards.

        One thread works on a tile.
        """
        channels, height, width = planes.shape
        canvas, place, calls, values, weighted = open_tile(self._model, height, width, weights)
        canvas.fill(planes[None])
        state, out, bits = np.uint64(0), [], 0.0
        for number, (first, last) in enumerate(reversed(calls)):
            buffer = np.empty(2 * channels * place.widest * (last - first), np.uint32)  # a word a nibble at most
            seen, cost = np.empty(last - first, np.int64), np.empty(last - first)
            state, count = _push(
                self._net, place, canvas.flat, last, first, 1, values, weighted, np.uint64(state), buffer, seen, cost
            )
            out.append(buffer[:count].copy())
            bits += cost.sum()
            report(progress, height * width, number, len(calls))
        return ans.closed(state, out), np.array([bits])

    def sampled_bits(self, planes: np.ndarray, progress: Progress, weights: Weights) -> tuple[float, float]:
        """About the bits of a tile uint8 [C, H, W], from one of SAMPLED of its pixels, and the variance of that number.

        The variance is that of samples side by side: the tile is no different there (von Neumann 1941).
        """
        _, height, width = planes.shape
        canvas, place, calls, values, weighted = open_tile(self._model, height, width, weights)
        canvas.fill(planes[None])
        groups = -(-place.steps // SAMPLED)
        seen, bits, words = np.empty(groups, np.int64), np.empty(groups), np.empty(0, np.uint32)
        each = SAMPLED * calls[0][1]
        for last in range(place.steps, 0, -each):
            part, first = slice((place.steps - last) // SAMPLED, None), max(0, last - each)
            _push(
                self._net, place, canvas.flat, last, first, SAMPLED, values, weighted, np.uint64(0), words,
                seen[part], bits[part],
            )  # fmt: skip
            progress(0)  # it may end the work
        bits, seen = bits[seen > 0], seen[seen > 0]
        more = planes[0].size / max(seen.sum(), 1)
        differences = np.diff(bits / seen) ** 2 / 2 * seen[1:] * seen[:-1]
        return float(bits.sum() * more), float(differences.sum() * more**2)

    def pop_words(
        self, words: np.ndarray, height: int, width: int, progress: Progress, weights: Weights, threads: int = 1
    ) -> tuple[np.ndarray, bool]:
        """Inverse of ``push_words``: the tile uint8 [C, H, W], and whether the words were used up exactly."""
        canvas, place, calls, values, weighted = open_tile(self._model, height, width, weights)
        words = np.array(words, np.uint32)  # one type and layout, whatever file they lie in
        state, count = ans.opened(words)
        for number, (first, last) in enumerate(calls):
            state, count = _pop(
                self._net, place, canvas.flat, first, last, values, weighted, np.uint64(state), words, count
            )
            report(progress, height * width, number, len(calls))
        return canvas.planes()[0], int(state) == 0 and count == 0

    def evaluate(self, planes: np.ndarray) -> None:
        """Only the net, for a tile uint8 [C, H, W]: to measure what it takes."""
        canvas = self._model.canvas(*planes.shape[1:])
        canvas.fill(planes[None])
        _net_alone(self._net, place_of(self._model, canvas), canvas.flat)


@jit
def _net_alone(net, place, canvas):
    """All steps' outputs and nothing with them; a sum, so that nothing is left out."""
    at, outputs, base, _ = _room(net, place)
    total = np.int64(0)
    for step in range(place.steps):
        _evaluate(net, place, canvas, at[: locate(place, step, at)], outputs, base)
        total += outputs[0, 0]
    return total


def open_tile(
    model: LocalModel, height: int, width: int, weights: Weights
) -> tuple[Canvas, Place, list[tuple[int, int]], np.ndarray, np.ndarray]:
    """An empty canvas, its geometry, the calls that code it, ``value_weights``."""
    canvas = model.canvas(height, width)
    place = place_of(model, canvas)
    return canvas, place, calls_of(place, CALL_PIXELS), *value_weights(weights, model.channels)


def place_of(model: LocalModel, canvas: Canvas, scale: Scale = BYTES) -> Place:
    """Where a canvas of one tile has its pixels, and what its samples mean."""
    c, origin = model.config, int(canvas.locate(np.zeros(1, np.int64))[0])
    widest = min(canvas.height, -(-canvas.width // c.slope))
    steps = c.slope * (canvas.height - 1) + canvas.width
    return Place(
        canvas.height, canvas.width, c.channels, c.mixtures, c.slope, steps, canvas.row_size, origin, widest,
        *canvas.runs(c.window), *model.limits, scale,
    )  # fmt: skip


def calls_of(place: Place, pixels: int) -> list[tuple[int, int]]:
    """Runs of steps, each for one call of the loop that codes about so many pixels."""
    each = max(1, pixels * place.steps // (place.height * place.width))
    return [(start, min(start + each, place.steps)) for start in range(0, place.steps, each)]


def report(progress: Progress, pixels: int, number: int, calls: int) -> None:
    """Pass on the pixels of call ``number``; those of all calls are ``pixels``."""
    progress(pixels * (number + 1) // calls - pixels * number // calls)
