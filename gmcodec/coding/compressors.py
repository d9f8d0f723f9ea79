# SPDX-License-Identifier: MIT
"""Byte compressors of the conventional methods, by code: 0 is raw deflate (RFC 1951), 1 to 7 raw LZMA1.

``deflate`` and ``lzma_raw`` make what ``decompress`` takes.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any

from gmcodec.errors import GmcFormatError

DEFLATE = 0
# (lc, lp, pb) of each code
LZMA = {1: (3, 0, 0), 2: (0, 0, 0), 3: (4, 0, 0), 4: (3, 0, 2), 5: (0, 1, 1), 6: (0, 2, 2), 7: (0, 4, 0)}


def deflate(stream: bytes, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return compressor.compress(stream) + compressor.flush()


def lzma_raw(stream: bytes, code: int) -> bytes:
    chain = {
        **_lzma_chain(code, len(stream)),
        "mode": lzma.MODE_NORMAL,
        "mf": lzma.MF_BT4,
        "nice_len": 273,
        "depth": 64,
    }
    return lzma.compress(stream, lzma.FORMAT_RAW, filters=[chain])


def decompress(code: int, data: memoryview, size: int) -> bytes:
    """All of ``data``, decompressed to exactly ``size`` bytes; never makes more than one byte too many.

    Raises GmcFormatError.
    """
    decompressor: Any = zlib.decompressobj(-15)
    if code != DEFLATE:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_lzma_chain(code, size)])
    try:
        stream: bytes = decompressor.decompress(data, size + 1)
    except (zlib.error, lzma.LZMAError) as error:
        raise GmcFormatError(f"compressed stream is damaged: {error}") from error
    if len(stream) != size or not decompressor.eof or decompressor.unused_data:
        raise GmcFormatError(
            f"compressed stream gives {len(stream)} bytes and not just {size}, or does not end with them"
        )
    return stream


def _lzma_chain(code: int, size: int) -> dict[str, Any]:
    """What encoder and decoder must agree on."""
    lc, lp, pb = LZMA[code]
    return {
        "id": lzma.FILTER_LZMA1,
        "dict_size": min(max(size, 1 << 12), 1 << 26),
        "lc": lc,
        "lp": lp,
        "pb": pb,
    }
