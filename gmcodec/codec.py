# SPDX-License-Identifier: MIT
"""The story: an image in, the bytes of a .gmc file out, and back.

encode   image --pixels--> Planes --parts--> Header --container--> bytes
                              |
                     learned code of the colours (+ a conventional code of alpha)
                     or a conventional code of all channels, whichever is smaller

decode   bytes --container--> Header --parts--> Planes --pixels--> image
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import container, pixels
from .coding import conventional
from .container import DEFAULT_MAX_PIXELS, Header, Part
from .errors import ChecksumError, UnknownModelError, UnsupportedImageError, WeightsError
from .pixels import MODES, Planes

if TYPE_CHECKING:
    from PIL import Image

    from .models import registry

Progress = Callable[[int], None]
CODES = ("auto", "learned", "conventional")
LEARNED_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}  # colour channels a model codes, by mode
SMALL = 1 << 14  # pixels up to which every form is tried without further thought
SAMPLE_SQUARES = 8  # squares of the trial that decides whether the model has a chance
NO_CHANCE = 1.25  # estimated size over quick conventional size from which the model is not run
SURE_WIN = 0.9  # real size over quick conventional size below which no conventional form can win


def _ignore(count: int) -> None:
    pass


@dataclass(frozen=True)
class Encoded:
    """A .gmc file and what is known about its size.

    ``estimated_bits``: the model's own estimate of the learned parts plus 8 bits for each byte of
    conventional parts; what the file has beyond it is header, checksums and rounding of the coder.
    """

    data: bytes
    estimated_bits: float
    dimensions: int
    parts: tuple[tuple[str, int, int], ...]  # (form name, channels, bytes)

    @property
    def bits_per_dimension(self) -> float:
        """Of the whole file."""
        return 8 * len(self.data) / self.dimensions


# -- encode and decode ---------------------------------------------------------------------------------


def encode_planes(
    planes: Planes, *, code: str = "auto", threads: int | None = None, progress: Progress = _ignore
) -> Encoded:
    """Planes -> file.  ``code`` forces one kind of code, or a model by its name; ``threads`` (default: all cores)
    never changes the bytes.

    Raises WeightsError when the model is missing, UnsupportedImageError for a mode that has no model or not
    the one named, ValueError for an unknown ``code``.
    """
    parts, bits = _choose_parts(planes, code, threads or available_threads(), progress)
    crc = container.pixels_crc(planes.data)
    mode = MODES[planes.mode].id
    header = Header(mode, planes.width, planes.height, crc, planes.metadata, tuple(parts))
    described = tuple((form_name(p.form), p.channels, len(p.payload)) for p in parts)
    return Encoded(container.pack(header), bits, planes.dimensions, described)


def decode_planes(
    data: bytes,
    *,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Progress = _ignore,
) -> Planes:
    """File -> Planes, every checksum verified.  Raises GmcFormatError, WeightsError or ImageTooLargeError."""
    header = container.unpack(data, max_pixels=max_pixels)
    for part in header.parts:  # before any work
        check_form(part, header.height * header.width)
    decoded = [_decode_part(part, header, threads or available_threads(), progress) for part in header.parts]
    samples = decoded[0] if len(decoded) == 1 else np.concatenate(decoded)
    if container.pixels_crc(samples) != header.pixels_crc:
        raise ChecksumError("the decoded pixels do not match their checksum")
    mode = next(m.name for m in MODES.values() if m.id == header.mode_id)
    return Planes(samples, mode, header.metadata)


def _choose_parts(planes: Planes, code: str, threads: int, progress: Progress) -> tuple[list[Part], float]:
    """Parts of the file and their estimated bits: the smallest, without trying what cannot win."""
    colours = LEARNED_CHANNELS.get(planes.mode)
    named = [] if code in CODES else _entries(code)
    entries = [e for e in named if e.takes(colours or 0, planes.height * planes.width)]
    if code == "learned" and colours is None:
        raise UnsupportedImageError(f"there is no learned model for mode {planes.mode}")
    if named and not entries:
        largest = [e.max_pixels for e in named if e.channels == colours]
        what = f"images of more than {largest[0]} pixels" if largest else f"mode {planes.mode}"
        raise UnsupportedImageError(f"{code} does not code {what}")
    if entries:
        found = [_learned_parts(planes.data, entries[0].channels, threads, progress, e) for e in entries]
        return min(found, key=_size)
    if code == "conventional" or colours is None:
        return _conventional_parts(planes.data, planes.depth, "best")
    if code != "auto":
        return _learned_parts(planes.data, colours, threads, progress)
    if planes.height * planes.width <= SMALL:
        both = _learned_parts(planes.data, colours, threads, progress), _conventional_parts(planes.data, 8, "best")
        return min(both, key=_size)
    quick = _size(_conventional_parts(planes.data, 8, "quick"))
    if _trial_bits(planes.data[:colours]) / 8 > NO_CHANCE * quick:
        return _conventional_parts(planes.data, 8, "best")
    learned = _learned_parts(planes.data, colours, threads, progress)
    if _size(learned) < SURE_WIN * quick:
        return learned
    return min(learned, _conventional_parts(planes.data, 8, "best"), key=_size)


def _size(parts: tuple[list[Part], float]) -> int:
    """Bytes of the parts in the file: form, channels, weights id, length, payload."""
    return sum(2 + len(p.weights_id) + len(container.varint(len(p.payload))) + len(p.payload) for p in parts[0])


def _conventional_parts(data: np.ndarray, depth: int, effort: str) -> tuple[list[Part], float]:
    form, payload = conventional.encode(data, depth, effort)
    return [Part(form, len(data), payload)], 8.0 * len(payload)


def _entries(name: str) -> list[registry.Entry]:
    """The models that a name asks for; of a family those that are installed, if any is.  Raises ValueError."""
    from .models import registry

    try:
        found = registry.called(name)
    except ValueError:
        names = (*CODES, *(e.name for e in registry.ENTRIES))
        raise ValueError(f"code must be one of {', '.join(names)}, not {name!r}") from None
    return [e for e in found if registry.is_installed(e)] or found


def _learned_parts(
    data: np.ndarray, colours: int, threads: int, progress: Progress, entry: registry.Entry | None = None
) -> tuple[list[Part], float]:
    from .coding import autoregressive, chain, strips  # numba is not loaded for files that do not need it
    from .models import registry

    loaded = registry.load(entry.form) if entry else registry.for_channels(colours)
    with single_threaded_blas():
        if loaded.latents and loaded.latents.any_size:
            coded = strips.encode_image(data[:colours], loaded.latents, threads, progress)
            payload, bits = coded.payload, coded.estimated_bits
        elif loaded.latents:  # one small image: a chain of a seed
            found = chain.encode_chain(data[None, :colours], loaded.latents, progress)
            payload, bits = found.payload, float(found.bits.sum())
        else:
            coded = autoregressive.encode(data[:colours], loaded.pixels, threads, progress)
            payload, bits = coded.payload, coded.estimated_bits
    parts = [Part(loaded.entry.form, colours, payload, loaded.weights_id)]
    if len(data) > colours:
        alpha, alpha_bits = _conventional_parts(data[colours:], 8, "best")
        parts, bits = parts + alpha, bits + alpha_bits
    return parts, bits


def _decode_part(part: Part, header: Header, threads: int, progress: Progress) -> np.ndarray:
    shape = (part.channels, header.height, header.width)
    if part.form < container.FIRST_LEARNED_FORM:
        return conventional.decode(part.form, part.payload, shape, header.depth)
    from .coding import autoregressive, chain, strips
    from .models import registry

    loaded = registry.load(part.form)
    with single_threaded_blas():
        if loaded.latents and loaded.latents.any_size:
            return strips.decode_image(part.payload, shape, loaded.latents, threads, progress)
        if loaded.latents:
            return chain.decode_chain(part.payload, (1, *shape), loaded.latents, progress)[0]
        return autoregressive.decode(part.payload, shape, loaded.pixels, threads, progress)


def _trial_bits(colours: np.ndarray) -> float:
    """The model's estimate for the whole image from a sample of it, each square coded on its own."""
    from .coding import autoregressive
    from .models import registry

    model = registry.for_channels(len(colours)).pixels
    sample = autoregressive.squares(colours, SAMPLE_SQUARES)
    return autoregressive.push_words(sample, model, _ignore)[1].sum() / sample.size * colours.size


