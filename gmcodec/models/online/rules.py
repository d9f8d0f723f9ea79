# SPDX-License-Identifier: MIT
"""The rules by which a local model learns from the tile that it codes.

::

    steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
                             \\____ a batch: BATCH_PIXELS or a few more __/

``update`` goes backwards through the net with the activations that the forward pass kept of the batch, and moves all
weights.  Encoder and decoder do so at the same steps with the same integers.  The rule of a layer is in
exact/rmsprop.py, the whole specification in plain numpy in online/spec.py.  The gradients of every row's sums have a
unit 2**-e of their own (``gradient.*`` of the weights, chosen when freezing).  On the way back a row's weights are
shifted right by as many bits as its unit is finer than the coarsest one of the layer.

Weights that move fast enough to follow the image are noisy.  An ``averaged`` model (Polyak and Juditsky 1992) therefore
codes with a running mean of its weights.  The weights that learn are ``ahead`` of the mean; they need a forward pass of
their own, for which no pixel has to wait.  The linear predictor is not averaged, so the features are the same for both.
"""

from __future__ import annotations

import math

import numpy as np

from gmcodec import native
from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact import rmsprop
from gmcodec.exact.ops import Layer
from gmcodec.exact.rmsprop import FINE_BITS
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.shared.mixture import output_units

BATCH_PIXELS = 100  # coded pixels after which the model learns
GRADIENT_BITS = 16  # gradients are multiples of 2**-16 for each logit, grey level, nat of scale, or coupling
RATE_BITS = 20
# learning rates of weights, relative to the root mean square of their row, in 2**-20; an image names one by its index;
# part of the format
RATES = (222, 315, 445, 629, 890, 1258, 1779, 2517)
LAYER_SHARES = {"first": 10, "up": 24, "down": 16, "last": 24}  # factors of the rate, in 16ths
LINEAR_RATE = 105  # of the linear predictor, relative to a weight of 1, in 2**-20
# the constant input that a bias stands for, about the root mean square of a layer's inputs: first layer, others
FIRST_BIAS_INPUT, BIAS_INPUT = 4, 32
CENTRE_LIMIT, CENTRE_SHIFT = 1 << 20, 8  # of the gradients by the linear prediction: clamped, then shifted
MAX_UNIT_SPREAD = 6  # bits between the finest and the coarsest unit of a layer's gradients
MIRRORS = 4  # ways to mirror a tile, see online.tile_coder.mirrored


def read_changes(changes: bytes, nets: int) -> tuple[tuple[int, ...], int]:
    """The changes in a file -> rates of ``nets`` nets, a byte each, and the mirror.

    The byte of the mirror is left out where tiles are not mirrored.  Raises GmcFormatError.
    """
    rates, mirror = tuple(changes[:nets]), changes[nets:]
    if len(rates) < nets or max(rates) >= len(RATES):
        raise GmcFormatError("the model does not know this rate of learning")
    if mirror and (len(mirror) > 1 or not 0 < mirror[0] < MIRRORS):
        raise GmcFormatError("the model does not know this way to mirror tiles")
    return rates, mirror[0] if mirror else 0


def check(net: FrozenLocal) -> None:
    """Prove that a net can learn without overflow.  Raises WeightsError if its weights cannot learn."""
    exponents = net.gradient_units
    if exponents is None:
        raise WeightsError("these weights are not made to learn while they code")
    if net.config.blocks < 1 or net.config.condition:
        raise WeightsError("only local models with blocks and without a condition learn")
    for name in layers_of(net):
        if name not in exponents:
            raise WeightsError(f"{name}: there are no units of gradients")
        layer, unit = net.layers[name], exponents[name]
        bias = int(np.abs(layer.bias.astype(np.int64)).max(initial=0))
        if np.abs(layer.weight.astype(np.int64)).max(initial=0) > rmsprop.limit(layer) or bias >= rmsprop.BIAS_ROOM:
            raise WeightsError(f"{name}: weights leave no room to learn")
        if unit.shape != layer.bias.shape or unit.dtype != np.int32 or np.abs(unit).max(initial=0) > 63:
            raise WeightsError(f"{name}: units of gradients are not int32 of its length in their range")
        if np.ptp(unit) > MAX_UNIT_SPREAD:
            raise WeightsError(f"{name}: units of gradients differ by more than 2**{MAX_UNIT_SPREAD}")
    linear = net.layers["linear"]
    reach = linear.weight.shape[1] * linear.input_limit * 2**15 * linear.multiplier.astype(object)
    if any(r >> int(s) >= 2**30 for r, s in zip(reach, linear.shift, strict=True)):
        raise WeightsError("linear: a prediction could leave int32")


def layers_of(net: FrozenLocal) -> list[str]:
    """Names of the layers that learn by exact/rmsprop.py; the linear predictor learns by another rule."""
    return [name for name in net.config.layer_names() if name != "linear"]


def _rates(layer: Layer, rate: int, share: int) -> np.ndarray:
    """int64 [M]: the rate of every row in units of master weights, ``rate`` times the row's root mean square."""
    squares = (layer.weight.astype(np.int64) ** 2).sum(1) // layer.weight.shape[1]
    roots = np.array([math.isqrt(int(s) << 16) for s in squares], np.int64)  # times 2**8
    return np.maximum(1, (roots * (rate * share)) >> (RATE_BITS + 4 + 8 - FINE_BITS))


def _scale(layer: Layer, exponent: np.ndarray) -> np.ndarray:
    """float64 [M]: multiplier * 2**(exponent - shift), exactly."""
    return np.ldexp(layer.multiplier.astype(np.float64), exponent - layer.shift)


def rules(net: FrozenLocal, rate: int, averaged: bool) -> native.RmspropNet:
    """How the layers of a net that passed ``check`` learn; ``rate`` is an index into RATES."""
    assert net.gradient_units is not None
    layers, exponents, blocks = net.layers, net.gradient_units, net.config.blocks
    coarsest = {name: int(e.min()) for name, e in exponents.items()}
    stream = coarsest["last"]
    inner = [f"{kind}.{b}" for b in range(blocks) for kind in ("up", "down")]
    before = [stream if name.startswith("down") else coarsest[name.replace("up", "down")] for name in inner]
    scales = {
        "first": _scale(layers["first"], exponents["first"] - stream),
        **{n: _scale(layers[n], exponents[n] - e) for n, e in zip(inner, before, strict=True)},
        "last": _scale(layers["last"], exponents["last"] - GRADIENT_BITS) * output_units(net.config),
    }
    limits = {name: rmsprop.limit(layers[name]) for name in scales}
    limits |= dict.fromkeys([*inner, "last"], min(limits[name] for name in [*inner, "last"]))
    found = [
        native.RmspropLayer(
            scale,
            _rates(layers[name], RATES[rate], LAYER_SHARES[name.partition(".")[0]]),
            (exponents[name] - coarsest[name]).astype(np.int32),
            limits[name],
            FIRST_BIAS_INPUT if name == "first" else BIAS_INPUT,
        )
        for name, scale in scales.items()
    ]
    one = (np.int64(64) << layers["linear"].shift.astype(np.int64)) // layers["linear"].multiplier  # a weight of 1
    return native.RmspropNet(
        tuple(found),
        np.array([2.0 ** (stream - coarsest[f"up.{b}"]) for b in range(blocks)]),
        np.maximum(1, (one * LINEAR_RATE) >> (RATE_BITS - FINE_BITS)),
        averaged,
    )
