# SPDX-License-Identifier: MIT
"""Image files, Pillow images and numpy arrays <-> ``Planes``: exact integer samples and metadata.

    file   --read-->        Planes  --write, write_png-->  file      every function here keeps each
    Pillow --from_image-->  Planes  --to_image-->          Pillow    sample and what it means, or raises
    array  --from_array-->  Planes  --to_array-->          array     UnsupportedImageError, saying why

Samples are kept as decoded: 1-bit stays 1-bit, palette indices stay indices, colour under zero alpha stays,
an EXIF orientation is not applied. (Grey PNG of 2 and 4 bits is widened to 8 bits, as every reader does;
Pillow applies a TIFF's orientation when it decodes. JPEG, AVIF: what the decoder gives is what is kept.)
Metadata is described in ``metadata.py``, PNG in ``png16.py``.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from gmcodec import png16
from gmcodec.errors import (
    GmcError,
    ImageReadError,
    ImageTooLargeError,
    UnsupportedImageError,
)
from gmcodec.metadata import MEANING, Tag, find_dropped, from_info, pack, strip_tags, to_info, unpack

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("gmcodec")

DEFAULT_MAX_PIXELS = 178_956_970  # where Pillow, too, turns from a warning to an error


@dataclass(frozen=True)
class Mode:
    """A kind of image: permanent id, samples per pixel, bits per sample (1, 8 or 16)."""

    id: int
    name: str
    channels: int
    depth: int


# ids are part of the file format: append only, never renumber, never reuse
MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(1, "1", 1, 1),
        Mode(2, "L", 1, 8),
        Mode(3, "LA", 2, 8),
        Mode(4, "P", 1, 8),
        Mode(5, "RGB", 3, 8),
        Mode(6, "RGBA", 4, 8),
        Mode(7, "I;16", 1, 16),
        Mode(8, "LA;16", 2, 16),
        Mode(9, "RGB;16", 3, 16),
        Mode(10, "RGBA;16", 4, 16),
    )
}
_ARRAY_MODES = {8: ("L", "LA", "RGB", "RGBA"), 16: ("I;16", "LA;16", "RGB;16", "RGBA;16")}
_PILLOW_MODES = {name: name for name in ("1", "L", "LA", "P", "RGB", "RGBA")} | {
    name: "I;16" for name in ("I;16", "I;16L", "I;16B", "I;16N")
}


@dataclass(frozen=True, eq=False)
class Planes:
    """An image as integers.

    data      [C, H, W], C-contiguous; uint8, or uint16 where the mode has 16 bits;
              mode "1": 0 or 1; "P": palette indices
    mode      a key of MODES
    metadata  (permanent tag, bytes) sorted by tag, see ``metadata.py``

    Raises UnsupportedImageError when data does not fit the mode. Equal when all three are equal.
    """

    data: np.ndarray
    mode: str
    metadata: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnsupportedImageError(f"unknown mode {self.mode!r}")
        dtype = np.dtype(np.uint16 if self.depth == 16 else np.uint8)
        data = self.data
        if data.dtype != dtype or data.ndim != 3 or data.shape[0] != MODES[self.mode].channels or not data.size:
            raise UnsupportedImageError(f"{data.dtype} {list(data.shape)} is no image of mode {self.mode}")
        if self.mode == "1" and data.max() > 1:
            raise UnsupportedImageError("an image of mode 1 holds values other than 0 and 1")
        if not data.flags.c_contiguous:
            object.__setattr__(self, "data", np.ascontiguousarray(data))

    @property
    def channels(self) -> int:
        return int(self.data.shape[0])

    @property
    def height(self) -> int:
        return int(self.data.shape[1])

    @property
    def width(self) -> int:
        return int(self.data.shape[2])

    @property
    def depth(self) -> int:
        """Bits per sample: 1, 8 or 16."""
        return MODES[self.mode].depth

    @property
    def dimensions(self) -> int:
        """Samples in all: the denominator of bits per dimension."""
        return int(self.data.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Planes):
            return NotImplemented
        same = (self.mode, self.metadata) == (other.mode, other.metadata)
        return same and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]


# --- arrays ---------------------------------------------


def from_array(array: np.ndarray) -> Planes:
    """uint8 or uint16 [H, W] or [H, W, C], C = 1 to 4 (grey, grey+alpha, RGB, RGBA) -> Planes (a copy).

    Raises UnsupportedImageError for any other dtype or shape, empty arrays included.
    """
    array = np.asarray(array)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise UnsupportedImageError(f"arrays must be uint8 or uint16, not {array.dtype}")
    hwc = array[:, :, None] if array.ndim == 2 else array
    if hwc.ndim != 3 or not hwc.size or hwc.shape[2] > 4:
        raise UnsupportedImageError(f"arrays must be [H, W] or [H, W, 1 to 4] and not empty, not {list(array.shape)}")
    depth = 8 * array.dtype.itemsize
    return _planes(hwc, _ARRAY_MODES[depth][hwc.shape[2] - 1])


def to_array(planes: Planes) -> np.ndarray:
    """Inverse of ``from_array`` (a copy): [H, W] for one channel, else [H, W, C]; no palette is applied."""
    return (planes.data[0] if planes.channels == 1 else planes.data.transpose(1, 2, 0)).copy()


def _planes(hwc: np.ndarray, mode: str, metadata: tuple[tuple[int, bytes], ...] = ()) -> Planes:
    dtype = np.uint16 if MODES[mode].depth == 16 else np.uint8
    return Planes(np.array(hwc.transpose(2, 0, 1), dtype=dtype, order="C"), mode, metadata)


# --- Pillow images ---------------------------------------------


def from_image(image: Image.Image, *, strip: bool = False) -> Planes:
    """A Pillow image -> Planes.

    What Pillow has already rounded or dropped cannot be seen here: ``read`` the file where there is one.
    Raises UnsupportedImageError for modes that are not kept exactly and for several frames (``copy()`` the
    frame you want), ImageReadError when an image opened lazily turns out to be damaged.
    """
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise UnsupportedImageError(f"the image has {frames} frames or pages; only single images are supported")
    _refuse_inexact(image)
    with _pillow_errors(image.format or "image"):
        image.load()
    mode = _PILLOW_MODES.get(image.mode)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        mode = "I;16"  # 16-bit grey of these formats, in the form Pillow holds it in
    if mode is None:
        raise UnsupportedImageError(f"images of mode {image.mode} are not supported; convert to one of {[*MODES]}")
    if not image.width or not image.height:
        raise UnsupportedImageError(f"empty image, {image.width}x{image.height}")
    tags = from_info(image, mode)
    if not strip and (dropped := find_dropped(image)):
        log.warning("%s: not kept: %s", image.format, ", ".join(dropped))
    samples = np.asarray(image).reshape(image.height, image.width, -1)
    return _planes(samples, mode, pack(strip_tags(tags) if strip else tags))


def to_image(planes: Planes) -> Image.Image:
    """Planes -> a Pillow image; transparency, ICC, EXIF, XMP, text, DPI, gamma in their usual places in info.

    Raises UnsupportedImageError for 16-bit colour, which Pillow cannot hold; GmcFormatError for malformed
    metadata.
    """
    image = _bare_image(planes)
    image.info.update(to_info(unpack(planes.metadata, planes.mode), planes.mode))
    return image


def _bare_image(planes: Planes) -> Image.Image:
    """Samples and palette only."""
    from PIL import Image

    mode = planes.mode
    if planes.depth == 16 and mode != "I;16":
        raise UnsupportedImageError(f'Pillow cannot hold {mode} images; use to_array, or write(planes, "PNG")')
    samples = to_array(planes)
    if mode == "1":
        samples = np.packbits(samples, axis=1)
    elif mode == "I;16":
        samples = samples.astype("<u2")
    image = Image.frombytes(mode, (planes.width, planes.height), samples.tobytes())
    palette = unpack(planes.metadata, mode).get(Tag.PALETTE)
    if palette:
        image.putpalette(palette)
    return image


# --- files ---------------------------------------------

# Formats whose precision is understood below, in the order they are tried (TGA has no magic bytes).
_READABLE = (
    "JPEG",
    "TIFF",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "WEBP",
    "JPEG2000",
    "QOI",
    "SGI",
    "PCX",
    "AVIF",
    "TGA",
)


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    strip: bool = False,
) -> Planes:
    """An image file -> Planes.

    max_pixels  refuse larger images from their header (ImageTooLargeError); None lifts the limit
    strip       drop all metadata but palette and transparency

    Raises ImageReadError for damaged, empty and unknown files, UnsupportedImageError for what cannot be
    kept exactly (several frames, CMYK, more than 8 bits that Pillow would round, ...), OSError when the
    file cannot be opened.
    """
    from PIL import Image

    raw = _bytes_of(source)
    if raw.startswith(png16.SIGNATURE):
        _check_size(png16.read_size(raw), max_pixels)
        mode, samples, tags = png16.read(raw)
        return _planes(samples, mode, pack(strip_tags(tags) if strip else tags))
    with _open(raw) as image:
        _check_size(image.size, max_pixels)
        _refuse_deep(image.format or "", raw)
        with _pillow_errors(image.format or "image"):
            getattr(image, "n_frames", 1)  # GIF, TIFF: walks the file, which may be damaged
            if hasattr(image, "_tile_size"):  # TIFF: Pillow's own limit applies when decoding allocates,
                image.im = Image.core.new(image.mode, image._tile_size)  # so allocate first
        return from_image(image, strip=strip)


def write_png(planes: Planes) -> bytes:
    """Planes of any mode -> PNG bytes, metadata included; ``read`` of them gives equal Planes.

    (Except: DPI that did not come from a PNG becomes the nearest number of pixels per metre.)
    Raises GmcFormatError for malformed metadata.
    """
    return png16.write(planes.mode, planes.data, unpack(planes.metadata, planes.mode))


_WRITABLE = {
    "TIFF": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    "PPM": {"1", "L", "RGB", "I;16"},
    "BMP": {"1", "L", "P", "RGB"},
    "WEBP": {"RGB", "RGBA"},
}
_ALIASES = {"TIF": "TIFF", "PBM": "PPM", "PGM": "PPM", "PNM": "PPM"}
_DPI = {Tag.DENSITY, Tag.DPI}
_KEEPS = {"TIFF": {Tag.ICC} | _DPI, "PPM": set(), "BMP": _DPI, "WEBP": {Tag.ICC, Tag.EXIF, Tag.XMP}}


def write(planes: Planes, format: str) -> bytes:
    """Planes -> the bytes of a lossless file: "PNG", "TIFF", "PPM" (PBM, PGM), "BMP" or "WEBP".

    Metadata that the format cannot hold is dropped with a warning in the log "gmcodec". Other than PNG, the
    file is read back and compared.
    Raises UnsupportedImageError when the format cannot hold the mode, the transparency or the pixels exactly.
    """
    name = format.upper().lstrip(".")
    name = _ALIASES.get(name, name)
    if name == "PNG":
        return write_png(planes)
    if name not in _WRITABLE:
        raise UnsupportedImageError(f"cannot write {format}; lossless formats are PNG, {', '.join(_WRITABLE)}")
    if planes.mode not in _WRITABLE[name]:
        raise UnsupportedImageError(f"{name} cannot hold {planes.mode} images exactly; use PNG")
    tags = unpack(planes.metadata, planes.mode)
    if Tag.TRANSPARENCY in tags:
        raise UnsupportedImageError(f"{name} cannot hold the transparency of this {planes.mode} image; use PNG")
    kept = {tag: value for tag, value in tags.items() if tag in _KEEPS[name]}
    dropped = [tag.name for tag in tags if tag not in kept and tag not in MEANING]
    out = io.BytesIO()
    try:
        _bare_image(planes).save(out, name, **_save_options(name, to_info(kept, planes.mode)))
        again = read(out.getvalue(), max_pixels=None)
    except (
        GmcError,
        OSError,
        ValueError,
        RuntimeError,
        OverflowError,
    ) as error:  # e.g. the format's largest width
        raise UnsupportedImageError(f"{name} cannot hold this image: {error}") from error
    if again.mode != planes.mode or not np.array_equal(again.data, planes.data):
        raise UnsupportedImageError(f"{name} does not give back the same pixels; use PNG")
    if planes.mode == "P":
        before, after = (unpack(p.metadata, "P").get(Tag.PALETTE, b"") for p in (planes, again))
        if not after.startswith(before):  # these formats pad the palette to its full size
            raise UnsupportedImageError(f"{name} does not give back the same palette; use PNG")
    if dropped:
        log.warning("%s cannot hold this metadata, dropped: %s", name, ", ".join(dropped))
    return out.getvalue()


def _save_options(name: str, info: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {key: info[key] for key in ("icc_profile", "exif", "xmp", "dpi") if key in info}
    if name == "WEBP":
        options |= {"lossless": True, "exact": True, "quality": 100}
    if name == "TIFF":
        options |= {"compression": "tiff_adobe_deflate"}
    return options


def _bytes_of(source: Any) -> bytes:
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            raw = file.read()
    else:
        raw = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else source.read()
    if not raw:
        raise ImageReadError("the file is empty")
    return raw


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    if max_pixels is not None and math.prod(size) > max_pixels:
        raise ImageTooLargeError(f"the image has {size[0]}x{size[1]} pixels, the limit is {max_pixels}")


_open_lock = threading.Lock()


def _open(raw: bytes) -> Any:
    """Pillow's image object with only the header read; ImageReadError when no format recognises it.

    Image.open would apply Pillow's own pixel limit. That is a module global other threads may rely on, so it
    is left alone: the plugins are asked directly and ``read`` checks the size before decoding. Some plugins
    apply the limit themselves while opening; their warning is silenced, under a lock since warning filters
    are global too, and their error (WebP beyond DEFAULT_MAX_PIXELS) becomes ImageTooLargeError.
    """
    import importlib

    from PIL import Image

    for module in ("Jpeg", "Tiff", "Bmp", "Gif", "Ppm", "WebP", "Jpeg2K", "Qoi", "Sgi", "Pcx", "Avif", "Tga"):
        importlib.import_module(f"PIL.{module}ImagePlugin")
    reasons = []
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for name in _READABLE:
            factory, accept = Image.OPEN.get(name, (None, None))
            known: bool | str = False  # by its magic bytes
            try:
                with _pillow_errors(name):
                    known = accept is not None and accept(raw[:16])
                    if (known is True or accept is None) and factory is not None:
                        return factory(io.BytesIO(raw), "")
            except ImageReadError as error:
                if known:  # its complaint is the one to report
                    reasons.append(str(error))
            if isinstance(known, str):  # its library is missing
                reasons.append(known)
    raise ImageReadError("; ".join(reasons) or "not an image of a known format")


@contextmanager
def _pillow_errors(what: str) -> Iterator[None]:
    """Whatever a decoder raises about damaged bytes becomes ImageReadError."""
    from PIL import Image

    try:
        yield
    except (GmcError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(str(error)) from error
    except Exception as error:  # plugins raise nearly every built-in exception on damaged files
        raise ImageReadError(f"{what}: {error or type(error).__name__}") from error


# --- what Pillow would round or drop without saying so ---------------------------------------------


def _refuse_inexact(image: Any) -> None:
    """UnsupportedImageError for an image, opened but not decoded, that would be rounded by its ``tile``."""
    for tile in getattr(image, "tile", ()):
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if not image.mode.startswith("I;16") and image.mode != "I" and re.search(r";16[BLNRS]|SGI16", f"{tile}"):
            raise UnsupportedImageError(f"16-bit {image.format} of mode {image.mode}: Pillow would round it to 8 bits")
        plain = tile.codec_name == "ppm_plain" and image.mode != "1"
        if tile.codec_name == "ppm" or (plain and args[-1] != (65535 if image.mode == "I" else 255)):
            raise UnsupportedImageError(f"PPM with maximum {args[-1]}: Pillow would rescale it to 8 or 16 bits")
    if image.format == "TIFF" and getattr(image, "tag_v2", None) is not None:
        _refuse_inexact_tiff(image.tag_v2, image)


def _refuse_inexact_tiff(tags: Any, image: Any) -> None:
    bits, extra = tags.get(258, (1,)), tags.get(338, ())
    photometric = tags.get(262, 1)
    if set(tags.get(339, (1,))) != {1}:
        raise UnsupportedImageError("TIFF with signed or floating-point samples")
    if max(bits) > 8 and (image.mode not in ("I;16", "I;16B") or bits != (16,) or photometric == 0):
        raise UnsupportedImageError(f"TIFF with {bits} bits per sample (photometric {photometric}) is not kept exactly")
    if 1 in extra or len(extra) > 1 or (extra and image.mode not in ("LA", "RGBA", "PA")):
        raise UnsupportedImageError(
            f"TIFF with extra samples {extra}: Pillow would drop or divide by the alpha channel"
        )
    if image.mode == "P" and any(v not in ((v >> 8) * 257, v >> 8 << 8) for v in tags.get(320, ())):
        raise UnsupportedImageError("TIFF with a 16-bit colour map: Pillow would round it to 8 bits")


def _refuse_deep(format: str, raw: bytes) -> None:
    """AVIF and JPEG 2000 of other than 8 bits (or 16-bit grey), which Pillow rescales; cut JPEG 2000."""
    if format == "AVIF":
        boxes = [match.end() for match in re.finditer(b"av1C", raw[: 1 << 20])]
        if any(raw[at + 2 : at + 3] and raw[at + 2] & 0x60 for at in boxes):  # high_bitdepth, twelve_bit
            raise UnsupportedImageError("AVIF with more than 8 bits per sample: Pillow would round it")
    if format == "JPEG2000":
        at = raw.find(b"\xff\x4f\xff\x51")
        if raw.find(b"\xff\xd9", at + 2) < 0:  # OpenJPEG gives zeros for a stream cut before its first tile
            raise ImageReadError("JPEG 2000: truncated, the end of its codestream is missing")
        count = int.from_bytes(raw[at + 40 : at + 42], "big") if at >= 0 else 0
        depths = {depth + 1 for depth in raw[at + 42 : at + 42 + 3 * count : 3]}  # above 128: signed
        if depths != {8} and not (count == 1 and depths == {16}):
            raise UnsupportedImageError(f"JPEG 2000 with {sorted(depths)} bits per sample is not kept exactly")
