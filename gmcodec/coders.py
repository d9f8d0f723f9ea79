# SPDX-License-Identifier: MIT
"""The one table of coders: how images become the payload of a file's part, and back, for every kind of model.

::

    coder            models                                    image                  group of small images
    PixelCoder       local, online, pixelcnnpp                 autoregressive         autoregressive, in one stream
    HighDepthCoder   online, of 16 bits a sample               high_depth             -
    StripCoder       agave and ade of any size                 strips of a tile       chain
    ChainCoder       agave of small images                     chain of one           chain
    GraphicsCoder    graphics, which has no weights            graphics               -
    GraphicsNetCoder graphics with a net                       graphics               -

Conventional methods have no model: coding/conventional.py.  Every function stands beside its inverse.
What each pixel cost is known once it is decoded: ``costs`` of ``decode``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gmcodec import native
from gmcodec.arrays import Float64, UInt, UInt8, UInt16
from gmcodec.coding import autoregressive, chain, graphics, high_depth, reduction, strips, value_weights
from gmcodec.coding.autoregressive import Costs, Payload
from gmcodec.coding.reduction import Reduced
from gmcodec.coding.tiles import TILE_PIXELS, squares
from gmcodec.errors import GmcFormatError, UnsupportedImageError
from gmcodec.models import registry
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.graphics.config import bucket_bits
from gmcodec.models.graphics.model import GraphicsModel
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.registry import Loaded
from gmcodec.progress import Callback, ignore

WITH_NET = 1  # number of the set of contexts of a graphic with a net
TRIAL_SQUARES = 8  # of an image, from which its size is estimated
WeightIndices = Callable[[], np.ndarray]  # gives weight indices as soon as they are known


class PixelCoder:
    """Codes samples of 8 bits with an autoregressive model."""

    spreads = ""  # in words, what ``costs`` has the same share of for many pixels, beside a few bytes that all have

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(
        self,
        planes: UInt8[np.ndarray, "C H W"],
        threads: int = 1,
        progress: Callback = ignore,
        weight_indices: WeightIndices | None = None,
        mirror: int = 0,
    ) -> Payload:
        """uint8 [C, H, W] -> payload.  ``weight_indices``, ``mirror``: as in ``autoregressive.encode``."""
        tile = _whole_tile(planes) if isinstance(self.model, OnlineModel) else None
        return autoregressive.encode(
            planes, self.model, threads, progress, tile, weight_indices=weight_indices, mirror=mirror
        )

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        threads: int = 1,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt8[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint8 [C, H, W].  Raises GmcFormatError, as all coders do.

        ``costs``, float64 [H, W], gets the bits of each pixel, all its channels together; what belongs to none, a share
        of each.
        """
        return autoregressive.decode(payload, shape, self.model, threads, progress, costs=costs)

    def encode_group(
        self, images: UInt8[np.ndarray, "B C H W"], progress: Callback = ignore
    ) -> tuple[bytes, Float64[np.ndarray, " B"]]:
        """uint8 [B, C, H, W] -> payload, and the estimated bits of each image, float64 [B]."""
        return autoregressive.encode_batch(images, self.model, progress)

    def decode_group(
        self, payload: bytes, shape: tuple[int, int, int, int], progress: Callback = ignore
    ) -> UInt8[np.ndarray, "B C H W"]:
        """Inverse of ``encode_group``: uint8 [B, C, H, W]."""
        return autoregressive.decode_batch(payload, shape, self.model, progress)

    def choose_weight_indices(self, planes: np.ndarray) -> np.ndarray:
        """Weight indices for an image, uint8 [C, 256] (coding/value_weights.py): the same for all models."""
        return autoregressive.choose_weight_indices(planes, self.model)

    def trial_bits(self, planes: UInt8[np.ndarray, "C H W"], progress: Callback = ignore) -> float:
        """About the bits of an image, from a few squares of it, each coded on its own."""
        sample = squares(planes, TRIAL_SQUARES)
        return autoregressive.push_words(sample, self.model, progress)[1].sum() / sample.size * planes.size

    def sampled_bits(
        self,
        planes: UInt8[np.ndarray, "C H W"],
        threads: int,
        weight_indices: WeightIndices | None,
        progress: Callback = ignore,
    ) -> tuple[float, float] | None:
        """About the bits of ``encode`` and their standard error, several times faster; None if it is no faster."""
        return autoregressive.sampled_bits(planes, self.model, threads, weight_indices, progress)


