# SPDX-License-Identifier: MIT
"""Exact, reversible filters that make samples easier for a byte compressor.  Each stands beside its inverse.

``to_stream``    planes -> the bytes to compress, by one of the filter kinds below
``pack_rows``    small samples -> bytes, 8 / bits samples in each, the first in the highest bits; rows start on a byte
``png_filter``   bytes -> PNG's five row filters; a row gets the kind with the least sum of absolute differences
``med_filter``   samples -> residual of the median edge detector (LOCO-I), folded to unsigned numbers

Paeth and MED decoding are sequential and run in the native core; the rest is vectorised.
"""

from __future__ import annotations

import numpy as np

from gmcodec import native
from gmcodec.arrays import UInt, UInt8
from gmcodec.errors import GmcFormatError

INTERLEAVED, PNG, MED, MED_GREEN, PLANAR = range(5)  # permanent: payloads hold them
PACKED_BITS = {0: 8, 1: 1, 2: 2, 3: 4}  # packing code -> bits per sample

_BAND = 1 << 20  # bytes filtered at a time, to bound the temporaries
_PAETH = 4  # the last kind of PNG


def to_stream(planes: UInt[np.ndarray, "C H W"], kind: int, packing: int) -> bytes:
    """Samples ``[C, H, W]`` -> the bytes to compress.

    ``kind`` is INTERLEAVED .. PLANAR, ``packing`` a code of ``PACKED_BITS`` (0 unless one plane of uint8).
    """
    channels, height, _ = planes.shape
    if kind in (INTERLEAVED, PNG):
        if channels == 1 and packing:
            rows = pack_rows(planes[0], PACKED_BITS[packing])
        else:
            pixels = np.ascontiguousarray(planes.transpose(1, 2, 0), dtype=planes.dtype.newbyteorder(">"))
            rows = pixels.view(np.uint8).reshape(height, -1)
        return (png_filter(rows, channels * planes.itemsize) if kind == PNG else rows).tobytes()
    if kind == MED_GREEN:
        planes = planes.copy()
        planes[0] -= planes[1]
        planes[2] -= planes[1]
    if kind != PLANAR:
        planes = med_filter(planes)
    if planes.itemsize == 1:
        return planes.tobytes()
    return (planes >> 8).astype(np.uint8).tobytes() + planes.astype(np.uint8).tobytes()


def stream_size(shape: tuple[int, int, int], depth: int, kind: int, packing: int) -> int:
    """The number of bytes that ``to_stream`` makes."""
    channels, height, width = shape
    row = (width * PACKED_BITS[packing] + 7) // 8 * channels * (2 if depth == 16 else 1)
    return height * (row + (kind == PNG))


def from_stream(
    stream: bytes, shape: tuple[int, int, int], depth: int, kind: int, packing: int
) -> UInt[np.ndarray, "C H W"]:
    """Inverse of ``to_stream``; ``stream`` has exactly ``stream_size`` bytes."""
    channels, height, width = shape
    itemsize = 2 if depth == 16 else 1
    data = np.frombuffer(stream, np.uint8)
    if kind in (INTERLEAVED, PNG):
        rows = data.reshape(height, -1)
        if kind == PNG:
            rows = png_unfilter(rows, channels * itemsize)
        if packing:
            return unpack_rows(rows, width, PACKED_BITS[packing]).reshape(shape).copy()
        pixels = np.ascontiguousarray(rows).view(">u2" if itemsize == 2 else np.uint8)
        planes = pixels.reshape(height, width, channels).transpose(2, 0, 1)
        return planes.astype(np.uint16 if itemsize == 2 else np.uint8, order="C")
    if itemsize == 2:
        high, low = data.reshape(2, *shape).astype(np.uint16)
        planes = high << 8 | low
    else:
        planes = data.reshape(shape).copy()
    if kind != PLANAR:
        planes = med_unfilter(planes)
    if kind == MED_GREEN:
        planes[0] += planes[1]
        planes[2] += planes[1]
    return planes


