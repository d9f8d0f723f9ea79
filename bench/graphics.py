# SPDX-License-Identifier: MIT
"""Is the cheap test right that tells a graphic from a photograph, and what does it cost?

python -m bench.graphics FOLDER...

Every image is coded as a graphic and as a photograph, both with all that the effort tries, conventional methods
included.  ``auto`` runs one of them, or both where the test is in doubt.  A *miss* is an image of which it left out the
smaller one.  The test counts pixels that equal a neighbour, and may code a few squares with a net; its time is told as
a share of that of ``auto``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from gmcodec import codec, effort
from gmcodec.errors import GmcError
from gmcodec.image import reading
from gmcodec.image.planes import Planes
from gmcodec.progress import ignore


@dataclass(frozen=True)
class Outcome:
    """Bytes of an image by kind, which kinds ``auto`` tries, its bytes, and the seconds of the test and of ``auto``."""

    sizes: dict[str, int]
    tried: tuple[str, ...]
    size: int
    test_seconds: float
    seconds: float

    @property
    def missed(self) -> bool:
        return self.size > min(self.sizes.values())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` returns, and its seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def kinds_tried(planes: Planes, level: str, first: int | None) -> tuple[str, ...]:
    """What ``auto`` tries; ``first``: bytes of the first graphic, None if the image can be none."""
    if first is None or effort.is_photograph(planes):
        return ("photograph",)
    learned, small = planes.mode in effort.LEARNED_CHANNELS, planes.height * planes.width <= effort.SMALL_PIXELS
    if learned and (small or effort._may_be_photograph(planes, level, first, ignore)):
        return "graphic", "photograph"
    return ("graphic",)


def outcome(planes: Planes, level: str) -> Outcome:
    threads = codec.available_threads()
    graphic = effort._smallest_graphic(planes, level, threads, ignore)
    sizes = {"photograph": effort._bytes(effort._smallest_photograph(planes, level, threads, ignore))}
    if graphic:
        sizes["graphic"] = effort._bytes(graphic[0])
    tried, test_seconds = timed(partial(kinds_tried, planes, level, graphic and graphic[1]))
    found, seconds = timed(partial(effort.smallest, planes, "auto", level, threads, ignore))
    if effort._bytes(found) != min(sizes[kind] for kind in tried):
        raise click.ClickException(f"auto made {effort._bytes(found)} bytes and tried {tried}, which take {sizes}")
    return Outcome(sizes, tried, effort._bytes(found), test_seconds, seconds)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--effort", "level", type=click.Choice(effort.EFFORTS), default="default", show_default=True)
def main(folders: tuple[Path, ...], level: str) -> None:
    """Print the images of FOLDERS on which the test is wrong, and what it costs."""
    for folder in folders:
        found = []
        for path in sorted(folder.iterdir()):
            try:
                planes = reading.read(path, strip=True)
            except GmcError:
                continue  # no image, or a damaged one
            if planes.mode not in effort.COLOUR_AND_BLACK_MODES:
                found.append(outcome(planes, level))
                if found[-1].missed:
                    click.echo(f"  {path.name}: {found[-1].sizes}, tried {' and '.join(found[-1].tried)}")
        tried = Counter(" and ".join(each.tried) for each in found)
        share = sum(each.test_seconds for each in found) / sum(each.seconds for each in found)
        click.echo(
            f"{folder.name}: {len(found)} images ({', '.join(f'{n} {kind}' for kind, n in tried.items())});"
            f" {sum(each.missed for each in found)} misses; {sum(each.size for each in found)} bytes in place of"
            f" {sum(min(each.sizes.values()) for each in found)}; the test took {share:.1%} of the time"
        )


if __name__ == "__main__":
    main()
