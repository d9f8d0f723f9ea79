# SPDX-License-Identifier: MIT
"""Frozen local nets that learn from the tile they code, each starting anew with every tile.

Several nets, the *members* of an ensemble, learn side by side; their logistics are one mixture, in which the member
that predicts better gets the larger mixing weight.  rules.py says how a net learns, spec.py all of it in plain numpy,
tile_coder.py codes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import numpy as np

from gmcodec.errors import GmcFormatError, WeightsError
from gmcodec.exact.logistic import BYTES, MAX_SHIFT, scale_of
from gmcodec.exact.ops import Layer
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online import rules
from gmcodec.models.online.tile_coder import Member, OnlineTileCoder
from gmcodec.models.shared.mixture import Prediction
from gmcodec.models.shared.window import Canvas


class OnlineModel:
    """An ensemble of local nets that learn while they code.  Immutable; safe to share by threads."""

    def __init__(
        self, members: Sequence[LocalModel], rates: Sequence[int], averaged: bool = False, mirror: int = 0
    ) -> None:
        """One or two models and their indices into rules.RATES.

        averaged: code with running means of the weights; mirror: as in tile_coder.mirrored.  Raises WeightsError for
        weights that are not made to learn, or that do not fit each other.
        """
        for member in members:
            rules.check(member.frozen)
        if len({(member.channels, member.slope) for member in members}) > 1:
            raise WeightsError("members of an ensemble go through a tile in the same way")
        self.members, self.rates, self.averaged, self.mirror = tuple(members), tuple(rates), averaged, mirror

    @property
    def channels(self) -> int:
        return self.members[0].channels

    @property
    def slope(self) -> int:
        return self.members[0].slope

    @property
    def config(self) -> LocalConfig:
        """Of the first member."""
        return self.members[0].config

    @property
    def layers(self) -> dict[str, Layer]:
        """Of all members."""
        if len(self.members) == 1:
            return self.members[0].layers
        return {f"{number}.{name}": la for number, m in enumerate(self.members) for name, la in m.layers.items()}

    # -- tiles, which teach the nets

    @functools.cached_property
    def tile_coder(self) -> OnlineTileCoder:
        """Codes tiles of 8 bits."""
        return OnlineTileCoder(self._members(self.rates), BYTES, 2, np.int16, self.mirror)

    def high_depth_coder(self, bits: int, shift: int, rate: int) -> OnlineTileCoder:
        """Codes tiles of 8 to 16 bits with the first net, one grey level of which is 2**shift steps of samples.

        Raises GmcFormatError for numbers that the format does not have.
        """
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(rules.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        return OnlineTileCoder(self._members((rate,)), scale_of(bits, shift), -(-bits // 4), np.int32)

    def _members(self, rates: Sequence[int]) -> list[Member]:
        return [
            Member(member.config, member.net, rules.rules(member.frozen, rate, self.averaged))
            for member, rate in zip(self.members, rates, strict=False)
        ]

    # -- what a file says of them

    def fit(self, sample: np.ndarray, pixels: int) -> bytes:
        """The rates: the nets find the rest by themselves, and a fit before learning gains only 0.06 %."""
        return bytes(self.rates)

    def adapted(self, changes: bytes) -> OnlineModel:
        """The ensemble with the rates of ``fit``, and with mirrored tiles if a further byte says so.

        Raises GmcFormatError.
        """
        if not changes:
            return self
        rates, mirror = rules.read_changes(changes, len(self.members))
        if (rates, mirror) == (self.rates, self.mirror):
            return self
        model = copy.copy(self)
        model.__dict__.pop("tile_coder", None)
        model.rates, model.mirror = rates, mirror
        return model

    # -- images that share a stream, which teach nothing

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        return self.members[0].canvas(height, width, count)

    def predict(self, canvas: Canvas, pixels: np.ndarray) -> Prediction:
        """Predictions of the first member as it was frozen."""
        return self.members[0].predict(canvas, pixels)
