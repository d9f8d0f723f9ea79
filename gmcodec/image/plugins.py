# SPDX-License-Identifier: MIT
"""HEIC and JPEG XL, which Pillow cannot read: decoders of other packages, loaded when a file needs them.

    pip install "gmcodec[heif]"   pillow-heif (libheif)
    pip install "gmcodec[jxl]"    pillow-jxl-plugin (libjxl); colour of more than 8 bits also needs imagecodecs

Samples of more than 8 bits are never rounded.  Those of 9 to 15 bits are scaled to 16 bits and to the nearest number,
as PNG recommends.  Their upper bits are then the original ones, and SIGNIFICANT_BITS is the number of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gmcodec.errors import GmcError, ImageReadError, UnsupportedImageError
from gmcodec.image.ledger.jxl import JXL_SIGNATURE, codestream
from gmcodec.image.ledger.jxl_header import Extra, Header, read_header
from gmcodec.image.metadata import Tag, Tags

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_MODES_BY_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

Check = Callable[[tuple[int, int]], None]  # called with width and height before decoding; it may raise


class Picture(NamedTuple):
    """The decoded primary picture of a file.

    mode      a key of ``modes.MODES``
    samples   [H, W, C], uint16 for modes of 16 bits, else uint8
    frames    number of pictures in the file
    tags      metadata that only the decoder finds, not the ledger: an ICC profile, SIGNIFICANT_BITS
    trailing  bytes behind the end of the codestream, which only decoding finds
    """

    mode: str
    samples: np.ndarray
    frames: int
    tags: Tags
    trailing: int = 0


def sniff(raw: bytes) -> str | None:
    """The format by the magic bytes: "HEIF", "JXL", or None for all others, AVIF included."""
    if raw.startswith((b"\xff\x0a", JXL_SIGNATURE)):
        return "JXL"
    if raw[4:8] == b"ftyp":
        size = min(max(int.from_bytes(raw[:4], "big"), 16), 256)
        others = {raw[at : at + 4] for at in range(16, min(size, len(raw)), 4)}
        if raw[8:12] in _HEIC_BRANDS and not _AVIF_BRANDS & others:
            return "HEIF"
    return None


def read(format: str, raw: bytes, check: Check) -> Picture:
    """Decode a file of the format that ``sniff`` found.  Raises as ``open_heif`` and ``open_jxl`` do."""
    return (open_heif if format == "HEIF" else open_jxl)(raw, check)


def _scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Integers of 9 to 16 ``bits``, scaled to the nearest ones of 16 bits."""
    top = (1 << bits) - 1
    return ((samples.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)


def _rescaled(samples: np.ndarray, bits: list[int]) -> np.ndarray:
    """Correct integers of 16 bits that a decoder scaled from ``bits`` of each channel, with errors of one."""
    channels = [(samples[..., i] * ((1 << b) - 1.0) / 65535).round() for i, b in enumerate(bits)]
    return np.stack([_scaled(channel, b) for channel, b in zip(channels, bits, strict=True)], axis=2)


def _picture(samples: np.ndarray, frames: int, bits: list[int], tags: Tags, trailing: int = 0) -> Picture:
    """A picture from samples [H, W, C] whose channels had these ``bits`` in the file."""
    channels = samples.shape[2]
    high_depth = samples.dtype == np.uint16
    mode = (
        (_MODES_BY_CHANNELS[channels] + ";16" if channels > 1 else "I;16")
        if high_depth
        else _MODES_BY_CHANNELS[channels]
    )
    full = 16 if high_depth else 8
    if any(b < full for b in bits):
        tags = tags | {Tag.SIGNIFICANT_BITS: bytes(min(b, full) for b in bits)}
    return Picture(mode, samples, frames, tags, trailing)


# -- HEIC ------------------------------------------------------------------------------------------------


def open_heif(raw: bytes, check: Check | None = None) -> Picture:
    """Decode the primary picture of a HEIC file, rotated and cropped as the file says.

    Raises UnsupportedImageError if pillow-heif is missing or the picture cannot be kept exactly, ImageReadError for
    damaged files.
    """
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedImageError('HEIC files need pillow-heif: pip install "gmcodec[heif]"') from None
    try:
        file = pillow_heif.open_heif(raw, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if check:
            check(file.size)
        image: Any = file[file.primary_index]
        frames = len(file)
        kind, _, depth = image.mode.partition(";")
        if "a" in kind:
            raise UnsupportedImageError("HEIC with colours multiplied by alpha: dividing would round them")
        bits = int(image.info.get("bit_depth", 8))
        samples = np.asarray(image)
    except (GmcError, MemoryError):
        raise
    except Exception as error:  # pillow-heif raises nearly every built-in exception
        raise ImageReadError(f"HEIF: {error or type(error).__name__}") from error
    if kind not in ("L", "LA", "I", "RGB", "RGBA") or bits > 16:
        raise UnsupportedImageError(f"HEIC of mode {image.mode} is not supported")
    samples = samples.reshape(*samples.shape[:2], -1)
    if depth:
        samples = _scaled(samples, int(depth) if depth.isdigit() else 16)
    return _picture(samples, frames, [bits] * samples.shape[2], {})


# -- JPEG XL ---------------------------------------------------------------------------------------------


def open_jxl(raw: bytes, check: Check | None = None) -> Picture:
    """Decode a JPEG XL file, rotated as its codestream says.

    Raises UnsupportedImageError if pillow-jxl-plugin is missing or the picture cannot be kept exactly (animations,
    floating point, ...), ImageReadError for damaged files.
    """
    stream = codestream(raw)
    header = read_header(stream)
    if header is None:
        raise ImageReadError("JXL: there is no codestream, or it is truncated")
    _refuse(header)
    if check:
        check((header.width, header.height))
    decode = _jxl_decoder()
    info, data, icc = decode(
        stream
    )  # without boxes: with the box that rebuilds a JPEG the decoder would return that file
    bits = [header.bits] * (1 if header.grey else 3) + [channel.bits for channel in _alphas(header)[:1]]
    samples = _jxl_samples(stream, bits, info, data)
    tags: Tags = {Tag.ICC: bytes(icc)} if icc and not header.cicp else {}
    return _picture(samples, 1, bits, tags, _trailing(raw, decode) if stream is raw else 0)


def _trailing(stream: bytes, decode: Callable[[bytes], Any]) -> int:
    """Number of bytes behind the end of a bare codestream, which is the shortest beginning that decodes."""

    def complete(length: int) -> bool:
        try:
            decode(stream[:length])
        except ImageReadError:
            return False
        return True

    low, high = 0, len(stream)  # low < end <= high
    if not complete(high - 1):  # true of nearly every file
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if complete(middle) else (middle, high)
    return len(stream) - high


def _alphas(header: Header) -> list[Extra]:
    return [channel for channel in header.extra if channel.kind == 0]


def _refuse(header: Header) -> None:
    alphas = _alphas(header)
    if header.animated:
        raise UnsupportedImageError("animated JPEG XL: only single images are supported")
    if header.floating or any(channel.floating for channel in alphas):
        raise UnsupportedImageError("JPEG XL with floating-point samples")
    if max([header.bits, *(channel.bits for channel in alphas)]) > 16:
        raise UnsupportedImageError(f"JPEG XL with {header.bits} bits per sample")
    if any(channel.premultiplied for channel in alphas):
        raise UnsupportedImageError("JPEG XL with colours multiplied by alpha: dividing would round them")
    if any(channel.kind == 4 for channel in header.extra):
        raise UnsupportedImageError("JPEG XL in CMYK")


def _jxl_decoder() -> Callable[[bytes], tuple[Any, bytes, bytes]]:
    """A function that decodes a codestream to information about it, its samples and its ICC profile."""
    try:
        # This import adds JPEG XL to Pillow's formats.  It must not be removed from them, because a program may import
        # the plugin for that purpose, and Python runs a module only once.
        from pillow_jxl import Decoder
    except ImportError:
        raise UnsupportedImageError('JPEG XL files need pillow-jxl-plugin: pip install "gmcodec[jxl]"') from None

    def decode(stream: bytes) -> tuple[Any, bytes, bytes]:
        try:
            _, info, data, icc, _ = Decoder(num_threads=0)(stream)
        except MemoryError:
            raise
        except Exception as error:
            raise ImageReadError("JXL: the codestream is damaged or truncated") from error
        return info, data, icc

    return decode


def _jxl_samples(stream: bytes, bits: list[int], info: Any, data: bytes) -> np.ndarray:
    """Samples [H, W, C] whose channels have these ``bits``; the plugin has rounded colour of more than 8 bits."""
    shape = (int(info.height), int(info.width), len(bits))
    size = shape[0] * shape[1] * shape[2]
    high_depth = max(bits) > 8
    if len(data) == 2 * size and high_depth:
        return _rescaled(np.frombuffer(data, "<u2").reshape(shape), bits)
    if len(data) == size and not high_depth:
        return np.frombuffer(data, np.uint8).reshape(shape)
    try:
        import imagecodecs

        samples = imagecodecs.jpegxl_decode(stream).reshape(shape)
    except ImportError:
        text = "JPEG XL colour of more than 8 bits needs imagecodecs: pip install imagecodecs"
        raise UnsupportedImageError(text) from None
    except Exception as error:
        raise ImageReadError(f"JXL: {error}") from error
    if samples.dtype != np.uint16 or len({*bits}) > 1:
        raise UnsupportedImageError(f"JPEG XL with {bits} bits in its channels is not supported")
    return _scaled(samples, bits[0])  # imagecodecs returns the unscaled numbers of the file
