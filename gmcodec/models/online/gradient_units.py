# SPDX-License-Identifier: MIT
"""Choose the units of a local model's gradients when it is frozen, from images; online/rules.py uses them.

The gradients of every row's sums are computed in floats.  The unit of a row makes their root mean square about
TARGET_RMS integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmcodec.exact import ops
from gmcodec.models.local import spec as local_spec
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online import spec as online_spec
from gmcodec.models.online.rules import GRADIENT_BITS, MAX_UNIT_SPREAD
from gmcodec.models.shared.mixture import output_units

TARGET_RMS = 64.0  # integers; gradients beyond rmsprop.DELTA_LIMIT are clipped
EPSILON = 1e-18  # added to mean squares, some of which are 0


def gradient_units(model: LocalModel, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Exponents int32 [M] of every layer: gradients are multiples of 2**-e.  ``images``: uint8 [B, C, h, w] each."""
    squares: dict[str, np.ndarray] = {}
    for batch in images:
        for name, delta in _deltas(model, batch).items():
            squares[name] = squares.get(name, 0.0) + (delta * delta).mean(0) / len(images)
    out = {}
    for name, square in squares.items():
        exponent = np.floor(np.log2(TARGET_RMS / np.sqrt(square + EPSILON))).astype(np.int32)
        out[name] = np.minimum(exponent, exponent.min() + MAX_UNIT_SPREAD)
    return out


def _deltas(model: LocalModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """Gradients of the cost in nats by every layer's sums, float64 [N, M], of all pixels."""
    c = model.config
    canvas = model.canvas(images.shape[2], images.shape[3], len(images))
    canvas.fill(images)
    pixels = np.arange(images[:, 0].size)
    x, base = (part.astype(np.int64) for part in model.features(canvas, pixels))
    streams, inner, outputs = local_spec.activations(c, model.layers, x)
    samples = images.transpose(1, 0, 2, 3).reshape(c.channels, -1).astype(np.int64)
    by_outputs, _ = online_spec.mixture_gradient(model.tables, outputs, base.T, samples)

    def back(gradient: np.ndarray, name: str) -> np.ndarray:
        layer = model.layers[name]
        found[name] = gradient * np.ldexp(layer.multiplier.astype(np.float64), -layer.shift)
        return found[name] @ layer.weight.astype(np.float64)

    def slope(activation: np.ndarray) -> np.ndarray:
        return np.where(activation >= 0, 1.0, 2.0**-ops.LEAK_SHIFT)

    found: dict[str, np.ndarray] = {}
    stream = back(by_outputs * 2.0**-GRADIENT_BITS * output_units(c), "last")
    for b in range(c.blocks - 1, -1, -1):
        stream = stream + back(back(stream, f"down.{b}") * slope(inner[b]), f"up.{b}")
    back(stream * slope(streams[0]), "first")
    return found


def with_gradient_units(model: LocalModel, images: Sequence[np.ndarray]) -> LocalModel:
    """The model with units of its gradients, from images uint8 [B, C, h, w]; without blocks it stays as it is."""
    if not model.config.blocks:
        return model
    net = model.frozen
    return LocalModel(FrozenLocal(net.config, net.layers, net.tables, gradient_units(model, images)), model.core)
