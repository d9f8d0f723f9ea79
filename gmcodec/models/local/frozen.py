# SPDX-License-Identifier: MIT
"""The integers of a frozen local net, and how the native core gets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmcodec import native
from gmcodec.exact.logistic import Tables
from gmcodec.exact.ops import Layer
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.activations import ACTIVATION_LIMIT, OUTPUT_LIMIT
from gmcodec.models.shared.tensors import CONDITION_PREFIX, check_layers


@dataclass(frozen=True, eq=False)
class FrozenLocal:
    """A local net as integers.  Raises WeightsError when layers do not fit the architecture, or could overflow.

    gradient_units: for a net that can learn, the exponents int32 [rows] of every layer's gradients (online/rules.py)
    """

    config: LocalConfig
    layers: dict[str, Layer]
    tables: Tables
    gradient_units: dict[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_layers(self.config, self.layers)

    def prepare(self, core: native.Core) -> native.Net:
        """The net in the native core."""
        c = self.config

        def arrays(names: list[str]) -> list[native.LayerArrays]:
            return [native.LayerArrays.of(self.layers[name]) for name in names]

        names = [n for n in c.layer_names() if n != "linear"]
        return native.Net(
            core,
            arrays([n for n in names if not n.startswith(CONDITION_PREFIX)]),
            arrays([n for n in names if n.startswith(CONDITION_PREFIX)]),
            native.LayerArrays.of(self.layers["linear"]),
            c.window.near_columns(c.neighbours),
            np.array(c.window.runs),
            self.tables,
            c.channels,
            c.mixtures,
            (ACTIVATION_LIMIT, OUTPUT_LIMIT),
        )
