# SPDX-License-Identifier: MIT
"""Tables of an image's colours, and the image as indices into them.

A table has at most 256 entries of one sample (shared by all channels) or of a colour.  The form that ``encode_table``
writes is part of the format: see PALETTE in coding/conventional.py.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from gmcodec.coding.compressors import deflate
from gmcodec.errors import GmcFormatError, TruncatedFileError

SHARED, DEFLATED_TABLE = 1, 2  # bits of a table's first byte


def find(planes: np.ndarray, depth: int) -> tuple[bytes, np.ndarray, int] | None:
    """The table in its form, indices, and their depth; None if that is no smaller than samples."""
    channels = planes.shape[0]
    for shared in [False] if channels == 1 or depth <= 8 else [False, True]:
        found = index(planes, depth, shared)
        if found is not None:
            table, indices = found
            bits = index_bits(table.shape[1])
            # one plane of small samples can be packed without a table
            before = max(1, int(planes.max()).bit_length()) if channels == 1 else depth
            if bits * indices.shape[0] >= before * channels:
                return None
            return encode_table(table, shared), indices, bits
    return None


def index(planes: np.ndarray, depth: int, shared: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """(table ``[C or 1, n]`` sorted, indices uint8 ``[1 or C, H, W]``), or None above 256 entries."""
    if shared or planes.shape[0] == 1:
        keys = planes
    else:
        keys = np.zeros((1, *planes.shape[1:]), np.uint64 if depth == 16 else np.uint32)
        for plane in planes:
            keys[0] = keys[0] << (depth if depth == 16 else 8) | plane
    sample = keys.reshape(-1)[:: max(1, keys.size // 4096)]
    if len(np.unique(sample)) > 256:  # before all keys are sorted
        return None
    flat = keys.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))  # of runs: far fewer than pixels
    values, inverse = np.unique(flat[starts], return_inverse=True)
    if len(values) > 256:
        return None
    indices = np.repeat(inverse.astype(np.uint8), np.diff(starts, append=flat.size))
    width = 16 if depth == 16 else 8
    channels = 1 if keys is planes else planes.shape[0]
    shifts = [width * (channels - 1 - channel) for channel in range(channels)]
    table = np.stack([(values >> shift & 2**width - 1).astype(planes.dtype) for shift in shifts])
    return table, indices.reshape(keys.shape)


def index_bits(entries: int) -> int:
    """The least depth, 1, 2, 4 or 8, of indices into so many entries."""
    return next(bits for bits in (1, 2, 4, 8) if entries <= 2**bits)


def encode_table(table: np.ndarray, shared: bool) -> bytes:
    """The form of a table ``[C or 1, n]`` in files."""
    steps = np.diff(table, axis=1, prepend=table.dtype.type(0))
    raw = steps.astype(table.dtype.newbyteorder("<")).tobytes()
    packed = deflate(raw, 9)
    deflated = len(packed) < len(raw)
    kind = SHARED * shared | DEFLATED_TABLE * deflated
    return bytes([kind, table.shape[1] - 1]) + (packed if deflated else raw)


def decode_table(payload: bytes, shape: tuple[int, int], depth: int) -> tuple[np.ndarray, bytes]:
    """Inverse of ``encode_table``: (table of ``shape``, what follows it)."""
    stored = np.dtype("<u2" if depth == 16 else np.uint8)
    size = math.prod(shape) * stored.itemsize
    raw, rest = payload[2 : 2 + size], payload[2 + size :]
    if payload[0] & DEFLATED_TABLE:
        decompressor = zlib.decompressobj(-15)
        try:
            raw = decompressor.decompress(memoryview(payload)[2:], size + 1)
        except zlib.error as error:
            raise GmcFormatError(f"palette table is damaged: {error}") from error
        rest = decompressor.unused_data
        if not decompressor.eof:
            raise TruncatedFileError("palette table does not end")
    if len(raw) != size:
        raise GmcFormatError(f"palette table has {len(raw)} bytes, {size} are needed")
    steps = np.frombuffer(raw, stored).reshape(shape)
    return np.cumsum(steps, axis=1, dtype=np.uint16 if depth == 16 else np.uint8), rest
