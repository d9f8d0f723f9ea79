# SPDX-License-Identifier: MIT
"""The local causal PixelCNN: its architecture.

::

    causal window (differences to the local mean, +-127)  [N, inputs]
          |  first            hidden: rescale, leaky ReLU, clamp
          v
        stream [N, width] --- up -> hidden -> down ---> + stream, clamp     (blocks times)
          |  last
          v
    logits | means | log-scales | couplings   of K logistics    [N, outputs]

A net with a condition, D features of every pixel, adds a layer of these features to the stream behind ``first`` and
behind every block.  A linear predictor of the nearest pixels gives the centre of the means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gmcodec.errors import WeightsError
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, INPUT_LIMIT, MAP_LIMIT
from gmcodec.models.shared.family import MAX_CONFIG_NUMBER
from gmcodec.models.shared.mixture import MixtureOutputs
from gmcodec.models.shared.tensors import CONDITION_PREFIX
from gmcodec.models.shared.window import Window


@dataclass(frozen=True, kw_only=True)
class LocalConfig(MixtureOutputs):
    """Architecture of a local model; stored with the weights."""

    channels: int  # 3 (RGB) or 1 (grey)
    radius2: int  # squared radius of the window, pixels
    slope: int  # of the wavefront, see shared/window.py
    width: int  # of every hidden layer
    blocks: int  # residual blocks of two pointwise layers
    mixtures: int  # logistic components K
    neighbours: int  # nearest pixels seen by the linear predictor
    condition: int = 0  # features D of a condition of every pixel; 0: no condition

    @property
    def window(self) -> Window:
        return Window(self.channels, self.radius2, self.slope)

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Window offsets (dy, dx), nearest first."""
        return self.window.offsets

    @property
    def reach(self) -> int:
        """Largest distance, in rows or columns, of a window pixel."""
        return self.window.reach

    @property
    def inputs(self) -> int:
        return self.window.inputs

    def layer_shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every integer layer, as stored."""
        square = (self.width, self.width)
        blocks = {f"{kind}.{b}": square for b in range(self.blocks) for kind in ("up", "down")}
        conditions = range(self.blocks + 1 if self.condition else 0)
        return {
            "first": (self.width, self.inputs),
            **blocks,
            "last": (self.outputs, self.width),
            "linear": (self.channels, self.channels * self.neighbours),
            **{f"{CONDITION_PREFIX}{n}": (self.width, self.condition) for n in conditions},
        }

    def layer_names(self) -> list[str]:
        """Names of the integer layers, as stored."""
        return list(self.layer_shapes())

    def input_limit(self, name: str) -> int:
        """The largest magnitude of an input of a layer."""
        if name.startswith(CONDITION_PREFIX):
            return MAP_LIMIT
        return INPUT_LIMIT if name in ("first", "linear") else ACTIVATION_LIMIT


def read_config(values: Mapping[str, Any]) -> LocalConfig:
    """From plain values.  Raises TypeError, WeightsError."""
    least = {"condition": 0}
    if any(type(n) is not int or not least.get(name, 1) <= n <= MAX_CONFIG_NUMBER for name, n in values.items()):
        raise WeightsError(f"unsound architecture: {dict(values)}")
    return LocalConfig(**values)
