# SPDX-License-Identifier: MIT
"""Two local models that learn from a tile side by side: their logistics are one mixture.

Nets that were trained apart err apart, so the mixture costs less than either; each learns from its own likelihood, and
the mixture learns what shares of it they deserve (online.spec.Mixture).
"""

from __future__ import annotations

import copy
import functools

import numpy as np

from gmcodec.exact.ops import Layer
from gmcodec.models.local.frozen import LocalModel
from gmcodec.models.online import rules
from gmcodec.models.online.tile_coder import OnlineTileCoder
from gmcodec.models.shared.mixture import Prediction
from gmcodec.models.shared.window import Canvas


class PairModel:
    """A frozen pair: what coding needs of a pixel model (coding/autoregressive.py).  Immutable."""

    def __init__(self, first: LocalModel, second: LocalModel) -> None:
        """Models that learn.  Raises WeightsError."""
        self.members, self.mirror = (first, second), 0
        self.tile_coder  # noqa: B018  # refuses what does not fit

    @property
    def channels(self) -> int:
        return self.members[0].channels

    @property
    def slope(self) -> int:
        return self.members[0].slope

    @property
    def layers(self) -> dict[str, Layer]:
        """Those of both."""
        return {f"{number}.{name}": la for number, m in enumerate(self.members) for name, la in m.layers.items()}

    @functools.cached_property
    def tile_coder(self) -> OnlineTileCoder:
        return OnlineTileCoder(self.members, self.mirror)

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        return self.members[0].canvas(height, width, count)

    def predict(self, canvas: Canvas, pixels: np.ndarray) -> Prediction:
        """That of the first model as it is: images that share a stream teach nothing."""
        return self.members[0].predict(canvas, pixels)

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        """The rates at which the members learn."""
        return b"".join(member.fit(sample, pixels) for member in self.members)

    def adapted(self, changes: bytes) -> PairModel:
        """The pair with the rates of ``fit``, and the way to mirror tiles, if there are any.  Raises GmcFormatError."""
        if not changes:
            return self
        rates, mirror = rules.read_changes(changes, 2)
        rated = tuple(m.learning(rate) for m, rate in zip(self.members, rates, strict=True))
        if mirror == self.mirror and all(a is b for a, b in zip(rated, self.members, strict=True)):
            return self
        pair = copy.copy(self)
        pair.__dict__.pop("tile_coder", None)
        pair.members, pair.mirror = (rated[0], rated[1]), mirror
        return pair
