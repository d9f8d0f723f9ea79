# SPDX-License-Identifier: MIT
"""Sets of images: a folder or one file, unchanged, in grey, or cut into tiles.

    mosaic 96x64, --tiles 32 -->  +----+----+----+
                                  | 0  | 1  | 2  |    in reading order; a remainder at the right or bottom is dropped
                                  +----+----+----+
                                  | 3  | 4  | 5  |    names: mosaic.png[3]
                                  +----+----+----+

Palette and 1-bit images are converted to colours or grey levels, so that all codecs get the same array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from gmcodec.errors import BenchError, GmcError
from gmcodec.image import reading

MEASURED_SUFFIXES = frozenset(".png .webp .tif .tiff .bmp .ppm .pgm .pnm .tga .jpg .jpeg .jp2 .avif".split())
LOSSY_SUFFIXES = frozenset((".jpg", ".jpeg"))


@dataclass
class ImageSet:
    """The images of one path.  While they are read, ``skipped`` collects files that cannot be: (name, reason)."""

    name: str
    files: list[Path]
    grey: bool = False
    tiles: int | None = None
    limit: int | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def lossy_sources(self) -> int:
        """Number of files that a lossy codec wrote."""
        return sum(path.suffix.lower() in LOSSY_SUFFIXES for path in self.files)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and array of each image; files are read one at a time."""
        self.skipped.clear()
        return islice(self._all(), self.limit)

    def _all(self) -> Iterator[tuple[str, np.ndarray]]:
        for path in self.files:
            try:
                image = load(path, self.grey)
            except (GmcError, OSError) as error:
                self.skipped.append((path.name, str(error)))
                continue
            if self.tiles:
                yield from cut(path.name, image, self.tiles)
            else:
                yield path.name, image


def open_sets(paths: list[Path], grey: bool, tiles: int | None, limit: int | None) -> list[ImageSet]:
    """A set for each path.  Raises BenchError if a folder holds no image file."""
    sets: list[ImageSet] = []
    for path in paths:
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix.lower() in MEASURED_SUFFIXES)
        if not files:
            raise BenchError(f"{path} holds no image files")
        path = path.resolve()
        name = path.name if all(s.name != path.name for s in sets) else f"{path.parent.name}/{path.name}"
        sets.append(ImageSet(name + (" in grey" if grey else ""), files, grey, tiles, limit))
    return sets


def load(path: Path, grey: bool) -> np.ndarray:
    """Pixels of a file, uint8 or uint16, [H, W] or [H, W, C]."""
    planes = reading.read(path, strip=True)
    if grey:
        planes = reading.from_image(reading.to_image(planes).convert("L"), strip=True)
    elif planes.mode in ("1", "P"):
        image = reading.to_image(planes)
        shown = "L" if planes.mode == "1" else "RGBA" if "transparency" in image.info else "RGB"
        planes = reading.from_image(image.convert(shown), strip=True)
    return reading.to_array(planes)


def cut(name: str, image: np.ndarray, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and pixels of each square of ``side`` pixels, in reading order."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    for number in range(rows * columns):
        y, x = number // columns * side, number % columns * side
        yield f"{name}[{number}]", np.ascontiguousarray(image[y : y + side, x : x + side])
