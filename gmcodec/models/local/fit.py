# SPDX-License-Identifier: MIT
"""Fit a frozen local model to one image: small changes of its last biases and of its linear predictor.

The encoder maximises the likelihood of a sample of the image in floats, rounds the changes to integers and puts them
into the file.  Encoder and decoder use the changed integer layers (``adapted``), so decoding is as fast as before::

    net (unchanged) -> outputs + change of bias           logits, means, log-scales, couplings
    near differences x (linear predictor + change)        centre of the means

The file holds a signed number (formats/varint.py) for every output and for every weight of the linear predictor.
``QUANTA`` are the units of the former, 2**-LINEAR_STEP_BITS is that of the latter; they are part of the format.  The
search runs in the native core and finds the same changes on every machine, so the encoder's bytes are the same too; its
specification is local/fit_spec.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int64, UInt8
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact.logistic import POSITION
from gmcodec.exact.ops import Layer
from gmcodec.formats import varint
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.shared.mixture import output_units
from gmcodec.models.shared.window import Canvas

QUANTA = {"logit": 2, "mean": 1, "log_scale": 1, "coupling": 16}  # in the units of outputs (exact/logistic.py)
LINEAR_STEP_BITS = 10  # changes of the linear predictor are multiples of 2**-10
MAX_CHANGE = 2**20  # of a number in the file


def quanta(config: LocalConfig) -> Int64[np.ndarray, " N"]:
    """int64 [outputs]: the step of each output's change, in the unit of the output."""
    c, k = config.channels, config.mixtures
    return np.repeat(
        [QUANTA["logit"], QUANTA["mean"], QUANTA["log_scale"], QUANTA["coupling"]],
        [k, k * c, k * c, k * config.couplings],
    )


# -- changes as bytes: pack and unpack mirror each other -----------------------------------------------------


def pack(changes: Int64[np.ndarray, " N"]) -> bytes:
    """int64 [outputs + C * C * neighbours] -> bytes."""
    return b"".join(map(varint.write_signed, changes.tolist()))


def unpack(data: bytes, count: int) -> Int64[np.ndarray, " N"]:
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
    # refuse large numbers first, so that nothing below wraps around in int64: multipliers are at most 2**15
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


# -- the search --------------------------------------------------------------------------------------------


def fit(frozen: FrozenLocal, net: native.Net, sample: UInt8[np.ndarray, "B C H W"], pixels: int) -> bytes:
    """Changes that make an image of ``pixels`` pixels smaller, as bytes; empty if they do not pay.

    sample uint8 [B, C, h, w]: squares of the image; only pixels whose whole window lies in a square are used.
    """
    chosen = inner_pixels(frozen.config, sample)
    if not len(chosen):
        return b""
    changes, gain = prepare(frozen.config, net, sample, chosen).changes(step_sizes(frozen.config))
    data = pack(changes)
    gain -= len(changes)  # fitting noise gains half a nat for each parameter: twice that is subtracted
    if gain / math.log(2) * pixels / len(chosen) <= 8 * len(data):
        return b""
    try:
        adapted(frozen, data)
    except GmcFormatError:  # an unusual image, whose changes leave the range of the integers
        return b""
    return data


def inner_pixels(config: LocalConfig, sample: UInt8[np.ndarray, "B C H W"]) -> Int64[np.ndarray, " N"]:
    """int64 [N]: the pixels of squares [B, C, h, w] whose whole window lies in the square."""
    inner = np.zeros((len(sample), *sample.shape[2:]), bool)
    inner[:, config.reach :, config.reach : sample.shape[3] - config.reach] = True
    return np.flatnonzero(inner)


def prepare(
    config: LocalConfig, net: native.Net, sample: UInt8[np.ndarray, "B C H W"], chosen: Int64[np.ndarray, " N"]
) -> native.Fit:
    """The search over the net's outputs for chosen pixels of squares uint8 [B, C, h, w]; evaluates the net once."""
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
    """float64 [changes]: the size of a change of one, in nats, grey levels or weights."""
    weights = config.channels * config.channels * config.neighbours
    return np.concatenate([quanta(config) * output_units(config), np.full(weights, 2.0**-LINEAR_STEP_BITS)])
