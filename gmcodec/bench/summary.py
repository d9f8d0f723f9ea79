# SPDX-License-Identifier: MIT
"""The figures of each codec on a set, from its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from gmcodec.bench.archive import WHOLE_SET
from gmcodec.bench.codecs import OURS
from gmcodec.bench.measure import DIFFERS, OK, Row
from gmcodec.bench.run import SetResult


@dataclass(frozen=True)
class Spread:
    """First quartile, median and third quartile."""

    low: float
    middle: float
    high: float


@dataclass
class Figures:
    """The figures of one codec on one set.  ``bytes`` is None if no image counts; ``problems`` then says why."""

    codec: str
    archive: bool  # whether it codes the whole set into one archive
    measured: int = 0  # images that it coded without loss
    images: int = 0
    bytes: int | None = None
    bpsp: float | None = None  # bits per sample of the measured images
    ours_against: float | None = None  # gmcodec's bytes / this codec's - 1, on the images that both coded
    encode: Spread | None = None  # of the images' speeds, megapixels per second
    decode: Spread | None = None
    peak_memory: int | None = None  # bytes
    estimated_bpsp: float | None = None  # bits per sample by the estimate of gmcodec's model
    forms: dict[str, int] = field(default_factory=dict)  # gmcodec's methods, and how many images used each
    lossless: bool = True
    problems: list[tuple[str, str]] = field(default_factory=list)  # (image, error)


def summarise(result: SetResult) -> list[Figures]:
    """The figures of every codec, in the order of its rows; archives last."""
    by_codec: dict[str, list[Row]] = {}
    for row in result.rows:
        by_codec.setdefault(row.codec, []).append(row)
    ours = {row.image: row for row in by_codec.get(OURS, []) if row.status == OK}
    return [_figures(codec, rows, ours, result) for codec, rows in by_codec.items()]


def _figures(codec: str, rows: list[Row], ours: dict[str, Row], result: SetResult) -> Figures:
    figures = Figures(codec, archive=rows[0].image == WHOLE_SET, images=len(rows))
    figures.problems = [(row.image, row.error) for row in rows if row.status != OK]
    figures.lossless = all(row.status != DIFFERS for row in rows)
    good = [row for row in rows if row.status == OK]
    figures.measured = len(good)
    if not good or not figures.lossless:  # a codec that changed one image has no valid sizes at all
        return figures
    samples = sum(row.samples for row in good)
    figures.bytes = sum(row.bytes or 0 for row in good)
    figures.bpsp = 8 * figures.bytes / samples
    figures.encode = _speed([(row, row.encode_s) for row in good])
    figures.decode = _speed([(row, row.decode_s) for row in good])
    figures.peak_memory = result.memory.get(codec)
    if all(row.estimated_bits is not None for row in good):
        figures.estimated_bpsp = sum(row.estimated_bits or 0 for row in good) / samples
    figures.forms = dict(Counter("+".join(row.forms) for row in good if row.forms).most_common())
    common = [row for row in good if row.image in ours]
    if common and codec != OURS and not figures.archive:
        theirs = sum(row.bytes or 0 for row in common)
        figures.ours_against = sum(ours[row.image].bytes or 0 for row in common) / theirs - 1
    return figures


def _speed(timed: list[tuple[Row, list[float]]]) -> Spread:
    speeds = [row.pixels / 1e6 / max(median(seconds), 1e-9) for row, seconds in timed]
    return Spread(*(float(value) for value in np.percentile(speeds, (25, 50, 75))))


def strongest(figures: list[Figures], prefix: str) -> Figures | None:
    """The codec with the fewest bytes whose name starts with ``prefix`` and that coded all images."""
    whole = [f for f in figures if f.codec.startswith(prefix) and f.bytes and f.measured == f.images]
    return min(whole, key=lambda f: f.bytes or 0, default=None)
