# SPDX-License-Identifier: MIT
"""All codecs of the benchmark, and the choice among them by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gmcodec.bench.codecs import Codec
from gmcodec.bench.competitors import COMPETITORS
from gmcodec.errors import BenchError


def all_codecs() -> list[Codec]:
    """Every codec, competitors first."""
    from gmcodec.bench import ours

    return [*COMPETITORS, *ours.codecs()]


def choose(patterns: Sequence[str], quick: bool, archives: Sequence[str] = ()) -> list[Codec]:
    """The codecs that match one of ``patterns``; without patterns the default ones.

    Raises BenchError for a pattern that matches neither a codec nor one of ``archives``.
    """
    known = all_codecs()
    if not patterns:
        return [c for c in known if (c.quick if quick else not c.extra)]
    names = [*(c.name for c in known), *archives]
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in names):
            raise BenchError(f"no codec is called {pattern!r}; there are {', '.join(names)}")
    return [c for c in known if matches(c.name, patterns)]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of the patterns; letter case does not matter, and "all" matches everything."""
    return any(fnmatchcase(name.lower(), "*" if pattern == "all" else pattern.lower()) for pattern in patterns)


def by_name(name: str) -> Codec:
    """The codec of exactly this name.

    For a competitor gmcodec's models are not imported, because their memory would be counted as the competitor's.
    """
    for codec in COMPETITORS:
        if codec.name == name:
            return codec
    from gmcodec.bench import ours

    return next(c for c in ours.codecs() if c.name == name)