# -- helpers ---------------------------------------------------------------------------------------------


def available_threads() -> int:
    """Processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Tiles are the unit of parallel work; BLAS threads inside each would only compete."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def form_name(form: int) -> str:
    """Name of a form for people.  Raises UnknownModelError."""
    if form in conventional.FORMS:
        return conventional.FORMS[form]
    from .models import registry

    if form not in registry.BY_FORM:
        raise UnknownModelError(f"form {form} is not known to this release")
    return registry.BY_FORM[form].name


def check_form(part: Part, pixels: int) -> None:
    """Raise UnknownModelError, or WeightsError when the part needs other weights than are installed.

    ``pixels``: of the image, or of each image of a group.
    """
    form_name(part.form)
    if part.form < container.FIRST_LEARNED_FORM:
        return
    from .models import registry

    loaded = registry.load(part.form)
    if loaded.entry.channels != part.channels:
        raise UnknownModelError(f"{loaded.entry.name} codes {loaded.entry.channels} channels, not {part.channels}")
    if not loaded.entry.takes(part.channels, pixels):
        raise UnknownModelError(f"{loaded.entry.name} does not code images of {pixels} pixels")
    if loaded.weights_id != part.weights_id:
        raise WeightsError(
            f"the file needs weights {part.weights_id.hex()} of {loaded.entry.name}; "
            f"installed are {loaded.weights_id.hex()}"
        )


# -- for people -------------------------------------------------------------------------------------------


def to_planes(source: Any, *, strip: bool = False, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Planes:
    """Whatever holds an image -> Planes: a path, file, bytes of an image file, PIL image or array."""
    if isinstance(source, Planes):
        return source
    if isinstance(source, np.ndarray):
        return pixels.from_array(source)
    if isinstance(source, (str, os.PathLike, bytes)) or hasattr(source, "read"):
        return pixels.read(source, strip=strip, max_pixels=max_pixels)
    return pixels.from_image(source, strip=strip)


def encode(
    source: Image.Image | np.ndarray | Planes | str | os.PathLike | bytes | BinaryIO,
    *,
    code: str = "auto",
    strip: bool = False,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> bytes:
    """Compress an image losslessly.

    source      path, open file or bytes of an image file (PNG, TIFF, WebP, ...), PIL image, or array uint8
                or uint16, [H, W] or [H, W, C] with C 1 to 4
    code        "auto" (the smallest), "learned", "conventional", or the name of a model
    strip       drop ICC, EXIF, XMP, text, DPI and gamma
    threads     default all processors; the bytes do not depend on it
    max_pixels  refuse larger images; None lifts the limit

    Returns the bytes of a .gmc file.  Raises UnsupportedImageError, ImageReadError, ImageTooLargeError, WeightsError.
    """
    planes = to_planes(source, strip=strip, max_pixels=max_pixels)
    return encode_planes(planes, code=code, threads=threads).data


def decode(data: bytes, *, threads: int | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Pixels, mode and metadata of a .gmc file as a PIL image.

    Raises GmcFormatError, WeightsError, ImageTooLargeError; UnsupportedImageError for 16-bit colour, which
    Pillow cannot hold: use ``decode_array``.
    """
    return pixels.to_image(decode_planes(data, threads=threads, max_pixels=max_pixels))