def pack_rows(samples: UInt8[np.ndarray, " ..."], bits: int) -> UInt8[np.ndarray, " ..."]:
    """uint8 ``[..., W]`` below ``2**bits``, bits 1, 2, 4 or 8 -> uint8 ``[..., ceil(W * bits / 8)]``."""
    if bits == 8:
        return samples
    if bits == 1:
        return np.packbits(samples, axis=-1)
    per_byte = 8 // bits
    missing = -samples.shape[-1] % per_byte
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, missing)])
    packed = np.zeros((*padded.shape[:-1], padded.shape[-1] // per_byte), np.uint8)
    for slot in range(per_byte):
        packed |= padded[..., slot::per_byte] << np.uint8(8 - bits * (slot + 1))
    return packed


def unpack_rows(packed: UInt8[np.ndarray, " ..."], width: int, bits: int) -> UInt8[np.ndarray, " ..."]:
    """Inverse of ``pack_rows``; ``packed`` has exactly the bytes that ``width`` samples need; padding is ignored."""
    if bits == 8:
        return packed
    if bits == 1:
        return np.unpackbits(packed, axis=-1, count=width)
    per_byte = 8 // bits
    samples = np.empty((*packed.shape[:-1], packed.shape[-1] * per_byte), np.uint8)
    for slot in range(per_byte):
        samples[..., slot::per_byte] = packed >> np.uint8(8 - bits * (slot + 1)) & np.uint8(2**bits - 1)
    return np.ascontiguousarray(samples[..., :width])


def png_filter(rows: UInt8[np.ndarray, "N K"], step: int) -> UInt8[np.ndarray, "N L"]:
    """uint8 ``[H, B]`` -> uint8 ``[H, 1 + B]``: the row's kind, then the row minus its prediction modulo 256.

    ``step`` is the distance in bytes to the pixel on the left.
    """
    height, width = rows.shape
    out = np.empty((height, 1 + width), np.uint8)
    band = max(1, _BAND // width)
    for top in range(0, height, band):
        here = rows[top : top + band]
        up = np.zeros_like(here)
        up[1:] = here[:-1]
        if top:
            up[0] = rows[top - 1]
        out[top : top + band] = _filter_band(here, up, step)
    return out


def _filter_band(here: np.ndarray, up: np.ndarray, step: int) -> np.ndarray:
    """One band of ``png_filter``; ``up`` is ``here`` one row higher."""
    left, diagonal = np.zeros_like(here), np.zeros_like(here)
    left[:, step:], diagonal[:, step:] = here[:, :-step], up[:, :-step]
    a, b, c = left.astype(np.int16), up.astype(np.int16), diagonal.astype(np.int16)
    da, db, dc = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((da <= db) & (da <= dc), left, np.where(db <= dc, up, diagonal))
    residuals = (here, here - left, here - up, here - (a + b >> 1).astype(np.uint8), here - paeth)
    costs = [np.abs(residual.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for residual in residuals]
    kinds = np.argmin(costs, axis=0)
    out = np.empty((here.shape[0], 1 + here.shape[1]), np.uint8)
    out[:, 0] = kinds
    for kind, residual in enumerate(residuals):
        out[kinds == kind, 1:] = residual[kinds == kind]
    return out


def png_unfilter(filtered: UInt8[np.ndarray, "N L"], step: int) -> UInt8[np.ndarray, "N K"]:
    """Inverse of ``png_filter``. Raises ``GmcFormatError`` for an unknown kind."""
    if (kind := filtered[:, 0].max()) > _PAETH:
        raise GmcFormatError(f"row filter {kind} is unknown")
    return native.core().undone_png(filtered, step)


def med_filter(planes: UInt[np.ndarray, "C H W"]) -> UInt[np.ndarray, "C H W"]:
    """uint8 or uint16 ``[C, H, W]`` -> residual of that type, folded: 0, -1, 1, -2, 2 .. -> 0, 1, 2, 3, 4 ..

    The prediction is ``clip(left + up - diagonal, min(left, up), max(left, up))``; the first row is predicted
    from the left, the first column from above, the first sample as 0. Arithmetic is modulo ``2**bits``.
    """
    wide = planes.astype(np.int32)
    prediction = np.zeros_like(wide)
    prediction[:, 0, 1:] = wide[:, 0, :-1]
    prediction[:, 1:, 0] = wide[:, :-1, 0]
    left, up, diagonal = wide[:, 1:, :-1], wide[:, :-1, 1:], wide[:, :-1, :-1]
    prediction[:, 1:, 1:] = np.clip(left + up - diagonal, np.minimum(left, up), np.maximum(left, up))
    bits = 8 * planes.dtype.itemsize
    residual = planes - prediction.astype(planes.dtype)
    sign = np.zeros_like(residual) - (residual >> (bits - 1))
    return (residual << 1) ^ sign


def med_unfilter(folded: UInt[np.ndarray, "H W C"]) -> UInt[np.ndarray, "H W C"]:
    """Inverse of ``med_filter``."""
    residual = (folded >> 1 ^ (np.zeros_like(folded) - (folded & 1))).astype(np.int32)
    native.core().undone_med(residual, 256**folded.dtype.itemsize - 1)
    return residual.astype(folded.dtype)
