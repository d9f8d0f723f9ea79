# SPDX-License-Identifier: MIT
"""The competitors: other lossless codecs, through maintained packages and with settings for small files.

Every function imports its package itself, so that no codec's memory includes another's package, and packages may be
missing.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from gmcodec.bench.codecs import Codec, Compressed, EncodeDecode
from gmcodec.errors import UnsupportedImageError


def _plain(encode: Callable[[np.ndarray], Any], decode: Callable[[bytes], Any]) -> EncodeDecode:
    return lambda image: Compressed(bytes(encode(image))), lambda data: np.asarray(decode(data))


def _plain_8_bits(encode: Callable[[np.ndarray], Any], decode: Callable[[bytes], Any]) -> EncodeDecode:
    """For formats of 8 bits: 16 bits are refused, because some packages would round without an error."""

    def checked(image: np.ndarray) -> Any:
        if image.itemsize > 1:
            raise UnsupportedImageError("the format holds 8 bits a sample")
        return encode(image)

    return _plain(checked, decode)


# -- Pillow, and packages that read or write Pillow's images ----------------------------------------------------


def _save(image: np.ndarray, format: str, **options: Any) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(image).save(out, format, **options)
    return out.getvalue()


def _open(data: bytes) -> np.ndarray:
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    if image.mode == "P":  # an optimiser may have introduced a palette
        return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    return np.asarray(image.convert("L") if image.mode == "1" else image)


def _png(threads: int) -> EncodeDecode:
    return _plain(lambda image: _save(image, "PNG", optimize=True), _open)


def _webp(threads: int) -> EncodeDecode:
    options = {"lossless": True, "quality": 100, "method": 6, "exact": True}
    return _plain_8_bits(lambda image: _save(image, "WEBP", **options), _open)


def _oxipng(zopfli: bool) -> Callable[[int], EncodeDecode]:
    def open_codec(threads: int) -> EncodeDecode:
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # oxipng reads it once, when its thread pool starts
        import oxipng

        options: dict[str, Any] = {"deflate": oxipng.Deflaters.zopfli(15)} if zopfli else {}

        def encode(image: np.ndarray) -> bytes:
            # without this oxipng may reduce 16 bits to 8, and the decoded array would differ
            keep: dict[str, Any] = {"bit_depth_reduction": False} if image.itemsize == 2 else {}
            return oxipng.optimize_from_memory(_save(image, "PNG", compress_level=1), level=6, **options, **keep)

        return _plain(encode, _open)

    return open_codec


def _heif(threads: int) -> EncodeDecode:
    import pillow_heif

    if not pillow_heif.libheif_info()["HEIF"]:
        raise ImportError("this build of pillow-heif has no HEVC encoder")

    def encode(image: np.ndarray) -> bytes:
        from PIL import Image

        out = io.BytesIO()
        heif = pillow_heif.from_pillow(Image.fromarray(image))
        heif.save(out, quality=-1, chroma="444", matrix_coefficients=0)
        return out.getvalue()

    return _plain_8_bits(encode, lambda data: pillow_heif.open_heif(io.BytesIO(data)).to_pillow())


# -- imagecodecs ------------------------------------------------------------------------------------------------


def _imagecodecs(name: str) -> Any:
    import imagecodecs

    if not getattr(imagecodecs, name).available:
        raise ImportError(f"this build of imagecodecs has no {name}")
    return imagecodecs


def _jpeg_xl(effort: int) -> Callable[[int], EncodeDecode]:
    def open_codec(threads: int) -> EncodeDecode:
        package = _imagecodecs("JPEGXL")
        return _plain(
            lambda image: package.jpegxl_encode(image, lossless=True, effort=effort, numthreads=threads),
            lambda data: package.jpegxl_decode(data, numthreads=threads),
        )

    return open_codec


def _jpeg_xl_groups(effort: int) -> Callable[[int], EncodeDecode]:
    def open_codec(threads: int) -> EncodeDecode:
        package = _imagecodecs("JPEGXL")
        from gmcodec.bench.libjxl import Encoder

        encoder = Encoder(effort, group_size=3, previous_channels=3, threads=threads)
        return _plain(encoder.encode, lambda data: package.jpegxl_decode(data, numthreads=threads))

    return open_codec


def _jpeg_2000(threads: int) -> EncodeDecode:
    package = _imagecodecs("JPEG2K")
    options = {"level": 0, "reversible": True, "mct": True, "codecformat": "j2k", "numthreads": threads}
    return _plain(
        lambda image: package.jpeg2k_encode(image, **options),
        lambda data: package.jpeg2k_decode(data, numthreads=threads),
    )


def _avif(threads: int) -> EncodeDecode:
    package = _imagecodecs("AVIF")
    return _plain_8_bits(
        lambda image: package.avif_encode(image, level=100, speed=6, numthreads=threads),
        lambda data: package.avif_decode(data, numthreads=threads),
    )


def _qoi(threads: int) -> EncodeDecode:
    package = _imagecodecs("QOI")

    def encode(image: np.ndarray) -> bytes:
        # the format has no grey, so grey becomes three equal channels
        return package.qoi_encode(np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image)

    return _plain_8_bits(encode, package.qoi_decode)


# -- JPEG-LS, which has no colour transform of its own ------------------------------------------------------------


def subtract_green(image: np.ndarray) -> np.ndarray:
    """R - G + half, G, B - G + half, modulo the range of the dtype: transform 1 of HP's JPEG-LS, reversible."""
    return _shift_colours(image, -1)


