# SPDX-License-Identifier: MIT
"""A whole run: every image of every set with every codec.

Codecs take turns, and the order rotates, so that changes of the machine's speed affect all of them alike:

    image 0:  A B C      image 1:  B C A      image 2:  C A B      with --repeat each of these again, rotated
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
from gmcodec.bench.catalogue import all_codecs, choose, matches
from gmcodec.bench.codecs import OURS, Codec, EncodeDecode
from gmcodec.bench.images import ImageSet, open_sets
from gmcodec.bench.measure import Row, measure
from gmcodec.bench.records import Records
from gmcodec.errors import BenchError

QUICK_IMAGES = 3
MAPS, MAP_SIDE = 3, 320  # images of a set of which a report shows what their pixels cost, and pixels of such a picture
WARM_UP_SHAPE = (64, 64)  # rows and columns of the first image that each codec codes before anything is timed

Announce = Callable[[str], None]  # called before each image with the names of set and image


@dataclass(frozen=True)
class Settings:
    """What to measure and how."""

    paths: tuple[Path, ...]
    codecs: tuple[str, ...] = ()  # patterns of names; without any the default codecs
    grey: bool = False
    tiles: int | None = None
    limit: int | None = None
    repeat: int = 1
    threads: int = 1
    quick: bool = False
    memory: bool = True

    @property
    def images(self) -> int | None:
        """The number of images of each set; None for all."""
        return min(self.limit or QUICK_IMAGES, QUICK_IMAGES) if self.quick else self.limit


@dataclass(frozen=True)
class CostPicture:
    """What the pixels of an image cost in gmcodec's default code: a PNG, and its scale in words."""

    image: str
    png: bytes
    scale: str


@dataclass
class SetResult:
    """The rows of one set, ordered by image and then by codec, and each codec's peak memory on its largest image."""

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
    """Everything that a report contains."""

    conditions: dict[str, Any]
    settings: dict[str, Any]
    codecs: dict[str, str]  # measured codecs, with their settings in words
    missing: dict[str, str]  # codecs that were chosen but cannot be opened here, with the reason
    not_chosen: list[str]
    sets: list[SetResult]


def run(
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    force: bool = False,
    announce: Announce = lambda text: None,
) -> Results:
    """Measure everything that ``settings`` asks for, and append each row to ``folder``/rows.jsonl at once.

    Raises BenchError, OutputExistsError.
    """
    chosen = choose(settings.codecs, settings.quick, [a.name for a in ARCHIVES])
    # an archive codes only small images together, so by default archives are measured on tiles only
    archives = [a for a in ARCHIVES if (matches(a.name, settings.codecs) if settings.codecs else settings.tiles)]
    ready, missing = _open(chosen, settings.threads)
    sets = open_sets(list(settings.paths), settings.grey, settings.tiles, settings.images)
    folder.mkdir(parents=True, exist_ok=True)
    conditions = machine.conditions() | {"threads": settings.threads, "repeat": settings.repeat}
    records = Records(folder / "rows.jsonl", conditions, resume=resume, force=force)
    results = [_run_set(image_set, ready, archives, records, settings, announce) for image_set in sets]
    if not any(result.images for result in results):
        raise BenchError(f"no image could be read: {results[0].skipped[0][1] if results[0].skipped else 'none found'}")
    described = {c.name: c.settings for c in chosen if c.name in ready}
    names = {c.name for c in chosen}
    return Results(
        conditions,
        asdict(settings) | {"paths": [p.resolve().name for p in settings.paths]},  # reports are published: names only
        described | {a.name: a.settings for a in archives},
        missing,
        [c.name for c in all_codecs() if c.name not in names],
        results,
    )


def _open(chosen: list[Codec], threads: int) -> tuple[dict[str, EncodeDecode], dict[str, str]]:
    """The functions of the codecs that can be opened, and for the others the reason why not."""
    ready, missing = {}, {}
    for codec in chosen:
        try:
            ready[codec.name] = codec.open(threads)
        except (ImportError, OSError, AttributeError) as error:  # not installed, not loadable, too old
            missing[codec.name] = str(error)
    return ready, missing


def _run_set(
    image_set: ImageSet,
    ready: dict[str, EncodeDecode],
    archives: list[ArchiveCodec],
    records: Records,
    settings: Settings,
    announce: Announce,
) -> SetResult:
    result = SetResult(image_set.name, lossy_sources=image_set.lossy_sources)
    largest: np.ndarray | None = None
    for number, (name, image) in enumerate(image_set):
        announce(f"{image_set.name}: {name}")
        if number == 0:
            _warm_up(image[: WARM_UP_SHAPE[0], : WARM_UP_SHAPE[1]], ready)
        crc, pixels = zlib.crc32(image.tobytes()), image.shape[0] * image.shape[1]
        rows = [Row(image_set.name, name, crc, pixels, image.size, codec) for codec in ready]
        result.rows += _run_image(rows, number, image, ready, records, settings.repeat)
        result.images += 1
        if number < MAPS and OURS in ready:
            result.maps += _cost_picture(name, image, ready[OURS], settings.threads)
        largest = image if largest is None or image.size > largest.size else largest
    result.skipped = list(image_set.skipped)
    if archives and result.images:
        announce(f"{image_set.name}: archives")
        result.rows += _run_archives(image_set, archives, records, settings.threads)
    if settings.memory and largest is not None:
        announce(f"{image_set.name}: memory")
        result.largest = largest.shape
        for codec in (memory.BASELINE, *ready):
            result.memory[codec] = memory.of_codec(codec, largest, settings.threads)
    return result


def _warm_up(image: np.ndarray, ready: dict[str, EncodeDecode]) -> None:
    """Let every codec load, compile and fill its caches before times are measured."""
    for encode, decode in ready.values():
        with suppress(Exception):  # a codec that fails will fail again in its row
            decode(encode(np.ascontiguousarray(image)).data)


def _cost_picture(name: str, image: np.ndarray, ours: EncodeDecode, threads: int) -> list[CostPicture]:
    """The picture of an image that gmcodec codes; none of another."""
    with suppress(Exception):  # shows in the rows
        data = ours[0](image).data
        drawn = costs.picture(costs.cost_map(data, threads=threads, max_pixels=None), MAP_SIDE)
        return [CostPicture(name, drawn.png(), "; ".join([drawn.scale, *costs.spread_evenly(data)]))]
    return []


def _run_image(
    rows: list[Row], number: int, image: np.ndarray, ready: dict[str, EncodeDecode], records: Records, repeat: int
) -> list[Row]:
    """Measure an image with every codec that ``records`` has no row of, and return the rows of all codecs."""
    missing = [row for row in rows if records.get(row) is None]
    for repetition in range(repeat):
        first = (number + repetition) % max(len(missing), 1)
        for row in missing[first:] + missing[:first]:
            measure(row, image, ready[row.codec])
            if repetition == repeat - 1:
                records.append(row)
    return [records.get(row) or row for row in rows]


def _run_archives(image_set: ImageSet, archives: list[ArchiveCodec], records: Records, threads: int) -> list[Row]:
    """The rows of the archive codecs, measured if ``records`` does not have them."""
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
