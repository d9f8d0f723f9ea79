# SPDX-License-Identifier: MIT
"""Freeze a trained local net: float torch module -> LocalModel.

Every channel of the residual stream, and of the inside of each block, gets a unit of its own, so that 12-bit integers
are fine-grained where a channel's values are small.  Rows that produce a channel are divided by its unit, columns that
read it are multiplied, so the net stays the same.  Units are calibrated on images and chosen by the rate of the frozen
net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gmcodec.errors import FreezeError
from gmcodec.exact import rmsprop
from gmcodec.exact.logistic import POSITION, ROW_TOTAL, make_tables
from gmcodec.exact.ops import INT32_BOUND, Layer
from gmcodec.exact.quantise import freeze_layer
from gmcodec.models.local.float import FIRST_BITS, INPUT_UNIT, LAYER_BITS, SLOPE, LocalNet, quantise_rows
from gmcodec.models.local.frozen import FrozenLocal
from gmcodec.models.local.model import LocalModel
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, INPUT_LIMIT, MAP_LIMIT, MAP_UNIT
from gmcodec.models.shared.mixture import output_units
from gmcodec.models.shared.tensors import CONDITION_PREFIX

EVENNESS = (0.5, 0.75, 1.0)  # that are tried: 0 gives all channels one unit, 1 maps each channel's peak to the clamp
UNIT_RATIO = 0.7  # of a unit in one trial to that in the trial before
LINEAR_BITS = 13  # of the linear predictor's weights
WEIGHT_ROOM = 1.25  # factor by which the largest weight can grow while it learns, at least
TRIAL_BATCHES = 4  # of patches on which trials are compared
FOUND_ERROR = 4  # integers between a weight and its frozen one: rounding, and errors of the units of inputs


@torch.no_grad()
def activation_peaks(net: LocalNet, patches: Iterable[tuple[torch.Tensor, int, int]]) -> list[np.ndarray]:
    """Largest absolute activation of each channel, float64 [width]: of the stream, then inside each block."""
    peaks = [torch.full((net.config.width,), 1e-3) for _ in range(1 + net.config.blocks)]
    leaky = torch.nn.functional.leaky_relu

    def record(place: int, activation: torch.Tensor) -> torch.Tensor:
        peaks[place] = torch.maximum(peaks[place], activation.abs().amax(1).cpu())
        return activation

    for padded, height, width in patches:
        x = net.features(padded, height, width)[0].float() * INPUT_UNIT
        h = record(0, leaky(quantise_rows(net.first, FIRST_BITS) @ x + net.first_bias[:, None], SLOPE))
        for b in range(net.config.blocks):
            inner = record(b + 1, leaky(quantise_rows(net.up[b], LAYER_BITS) @ h + net.up_bias[b][:, None], SLOPE))
            h = record(0, h + quantise_rows(net.down[b], LAYER_BITS) @ inner + net.down_bias[b][:, None])
    return [peak.double().numpy() for peak in peaks]


def freeze(
    net: LocalNet,
    patches: Sequence[tuple[torch.Tensor, int, int]],
    judge: Callable[[LocalModel], float] | None = None,
) -> LocalModel:
    """Frozen model of ``net``; ``patches`` are (padded int16 [B, C, H + r, W + 2r], H, W) to calibrate on.

    Weights have about 13 bits and room to grow, for models that learn while they code.  Units are chosen by ``judge``,
    which gives the bits of a model; default: the model's estimate for some patches.  Raises FreezeError when a bound
    cannot be proved.
    """
    peaks = activation_peaks(net, patches)
    squares = [scored_squares(batch, h, w) for batch, h, w in patches[:TRIAL_BATCHES]]

    def bits(units: dict[str, np.ndarray]) -> float:
        model = _freeze(net, list(units.values()))
        return judge(model) if judge else sum(estimate_bits(model, images).sum() for images in squares)

    units = search_units({str(place): peak for place, peak in enumerate(peaks)}, bits)
    return _freeze(net, list(units.values()))


def search_units(peaks: dict[str, np.ndarray], bits: Callable[[dict[str, np.ndarray]], float]) -> dict[str, np.ndarray]:
    """The units of the channels of every place in the net, float64 [F], given the channels' largest values.

    Smaller units clip the rarest values and make all others finer.  So the units of one place after another shrink as
    long as ``bits``, the rate of the frozen net with some units, falls.
    """
    tried = [spread_units(peaks, evenness) for evenness in EVENNESS]
    best, units = min(((bits(units), units) for units in tried), key=lambda trial: trial[0])
    for place in units:
        while True:
            trial = {**units, place: units[place] * UNIT_RATIO}
            if (found := bits(trial)) >= best:
                break
            units, best = trial, found
    return units


def spread_units(peaks: dict[str, np.ndarray], evenness: float) -> dict[str, np.ndarray]:
    """Units with which no peak is clipped; more ``evenness`` makes those of channels with small values finer."""
    return {p: peak**evenness * peak.max() ** (1 - evenness) / ACTIVATION_LIMIT for p, peak in peaks.items()}


def scored_squares(padded: torch.Tensor, height: int, width: int) -> np.ndarray:
    """The scored squares of padded patches, uint8 [B, C, H, W]."""
    reach = (padded.shape[3] - width) // 2
    return padded[:, :, -height:, reach : reach + width].numpy().astype(np.uint8)


def estimate_bits(model: Any, images: np.ndarray) -> np.ndarray:
    """A frozen model's own estimate for uint8 [B, C, H, W]: bits of each image, float64 [B]."""
    count, _, height, width = images.shape
    canvas = model.canvas(height, width, count)
    canvas.fill(images)
    pixels, bits = np.arange(count * height * width), np.zeros(count * height * width)
    prediction = model.predict(canvas, pixels)
    for sample in images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1).astype(np.int32):
        high, low = sample >> 4, sample & 15
        for nibble, rows in ((high, prediction.high()), (low, prediction.low(high))):
            bits -= np.log2(rows[pixels, nibble] / ROW_TOTAL)
        prediction.observe(sample)
    return bits.reshape(count, -1).sum(1)


