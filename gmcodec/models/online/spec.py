# SPDX-License-Identifier: MIT
"""The specification of local models that learn while they code, in plain numpy integers.

Slow and simple; tests/models/test_online.py compares with the native core, symbol by symbol.  ``Learner`` holds the
master weights of a net; ``intervals`` goes through a tile::

    for every step of the wavefront:
        if a batch has been gathered: learn from it
        evaluate the step's pixels with weights = (master + half) >> FINE_BITS, code them, add them to the batch

Several learners go through a tile side by side, and their logistics form one mixture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gmcodec.arrays import Int64, Shaped, UInt
from gmcodec.exact import logistic, ops, rmsprop
from gmcodec.exact.logistic import (
    BYTES,
    COUPLING_BITS,
    INVERSE_BITS,
    MIXTURE_WEIGHT_BITS,
    POSITION,
    ROW_TOTAL,
    SIGMOID_REACH,
    Scale,
    Tables,
)
from gmcodec.exact.ops import Layer
from gmcodec.exact.rmsprop import (
    BIAS_ROOM,
    DELTA_LIMIT,
    FINE_BITS,
    MAX_BATCH_PIXELS,
    MOVE_LIMIT,
    SQUARE_MEMORY,
    SQUARE_SHIFT,
    STEP_BITS,
    STEP_MAX,
)
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.online import rules
from gmcodec.models.shared.activations import ACTIVATION_LIMIT
from gmcodec.models.shared.mixture import MIXING_BITS


def round_half_up(values: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """values * 2**-shift, rounded half up: integers of any size in an array of objects; shifts may be negative."""
    shift = np.broadcast_to(np.asarray(shift, object), np.shape(values))
    flat = [
        (int(v) + (1 << (int(s) - 1))) >> int(s) if s > 0 else int(v) << -int(s)
        for v, s in zip(values.ravel(), shift.ravel(), strict=True)
    ]
    return np.array(flat, object).reshape(np.shape(values))


def clipped(values: Shaped[np.ndarray, " ..."], limit: np.ndarray | int) -> Int64[np.ndarray, " ..."]:
    return np.clip(values, -limit, limit).astype(np.int64)


def edges(
    t: Tables,
    sample: Int64[np.ndarray, " N"],
    mean: Int64[np.ndarray, "N K"],
    inverse: Int64[np.ndarray, "N K"],
    scale: Scale,
) -> tuple[Int64[np.ndarray, "N K"], ...]:
    """Edges of samples [N] as positions on the logistics, and the masses below them: int64 [N, K] each."""
    x = sample[:, None]
    place = x * POSITION >> scale.shift
    a = np.clip(((place - scale.half_width - mean) * inverse) >> INVERSE_BITS, -SIGMOID_REACH, SIGMOID_REACH)
    b = np.clip(((place + scale.half_width - mean) * inverse) >> INVERSE_BITS, -SIGMOID_REACH, SIGMOID_REACH)
    s = np.where(x == 0, 0, t.sigmoid[a + SIGMOID_REACH].astype(np.int64))
    e = np.where(x >= scale.max_sample, ROW_TOTAL, t.sigmoid[b + SIGMOID_REACH].astype(np.int64))
    return a, b, s, e


def observe(
    t: Tables,
    sample: Int64[np.ndarray, " N"],
    weights: Int64[np.ndarray, "N K"],
    mean: Int64[np.ndarray, "N K"],
    inverse: Int64[np.ndarray, "N K"],
    scale: Scale,
) -> Int64[np.ndarray, "N K"]:
    """Mixture weights after a channel's samples [N] are known (Bayes' rule): int64 [N, K]."""
    _, _, below, above = edges(t, sample, mean, inverse, scale)
    return logistic.normalise(weights * (above - below + 1))


def mixture_gradient(
    t: Tables,
    outputs: Int64[np.ndarray, "N O"],
    base: Int64[np.ndarray, "C N"],
    samples: Int64[np.ndarray, "C N"],
    scale: Scale = BYTES,
) -> tuple[Int64[np.ndarray, "N O"], Int64[np.ndarray, "N C"]]:
    """outputs int64 [N, M], base and samples int64 [C, N] -> gradients of -log p times 2**16, [N, M] and [N, C]."""
    channels, groups = len(samples), logistic.output_groups(len(samples))
    mixtures = outputs.shape[1] // groups
    prior = weights = logistic.softmax(outputs[:, :mixtures], t)
    means, inverses = [], []
    for c in range(channels):
        mean, inverse = local_spec.logistics(t, outputs, base, samples, c, scale)
        weights = observe(t, samples[c], weights, mean, inverse, scale)
        means.append(mean)
        inverses.append(inverse)
    out = np.zeros((len(outputs), groups, mixtures), np.int64)
    out[:, 0] = (prior - weights) * 4
    centre = np.zeros((len(outputs), channels), np.int64)
    couplings = outputs.reshape(len(outputs), groups, mixtures)
    for c in range(channels):
        a, b, s, e = edges(t, samples[c], means[c], inverses[c], scale)
        by_mean = (((weights * (ROW_TOTAL - s - e)) >> 14) * inverses[c]) >> 27
        sloped = b * ((e * (ROW_TOTAL - e)) >> 24) - a * ((s * (ROW_TOTAL - s)) >> 24)
        out[:, 1 + c] = by_mean
        out[:, 1 + channels + c] = (weights * np.clip(sloped // (e - s + 1), -SIGMOID_REACH, SIGMOID_REACH)) >> 7
        centre[:, c] += by_mean.sum(1)
        for p in range(c):
            pair = 1 + 2 * channels + c * (c - 1) // 2 + p
            residual = ((samples[p] * POSITION >> scale.shift) - base[p])[:, None]
            out[:, pair] = np.clip((by_mean * residual) // POSITION, -(2**37), 2**37)
            centre[:, p] -= ((by_mean * couplings[:, pair]) >> COUPLING_BITS).sum(1)
    return out.reshape(outputs.shape), centre


@dataclass
class LearningLayer:
    """A layer that learns: master weights int64 [M, K] and bias [M], mean squares of gradients [M]."""

    layer: Layer
    rate: np.ndarray
    unit: int  # the constant input that the bias stands for
    limit: int

    def __post_init__(self) -> None:
        self.master = self.layer.weight.astype(np.int64) << FINE_BITS
        self.bias = self.layer.bias.astype(np.int64) << FINE_BITS
        self.square = np.zeros(len(self.bias), np.int64)
        self.means = self.master.copy(), self.bias.copy()

    def _layer(self, master: np.ndarray, bias: np.ndarray) -> Layer:
        weight = round_half_up(master, FINE_BITS).astype(np.int16)
        return replace(self.layer, weight=weight, bias=round_half_up(bias, FINE_BITS).astype(np.int32))

    @property
    def now(self) -> Layer:
        """The layer with its current weights."""
        return self._layer(self.master, self.bias)

    @property
    def mean(self) -> Layer:
        """The layer with the running means of its weights."""
        return self._layer(*self.means)

    def learn(self, gradient: np.ndarray, total: np.ndarray | None, count: int, columns: int) -> None:
        """One step; gradients by the weights, int64 [M, K], and by the bias, [M]; ``columns``: weights of a row."""
        now = ((gradient >> SQUARE_SHIFT) ** 2).sum(1) // columns
        self.square += (now - self.square) // min(count, SQUARE_MEMORY)
        for m, square in enumerate(np.maximum(self.square, now)):
            root = max(math.isqrt(int(square)), 1)
            size = min((int(self.rate[m]) << STEP_BITS) // (root << SQUARE_SHIFT), STEP_MAX)
            limit = MOVE_LIMIT * int(self.rate[m])
            change = clipped(round_half_up(gradient[m] * size, STEP_BITS), limit)
            self.master[m] = clipped(self.master[m] - change, self.limit << FINE_BITS)
            if total is not None:
                change = clipped(round_half_up(total[m : m + 1] * self.unit * size, STEP_BITS), limit)
                room = (BIAS_ROOM - 1) << FINE_BITS
                self.bias[m] = clipped(self.bias[m] - change * self.unit, room)[0]
        for mean, value in zip(self.means, (self.master, self.bias), strict=True):
            mean += (value - mean) >> 2


class Learner:
    """A net while it codes a tile; ``learn`` goes backwards through local.spec.net."""

    def __init__(
        self,
        frozen: FrozenLocal,
        rate: int,
        scale: Scale = BYTES,
        averaged: bool = False,
    ) -> None:
        layers, units = frozen.layers, frozen.gradient_units
        assert units is not None
        self.scale, self.averaged = scale, averaged
        self.config, self.tables, self.units, self.count = frozen.config, frozen.tables, units, 0
        others = [n for n in units if n != "first"]
        inner = min(rmsprop.limit(layers[n]) for n in others)
        step = rules.RATES[rate]

        def made(name: str) -> LearningLayer:
            layer, share = layers[name], rules.LAYER_SHARES[name.partition(".")[0]]
            square = (layer.weight.astype(np.int64) ** 2).sum(1) // layer.weight.shape[1]
            rates = [max(1, (math.isqrt(int(s) << 16) * step * share) >> 22) for s in square]
            first = name == "first"
            unit = rules.FIRST_BIAS_INPUT if first else rules.BIAS_INPUT
            return LearningLayer(layer, np.array(rates), unit, rmsprop.limit(layer) if first else inner)

        self.layers = {name: made(name) for name in units}
        linear = layers["linear"]
        one = (np.int64(64) << linear.shift.astype(np.int64)) // linear.multiplier
        rates = np.maximum(1, (one * rules.LINEAR_RATE) >> 10)
        self.linear = LearningLayer(linear, rates, 0, 2**15 - 1)

    def forward(
        self, x: Int64[np.ndarray, "N F"]
    ) -> tuple[list[np.ndarray], list[np.ndarray], Int64[np.ndarray, "N O"]]:
        """Features [N, K] -> ``local.spec.activations`` with the weights that learn."""
        now = {name: learning.now for name, learning in self.layers.items()}
        return local_spec.activations(self.config, now, x)

    def outputs(self, x: Int64[np.ndarray, "N F"]) -> Int64[np.ndarray, "N O"]:
        """Features [N, K] -> the outputs that pixels are coded with, [N, M]."""
        layers = {name: learning.mean if self.averaged else learning.now for name, learning in self.layers.items()}
        return local_spec.activations(self.config, layers, x)[2]

    def _deltas(self, name: str, gradient: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
        """Gradients by a layer's sums in its gradient units, from gradients by its outputs in 2**-exponent."""
        layer = self.layers[name].layer
        shift = layer.shift.astype(object) - self.units[name].astype(object) + exponent
        return clipped(round_half_up(gradient * layer.multiplier.astype(object), shift), DELTA_LIMIT)

    def _back(self, name: str, delta: np.ndarray) -> np.ndarray:
        """Gradients by a layer's inputs, in the coarsest gradient unit of the layer."""
        cut = (self.units[name] - self.units[name].min()).astype(np.int64)
        return delta @ (self.layers[name].now.weight.astype(np.int64) >> cut[:, None])

    def learn(
        self,
        x: Int64[np.ndarray, "N F"],
        near: Int64[np.ndarray, "N P"],
        base: Int64[np.ndarray, "C N"],
        samples: Int64[np.ndarray, "C N"],
    ) -> None:
        """Learn from gathered pixels: features [N, K], the linear predictor's inputs, base and samples [C, N]."""
        self.count += 1
        x, near, base, samples = (
            x[:MAX_BATCH_PIXELS],
            near[:MAX_BATCH_PIXELS],
            base[:, :MAX_BATCH_PIXELS],
            samples[:, :MAX_BATCH_PIXELS],
        )
        c, coarsest = self.config, {name: int(unit.min()) for name, unit in self.units.items()}
        streams, inner, outputs = self.forward(x)
        by_outputs, centre = mixture_gradient(self.tables, outputs, base, samples, self.scale)
        k, pairs = c.mixtures, c.couplings
        exponents = np.repeat([6, 6, 5, COUPLING_BITS], [k, k * c.channels, k * c.channels, k * pairs])  # of units
        deltas = {"last": self._deltas("last", by_outputs, exponents.astype(object) + 16)}
        stream = self._back("last", deltas["last"])
        for b in range(c.blocks - 1, -1, -1):
            up, down = f"up.{b}", f"down.{b}"
            stream = inward(stream, streams[b + 1])
            deltas[down] = self._deltas(down, stream, coarsest["last"])
            inside = inward(self._back(down, deltas[down]), inner[b])
            deltas[up] = self._deltas(up, inside, coarsest[down] + leak(inner[b]))
            shift = coarsest[up] - coarsest["last"]
            back = self._back(up, deltas[up])
            back = back >> shift if shift > 0 else back << -shift
            stream = clipped(stream + back, rmsprop.STREAM_GRADIENT_LIMIT)
        deltas["first"] = self._deltas("first", inward(stream, streams[0]), coarsest["last"] + leak(streams[0]))
        inputs = {"first": x, "last": streams[-1]}
        for b in range(c.blocks):
            inputs |= {f"up.{b}": streams[b], f"down.{b}": inner[b]}
        for name, learning in self.layers.items():
            columns = -(-inputs[name].shape[1] // 8) * 8  # the native core pads columns with zeros to a multiple of 8
            learning.learn(deltas[name].T @ inputs[name], deltas[name].sum(0), self.count, columns)
        limit = rules.CENTRE_LIMIT
        gradient = (np.clip(centre, -limit, limit).T @ near) >> rules.CENTRE_SHIFT
        self.linear.learn(gradient, None, self.count, near.shape[1])


def inward(gradient: Int64[np.ndarray, "N F"], activation: Int64[np.ndarray, "N F"]) -> Int64[np.ndarray, "N F"]:
    """A gradient without the components that would push a clamped activation further out."""
    gradient = np.where(activation >= ACTIVATION_LIMIT, np.maximum(gradient, 0), gradient)
    return np.where(activation <= -ACTIVATION_LIMIT, np.minimum(gradient, 0), gradient)


def leak(activation: Int64[np.ndarray, "N F"]) -> np.ndarray:
    """The bits by which the leaky ReLU shifts a gradient."""
    return np.where(activation >= 0, 0, ops.LEAK_SHIFT).astype(object)


# tables, outputs, base and samples [C, N] of pixels -> start and frequency of all their nibbles in coding order
NibbleCoder = Callable[[Tables, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
MemberOutputs = tuple[Tables, np.ndarray, np.ndarray]  # tables, outputs and base of a net for some pixels


class Mixture:
    """The mixture of the logistics of all nets, for samples of 8 bits."""

    def __init__(self, nets: int) -> None:
        self.mixing_weights, self.responsibilities, self.pixels = [2**MIXING_BITS // nets] * nets, [0] * nets, 0

    def update_mixing_weights(self) -> None:
        """Move the mixing weights towards the nets' mean responsibilities since the last update: online EM."""
        for v, weight in enumerate(self.mixing_weights):
            mean = self.responsibilities[v] * 2 ** (MIXING_BITS - MIXTURE_WEIGHT_BITS) // self.pixels
            self.mixing_weights[v] = max(weight + ((mean - weight) * min(self.pixels, 256) >> 9), 2**MIXING_BITS // 64)
        self.responsibilities, self.pixels = [0] * len(self.responsibilities), 0

    def nibble_intervals(self, members: list[MemberOutputs], samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Channel 0 high nibbles, channel 0 low nibbles, channel 1 high ..., of samples [C, N]."""
        t, start, freq, priors = members[0][0], [], [], []
        for weight, (own, outputs, _) in zip(self.mixing_weights, members, strict=True):
            mixtures = outputs.shape[1] // logistic.output_groups(len(samples))
            priors.append(
                logistic.softmax(outputs[:, :mixtures], own) * (weight >> (MIXING_BITS - MIXTURE_WEIGHT_BITS))
            )
        weights = logistic.normalise(np.concatenate(priors, 1))
        for channel, sample in enumerate(samples):
            parts = [local_spec.logistics(own, outputs, base, samples, channel) for own, outputs, base in members]
            mean, inverse = (np.concatenate(part, 1) for part in zip(*parts, strict=True))
            high, low = sample >> 4, sample & 15
            for rows, nibble in (
                (logistic.high_rows(weights, mean, inverse, t), high),
                (logistic.low_rows(high, weights, mean, inverse, t), low),
            ):
                row, at = rows.astype(np.int64), (np.arange(len(nibble)), nibble)
                start.append((np.cumsum(row, 1) - row)[at])
                freq.append(row[at])
            weights = logistic.observe(sample, weights, mean, inverse, t)
        ends = np.cumsum([prior.shape[1] for prior in priors])[:-1]
        for v, part in enumerate(np.split(weights, ends, 1)):
            self.responsibilities[v] += int(part.sum())
        self.pixels += len(weights)
        return np.concatenate(start), np.concatenate(freq)


def intervals(
    learners: Sequence[Learner], planes: UInt[np.ndarray, "C H W"], coder: NibbleCoder | None = None
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"], int]:
    """A tile [C, H, W] -> start and frequency of every nibble, int64 each, and the number of those of the first stack.

    Those of the first stack come first, in coding order, then those of the second.  ``coder``: for samples of more than
    8 bits, how one net codes them.
    """
    (channels, height, width), config, scale = planes.shape, learners[0].config, learners[0].scale
    xs = [local_spec.window_features(net.config.window, planes, scale) for net in learners]
    nears = [x[:, net.config.window.near_columns(net.config.neighbours)] for x, net in zip(xs, learners, strict=True)]
    mean, mixture = local_spec.local_mean(planes, scale), Mixture(len(learners))
    samples = planes.reshape(channels, -1).astype(np.int64)
    step = (config.slope * np.arange(height)[:, None] + np.arange(width)).ravel()
    max_pixels = max(MAX_BATCH_PIXELS, min(height, -(-width // config.slope)))
    gathered, bases = np.empty(0, np.int64), [np.empty((channels, 0), np.int64) for _ in learners]
    stacks: tuple[list[tuple[np.ndarray, np.ndarray]], ...] = ([], [])
    for number in range(step.max() + 1):
        pixels = np.flatnonzero(step == number)
        if len(gathered) >= rules.MIN_BATCH_PIXELS or len(gathered) + len(pixels) > max_pixels:
            for x, near, base, net in zip(xs, nears, bases, learners, strict=True):
                net.learn(x[gathered], near[gathered], base, samples[:, gathered])
            if coder is None:
                mixture.update_mixing_weights()
            gathered, bases = gathered[:0], [base[:, :0] for base in bases]
        members: list[MemberOutputs] = []
        for v, net in enumerate(learners):
            linear = net.linear.now
            moved = ops.rescale(ops.product(linear, nears[v][pixels]), linear).T
            base = (mean[:, pixels] * POSITION >> scale.shift) + moved
            members.append((net.tables, net.outputs(xs[v][pixels]), base))
            bases[v] = np.concatenate([bases[v], base], 1)
        half = -(-len(pixels) // 8) * 4
        for stack, part in zip(stacks, (slice(half), slice(half, None)), strict=True):
            if len(pixels[part]):
                own = [(t, out[part], base[:, part]) for t, out, base in members]
                known = samples[:, pixels[part]]
                stack.append(coder(*own[0], known) if coder else mixture.nibble_intervals(own, known))
        gathered = np.concatenate([gathered, pixels])
    start, freq = (np.concatenate(found) for found in zip(*stacks[0], *stacks[1], strict=True))
    return start, freq, sum(len(found[0]) for found in stacks[0])
