# SPDX-License-Identifier: MIT
"""Image files and Pillow images as ``Planes``, exact integer samples and metadata; and ``Planes`` as Pillow images.

    file   --read-->        Planes  --writing.write-->  file      every function here preserves each
    Pillow --from_image-->  Planes  --to_image-->       Pillow    sample and its meaning, or raises
    array  --from_array-->  Planes  --to_array-->       array     UnsupportedImageError with the reason

Samples are kept as decoded: 1-bit images keep 1 bit, palette indices stay indices, colours of transparent pixels are
kept, an EXIF orientation is not applied.  There are these exceptions: grey PNG of 2 and 4 bits is widened to 8 bits, as
every reader does, and PNM to 8 or 16 bits; a TIFF's orientation is applied; of JPEG, AVIF and HEIF the output of the
decoder is kept.

Two readers process a file.  The first decodes the samples, with Pillow wherever Pillow is exact.  The second, the
ledger (``image/ledger``), accounts for all bytes: it returns the metadata, and names what ``Planes`` cannot hold.
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from gmcodec.errors import GmcError, ImageReadError, ImageTooLargeError, UnsupportedImageError
from gmcodec.image import bmp, exactness, ledger, metadata, plugins, png, pnm, tiff16
from gmcodec.image.ledger import Loss
from gmcodec.image.ledger.pnm import count_further
from gmcodec.image.metadata import PIXEL_TAGS, Tag, Tags, find_problem
from gmcodec.image.modes import DEFAULT_MAX_PIXELS, MODES
from gmcodec.image.pillow_info import find_dropped, from_info, pixel_tags_from_info, to_info
from gmcodec.image.planes import Planes, from_array, from_pillow, from_samples, to_array

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Planes", "Tag", "from_array", "from_image", "read", "strip",
           "to_array", "to_image"]  # fmt: skip

_PILLOW_MODES = {name: name for name in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB")} | {
    name: "I;16" for name in ("I;16", "I;16L", "I;16B", "I;16N")
}


def strip(planes: Planes) -> Planes:
    """Planes without metadata, except those that pixels depend on.  Lost metadata is no longer reported as lost."""
    kept = tuple((tag, value) for tag, value in planes.metadata if tag in PIXEL_TAGS)
    return Planes(planes.data, planes.mode, kept, tuple(loss for loss in planes.lost if not loss.metadata))


# --- Pillow images ---------------------------------------------


def from_image(image: Image.Image, *, strip: bool = False) -> Planes:
    """A Pillow image as Planes.

    If there is a file, prefer ``read``: Pillow may have rounded or dropped something already.  Raises
    UnsupportedImageError for modes that cannot be kept exactly and for several frames (use ``copy()`` of one frame),
    ImageReadError if an image that was opened lazily is damaged.
    """
    _refuse_frames(getattr(image, "n_frames", 1))
    mode, samples = _samples_of(image)
    tags, problems = from_info(image, mode)
    lost = [Loss(f"{image.format or 'the image'}: {what}") for what in (*problems, *find_dropped(image))]
    return _make_planes(samples, mode, {}, tags, lost, strip)


def _samples_of(image: Any) -> tuple[str, np.ndarray]:
    """Mode and samples [H, W, C] of the current frame."""
    exactness.refuse_inexact(image)
    with pillow_errors(image.format or "image"):
        image.load()
    mode = _PILLOW_MODES.get(image.mode)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        mode = "I;16"  # Pillow stores 16-bit grey of these formats in 32 bits
    if mode is None:
        raise UnsupportedImageError(f"images of mode {image.mode} are not supported; convert to one of {[*MODES]}")
    if not image.width or not image.height:
        raise UnsupportedImageError(f"empty image, {image.width}x{image.height}")
    samples = from_pillow(image)
    return mode, samples ^ np.array([0, 128, 128], np.uint8) if mode == "LAB" else samples


def _make_planes(
    samples: np.ndarray, mode: str, pixel_tags: Tags, tags: Tags, lost: list[Loss], stripped: bool
) -> Planes:
    """Planes from samples [H, W, C] and metadata; malformed metadata is lost."""
    for tag, value in sorted(tags.items()):
        if tag not in PIXEL_TAGS and (problem := find_problem(tag, value, mode)):
            lost.append(Loss(f"{tag.name} metadata that is malformed: {problem}"))
            del tags[tag]
    planes = from_samples(samples, mode, metadata.pack(tags | pixel_tags), tuple(lost))
    return strip(planes) if stripped else planes


def _refuse_frames(frames: int) -> None:
    if frames != 1:
        raise UnsupportedImageError(
            f"the image has {frames} frames or pages; --first (first=True) takes the first and drops the others"
        )


def to_image(planes: Planes) -> Image.Image:
    """Planes as a Pillow image, with metadata in ``info`` as Pillow's own readers put it there.

    Raises UnsupportedImageError for 16-bit colour, which Pillow cannot hold, and GmcFormatError for malformed metadata.
    """
    image = bare_image(planes)
    image.info.update(to_info(metadata.unpack(planes.metadata, planes.mode), planes.mode))
    return image


def bare_image(planes: Planes) -> Image.Image:
    """Planes as a Pillow image without metadata, except the palette."""
    from PIL import Image

    mode = planes.mode
    if planes.depth == 16 and mode != "I;16":
        raise UnsupportedImageError(f'Pillow cannot hold {mode} images; use to_array, or writing.write(planes, "TIFF")')
    samples = to_array(planes)
    if mode == "1":
        samples = np.packbits(samples, axis=1)
    elif mode == "I;16":
        samples = samples.astype("<u2")
    elif mode == "LAB":
        samples = samples ^ np.array([0, 128, 128], np.uint8)
    image = Image.frombytes(mode, (planes.width, planes.height), samples.tobytes())
    palette = metadata.unpack(planes.metadata, mode).get(Tag.PALETTE)
    if palette:
        image.putpalette(palette)
    return image


# --- files ---------------------------------------------

# Formats of Pillow whose precision this module checks.  TGA is tried last, because it has no magic bytes.
_READABLE = ("JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "QOI", "SGI", "PCX", "AVIF", "TGA")
_PNM = tuple(b"P%d" % kind for kind in range(1, 7))
_OTHER_PNM = {b"Pf": "PFM (float samples)", b"PF": "PFM (float samples)", b"P7": "PAM"}


def read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    strip: bool = False,
    first: bool = False,
) -> Planes:
    """An image file, by path, as open file or as bytes, as Planes; ``lost`` names what they cannot hold of it.

    max_pixels  refuse larger images by their header (ImageTooLargeError); None lifts the limit
    strip       drop all metadata that pixels do not depend on
    first       take the first of several frames or pages

    Raises ImageReadError for damaged, empty and unknown files, UnsupportedImageError for images that cannot be kept
    exactly (several frames, float samples, more than 8 bits that Pillow would round, ...) or need an extra that is not
    installed, OSError if the file cannot be opened.
    """
    raw = bytes_of(source)
    image = _decode(raw, max_pixels, first)
    found = ledger.account(image.format, raw)
    lost = found.losses + ([Loss(f"{image.trailing:,} bytes behind the end", False)] if image.trailing else [])
    return _make_planes(image.samples, image.mode, image.pixel_tags, found.tags | image.tags, lost, strip)


def read_size(raw: bytes) -> tuple[int, int]:
    """Width and height of an image file from its header; a TIFF's orientation is not applied.  Raises as ``read``."""
    if raw.startswith(png.PNG_SIGNATURE):
        return png.read_size(raw)
    if raw[:2] in _PNM:
        head = pnm.read_header(raw)
        return head.width, head.height
    if plugin := plugins.sniff(raw):
        return _size_by_plugin(plugin, raw)
    if header := bmp.find_masked(raw):
        return header.width, header.height
    if tiff16.is_high_depth(raw):
        return tiff16.read_size(raw)[:2]
    with _open(raw) as image:
        return image.size  # type: ignore[no-any-return]