def add_green(image: np.ndarray) -> np.ndarray:
    """Inverse of ``subtract_green``."""
    return _shift_colours(image, 1)


def _shift_colours(image: np.ndarray, sign: int) -> np.ndarray:
    if image.ndim == 2 or image.shape[2] < 3:
        return image
    half, out = 1 << (8 * image.itemsize - 1), image.astype(np.int64)
    out[..., [0, 2]] += sign * out[..., 1:2] + half
    return out.astype(image.dtype)  # wraps around


def _jpeg_ls(threads: int) -> EncodeDecode:
    """One JPEG-LS stream for each channel, preceded by its length: smaller than interleaved channels."""
    package = _imagecodecs("JPEGLS")

    def encode(image: np.ndarray) -> bytes:
        planes = np.atleast_3d(subtract_green(image)).transpose(2, 0, 1)
        streams = [bytes(package.jpegls_encode(np.ascontiguousarray(plane))) for plane in planes]
        return b"".join(struct.pack("<I", len(stream)) + stream for stream in streams)

    def decode(data: bytes) -> np.ndarray:
        planes = []
        while data:
            (size,) = struct.unpack_from("<I", data)
            planes.append(package.jpegls_decode(data[4 : 4 + size]))
            data = data[4 + size :]
        return planes[0] if len(planes) == 1 else add_green(np.stack(planes, axis=2))

    return _plain(encode, decode)


COMPETITORS = (
    Codec("PNG", "Pillow, optimize", _png, quick=True),
    Codec("PNG oxipng", "oxipng level 6", _oxipng(zopfli=False)),
    Codec("PNG oxipng zopfli", "oxipng level 6, zopfli of 15 iterations", _oxipng(zopfli=True), extra=True),
    Codec("WebP", "Pillow, lossless, quality 100, method 6, exact",
          _webp, quick=True),
    *(Codec(f"JPEG XL -e {effort}", f"imagecodecs, lossless, effort {effort}", _jpeg_xl(effort), quick=effort in (3, 7),
            extra=effort not in (3, 7, 9)) for effort in range(1, 10)),
    Codec("JPEG XL -e 9 -g 3 -E 3", "libjxl of imagecodecs through its C interface, lossless, effort 9, groups of "
          "1024 pixels, 3 previous channels as context", _jpeg_xl_groups(9)),
    Codec("JPEG XL -e 10 -g 3 -E 3", "the same, effort 10", _jpeg_xl_groups(10), extra=True),
    Codec("JPEG-LS subtract-green", "imagecodecs (CharLS), near 0, after R-G, G, B-G; a stream a channel",
          _jpeg_ls, quick=True),
    Codec("JPEG 2000", "imagecodecs (OpenJPEG), reversible wavelet and colour transform, bare codestream", _jpeg_2000),
    Codec("AVIF", "imagecodecs (libaom), quality 100, speed 6, 4:4:4, identity matrix", _avif),
    Codec("HEIF", "pillow-heif (x265), lossless, 4:4:4, identity matrix; it chooses its threads", _heif),
    Codec("QOI", "imagecodecs", _qoi, quick=True),
)  # fmt: skip
