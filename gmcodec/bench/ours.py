# SPDX-License-Identifier: MIT
"""gmcodec in the benchmark: by effort, with conventional methods only, and with each model of the registry alone.

A model that is added to the registry appears here without a change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmcodec import codec
from gmcodec.bench.codecs import OURS, Codec, Compressed, EncodeDecode
from gmcodec.models import registry


def codecs() -> list[Codec]:
    """All codecs that gmcodec provides."""

    # Models that "auto" tries anyway would repeat its bytes; models of small images cannot code most sets.
    def extra(entry: registry.Entry) -> bool:
        return entry == registry.default(entry.channels) or entry.max_pixels is not None or entry.opt_in

    return [
        Codec(f"{OURS} conventional", "conventional methods only", _open("conventional"), extra=True),
        *(Codec(f"{OURS} {e.name}", f"{e.name} only", _open(e.name), extra=extra(e)) for e in registry.ENTRIES),
        Codec(f"{OURS} fast", "--effort fast", _open("auto", "fast")),
        Codec(f"{OURS} best", "--effort best", _open("auto", "best")),
        Codec(OURS, "as gmcodec.encode chooses", _open("auto"), quick=True),
    ]


def _open(code: str, effort: str = "default") -> Callable[[int], EncodeDecode]:
    def open_codec(threads: int) -> EncodeDecode:
        def encode(image: np.ndarray) -> Compressed:
            encoded = codec.encode_planes(codec.to_planes(image), code=code, effort=effort, threads=threads)
            # for conventional methods the estimate is the number of bytes itself
            estimate = None if code == "conventional" else encoded.estimated_bits
            return Compressed(encoded.data, estimate, tuple(name for name, _, _ in encoded.parts))

        return encode, lambda data: codec.decode_array(data, threads=threads, max_pixels=None)

    return open_codec
