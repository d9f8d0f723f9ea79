# SPDX-License-Identifier: MIT
"""gmcodec's own forms as codecs: what a user gets by effort, the conventional forms, and each model of the registry.

A model that is added to the registry appears here by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmcodec import codec
from gmcodec.bench.codecs import Codec, Coded, Pair
from gmcodec.models import registry

AUTO = "gmcodec"


def forms() -> list[Codec]:
    """gmcodec as it chooses by itself, its conventional forms, and its models one by one."""

    # models that "auto" tries anyway would only repeat its bytes; those for small images do not code most sets
    def extra(entry: registry.Entry) -> bool:
        return entry == registry.default(entry.channels) or entry.max_pixels is not None or entry.opt_in

    return [
        Codec(f"{AUTO} conventional", "conventional forms only", _form("conventional"), extra=True),
        *(Codec(f"{AUTO} {e.name}", f"{e.name} only", _form(e.name), extra=extra(e)) for e in registry.ENTRIES),
        Codec(f"{AUTO} fast", "--effort fast", _form("auto", "fast")),
        Codec(f"{AUTO} best", "--effort best", _form("auto", "best")),
        Codec(AUTO, "as gmcodec.encode chooses", _form("auto"), quick=True),
    ]


def _form(code: str, effort: str = "default") -> Callable[[int], Pair]:
    def open_pair(threads: int) -> Pair:
        def encode(image: np.ndarray) -> Coded:
            made = codec.encode_planes(codec.to_planes(image), code=code, effort=effort, threads=threads)
            # of conventional forms there is no estimate but their bytes
            estimate = None if code == "conventional" else made.estimated_bits
            return Coded(made.data, estimate, tuple(name for name, _, _ in made.parts))

        return encode, lambda data: codec.decode_array(data, threads=threads, max_pixels=None)

    return open_pair
