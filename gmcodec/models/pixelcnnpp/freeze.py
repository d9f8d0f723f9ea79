# SPDX-License-Identifier: MIT
"""Freeze a trained PixelCNN++: float torch module -> PixelCNNModel.

As in local/freeze.py, every channel of a stream, and of the inside of a block, has a unit of its own, calibrated on
images and chosen by the rate of the frozen net.  All channels of a net with ELUs have the unit of the stored table.
Layers whose outputs the float net adds become one layer of concatenated inputs.

A *segment* of a stream is what its blocks add to at one resolution: all its channels have one set of units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gmcodec.errors import FreezeError
from gmcodec.exact.logistic import POSITION, make_tables
from gmcodec.exact.ops import INT32_BOUND, Layer
from gmcodec.exact.quantise import freeze_layer
from gmcodec.models.local.float import FIRST_BITS, INPUT_UNIT
from gmcodec.models.local.freeze import LINEAR_BITS, estimate_bits, found_unit, freeze_condition, search_units
from gmcodec.models.pixelcnnpp.float import SAMPLE_UNIT, Conv, GatedBlock, PixelCNN, PointwiseBlock
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.pixelcnnpp.streams import Conditions
from gmcodec.models.pixelcnnpp.tables import GATE_UNIT, GATED_BITS, INSIDE, make_net_tables
from gmcodec.models.shared.activations import ELU_UNIT
from gmcodec.models.shared.mixture import output_units
from gmcodec.models.shared.tensors import CONDITION_PREFIX

Units = dict[str, np.ndarray]


class _Segments:
    """Names of all sets of units: segments of the streams, and insides of the blocks."""

    def __init__(self, net: PixelCNN) -> None:
        c = net.config
        self.blocks: dict[str, GatedBlock | PointwiseBlock] = {}
        self.stream: dict[str, str] = {}  # block -> the segment that it adds to
        for way, counts in (("down", c.blocks), ("up", c.ups)):
            for n, block in enumerate(getattr(net, f"fine_{way}")):
                self._add(f"fine_{way}.{n}", block, "left.0")
            levels = list(c.levels) if way == "down" else list(reversed(c.levels))
            numbers = [(level, n) for level in levels for n in range(counts[level])]
            for stream in ("upper", "left"):
                for (level, n), block in zip(numbers, getattr(net, f"{way}_{stream}"), strict=True):
                    self._add(f"{way}_{stream}.{level}.{n}", block, self.segment(net, stream, level, way))

    def _add(self, name: str, block: nn.Module, segment: str) -> None:
        self.blocks[name] = block  # type: ignore[assignment]
        self.stream[name] = segment

    @staticmethod
    def segment(net: PixelCNN, stream: str, level: int, way: str) -> str:
        """The segment of a stream at a resolution: one for down and up if the way up continues the same features."""
        joined = level == len(net.config.filters) - 1 or level not in net.config.levels
        return f"{stream}.{level}" if joined else f"{stream}.{level}.{way}"


class ConditionsOf(NamedTuple):
    """Functions from images, uint8 [B, C, H, W], to their conditions: of the float net, and of the frozen one."""

    floats: Callable[[Tensor], list[Tensor]]
    integers: Callable[[np.ndarray], Conditions]


@torch.no_grad()
def activation_peaks(net: PixelCNN, batches: list[Tensor], conditions: ConditionsOf | None = None) -> Units:
    """Largest absolute value of each channel, float64 [F], in every segment and inside every block."""
    segments, hooks = _Segments(net), []
    peaks: Units = {}

    def record(place: str, x: Tensor) -> None:
        found = x.abs().amax((0, 2, 3)).double().cpu().numpy()
        peaks[place] = np.maximum(peaks.get(place, 1e-3), found)

    def watch_output(module: nn.Module, place: str) -> None:
        hooks.append(module.register_forward_hook(lambda m, i, y: record(place, y)))

    for name, block in segments.blocks.items():
        watch_output(block, segments.stream[name])
        hooks.append(block.register_forward_pre_hook(lambda m, i, place=segments.stream[name]: record(place, i[0])))
        hooks.append(block.second.register_forward_pre_hook(lambda m, i, place=name: record(place, i[0])))
    if net.config.upper:
        watch_output(net.first_upper, "upper.0")
    quantised = net.fake_quant
    net.fake_quant = True
    for batch in batches:
        net(batch, condition=conditions.floats(batch) if conditions else None)
    net.fake_quant = quantised
    for hook in hooks:
        hook.remove()
    return peaks


def freeze(
    net: PixelCNN, batches: list[Tensor], trials: list[np.ndarray], conditions: ConditionsOf | None = None
) -> PixelCNNModel:
    """Frozen model of ``net``: calibrated on ``batches``, uint8 [B, C, H, W] each, units chosen on ``trials``.

    Raises FreezeError when a bound cannot be proved.
    """
    net = net.eval()
    peaks = activation_peaks(net, batches, conditions)
    known = [conditions.integers(images) if conditions else None for images in trials]

    def bits(units: Units) -> float:
        model = _freeze(net, units)
        models = [model if found is None else model.conditioned_on(found) for found in known]
        return sum(estimate_bits(one, images).sum() for one, images in zip(models, trials, strict=True))

    if net.config.nonlinearity == "leaky":
        return _freeze(net, search_units(peaks, bits))
    width = net.config.widening  # peaks inside blocks were measured after the non-linearity
    inside = set(_Segments(net).blocks)
    sizes = {place: len(peak) // (width if place in inside else 1) for place, peak in peaks.items()}
    return _freeze(net, {place: np.full(size, 1 / ELU_UNIT) for place, size in sizes.items()})


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()


def _freeze(net: PixelCNN, units: Units) -> PixelCNNModel:
    """Freeze with the units float64 [F] of every segment and every inside of a block."""
    c, segments = net.config, _Segments(net)
    layers: dict[str, Layer] = {}

    def add(name: str, parts: list[tuple[Conv, np.ndarray]], out: np.ndarray, bits: int = 8) -> None:
        """One layer that sums convolutions, given the unit of every input feature of each."""
        columns = [position_major(conv) * np.tile(unit, conv.kernel[1] * conv.kernel[2]) for conv, unit in parts]
        bias = sum(_array(conv.bias) for conv, _ in parts)
        layers[name] = freeze_layer(
            name, np.concatenate(columns, 1), np.asarray(bias), 1.0, out, c.input_limit(name), bits, INT32_BOUND // 2
        )

    def wide(unit: np.ndarray) -> np.ndarray:
        return np.tile(unit, c.widening)

    def segment(stream: str, level: int, way: str) -> np.ndarray:
        return units[segments.segment(net, stream, level, way)]

    def first(stream: str) -> np.ndarray:
        return segment(stream, 0, "down")

    known = [SAMPLE_UNIT] * c.channels + [INPUT_UNIT] * c.channels + [1 / INSIDE]
    add("first_upper", [(net.first_upper, np.array(known))], first("upper"), FIRST_BITS)
    order = c.window.raster_columns()
    window = _array(net.first_left.matrix())[:, order] * INPUT_UNIT
    layers["first_left"] = freeze_layer(
        "first_left", window, _array(net.first_left.bias), 1.0, first("left"), c.input_limit("first_left"), FIRST_BITS,
        INT32_BOUND // 2,
    )  # fmt: skip
    zero = np.zeros(c.channels)
    layers["linear"] = freeze_layer(
        "linear", _array(net.linear), zero, 1.0, 1 / POSITION, c.input_limit("linear"), LINEAR_BITS
    )
    for name, block in segments.blocks.items():
        out, inner = units[segments.stream[name]], units[name]
        if isinstance(block, PointwiseBlock):
            add(f"{name}.first", [(block.first, out)], inner)
            add(f"{name}.second", [(block.second, inner)], out)
            continue
        parts = [(block.first, wide(out)), *zip(map(_conv, block.sides), _sides(net, name, units, wide), strict=True)]
        add(f"{name}.first", parts, inner)
        gate = np.concatenate([out / 2**GATED_BITS, np.full(len(out), 1 / GATE_UNIT)])
        add(f"{name}.second", [(block.second, wide(inner))], gate)
    fine = bool(c.upper)
    for n in range(len(c.filters) - 1):
        for stream, shrink in (("upper", net.shrink_upper), ("left", net.shrink_left)):
            unit = segment(stream, n, "down")
            unit = unit if fine and n == 0 and stream == "left" else wide(unit)
            add(f"shrink_{stream}.{n}", [(_conv(shrink[n]), unit)], segment(stream, n + 1, "down"))
        add(f"grow_left.{n}", [(_conv(net.grow_left[n]), wide(segment("left", n + 1, "up")))], segment("left", n, "up"))
        if n >= fine:
            grow = _conv(net.grow_upper[n - fine])
            add(f"grow_upper.{n}", [(grow, wide(segment("upper", n + 1, "up")))], segment("upper", n, "up"))
    unit = segment("left", 0, "up")
    add("last", [(net.last, unit if fine else wide(unit))], output_units(c))
    layers |= _freeze_conditions(net, {name: units[place] for name, place in segments.stream.items()})
    return PixelCNNModel(c, {n: layers[n] for n in c.layer_names()}, make_tables(), make_net_tables())


def _freeze_conditions(net: PixelCNN, outs: Units) -> dict[str, Layer]:
    """The layers of the condition, in the units of the streams that they add to; none without a condition."""
    layers = {}
    for name, block in _Segments(net).blocks.items() if net.config.condition else ():
        layers[f"{CONDITION_PREFIX}{name}"] = freeze_condition(
            f"{CONDITION_PREFIX}{name}", block.condition.matrix(), outs[name]
        )
    return layers


def freeze_onto(base: PixelCNNModel, net: PixelCNN) -> PixelCNNModel:
    """The frozen ``base`` with the layers of a condition that ``net`` learned; the base's own layers stay.

    ``net`` must have been trained on from the weights that ``base`` was frozen from, without changing these: the units
    are found again by comparing the two.
    Raises FreezeError when the two do not fit, or a bound cannot be proved.
    """
    if replace(net.config, condition=0, dropout=base.config.dropout) != base.config:
        raise FreezeError(f"the decoder {net.config} is not the base {base.config}")
    conditions = _freeze_conditions(net, _found_units(base, net.eval()))
    layers = base.layers | conditions
    layers = {name: layers[name] for name in net.config.layer_names()}
    return PixelCNNModel(net.config, layers, base.tables, base.net_tables, base=base)


def _found_units(base: PixelCNNModel, net: PixelCNN) -> Units:
    """The units of the stream that each block adds to, float64 [F]."""
    c, segments = net.config, _Segments(net)
    found: Units = {}

    def unit(stream: str, level: int, way: str) -> np.ndarray:
        place = segments.segment(net, stream, level, way)
        if place not in found:
            found[place] = found_unit(base, *source(stream, level, way))
        return found[place]

    def source(stream: str, level: int, way: str) -> tuple[str, np.ndarray]:
        """The layer that starts a segment, and its float weight times the units of its inputs."""
        top = segments.segment(net, stream, level, "down") == segments.segment(net, stream, level, "up")
        if level == 0 and (way == "down" or top):
            if stream == "left":
                return "first_left", _array(net.first_left.matrix())[:, c.window.raster_columns()] * INPUT_UNIT
            known = np.array([SAMPLE_UNIT] * c.channels + [INPUT_UNIT] * c.channels + [1 / INSIDE])
            return "first_upper", scaled(net.first_upper, known)
        if way == "down" or top:
            conv = getattr(net, f"shrink_{stream}")[level - 1]
            return f"shrink_{stream}.{level - 1}", scaled(conv, unit(stream, level - 1, "down"))
        fine = int(c.upper > 0)
        conv = net.grow_left[level] if stream == "left" else net.grow_upper[level - fine]
        return f"grow_{stream}.{level}", scaled(_conv(conv), unit(stream, level + 1, "up"))

    def scaled(conv: Conv, units: np.ndarray) -> np.ndarray:
        wide = np.tile(units, conv.kernel[0] // len(units))
        return position_major(conv) * np.tile(wide, conv.kernel[1] * conv.kernel[2])

    outs = {}
    for name, place in segments.stream.items():
        stream, level, *way = place.split(".")
        outs[name] = unit(stream, int(level), way[0] if way else "down")
    return outs


def _sides(net: PixelCNN, name: str, units: Units, wide: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
    """Units of a gated block's side inputs: in the left stream, the upper stream's block; on the way up, the skip."""
    kind, level, _ = name.split(".")
    way, stream = kind.split("_")
    if stream == "left":
        yield wide(units[_Segments.segment(net, "upper", int(level), way)])
    if way == "up":
        yield wide(units[_Segments.segment(net, stream, int(level), "down")])


def _conv(module: nn.Module) -> Conv:
    assert isinstance(module, Conv)
    return module


def position_major(conv: Conv) -> np.ndarray:
    """The weight with its columns ordered by position: float64 [outputs, rows * columns * inputs]."""
    weight = _array(conv.matrix())
    return weight.reshape(len(weight), *conv.kernel).transpose(0, 2, 3, 1).reshape(len(weight), -1)
