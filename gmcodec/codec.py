# SPDX-License-Identifier: MIT
"""From an image to the bytes of a .gmc file, and back.

encode   image --pixels--> Planes --parts--> Header --container--> bytes
                              |  (rounded to levels, if it is to be near-lossless)
                     a learned method for the colours (+ a conventional one for alpha),
                     or graphics, or a conventional method, for all channels: whichever is smallest

decode   bytes --container--> Header --parts--> Planes --pixels--> image
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from gmcodec import coders
from gmcodec.coding import conventional, graphics
from gmcodec.effort import smallest
from gmcodec.errors import ChecksumError, NotKeptError, UnknownModelError, UnsupportedImageError, WeightsError
from gmcodec.formats import gmc
from gmcodec.formats.gmc import Header, Part
from gmcodec.image import metadata, near_lossless, reading
from gmcodec.image.modes import DEFAULT_MAX_PIXELS, MODES, MODES_BY_ID
from gmcodec.image.near_lossless import Near
from gmcodec.image.planes import Planes
from gmcodec.progress import Callback, Stoppable, ignore
from gmcodec.threads import interruptible

if TYPE_CHECKING:
    from PIL import Image


log = logging.getLogger("gmcodec")
NAMES = conventional.METHODS | {graphics.METHOD: graphics.NAME}  # of the methods without weights


@dataclass(frozen=True)
class Encoded:
    """A .gmc file, and where its size comes from.

    ``estimated_bits``: the model's own estimate for learned parts, plus 8 bits for each byte of conventional parts.
    The file is larger by its header, its checksums and the coder's rounding.
    """

    data: bytes
    estimated_bits: float
    dimensions: int
    parts: tuple[tuple[str, int, int], ...]  # (method name, channels, bytes)

    @property
    def bits_per_dimension(self) -> float:
        """Bits per dimension of the whole file."""
        return 8 * len(self.data) / self.dimensions


# -- encode and decode ---------------------------------------------------------------------------------


def encode_planes(
    planes: Planes,
    *,
    code: str = "auto",
    effort: str = "default",
    threads: int | None = None,
    progress: Callback = ignore,
    near: Near | None = None,
) -> Encoded:
    """Planes -> file.

    code     "auto", or what to force: "learned", "graphics", "conventional", or a model by its name
    effort   one of effort.EFFORTS
    threads  default: all cores; never changes the bytes
    near     how samples are rounded; None: they are kept exactly

    Raises WeightsError when the weights of a model are missing, UnsupportedImageError when there is no model for the
    mode, when the named model does not support it, or when samples cannot be rounded, ValueError for an unknown
    ``code`` or ``effort``.
    """
    stop = Stoppable(progress)
    coded = near_lossless.encode(planes, near) if near else planes
    threads = threads or available_threads()
    parts, bits = interruptible(lambda: smallest(coded, code, effort, threads, stop, near is not None), stop)
    crc = gmc.pixels_crc(near_lossless.decode(coded.data, planes.mode, near) if near else planes.data)
    mode = MODES[planes.mode].id
    header = Header(mode, planes.width, planes.height, crc, planes.metadata, tuple(parts), near)
    described = tuple((method_name(p.method), p.channels, len(p.payload)) for p in parts)
    return Encoded(gmc.pack(header), bits, planes.dimensions, described)


def decode_planes(
    data: bytes,
    *,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Callback = ignore,
) -> Planes:
    """File -> Planes, every checksum verified.  Raises GmcFormatError, WeightsError or ImageTooLargeError."""
    header = gmc.unpack(data, max_pixels=max_pixels)
    for part in header.parts:  # before any pixel is decoded
        check_method(part, header.height * header.width, header.depth)
    stop = Stoppable(progress)
    samples = interruptible(lambda: _decode_parts(header, threads or available_threads(), stop), stop)
    mode = MODES_BY_ID[header.mode_id].name
    return Planes(samples, mode, header.metadata)


def _decode_parts(header: Header, threads: int, progress: Callback) -> np.ndarray:
    return joined([decode_part(part, header, threads, progress) for part in header.parts], header)


def joined(decoded: list[np.ndarray], header: Header) -> np.ndarray:
    """The samples [C, H, W] of a file from those of its parts.  Raises GmcFormatError, ChecksumError."""
    samples = decoded[0] if len(decoded) == 1 else np.concatenate(decoded)
    if header.near:
        samples = near_lossless.decode(samples, MODES_BY_ID[header.mode_id].name, header.near)
    if gmc.pixels_crc(samples) != header.pixels_crc:
        raise ChecksumError("the decoded pixels do not match their checksum")
    return samples


def decode_part(
    part: Part, header: Header, threads: int, progress: Callback, costs: np.ndarray | None = None
) -> np.ndarray:
    """Samples [C, H, W] of a part that ``check_method`` has passed.  ``costs``: float64 [H, W], gets bits of pixels."""
    shape = (part.channels, header.height, header.width)
    if part.method == graphics.METHOD:
        colours = metadata.colours(header.metadata)
        return coders.GraphicsCoder().decode(part.payload, shape, header.depth, colours, progress, costs)
    if part.method < gmc.FIRST_LEARNED_METHOD:
        if costs is not None:
            costs[...] = 8 * len(part.payload) / costs.size
        return conventional.decode(part.method, part.payload, shape, header.depth)
    return coders.load(part.method).decode(part.payload, shape, threads, progress, costs)


def near_of(most: int, alpha: bool) -> Near | None:
    """How samples are rounded, from the options of users.  Raises ValueError."""
    if most < 0 or (alpha and not most):
        raise ValueError(f"near must be 0 or more, and not 0 for alpha, not {most}")
    return Near(most, alpha) if most else None


# -- helpers ---------------------------------------------------------------------------------------------


def available_threads() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def method_name(method: int) -> str:
    """Name of a method.  Raises UnknownModelError."""
    if method in NAMES:
        return NAMES[method]
    from gmcodec.models import registry

    if method not in registry.BY_METHOD:
        raise UnknownModelError(f"method {method} is not known to this release")
    return registry.BY_METHOD[method].name


def check_method(part: Part, pixels: int, depth: int = 8) -> None:
    """Raise UnknownModelError unless the method fits the part, WeightsError unless its weights are the installed ones.

    ``pixels``: of the image, or of each image of a group; ``depth``: bits of a sample.
    """
    method_name(part.method)
    if part.method < gmc.FIRST_LEARNED_METHOD:
        return
    from gmcodec.models import registry

    loaded = registry.load(part.method)
    if not loaded.entry.supports(part.channels, 1, loaded.entry.depth):
        raise UnknownModelError(f"{loaded.entry.name} does not code {part.channels} channels")
    if not loaded.entry.supports(part.channels, pixels, depth):
        raise UnknownModelError(f"{loaded.entry.name} does not code images of {pixels} pixels and {depth} bits")
    if loaded.weights_id != part.weights_id:
        raise WeightsError(
            f"the file needs weights {part.weights_id.hex()} of {loaded.entry.name}; "
            f"installed are {loaded.weights_id.hex()}"
        )


# -- the public functions ---------------------------------------------------------------------------------


def to_planes(
    source: Any, *, strip: bool = False, max_pixels: int | None = DEFAULT_MAX_PIXELS, first: bool = False
) -> Planes:
    """An image -> Planes; ``source``: a path, file, bytes of an image file, PIL image, array or Planes.

    An array is any object that has ``__array__`` or ``__array_interface__``.  Raises UnsupportedImageError for anything
    else.
    """
    if isinstance(source, Planes):
        return source
    if isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read"):
        return reading.read(source, strip=strip, max_pixels=max_pixels, first=first)
    if hasattr(source, "getbands"):
        return reading.from_image(source, strip=strip)
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return reading.from_array(np.asarray(source))
    raise UnsupportedImageError(f"a {type(source).__name__} holds no image: give a path, bytes, an image or an array")


def losses(planes: Planes) -> str:
    """One line that names what the source holds and a .gmc file cannot keep; empty when nothing is lost."""
    return ", ".join(loss.what for loss in planes.lost)


def report_losses(planes: Planes, strict: bool) -> None:
    """Log a warning about losses; if ``strict``, raise NotKeptError instead."""
    if (lost := losses(planes)) and strict:
        raise NotKeptError(f"not all of it can be kept: {lost}")
    if lost:
        log.warning("not kept: %s", lost)


def encode(
    source: Image.Image | np.ndarray | Planes | str | os.PathLike | bytes | bytearray | memoryview | BinaryIO,
    *,
    code: str = "auto",
    effort: str = "default",
    strip: bool = False,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    first: bool = False,
    strict: bool = False,
    near: int = 0,
    near_alpha: bool = False,
) -> bytes:
    """Compress an image, losslessly unless ``near`` says otherwise.

    source      path, open file or bytes of an image file (PNG, TIFF, WebP, ...), PIL image, or array uint8
                or uint16, [H, W] or [H, W, C] with C 1 to 4
    code        "auto" (the smallest), "learned", "graphics", "conventional", or the name of a model
    effort      "fast", "default" or "best"; each is slower than the one before and never makes a larger file
    strip       drop ICC, EXIF, XMP, text, DPI and gamma
    threads     default all processors; the bytes do not depend on it
    max_pixels  larger images are refused; None: no limit
    first       take the first of several frames or pages
    strict      raise NotKeptError, instead of a warning in the log "gmcodec", when something cannot be kept
    near        by how much a sample may change: 0, the default, is lossless; more makes smaller files
    near_alpha  whether alpha may change as well

    Returns the bytes of a .gmc file.  Raises UnsupportedImageError, ImageReadError, ImageTooLargeError, WeightsError;
    ValueError for values of options that there are not.
    """
    stop, rounding = Stoppable(), near_of(near, near_alpha)
    if strict and rounding:
        raise ValueError("with near the image changes, which strict forbids")

    def work() -> bytes:
        planes = to_planes(source, strip=strip, max_pixels=max_pixels, first=first)
        report_losses(planes, strict)
        return encode_planes(planes, code=code, effort=effort, threads=threads, progress=stop, near=rounding).data

    return interruptible(work, stop)


def decode(data: bytes, *, threads: int | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Pixels, mode and metadata of a .gmc file as a PIL image.

    Raises GmcFormatError, WeightsError, ImageTooLargeError; UnsupportedImageError for 16-bit colour, which
    Pillow cannot hold: use ``decode_array``.
    """
    return reading.to_image(decode_planes(data, threads=threads, max_pixels=max_pixels))


