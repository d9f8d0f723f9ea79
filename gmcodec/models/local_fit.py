# SPDX-License-Identifier: MIT
"""Fit a frozen local model to one image: small changes of its last biases and of its linear predictor.

The encoder maximises the likelihood of a sample of the image in floats, rounds the changes to integers and
sends them; both sides then code with the changed integer layers (``adapted``), so decoding costs nothing more::

    net (unchanged) -> outputs + change of bias           logits, means, log-scales, couplings
    near differences x (linear predictor + change)        centre of the means

Sent: one number for every output, then for every weight of the linear predictor, signed as in varint.py.  Their
units are ``QUANTA``; they are part of the format.  Natural gradient steps with the empirical Fisher matrix
(Amari 1998) converge in a few iterations, since the net itself is evaluated only once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .. import varint
from ..errors import GmcFormatError, WeightsError
from ..exact.ops import Layer
from ..exact.tables import LOG_SCALE_MAX, LOG_SCALE_MIN, POSITION
from .mixture import output_units

if TYPE_CHECKING:
    from .local import LocalConfig, LocalModel

QUANTA = {"logit": 2, "mean": 1, "log_scale": 1, "coupling": 16}  # units of the outputs (exact/tables.py)
LINEAR_BITS = 10  # changes of the linear predictor are multiples of 2**-8
STEPS = 12
FLOOR = 2.0**-24  # mass that every value has at least; what keeps outliers from ruling the fit
MAX_CHANGE = 2**20


def quanta(config: LocalConfig) -> np.ndarray:
    """int64 [outputs]: units of an output in one step of its change."""
    c, k = config.channels, config.mixtures
    return np.repeat(
        [QUANTA["logit"], QUANTA["mean"], QUANTA["log_scale"], QUANTA["coupling"]],
        [k, k * c, k * c, k * config.couplings],
    )


# -- the changes as bytes: pack and unpack mirror each other -------------------------------------------------


def pack(changes: np.ndarray) -> bytes:
    """int64 [outputs + C * C * neighbours] -> bytes."""
    return b"".join(map(varint.write_signed, changes.tolist()))


def unpack(data: bytes, count: int) -> np.ndarray:
    """Inverse of ``pack``.  Raises GmcFormatError."""
    changes: list[int] = []
    at = 0
    while at < len(data):
        change, at = varint.read_signed(data, at, "a change fitted to the image")
        if abs(change) > MAX_CHANGE or len(changes) == count:
            raise GmcFormatError("the changes fitted to the image are not valid")
        changes.append(change)
    if len(changes) != count:
        raise GmcFormatError(f"{len(changes)} changes were fitted to the image, the model has {count}")
    return np.array(changes, np.int64)


def adapted(model: LocalModel, data: bytes) -> LocalModel:
    """The model with the changes of ``fit``; integers only.  Raises GmcFormatError."""
    config, last, linear = model.config, model.layers["last"], model.layers["linear"]
    changes = unpack(data, config.outputs + linear.weight.size)
    # y = ((acc + bias) * multiplier + half) >> shift: a bias of 2**shift / multiplier is one unit of the output
    units, shift = changes[: config.outputs] * quanta(config), last.shift.astype(np.int64)
    steps = changes[config.outputs :].reshape(linear.weight.shape)
    one = (np.int64(POSITION) << linear.shift.astype(np.int64)) // linear.multiplier  # a weight of 1
    # what would leave int32 or int16 anyway must not wrap around on the way: multipliers are at most 2**15
    if (np.abs(units) > 2**48 >> shift).any() or (np.abs(steps) > 2**40 // np.maximum(one, 1)[:, None]).any():
        raise GmcFormatError("the changes fitted to the image are too large")
    bias = last.bias + (units << shift) // last.multiplier
    weight = linear.weight + ((steps * one[:, None]) >> LINEAR_BITS)
    if np.abs(bias).max(initial=0) >= 2**31 or np.abs(weight).max(initial=0) >= 2**15:
        raise GmcFormatError("the changes fitted to the image are too large")
    layers: dict[str, Layer] = {
        **model.layers,
        "last": replace(last, bias=bias.astype(np.int32)),
        "linear": replace(linear, weight=weight.astype(np.int16)),
    }
    try:
        return type(model)(config, layers, model.tables, model.core)
    except WeightsError as error:
        raise GmcFormatError(f"the changes fitted to the image do not fit the model: {error}") from error


# -- finding them ------------------------------------------------------------------------------------------


def fit(model: LocalModel, sample: np.ndarray, pixels: int) -> bytes:
    """Changes that make an image of ``pixels`` pixels smaller, or nothing where they would not pay.

    sample uint8 [B, C, h, w]: squares of the image; those of their pixels that have their whole window are used.
    """
    c = model.config
    inner = np.zeros((len(sample), *sample.shape[2:]), bool)
    inner[:, c.reach :, c.reach : sample.shape[3] - c.reach] = True
    chosen = np.flatnonzero(inner)
    if not len(chosen):
        return b""
    canvas = model.canvas(sample.shape[2], sample.shape[3], len(sample))
    canvas.fill(sample)
    outputs, base = model.evaluate(canvas, chosen)
    near = model.features(canvas, chosen)[0][:, c.window.near_columns(c.neighbours)].T
    target = sample.transpose(1, 0, 2, 3).reshape(c.channels, -1)[:, chosen]
    mixture = Mixture(c, outputs, base, near, target)
    theta = np.zeros(c.outputs + model.layers["linear"].weight.size)
    start, gradients = mixture.likelihood(theta)
    best = start
    for _ in range(STEPS):
        fisher = (gradients @ gradients.T).astype(float)
        fisher[np.diag_indices_from(fisher)] *= 1.001
        fisher[np.diag_indices_from(fisher)] += 1.0
        step, better = np.linalg.solve(fisher, gradients.sum(1, dtype=np.float64)), False
        for _ in range(5):
            value, there = mixture.likelihood(theta + step)
            if better := value > best:
                break
            step /= 2
        if not better:
            break
        theta, gradients, gained, best = theta + step, there, value - best, value
        if gained < 1e-4 * len(chosen):
            break
    unit = np.concatenate([quanta(c) / mixture.units, np.full(model.layers["linear"].weight.size, 2.0**-LINEAR_BITS)])
    changes = np.clip(np.rint(theta / unit), -MAX_CHANGE, MAX_CHANGE).astype(np.int64)
    gain = mixture.likelihood(changes * unit)[0] - start - len(theta)  # nats; what chance would gain taken off, twice
    data = pack(changes)
    if gain / np.log(2) * pixels / len(chosen) <= 8 * len(data):
        return b""
    try:
        adapted(model, data)
    except GmcFormatError:  # an image so odd that the changes leave the integers' range
        return b""
    return data


class Mixture:
    """The mixture of logistics of some pixels as a function of the changes."""

    def __init__(
        self, config: LocalConfig, outputs: np.ndarray, base: np.ndarray, near: np.ndarray, target: np.ndarray
    ) -> None:
        """outputs int32 [N, outputs], base int32 [N, C], near [C * neighbours, N], target [C, N] grey levels."""
        self.config, self.near, self.target = config, near.astype(np.float32), target.astype(np.float32)
        self.units = 1 / output_units(config)
        self.outputs = np.ascontiguousarray(outputs.T / self.units[:, None], np.float32)
        self.base = np.ascontiguousarray(base.T / POSITION, np.float32)

    def likelihood(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood in nats at changes ``theta``, and its gradient for each pixel, float32 [len(theta), N]."""
        c, k, n = self.config.channels, self.config.mixtures, self.target.shape[1]
        theta = theta.astype(np.float32)
        out = self.outputs + theta[: len(self.outputs), None]
        linear = theta[len(self.outputs) :].reshape(c, -1)
        residual = self.target - (self.base + linear @ self.near)
        logits = out[:k] - out[:k].max(0)
        weight = np.exp(logits)
        weight /= weight.sum(0)
        means = out[k : k * (1 + c)].reshape(c, k, n)
        log_scales = out[k * (1 + c) : k * (1 + 2 * c)].reshape(c, k, n).clip(LOG_SCALE_MIN, LOG_SCALE_MAX)
        coupling = out[k * (1 + 2 * c) :].reshape(-1, k, n)
        joint = weight.copy()
        slopes = []
        for channel in range(c):
            mean = means[channel].copy()
            first = channel * (channel - 1) // 2
            for previous in range(channel):
                mean += coupling[first + previous] * residual[previous]
            inverse = np.exp(-log_scales[channel])
            a, b = ((residual[channel] + half - mean) * inverse for half in (0.5, -0.5))
            above, below = _sigmoid(a), _sigmoid(b)
            da, db = above * (1 - above), below * (1 - below)
            top, bottom = self.target[channel] > 254.5, self.target[channel] < 0.5
            above[:, top], da[:, top], below[:, bottom], db[:, bottom] = 1, 0, 0, 0
            mass = above - below + FLOOR
            joint *= mass
            slopes.append((inverse * (db - da) / mass, (b * db - a * da) / mass))  # by mean, by log-scale
        total = joint.sum(0)
        share = joint / total  # of each component, once the pixel is known
        gradient = np.empty((len(theta), n), np.float32)
        gradient[:k] = share - weight
        by_base = np.zeros((c, n), np.float32)
        for channel, (by_mean, by_scale) in enumerate(slopes):
            by_mean *= share
            gradient[k * (1 + channel) : k * (2 + channel)] = by_mean
            gradient[k * (1 + c + channel) : k * (2 + c + channel)] = by_scale * share
            by_base[channel] += by_mean.sum(0)
            for previous in range(channel):
                pair = channel * (channel - 1) // 2 + previous
                start = k * (1 + 2 * c + pair)
                gradient[start : start + k] = by_mean * residual[previous]
                by_base[previous] -= (by_mean * coupling[pair]).sum(0)
        gradient[len(self.outputs) :] = (by_base[:, None] * self.near).reshape(-1, n)
        return float(np.log(total).sum(dtype=np.float64)), gradient


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
