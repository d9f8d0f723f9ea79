# SPDX-License-Identifier: MIT
"""The model of graphics: context mixing that learns all it knows from the image itself, so it has no weights.

With the net of a model of photographs it has the weights of that net.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmcodec import native
from gmcodec.arrays import UInt32
from gmcodec.errors import GmcFormatError
from gmcodec.exact.context_mixing import make_tables
from gmcodec.exact.ops import Layer
from gmcodec.models.graphics import config
from gmcodec.models.graphics.config import BILEVEL, CONTEXT_SETS, GUESSING
from gmcodec.models.local.model import LocalModel


class GraphicsModel:
    """Opens images for coding.  Immutable; safe to share by threads."""

    def __init__(self, core: native.Core, net: LocalModel | None = None) -> None:
        """``net``: of photographs, which says what it expects of a pixel's last channels; samples then have 8 bits."""
        self.core, self.net = core, net

    @property
    def has_net(self) -> bool:
        """Whether a net is one of the mixer's inputs."""
        return self.net is not None

    @property
    def layers(self) -> dict[str, Layer]:
        """Those of the net."""
        return self.net.layers if self.net else {}

    def open(self, canvas: UInt32[np.ndarray, "H2 W2"], settings: Any) -> native.Graphics:
        """The model at the first pixel of a canvas of ``native.new_canvas``; settings: coding.graphics.Settings.

        Raises GmcFormatError if no file may code an image of this size in this way, MemoryError.
        """
        height, width = native.canvas_shape(canvas)
        self._check(settings, height * width)
        net = (self.net.net, self.net.canvas(height, width)) if self.net else None
        return native.Graphics(
            self.core, canvas, make_tables(), channels=settings.channels, depth=settings.depth, green=settings.green,
            contexts=CONTEXT_SETS[settings.contexts], bilevel=CONTEXT_SETS[settings.contexts] == BILEVEL,
            guessing=settings.guessing, bucket_bits=settings.bucket_bits, place_bits=config.place_bits(height * width),
            net=net,
        )  # fmt: skip

    def _check(self, settings: Any, pixels: int) -> None:
        if settings.contexts >= len(CONTEXT_SETS) or settings.guessing not in GUESSING:
            raise GmcFormatError(f"there are no contexts {settings.contexts} with guessing {settings.guessing}")
        if CONTEXT_SETS[settings.contexts] == BILEVEL and (settings.channels, settings.depth) != (1, 1):
            raise GmcFormatError(f"{settings.channels} channels of {settings.depth} bits have no templates")
        if not config.MIN_BUCKET_BITS <= settings.bucket_bits <= config.max_bucket_bits(pixels):
            raise GmcFormatError(f"{pixels} pixels cannot have a table of {settings.bucket_bits} bits")
        colours = 1 if settings.green < 0 else 3
        if self.net and (settings.depth, colours) != (8, self.net.channels):
            raise GmcFormatError(f"a net of {self.net.channels} colours cannot see {colours} of {settings.depth} bits")
