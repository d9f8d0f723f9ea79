# SPDX-License-Identifier: MIT
"""What each pixel of a .gmc file cost, and a picture of it.

::

    bytes --container--> Header --parts--> Planes, and the bits that models say each pixel took --picture--> PNG

Models say it pixel by pixel.  What they do not say is spread evenly: weights of values and changes that fit a model to
the image, over its pixels; latents, over the pixels of their strip or image; all that a flow codes, in the same way;
the payload of a conventional method, over all pixels, since nobody knows what a pixel costs inside WebP.

Headers, metadata and what the coder rounds belong to no pixel: the bits of a map add up to the estimate that
``codec.Encoded`` has.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gmcodec import codec, coders
from gmcodec.coding import conventional
from gmcodec.formats import gmc
from gmcodec.formats.gmc import Header
from gmcodec.image.modes import DEFAULT_MAX_PIXELS
from gmcodec.progress import Callback, Stoppable, ignore
from gmcodec.threads import interruptible

QUANTILE = 0.995  # of the pixels: where a picture's scale ends, so that a few costly ones do not darken the rest


# -- the map ---------------------------------------------------------------------------------------------


def cost_map(
    data: bytes,
    *,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Callback = ignore,
) -> np.ndarray:
    """The bits that each pixel of a .gmc file took, all its channels together: float32 [H, W].

    They add up to 8 times the bytes of the payloads but for what their heads and the coder's rounding take, far less
    than 1 % of all but tiny files.  Of models without latents each number is the model's own.  Latents of ``agave`` and
    ``agave-rgb`` are spread evenly over the pixels of their strip or image, so a pixel may seem to cost less than
    nothing; so is all that the flows ``ade`` and ``av-ade`` code, and the payload of a conventional method.

    The file is decoded, every checksum verified, which takes about half of the time; ``progress`` is told of every
    pixel that a model codes twice.  Raises what ``codec.decode_planes`` raises.
    """
    header = gmc.unpack(data, max_pixels=max_pixels)
    for part in header.parts:  # before any work
        codec.check_method(part, header.height * header.width, header.depth)
    stop = Stoppable(progress)
    return interruptible(lambda: _cost_map(header, threads or codec.available_threads(), stop), stop)


def _cost_map(header: Header, threads: int, progress: Callback) -> np.ndarray:
    out = np.zeros((header.height, header.width))
    decoded = []
    for part in header.parts:
        costs = np.empty((header.height, header.width))
        decoded.append(codec.decode_part(part, header, threads, progress, costs))
        out += costs
    codec.joined(decoded, header)  # for its checksum
    return out.astype(np.float32)


def spread_evenly(data: bytes) -> list[str]:
    """What of a file's costs a map spreads evenly over pixels, one line for each method that has such.

    Raises GmcFormatError, WeightsError.
    """
    lines = []
    for part in gmc.unpack(data, max_pixels=None).parts:
        name = codec.method_name(part.method)
        if part.method in conventional.METHODS:
            lines.append(f"{name} does not say what a pixel costs: {len(part.payload)} bytes are spread evenly")
        elif part.method >= gmc.FIRST_LEARNED_METHOD and (coder := coders.load(part.method)).spreads:
            lines.append(
                f"{coder.spreads} of {name}, if any, are spread evenly over the pixels of a strip, or of the image"
            )
    return lines


# -- the picture -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """A map as a picture: bits from 0 to ``end`` as colours from black to white, brighter by equal steps.

    indices uint8 [H, W] into COLOUR_MAP; mean and most are of the map, in bits a pixel.
    """

    indices: np.ndarray
    end: float
    mean: float
    most: float

    @property
    def scale(self) -> str:
        """In words."""
        return (
            f"0 (black) to {self.end:.4g} (white) bits a pixel, mean {self.mean:.4g}, most {self.most:.4g}; "
            f"the scale ends at the {100 * QUANTILE:g} % quantile"
        )

    def png(self) -> bytes:
        """The bytes of a PNG file; its text says what the scale is."""
        image = Image.fromarray(self.indices)
        image.putpalette(COLOUR_MAP.tobytes())
        text, file = PngInfo(), io.BytesIO()
        text.add_text("Description", f"bits of each pixel in a .gmc file: {self.scale}")
        image.save(file, "PNG", optimize=True, pnginfo=text)
        return file.getvalue()


def picture(costs: np.ndarray, side: int | None = None) -> Picture:
    """The picture of a map, float32 [H, W]; of a larger one than ``side`` the means of its parts."""
    mean, most = float(costs.mean(dtype=np.float64)), float(costs.max())
    if side is not None and max(costs.shape) > side:
        height, width = (max(1, round(n * side / max(costs.shape))) for n in costs.shape)
        costs = np.asarray(Image.fromarray(costs).resize((width, height), Image.Resampling.BOX))
    end = float(np.quantile(costs, QUANTILE))
    end = end if end > 0 else max(most, 1.0)
    return Picture(np.clip(np.rint(costs * (255 / end)), 0, 255).astype(np.uint8), end, mean, most)


def _palette() -> np.ndarray:
    """uint8 [256, 3], sRGB: black, violet, red, yellow, white; in Oklab (Ottosson 2020) equal steps of lightness."""
    light = np.linspace(0, 1, 256)
    hue = np.deg2rad(-70 + 175 * light)  # violet to yellow, by way of red
    chroma = 0.17 * np.sin(np.pi * light) ** 0.8
    lab = np.stack([light, chroma * np.cos(hue), chroma * np.sin(hue)])
    cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    linear = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ])  # fmt: skip
    rgb = np.clip(linear @ (cones @ lab) ** 3, 0, 1)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8).T


COLOUR_MAP = _palette()