def decode_array(data: bytes, *, threads: int | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Pixels of a .gmc file: uint8 or uint16, [H, W] or [H, W, C].  A palette image gives its indices."""
    return reading.to_array(decode_planes(data, threads=threads, max_pixels=max_pixels))


def info(data: bytes) -> dict[str, Any]:
    """What the header of a .gmc file says, as plain values, ready for JSON.  No pixel is decoded.

    Raises GmcFormatError.
    """
    header = gmc.unpack(data, max_pixels=None)
    mode = MODES_BY_ID[header.mode_id]
    dimensions = header.width * header.height * mode.channels
    return {
        "format_version": gmc.FORMAT_VERSION,
        "width": header.width,
        "height": header.height,
        "mode": mode.name,
        "channels": mode.channels,
        "bit_depth": mode.depth,
        "near": header.near.most if header.near else 0,
        "near_alpha": bool(header.near and header.near.alpha),
        "bytes": len(data),
        "bits_per_dimension": 8 * len(data) / dimensions,
        "header_bytes": gmc.overhead(header) - sum(len(value) for _, value in header.metadata),
        "parts": [
            {"code": name_or_number(p.method), "channels": p.channels, "bytes": len(p.payload)}
            | ({"weights": p.weights_id.hex()} if p.weights_id else {})
            for p in header.parts
        ],
        "metadata": [{"kind": reading.Tag(tag).name if tag in set(reading.Tag) else str(tag), "bytes": len(value)}
                     for tag, value in header.metadata],
        "pixels_crc32": f"{header.pixels_crc:08x}",
    }  # fmt: skip


def name_or_number(method: int) -> str:
    try:
        return method_name(method)
    except UnknownModelError:
        return f"unknown ({method})"


def verify(
    data: bytes,
    *,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Callback = ignore,
) -> None:
    """Decode, check every checksum, and return nothing.  Raises what ``decode_planes`` raises."""
    decode_planes(data, threads=threads, max_pixels=max_pixels, progress=progress)