def _size_by_plugin(format: str, raw: bytes) -> tuple[int, int]:
    """Width and height by decoding, which stops when the size is known."""
    found: list[tuple[int, int]] = []

    def check(size: tuple[int, int]) -> None:
        found.append(size)
        raise ImageTooLargeError("the size is known")

    try:
        plugins.read(format, raw, check)
    except ImageTooLargeError:
        if not found:
            raise
    return found[0]


class _Decoded(NamedTuple):
    """A decoded file.

    format      by Pillow's name
    samples     [H, W, C]
    pixel_tags  metadata that pixels depend on
    tags        other metadata that only the decoder finds, not the ledger
    trailing    bytes behind the end that only the decoder finds
    """

    format: str
    mode: str
    samples: np.ndarray
    pixel_tags: Tags
    tags: Tags = {}  # noqa: RUF012
    trailing: int = 0


def _decode(raw: bytes, max_pixels: int | None, first: bool) -> _Decoded:
    if raw.startswith(png.PNG_SIGNATURE):
        _check_size(png.read_size(raw), max_pixels)
        return _Decoded("PNG", *png.read(raw, first=first))
    if raw[:2] in _PNM:
        head = pnm.read_header(raw)
        _check_size((head.width, head.height), max_pixels)
        if not first:
            _refuse_frames(1 + count_further(raw, pnm.end_of_samples(raw, head)))
        samples = pnm.read(raw, head)
        maximum = pnm.maximum_tag(head, samples)
        return _Decoded("PPM", head.mode, samples, {} if maximum is None else {Tag.MAXIMUM: maximum})
    if header := bmp.find_masked(raw):
        _check_size((header.width, header.height), max_pixels)
        samples = bmp.read(raw, header)
        return _Decoded("DIB" if header.bare else "BMP", "RGB" if samples.shape[2] == 3 else "RGBA", samples, {})
    if raw[:2] in _OTHER_PNM:
        raise UnsupportedImageError(f"{_OTHER_PNM[raw[:2]]} is not supported")
    if plugin := plugins.sniff(raw):
        picture = plugins.read(plugin, raw, lambda size: _check_size(size, max_pixels))
        _refuse_frames(1 if first else picture.frames)
        return _Decoded(plugin, picture.mode, picture.samples, {}, picture.tags, picture.trailing)
    if tiff16.is_high_depth(raw):
        width, height, pages = tiff16.read_size(raw)
        _check_size((width, height), max_pixels)
        _refuse_frames(1 if first else pages)
        with pillow_errors("TIFF"):
            return _Decoded("TIFF", *tiff16.read(raw), {})
    return _decode_with_pillow(raw, max_pixels, first)


