# SPDX-License-Identifier: MIT
"""A whole run: every image of every set with every codec, in turn, so that a slow hour of the machine meets all alike.

image 0:  A B C      image 1:  B C A      image 2:  C A B     order rotated; with --repeat, each line again
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gmcodec import costs
from gmcodec.bench import machine, memory
from gmcodec.bench.archive import ARCHIVES, WHOLE_SET, ArchiveCodec, measure_set
from gmcodec.bench.codecs import Codec, Pair, catalogue, choose, is_named
from gmcodec.bench.images import ImageSet, open_sets
from gmcodec.bench.measure import Row, measure
from gmcodec.bench.ours import AUTO
from gmcodec.bench.records import Records
from gmcodec.errors import BenchError

QUICK_IMAGES = 3
MAPS, MAP_SIDE = 3, 320  # images of a set of which a report shows what their pixels cost, and pixels of such a picture
WARM_UP = (64, 64)  # rows and columns of the first image that each codec codes before anything is timed

Progress = Callable[[str], None]  # told the set and the image before each


@dataclass(frozen=True)
class Settings:
    """What to measure and how."""

    paths: tuple[Path, ...]
    codecs: tuple[str, ...] = ()  # patterns; none means the default ones
    grey: bool = False
    tiles: int | None = None
    limit: int | None = None
    repeat: int = 1
    threads: int = 1
    quick: bool = False
    memory: bool = True

    @property
    def images(self) -> int | None:
        """How many images of each set; None for all."""
        return min(self.limit or QUICK_IMAGES, QUICK_IMAGES) if self.quick else self.limit


@dataclass(frozen=True)
class CostPicture:
    """What the pixels of an image cost in gmcodec's default code: a PNG, and its scale in words."""

    image: str
    png: bytes
    scale: str


@dataclass
class SetResult:
    """The rows of one set, in order of images and then codecs; peak memory by codec on its largest image."""

    name: str
    rows: list[Row] = field(default_factory=list)
    images: int = 0
    lossy_sources: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    memory: dict[str, int | None] = field(default_factory=dict)
    largest: tuple[int, ...] = ()
    maps: list[CostPicture] = field(default_factory=list)  # of the first images; not in results.json


@dataclass
class Results:
    """Everything a report says."""

    conditions: dict[str, Any]
    settings: dict[str, Any]
    codecs: dict[str, str]  # measured codecs and their settings in words
    missing: dict[str, str]  # chosen, but not to be opened here: why
    left_out: list[str]  # known, but not chosen
    sets: list[SetResult]


def run(
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress = lambda text: None,
) -> Results:
    """Measure, keeping each row in ``folder``/rows.jsonl at once.  Raises BenchError, OutputExistsError."""
    chosen = choose(settings.codecs, settings.quick, [a.name for a in ARCHIVES])
    # large images are alone in an archive too: by default, archives are for sets of small ones
    archives = [a for a in ARCHIVES if (is_named(a.name, settings.codecs) if settings.codecs else settings.tiles)]
    ready, missing = _open(chosen, settings.threads)
    sets = open_sets(list(settings.paths), settings.grey, settings.tiles, settings.images)
    folder.mkdir(parents=True, exist_ok=True)
    conditions = machine.conditions() | {"threads": settings.threads, "repeat": settings.repeat}
    records = Records(folder / "rows.jsonl", conditions, resume=resume, force=force)
    results = [_run_set(image_set, ready, archives, records, settings, progress) for image_set in sets]
    if not any(result.images for result in results):
        raise BenchError(f"no image could be read: {results[0].skipped[0][1] if results[0].skipped else 'none found'}")
    described = {c.name: c.settings for c in chosen if c.name in ready}
    names = {c.name for c in chosen}
    return Results(
        conditions,
        asdict(settings) | {"paths": [p.resolve().name for p in settings.paths]},  # reports are published: no places
        described | {a.name: a.settings for a in archives},
        missing,
        [c.name for c in catalogue() if c.name not in names],
        results,
    )


