# SPDX-License-Identifier: MIT
"""What a codec is to the benchmark: a name, its settings in words, and a pair of functions made when needed.

``CATALOGUE`` of competitors is in competitors.py; gmcodec's own forms come from its registry (ours.py).
A codec that cannot be opened here is reported as missing, with the reason; it is never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from gmcodec.errors import BenchError


@dataclass(frozen=True)
class Coded:
    """Bytes of an image or a set; what gmcodec knows about them besides: the model's estimate, the forms it chose."""

    data: bytes
    estimated_bits: float | None = None
    forms: tuple[str, ...] = ()


Pair = tuple[Callable[[np.ndarray], Coded], Callable[[bytes], np.ndarray]]  # encode, decode


@dataclass(frozen=True)
class Codec:
    """``open(threads)`` imports the codec's package and returns its pair; ImportError where there is none.

    quick: fast enough for --quick.  extra: measured only when asked for by name, because it is very slow or
    gives the same bytes as another.
    """

    name: str
    settings: str
    open: Callable[[int], Pair]
    quick: bool = False
    extra: bool = False


def catalogue() -> list[Codec]:
    """Every codec, competitors first."""
    from gmcodec.bench import competitors, ours

    return [*competitors.CATALOGUE, *ours.forms()]


def choose(wanted: Sequence[str], quick: bool, archives: Sequence[str] = ()) -> list[Codec]:
    """Codecs that ``wanted`` names; without patterns the default ones.

    Raises BenchError for a pattern that matches neither a codec nor one of ``archives``.
    """
    known = catalogue()
    if not wanted:
        return [c for c in known if (c.quick if quick else not c.extra)]
    names = [*(c.name for c in known), *archives]
    for pattern in wanted:
        if not any(is_named(name, [pattern]) for name in names):
            raise BenchError(f"no codec is called {pattern!r}; there are {', '.join(names)}")
    return [c for c in known if is_named(c.name, wanted)]


def is_named(name: str, wanted: Sequence[str]) -> bool:
    """Whether a pattern matches, letter case aside; "all" matches everything."""
    return any(fnmatchcase(name.lower(), "*" if pattern == "all" else pattern.lower()) for pattern in wanted)


def by_name(name: str) -> Codec:
    """The codec of exactly this name; a competitor without importing gmcodec's models, whose memory is not its own."""
    from gmcodec.bench import competitors

    for codec in competitors.CATALOGUE:
        if codec.name == name:
            return codec
    from gmcodec.bench import ours

    return next(c for c in ours.forms() if c.name == name)


def same_pixels(image: np.ndarray, back: np.ndarray) -> bool:
    """Equal, up to channels that a format cannot leave out or name: grey may come as three equal channels (WebP, QOI),
    three equal channels as grey and opaque alpha not at all (an optimised PNG)."""
    if image.shape == back.shape:
        return image.dtype == back.dtype and np.array_equal(image, back)
    if image.dtype != back.dtype or image.shape[:2] != back.shape[:2]:
        return False
    return all(np.array_equal(*pair) for pair in zip(_colour_and_alpha(image), _colour_and_alpha(back), strict=True))


def _colour_and_alpha(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 3] and [H, W]."""
    image = image[..., None] if image.ndim == 2 else image
    colours = image[..., : 1 if image.shape[2] < 3 else 3]
    opaque = np.full(image.shape[:2], np.iinfo(image.dtype).max, image.dtype)
    alpha = image[..., -1] if image.shape[2] in (2, 4) else opaque
    return np.broadcast_to(colours, (*image.shape[:2], 3)), alpha
