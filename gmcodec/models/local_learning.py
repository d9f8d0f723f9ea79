# SPDX-License-Identifier: MIT
"""A local model that learns from the tile it codes: what it starts from, and what a batch of coded pixels teaches it.

::

    steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
                             \\____ a batch: BATCH pixels or a little more ____/

``update`` goes backwards through the net with what ``forward`` kept of the batch, and moves all weights; encoder and
decoder do it at the same places with the same integers.  exact/learning.py has the rule, mixture_gradient.py where
gradients start.  Gradients of sums have a unit 2**-e of their own in every row (``gradient.*`` of the weights, chosen
when freezing); on the way back a row's weights are cut by how much finer its unit is than the layer's coarsest.

Weights that move fast enough to follow the image are noisy.  A model that is ``averaged`` (Polyak and Juditsky 1992)
codes with a running mean of its weights, while those that learn, ``ahead`` of the mean, go on from where they are: they
need their own pass forward, of which no pixel waits.  The linear predictor is not averaged: features stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import GmcFormatError, WeightsError
from ..exact import crew, int16, kernels, learning
from ..exact.kernels import jit
from ..exact.learning import FINE_BITS, HALF, LEARNT
from ..exact.ops import Layer
from .local_fused import Net, Place
from .local_kernels import features
from .mixture import output_units
from .mixture_gradient import BITS, mixture_gradient

if TYPE_CHECKING:
    from .local import LocalModel

BATCH = 100  # pixels from which the model learns
BLOCK = 64  # pixels whose gradients stay in a core's cache
RATE_BITS = 20
# of weights, as a share of their row's root mean square, in 2**-20; an image names one.  Part of the format
RATES = (222, 315, 445, 629, 890, 1258, 1779, 2517)
SHARES = {"first": 10, "up": 24, "down": 16, "last": 24}  # of the rate, in 16ths
LINEAR_RATE = 105  # of the linear predictor, of a weight of 1, in 2**-20
FIRST_UNIT, UNIT = 4, 32  # what a bias' input would be: about the root mean square of a layer's inputs
CENTRE_LIMIT, CENTRE_SHIFT = 1 << 20, 8
LARGEST_CUT = 6
MIRRORS = 4  # ways to mirror a tile: local_learner.mirrored


class Rules(NamedTuple):
    """How gradients flow back and how far weights move; constant."""

    first_scale: np.ndarray  # float64 [M]: learning.deltas
    first_rate: np.ndarray  # int64 [M], of master weights
    first_limit: int
    inner_scale: np.ndarray  # up and down of every block in turn: [2 * blocks, M]
    inner_rate: np.ndarray
    inner_cut: np.ndarray  # int64 [2 * blocks, M]
    inner_unit: np.ndarray  # float64 [blocks]: of what a block's gradients are worth, in the stream's
    last_scale: np.ndarray
    last_rate: np.ndarray
    last_cut: np.ndarray
    limit: int  # of the weights of all layers but the first
    linear_rate: np.ndarray  # int64 [C]
    averaged: bool


class Mean(NamedTuple):
    """Of the master weights and biases, of a model that is averaged."""

    first: np.ndarray
    first_bias: np.ndarray
    inner: np.ndarray
    inner_bias: np.ndarray
    last: np.ndarray
    last_bias: np.ndarray


class State(NamedTuple):
    """What changes from batch to batch, next to the packed weights and the offsets of a ``Net``."""

    ahead: Net  # the weights that learn: of a model that is not averaged, those that code
    mean: Mean
    first: np.ndarray  # master weights int32 [M, K]
    first_bias: np.ndarray  # int64 [M]
    first_square: np.ndarray  # int64 [M]
    inner: np.ndarray
    inner_bias: np.ndarray
    inner_square: np.ndarray
    inner_back: np.ndarray  # packed, transposed
    last: np.ndarray
    last_bias: np.ndarray
    last_square: np.ndarray
    last_back: np.ndarray
    linear: np.ndarray  # int32 [C, K]
    linear_square: np.ndarray


class Batch(NamedTuple):
    """What is kept of gathered pixels: int16 activations, int32 the rest."""

    features: np.ndarray  # [N, K]
    stream: np.ndarray  # [blocks + 1, N, width]
    inner: np.ndarray  # [blocks, N, width]
    outputs: np.ndarray  # [N, M]
    base: np.ndarray  # [N, C]
    samples: np.ndarray  # [N, C]
    centre: np.ndarray  # int64 [N, C]: gradients by the base, then int16 by the sums of the layers
    by_first: np.ndarray
    by_inner: np.ndarray
    by_last: np.ndarray


# -- what a model starts from ----------------------------------------------------------------------------------


def read_changes(changes: bytes, nets: int) -> tuple[tuple[int, ...], int]:
    """What a file says of so many nets: their rates of learning, a byte each, and how tiles are mirrored; that byte is
    left out where they are not.  Raises GmcFormatError.
    """
    rates, mirror = tuple(changes[:nets]), changes[nets:]
    if len(rates) < nets or max(rates) >= len(RATES):
        raise GmcFormatError("the model does not know this rate of learning")
    if mirror and (len(mirror) > 1 or not 0 < mirror[0] < MIRRORS):
        raise GmcFormatError("the model does not know this way to mirror tiles")
    return rates, mirror[0] if mirror else 0


def check(model: LocalModel, exponents: dict[str, np.ndarray]) -> None:
    """Prove that a model can learn without overflow.  Raises WeightsError."""
    if model.config.blocks < 1 or model.config.condition:
        raise WeightsError("only local models with blocks and without a condition learn")
    for name in layers_of(model):
        if name not in exponents:
            raise WeightsError(f"{name}: there are no units of gradients")
        layer, unit = model.layers[name], exponents[name]
        bias = int(np.abs(layer.bias.astype(np.int64)).max(initial=0))
        if np.abs(layer.weight.astype(np.int64)).max(initial=0) > learning.limit(layer) or bias >= learning.BIAS_ROOM:
            raise WeightsError(f"{name}: weights leave no room to learn")
        if unit.shape != layer.bias.shape or unit.dtype != np.int32 or np.abs(unit).max(initial=0) > 63:
            raise WeightsError(f"{name}: units of gradients are not int32 of its length in their range")
        if np.ptp(unit) > LARGEST_CUT:
            raise WeightsError(f"{name}: units of gradients differ by more than 2**{LARGEST_CUT}")
    linear = model.layers["linear"]
    reach = linear.weight.shape[1] * linear.input_limit * 2**15 * linear.multiplier.astype(object)
    if any(r >> int(s) >= 2**30 for r, s in zip(reach, linear.shift, strict=True)):
        raise WeightsError("linear: a prediction could leave int32")


def layers_of(model: LocalModel) -> list[str]:
    """Layers of the net that learn, by name: the linear predictor does too, in its own way."""
    return [name for name in model.config.layer_names() if name != "linear"]


def _rates(layer: Layer, rate: int, share: int) -> np.ndarray:
    """int64 [M]: steps of master weights, ``rate`` times the root mean square of a row."""
    squares = (layer.weight.astype(np.int64) ** 2).sum(1) // layer.weight.shape[1]
    roots = np.array([learning.square_root(np.int64(s) << 16) for s in squares], np.int64)  # times 2**8
    return np.maximum(1, (roots * (rate * share)) >> (RATE_BITS + 4 + 8 - FINE_BITS))


def _padded(values: np.ndarray, size: int, fill: int = 0) -> np.ndarray:
    return np.pad(values, (0, size - len(values)), constant_values=fill)


def _scale(layer: Layer, exponent: np.ndarray) -> np.ndarray:
    """float64 [M]: multiplier * 2**(exponent - shift), exactly."""
    return np.ldexp(layer.multiplier.astype(np.float64), exponent - layer.shift)


def rules(model: LocalModel, net: Net, exponents: dict[str, np.ndarray], rate: int, averaged: bool) -> Rules:
    """The model's rules for ``rate`` of RATES; ``net`` is what local_fused prepares."""
    layers, blocks = model.layers, model.config.blocks
    width, outputs = len(net.first_scale), len(net.last_scale)
    coarsest = {name: int(e.min()) for name, e in exponents.items()}
    stream = coarsest["last"]

    def rates(name: str, size: int) -> np.ndarray:
        return _padded(_rates(layers[name], RATES[rate], SHARES[name.partition(".")[0]]), size, 1)

    def cut(name: str, size: int) -> np.ndarray:
        return _padded(exponents[name].astype(np.int64) - coarsest[name], size)

    inner = [f"{kind}.{b}" for b in range(blocks) for kind in ("up", "down")]
    before = [stream if name.startswith("down") else coarsest[name.replace("up", "down")] for name in inner]
    one = (np.int64(64) << layers["linear"].shift.astype(np.int64)) // layers["linear"].multiplier  # a weight of 1
    return Rules(
        _padded(_scale(layers["first"], exponents["first"] - stream), width),
        rates("first", width),
        learning.limit(layers["first"]),
        np.stack([_padded(_scale(layers[n], exponents[n] - e), width) for n, e in zip(inner, before, strict=True)]),
        np.stack([rates(name, width) for name in inner]),
        np.stack([cut(name, width) for name in inner]),
        np.array([2.0 ** (stream - coarsest[f"up.{b}"]) for b in range(blocks)]),
        _padded(_scale(layers["last"], exponents["last"] - BITS) * output_units(model.config), outputs),
        rates("last", outputs),
        cut("last", outputs),
        min(learning.limit(layers[name]) for name in [*inner, "last"]),
        np.maximum(1, (one * LINEAR_RATE) >> (RATE_BITS - FINE_BITS)),
        averaged,
    )