class SingleCoder:
    """A coder of single images only."""

    spreads = ""

    def encode_group(self, images: np.ndarray, progress: Callback = ignore) -> tuple[bytes, np.ndarray]:
        """Raises UnsupportedImageError."""
        raise UnsupportedImageError("groups hold images of 8 bits a sample, and no graphics")

    def decode_group(self, payload: bytes, shape: tuple[int, int, int, int], progress: Callback = ignore) -> np.ndarray:
        """Raises GmcFormatError."""
        raise GmcFormatError("a group cannot have samples of 16 bits, or graphics")

    def choose_weight_indices(self, planes: np.ndarray) -> np.ndarray:
        """All neutral: such payloads have none."""
        return np.full((len(planes), value_weights.VALUES), value_weights.NEUTRAL_INDEX, np.uint8)

    def sampled_bits(
        self, planes: np.ndarray, threads: int, weight_indices: WeightIndices | None, progress: Callback = ignore
    ) -> tuple[float, float] | None:
        """Nothing is faster."""
        return None


class HighDepthCoder(SingleCoder):
    """Codes samples of 16 bits with a model of 8 that learns; the format has lists of values instead of weights."""

    def __init__(self, model: OnlineModel) -> None:
        self.model = model

    def encode(
        self,
        planes: UInt16[np.ndarray, "C H W"],
        threads: int = 1,
        progress: Callback = ignore,
        weight_indices: WeightIndices | None = None,
        mirror: int = 0,
    ) -> Payload:
        """uint16 [C, H, W] -> payload."""
        return high_depth.encode(planes, self.model, threads, progress, _whole_tile(planes))

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        threads: int = 1,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt16[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint16 [C, H, W]."""
        return high_depth.decode(payload, shape, self.model, threads, progress, costs)

    def trial_bits(self, planes: UInt16[np.ndarray, "C H W"], progress: Callback = ignore) -> float:
        """About the bits of an image, from a few squares of it."""
        return high_depth.estimate(planes, self.model, progress)


class ChainCoder(PixelCoder):
    """Codes images with latents, bits-back; trials are those of the model without its latents."""

    def __init__(self, latents: Any) -> None:
        super().__init__(latents.plain)
        self.latents = latents
        self.spreads = "noise, features and latents" if isinstance(latents, AdeModel) else "latents"

    def encode(
        self,
        planes: UInt8[np.ndarray, "C H W"],
        threads: int = 1,
        progress: Callback = ignore,
        weight_indices: WeightIndices | None = None,
        mirror: int = 0,
    ) -> Payload:
        """uint8 [C, H, W] -> payload: a chain of one seed."""
        payload, bits = self.encode_group(planes[None], progress)
        return Payload(payload, float(bits.sum()))

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        threads: int = 1,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt8[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint8 [C, H, W]."""
        spent = None if costs is None else costs[None]
        return chain.decode_chain(payload, (1, *shape), self.latents, progress, spent)[0]

    def encode_group(
        self, images: UInt8[np.ndarray, "B C H W"], progress: Callback = ignore
    ) -> tuple[bytes, Float64[np.ndarray, " B"]]:
        """uint8 [B, C, H, W] -> payload, and the estimated bits of each image, float64 [B]."""
        found = chain.encode_chain(images, self.latents, progress)
        return found.payload, found.bits

    def decode_group(
        self, payload: bytes, shape: tuple[int, int, int, int], progress: Callback = ignore
    ) -> UInt8[np.ndarray, "B C H W"]:
        """Inverse of ``encode_group``: uint8 [B, C, H, W]."""
        return chain.decode_chain(payload, shape, self.latents, progress)

    def sampled_bits(
        self, planes: np.ndarray, threads: int, weight_indices: WeightIndices | None, progress: Callback = ignore
    ) -> tuple[float, float] | None:
        """Nothing is faster."""
        return None


class StripCoder(ChainCoder):
    """Codes images of any size with latents, strip by strip."""

    def encode(
        self,
        planes: UInt8[np.ndarray, "C H W"],
        threads: int = 1,
        progress: Callback = ignore,
        weight_indices: WeightIndices | None = None,
        mirror: int = 0,
    ) -> Payload:
        """uint8 [C, H, W] -> payload."""
        return strips.encode_image(planes, self.latents, threads, progress)

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        threads: int = 1,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt8[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint8 [C, H, W]."""
        return strips.decode_image(payload, shape, self.latents, threads, progress, costs)


class GraphicsCoder:
    """Codes all channels of a graphic."""

    def __init__(self) -> None:
        self.model = GraphicsModel(native.core())

    @staticmethod
    def settings(reduced: Reduced, contexts: int, guessing: int) -> graphics.Settings:
        """How ``encode`` codes an image that was reduced; the fewer the contexts, the smaller is their table."""
        return graphics.Settings(
            channels=len(reduced.planes), depth=reduced.depth, green=reduced.green, contexts=contexts,
            guessing=guessing, bucket_bits=bucket_bits(reduced.planes[0].size, contexts, guessing),
        )  # fmt: skip

    def encode(self, reduced: Reduced, contexts: int, guessing: int, progress: Callback = ignore) -> Payload:
        """An image that was reduced -> payload."""
        return graphics.encode(reduced, self.settings(reduced, contexts, guessing), self.model, progress)

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        depth: int,
        colours: UInt8[np.ndarray, "N 3"] | None,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint8, or uint16 for a depth of 16, [C, H, W].  ``colours``: of the image's palette.

        ``costs``: as in ``PixelCoder.decode``.
        """
        return graphics.decode(payload, shape, depth, colours, self.model, progress, costs)


class GraphicsNetCoder(SingleCoder):
    """Codes all channels of a graphic, with a net as one more input of the mixer."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def encode(
        self,
        planes: UInt8[np.ndarray, "C H W"],
        threads: int = 1,
        progress: Callback = ignore,
        weight_indices: WeightIndices | None = None,
        mirror: int = 0,
    ) -> Payload:
        """uint8 [C, H, W] -> payload.  Raises UnsupportedImageError if the net sees other colours."""
        reduced, net = reduction.colours_of(planes), self.model.net
        if net.channels != reduced.colours:
            raise UnsupportedImageError(f"a net of {net.channels} colours cannot see an image of {reduced.colours}")
        return graphics.encode(reduced, GraphicsCoder.settings(reduced, WITH_NET, 0), self.model, progress)

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        threads: int = 1,
        progress: Callback = ignore,
        costs: Costs = None,
    ) -> UInt8[np.ndarray, "C H W"]:
        """Inverse of ``encode``: uint8 [C, H, W]."""
        return graphics.decode(payload, shape, 8, None, self.model, progress, costs)

    def trial_bits(self, planes: UInt8[np.ndarray, "C H W"], progress: Callback = ignore) -> float:
        """The bits of an image; no part of it would tell."""
        return self.encode(planes, progress=progress).estimated_bits


Coder = PixelCoder | HighDepthCoder | GraphicsNetCoder


def coder_of(loaded: Loaded) -> Coder:
    """The coder of a model."""
    model = loaded.model
    if isinstance(model, AgaveModel | AdeModel):
        return StripCoder(model) if model.any_size else ChainCoder(model)
    if isinstance(model, GraphicsModel):
        return GraphicsNetCoder(model)
    return HighDepthCoder(model) if loaded.entry.depth == 16 else PixelCoder(model)


def load(method: int) -> Coder:
    """The coder of a method id.  Raises UnknownModelError, WeightsError."""
    return coder_of(registry.load(method))


def _whole_tile(planes: np.ndarray) -> tuple[int, int] | None:
    """The whole image as one tile, since half of it teaches less, and threads share a tile; None for large ones."""
    _, height, width = planes.shape
    return (height, width) if height * width <= TILE_PIXELS else None