def _open(chosen: list[Codec], threads: int) -> tuple[dict[str, Pair], dict[str, str]]:
    """Pairs of the codecs that are there, reasons for the others."""
    ready, missing = {}, {}
    for codec in chosen:
        try:
            ready[codec.name] = codec.open(threads)
        except (ImportError, OSError, AttributeError) as error:  # not installed, not loadable, too old
            missing[codec.name] = str(error)
    return ready, missing


def _run_set(
    image_set: ImageSet,
    ready: dict[str, Pair],
    archives: list[ArchiveCodec],
    records: Records,
    settings: Settings,
    progress: Progress,
) -> SetResult:
    result = SetResult(image_set.name, lossy_sources=image_set.lossy_sources)
    largest: np.ndarray | None = None
    for number, (name, image) in enumerate(image_set):
        progress(f"{image_set.name}: {name}")
        if number == 0:
            _warm_up(image[: WARM_UP[0], : WARM_UP[1]], ready)
        crc, pixels = zlib.crc32(image.tobytes()), image.shape[0] * image.shape[1]
        rows = [Row(image_set.name, name, crc, pixels, image.size, codec) for codec in ready]
        result.rows += _run_image(rows, number, image, ready, records, settings.repeat)
        result.images += 1
        if number < MAPS and AUTO in ready:
            result.maps += _cost_picture(name, image, ready[AUTO], settings.threads)
        largest = image if largest is None or image.size > largest.size else largest
    result.skipped = list(image_set.skipped)
    if archives and result.images:
        progress(f"{image_set.name}: archives")
        result.rows += _run_archives(image_set, archives, records, settings.threads)
    if settings.memory and largest is not None:
        progress(f"{image_set.name}: memory")
        result.largest = largest.shape
        for codec in (memory.BASELINE, *ready):
            result.memory[codec] = memory.of_codec(codec, largest, settings.threads)
    return result


def _warm_up(image: np.ndarray, ready: dict[str, Pair]) -> None:
    """Compile, load and fill caches before anything is timed."""
    for encode, decode in ready.values():
        with suppress(Exception):  # what a codec cannot do shows in its rows
            decode(encode(np.ascontiguousarray(image)).data)


def _cost_picture(name: str, image: np.ndarray, ours: Pair, threads: int) -> list[CostPicture]:
    """The picture of an image that gmcodec codes; none of another."""
    with suppress(Exception):  # shows in the rows
        data = ours[0](image).data
        drawn = costs.picture(costs.cost_map(data, threads=threads, max_pixels=None), MAP_SIDE)
        return [CostPicture(name, drawn.png(), "; ".join([drawn.scale, *costs.spread_evenly(data)]))]
    return []


def _run_image(
    rows: list[Row], number: int, image: np.ndarray, ready: dict[str, Pair], records: Records, repeat: int
) -> list[Row]:
    """Fill the rows of an image, one of each codec; those that are kept already stay as they are."""
    due = [row for row in rows if records.get(row) is None]
    for repetition in range(repeat):
        first = (number + repetition) % max(len(due), 1)
        for row in due[first:] + due[:first]:
            measure(row, image, ready[row.codec])
            if repetition == repeat - 1:
                records.append(row)
    return [records.get(row) or row for row in rows]


def _run_archives(image_set: ImageSet, archives: list[ArchiveCodec], records: Records, threads: int) -> list[Row]:
    """A row for each archive codec."""
    images = [image for _, image in image_set]
    crc, made = 0, []
    for image in images:
        crc = zlib.crc32(image.tobytes(), crc)
    pixels, samples = sum(i.shape[0] * i.shape[1] for i in images), sum(i.size for i in images)
    for codec in archives:
        row = Row(image_set.name, WHOLE_SET, crc, pixels, samples, codec.name)
        if records.get(row) is None:
            measure_set(row, images, codec, threads)
            records.append(row)
        made.append(records.get(row) or row)
    return made