def decode_array(data: bytes, *, threads: int | None = None, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Pixels of a .gmc file: uint8 or uint16, [H, W] or [H, W, C].  Palette images give their indices."""
    return pixels.to_array(decode_planes(data, threads=threads, max_pixels=max_pixels))


def info(data: bytes) -> dict[str, Any]:
    """What a .gmc file says about itself, without decoding it: plain values, ready for JSON.

    Raises GmcFormatError.
    """
    header = container.unpack(data, max_pixels=None)
    mode = next(m for m in MODES.values() if m.id == header.mode_id)
    dimensions = header.width * header.height * mode.channels
    return {
        "format_version": container.FORMAT_VERSION,
        "width": header.width,
        "height": header.height,
        "mode": mode.name,
        "channels": mode.channels,
        "bit_depth": mode.depth,
        "bytes": len(data),
        "bits_per_dimension": 8 * len(data) / dimensions,
        "header_bytes": container.overhead(header) - sum(len(value) for _, value in header.metadata),
        "parts": [
            {"code": name_or_number(p.form), "channels": p.channels, "bytes": len(p.payload)}
            | ({"weights": p.weights_id.hex()} if p.weights_id else {})
            for p in header.parts
        ],
        "metadata": [{"kind": pixels.Tag(tag).name if tag in set(pixels.Tag) else str(tag), "bytes": len(value)}
                     for tag, value in header.metadata],
        "pixels_crc32": f"{header.pixels_crc:08x}",
    }  # fmt: skip


def name_or_number(form: int) -> str:
    try:
        return form_name(form)
    except UnknownModelError:
        return f"unknown ({form})"


def verify(
    data: bytes,
    *,
    threads: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: Progress = _ignore,
) -> None:
    """Decode and check every checksum, returning nothing.  Raises what ``decode_planes`` raises."""
    decode_planes(data, threads=threads, max_pixels=max_pixels, progress=progress)
