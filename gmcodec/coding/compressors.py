# SPDX-License-Identifier: MIT
"""Byte compressors of the conventional methods, by number: 0 is raw deflate (RFC 1951), 1 to 7 are raw LZMA1.

``deflate`` and ``lzma_raw`` compress, ``decompress`` is the inverse of both.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any

from gmcodec.errors import GmcFormatError

DEFLATE = 0
# (lc, lp, pb) by number
LZMA = {1: (3, 0, 0), 2: (0, 0, 0), 3: (4, 0, 0), 4: (3, 0, 2), 5: (0, 1, 1), 6: (0, 2, 2), 7: (0, 4, 0)}


def deflate(stream: bytes, level: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(stream) + packer.flush()


def lzma_raw(stream: bytes, compressor: int) -> bytes:
    chain = {
        **_lzma_chain(compressor, len(stream)),
        "mode": lzma.MODE_NORMAL,
        "mf": lzma.MF_BT4,
        "nice_len": 273,
        "depth": 64,
    }
    return lzma.compress(stream, lzma.FORMAT_RAW, filters=[chain])


def decompress(compressor: int, data: memoryview, size: int) -> bytes:
    """Decompress all of ``data`` to exactly ``size`` bytes; never allocates more than one byte beyond that.

    Raises GmcFormatError.
    """
    decompressor: Any = zlib.decompressobj(-15)
    if compressor != DEFLATE:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_lzma_chain(compressor, size)])
    try:
        stream: bytes = decompressor.decompress(data, size + 1)
    except (zlib.error, lzma.LZMAError) as error:
        raise GmcFormatError(f"compressed stream is damaged: {error}") from error
    if len(stream) != size or not decompressor.eof or decompressor.unused_data:
        raise GmcFormatError(
            f"compressed stream gives {len(stream)} bytes and not just {size}, or does not end with them"
        )
    return stream


def _lzma_chain(compressor: int, size: int) -> dict[str, Any]:
    """The LZMA settings that encoder and decoder must share."""
    lc, lp, pb = LZMA[compressor]
    return {
        "id": lzma.FILTER_LZMA1,
        "dict_size": min(max(size, 1 << 12), 1 << 26),
        "lc": lc,
        "lp": lp,
        "pb": pb,
    }
