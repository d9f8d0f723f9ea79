# SPDX-License-Identifier: MIT
"""A local model that learns from the tile it codes: the rules by which its layers follow a batch of coded pixels.

::

    steps of the wavefront:  forward, code | forward, code | ... | update | forward, code | ...
                             \\____ a batch: BATCH_PIXELS pixels or a little more ____/

``update`` goes backwards through the net with what the pass forward kept of the batch, and moves all weights; encoder
and decoder do it at the same places with the same integers.  exact/rmsprop.py has the rule of a layer,
online/spec.py all of it in plain numpy.  Gradients of sums have a unit 2**-e of their own in every row
(``gradient.*`` of the weights, chosen when freezing); on the way back a row's weights are cut by how much finer its
unit is than the layer's coarsest.

Weights that move fast enough to follow the image are noisy.  A model that is ``averaged`` (Polyak and Juditsky 1992)
codes with a running mean of its weights, while those that learn, ``ahead`` of the mean, go on from where they are: they
need their own pass forward, of which no pixel waits.  The linear predictor is not averaged: features stay the same.
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

BATCH_PIXELS = 100  # pixels from which the model learns
GRADIENT_BITS = 16  # gradients by outputs are multiples of 2**-16: by a logit, a grey level, a nat of scale, a coupling
RATE_BITS = 20
# of weights, as a share of their row's root mean square, in 2**-20; an image names one.  Part of the format
RATES = (222, 315, 445, 629, 890, 1258, 1779, 2517)
LAYER_SHARES = {"first": 10, "up": 24, "down": 16, "last": 24}  # of the rate, in 16ths
LINEAR_RATE = 105  # of the linear predictor, of a weight of 1, in 2**-20
FIRST_BIAS_INPUT, BIAS_INPUT = 4, 32  # what a bias' input would be: about the root mean square of a layer's inputs
CENTRE_LIMIT, CENTRE_SHIFT = 1 << 20, 8
MAX_UNIT_SPREAD = 6
MIRRORS = 4  # ways to mirror a tile: online.tile_coder.mirrored


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


def check(net: FrozenLocal) -> None:
    """Prove that a net can learn without overflow.  Raises WeightsError when its weights are not made to learn."""
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
    """Layers of the net that learn, by name: the linear predictor does too, in its own way."""
    return [name for name in net.config.layer_names() if name != "linear"]


def _rates(layer: Layer, rate: int, share: int) -> np.ndarray:
    """int64 [M]: steps of master weights, ``rate`` times the root mean square of a row."""
    squares = (layer.weight.astype(np.int64) ** 2).sum(1) // layer.weight.shape[1]
    roots = np.array([math.isqrt(int(s) << 16) for s in squares], np.int64)  # times 2**8
    return np.maximum(1, (roots * (rate * share)) >> (RATE_BITS + 4 + 8 - FINE_BITS))


def _scale(layer: Layer, exponent: np.ndarray) -> np.ndarray:
    """float64 [M]: multiplier * 2**(exponent - shift), exactly."""
    return np.ldexp(layer.multiplier.astype(np.float64), exponent - layer.shift)


def rules(net: FrozenLocal, rate: int, averaged: bool) -> native.RmspropNet:
    """How the layers of a net that passed ``check`` learn, with a rate of RATES."""
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
