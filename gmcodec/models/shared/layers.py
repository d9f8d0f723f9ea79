# SPDX-License-Identifier: MIT
"""Frozen layers of an architecture: checked, written as named tensors, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from gmcodec.errors import WeightsError
from gmcodec.exact.ops import Layer

FIELDS = ("weight", "bias", "multiplier", "shift")
CONDITION_PREFIX = "condition."  # of the names of layers that read a condition
Layers = dict[str, Layer]
Tensors = dict[str, np.ndarray]


class LayerShapes(Protocol):
    """An architecture, by its integer layers."""

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every layer, by name, in the order in which they are stored."""

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""


def check_layers(config: LayerShapes, layers: Mapping[str, Layer]) -> None:
    """Prove that no sum of a layer overflows.  Raises WeightsError, also for layers of another architecture."""
    for name, shape in config.layer_shapes().items():
        layer = layers[name]
        layer.check(name)
        if layer.weight.shape != shape or layer.input_limit != config.input_limit(name):
            raise WeightsError(f"{name}: shape {layer.weight.shape} does not fit the architecture")


# -- write and read mirror each other ----------------------------------------------------------------------


def write_layers(layers: Mapping[str, Layer], prefix: str = "") -> Tensors:
    """Four tensors for each layer: ``first.weight``, ``first.bias``, ..."""
    return {f"{prefix}{name}.{f}": np.ascontiguousarray(getattr(layer, f))
            for name, layer in layers.items() for f in FIELDS}  # fmt: skip


def read_layers(tensors: Tensors, config: LayerShapes, prefix: str = "", known: Mapping[str, Layer] = {}) -> Layers:
    """The layers of an architecture; ``known`` ones are taken as they are.  Raises KeyError for a missing tensor."""
    layers = dict(known)
    for name in config.layer_shapes():
        if name not in known:
            weight, bias, multiplier, shift = (tensors[f"{prefix}{name}.{f}"] for f in FIELDS)
            layers[name] = Layer(weight, bias, multiplier, shift, config.input_limit(name))
    return layers