def _decode_with_pillow(raw: bytes, max_pixels: int | None, first: bool) -> _Decoded:
    from PIL import Image

    with _open(raw) as image:
        format = image.format or ""
        _check_size(image.size, max_pixels)
        exactness.refuse_high_depth(format, raw)
        with pillow_errors(format or "image"):
            frames = getattr(image, "n_frames", 1)  # GIF, TIFF: reads the whole file, which may be damaged
            if hasattr(image, "_tile_size"):  # TIFF: allocate here, because Pillow would apply its own limit of pixels
                image.im = Image.core.new(image.mode, image._tile_size)
        _refuse_frames(1 if first else frames)
        mode, samples = _samples_of(image)
        return _Decoded(format, mode, samples, pixel_tags_from_info(image, mode))


def bytes_of(source: Any) -> bytes:
    """All bytes of a path, of an open file from its start, or of a bytes-like object.

    Raises ImageReadError if there are none.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            raw = file.read()
    elif isinstance(source, bytes | bytearray | memoryview):
        raw = bytes(source)
    else:
        try:
            source.seek(0)  # as Pillow does, because the position of a file that was just written is its end
        except (AttributeError, OSError):
            pass  # a pipe: read the rest of it
        raw = source.read()
    if not raw:
        raise ImageReadError("the file is empty")
    return raw


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    if max_pixels is not None and math.prod(size) > max_pixels:
        raise ImageTooLargeError(f"the image has {size[0]}x{size[1]} pixels, the limit is {max_pixels}")


_open_lock = threading.Lock()


def _open(raw: bytes) -> Any:
    """Pillow's image object, with only the header read.  Raises ImageReadError if no format recognises the bytes.

    Image.open would apply Pillow's own limit of pixels, a global variable that other threads may rely on.  Therefore
    the plugins are called directly, and ``read`` checks the size before decoding.  Some plugins apply the limit when
    they open a file: their warning is silenced, under a lock because warning filters are global too, and their error
    (WebP beyond DEFAULT_MAX_PIXELS) becomes ImageTooLargeError.
    """
    import importlib

    from PIL import Image

    for module in ("Jpeg", "Tiff", "Bmp", "Gif", "WebP", "Jpeg2K", "Qoi", "Sgi", "Pcx", "Avif", "Tga"):
        importlib.import_module(f"PIL.{module}ImagePlugin")
    reasons = []
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _READABLE:
            factory, accept = Image.OPEN.get(name, (None, None))
            known: bool | str = False  # whether the magic bytes are those of the format
            try:
                with pillow_errors(name):
                    known = accept is not None and accept(raw[:16])
                    if (known is True or accept is None) and factory is not None:
                        return factory(io.BytesIO(raw), "")
            except ImageReadError as error:
                if known:  # report the error of the format that recognised the file
                    reasons.append(str(error))
            if isinstance(known, str):  # the reason why Pillow cannot read it: a library is missing
                reasons.append(known)
    raise ImageReadError("; ".join(reasons) or "not an image of a known format")


@contextmanager
def pillow_errors(what: str) -> Iterator[None]:
    """Within the block, anything that a decoder raises about damaged bytes becomes ImageReadError."""
    from PIL import Image

    try:
        yield
    except (GmcError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(str(error)) from error
    except Exception as error:  # plugins raise nearly every built-in exception on damaged files
        raise ImageReadError(f"{what}: {error or type(error).__name__}") from error
