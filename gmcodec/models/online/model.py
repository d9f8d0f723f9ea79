# SPDX-License-Identifier: MIT
"""Frozen local nets that learn from the tile that they code; they start anew with every tile.

The nets are the *members* of an ensemble and learn side by side.  Their logistics form one mixture, in which a member
that predicts better gets a larger mixing weight.  rules.py has the rules of learning, spec.py the specification in
plain numpy, tile_coder.py the coder.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import numpy as np

from gmcodec.arrays import Int64, UInt8
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
        """One or two models, and for each an index into rules.RATES.

        averaged: code with running means of the weights; mirror: as in tile_coder.mirrored.  Raises WeightsError for
        weights that cannot learn, or members that do not fit each other.
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
        """The architecture of the first member."""
        return self.members[0].config

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers of all members."""
        if len(self.members) == 1:
            return self.members[0].layers
        return {f"{number}.{name}": la for number, m in enumerate(self.members) for name, la in m.layers.items()}

    # -- tiles, from which the nets learn

    @functools.cached_property
    def tile_coder(self) -> OnlineTileCoder:
        """Codes tiles of 8 bits."""
        return OnlineTileCoder(self._members(self.rates), BYTES, 2, np.int16, self.mirror)

    def high_depth_coder(self, bits: int, shift: int, rate: int) -> OnlineTileCoder:
        """Codes tiles of 8 to 16 bits with the first net, for which 2**shift sample values are one grey level.

        Raises GmcFormatError for numbers that the format does not allow.
        """
        if not (8 <= bits <= 16 and shift <= MAX_SHIFT and rate < len(rules.RATES)):
            raise GmcFormatError(f"{bits} bits, shift {shift}, rate {rate} are not of this format")
        return OnlineTileCoder(self._members((rate,)), scale_of(bits, shift), -(-bits // 4), np.int32)

    def _members(self, rates: Sequence[int]) -> list[Member]:
        return [
            Member(member.config, member.net, rules.rules(member.frozen, rate, self.averaged))
            for member, rate in zip(self.members, rates, strict=False)
        ]

    # -- the changes in a file: rates and mirror

    def fit(self, sample: UInt8[np.ndarray, "B C H W"], pixels: int) -> bytes:
        """The rates.  Nothing is fitted, since that gained only 0.06 % before learning."""
        return bytes(self.rates)

    def adapted(self, changes: bytes) -> OnlineModel:
        """The model with the rates of ``fit`` and, if there is one more byte, with mirrored tiles.

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

    # -- images that share a stream, from which nothing is learned

    def canvas(self, height: int, width: int, count: int = 1) -> Canvas:
        return self.members[0].canvas(height, width, count)

    def predict(self, canvas: Canvas, pixels: Int64[np.ndarray, " N"]) -> Prediction:
        """Predictions of the first member, with its frozen weights."""
        return self.members[0].predict(canvas, pixels)
