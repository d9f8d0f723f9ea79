# SPDX-License-Identifier: MIT
"""Fit a frozen local model to one image: small changes of its last biases and of its linear predictor.

The encoder maximises the likelihood of a sample of the image in floats, rounds the changes to integers and
sends them; both sides then code with the changed integer layers (``adapted``), so decoding costs nothing more::

    net (unchanged) -> outputs + change of bias           logits, means, log-scales, couplings
    near differences x (linear predictor + change)        centre of the means

Sent: one number for every output, then for every weight of the linear predictor, signed as in formats/varint.py.  Their
units are ``QUANTA``; they are part of the format.  The search itself, local/fit_spec.py, runs in the native core: it
finds the same on every machine, since the encoder's bytes depend on it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gmcodec import native
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact.logistic import POSITION
from gmcodec.exact.ops import Layer
from gmcodec.formats import varint
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.shared.mixture import output_units
from gmcodec.models.shared.window import Canvas

QUANTA = {"logit": 2, "mean": 1, "log_scale": 1, "coupling": 16}  # units of the outputs (exact/logistic.py)
LINEAR_STEP_BITS = 10  # changes of the linear predictor are multiples of 2**-8
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


def adapted(net: FrozenLocal, data: bytes) -> FrozenLocal:
    """The net with the changes that ``fit`` found; integers only.  Raises GmcFormatError."""
    config, last, linear = net.config, net.layers["last"], net.layers["linear"]
    changes = unpack(data, config.outputs + linear.weight.size)
    # y = ((acc + bias) * multiplier + half) >> shift: a bias of 2**shift / multiplier is one unit of the output
    units, shift = changes[: config.outputs] * quanta(config), last.shift.astype(np.int64)
    steps = changes[config.outputs :].reshape(linear.weight.shape)
    one = (np.int64(POSITION) << linear.shift.astype(np.int64)) // linear.multiplier  # a weight of 1
    # what would leave int32 or int16 anyway must not wrap around on the way: multipliers are at most 2**15
    if (np.abs(units) > 2**48 >> shift).any() or (np.abs(steps) > 2**40 // np.maximum(one, 1)[:, None]).any():
        raise GmcFormatError("the changes fitted to the image are too large")
    bias = last.bias + (units << shift) // last.multiplier
    weight = linear.weight + ((steps * one[:, None]) >> LINEAR_STEP_BITS)
    if np.abs(bias).max(initial=0) >= 2**31 or np.abs(weight).max(initial=0) >= 2**15:
        raise GmcFormatError("the changes fitted to the image are too large")
    layers: dict[str, Layer] = {
        **net.layers,
        "last": replace(last, bias=bias.astype(np.int32)),
        "linear": replace(linear, weight=weight.astype(np.int16)),
    }
    try:
        return FrozenLocal(config, layers, net.tables)
    except WeightsError as error:
        raise GmcFormatError(f"the changes fitted to the image do not fit the model: {error}") from error


# -- finding them ------------------------------------------------------------------------------------------


def fit(frozen: FrozenLocal, net: native.Net, sample: np.ndarray, pixels: int) -> bytes:
    """Changes that make an image of ``pixels`` pixels smaller, or nothing where they would not pay.

    sample uint8 [B, C, h, w]: squares of the image; those of their pixels that have their whole window are used.
    """
    chosen = inner_pixels(frozen.config, sample)
    if not len(chosen):
        return b""
    changes, gain = prepare(frozen.config, net, sample, chosen).changes(step_sizes(frozen.config))
    data = pack(changes)
    gain -= len(changes)  # what chance would gain taken off, twice
    if gain / math.log(2) * pixels / len(chosen) <= 8 * len(data):
        return b""
    try:
        adapted(frozen, data)
    except GmcFormatError:  # an image so odd that the changes leave the integers' range
        return b""
    return data


def inner_pixels(config: LocalConfig, sample: np.ndarray) -> np.ndarray:
    """int64 [N]: the pixels of squares [B, C, h, w] that have their whole window."""
    inner = np.zeros((len(sample), *sample.shape[2:]), bool)
    inner[:, config.reach :, config.reach : sample.shape[3] - config.reach] = True
    return np.flatnonzero(inner)


def prepare(config: LocalConfig, net: native.Net, sample: np.ndarray, chosen: np.ndarray) -> native.Fit:
    """What the net says of chosen pixels of squares uint8 [B, C, h, w]: the net itself is evaluated only here."""
    c = config
    canvas = Canvas(c.window, sample.shape[2], sample.shape[3], len(sample))
    canvas.fill(sample)
    where = canvas.flat, canvas.row_size, canvas.locate(chosen)
    outputs, base = net.evaluate(*where, None)
    target = np.ascontiguousarray(sample.transpose(1, 0, 2, 3).reshape(c.channels, -1)[:, chosen])
    near = np.ascontiguousarray(c.window.near_columns(c.neighbours), np.int32)
    features = net.features(*where)[0]
    return native.Fit(net.core, c.mixtures, outputs, output_units(c), base, target, features, near)


def step_sizes(config: LocalConfig) -> np.ndarray:
    """float64 [changes]: what a change of one is worth, in nats, grey levels and weights."""
    weights = config.channels * config.channels * config.neighbours
    return np.concatenate([quanta(config) * output_units(config), np.full(weights, 2.0**-LINEAR_STEP_BITS)])