def begin(model: LocalModel, net: Net, rules: Rules) -> tuple[Net, State]:
    """A copy of the net for a tile, and its state."""
    net, layers = Net(*map(np.array, net)), model.layers
    width, outputs, columns = len(net.first_scale), len(net.last_scale), 2 * net.first.shape[0]
    inner = [f"{kind}.{b}" for b in range(model.config.blocks) for kind in ("up", "down")]

    def master(name: str, rows: int, columns: int) -> np.ndarray:
        weight = layers[name].weight.astype(np.int32) << FINE_BITS
        filled = np.pad(weight, ((0, rows - weight.shape[0]), (0, columns - weight.shape[1])))
        return np.ascontiguousarray(filled)  # in any other order all would be compiled once more

    def bias(name: str, rows: int) -> np.ndarray:
        return _padded(layers[name].bias.astype(np.int64) << FINE_BITS, rows)

    weights = Mean(
        master("first", width, columns), bias("first", width), np.stack([master(name, width, width) for name in inner]),
        np.stack([bias(name, width) for name in inner]), master("last", outputs, width), bias("last", outputs),
    )  # fmt: skip
    ahead, mean = (Net(*map(np.array, net)), Mean(*map(np.array, weights))) if rules.averaged else (net, weights)
    state = State(
        ahead, mean,
        weights.first, weights.first_bias, np.zeros(width, np.int64),
        weights.inner, weights.inner_bias, np.zeros((len(inner), width), np.int64),
        np.empty((len(inner), width // 2, width, 2), np.int16),
        weights.last, weights.last_bias, np.zeros(outputs, np.int64), np.empty((outputs // 2, width, 2), np.int16),
        layers["linear"].weight.astype(np.int32) << FINE_BITS, np.zeros(model.channels, np.int64),
    )  # fmt: skip
    for number in range(len(inner)):
        learning.repack_back(state.inner[number], rules.inner_cut[number], state.inner_back[number])
    learning.repack_back(state.last, rules.last_cut, state.last_back)
    return net, state


def batch_of(net: Net, place: Place) -> Batch:
    """An empty batch, with room for every step of a tile."""
    pixels, width, blocks = max(LEARNT, place.widest), len(net.first_scale), len(net.inner) // 2
    shapes = (2 * net.first.shape[0],), (len(net.last_scale),), (place.channels,), (place.channels,)
    features, outputs, base, samples = ((pixels, *shape) for shape in shapes)
    return Batch(
        np.zeros(features, np.int16), np.zeros((blocks + 1, pixels, width), np.int16),
        np.zeros((blocks, pixels, width), np.int16), np.zeros(outputs, np.int32), np.zeros(base, np.int32),
        np.zeros(samples, np.int32), np.zeros(base, np.int64), np.zeros((pixels, width), np.int16),
        np.zeros((2 * blocks, pixels, width), np.int16), np.zeros(outputs, np.int16),
    )  # fmt: skip


def room(net: Net) -> learning.Room:
    """Scratch of ``update``."""
    return learning.room(max(len(net.first_scale), len(net.last_scale)), 2 * max(net.first.shape[0], net.last.shape[0]))


# -- forward, and back -----------------------------------------------------------------------------------------


@jit
def is_due(counts, batch, pixels):
    """Whether to learn before a step of so many pixels."""
    gathered = counts[1]
    return gathered >= BATCH or gathered + pixels > batch.features.shape[0]


@jit
def forward(net, place, canvas, at, batch, first):
    """Evaluate the pixels at ``at`` as local_fused does, into the batch from ``first`` on."""
    for start in range(0, at.shape[0], BLOCK):
        n = min(BLOCK, at.shape[0] - start)
        part = slice(first + start, first + start + n)
        features(
            canvas, place.row_size, at[start : start + n], place.channels, place.run_start, place.run_length, net.near,
            net.linear, net.linear_multiplier, net.linear_shift, place.scale, batch.features[part], batch.base[part],
        )  # fmt: skip
        _activate(net, place, batch, part)


@jit
def _activate(net, place, batch, part):
    """Evaluate all layers for features of the batch."""
    blocks, outputs = batch.inner.shape[0], batch.outputs[part]
    acc = np.empty((outputs.shape[0], net.first_scale.shape[0]), np.int32)
    int16.multiply(batch.features[part], net.first, acc)
    kernels.hidden(acc, net.first_scale, net.first_offset, place.limit, batch.stream[0, part])
    for b in range(blocks):
        stream, inner, following = batch.stream[b, part], batch.inner[b, part], batch.stream[b + 1, part]
        up, down = 2 * b, 2 * b + 1
        int16.multiply(stream, net.inner[up], acc)
        kernels.hidden(acc, net.inner_scale[up], net.inner_offset[up], place.limit, inner)
        int16.multiply(inner, net.inner[down], acc)
        following[:] = stream
        kernels.residual(acc, net.inner_scale[down], net.inner_offset[down], place.limit, following)
    int16.multiply(batch.stream[blocks, part], net.last, outputs)
    kernels.output(outputs, net.last_scale, net.last_offset, place.output_limit, outputs)


@jit
def _backward(net, place, rules, state, batch, part):
    """Gradients of the pixels of a block, into the batch."""
    centre, first, last, inner = batch.centre[part], batch.by_first[part], batch.by_last[part], batch.by_inner
    pixels, width = first.shape
    gradient = np.zeros((pixels, last.shape[1]), np.int64)
    stream, inside = np.empty((pixels, width), np.int32), np.empty((pixels, width), np.int32)
    mixture_gradient(
        net, batch.outputs[part], batch.base[part], batch.samples[part], place.mixtures, place.scale, gradient, centre
    )
    learning.deltas(gradient, rules.last_scale, last)
    int16.multiply(last, state.last_back, stream)
    for b in range(batch.inner.shape[0] - 1, -1, -1):
        up, down = 2 * b, 2 * b + 1
        learning.clamp_back(stream, batch.stream[b + 1, part], place.limit)
        learning.deltas(stream, rules.inner_scale[down], inner[down, part])
        int16.multiply(inner[down, part], state.inner_back[down], inside)
        learning.hidden_deltas(inside, rules.inner_scale[up], batch.inner[b, part], place.limit, inner[up, part])
        int16.multiply(inner[up, part], state.inner_back[up], inside)
        learning.add_back(inside, rules.inner_unit[b], stream)
    learning.hidden_deltas(stream, rules.first_scale, batch.stream[0, part], place.limit, first)


@jit
def _learn_linear(net, rules, state, near, centre, count, steps):
    """Move the linear predictor; near int16 [N, >= K] features, centre int64 [N, C]."""
    channels, columns = state.linear.shape
    gradient, total = np.empty((channels, columns), np.int32), np.zeros((channels, columns), np.int64)
    row = np.empty(columns, np.int32)
    for n in range(centre.shape[0]):
        for k in range(columns):
            row[k] = near[n, net.near[k]]
        for c in range(channels):
            slope = min(max(centre[n, c], -CENTRE_LIMIT), CENTRE_LIMIT)
            for k in range(columns):
                total[c, k] += slope * row[k]
    for c in range(channels):
        for k in range(columns):
            gradient[c, k] = total[c, k] >> CENTRE_SHIFT
    learning.step_sizes(gradient, state.linear_square, rules.linear_rate, count, steps)
    learning.move(gradient, steps, rules.linear_rate, 2**15 - 1, state.linear)
    for c in range(channels):
        for k in range(columns):
            net.linear[c, k] = (state.linear[c, k] + HALF) >> FINE_BITS


@jit
def _learn_layer(
    delta, x, scale, rate, bound, unit, count, steps, room, master, bias, square, packed, offset, averaged, mean,
    mean_bias, mean_packed, mean_offset,
):  # fmt: skip
    """Move a layer's weights and repack them; if there are means, let them follow."""
    g = learning.product(delta, x, room)
    learning.step_sizes(g, square, rate, count, steps)
    learning.move(g, steps, rate, bound, master)
    learning.move_bias(delta, steps, rate, unit, scale, bias, offset)
    learning.repack(master, packed)
    if averaged:
        learning.average(master, bias, mean, mean_bias, scale, mean_packed, mean_offset)


@jit
def update(tile, hand):
    """Learn from the gathered pixels; none are left.  Hands share the pixels, then the layers."""
    net, place, rules, state, batch = tile.net, tile.place, tile.rules, tile.state, tile.batch
    ahead, mean = state.ahead, state.mean
    pixels, blocks, room = min(hand.counts[1], LEARNT), batch.inner.shape[0], hand.room
    hand.counts[0] += 1
    hand.counts[1] = 0
    crew.meet(tile.gate, hand.ranks)
    first_pixel, end = crew.share(pixels, hand.rank, hand.ranks, int16.ROWS)
    for start in range(first_pixel, end, BLOCK):
        part = slice(start, min(start + BLOCK, end))
        if rules.averaged:
            _activate(ahead, place, batch, part)
        _backward(ahead, place, rules, state, batch, part)
    crew.meet(tile.gate, hand.ranks)

    count, whole = hand.counts[0], slice(0, pixels)
    first, last = batch.by_first[whole], batch.by_last[whole]
    steps = np.empty(max(first.shape[1], last.shape[1]))
    while True:
        layer = crew.task(tile.gate, hand.ranks)  # the longest first
        if layer == 0:
            _learn_layer(
                first, batch.features[whole], net.first_scale, rules.first_rate, rules.first_limit, FIRST_UNIT, count,
                steps, room, state.first, state.first_bias, state.first_square, ahead.first, ahead.first_offset,
                rules.averaged, mean.first, mean.first_bias, net.first, net.first_offset,
            )  # fmt: skip
        elif layer <= 2 * blocks:
            j = layer - 1
            x = batch.inner[j // 2, whole] if j % 2 else batch.stream[j // 2, whole]
            _learn_layer(
                batch.by_inner[j, whole], x, net.inner_scale[j], rules.inner_rate[j], rules.limit, UNIT, count, steps,
                room, state.inner[j], state.inner_bias[j], state.inner_square[j], ahead.inner[j],
                ahead.inner_offset[j], rules.averaged, mean.inner[j], mean.inner_bias[j], net.inner[j],
                net.inner_offset[j],
            )  # fmt: skip
            learning.repack_back(state.inner[j], rules.inner_cut[j], state.inner_back[j])
        elif layer == 2 * blocks + 1:
            _learn_layer(
                last, batch.stream[blocks, whole], net.last_scale, rules.last_rate, rules.limit, UNIT, count, steps,
                room, state.last, state.last_bias, state.last_square, ahead.last, ahead.last_offset, rules.averaged,
                mean.last, mean.last_bias, net.last, net.last_offset,
            )  # fmt: skip
            learning.repack_back(state.last, rules.last_cut, state.last_back)
        elif layer == 2 * blocks + 2:
            _learn_linear(net, rules, state, batch.features[whole], batch.centre[whole], count, steps)
        else:
            break
    crew.meet(tile.gate, hand.ranks)