def _freeze(net: LocalNet, units: list[np.ndarray]) -> LocalModel:
    """Freeze with given units, float64 [width]: of the stream, then of each block's inside."""

    def layer(name: str, weight: np.ndarray, bias: torch.Tensor, unit_in: float | np.ndarray,
              unit_out: float | np.ndarray, limit: int, bits: int = LAYER_BITS) -> Layer:  # fmt: skip
        bits = min(bits, int(np.log2(rmsprop.weight_limit(len(weight), weight.shape[1], limit) / WEIGHT_ROOM)) + 1)
        bound = INT32_BOUND - rmsprop.BIAS_ROOM
        return freeze_layer(name, weight * unit_in, _array(bias), 1.0, unit_out, limit, bits, bound)

    c, stream, inner = net.config, units[0], units[1:]
    first = _array(net.first)[:, c.window.raster_columns()]
    layers = {
        "first": layer("first", first, net.first_bias, INPUT_UNIT, stream, INPUT_LIMIT, FIRST_BITS),
        "last": layer("last", _array(net.last), net.last_bias, stream, output_units(c), ACTIVATION_LIMIT),
        "linear": layer(
            "linear", _array(net.linear), torch.zeros(c.channels), 1.0, 1 / POSITION, INPUT_LIMIT, LINEAR_BITS
        ),
    }
    for b in range(c.blocks):
        up, down = _array(net.up[b]), _array(net.down[b])
        layers[f"up.{b}"] = layer(f"up.{b}", up, net.up_bias[b], stream, inner[b], ACTIVATION_LIMIT)
        layers[f"down.{b}"] = layer(f"down.{b}", down, net.down_bias[b], inner[b], stream, ACTIVATION_LIMIT)
    return LocalModel(FrozenLocal(c, layers, make_tables()))


# -- conditions of a frozen net -----------------------------------------------------------------------------


def freeze_onto(base: LocalModel, net: LocalNet) -> LocalModel:
    """The frozen ``base`` with the layers of a condition that ``net`` learned; the base's own layers stay.

    ``net`` must have been trained on from the weights that ``base`` was frozen from, without changing these: the units
    are found again by comparing the two.
    Raises FreezeError when the two do not fit, or a bound cannot be proved.
    """
    c = net.config
    if replace(c, condition=0) != base.config:
        raise FreezeError(f"the decoder {c} is not the base {base.config}")
    layers = dict(base.layers)
    stream = found_unit(base, "first", _array(net.first)[:, c.window.raster_columns()] * INPUT_UNIT)
    for n, weight in enumerate(net.condition):
        layers[f"{CONDITION_PREFIX}{n}"] = freeze_condition(f"{CONDITION_PREFIX}{n}", weight, stream)
    return LocalModel(FrozenLocal(c, layers, base.tables))


def freeze_condition(name: str, weight: torch.Tensor, stream: np.ndarray) -> Layer:
    """The layer of a condition, weight [M, D], whose outputs are added to a stream with units float64 [M]."""
    zero = np.zeros(len(stream))
    return freeze_layer(name, _array(weight), zero, 1 / MAP_UNIT, stream, MAP_LIMIT, bound=INT32_BOUND // 2)


def found_unit(base: Any, name: str, weight: np.ndarray) -> np.ndarray:
    """The units of a frozen layer's outputs, float64 [M], found from its float weights for integer inputs."""
    layer = base.layers[name]
    integers = layer.weight.astype(np.float64)
    scale = (weight * integers).sum(1) / np.maximum((integers * integers).sum(1), 1)
    error = np.abs(weight - scale[:, None] * integers).max(1)
    if (error > FOUND_ERROR * np.abs(scale)).any() or (scale <= 0).any():
        raise FreezeError(f"{name}: these are not the weights that the base was frozen from")
    return scale * np.ldexp(1.0, layer.shift) / layer.multiplier


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
