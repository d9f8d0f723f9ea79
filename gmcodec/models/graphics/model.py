# SPDX-License-Identifier: MIT
"""The model of graphics: context mixing that learns all it knows from the image itself, so it has no weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmcodec import native
from gmcodec.arrays import UInt32
from gmcodec.errors import GmcFormatError
from gmcodec.exact.context_mixing import make_tables
from gmcodec.models.graphics import config
from gmcodec.models.graphics.config import BILEVEL, CONTEXT_SETS, GUESSING


class GraphicsModel:
    """Opens images for coding.  Immutable; safe to share by threads."""

    def __init__(self, core: native.Core) -> None:
        self.core = core

    def open(self, canvas: UInt32[np.ndarray, "H2 W2"], settings: Any) -> native.Graphics:
        """The model at the first pixel of a canvas of ``native.new_canvas``; settings: coding.graphics.Settings.

        Raises GmcFormatError if no file may code an image of this size in this way, MemoryError.
        """
        height, width = native.canvas_shape(canvas)
        pixels = height * width
        if settings.contexts >= len(CONTEXT_SETS) or settings.guessing not in GUESSING:
            raise GmcFormatError(f"there are no contexts {settings.contexts} with guessing {settings.guessing}")
        if CONTEXT_SETS[settings.contexts] == BILEVEL and (settings.channels, settings.depth) != (1, 1):
            raise GmcFormatError(f"{settings.channels} channels of {settings.depth} bits have no templates")
        if not config.MIN_BUCKET_BITS <= settings.bucket_bits <= config.max_bucket_bits(pixels):
            raise GmcFormatError(f"{pixels} pixels cannot have a table of {settings.bucket_bits} bits")
        return native.Graphics(
            self.core, canvas, make_tables(), channels=settings.channels, depth=settings.depth, green=settings.green,
            contexts=CONTEXT_SETS[settings.contexts], bilevel=CONTEXT_SETS[settings.contexts] == BILEVEL,
            guessing=settings.guessing, bucket_bits=settings.bucket_bits, place_bits=config.place_bits(pixels),
        )  # fmt: skip
